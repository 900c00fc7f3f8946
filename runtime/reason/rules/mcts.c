#include "reason/rules/mcts.h"

#include <math.h>
#include <string.h>

#include "reason/rules/prompt_pool.h"

typedef struct node {
    cop__text text;
    uint32_t parent, depth;
    uint32_t first, n_children; /* in a row */
    uint32_t visits;
    double total, worth;
    bool expanded, valued;
} node;

typedef struct mcts {
    cop_rule rule;
    cop_mcts_options options;
    cop__prompts pool;
    size_t kept;
    cop__text input;
    node *nodes;
    uint32_t n_nodes, max_nodes, current;
    uint32_t done, n_calls, first_call, calls_left;
    cop__text *replies; /* [max_branches] by tag */
    enum { SELECT, EXPANDED, VALUED, OVER } stage;
    cop_status failed;
} mcts;

static cop_status call(mcts *m, const char *template, bool stops, uint32_t times) {
    const cop__slot slots[] = {{"{input}", m->input}, {"{state}", m->nodes[m->current].text}};
    cop__text prompt;
    COP_TRY(cop__prompts_fill(&m->pool, cop__text_of(template), slots, 2, &prompt));
    m->first_call = m->n_calls;
    for (uint32_t i = 0; i < times; i++) {
        if (m->n_calls == m->rule.limits.max_branches)
            return COP_FAIL(COP_ERR_NO_ROOM, "mcts: more than %u calls", m->n_calls);
        COP_TRY(cop__rule_run(&m->rule, &(cop_decision){.text = prompt.data,
                                                        .bytes = prompt.bytes,
                                                        .stop = stops ? m->options.stop : NULL,
                                                        .max_tokens = m->options.max_tokens,
                                                        .temperature = m->options.temperature,
                                                        .tag = m->n_calls++}));
        m->calls_left++;
    }
    return COP_OK;
}

static uint32_t best_child(const mcts *m, const node *parent) {
    uint32_t best = parent->first;
    double highest = -INFINITY;
    for (uint32_t i = parent->first; i < parent->first + parent->n_children; i++) {
        const node *n = &m->nodes[i];
        if (n->visits == 0)
            return i;
        double bound =
            n->total / n->visits + m->options.c * sqrt(log(parent->visits) / (double)n->visits);
        if (bound > highest) {
            highest = bound;
            best = i;
        }
    }
    return best;
}

static cop_status value(mcts *m) {
    m->stage = VALUED;
    if (m->nodes[m->current].valued)
        return COP_OK;
    return call(m, m->options.evaluate_prompt, false, m->options.n_evaluate);
}

static cop_status select_node(mcts *m) {
    if (m->done == m->options.iterations) {
        m->stage = OVER;
        return COP_OK;
    }
    m->current = 0;
    while (m->nodes[m->current].n_children > 0)
        m->current = best_child(m, &m->nodes[m->current]);
    const node *n = &m->nodes[m->current];
    bool grows = !n->expanded && n->depth < m->options.max_depth;
    if (!grows || (n->visits == 0 && m->current != 0))
        return value(m);
    m->stage = EXPANDED;
    return call(m, m->options.generate_prompt, true, m->options.n_expand);
}

static cop_status take_children(mcts *m) {
    node *parent = &m->nodes[m->current];
    parent->expanded = true;
    parent->first = m->n_nodes;
    for (uint32_t c = m->first_call; c < m->n_calls; c++) {
        const cop__text parts[] = {parent->text, m->replies[c]};
        cop__text text;
        bool known = m->replies[c].bytes == 0;
        COP_TRY(cop__prompts_join(&m->pool, parts, 2, &text));
        for (uint32_t i = parent->first; i < m->n_nodes && !known; i++)
            known = cop__text_equal(m->nodes[i].text, text);
        if (known)
            continue;
        m->nodes[m->n_nodes++] =
            (node){.text = text, .parent = m->current, .depth = parent->depth + 1};
        parent->n_children++;
    }
    if (parent->n_children > 0)
        m->current = parent->first;
    return value(m);
}

static void back_up(mcts *m) {
    const cop_mcts_options *o = &m->options;
    node *n = &m->nodes[m->current];
    if (!n->valued) {
        double sum = 0;
        for (uint32_t c = m->first_call; c < m->n_calls; c++) {
            uint32_t word = cop_thought_word(m->replies[c], o->values, o->n_values);
            sum += word < o->n_values ? o->values[word].value : 0;
        }
        n->worth = sum / o->n_evaluate;
        n->valued = true;
    }
    double worth = n->worth;
    for (uint32_t i = m->current;; i = m->nodes[i].parent) {
        m->nodes[i].visits++;
        m->nodes[i].total += worth;
        if (i == 0)
            break;
    }
    m->done++;
    m->stage = SELECT;
}

static cop_status mcts_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    mcts *m = (mcts *)rule;
    COP_TRY(m->failed);
    while (m->calls_left == 0 && m->stage != OVER) {
        if (m->stage == SELECT)
            COP_TRY(select_node(m));
        else if (m->stage == EXPANDED)
            COP_TRY(take_children(m));
        else
            back_up(m);
    }
    if (m->stage == OVER)
        cop__rule_stop(rule, COP_REASON_DONE, true);
    return COP_OK;
}

static cop_status take(mcts *m, uint32_t branch, const char *text, size_t bytes) {
    uint32_t tag = m->rule.branches[branch].group;
    if (tag < m->first_call || tag >= m->n_calls || m->calls_left == 0)
        return COP_OK;
    m->calls_left--;
    return cop__prompts_copy(&m->pool, text, bytes, &m->replies[tag]);
}

static cop_status mcts_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    return take((mcts *)rule, branch, text, bytes);
}

static void mcts_left(cop_rule *rule, uint32_t branch) {
    mcts *m = (mcts *)rule;
    cop_status status = take(m, branch, "", 0);
    m->failed = m->failed == COP_OK ? status : m->failed;
}

static bool mcts_answer(cop_rule *rule, const char **text, size_t *bytes) {
    mcts *m = (mcts *)rule;
    const node *n = &m->nodes[0];
    if (m->stage != OVER || n->n_children == 0)
        return false;
    while (n->n_children > 0) {
        const node *best = &m->nodes[n->first];
        for (uint32_t i = 1; i < n->n_children; i++) {
            if (m->nodes[n->first + i].visits > best->visits)
                best = &m->nodes[n->first + i];
        }
        if (best->visits == 0)
            break;
        n = best;
    }
    *text = n->text.data;
    *bytes = n->text.bytes;
    return true;
}

static void mcts_reset(cop_rule *rule) {
    mcts *m = (mcts *)rule;
    m->pool.used = m->kept;
    m->failed = COP_OK;
    m->nodes[0] = (node){.text = {"", 0}};
    m->n_nodes = 1;
    m->current = m->done = m->n_calls = m->first_call = m->calls_left = 0;
    m->stage = SELECT;
}

static cop_status mcts_input(cop_rule *rule, const char *text, size_t bytes) {
    mcts *m = (mcts *)rule;
    return cop__prompts_copy(&m->pool, text, bytes, &m->input);
}

static const cop__rule_ops mcts_ops = {.name = "mcts",
                                       .end = mcts_end,
                                       .left = mcts_left,
                                       .decide = mcts_decide,
                                       .answer = mcts_answer,
                                       .input = mcts_input,
                                       .reset = mcts_reset};

static cop_status copy_option(mcts *m, const char **text) {
    cop__text copy;
    if (!*text)
        return COP_OK;
    COP_TRY(cop__prompts_copy(&m->pool, *text, strlen(*text), &copy));
    *text = copy.data;
    return COP_OK;
}

static cop_status create_parts(mcts *m) {
    cop_mcts_options *o = &m->options;
    cop_status status = COP_OK;
    m->nodes = cop__rule_calloc(&m->rule, m->max_nodes, sizeof *m->nodes, &status);
    m->replies =
        cop__rule_calloc(&m->rule, m->rule.limits.max_branches, sizeof *m->replies, &status);
    COP_TRY(status);
    COP_TRY(cop__prompts_create(&m->rule, o->max_text_bytes, &m->pool));
    COP_TRY(copy_option(m, &o->generate_prompt));
    COP_TRY(copy_option(m, &o->evaluate_prompt));
    COP_TRY(copy_option(m, &o->stop));
    for (uint32_t i = 0; i < o->n_values; i++)
        COP_TRY(copy_option(m, &o->values[i].word));
    m->kept = m->pool.used;
    return cop_mcts_input(&m->rule, o->input ? o->input : "");
}

cop_status cop_mcts_input(cop_rule *rule, const char *input) {
    mcts_reset(rule);
    return mcts_input(rule, input, strlen(input));
}

cop_status cop_mcts_create(const cop_rule_limits *limits, const cop_mcts_options *options,
                           cop_rule **out) {
    const cop_mcts_options *o = options;
    if (!o->generate_prompt || !o->evaluate_prompt || o->n_values == 0 ||
        o->n_values > COP_THOUGHTS_VALUES)
        return COP_FAIL(COP_ERR_CONFIG,
                        "mcts: generate_prompt, evaluate_prompt and 1 to %d values are needed",
                        COP_THOUGHTS_VALUES);
    if (o->iterations == 0 || o->n_expand == 0 || o->n_evaluate == 0 || o->max_depth == 0 ||
        !(o->c >= 0))
        return COP_FAIL(COP_ERR_CONFIG, "mcts: iterations, n_expand, n_evaluate and max_depth are "
                                        "at least 1, c at least 0");
    mcts *m = NULL;
    COP_TRY(cop__rule_create(&mcts_ops, sizeof *m, limits, 1, &m));
    m->options = *o;
    m->rule.needs.runs_prompts = true;
    m->rule.needs.text_bytes = o->max_text_bytes;
    m->max_nodes = 1 + limits->max_branches; /* each but the root is a call's reply */
    cop_status status = create_parts(m);
    if (status != COP_OK) {
        cop_rule_destroy(&m->rule);
        return status;
    }
    *out = &m->rule;
    return COP_OK;
}

uint32_t cop_mcts_nodes(const cop_rule *rule) {
    return ((const mcts *)rule)->n_nodes;
}
