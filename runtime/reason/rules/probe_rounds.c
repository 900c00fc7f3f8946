#include "reason/rules/probe_rounds.h"

#include <string.h>

#include "reason/rules/probe_text.h"

cop_status cop__rounds_create(cop_rule *rule, const cop_probe_options *options, cop__rounds *out) {
    if (options->every == 0 || options->probe_tokens == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "%s: a probe of %u tokens every %u tokens: each is at least 1",
                        rule->ops->name, options->probe_tokens, options->every);
    if (!options->suffix || strlen(options->suffix) == 0)
        return COP_FAIL(COP_ERR_CONFIG, "%s: the probe's text is empty", rule->ops->name);
    cop_status status = COP_OK;
    uint32_t n = rule->limits.max_branches;
    out->options = *options;
    out->latest = cop__rule_calloc(rule, n, sizeof *out->latest, &status);
    out->state = cop__rule_calloc(rule, n, sizeof *out->state, &status);
    out->due = cop__rule_calloc(rule, n, sizeof *out->due, &status);
    char *suffix = cop__rule_calloc(rule, strlen(options->suffix) + 1, 1, &status);
    if (status == COP_OK)
        out->options.suffix = strcpy(suffix, options->suffix);
    rule->needs.probes = true;
    rule->needs.probe_text = out->options.suffix;
    rule->needs.probe_tokens = options->probe_tokens;
    rule->needs.probe_every = options->every;
    return status;
}

void cop__rounds_reset(cop__rounds *rounds) {
    rounds->round = rounds->waiting = rounds->n_due = 0;
}

void cop__rounds_open(cop__rounds *rounds, cop_rule *rule, uint32_t branch) {
    (void)rule;
    rounds->state[branch] = 0;
    rounds->waiting++;
}

static void mark_due(cop__rounds *rounds, const cop_rule *rule, uint32_t branch) {
    uint64_t at = (uint64_t)(rounds->round + 1) * rounds->options.every;
    if (rounds->state[branch] & (COP__ROUND_FRESH | COP__ROUND_DUE) ||
        rule->branches[branch].probing || rule->branches[branch].tokens < at)
        return;
    rounds->state[branch] |= COP__ROUND_DUE;
    rounds->due[rounds->n_due++] = branch;
}

void cop__rounds_token(cop__rounds *rounds, cop_rule *rule, uint32_t branch) {
    mark_due(rounds, rule, branch);
}

static void answer(cop__rounds *rounds, uint32_t branch) {
    if (!(rounds->state[branch] & COP__ROUND_FRESH))
        rounds->waiting--;
    rounds->state[branch] |= COP__ROUND_FRESH;
}

void cop__rounds_probe(cop__rounds *rounds, uint32_t branch, const char *text, size_t bytes) {
    size_t length = rounds->options.boxed ? cop_probe_boxed(text, bytes) : bytes;
    cop__rule_text_set(&rounds->latest[branch], text, length);
    answer(rounds, branch);
}

void cop__rounds_end(cop__rounds *rounds, cop_rule *rule, uint32_t branch) {
    if (rounds->state[branch] & COP__ROUND_FRESH) {
        rounds->state[branch] |= COP__ROUND_LATER;
        return;
    }
    rounds->latest[branch] = rule->branches[branch].answer;
    rounds->state[branch] |= COP__ROUND_FINISHED;
    answer(rounds, branch);
}

void cop__rounds_left(cop__rounds *rounds, uint32_t branch) {
    answer(rounds, branch);
}

void cop__rounds_ask(cop__rounds *rounds, cop_rule *rule) {
    const cop_decision probe = {.text = rounds->options.suffix,
                                .bytes = strlen(rounds->options.suffix),
                                .max_tokens = rounds->options.probe_tokens,
                                .temperature = rounds->options.temperature,
                                .top_p = rounds->options.top_p};
    for (uint32_t i = 0; i < rounds->n_due; i++) {
        uint32_t branch = rounds->due[i];
        rounds->state[branch] &= (uint8_t)~COP__ROUND_DUE;
        if (cop__rule_is_live(rule, branch))
            cop__rule_ask(rule, branch, &probe);
    }
    rounds->n_due = 0;
}

void cop__rounds_next(cop__rounds *rounds, cop_rule *rule) {
    rounds->round++;
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        uint8_t *state = &rounds->state[i];
        if (*state & COP__ROUND_LATER) {
            rounds->latest[i] = rule->branches[i].answer;
            *state = (uint8_t)((*state & ~COP__ROUND_LATER) | COP__ROUND_FINISHED);
        }
        if (!cop__rule_is_live(rule, i))
            continue;
        *state &= (uint8_t)~COP__ROUND_FRESH;
        rounds->waiting++;
        mark_due(rounds, rule, i);
    }
}
