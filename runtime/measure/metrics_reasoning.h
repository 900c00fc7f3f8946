/* Every paper's measure of a reasoning tree, each under a name of its own: definitions and sources
 * are in bench/METRICS.md ("One run, every paper's measure").
 *
 * Two views of a run are measured. A trace says what each branch did, in its own order: tokens of a
 * role, forks, joins; a child's events stand before its join. A marked sequence is a finished
 * answer as one text, with its block and thread tags marked, as the papers' own counters read it.
 * Pure functions; nothing here allocates but cop_trace_create. One thread a trace.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* ---- traces ---- */

typedef enum cop_token_role {
    COP_ROLE_PROMPT, /* what a context begins with: the root's, or a spawned child's own */
    COP_ROLE_SAID,   /* generated text */
    COP_ROLE_TAG,    /* generated too, part of a tag */
    COP_ROLE_FORCED, /* given: headers, what a join adds, replies */
    COP_ROLE_AGAIN,  /* a child's text, computed again at a join */
    COP_ROLE_PROBE, /* generated to look at an answer, and thrown away: costs, but stands nowhere */
    COP_ROLE_COUNT,
} cop_token_role;

typedef enum cop_trace_kind {
    COP_TRACE_TOKENS, /* n tokens of `role` */
    COP_TRACE_FORK,   /* `other` begins on what the branch holds */
    COP_TRACE_SPAWN,  /* `other` begins in a context of its own */
    COP_TRACE_JOIN,   /* the branch waits for `other`, and holds n of its tokens from now on */
    COP_TRACE_END,    /* n = 1: its last token is an end of text */
} cop_trace_kind;

typedef struct cop_trace_event {
    cop_trace_kind kind;
    cop_token_role role;
    uint32_t branch, other, n;
} cop_trace_event;

/* A branch on the way through the trace. Clocks stand at the tokens that had to be made one after
 * another until here, from the begin of the run; a fork hands its own on, a join takes the later.
 */
typedef struct cop_trace_branch {
    uint64_t text, generated, thread, all; /* SAID; + TAG; + FORCED; + PROMPT and AGAIN */
    uint64_t sequence;                     /* tokens that it holds */
    uint64_t own;                          /* SAID and TAG of its own */
    uint32_t depth;
    bool ended;
} cop_trace_branch;

typedef struct cop_trace {
    cop_trace_event *events;
    cop_trace_branch *branches; /* scratch of the figures */
    uint32_t *open;             /* [max_branches] the event that a branch's tokens are added to */
    uint32_t n_events, max_events, n_branches, max_branches;
    bool overflow; /* something did not fit: there are no figures */
} cop_trace;

cop_status cop_trace_create(uint32_t max_branches, uint32_t max_events, cop_trace *out);
void cop_trace_release(cop_trace *trace);
void cop_trace_reset(cop_trace *trace); /* branch 0, the root, is there */

/* Tokens of one role that follow one another in a branch are one event, whatever others do. */
void cop_trace_tokens(cop_trace *trace, uint32_t branch, cop_token_role role, uint32_t n);
/* A new branch's number; UINT32_MAX without room. */
uint32_t cop_trace_fork(cop_trace *trace, uint32_t parent, bool spawn);
void cop_trace_join(cop_trace *trace, uint32_t branch, uint32_t child, uint32_t held);
void cop_trace_end(cop_trace *trace, uint32_t branch, bool end_of_text);

typedef struct cop_trace_figures {
    uint64_t total;             /* generated, probes included */
    uint64_t longest_thread;    /* longest chain of generated and forced tokens */
    uint64_t critical_path;     /* longest chain of all tokens */
    uint64_t longest_generated; /* longest chain of generated tokens */
    uint64_t longest_text;      /* of these, without tags: SPRINT */
    uint64_t position_critical; /* the root's prompt + longest_thread: Multiverse, NPR */
    uint64_t longest_sequence;  /* most tokens that one branch held: APR, without what it adds */
    uint64_t longest_sequence_bos_eos; /* .. with begin and end of text, as its code encodes */
    uint64_t longest_branch;           /* most tokens that one branch generated: Parallel-Probe */
    uint64_t in_branches;              /* generated below the root: NPR */
    double concurrency;                /* AsyncThink, reconstructed; NaN: no token */
} cop_trace_figures;

/* `has_bos`: the prompts begin with a begin-of-text token already. false: the trace overflowed, or
 * an event stands before what it needs. */
bool cop_trace_measure(cop_trace *trace, bool has_bos, cop_trace_figures *out);

/* ---- marked sequences ---- */

typedef enum cop_tag_mark {
    COP_MARK_TEXT,
    COP_MARK_BLOCK_OPEN,
    COP_MARK_BLOCK_CLOSE,
    COP_MARK_THREAD_OPEN,
    COP_MARK_THREAD_CLOSE,
    COP_MARK_PART, /* a token of the tag that the next mark other than this completes */
} cop_tag_mark;

typedef struct cop_marked_figures {
    uint64_t total;
    uint64_t
        longest_code; /* ThreadWeaver's reward: tags of all threads count, threads by the longest */
    uint64_t longest_text; /* its data filter: the longest thread counts with its own tags only */
    uint64_t in_blocks;    /* tokens of blocks, tags of the block excepted */
    uint32_t blocks, threads;
} cop_marked_figures;

/* One mark a token. As ThreadWeaver's code does: a block or a thread inside a thread is text, a
 * block inside a block too, a closing tag that closes nothing is text where it stands, and what is
 * open at the end is closed there. */
void cop_marked_measure(const uint8_t *marks, size_t n, cop_marked_figures *out);

/* Parallel-R1's efficiency gain, in words: (all - traversed) / all, traversed without all but the
 * longest path of each block; tags are no words. At least 0; NaN without a word. The four tags may
 * be "" each; a tag ends a word, as white space does. */
typedef struct cop_word_tags {
    const char *block_open, *block_close, *path_open, *path_close;
} cop_word_tags;
double cop_efficiency_gain_words(const char *text, size_t bytes, const cop_word_tags *tags);

/* ---- ratios ---- */

/* ThreadWeaver, section 6.2: a problem's ratio is the baseline's mean longest thread over the
 * method's; the speedup is the mean of these ratios over the problems that have both (above 0). NaN
 * without one; *used counts them. */
double cop_speedup_baseline(const double *baseline, const double *own, uint32_t n, uint32_t *used);
