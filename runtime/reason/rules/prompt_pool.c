#include "reason/rules/prompt_pool.h"

#include <string.h>

cop_status cop__prompts_create(cop_rule *rule, size_t capacity, cop__prompts *out) {
    cop_status status = COP_OK;
    *out = (cop__prompts){.rule = rule, .capacity = capacity};
    out->data = cop__rule_calloc(rule, capacity + 1, 1, &status);
    return status;
}

static cop_status room(const cop__prompts *pool, size_t bytes) {
    if (bytes > pool->capacity - pool->used)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "%s: its prompts and texts need more than %zu bytes: give it more "
                        "(max_text_bytes)",
                        pool->rule->ops->name, pool->capacity);
    return COP_OK;
}

static cop_status add(cop__prompts *pool, const char *data, size_t bytes) {
    COP_TRY(room(pool, bytes + 1)); /* what ends the text */
    if (bytes > 0)
        memcpy(pool->data + pool->used, data, bytes);
    pool->used += bytes;
    return COP_OK;
}

static cop__text close_text(cop__prompts *pool, size_t from) {
    cop__text text = {pool->data + from, pool->used - from};
    pool->data[pool->used++] = 0;
    return text;
}

cop_status cop__prompts_join(cop__prompts *pool, const cop__text *parts, uint32_t n,
                             cop__text *out) {
    size_t from = pool->used;
    COP_TRY(room(pool, 1));
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(add(pool, parts[i].data, parts[i].bytes));
    *out = close_text(pool, from);
    return COP_OK;
}

cop_status cop__prompts_copy(cop__prompts *pool, const char *data, size_t bytes, cop__text *out) {
    return cop__prompts_join(pool, &(cop__text){data, bytes}, 1, out);
}

cop_status cop__prompts_fill(cop__prompts *pool, cop__text template, const cop__slot *slots,
                             uint32_t n, cop__text *out) {
    size_t from = pool->used, at = 0;
    COP_TRY(room(pool, 1));
    while (at < template.bytes) {
        const cop__slot *slot = NULL;
        size_t name = 0;
        for (uint32_t i = 0; i < n && template.data[at] == '{' && !slot; i++) {
            name = strlen(slots[i].name);
            if (name <= template.bytes - at && memcmp(template.data + at, slots[i].name, name) == 0)
                slot = &slots[i];
        }
        if (slot)
            COP_TRY(add(pool, slot->value.data, slot->value.bytes));
        else
            COP_TRY(add(pool, template.data + at, 1));
        at += slot ? name : 1;
    }
    *out = close_text(pool, from);
    return COP_OK;
}

bool cop__text_equal(cop__text a, cop__text b) {
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

bool cop__is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

cop__text cop__text_strip(cop__text text) {
    while (text.bytes > 0 && cop__is_space(text.data[0])) {
        text.data++;
        text.bytes--;
    }
    while (text.bytes > 0 && cop__is_space(text.data[text.bytes - 1]))
        text.bytes--;
    return text;
}
