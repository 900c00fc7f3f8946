/* The driver that runs a controller's prompts: rules that open branches themselves (rules/rule.h:
 * runs_prompts), as skeleton-of-thought, trees of thoughts and MCTS.
 *
 * A RUN is a call: a branch that sees nothing but its prompt, spawned below a root that holds no
 * token. What a rule asks for at one time is a round. Its calls are decoded side by side, at most
 * `max_at_once` of them; each further one takes the place of the first that ends. When all have
 * ended they are joined, and the next round begins. A call ends at the model's end of text, at its
 * `stop` text (which may straddle tokens; the reply is the text before it), at its own limit or the
 * run's, or where the context ends. The rule hears of tokens and of ends, and its answer is the
 * problem's.
 *
 * What a call says depends on its prompt and its number alone: not on max_at_once, on what runs
 * beside it, or on a KV pool that is full (engine.h: cop_pressure; PRUNE_LOWEST ends the call of
 * the lowest mean log-probability without a reply, never a round's last).
 *
 * What a rule cannot go on from (an outline without points where that fails, candidates that are
 * all worth nothing, texts or calls beyond its capacity, a prompt that the context does not hold)
 * ends its problem with COP_STOP_RULE and a message, and no other problem. All memory is taken in
 * create; outputs stay readable until the next reset.
 */
#pragma once

#include "reason/driver_live.h"

typedef struct cop_controller_options {
    cop_rule *rule;                 /* the caller's; reset here, with its problem */
    const cop_tokenizer *tokenizer; /* prompts are text: a random model has none */
    const char *before, *after;     /* of a chat format, around each prompt; NULL: none */
    const char *input;              /* the problem; the caller's until the reset is done */
    size_t input_bytes;
    uint64_t problem_key;
    uint32_t max_at_once;   /* calls side by side */
    uint32_t max_tokens;    /* generated tokens of one call, where its RUN asks for no fewer */
    uint32_t max_positions; /* as the engine has them */
    float temperature, top_p, min_p;
    uint32_t top_k;
    const cop_script
        *script; /* for tests: `path` is "2.1" for the first call of the second round */
    uint32_t n_script;
    cop_live_listener *listener; /* rounds are blocks, their calls paths "1", "2", .. */
    void *listener_context;
} cop_controller_options;

typedef struct cop_controller cop_controller;

cop_status cop_controller_create(const cop_controller_options *options, cop_controller **out);
void cop_controller_destroy(cop_controller *controller);
cop_driver *cop_controller_driver(cop_controller *controller);
/* Another problem; allocates nothing. */
cop_status cop_controller_reset(cop_controller *controller, const char *input, size_t bytes,
                                uint64_t problem_key);

/* `text` is the rule's answer, without ids; it is empty where there is none. `forks` counts the
 * rounds of more than one call, `paths` all calls. */
cop_live_sample cop_controller_read(const cop_controller *controller);
/* Why it stopped with COP_STOP_RULE: the message; COP_OK otherwise. */
cop_status cop_controller_error(const cop_controller *controller, const char **message);

typedef struct cop_controller_call { /* in the order in which the rule asked for them */
    cop_live_path path;           /* text: the reply; ids: all that was said, the stop included */
    const char *prompt, *partial; /* partial: begins the answer's turn; "" where none does */
    size_t prompt_bytes;
    uint32_t n_prompt; /* tokens, a chat format's and those of `partial` included */
} cop_controller_call;
uint32_t cop_controller_call_count(const cop_controller *controller);
cop_controller_call cop_controller_call_read(const cop_controller *controller, uint32_t i);
