/* Certaindex on one branch, as Dynasor has it (Fu et al. 2024, arXiv 2412.20993;
 * hao-ai-lab/Dynasor@0d2f1b9): every `chunk` tokens the branch is asked for its answer by a forced
 * text; when it is sure of it, it is ended with that answer. The original has two programs that
 * decide differently, so there are two modes.
 *
 *   client  (core/cot.py openai_chat_completion_stream) The probe looks at the text before the
 *           chunk: the first one at the bare prompt, and what it says is used a chunk later. The
 *           branch is ended when the last k answers are one class (each compared with the first),
 *           none is empty and no probe's text holds a hesitation word.
 *   server  (cli/vllm_server.py, core/entropy.py should_early_exit) The probe looks at the text
 *           with the chunk and is used at once. Its last `return True` stands outside its
 *           condition, so the branch is ended at the first probe without a hesitation word once k
 *           probes were made, whatever they say; and the model's own end is not looked at.
 *           `agree` puts the condition where it was meant, `heeds_end` the end.
 *
 * (k, chunk): mild (8, 64), low (5, 64), mid (3, 64), high (2, 64), crazy (2, 32).
 */
#pragma once

#include "reason/rules/rule.h"

typedef enum cop_dynasor_mode { COP_DYNASOR_CLIENT, COP_DYNASOR_SERVER } cop_dynasor_mode;

typedef struct cop_dynasor_options {
    cop_dynasor_mode mode;
    uint32_t k, chunk;
    bool agree, heeds_end; /* SERVER */
    const char *suffix;    /* what the probe is asked with; copied */
    uint32_t probe_tokens;
    float temperature, top_p; /* of the probe */
} cop_dynasor_options;

extern const char cop_dynasor_suffix[]; /* the original's */

cop_status cop_dynasor_create(const cop_rule_limits *limits, const cop_dynasor_options *options,
                              cop_rule **out);
