/* For tests of the parser: text cut into pieces, the events that it gives, and a stream fed as live
 * decoding would feed it. */
#pragma once

#include "check.h"
#include "reason/parser.h"
#include "reason/trajectory.h"
#include "transcripts.h"

enum { PARSER_EVENTS_MAX = 4096 };

typedef struct events {
    cop_tag_event list[PARSER_EVENTS_MAX];
    size_t count;
} events;

/* Feeds the text in one piece. */
static inline cop_status parser_feed(cop_parser *parser, const char *text, size_t bytes,
                                     events *out) {
    for (size_t at = 0; at < bytes;) {
        size_t used = 0;
        bool found;
        cop_tag_event event;
        COP_TRY(cop_parser_feed(parser, text + at, bytes - at, &used, &found, &event));
        CHECK(used > 0 && used <= bytes - at);
        at += used;
        if (found && out) {
            CHECK(out->count < PARSER_EVENTS_MAX);
            out->list[out->count++] = event;
        }
    }
    return COP_OK;
}

static inline bool parser_same_tag(const cop_tag_event *a, const cop_tag_event *b) {
    return a->element == b->element && a->closing == b->closing && a->tag_bytes == b->tag_bytes &&
           a->depth == b->depth && a->items == b->items && a->paths == b->paths;
}

static inline void parser_check_same(const events *a, const events *b) {
    CHECK_EQ(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        CHECK(parser_same_tag(&a->list[i], &b->list[i]));
        CHECK_EQ(a->list[i].end, b->list[i].end);
    }
}

/* What the next byte can depend on; `fed` and `line` aside. */
static inline void parser_check_same_state(const cop_parser *a, const cop_parser *b) {
    CHECK_EQ(a->n_open, b->n_open);
    CHECK(memcmp(a->open, b->open, a->n_open) == 0);
    CHECK_EQ(a->depth, b->depth);
    CHECK(memcmp(a->items, b->items, a->depth * sizeof a->items[0]) == 0);
    CHECK(memcmp(a->paths, b->paths, a->depth * sizeof a->paths[0]) == 0);
    for (int d = 0; d < a->depth; d++)
        CHECK_EQ(a->joined >> d & 1, b->joined >> d & 1);
    CHECK_EQ(a->n_tail, b->n_tail);
    CHECK(memcmp(a->tail, b->tail, a->n_tail) == 0);
}

static inline cop_status parser_parse(const cop_dialect *dialect, bool strict, const char *text,
                                      events *out) {
    cop_parser parser;
    cop_parser_init(&parser, dialect, strict);
    COP_TRY(parser_feed(&parser, text, strlen(text), out));
    return cop_parser_end(&parser);
}

/* Feeds bytes cut at random places, pieces of no byte among them. */
static inline void parser_feed_cut(cop_parser *parser, const char *text, size_t bytes,
                                   transcript *random, events *out) {
    for (size_t at = 0; at < bytes;) {
        size_t piece = transcript_random(random, 9);
        if (piece > bytes - at)
            piece = bytes - at;
        CHECK_OK(parser_feed(parser, text + at, piece, out));
        at += piece;
    }
}

/* Runs a stream as live decoding would: the parent's parser sees its own text, each child's is
 * forked where the plan closed, forced text is not decoded. */
static inline void parser_run_live(cop_parser *parser, const cop_stream *stream, uint32_t from,
                                   events *out) {
    for (uint32_t i = from; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        if (!piece->block) {
            CHECK_EQ(piece->forced, COP_FORCED_NOT);
            CHECK_OK(parser_feed(parser, piece->text, piece->bytes, out));
            continue;
        }
        cop_parser before = *parser;
        for (uint32_t p = 0; p < piece->block->n_paths; p++) {
            cop_parser child = cop_parser_fork(parser, p);
            CHECK(memcmp(&before, parser, sizeof before) == 0);
            CHECK_EQ(piece->block->paths[p].pieces[0].forced, COP_FORCED_BRANCH);
            parser_run_live(&child, &piece->block->paths[p], 1, out);
            CHECK_EQ(child.depth, parser->depth);
            CHECK_EQ(child.ill_formed, 0);
        }
        cop_parser_join(parser, piece->block->n_paths);
        if (i + 1 < stream->n_pieces && stream->pieces[i + 1].forced == COP_FORCED_JOIN)
            i++;
    }
}

/* The events of forced text are not decoded either: a join's text may close the block. */
static inline void parser_drop_forced(const cop_dialect *d, events *all) {
    size_t kept = 0;
    bool closes = strstr(d->join_prompt, d->close[COP_EL_BLOCK].text) != NULL;
    for (size_t i = 0; i < all->count; i++) {
        const cop_tag_event *e = &all->list[i];
        bool decoded = e->closing ? !closes || e->element != COP_EL_BLOCK
                                  : e->element != COP_EL_PATH && e->element != COP_EL_JOIN;
        if (decoded)
            all->list[kept++] = *e;
    }
    all->count = kept;
}

static inline void parser_check_live(const transcript *t) {
    static events flat, live;
    cop_trajectories *set;
    CHECK_OK(cop_trajectories_create(&set));
    CHECK_OK(cop_trajectory_parse(t->dialect, "t", "t", t->text.data, t->text.bytes, set));
    const cop_trajectory *tree = &set->list[0];
    size_t prompt = tree->prompt.n_pieces ? tree->prompt.pieces[0].bytes : 0;
    cop_parser one, branches;
    flat.count = live.count = 0;
    cop_parser_init(&one, t->dialect, false);
    CHECK_OK(parser_feed(&one, t->text.data + prompt, t->text.bytes - prompt, &flat));
    parser_drop_forced(t->dialect, &flat);
    cop_parser_init(&branches, t->dialect, false);
    parser_run_live(&branches, &tree->stream, 0, &live);
    CHECK_EQ(flat.count, live.count);
    for (size_t i = 0; i < flat.count; i++)
        CHECK(parser_same_tag(&flat.list[i], &live.list[i]));
    parser_check_same_state(&one, &branches);
    CHECK_EQ(branches.ill_formed, 0);
    cop_trajectories_destroy(set);
}
