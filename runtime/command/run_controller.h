/* `run` under a controller: one prompt, as many calls as its rule asks for, the rule's answer. */
#pragma once

#include "command/run_output.h"

typedef struct cop_run_controller {
    const cop_job_rule *rule;
    const cop_token_ids *prompt; /* the problem's, as if it were asked alone */
    const char *input;           /* the same as text */
    size_t input_bytes;
    bool chat, extrapolate;
    uint32_t max_tokens, top_k;
    float temperature, top_p, min_p;
} cop_run_controller;

cop_status cop_run_controller_decode(cop_job *job, const cop_run_controller *what,
                                     cop_run_output *output);
