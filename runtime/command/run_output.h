/* What `run` prints: text as it is said, a tree while it grows, or one JSON object at the end. */
#pragma once

#include "command/live_tree.h"
#include "job/job.h"
#include "job/job_rule.h"
#include "reason/driver_controller.h"

typedef struct cop_run_output {
    bool json;
    cop_live_tree *tree; /* NULL: text */
    cop_utf8_stream utf8;
    bool any_path; /* text of paths was held back */
} cop_run_output;

/* A cop_live_listener; the context is a cop_run_output. */
void cop_run_output_listen(void *output, const cop_live_event *event);

typedef struct cop_run_wave { /* samples that ran together */
    cop_live *live;
    uint32_t n;
} cop_run_wave;

typedef struct cop_run_result {
    const cop_token_ids *prompt;
    const cop_run_wave *waves; /* one after the other, the samples in order */
    uint32_t n_waves;
    const cop_controller *controller; /* instead of waves; NULL: there is none */
    bool many;                        /* more than one sample was asked for */
    const cop_job_rule *rule;         /* NULL: none */
    const cop_metrics *metrics;
} cop_run_result;

/* After the run, an interrupted one included. */
cop_status cop_run_output_finish(cop_run_output *output, cop_job *job,
                                 const cop_run_result *result);
