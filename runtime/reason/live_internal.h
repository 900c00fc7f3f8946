/* What the live driver's own files share. Nothing else includes this.
 *
 * driver_live.c  the driver's life, what is read from it, and a token as it is taken
 * live_block.c   blocks: paths are opened, end by themselves or by a rule, and are joined
 * live_rule.c    a rule is told what happens, and obeyed; its probes
 */
#pragma once

#include "reason/driver_live.h"
#include "reason/parser.h"

enum {
    COP_LIVE_DEPTH_MAX = 16,
    COP_LIVE_PATH_TEXT_BYTES = 64,
    COP_LIVE_HEADER_BYTES = 512,
    COP_LIVE_ENCODE_BYTES = 8192, /* longest cut token that can be encoded */
    COP_LIVE_SPARE_IDS = 64,      /* kept free for what one token and a path's end may add, */
    COP_LIVE_SPARE_BYTES = 1024,  /* in tokens and in bytes */
};

typedef struct cop_live_item { /* an item of the open plan: where its text stands */
    size_t begin, bytes;
} cop_live_item;

typedef struct cop_live_record { /* one branch, kept after it ended */
    cop_branch branch;
    uint32_t parent; /* record, or UINT32_MAX for a sample */
    uint32_t sample;
    uint32_t path[COP_LIVE_DEPTH_MAX], n_path; /* path numbers from 1, outermost first */
    char path_text[COP_LIVE_PATH_TEXT_BYTES];
    uint32_t block; /* of its sample */
    cop_parser parser;
    uint32_t closes_at;         /* blocks open where its own closing tag may stand */
    uint32_t ill_formed_before; /* tags that the parent's text had got wrong at the fork */
    int32_t *ids;               /* [max_ids] */
    uint32_t n_ids, n_header;
    char *text;
    size_t bytes, header_bytes;
    size_t turn_begin;                /* of the text since its last join */
    uint32_t n_said;                  /* sampled tokens */
    uint32_t first_child, n_children; /* records of the open block's paths, in a row */
    uint32_t n_finished;              /* of these: as the join policy counts them */
    cop_live_item *items;             /* [max_branches] of the plan being written */
    uint32_t n_items;
    bool dropped; /* cancelled, and its text with it */
    cop_stop stop;
    cop_confidence confidence;
    double *ring;
    cop_logit_bias bias[2];
} cop_live_record;

typedef struct cop__live_rule cop__live_rule;

struct cop_live {
    cop_driver driver;
    cop_live_options options;
    cop_arena *arena;
    cop_live_record *records;
    uint32_t n_records;
    cop_live_sample *samples;
    cop_branch *children; /* scratch of a fork */
    cop_branch root;
    uint32_t max_ids; /* one more is kept free for an end token */
    size_t max_bytes;
    uint64_t generated;
    bool spent;                    /* the budget is used up */
    int32_t *join_ids, *close_ids; /* the dialect's join text and path close, encoded */
    uint32_t n_join, n_close;
    cop_encoder *encoder; /* for headers, replies and cut tokens, with its own memory */
    size_t encode_bytes;  /* the longest text that it takes */
    cop__live_rule *rule; /* NULL: there is none */
    cop_token_ids scratch;
};

/* How text is appended: generated, given, or both again (heard before, not heard now). */
typedef enum cop_live_voice { COP_LIVE_SAID, COP_LIVE_GIVEN, COP_LIVE_QUIET } cop_live_voice;

bool cop__live_forks(const cop_live *live);
cop_status cop__live_append(cop_live *live, cop_live_record *record, const int32_t *ids, uint32_t n,
                            cop_live_voice voice);
void cop__live_hear(const cop_live *live, cop_live_event_kind kind, const cop_live_record *record);
/* Encodes into `scratch`; `plain`: control tokens' texts are ordinary text. */
cop_status cop__live_encode(cop_live *live, const char *text, size_t bytes, bool plain);
cop_status cop__live_end_sample(cop_live *live, cop_engine *engine, uint32_t sample, cop_stop stop);
bool cop__live_fits(const cop_engine *engine, cop_branch branch, uint64_t tokens);

/* live_block.c */
bool cop__live_may_fork(const cop_live *live, const cop_engine *engine,
                        const cop_live_record *record, uint32_t items);
cop_status cop__live_fork(cop_live *live, cop_engine *engine, cop_live_record *parent,
                          uint32_t items);
/* A path has ended: `closed` by its own tag, or by its end of text or its limit (`stop`). */
cop_status cop__live_end_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                              bool closed, cop_stop stop);
cop_status cop__live_cancel_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                                 cop_stop stop);
cop_status cop__live_cancel_paths(cop_live *live, cop_engine *engine);
cop_status cop__live_joined(cop_driver *driver, cop_engine *engine, cop_branch branch);
/* The paths that are open below a record that ends are over with it. */
void cop__live_mark_below(cop_live *live, const cop_live_record *record, cop_stop stop);
bool cop__live_says_success(const cop_live *live, const cop_live_record *record);
/* Text of paths that are still open goes behind their parent's, so that nothing said is lost. */
cop_status cop__live_gather(cop_live *live, cop_live_record *record);

/* live_rule.c; all but create do nothing where there is no rule */
cop_status cop__live_rule_create(cop_live *live); /* last of the driver's parts */
cop_status cop__live_rule_reset(cop_live *live);
uint32_t cop__live_rule_extra(const cop_live *live); /* probes that start with the samples */
/* Feeds the record's ids from `first` on, unless a probe comes first. `plain`: the token called for
 * nothing else. */
cop_status cop__live_rule_feed(cop_live *live, cop_engine *engine, cop_live_record *record,
                               uint32_t first, bool plain);
/* The record's text is complete: its rule hears of the end. */
void cop__live_rule_ended(cop_live *live, cop_live_record *record, cop_stop stop);
bool cop__live_rule_waits(const cop_live *live, const cop_live_record *record); /* for a probe */
