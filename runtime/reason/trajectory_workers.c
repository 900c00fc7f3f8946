/* Recorded text of workers (dialect "shared") -> trajectory: one block, a path for each worker with
 * its steps in order, then what the join adds. The order in which steps of different workers ended
 * is not kept: a replay under the rule shared has them decode side by side.
 *
 * Text before the first worker's begin is the prompt. Forced are what a worker begins with, what
 * its steps begin with, the question that is inserted now and then, and the join's text; the header
 * and the tails that the joined text has between its parts belong to no path and are left out. */
#include <string.h>

#include "reason/trajectory_internal.h"

typedef struct cutter {
    const cop_shared_rules *rules;
    const char *text, *end;
    cop__piece_list paths[COP_SHARED_WORKERS_MAX];
    uint32_t begun[COP_SHARED_WORKERS_MAX]; /* steps so far */
} cutter;

static bool has(const char *at, const char *end, const char *text, size_t bytes) {
    return bytes > 0 && (size_t)(end - at) >= bytes && memcmp(at, text, bytes) == 0;
}

/* Bytes of `pattern` at `at`, whose {n} stands for digits; 0: it is not there. */
static size_t numbered(const char *at, const char *end, const char *pattern) {
    const cop_mark mark = cop_dialect_mark(pattern);
    const char *from = at;
    if (mark.bytes == 0)
        return has(at, end, pattern, strlen(pattern)) ? strlen(pattern) : 0;
    const size_t before = (size_t)(mark.at - pattern);
    const char *after = mark.at + mark.bytes;
    if (before > 0 && !has(at, end, pattern, before))
        return 0;
    for (at += before; at < end && *at >= '0' && *at <= '9'; at++)
        ;
    if (at == from + before || (*after && !has(at, end, after, strlen(after))))
        return 0;
    return (size_t)(at - from) + strlen(after);
}

/* What begins a step at `at`: which worker's, and how much of it was given. */
static size_t step_at(const cutter *c, const char *at, uint32_t *worker) {
    for (uint32_t w = 0; w < c->rules->n_workers; w++) {
        const cop_shared_worker *own = &c->rules->workers[w];
        size_t bytes = c->begun[w] == 0 && has(at, c->end, own->begin, strlen(own->begin))
                           ? strlen(own->begin)
                       : c->begun[w] > 0 ? numbered(at, c->end, own->step_begin)
                                         : 0;
        if (bytes == 0)
            continue;
        if (c->begun[w] > 0 && has(at + bytes, c->end, c->rules->inject, strlen(c->rules->inject)))
            bytes += strlen(c->rules->inject);
        *worker = w;
        return bytes;
    }
    return 0;
}

static cop_status add(cop__piece_list *list, const char *from, const char *to, cop_forced forced) {
    if (from == to)
        return COP_OK;
    return cop__piece_list_add(
        list, (cop_piece){.text = from, .bytes = (size_t)(to - from), .forced = forced});
}

/* The steps up to where the join's text begins, or the end. */
static cop_status cut_steps(cutter *c, const cop_dialect *d, const char **at) {
    const cop_shared_rules *r = c->rules;
    uint32_t worker = UINT32_MAX;
    const char *from = *at;
    for (const char *p = *at;; p++) {
        uint32_t next;
        const size_t begins = p < c->end ? step_at(c, p, &next) : 0;
        const bool join = p < c->end && has(p, c->end, d->join_prompt, strlen(d->join_prompt));
        const size_t header =
            p < c->end && has(p, c->end, r->others_header, strlen(r->others_header))
                ? strlen(r->others_header)
                : 0;
        const size_t tail = p < c->end && has(p, c->end, r->joined_tail, strlen(r->joined_tail))
                                ? strlen(r->joined_tail)
                                : 0;
        if (begins == 0 && header == 0 && tail == 0 && !join && p < c->end)
            continue;
        if (worker != UINT32_MAX)
            COP_TRY(add(&c->paths[worker], from, p, COP_FORCED_NOT));
        if (join || p == c->end) {
            *at = p;
            return COP_OK;
        }
        worker = begins ? next : UINT32_MAX;
        if (begins) {
            COP_TRY(add(&c->paths[worker], p, p + begins, COP_FORCED_BRANCH));
            c->begun[worker]++;
        }
        from = p + (begins ? begins : header ? header : tail);
        p = from - 1;
    }
}

static cop_status finish_block(cutter *c, cop_arena *arena, cop__piece_list *stream,
                               cop_trajectory *tree) {
    cop_block *block = cop_arena_calloc(arena, 1, sizeof *block);
    if (block)
        block->paths = cop_arena_calloc(arena, c->rules->n_workers, sizeof *block->paths);
    if (!block || !block->paths)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a block");
    for (uint32_t w = 0; w < c->rules->n_workers; w++)
        if (c->paths[w].count > 0)
            COP_TRY(cop__piece_list_finish(&c->paths[w], arena, &block->paths[block->n_paths++]));
    tree->blocks = tree->depth = 1;
    tree->paths = block->n_paths;
    return cop__piece_list_add(stream, (cop_piece){.block = block});
}

static cop_status cut(cutter *c, const cop_dialect *d, cop_arena *arena, cop__piece_list *prompt,
                      cop__piece_list *stream, cop_trajectory *tree) {
    uint32_t worker;
    const char *at = c->text;
    while (at < c->end && step_at(c, at, &worker) == 0)
        at++;
    if (at == c->end)
        return COP_FAIL(COP_ERR_FORMAT,
                        "no worker of dialect %s begins in this text: it must hold \"%.60s\"",
                        d->name, d->shared.workers[0].begin);
    COP_TRY(add(prompt, c->text, at, COP_FORCED_NOT));
    COP_TRY(cut_steps(c, d, &at));
    COP_TRY(finish_block(c, arena, stream, tree));
    const char *said = at + (at < c->end ? strlen(d->join_prompt) : 0);
    COP_TRY(add(stream, at, said, COP_FORCED_JOIN));
    return add(stream, said, c->end, COP_FORCED_NOT);
}

cop_status cop__trajectory_cut_workers(const cop_dialect *d, const char *text, size_t bytes,
                                       cop_arena *arena, cop_trajectory *tree) {
    cutter c = {.rules = &d->shared, .text = text, .end = text + bytes};
    cop__piece_list prompt = {0}, stream = {0};
    cop_status status = cut(&c, d, arena, &prompt, &stream, tree);
    if (status == COP_OK)
        status = cop__piece_list_finish(&prompt, arena, &tree->prompt);
    if (status == COP_OK)
        status = cop__piece_list_finish(&stream, arena, &tree->stream);
    for (uint32_t w = 0; w < COP_SHARED_WORKERS_MAX; w++)
        cop_free(c.paths[w].pieces);
    cop_free(prompt.pieces);
    cop_free(stream.pieces);
    return status;
}
