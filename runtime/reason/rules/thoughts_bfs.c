#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "reason/rules/thoughts_internal.h"

static cop_status add_state(thoughts *t, const cop__text *parts, uint32_t n) {
    if (t->n_states == t->options.max_states)
        return COP_FAIL(COP_ERR_NO_ROOM, "thoughts: more than %u candidates in a step (max_states)",
                        t->n_states);
    thought *state = &t->states[t->n_states++];
    *state = (thought){.calls = COP_RULE_NONE};
    return cop__prompts_join(&t->pool, parts, n, &state->text);
}

static cop_status generate(thoughts *t) {
    cop__text template = cop__text_of(t->options.generate_prompt);
    t->first_call = t->n_calls;
    for (uint32_t i = 0; i < t->n_frontier; i++) {
        cop__text prompt;
        COP_TRY(
            cop__thoughts_prompt(t, template, t->frontier[i].text, (cop__text){"", 0}, &prompt));
        for (uint32_t j = 0; j < (t->options.propose ? 1 : t->options.n_generate); j++)
            COP_TRY(cop__thoughts_call(t, prompt, i, true));
    }
    t->stage = THOUGHTS_GENERATE;
    return COP_OK;
}

static cop_status take_candidates(thoughts *t) {
    t->n_states = 0;
    for (uint32_t c = t->first_call; c < t->n_calls; c++) {
        cop__text before = t->frontier[t->calls[c].of].text, line;
        if (!t->options.propose) {
            COP_TRY(add_state(t, (const cop__text[]){before, t->calls[c].reply}, 2));
            continue;
        }
        for (size_t at = 0; cop_thought_line(t->calls[c].reply, &at, &line);)
            COP_TRY(add_state(t, (const cop__text[]){before, line, cop__text_of("\n")}, 3));
    }
    return COP_OK;
}

/* The slot of a table of numbers + 1 in which the text stands, or the empty one for it. */
static uint32_t *find_slot(uint32_t *table, uint32_t mask, uint64_t hash, cop__text text,
                           cop__text (*text_at)(const thoughts *, uint32_t), const thoughts *t) {
    uint32_t at = (uint32_t)hash & mask;
    while (table[at] && !cop__text_equal(text_at(t, table[at] - 1), text))
        at = (at + 1) & mask;
    return &table[at];
}

static cop__text state_text(const thoughts *t, uint32_t i) {
    return t->states[i].text;
}

static cop__text known_prompt(const thoughts *t, uint32_t i) {
    return t->known[i].prompt;
}

/* `first` of each candidate: the first one of this text, itself where there is none before it. */
static void find_duplicates(thoughts *t) {
    memset(t->state_table, 0, (t->state_mask + 1) * sizeof *t->state_table);
    for (uint32_t i = 0; i < t->n_states; i++) {
        cop__text text = t->states[i].text;
        uint32_t *slot = find_slot(t->state_table, t->state_mask,
                                   cop__rule_hash(text.data, text.bytes), text, state_text, t);
        t->states[i].first = *slot ? *slot - 1 : i;
        if (!*slot)
            *slot = i + 1;
    }
}

/* Asks for what is not known; `calls` of a state is its prompt's place among the known ones. */
static cop_status ask_values(thoughts *t) {
    for (uint32_t i = 0; i < t->n_states; i++) {
        cop__text prompt;
        if (t->states[i].first != i)
            continue;
        COP_TRY(cop__thoughts_prompt(t, cop__text_of(t->options.evaluate_prompt), t->states[i].text,
                                     (cop__text){"", 0}, &prompt));
        uint32_t *slot =
            find_slot(t->known_table, t->known_mask, cop__rule_hash(prompt.data, prompt.bytes),
                      prompt, known_prompt, t);
        if (*slot) {
            t->states[i].calls = *slot - 1;
            continue;
        }
        if (t->n_known == t->rule.limits.max_branches)
            return COP_FAIL(COP_ERR_NO_ROOM, "thoughts: more than %u calls", t->n_known);
        t->states[i].calls = t->n_known;
        t->known[t->n_known++] = (known){.prompt = prompt};
        *slot = t->n_known;
        for (uint32_t j = 0; j < t->options.n_evaluate; j++)
            COP_TRY(cop__thoughts_call(t, prompt, t->states[i].calls, false));
    }
    return COP_OK;
}

static cop_status ask_votes(thoughts *t) {
    cop__text choices = {"", 0}, prompt;
    for (uint32_t i = 0; i < t->n_states; i++) {
        char head[32];
        int n = snprintf(head, sizeof head, "Choice %u:\n", i + 1);
        const cop__text parts[] = {
            choices, {head, (size_t)n}, t->states[i].text, cop__text_of("\n")};
        COP_TRY(cop__prompts_join(&t->pool, parts, 4, &choices));
    }
    COP_TRY(cop__thoughts_prompt(t, cop__text_of(t->options.evaluate_prompt), (cop__text){"", 0},
                                 choices, &prompt));
    for (uint32_t j = 0; j < t->options.n_evaluate; j++)
        COP_TRY(cop__thoughts_call(t, prompt, 0, false));
    return COP_OK;
}

static void take_values(thoughts *t) {
    const cop_thoughts_options *o = &t->options;
    for (uint32_t c = t->first_call; c < t->n_calls; c++) {
        uint32_t word = cop_thought_word(t->calls[c].reply, o->values, o->n_values);
        if (word < o->n_values)
            t->known[t->calls[c].of].counts[word]++;
    }
    for (uint32_t i = 0; i < t->n_states; i++) {
        t->states[i].value = 0;
        if (t->states[i].first != i) {
            if (o->duplicates_share)
                t->states[i].value = t->states[t->states[i].first].value;
            continue;
        }
        const known *k = &t->known[t->states[i].calls];
        for (uint32_t w = 0; w < o->n_values; w++)
            t->states[i].value += o->values[w].value * k->counts[w];
    }
}

static void take_votes(thoughts *t) {
    for (uint32_t i = 0; i < t->n_states; i++)
        t->states[i].value = 0;
    for (uint32_t c = t->first_call; c < t->n_calls; c++) {
        uint32_t choice = cop_thought_vote(t->calls[c].reply, t->options.vote_whole_number);
        if (choice >= 1 && choice <= t->n_states)
            t->states[choice - 1].value++;
    }
}

/* The n_select best, earlier ones first among equals: `tried` marks those that are taken. */
static void select_greedy(thoughts *t) {
    t->n_frontier = 0;
    while (t->n_frontier < t->options.n_select && t->n_frontier < t->n_states) {
        thought *best = NULL;
        for (uint32_t i = 0; i < t->n_states; i++) {
            if (!t->states[i].tried && (!best || t->states[i].value > best->value))
                best = &t->states[i];
        }
        best->tried = 1;
        t->frontier[t->n_frontier++] = *best;
    }
}

static cop_status select_sample(thoughts *t) {
    double sum = 0;
    for (uint32_t i = 0; i < t->n_states; i++)
        sum += t->states[i].value;
    if (!(sum > 0) && !t->options.zero_sum_uniform)
        return COP_FAIL(COP_ERR_NONFINITE,
                        "thoughts: all %u candidates of step %u are worth 0: nothing can be drawn "
                        "(zero_sum_uniform draws them alike)",
                        t->n_states, t->step + 1);
    t->n_frontier = 0;
    for (uint32_t n = 0; n < t->options.n_select && t->n_states > 0; n++) {
        const cop_rng_key key = {t->options.seed, t->step, n};
        double at = cop_rng_uniform(key, 0), below = 0;
        uint32_t chosen = t->n_states - 1;
        for (uint32_t i = 0; i < t->n_states; i++) {
            below += sum > 0 ? t->states[i].value / sum : 1.0 / t->n_states;
            if (at < below) {
                chosen = i;
                break;
            }
        }
        t->frontier[t->n_frontier++] = t->states[chosen];
    }
    return COP_OK;
}

cop_status cop__thoughts_bfs(thoughts *t) {
    switch (t->stage) {
    case THOUGHTS_BEGIN:
        return generate(t);
    case THOUGHTS_GENERATE:
        COP_TRY(take_candidates(t));
        find_duplicates(t);
        t->first_call = t->n_calls;
        t->stage = THOUGHTS_EVALUATE;
        return t->options.vote ? ask_votes(t) : ask_values(t);
    default:
        break;
    }
    if (t->options.vote)
        take_votes(t);
    else
        take_values(t);
    t->visited += t->n_states;
    if (t->options.sample_select)
        COP_TRY(select_sample(t));
    else
        select_greedy(t);
    for (uint32_t i = 0; i < t->n_frontier; i++)
        t->frontier[i].tried = 0;
    if (++t->step == t->options.steps || t->n_frontier == 0) {
        t->stage = THOUGHTS_OVER;
        return COP_OK;
    }
    return generate(t);
}
