#include "reason/rules/step.h"

#include <math.h>
#include <string.h>

#include "reason/rules/rule_internal.h"
#include "reason/rules/vote.h"

typedef struct mean {
    double sum;
    uint32_t n;
} mean;

typedef struct step {
    cop_rule rule;
    cop_step_options options;
    size_t step_bytes;
    mean *means;
    float *scratch;
    cop_vote vote;
} step;

static void step_open(cop_rule *rule, uint32_t branch) {
    ((step *)rule)->means[branch] = (mean){0};
}

static void step_token(cop_rule *rule, const cop_rule_token *token) {
    step *s = (step *)rule;
    if (token->bytes >= s->step_bytes &&
        memmem(token->text, token->bytes, s->options.step_text, s->step_bytes))
        rule->branches[token->branch].wants_hidden = true;
}

static cop_status step_hidden(cop_rule *rule, uint32_t branch, const float *hidden) {
    step *s = (step *)rule;
    double score = cop_mlp_score(s->options.mlp, hidden, s->scratch);
    if (isnan(score))
        return COP_FAIL(COP_ERR_NONFINITE, "step: the hidden state of branch %u is not finite",
                        branch);
    s->means[branch].sum += score;
    s->means[branch].n++;
    return COP_OK;
}

static double step_score(const cop_rule *rule, uint32_t branch) {
    const mean *m = &((const step *)rule)->means[branch];
    return m->n ? m->sum / m->n : (double)NAN;
}

static uint32_t step_victim(const cop_rule *rule) {
    const step *s = (const step *)rule;
    uint32_t victim = COP_RULE_NONE;
    double lowest = INFINITY;
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        if (!cop__rule_is_live(rule, i))
            continue;
        double score = s->means[i].n ? s->means[i].sum / s->means[i].n : 0;
        if (score <= lowest) {
            lowest = score;
            victim = i;
        }
    }
    return victim;
}

static bool step_answer(cop_rule *rule, const char **text, size_t *bytes) {
    step *s = (step *)rule;
    cop_vote_reset(&s->vote);
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        const cop__rule_branch *b = &rule->branches[i];
        bool votes = b->state == RULE_ENDED || (s->options.pruned_votes && b->state == RULE_PRUNED);
        if (votes && b->has_answer && s->means[i].n > 0)
            cop_vote_add(&s->vote, &b->answer, step_score(rule, i));
    }
    const cop_vote_class *winner = cop_vote_by_weight(&s->vote);
    if (!winner)
        return false;
    *text = winner->text->data;
    *bytes = winner->text->bytes;
    return true;
}

static const cop__rule_ops step_ops = {.name = "step",
                                       .open = step_open,
                                       .token = step_token,
                                       .hidden = step_hidden,
                                       .victim = step_victim,
                                       .answer = step_answer,
                                       .score = step_score};

cop_status cop_step_create(const cop_rule_limits *limits, const cop_step_options *options,
                           cop_rule **out) {
    if (!options->mlp)
        return COP_FAIL(COP_ERR_CONFIG, "step: a scorer is needed: name its safetensors file");
    if (!options->step_text || !options->step_text[0])
        return COP_FAIL(COP_ERR_CONFIG, "step: the text that ends a step is empty");
    step *s = NULL;
    COP_TRY(cop__rule_create(&step_ops, sizeof *s, limits, 1, &s));
    s->options = *options;
    s->step_bytes = strlen(options->step_text);
    cop_status status = COP_OK;
    s->means = cop__rule_calloc(&s->rule, limits->max_branches, sizeof *s->means, &status);
    s->scratch =
        cop__rule_calloc(&s->rule, cop_mlp_inner(options->mlp), sizeof *s->scratch, &status);
    char *text = cop__rule_calloc(&s->rule, s->step_bytes + 1, 1, &status);
    if (status == COP_OK)
        status = cop_vote_create(&s->rule, limits->max_branches, true, &s->vote);
    if (status != COP_OK) {
        cop_rule_destroy(&s->rule);
        return status;
    }
    s->options.step_text = strcpy(text, options->step_text);
    s->rule.needs.hidden = cop_mlp_hidden(options->mlp);
    *out = &s->rule;
    return COP_OK;
}
