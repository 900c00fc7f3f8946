#include "reason/rules/dynasor.h"

#include <stdio.h>
#include <string.h>

#include "reason/rules/probe_text.h"
#include "reason/rules/rule_internal.h"

const char cop_dynasor_suffix[] = "... Oh, I suddenly got the answer to the whole problem, **Final "
                                  "Answer**\n\n\\[ \\boxed{";

static const char think_end[] = "</think>";

enum { CLOSING_BYTES = 2048 };

typedef struct answer {
    cop__rule_text text;
    bool certain;
} answer;

typedef struct path { /* one branch */
    uint32_t probes;  /* used */
    uint32_t ask_at;  /* tokens at which the next one is made */
    uint32_t use_at;  /* tokens at which the one that is out is used */
    uint32_t think;   /* bytes of "</think>" that the text ends with; all: it was said */
    bool heard;       /* the probe that is out has answered, and is not used yet */
    bool due;
} path;

typedef struct dynasor {
    cop_rule rule;
    cop_dynasor_options options;
    path *paths;
    answer *answers; /* [max_branches][k + 1]: the last k, and the one that waits to be used */
    char *closing;   /* [max_branches][CLOSING_BYTES] */
    uint32_t *due;
    uint32_t n_due;
} dynasor;

static answer *answer_at(dynasor *d, uint32_t branch, uint32_t number) {
    return &d->answers[(size_t)branch * (d->options.k + 1) + number % (d->options.k + 1)];
}

static void mark_due(dynasor *d, uint32_t branch) {
    if (!d->paths[branch].due) {
        d->paths[branch].due = true;
        d->due[d->n_due++] = branch;
    }
}

static void dynasor_open(cop_rule *rule, uint32_t branch) {
    dynasor *d = (dynasor *)rule;
    uint32_t chunk = d->options.chunk, max = rule->limits.max_tokens;
    d->paths[branch] = (path){0};
    if (d->options.mode == COP_DYNASOR_CLIENT)
        mark_due(d, branch);
    else
        d->paths[branch].ask_at = max && max < chunk ? max : chunk;
}

static void follow_think(path *p, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes && p->think < sizeof think_end - 1; i++)
        p->think = text[i] == think_end[p->think] ? p->think + 1 : text[i] == '<';
}

static void dynasor_token(cop_rule *rule, const cop_rule_token *token) {
    dynasor *d = (dynasor *)rule;
    path *p = &d->paths[token->branch];
    uint32_t tokens = rule->branches[token->branch].tokens;
    follow_think(p, token->text, token->bytes);
    if (token->is_end) /* the request was over there; the next chunk goes on behind it */
        p->ask_at = tokens;
    if (tokens == p->ask_at || tokens == p->use_at)
        mark_due(d, token->branch);
}

static cop_status dynasor_probe(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    dynasor *d = (dynasor *)rule;
    path *p = &d->paths[branch];
    size_t length = cop_probe_boxed(text, bytes);
    if (length > COP_RULE_TEXT_BYTES)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "dynasor: a probe's answer has %zu bytes; at most %d are "
                        "kept",
                        length, COP_RULE_TEXT_BYTES);
    answer *a = answer_at(d, branch, p->probes);
    cop__rule_text_set(&a->text, text, length);
    a->certain = cop_probe_certain(text, bytes);
    p->heard = true;
    mark_due(d, branch);
    return COP_OK;
}

/* Whether the last k answers, the newest included, are one class, given, and without doubt. */
static bool agrees(dynasor *d, uint32_t branch) {
    uint32_t k = d->options.k, n = d->paths[branch].probes;
    if (n < k)
        return false;
    const answer *first = answer_at(d, branch, n - k);
    for (uint32_t i = n - k; i < n; i++) {
        const answer *a = answer_at(d, branch, i);
        if (a->text.bytes == 0 || !a->certain)
            return false;
        if (i > n - k && !cop__rule_equal(&d->rule, &a->text, &first->text))
            return false;
    }
    return true;
}

static bool is_sure(dynasor *d, uint32_t branch) {
    const cop_dynasor_options *o = &d->options;
    uint32_t n = d->paths[branch].probes;
    if (o->mode == COP_DYNASOR_CLIENT || o->agree)
        return agrees(d, branch);
    return n >= o->k && answer_at(d, branch, n - 1)->certain;
}

static void finish(dynasor *d, uint32_t branch) {
    const path *p = &d->paths[branch];
    const cop__rule_text *a = &answer_at(d, branch, p->probes - 1)->text;
    char *text = d->closing + (size_t)branch * CLOSING_BYTES;
    bool thought = p->think == sizeof think_end - 1;
    int n = d->options.mode == COP_DYNASOR_SERVER
                ? snprintf(text, CLOSING_BYTES, "%s%.*s} \\]", d->options.suffix, (int)a->bytes,
                           a->data)
                : snprintf(text, CLOSING_BYTES,
                           "\n\n...%s Oh, I have got the answer to the whole problem\n**Final "
                           "Answer:**\n\\[\n \\boxed{%.*s}\n\\]",
                           thought ? "" : "</think>\n", (int)a->bytes, a->data);
    d->rule.branches[branch].answer = *a;
    d->rule.branches[branch].has_answer = a->bytes > 0;
    cop__rule_finish(&d->rule, branch, COP_REASON_CERTAIN, text, (size_t)n);
}

static bool can_use(const dynasor *d, uint32_t branch) {
    const path *p = &d->paths[branch];
    return p->heard && d->rule.branches[branch].tokens >= p->use_at;
}

static bool can_ask(const dynasor *d, uint32_t branch) {
    const path *p = &d->paths[branch];
    uint32_t tokens = d->rule.branches[branch].tokens, max = d->rule.limits.max_tokens;
    if (d->rule.branches[branch].probing || p->heard || tokens < p->ask_at)
        return false;
    return d->options.mode == COP_DYNASOR_SERVER || !max || tokens < max;
}

/* The client's probe is used a chunk later; the server's at once, and its last chunk is cut. */
static void ask(dynasor *d, uint32_t branch) {
    const cop_decision probe = {.text = d->options.suffix,
                                .bytes = strlen(d->options.suffix),
                                .max_tokens = d->options.probe_tokens,
                                .temperature = d->options.temperature,
                                .top_p = d->options.top_p};
    path *p = &d->paths[branch];
    uint32_t tokens = d->rule.branches[branch].tokens, max = d->rule.limits.max_tokens;
    bool client = d->options.mode == COP_DYNASOR_CLIENT;
    p->use_at = client ? p->ask_at + d->options.chunk : tokens;
    p->ask_at = client ? p->use_at : tokens + d->options.chunk;
    if (!client && max && p->ask_at > max)
        p->ask_at = tokens < max ? max : UINT32_MAX;
    cop__rule_ask(&d->rule, branch, &probe);
}

static cop_status dynasor_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    dynasor *d = (dynasor *)rule;
    uint32_t n = d->n_due;
    d->n_due = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t branch = d->due[i];
        path *p = &d->paths[branch];
        p->due = false;
        if (!cop__rule_is_live(rule, branch))
            continue;
        if (can_use(d, branch)) {
            p->heard = false;
            p->probes++;
            if (is_sure(d, branch)) {
                finish(d, branch);
                continue;
            }
        }
        if (can_ask(d, branch))
            ask(d, branch);
    }
    return COP_OK;
}

static void dynasor_reset(cop_rule *rule) {
    ((dynasor *)rule)->n_due = 0;
}

/* The answer of the first branch that has one. */
static bool dynasor_answer(cop_rule *rule, const char **text, size_t *bytes) {
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        const cop__rule_branch *b = &rule->branches[i];
        if (b->state != RULE_ENDED || !b->has_answer)
            continue;
        *text = b->answer.data;
        *bytes = b->answer.bytes;
        return true;
    }
    return false;
}

static const cop__rule_ops dynasor_ops = {.name = "dynasor",
                                          .open = dynasor_open,
                                          .token = dynasor_token,
                                          .probe = dynasor_probe,
                                          .decide = dynasor_decide,
                                          .answer = dynasor_answer,
                                          .reset = dynasor_reset};

static cop_status check_options(const cop_dynasor_options *o) {
    if (o->k == 0 || o->chunk == 0 || o->probe_tokens == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dynasor: k %u, chunk %u and probe_tokens %u: each is at least 1", o->k,
                        o->chunk, o->probe_tokens);
    if (!o->suffix || strlen(o->suffix) == 0 ||
        strlen(o->suffix) > CLOSING_BYTES - COP_RULE_TEXT_BYTES - 256)
        return COP_FAIL(COP_ERR_CONFIG, "dynasor: the probe's text has 1 to %d bytes",
                        CLOSING_BYTES - COP_RULE_TEXT_BYTES - 256);
    if (o->mode == COP_DYNASOR_CLIENT && (o->agree || o->heeds_end))
        return COP_FAIL(COP_ERR_CONFIG, "dynasor: agree and heeds_end mend the server's rule; the "
                                        "client's has both already");
    return COP_OK;
}

cop_status cop_dynasor_create(const cop_rule_limits *limits, const cop_dynasor_options *options,
                              cop_rule **out) {
    COP_TRY(check_options(options));
    dynasor *d = NULL;
    COP_TRY(cop__rule_create(&dynasor_ops, sizeof *d, limits, 1, &d));
    d->options = *options;
    cop_status status = COP_OK;
    uint32_t n = limits->max_branches;
    d->paths = cop__rule_calloc(&d->rule, n, sizeof *d->paths, &status);
    d->answers =
        cop__rule_calloc(&d->rule, (size_t)n * (options->k + 1), sizeof *d->answers, &status);
    d->closing = cop__rule_calloc(&d->rule, n, CLOSING_BYTES, &status);
    d->due = cop__rule_calloc(&d->rule, n, sizeof *d->due, &status);
    char *suffix = cop__rule_calloc(&d->rule, strlen(options->suffix) + 1, 1, &status);
    if (status != COP_OK) {
        cop_rule_destroy(&d->rule);
        return status;
    }
    d->options.suffix = strcpy(suffix, options->suffix);
    bool server = options->mode == COP_DYNASOR_SERVER;
    d->rule.needs = (cop_rule_needs){.probes = true,
                                     .probes_at_start = !server,
                                     .ignores_end = server && !options->heeds_end,
                                     .probe_text = d->options.suffix,
                                     .probe_tokens = options->probe_tokens,
                                     .probe_every = options->chunk};
    *out = &d->rule;
    return COP_OK;
}
