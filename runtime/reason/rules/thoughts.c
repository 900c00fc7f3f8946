#include "reason/rules/thoughts.h"

#include <string.h>

#include "reason/rules/thoughts_internal.h"

cop_status cop__thoughts_prompt(thoughts *t, cop__text template, cop__text state, cop__text choices,
                                cop__text *out) {
    cop__text lines = cop__text_strip(state.bytes ? state : t->input);
    size_t from = lines.bytes;
    while (from > 0 && lines.data[from - 1] != '\n')
        from--;
    const cop__slot slots[] = {{"{input}", t->input},
                               {"{state}", state},
                               {"{last_line}", {lines.data + from, lines.bytes - from}},
                               {"{choices}", choices}};
    return cop__prompts_fill(&t->pool, template, slots, 4, out);
}

cop_status cop__thoughts_call(thoughts *t, cop__text prompt, uint32_t of, bool stops) {
    if (t->n_calls == t->rule.limits.max_branches)
        return COP_FAIL(COP_ERR_NO_ROOM, "thoughts: more than %u calls", t->n_calls);
    t->calls[t->n_calls] = (call){.of = of};
    t->calls_left++;
    return cop__rule_run(&t->rule, &(cop_decision){.text = prompt.data,
                                                   .bytes = prompt.bytes,
                                                   .stop = stops ? t->options.stop : NULL,
                                                   .max_tokens = t->options.max_tokens,
                                                   .temperature = t->options.temperature,
                                                   .tag = t->n_calls++});
}

static cop_status take(thoughts *t, uint32_t branch, const char *text, size_t bytes) {
    uint32_t tag = t->rule.branches[branch].group;
    if (tag < t->first_call || tag >= t->n_calls || t->calls_left == 0)
        return COP_OK;
    t->calls_left--;
    return cop__prompts_copy(&t->pool, text, bytes, &t->calls[tag].reply);
}

static cop_status thoughts_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    return take((thoughts *)rule, branch, text, bytes);
}

/* A call that was cut said nothing. */
static void thoughts_left(cop_rule *rule, uint32_t branch) {
    thoughts *t = (thoughts *)rule;
    cop_status status = take(t, branch, "", 0);
    t->failed = t->failed == COP_OK ? status : t->failed;
}

static cop_status thoughts_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    thoughts *t = (thoughts *)rule;
    COP_TRY(t->failed);
    /* A step whose calls are all known already is followed at once. */
    while (t->calls_left == 0 && !rule->stopped) {
        COP_TRY(t->options.search == COP_THOUGHTS_BFS ? cop__thoughts_bfs(t)
                                                      : cop__thoughts_dfs(t));
        if (t->stage == THOUGHTS_OVER)
            cop__rule_stop(rule, COP_REASON_DONE, true);
    }
    return COP_OK;
}

static bool thoughts_answer(cop_rule *rule, const char **text, size_t *bytes) {
    thoughts *t = (thoughts *)rule;
    bool bfs = t->options.search == COP_THOUGHTS_BFS;
    const thought *best = bfs && t->n_frontier ? &t->frontier[0] : NULL;
    for (uint32_t i = 1; i < t->n_states && !bfs; i++) { /* the root was not visited */
        if (!best || t->states[i].value > best->value)
            best = &t->states[i];
    }
    if (t->stage != THOUGHTS_OVER || !best)
        return false;
    *text = best->text.data;
    *bytes = best->text.bytes;
    return true;
}

static void thoughts_reset(cop_rule *rule) {
    thoughts *t = (thoughts *)rule;
    t->pool.used = t->kept;
    t->failed = COP_OK;
    t->n_frontier = 1;
    t->frontier[0] = (thought){.text = {"", 0}};
    t->n_states = t->n_known = t->n_calls = t->calls_left = t->first_call = t->step = 0;
    t->visited = t->current = t->n_proposals = 0;
    memset(t->known_table, 0, (t->known_mask + 1) * sizeof *t->known_table);
    t->stage = THOUGHTS_BEGIN;
}

static cop_status thoughts_input(cop_rule *rule, const char *text, size_t bytes) {
    thoughts *t = (thoughts *)rule;
    return cop__prompts_copy(&t->pool, text, bytes, &t->input);
}

static const cop__rule_ops thoughts_ops = {.name = "thoughts",
                                           .end = thoughts_end,
                                           .left = thoughts_left,
                                           .decide = thoughts_decide,
                                           .answer = thoughts_answer,
                                           .input = thoughts_input,
                                           .reset = thoughts_reset};

static cop_status check_options(const cop_thoughts_options *o) {
    bool bfs = o->search == COP_THOUGHTS_BFS;
    if (!o->generate_prompt || !o->evaluate_prompt)
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: generate_prompt and evaluate_prompt are needed");
    if (o->max_states > 1u << 24)
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: max_states %u; at most %u", o->max_states,
                        1u << 24);
    if (o->n_generate == 0 || o->n_evaluate == 0 || o->n_select == 0 || o->max_states < 2)
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: n_generate, n_evaluate and n_select are at "
                                        "least 1, max_states at least 2");
    if (bfs && o->steps == 0)
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: a breadth-first search of 0 steps");
    if (bfs && o->propose && o->n_generate != 1)
        return COP_FAIL(COP_ERR_CONFIG,
                        "thoughts: propose makes one call a state: n_generate %u contradicts it",
                        o->n_generate);
    if (o->vote && !strstr(o->evaluate_prompt, "{choices}"))
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: a vote's evaluate_prompt needs {choices}");
    if (!o->vote && o->n_values == 0)
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: values are needed: words and their worth");
    if (o->n_values > COP_THOUGHTS_VALUES)
        return COP_FAIL(COP_ERR_CONFIG, "thoughts: %u values; at most %d", o->n_values,
                        COP_THOUGHTS_VALUES);
    if (!bfs && (o->max_visited == 0 || o->max_depth == 0 || o->vote || o->sample_select ||
                 (o->prune && !o->prune_word)))
        return COP_FAIL(COP_ERR_CONFIG,
                        "thoughts: a depth-first search needs max_visited, max_depth and, to "
                        "prune, prune_word; it neither votes nor samples");
    return COP_OK;
}

static cop_status copy_option(thoughts *t, const char **text) {
    cop__text copy;
    if (!*text)
        return COP_OK;
    COP_TRY(cop__prompts_copy(&t->pool, *text, strlen(*text), &copy));
    *text = copy.data;
    return COP_OK;
}

static uint32_t table_mask(uint32_t n) {
    uint32_t size = 4;
    while (size < 2 * n)
        size *= 2;
    return size - 1;
}

static cop_status create_parts(thoughts *t) {
    cop_thoughts_options *o = &t->options;
    cop_status status = COP_OK;
    size_t n = o->max_states;
    t->frontier = cop__rule_calloc(&t->rule, n, sizeof *t->frontier, &status);
    t->states = cop__rule_calloc(&t->rule, n, sizeof *t->states, &status);
    t->known = cop__rule_calloc(&t->rule, t->rule.limits.max_branches, sizeof *t->known, &status);
    t->calls = cop__rule_calloc(&t->rule, t->rule.limits.max_branches, sizeof *t->calls, &status);
    t->proposals = cop__rule_calloc(&t->rule, n, sizeof *t->proposals, &status);
    t->weights = cop__rule_calloc(&t->rule, n, sizeof *t->weights, &status);
    t->state_mask = table_mask(o->max_states);
    t->known_mask = table_mask(t->rule.limits.max_branches);
    t->state_table = cop__rule_calloc(&t->rule, t->state_mask + 1, sizeof *t->state_table, &status);
    t->known_table = cop__rule_calloc(&t->rule, t->known_mask + 1, sizeof *t->known_table, &status);
    COP_TRY(status);
    COP_TRY(cop__prompts_create(&t->rule, o->max_text_bytes, &t->pool));
    COP_TRY(copy_option(t, &o->generate_prompt));
    COP_TRY(copy_option(t, &o->evaluate_prompt));
    COP_TRY(copy_option(t, &o->stop));
    COP_TRY(copy_option(t, &o->prune_word));
    for (uint32_t i = 0; i < o->n_values; i++)
        COP_TRY(copy_option(t, &o->values[i].word));
    t->kept = t->pool.used;
    return cop_thoughts_input(&t->rule, o->input ? o->input : "");
}

cop_status cop_thoughts_input(cop_rule *rule, const char *input) {
    thoughts_reset(rule);
    return thoughts_input(rule, input, strlen(input));
}

cop_status cop_thoughts_create(const cop_rule_limits *limits, const cop_thoughts_options *options,
                               cop_rule **out) {
    COP_TRY(check_options(options));
    thoughts *t = NULL;
    COP_TRY(cop__rule_create(&thoughts_ops, sizeof *t, limits, 1, &t));
    t->options = *options;
    t->rule.needs.runs_prompts = true;
    t->rule.needs.text_bytes = options->max_text_bytes;
    cop_status status = create_parts(t);
    if (status != COP_OK) {
        cop_rule_destroy(&t->rule);
        return status;
    }
    *out = &t->rule;
    return COP_OK;
}

uint32_t cop_thoughts_visited(const cop_rule *rule) {
    return ((const thoughts *)rule)->visited;
}
