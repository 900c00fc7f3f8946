#include "ref/joins_naive.h"

#include <string.h>

typedef struct view {
    uint8_t in[JOINS_NAIVE_MAX];
    int32_t next; /* position */
} view;

static void put_text(joins_naive *w, view *v, const cop_piece *piece, bool in_branch,
                     uint32_t *token) {
    for (uint32_t i = 0; i < piece->n; i++) {
        if (w->n == JOINS_NAIVE_MAX) {
            w->full = true;
            return;
        }
        const uint32_t e = w->n++;
        v->in[e] = 1;
        memcpy(w->sees[e], v->in, sizeof v->in);
        w->id[e] = piece->ids[i];
        w->position[e] = v->next++;
        if (in_branch)
            w->entry_of[(*token)++] = e;
    }
}

static void again_stream(joins_naive *w, const joins_naive_rule *rule, const cop_stream *stream,
                         view *v);

static void unite(view *into, const view *from) {
    for (uint32_t e = 0; e < JOINS_NAIVE_MAX; e++)
        into->in[e] |= from->in[e];
}

static void again_block(joins_naive *w, const joins_naive_rule *rule, const cop_block *block,
                        view *v) {
    view all = *v;
    int32_t largest = v->next;
    for (uint32_t i = 0; i < block->n_paths; i++) {
        const uint32_t p = rule->reversed ? block->n_paths - 1 - i : i;
        view own = rule->seen ? all : *v;
        own.next = rule->equal ? v->next : all.next;
        again_stream(w, rule, &block->paths[p], &own);
        unite(&all, &own);
        all.next = own.next;
        largest = own.next > largest ? own.next : largest;
    }
    all.next = rule->max ? largest : all.next;
    *v = all;
}

static void again_stream(joins_naive *w, const joins_naive_rule *rule, const cop_stream *stream,
                         view *v) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        if (stream->pieces[i].block)
            again_block(w, rule, stream->pieces[i].block, v);
        else
            put_text(w, v, &stream->pieces[i], false, NULL);
    }
}

static void branch_stream(joins_naive *w, const joins_naive_rule *rule, const cop_stream *stream,
                          view *v) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_block *block = stream->pieces[i].block;
        if (!block) {
            put_text(w, v, &stream->pieces[i], true, &w->n_tokens);
            continue;
        }
        view all = *v;
        int32_t largest = v->next;
        const uint32_t before = w->n_tokens;
        for (uint32_t p = 0; p < block->n_paths; p++) {
            view own = *v;
            branch_stream(w, rule, &block->paths[p], &own);
            unite(&all, &own);
            largest = own.next > largest ? own.next : largest;
        }
        if (rule->again) {
            again_block(w, rule, block, v);
        } else if (rule->keep) {
            all.next = rule->max ? largest : v->next + (int32_t)(w->n_tokens - before);
            *v = all;
        }
    }
}

void joins_naive_lay(joins_naive *world, const joins_naive_rule *rule,
                     const cop_trajectory *trajectory) {
    memset(world, 0, sizeof *world);
    view v = {.next = 0};
    branch_stream(world, rule, &trajectory->prompt, &v);
    branch_stream(world, rule, &trajectory->stream, &v);
}

/* ---- paths that see each other: every view is a list, numbered through ---- */

typedef struct order {
    uint32_t entry[JOINS_NAIVE_MAX], n;
} order;

static uint32_t new_token(joins_views *w, int32_t id) {
    if (w->n == JOINS_NAIVE_MAX) {
        w->full = true;
        return 0;
    }
    w->id[w->n] = id;
    for (uint32_t j = 0; j < JOINS_NAIVE_MAX; j++)
        w->at[w->n][j] = -1;
    w->entry_of[w->n_tokens++] = w->n;
    return w->n++;
}

static void look(joins_views *w, uint32_t token, const order *seen, int32_t *position) {
    for (uint32_t i = 0; i < seen->n; i++)
        w->at[token][seen->entry[i]] = (*position)++;
}

/* Tokens that a path has said after so many steps of its block. */
static uint32_t said_after(const cop_stream *path, uint32_t total, uint32_t steps) {
    const bool given = path->n_pieces > 0 && path->pieces[0].forced == COP_FORCED_BRANCH;
    const uint32_t n = (given ? path->pieces[0].n : 0) + steps - 1;
    return n < total ? n : total;
}

static void share_block(joins_views *w, const cop_block *block, order *trunk) {
    order own[8] = {{.n = 0}};
    uint32_t steps = 1;
    for (uint32_t p = 0; p < block->n_paths; p++)
        for (uint32_t i = 0; i < block->paths[p].n_pieces; i++)
            for (uint32_t k = 0; k < block->paths[p].pieces[i].n; k++, steps++)
                own[p].entry[own[p].n++] = new_token(w, block->paths[p].pieces[i].ids[k]);
    for (uint32_t step = 1; step <= steps; step++)
        for (uint32_t p = 0; p < block->n_paths; p++) {
            const uint32_t from = step > 1 ? said_after(&block->paths[p], own[p].n, step - 1) : 0;
            const uint32_t to = said_after(&block->paths[p], own[p].n, step);
            for (uint32_t i = from; i < to; i++) {
                int32_t position = 0;
                const uint32_t e = own[p].entry[i];
                look(w, e, trunk, &position);
                for (uint32_t o = 0; o < block->n_paths; o++) {
                    order seen = own[o];
                    seen.n = said_after(&block->paths[o], own[o].n, step);
                    if (o != p)
                        look(w, e, &seen, &position);
                }
                order mine = own[p];
                mine.n = i + 1;
                look(w, e, &mine, &position);
            }
        }
    for (uint32_t p = 0; p < block->n_paths; p++)
        for (uint32_t i = 0; i < own[p].n; i++)
            trunk->entry[trunk->n++] = own[p].entry[i];
}

static void share_stream(joins_views *w, const cop_stream *stream, order *trunk) {
    for (uint32_t i = 0; i < stream->n_pieces && !w->full; i++) {
        const cop_piece *piece = &stream->pieces[i];
        if (piece->block) {
            share_block(w, piece->block, trunk);
            continue;
        }
        for (uint32_t k = 0; k < piece->n && !w->full; k++) {
            int32_t position = 0;
            const uint32_t e = new_token(w, piece->ids[k]);
            trunk->entry[trunk->n++] = e;
            look(w, e, trunk, &position);
        }
    }
}

void joins_naive_share(joins_views *world, const cop_trajectory *trajectory) {
    memset(world, 0, sizeof *world);
    order trunk = {.n = 0};
    share_stream(world, &trajectory->prompt, &trunk);
    share_stream(world, &trajectory->stream, &trunk);
}
