#include "reason/rules/samples.h"

#include <math.h>
#include <string.h>

#include "reason/prune.h"
#include "reason/rules/deepconf.h"
#include "reason/rules/rule_internal.h"
#include "reason/rules/vote.h"

typedef struct sample {
    double sum; /* of log-probabilities or step scores */
    uint32_t n;
    double score; /* COMMAND; NaN: none */
    size_t bytes;
    cop_confidence confidence;
} sample;

typedef struct samples {
    cop_rule rule;
    cop_samples_options options;
    sample *samples;
    double *rings;
    char *texts; /* [max_branches][max_text_bytes] */
    float *scratch;
    size_t step_bytes;
    cop_scorer_command *command;
    cop_vote vote;
    bool too_long;
} samples;

static bool scores_by(const samples *s, cop_scorer_kind kind) {
    return s->options.kind == COP_SAMPLES_BEST_OF && s->options.scorer == kind;
}

static void samples_open(cop_rule *rule, uint32_t branch) {
    samples *s = (samples *)rule;
    s->samples[branch] = (sample){.score = (double)NAN};
    if (scores_by(s, COP_SCORER_GROUP_CONFIDENCE))
        cop_confidence_init(&s->samples[branch].confidence,
                            s->rings + (size_t)branch * s->options.window, s->options.window);
}

static void samples_token(cop_rule *rule, const cop_rule_token *token) {
    samples *s = (samples *)rule;
    sample *x = &s->samples[token->branch];
    if (scores_by(s, COP_SCORER_MEAN_LOGPROB)) {
        x->sum += token->logprob;
        x->n++;
    } else if (scores_by(s, COP_SCORER_GROUP_CONFIDENCE)) {
        cop_confidence_add(&x->confidence, cop_deepconf_live(token->top_logprob, token->n_top));
    } else if (scores_by(s, COP_SCORER_MLP)) {
        rule->branches[token->branch].wants_hidden =
            token->bytes >= s->step_bytes &&
            memmem(token->text, token->bytes, s->options.step_text, s->step_bytes);
    } else if (scores_by(s, COP_SCORER_COMMAND)) {
        if (token->bytes > s->options.max_text_bytes - x->bytes) {
            s->too_long = true;
            return;
        }
        memcpy(s->texts + token->branch * s->options.max_text_bytes + x->bytes, token->text,
               token->bytes);
        x->bytes += token->bytes;
    }
}

static cop_status samples_hidden(cop_rule *rule, uint32_t branch, const float *hidden) {
    samples *s = (samples *)rule;
    double score = cop_mlp_score(s->options.mlp, hidden, s->scratch);
    if (isnan(score))
        return COP_FAIL(COP_ERR_NONFINITE, "best-of-n: the hidden state of branch %u is not finite",
                        branch);
    s->samples[branch].sum += score;
    s->samples[branch].n++;
    return COP_OK;
}

static cop_status samples_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    samples *s = (samples *)rule;
    if (s->too_long)
        return COP_FAIL(COP_ERR_NO_ROOM, "best-of-n: a sample's text is longer than %zu bytes",
                        s->options.max_text_bytes);
    if (!scores_by(s, COP_SCORER_COMMAND) || rule->branches[branch].how == COP_RULE_END_CUT)
        return COP_OK;
    sample *x = &s->samples[branch];
    const cop_scorer_question question = {.branch = branch,
                                          .tokens = rule->branches[branch].tokens,
                                          .answer = text,
                                          .answer_bytes = bytes,
                                          .text = s->texts + branch * s->options.max_text_bytes,
                                          .text_bytes = x->bytes};
    return cop_scorer_command_ask(s->command, &question, &x->score);
}

static double samples_score(const cop_rule *rule, uint32_t branch) {
    const samples *s = (const samples *)rule;
    const sample *x = &s->samples[branch];
    if (s->options.kind != COP_SAMPLES_BEST_OF)
        return (double)NAN;
    if (s->options.scorer == COP_SCORER_GROUP_CONFIDENCE)
        return cop_confidence_lowest(&x->confidence);
    if (s->options.scorer == COP_SCORER_COMMAND)
        return x->score;
    return x->n ? x->sum / x->n : (double)NAN;
}

static const cop__rule_text *best(const samples *s) {
    const cop__rule_text *chosen = NULL;
    double highest = -INFINITY;
    for (uint32_t i = 0; i < s->rule.n_branches; i++) {
        const cop__rule_branch *b = &s->rule.branches[i];
        double score = samples_score(&s->rule, i);
        if (b->state == RULE_ENDED && b->has_answer && (score > highest || !chosen) &&
            !isnan(score)) {
            chosen = &b->answer;
            highest = score;
        }
    }
    return chosen;
}

static const cop__rule_text *majority(samples *s) {
    cop_vote_reset(&s->vote);
    for (uint32_t i = 0; i < s->rule.n_branches; i++) {
        const cop__rule_branch *b = &s->rule.branches[i];
        if (b->state == RULE_ENDED && b->has_answer)
            cop_vote_add(&s->vote, &b->answer, 1);
    }
    const cop_vote_class *winner = cop_vote_by_count(&s->vote);
    return winner ? winner->text : NULL;
}

static bool samples_answer(cop_rule *rule, const char **text, size_t *bytes) {
    samples *s = (samples *)rule;
    const cop__rule_text *answer = s->options.kind == COP_SAMPLES_BEST_OF ? best(s) : majority(s);
    if (!answer)
        return false;
    *text = answer->data;
    *bytes = answer->bytes;
    return true;
}

static uint32_t samples_may_open(const cop_rule *rule) {
    const samples *s = (const samples *)rule;
    return s->options.n > rule->n_branches ? s->options.n - rule->n_branches : 0;
}

static void samples_reset(cop_rule *rule) {
    ((samples *)rule)->too_long = false;
}

static void samples_destroy(cop_rule *rule) {
    cop_scorer_command_stop(((samples *)rule)->command);
}

static const cop__rule_ops samples_ops[] = {
#define SAMPLES_OPS(word)                                                                          \
    {                                                                                              \
        .name = word, .open = samples_open, .token = samples_token, .hidden = samples_hidden,      \
        .end = samples_end, .may_open = samples_may_open, .answer = samples_answer,                \
        .score = samples_score, .reset = samples_reset, .destroy = samples_destroy                 \
    }
    SAMPLES_OPS("sequential"), SAMPLES_OPS("self-consistency"), SAMPLES_OPS("best-of-n")
#undef SAMPLES_OPS
};

static cop_status check_options(const cop_rule_limits *limits, const cop_samples_options *o) {
    const char *name = samples_ops[o->kind].name;
    bool scores = o->kind == COP_SAMPLES_BEST_OF;
    if (o->n == 0 || o->n > limits->max_branches)
        return COP_FAIL(COP_ERR_CONFIG, "%s: %u samples; 1 to the %u that can run", name, o->n,
                        limits->max_branches);
    if (o->kind == COP_SAMPLES_SEQUENTIAL && o->n != 1)
        return COP_FAIL(COP_ERR_CONFIG, "%s: %u samples contradict it: it is one", name, o->n);
    if (scores && o->scorer == COP_SCORER_GROUP_CONFIDENCE && o->window == 0)
        return COP_FAIL(COP_ERR_CONFIG, "%s: group confidence needs a window", name);
    if (scores && o->scorer == COP_SCORER_MLP && (!o->mlp || !o->step_text || !o->step_text[0]))
        return COP_FAIL(COP_ERR_CONFIG, "%s: an MLP scorer needs its file and a step_text", name);
    if (scores && o->scorer == COP_SCORER_COMMAND && !o->max_text_bytes && !limits->max_tokens)
        return COP_FAIL(COP_ERR_CONFIG, "%s: a command reads whole texts: say how long they are",
                        name);
    return COP_OK;
}

static cop_status create_scorer(samples *s) {
    cop_samples_options *o = &s->options;
    cop_status status = COP_OK;
    size_t n = s->rule.limits.max_branches;
    if (o->scorer == COP_SCORER_GROUP_CONFIDENCE) {
        s->rings = cop__rule_calloc(&s->rule, n * o->window, sizeof *s->rings, &status);
        s->rule.needs.top_logprobs = true;
    }
    if (o->scorer == COP_SCORER_MLP) {
        s->step_bytes = strlen(o->step_text);
        char *text = cop__rule_calloc(&s->rule, s->step_bytes + 1, 1, &status);
        s->scratch = cop__rule_calloc(&s->rule, cop_mlp_inner(o->mlp), sizeof *s->scratch, &status);
        if (text)
            o->step_text = strcpy(text, o->step_text);
        s->rule.needs.hidden = cop_mlp_hidden(o->mlp);
    }
    if (o->scorer == COP_SCORER_COMMAND) {
        if (!o->max_text_bytes)
            o->max_text_bytes = (size_t)s->rule.limits.max_tokens * 16;
        s->texts = cop__rule_calloc(&s->rule, n, o->max_text_bytes, &status);
        if (status == COP_OK)
            status = cop_scorer_command_start(&o->command, &s->command);
    }
    return status;
}

cop_status cop_samples_create(const cop_rule_limits *limits, const cop_samples_options *options,
                              cop_rule **out) {
    COP_TRY(check_options(limits, options));
    samples *s = NULL;
    COP_TRY(cop__rule_create(&samples_ops[options->kind], sizeof *s, limits, 1, &s));
    s->options = *options;
    cop_status status = COP_OK;
    s->samples = cop__rule_calloc(&s->rule, limits->max_branches, sizeof *s->samples, &status);
    if (status == COP_OK)
        status = cop_vote_create(&s->rule, limits->max_branches, false, &s->vote);
    if (status == COP_OK && options->kind == COP_SAMPLES_BEST_OF)
        status = create_scorer(s);
    if (status != COP_OK) {
        cop_rule_destroy(&s->rule);
        return status;
    }
    *out = &s->rule;
    return COP_OK;
}
