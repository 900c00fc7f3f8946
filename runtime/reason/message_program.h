/* A program of the user's that makes a dialect's messages: what children are given, and what their
 * parent goes on with. It is asked with one line of JSON and answers with one:
 *
 *   {"event": "fork", "turn": 0, "attempt": 0, "prompt": "..", "text": "..", "said": "..",
 *    "end": "own"}
 *   {"event": "path", .. the same .., "path": {"number": 1, "attempt": 0, "end": "own",
 *    "text": ".."}}
 *   {"event": "join", .. the same .., "children": [{"end": "own", "text": ".."}, ..]}
 *
 * `prompt` is the problem's, `text` what the parent was given behind it, `said` what it said behind
 * that; `turn` counts the texts that it was given, `attempt` how often this turn, or path, was
 * taken back. An `end` is own (end of text), stop (a stop text, which is not in the text), length
 * or cancelled; the parent's stands in a fork alone. The answer is one of
 *
 *   {"children": [{"prompt": ".."}, ..], "keep": ".."}   fork: these children. keep: a beginning of
 *                                                        the text that stays whatever they say
 *   {"text": ".."}             fork, join: the parent goes on behind this text; path: so it ended
 *   {"text": "..", "end": true}   fork, join: the run ends with this text, or with what there is
 *   {"again": true}            fork, path: it is taken back, and sampled once more
 *   {"refuse": ".."}           fork, join: the dialect's "refused", with a reason for readers
 *   {}                         path: it stays as it is
 *   {"count": ".."}            the next line in is {"event": "count", "tokens": n}
 *
 * Questions hold all that an answer hangs on. A program must keep nothing: a branch that begins
 * anew asks again what it asked before, and must hear the same.
 *
 * A program that ended, hangs, or answers anything else is a named error. on_failure says what
 * becomes of it: the run ends with that error, or everything is refused from then on.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

enum { COP_PROGRAM_TIMEOUT_MS = 10000 }; /* where the user names none */

typedef enum cop_program_failure { COP_PROGRAM_ENDS_RUN, COP_PROGRAM_GOES_ON } cop_program_failure;

typedef struct cop_message_program_options {
    const char *command; /* for /bin/sh -c */
    uint32_t timeout_ms; /* of one answer */
    cop_program_failure on_failure;
} cop_message_program_options;

typedef enum cop_message_event {
    COP_MESSAGE_FORK,
    COP_MESSAGE_PATH,
    COP_MESSAGE_JOIN,
} cop_message_event;

typedef struct cop_message_text { /* any bytes; what is not UTF-8 is replaced */
    const char *data;
    size_t bytes;
} cop_message_text;

typedef struct cop_message_child {
    cop_message_text text;
    const char *end;
    uint32_t number, attempt; /* PATH */
} cop_message_child;

typedef struct cop_message_question {
    cop_message_event event;
    cop_message_text prompt, text, said;
    uint32_t turn, attempt;
    const char *end;                   /* FORK */
    const cop_message_child *children; /* PATH: one; JOIN: all */
    uint32_t n_children;
} cop_message_question;

typedef enum cop_message_act {
    COP_MESSAGE_CHILDREN,
    COP_MESSAGE_TEXT,
    COP_MESSAGE_END,
    COP_MESSAGE_AGAIN,
    COP_MESSAGE_REFUSE,
    COP_MESSAGE_STAYS,
} cop_message_act;

typedef struct cop_message_answer { /* texts are the program's until it is asked again */
    cop_message_act act;
    bool has_text;         /* TEXT; END with one */
    cop_message_text text; /* of CHILDREN: keep */
    uint32_t n_children;
} cop_message_answer;

/* How many tokens a text has, for "count". */
typedef cop_status cop_message_count(void *context, const char *text, size_t bytes, uint32_t *n);

typedef struct cop_message_program cop_message_program;

cop_status cop_message_program_start(const cop_message_program_options *options,
                                     cop_message_program **out);
void cop_message_program_stop(cop_message_program *program); /* NULL is fine */
cop_status cop_message_program_ask(cop_message_program *program,
                                   const cop_message_question *question, cop_message_count *count,
                                   void *context, cop_message_answer *answer);
/* Child `i` of the last answer. */
cop_message_text cop_message_program_prompt(const cop_message_program *program, uint32_t i);
uint32_t cop_message_program_failures(const cop_message_program *program);
/* "ends-run", "goes-on"; ERR_USAGE for another word. */
cop_status cop_program_failure_parse(const char *name, cop_program_failure *out);
