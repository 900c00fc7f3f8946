/* The driver that decodes: one prompt, one or more samples of it on the shared prefix, each of
 * which may fork and join as its dialect says; prune rules over the samples.
 *
 * The prompt is the root branch, sealed at its end whether one sample follows or many, so a sample
 * has the same bits alone and among its siblings. Every sample is a child of the root; a dialect's
 * paths are children of their block's parent. Tags are found in the bytes of the tokens: one that
 * ends inside a token cuts it (the token's text up to the tag's end is encoded again; the rest is
 * dropped and counted). Outputs stay readable until the driver is destroyed. All memory is taken in
 * create.
 *
 * A KV pool that is full changes nothing in what is said (engine.h: cop_pressure), but for branches
 * that PRUNE_LOWEST ends: the one that the rule gives up, else the path, or where nothing forks the
 * sample, of the lowest mean log-probability, never the last of its block or problem. What hangs on
 * which branch is faster (one budget of several branches, a quorum, a first finisher, a shared
 * penalty) may come out otherwise. Under a rule, which cannot forget one branch, a problem begins
 * anew as a whole or not at all (as after a first wave of samples), and under a shared penalty a
 * sample does: what then stays in the pool may need more than the longest view.
 */
#pragma once

#include "model/tokenizer.h"
#include "reason/dialect.h"
#include "reason/engine.h"
#include "reason/message_program.h"
#include "reason/prune.h"
#include "reason/rules/rule.h"

typedef enum cop_stop {
    COP_STOP_NONE,       /* still running, or the run failed */
    COP_STOP_END,        /* the model's end of text */
    COP_STOP_LENGTH,     /* max_tokens or the context */
    COP_STOP_CONFIDENCE, /* pruned: confidence under the threshold */
    COP_STOP_CANCELLED,  /* pruned: budget spent, or another sample finished first */
    COP_STOP_FAILED,     /* a value was not finite */
    COP_STOP_PATH,       /* a path's own end ended the run, as the dialect says */
    COP_STOP_REFUSED,    /* a fork that may not be taken ended the run, as the dialect says */
    COP_STOP_LIMIT,      /* the dialect's own limit: its steps, or its last block */
    COP_STOP_RULE,       /* its controller could not go on (driver_controller.h) */
} cop_stop;
const char *cop_stop_name(cop_stop stop); /* "end", "length", .. */

/* What a branch is made to say, by a bias on its next token; NULL and 0 to let it speak. For tests
 * of live parsing over a real tokenizer. `path` is "" for a sample's own thread, "2", "2.1" below,
 * "?" for what a rule's probe answers. */
typedef struct cop_script {
    const char *path;
    const int32_t *ids;
    uint32_t n;
} cop_script;

/* What happens, as it happens, for a terminal. */
typedef enum cop_live_event_kind {
    COP_LIVE_TEXT, /* a branch said or was given a token; its text may end inside a character, or be
                      empty (an end of text) */
    COP_LIVE_FORK, /* a path was opened */
    COP_LIVE_END,  /* a path ended; the text it is known by has been heard */
    COP_LIVE_JOIN, /* the branch goes on after its block */
    COP_LIVE_STOP, /* the sample is over: `stop` */
} cop_live_event_kind;

typedef struct cop_live_event {
    cop_live_event_kind kind;
    uint32_t sample;
    const char *path; /* "" for the sample's own thread, "2", "2.1" below; borrowed */
    uint32_t block;   /* FORK, END: which of the sample's blocks, from 0 */
    /* FORK: the tokens of a prompt that is all it sees; 0: it stands on its parent, or begins as
     * its dialect says. */
    uint32_t own_prompt;
    const char *joined; /* JOIN: the path that was joined; NULL: the whole block */
    const char *text;   /* TEXT */
    size_t bytes;
    bool forced;   /* TEXT: given, not generated */
    bool success;  /* END: it said the dialect's `success` */
    cop_stop stop; /* STOP; END: END, LENGTH, CONFIDENCE or CANCELLED */
} cop_live_event;

typedef void cop_live_listener(void *context, const cop_live_event *event);

typedef bool cop_live_claim(void *context, const char *text, size_t bytes, const char **answer,
                            size_t *answer_bytes);

typedef struct cop_live_options {
    const cop_dialect *dialect;     /* NULL: sequential */
    const cop_tokenizer *tokenizer; /* NULL (random models): no text, no tags, no end token */
    const int32_t *prompt;          /* the caller's, until the driver is reset or destroyed */
    uint32_t n_prompt;
    const int32_t *spawn; /* message join: the ids of spawn_prompt; the caller's as well */
    uint32_t n_spawn;
    uint64_t problem_key;
    uint32_t n_samples, first_sample; /* samples first_sample .. + n_samples - 1 of the problem */
    uint32_t wave;         /* of these, those that the first run draws (cop_live_wave); 0: all */
    uint32_t max_tokens;   /* of one sample, counted as the dialect's budget says: the
                              generated tokens of its branches together */
    uint32_t max_branches; /* records of one problem: samples and paths, ended ones included */
    float temperature, top_p, min_p;
    uint32_t top_k;
    uint32_t max_blocks; /* instead of the dialect's; 0: the dialect's */
    cop_prune_options prune;
    cop_join_policy join_policy; /* all zero: the dialect's */
    /* A prune rule over the samples, or over the paths where the dialect forks; the caller's, reset
     * by the caller for each problem, so that it can see several waves of samples (DeepConf's
     * warm-up): no more samples than cop_rule_may_open. What it probes runs as a branch below the
     * one that is asked, which waits meanwhile. */
    cop_rule *rule;
    /* Over whole samples where the dialect forks too: what a sample's paths say counts as said by
     * it (but for rules that read hidden states, which see its own thread alone). */
    bool rule_over_samples;
    /* What makes the dialect's messages, where it says so; the caller's, and other drivers' too. */
    cop_message_program *program;
    /* What a sample's or path's text claims, for its rule: a part of the text. NULL: what the
     * dialect marks, else its last box. */
    cop_live_claim *claim;
    void *claim_context;
    const cop_script *script;
    uint32_t n_script;
    cop_live_listener *listener;
    void *listener_context;
} cop_live_options;

typedef struct cop_live cop_live;

cop_status cop_live_create(const cop_live_options *options, cop_live **out);
void cop_live_destroy(cop_live *live);
cop_driver *cop_live_driver(cop_live *live);

/* Makes the driver ready for another problem, allocating nothing. The prompt and spawn ids are the
 * caller's until the next reset. */
cop_status cop_live_reset(cop_live *live, const int32_t *prompt, uint32_t n_prompt,
                          const int32_t *spawn, uint32_t n_spawn, uint64_t problem_key);

/* Before a reset: the next run draws samples first .. first + n - 1 of its problem; n is at most
 * what create was told. */
void cop_live_wave(cop_live *live, uint32_t first_sample, uint32_t n_samples);

typedef struct cop_live_sample { /* one sample, flattened: every path's text in order at its join */
    const int32_t *ids;
    uint32_t n_ids;
    const char *text; /* bytes of the ids; may hold invalid UTF-8 */
    size_t bytes;
    cop_stop stop;
    uint32_t generated; /* all its branches */
    uint32_t forks, forks_refused, ill_formed_tags;
    uint32_t given;                  /* tokens that its branches were given */
    uint32_t paths_ended, steps;     /* paths that ended; stretches of one thread, and blocks */
    uint32_t paths, paths_cancelled; /* opened by its forks; ended by a rule before their own end */
    /* What follows the last `answer_after` in the text that the sample's own thread generated since
     * its last join; NULL when it holds none or did not end by itself: nothing is claimed. */
    const char *answer;
    size_t answer_bytes;
    double lowest_confidence; /* NaN: the rule is off, or no token */
    double logprob_sum;       /* of its generated tokens */
} cop_live_sample;
/* The KV pool is full: ends the branch that the rule gives up; *pruned is false where there is no
 * rule, or none that it gives. From within a callback of the engine. */
cop_status cop_live_prune_victim(cop_live *live, cop_engine *engine, bool *pruned);

/* After a run that was interrupted: paths that were still open join their samples' text. */
cop_status cop_live_gather(cop_live *live);

cop_live_sample cop_live_sample_read(const cop_live *live, uint32_t i); /* i < n_samples */

typedef struct cop_live_path {     /* one path of a block, in the order in which they were opened */
    uint32_t sample, block, index; /* block of its sample and path of its block, from 0 */
    const char *path;              /* "2", "2.1" */
    const int32_t *ids;            /* header and generated ids; a cancelled one's so far */
    uint32_t n_ids, n_header;
    const char *text;
    size_t bytes;
    bool success;
    cop_stop stop; /* END, LENGTH, CONFIDENCE or CANCELLED */
} cop_live_path;
uint32_t cop_live_path_count(const cop_live *live);
cop_live_path cop_live_path_read(const cop_live *live, uint32_t i); /* i < count */
