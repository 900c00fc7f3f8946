/* One small interface for everything that decides from outside which branches go on: prune rules
 * (DeepConf, Certaindex, STEP, Parallel-Probe), join policies, controllers (self-consistency,
 * skeleton, trees of thoughts, MCTS).
 *
 * A rule is a pure decision machine. It is told what happened: a branch was opened, said a token,
 * answered a probe, showed a hidden state, ended. It is asked what to do now, and answers with a
 * list of decisions. It never sees an engine, a page or a clock of its own: branches are numbers
 * from 0 in the order in which they were opened, time is an argument. So the same rule runs live,
 * over a recorded trace and over a random one.
 *
 *   cop_rule_open(rule, group, &branch);             whenever a branch begins
 *   cop_rule_token(rule, &token);                    for each token that was sampled
 *   cop_rule_hidden(rule, branch, h);                if cop_rule_wants_hidden said so
 *   cop_rule_probe(rule, branch, text, bytes, n);    what a probe that was asked for gave
 *   cop_rule_end(rule, branch, how, answer, bytes);  a branch ended without the rule's doing
 *   cop_rule_decide(rule, now_ns, &decisions, &n);   after a token, a step, or at the beginning
 *
 * A token with which the model ends its branch is told as a token and then as an end, before
 * anything is decided: a branch that ended by itself is not stopped any more. A limit on tokens
 * ends a branch after the decision on its last token.
 * A decision is binding once given: a branch that was pruned or finished is told nothing more, but
 * for what its text so far claims (cop_rule_partial).
 * Deciding when nothing is due costs next to nothing. All memory is taken in create; a rule that
 * runs out of a declared capacity fails with ERR_NO_ROOM. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define COP_RULE_NONE UINT32_MAX

enum {
    COP_RULE_TEXT_BYTES = 512, /* of an answer; longer ones are kept as a beginning and a hash */
};

typedef struct cop_rule cop_rule;

/* Whether two answers are the same, where that is more than their text (mathematical equality). */
typedef bool cop_rule_same(void *context, const char *a, size_t a_bytes, const char *b,
                           size_t b_bytes);

typedef struct cop_rule_limits {
    uint32_t max_branches; /* of one problem, ended ones included */
    uint32_t max_tokens;   /* of one branch */
    cop_rule_same *same;   /* NULL: the text */
    void *same_context;
} cop_rule_limits;

typedef struct cop_rule_token { /* borrowed for the call */
    uint32_t branch;
    int32_t token;
    const char *text;
    size_t bytes;
    double logprob;           /* of the token, before temperature */
    const float *top_logprob; /* the n_top largest, falling */
    const int32_t *top_token; /* the same, by id; NULL: not known */
    uint32_t n_top;
    bool in_top; /* the token is one of these */
    bool is_end; /* the model's end of text, told to a rule that ignores it and goes on */
} cop_rule_token;

typedef enum cop_rule_end_kind {
    COP_RULE_END_OWN,     /* the model ended it */
    COP_RULE_END_SUCCESS, /* and it says that it found what was asked for */
    COP_RULE_END_LENGTH,  /* a limit on tokens */
    COP_RULE_END_CUT,     /* somebody else cut it: another rule, the dialect, a failure */
} cop_rule_end_kind;

typedef enum cop_decision_kind {
    COP_DECIDE_PRUNE,  /* end the branch; its text is dropped, or kept if keep_partial */
    COP_DECIDE_FINISH, /* end the branch as if by itself, with `text` said last */
    COP_DECIDE_PROBE,  /* let it answer `text` with at most max_tokens, then forget both */
    COP_DECIDE_STOP,   /* end every branch: the problem is answered, or its budget spent */
    COP_DECIDE_RUN,    /* a controller's: open a branch on the prompt `text` */
} cop_decision_kind;

/* X(name, word in results) */
#define COP_RULE_REASONS(X)                                                                        \
    X(NONE, "none")                                                                                \
    X(CONFIDENCE, "confidence")                                                                    \
    X(CERTAIN, "certain")                                                                          \
    X(CONSENSUS, "consensus")                                                                      \
    X(OUTLIER, "outlier")                                                                          \
    X(PRESSURE, "pressure")                                                                        \
    X(BUDGET, "budget")                                                                            \
    X(QUORUM, "quorum")                                                                            \
    X(DEADLINE, "deadline")                                                                        \
    X(SCORE, "score")                                                                              \
    X(STEPS, "steps")                                                                              \
    X(DONE, "done")

typedef enum cop_rule_reason {
#define COP_RULE_REASON_ENUM(name, word) COP_REASON_##name,
    COP_RULE_REASONS(COP_RULE_REASON_ENUM)
#undef COP_RULE_REASON_ENUM
} cop_rule_reason;
const char *cop_rule_reason_name(cop_rule_reason reason);

/* Texts are the rule's, until its next decide; a RUN's until its next reset. */
typedef struct cop_decision {
    cop_decision_kind kind;
    cop_rule_reason reason;
    uint32_t branch;
    bool keep_partial;
    const char *text;
    size_t bytes;
    uint32_t max_tokens; /* PROBE, RUN; 0: the run's own limit */
    float temperature;   /* PROBE, RUN; < 0: the run's own */
    float top_p;         /* PROBE; 0: the run's own */
    const char *stop;    /* RUN: the branch ends before this text; NULL: by itself */
    const char *partial; /* RUN: begins the answer's turn; NULL: nothing */
    uint32_t tag;        /* RUN: give it to open as the group */
} cop_decision;

typedef struct cop_rule_stats { /* of the problem so far */
    uint64_t tokens;            /* sampled by branches, warm-up and pruned ones included */
    uint64_t tokens_pruned;     /* of these, by branches that were pruned or stopped */
    uint64_t tokens_warmup;     /* of these, by warm-up branches */
    uint64_t tokens_probe;      /* sampled in answer to probes; not among `tokens` */
    uint64_t tokens_given;      /* probe prompts, as the driver counts them */
    uint64_t probes_asked, probes_answered;
    uint64_t hidden_states;
    uint32_t opened, ended, pruned, finished;
} cop_rule_stats;

/* What the rule needs; a driver that cannot give it refuses the rule by name. */
typedef struct cop_rule_needs {
    bool top_logprobs;
    bool probes, probes_at_start; /* before the branch's first token */
    bool ignores_end;             /* the original does not look at the model's end of text */
    bool runs_prompts;            /* a controller: it opens branches itself */
    size_t text_bytes;            /* of a controller: all that it can hold, its answer included */
    uint32_t hidden;              /* width of the hidden states that it scores; 0: none */
    const char *probe_text;       /* what every probe says; NULL: no probes */
    uint32_t probe_tokens;        /* at most, of an answer */
    uint32_t probe_every;         /* no branch is asked after fewer tokens than these; 0: no such */
} cop_rule_needs;

const char *cop_rule_name(const cop_rule *rule);
uint32_t cop_rule_max_branches(const cop_rule *rule); /* as its limits say */
cop_rule_needs cop_rule_needs_of(const cop_rule *rule);
cop_rule_stats cop_rule_stats_of(const cop_rule *rule);
void cop_rule_destroy(cop_rule *rule);
void cop_rule_reset(cop_rule *rule); /* for the next problem; allocates nothing */
/* A controller's problem, which is copied: after each reset. */
cop_status cop_rule_input(cop_rule *rule, const char *text, size_t bytes);

/* It was opened and neither ended nor was ended by a decision. */
bool cop_rule_is_live(const cop_rule *rule, uint32_t branch);
/* How many branches may be opened now: UINT32_MAX where the rule does not care. DeepConf's warm-up
 * comes before the rest. */
uint32_t cop_rule_may_open(const cop_rule *rule);
/* `group` names the block or the RUN that the branch belongs to, below max_branches. */
cop_status cop_rule_open(cop_rule *rule, uint32_t group, uint32_t *branch);
cop_status cop_rule_token_add(cop_rule *rule, const cop_rule_token *token);
/* After a token: whether the hidden state at that token, the last layer's after the final norm, is
 * wanted. It is there when the token's own row has run. */
bool cop_rule_wants_hidden(const cop_rule *rule, uint32_t branch);
cop_status cop_rule_hidden(cop_rule *rule, uint32_t branch, const float *hidden);
/* `given` and `said`: how many tokens the probe's prompt had and its answer. */
cop_status cop_rule_probe(cop_rule *rule, uint32_t branch, const char *text, size_t bytes,
                          uint32_t given, uint32_t said);
/* `answer`: what the branch claims, or for a controller's branch its text. */
cop_status cop_rule_end(cop_rule *rule, uint32_t branch, cop_rule_end_kind how, const char *answer,
                        size_t bytes);
/* What the text of a branch that was pruned claims: some originals let it vote. */
cop_status cop_rule_partial(cop_rule *rule, uint32_t branch, const char *answer, size_t bytes);
cop_status cop_rule_decide(cop_rule *rule, uint64_t now_ns, const cop_decision **out, uint32_t *n);
/* The KV pool is full: the branch that the rule gives up, which is thereby pruned; COP_RULE_NONE
 * where it has no opinion or nothing runs. */
uint32_t cop_rule_victim(cop_rule *rule);

/* Whether it says which answer counts; one that only prunes does not. */
bool cop_rule_chooses(const cop_rule *rule);
/* The problem's answer so far: false when there is none. Borrowed until the next call. */
bool cop_rule_answer(cop_rule *rule, const char **text, size_t *bytes);
/* A branch's score: group confidence, STEP's mean; NaN when it has none. */
double cop_rule_score(const cop_rule *rule, uint32_t branch);
