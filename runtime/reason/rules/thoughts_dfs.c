#include <string.h>

#include "reason/rules/thoughts_internal.h"

/* states[0] is the empty one, where the search begins; the others were visited, in that order. A
 * state's proposals stand in `proposals` and `weights` from `first` on, best first. */

static cop_status propose(thoughts *t) {
    cop__text prompt;
    const thought *state = &t->states[t->current];
    COP_TRY(cop__thoughts_prompt(t, cop__text_of(t->options.generate_prompt), state->text,
                                 (cop__text){"", 0}, &prompt));
    t->first_call = t->n_calls;
    for (uint32_t i = 0; i < t->options.n_generate; i++)
        COP_TRY(cop__thoughts_call(t, prompt, t->current, true));
    t->stage = THOUGHTS_GENERATE;
    return COP_OK;
}

static cop_status add_proposal(thoughts *t, thought *state, cop__text said, double weight) {
    cop__text text;
    COP_TRY(cop__prompts_copy(&t->pool, said.data, said.bytes, &text));
    for (size_t i = 0; i < text.bytes; i++) {
        char *c = (char *)(uintptr_t)&text.data[i];
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    for (uint32_t i = state->first; i < t->n_proposals; i++) {
        if (cop__text_equal(t->proposals[i], text)) {
            t->weights[i] += weight;
            return COP_OK;
        }
    }
    if (t->n_proposals == t->options.max_states)
        return COP_FAIL(COP_ERR_NO_ROOM, "thoughts: more than %u proposals (max_states)",
                        t->n_proposals);
    t->proposals[t->n_proposals] = text;
    t->weights[t->n_proposals++] = weight;
    state->children++;
    return COP_OK;
}

/* By falling weight, and stable. */
static void sort_proposals(thoughts *t, uint32_t first, uint32_t n) {
    for (uint32_t i = first + 1; i < first + n; i++) {
        cop__text text = t->proposals[i];
        double weight = t->weights[i];
        uint32_t at = i;
        for (; at > first && t->weights[at - 1] < weight; at--) {
            t->proposals[at] = t->proposals[at - 1];
            t->weights[at] = t->weights[at - 1];
        }
        t->proposals[at] = text;
        t->weights[at] = weight;
    }
}

static cop_status take_proposals(thoughts *t) {
    thought *state = &t->states[t->current];
    state->first = t->n_proposals;
    for (uint32_t c = t->first_call; c < t->n_calls; c++) {
        cop__text line, said;
        double weight;
        for (size_t at = 0; cop_thought_line(t->calls[c].reply, &at, &line);) {
            if (cop_thought_proposal(line, &said, &weight))
                COP_TRY(add_proposal(t, state, said, weight));
        }
    }
    sort_proposals(t, state->first, state->children);
    return COP_OK;
}

/* Visits the current state's next child, or one of a state above: asks what it is worth. */
static cop_status visit_next(thoughts *t) {
    const cop_thoughts_options *o = &t->options;
    for (;;) {
        thought *state = &t->states[t->current];
        bool more = state->tried < state->children && t->visited < o->max_visited &&
                    state->depth + 1 < o->max_depth && state->kept < o->n_select;
        if (more)
            break;
        if (t->current == 0) {
            t->stage = THOUGHTS_OVER;
            return COP_OK;
        }
        t->current = state->parent;
    }
    if (t->n_states == o->max_states)
        return COP_FAIL(COP_ERR_NO_ROOM, "thoughts: more than %u states (max_states)", t->n_states);
    thought *state = &t->states[t->current], *child = &t->states[t->n_states];
    const cop__text parts[] = {state->text, t->proposals[state->first + state->tried],
                               cop__text_of("\n")};
    cop__text prompt;
    state->tried++;
    state->kept++;
    *child = (thought){.parent = t->current, .depth = state->depth + 1};
    COP_TRY(cop__prompts_join(&t->pool, parts, 3, &child->text));
    COP_TRY(cop__thoughts_prompt(t, cop__text_of(o->evaluate_prompt), child->text,
                                 (cop__text){"", 0}, &prompt));
    t->current = t->n_states++;
    t->visited++;
    t->first_call = t->n_calls;
    t->stage = THOUGHTS_EVALUATE;
    for (uint32_t i = 0; i < o->n_evaluate; i++)
        COP_TRY(cop__thoughts_call(t, prompt, t->current, false));
    return COP_OK;
}

/* What the value calls say of the current state; true when it may be searched further. */
static bool take_status(thoughts *t) {
    const cop_thoughts_options *o = &t->options;
    thought *state = &t->states[t->current];
    bool possible = true;
    for (uint32_t c = t->first_call; c < t->n_calls; c++) {
        cop__text line;
        for (size_t at = 0; cop_thought_line(t->calls[c].reply, &at, &line);) {
            uint32_t word = cop_thought_word(line, o->values, o->n_values);
            state->value += word < o->n_values ? o->values[word].value : 0;
            if (o->prune && cop__text_equal(line, cop__text_of(o->prune_word)))
                possible = false;
        }
    }
    return possible;
}

cop_status cop__thoughts_dfs(thoughts *t) {
    switch (t->stage) {
    case THOUGHTS_BEGIN:
        t->states[0] = (thought){.text = {"", 0}};
        t->n_states = 1;
        return propose(t);
    case THOUGHTS_GENERATE:
        COP_TRY(take_proposals(t));
        return visit_next(t);
    default:
        break;
    }
    if (take_status(t))
        return propose(t);
    t->current = t->states[t->current].parent;
    return visit_next(t);
}
