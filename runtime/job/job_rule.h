/* A rule for a job or a command: a preset or a file becomes a rule for so many branches, with what
 * it adds to an engine's size, and its costs as JSON. A controller's calls are as many as it likes,
 * up to COP_CONTROLLER_CALLS a problem, of which so many run at once. */
#pragma once

#include "job/job.h"
#include "reason/checker.h"
#include "reason/rules/rule_config.h"

typedef struct cop_job_rule {
    cop_rule_config *config;
    cop_rule *rule;
    char sha256[65]; /* of its file */
} cop_job_rule;

enum { COP_CONTROLLER_CALLS = 4096, COP_CONTROLLER_AT_ONCE = 16 };

typedef struct cop_job_rule_limits {
    uint32_t max_branches, max_tokens; /* of one problem; of one branch */
    const cop_model *model;            /* NULL: not known yet, any will do */
    bool runs_prompts;                 /* a controller may come: it gets a driver of its own */
    const cop_checker *checker;        /* says when two answers are the same; NULL: their text */
} cop_job_rule_limits;

/* Refuses what is unknown, contradictory for these limits, or not to be had in live decoding.
 * `out` is zeroed; the caller closes it either way. */
cop_status cop_job_rule_open(const char *name, const cop_job_rule_limits *limits,
                             cop_job_rule *out);
void cop_job_rule_close(cop_job_rule *rule);
/* The same, and closes it again: before a model is opened. */
cop_status cop_job_rule_check(const char *name, const cop_job_rule_limits *limits);

/* Whether it is a controller. */
cop_status cop_job_rule_runs_prompts(const char *name, bool *out);

/* What a controller's calls need: a prompt holds its problem, and what the rule's templates and
 * earlier replies add. */
typedef struct cop_job_calls {
    uint32_t problems, at_once; /* at the same time; calls of each */
    uint32_t input_tokens;      /* the longest problem's */
    uint32_t max_tokens;        /* of one call */
    bool extrapolate;           /* past the model's context */
    const cop_model *model;
    const char *what;
} cop_job_calls;
cop_job_size cop_job_calls_size(const cop_job_calls *calls);

/* What probes need on top, of so many branches that say so many tokens together: a branch beside
 * each that is asked, its tokens, and one more piece of the asked branch a probe. Nothing for a
 * rule without probes. */
void cop_job_rule_size(const cop_job_rule *rule, uint32_t branches, uint64_t tokens,
                       cop_job_size *size);

void cop_job_rule_add(cop_rule_stats *into, const cop_rule_stats *more);
/* {"name", "kind", "sha256"}: what identifies it. New object, NULL without memory. */
json_t *cop_job_rule_identity(const cop_job_rule *rule);
/* That and what it did and cost; `answer` is NULL where there is none. */
json_t *cop_job_rule_record(const json_t *identity, const cop_rule_stats *stats, const char *answer,
                            size_t answer_bytes);
