#include "reason/rules/skeleton.h"

#include <string.h>

#include "reason/rules/prompt_pool.h"

static const char role_switch[] = "[ROLESWITCHING assistant:]";

typedef struct template { /* before and after the switch of roles */
    cop__text prompt, partial;
}
template;

typedef struct point {
    cop__text number, outline, partial, reply;
} point;

typedef struct skeleton {
    cop_rule rule;
    cop_skeleton_options options;
    cop__prompts pool;
    size_t kept; /* of the pool: templates and joiner */
    template outline_template, point_template;
    cop__text joiner, request, outline_partial, outline, answer;
    point *points;
    uint32_t n_points, left;
    enum { BEGIN, OUTLINE, OUTLINED, POINTS, JOINED, OVER } stage;
} skeleton;

static cop_status split(cop__prompts *pool, const char *text, template *out) {
    const char *at = strstr(text, role_switch);
    size_t bytes = at ? (size_t)(at - text) : strlen(text);
    COP_TRY(cop__prompts_copy(pool, text, bytes, &out->prompt));
    const char *after = at ? at + strlen(role_switch) : "";
    return cop__prompts_copy(pool, after, strlen(after), &out->partial);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The next point at or after *at: what the original's expression matches there. */
static bool next_point(cop__text text, size_t *at, point *out) {
    for (size_t from = *at; from < text.bytes; from++) {
        size_t dot = from;
        while (dot < text.bytes && is_digit(text.data[dot]))
            dot++;
        if (dot == from || dot == text.bytes || text.data[dot] != '.')
            continue;
        size_t begin = dot + 1;
        /* One white space is passed over, unless nothing would be left to be the point. */
        if (begin + 1 < text.bytes && cop__is_space(text.data[begin]))
            begin++;
        if (begin >= text.bytes)
            continue;
        size_t end = begin + 1;
        while (end < text.bytes && text.data[end] != '\n')
            end++;
        *out = (point){.number = {text.data + from, dot - from},
                       .outline = {text.data + begin, end - begin}};
        *at = end;
        return true;
    }
    return false;
}

static cop_status find_points(skeleton *s) {
    size_t at = 0;
    point found;
    s->n_points = 0;
    while (next_point(s->outline, &at, &found)) {
        bool known = false;
        for (uint32_t i = 0; i < s->n_points && !known; i++)
            known = cop__text_equal(s->points[i].number, found.number);
        if (known)
            continue;
        if (s->options.max_points && s->n_points == s->options.max_points)
            break;
        if (s->n_points + 1 >= s->rule.limits.max_branches)
            return COP_FAIL(COP_ERR_NO_ROOM, "skeleton: more than %u points",
                            s->rule.limits.max_branches - 1);
        s->points[s->n_points++] = found;
    }
    if (s->n_points == 0 && s->options.no_points_fails)
        return COP_FAIL(COP_ERR_FORMAT, "skeleton: the outline \"%.60s\" has no points",
                        s->outline.data);
    return COP_OK;
}

static cop_status run_outline(skeleton *s) {
    const cop__slot slots[] = {{"{request}", s->request}};
    cop__text prompt;
    COP_TRY(cop__prompts_fill(&s->pool, s->outline_template.prompt, slots, 1, &prompt));
    COP_TRY(
        cop__prompts_fill(&s->pool, s->outline_template.partial, slots, 1, &s->outline_partial));
    s->stage = OUTLINE;
    return cop__rule_run(&s->rule, &(cop_decision){.text = prompt.data,
                                                   .bytes = prompt.bytes,
                                                   .partial = s->outline_partial.data,
                                                   .max_tokens = s->options.outline_tokens,
                                                   .temperature = s->options.temperature,
                                                   .tag = 0});
}

static cop_status run_points(skeleton *s) {
    COP_TRY(find_points(s));
    s->left = s->n_points;
    s->stage = s->n_points ? POINTS : JOINED;
    for (uint32_t i = 0; i < s->n_points; i++) {
        point *p = &s->points[i];
        const cop__slot slots[] = {{"{request}", s->request},
                                   {"{outline}", s->outline},
                                   {"{point}", p->number},
                                   {"{point_outline}", p->outline}};
        cop__text prompt;
        COP_TRY(cop__prompts_fill(&s->pool, s->point_template.prompt, slots, 4, &prompt));
        COP_TRY(cop__prompts_fill(&s->pool, s->point_template.partial, slots, 4, &p->partial));
        COP_TRY(cop__rule_run(&s->rule, &(cop_decision){.text = prompt.data,
                                                        .bytes = prompt.bytes,
                                                        .partial = p->partial.data,
                                                        .max_tokens = s->options.point_tokens,
                                                        .temperature = s->options.temperature,
                                                        .tag = i + 1}));
    }
    return COP_OK;
}

static cop_status join_points(skeleton *s) {
    s->answer = (cop__text){"", 0};
    size_t from = s->pool.used;
    for (uint32_t i = 0; i < s->n_points; i++) {
        const point *p = &s->points[i];
        cop__text space = p->partial.bytes ? cop__text_of(" ") : cop__text_of(""), part;
        const cop__text parts[] = {i ? s->joiner : cop__text_of(""), p->partial, space,
                                   cop__text_strip(p->reply)};
        if (i > 0)
            s->pool.used--; /* the text goes on: over the NUL that ended it */
        COP_TRY(cop__prompts_join(&s->pool, parts, 4, &part));
    }
    if (s->n_points > 0)
        s->answer = (cop__text){s->pool.data + from, s->pool.used - 1 - from};
    s->stage = OVER;
    return COP_OK;
}

static cop_status skeleton_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    skeleton *s = (skeleton *)rule;
    if (s->stage == BEGIN)
        return run_outline(s);
    if (s->stage == OUTLINED)
        COP_TRY(run_points(s));
    if (s->stage == JOINED) {
        COP_TRY(join_points(s));
        cop__rule_stop(rule, COP_REASON_DONE, true);
    }
    return COP_OK;
}

/* A branch that was cut has no text: its point stands without one. */
static cop_status take(skeleton *s, uint32_t branch, const char *text, size_t bytes) {
    uint32_t tag = s->rule.branches[branch].group;
    if (s->stage == OUTLINE) {
        const cop__text parts[] = {s->outline_partial, {text, bytes}};
        COP_TRY(cop__prompts_join(&s->pool, parts, 2, &s->outline));
        s->stage = OUTLINED;
    } else if (s->stage == POINTS && tag >= 1 && tag <= s->n_points) {
        COP_TRY(cop__prompts_copy(&s->pool, text, bytes, &s->points[tag - 1].reply));
        if (--s->left == 0)
            s->stage = JOINED;
    }
    return COP_OK;
}

static cop_status skeleton_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    return take((skeleton *)rule, branch, text, bytes);
}

static void skeleton_left(cop_rule *rule, uint32_t branch) {
    (void)take((skeleton *)rule, branch, "", 0); /* no text, no room needed but for its end */
}

static bool skeleton_answer(cop_rule *rule, const char **text, size_t *bytes) {
    skeleton *s = (skeleton *)rule;
    *text = s->answer.data;
    *bytes = s->answer.bytes;
    return s->stage == OVER;
}

static void skeleton_reset(cop_rule *rule) {
    skeleton *s = (skeleton *)rule;
    s->stage = BEGIN;
    s->pool.used = s->kept;
    s->n_points = 0;
}

static cop_status skeleton_input(cop_rule *rule, const char *text, size_t bytes) {
    skeleton *s = (skeleton *)rule;
    return cop__prompts_copy(&s->pool, text, bytes, &s->request);
}

static const cop__rule_ops skeleton_ops = {.name = "skeleton",
                                           .end = skeleton_end,
                                           .decide = skeleton_decide,
                                           .left = skeleton_left,
                                           .answer = skeleton_answer,
                                           .input = skeleton_input,
                                           .reset = skeleton_reset};

cop_status cop_skeleton_request(cop_rule *rule, const char *request) {
    skeleton_reset(rule);
    return skeleton_input(rule, request, strlen(request));
}

cop_status cop_skeleton_create(const cop_rule_limits *limits, const cop_skeleton_options *options,
                               cop_rule **out) {
    const cop_skeleton_options *o = options;
    if (!o->outline_prompt || !strstr(o->outline_prompt, "{request}") || !o->point_prompt ||
        !strstr(o->point_prompt, "{point"))
        return COP_FAIL(COP_ERR_CONFIG, "skeleton: outline_prompt needs {request}, point_prompt "
                                        "{point} or {point_outline}");
    if (o->max_points && o->max_points >= limits->max_branches)
        return COP_FAIL(COP_ERR_CONFIG,
                        "skeleton: %u points and their outline contradict %u branches",
                        o->max_points, limits->max_branches);
    skeleton *s = NULL;
    COP_TRY(cop__rule_create(&skeleton_ops, sizeof *s, limits, 1, &s));
    s->options = *o;
    s->rule.needs.runs_prompts = true;
    s->rule.needs.text_bytes = o->max_text_bytes;
    cop_status status = COP_OK;
    s->points = cop__rule_calloc(&s->rule, limits->max_branches, sizeof *s->points, &status);
    if (status == COP_OK)
        status = cop__prompts_create(&s->rule, o->max_text_bytes, &s->pool);
    if (status == COP_OK)
        status = split(&s->pool, o->outline_prompt, &s->outline_template);
    if (status == COP_OK)
        status = split(&s->pool, o->point_prompt, &s->point_template);
    if (status == COP_OK)
        status = cop__prompts_copy(&s->pool, o->joiner ? o->joiner : "\n",
                                   strlen(o->joiner ? o->joiner : "\n"), &s->joiner);
    s->kept = s->pool.used;
    if (status == COP_OK)
        status = cop_skeleton_request(&s->rule, o->request ? o->request : "");
    if (status != COP_OK) {
        cop_rule_destroy(&s->rule);
        return status;
    }
    *out = &s->rule;
    return COP_OK;
}
