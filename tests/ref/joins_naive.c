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
