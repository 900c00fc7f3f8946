/* What the live driver's own files share. Nothing else includes this.
 *
 * driver_live.c  the driver's life, and what is read from it
 * live_token.c   a token as it is asked for and taken: its text, its tags, its limits
 * live_trigger.c whether and how a tag or an end of text forks: items, refusals, budgets
 * live_block.c   blocks: paths are opened, and end by themselves or by a rule
 * live_rule.c    a rule is told what happens, and obeyed; its probes
 * live_join.c    what the parent goes on with
 * live_shared.c  paths that see each other: workers, their steps, what they are joined to
 * live_retext.c  dialects whose every call encodes the whole text again
 * live_async.c   a parent that goes on beside its paths
 * live_program.c dialects whose messages a program makes
 * live_rewrite.c text that becomes another one
 * live_penalty.c a repetition penalty on what branches have said
 * live_pressure.c  what the driver does for a KV pool that is full
 */
#pragma once

#include "reason/driver_live.h"
#include "reason/parser.h"

enum {
    COP_LIVE_DEPTH_MAX = 16,
    COP_LIVE_PATH_TEXT_BYTES = 64,
    COP_LIVE_HEADER_BYTES = 512,
    COP_LIVE_ENCODE_BYTES = 8192, /* longest cut token that can be encoded */
    COP_LIVE_CALL_IDS = 1024,     /* of a path's call, where they are not those of its header */
    COP_LIVE_SPARE_IDS = 64,      /* kept free for what one token and a path's end may add, */
    COP_LIVE_SPARE_BYTES = 1024,  /* in tokens and in bytes */
};

typedef struct cop_live_item { /* an item of the open plan: where its text stands */
    size_t begin, bytes;
} cop_live_item;

/* What a token calls for. */
typedef enum cop_live_action {
    COP_ACT_NONE,
    COP_ACT_FORK,
    COP_ACT_REFUSED,    /* ends the run */
    COP_ACT_BRANCH_END, /* a fork that may not be taken ends the branch alone */
    COP_ACT_PATH_END,
    COP_ACT_LIMIT, /* the dialect's own: steps, or its last block */
    COP_ACT_STRAY, /* a path's closing tag that ends the run */
    COP_ACT_ASYNC, /* live_async.c */
} cop_live_action;

/* A tag was said, and the original samples some tokens more before it acts. */
typedef struct cop_live_pending {
    cop_live_action action; /* NONE: nothing is pending */
    uint32_t keep, drop, items;
} cop_live_pending;

typedef enum cop_async_state {
    COP_ASYNC_NONE,
    COP_ASYNC_QUEUED, /* it was forked, and begins when fewer run */
    COP_ASYNC_RUNNING,
    COP_ASYNC_ENDED, /* and was not joined yet */
    COP_ASYNC_JOINED,
} cop_async_state;

typedef enum cop_async_found {
    COP_FOUND_NONE,
    COP_FOUND_FORK,
    COP_FOUND_JOIN,
    COP_FOUND_SYNC
} cop_async_found;

typedef struct cop_live_async { /* live_async.c */
    /* of a path */
    cop_async_state state;
    cop_span id, item; /* in its parent's text */
    /* of a parent */
    cop_async_found found; /* the last tag, and its groups */
    cop_span found_id, found_item;
    uint64_t tokens;
    size_t end;        /* of the tag */
    size_t acted;      /* text before it has been acted on */
    size_t open[2];    /* from where a tag may begin yet: one that forks, one that joins */
    uint32_t node_ids; /* ids when its KV began a new segment */
    uint32_t awaits;   /* 1 + the record; UINT32_MAX: all; 0: nothing */
    bool ends;         /* when these are joined */
    int32_t end_token;
} cop_live_async;

typedef struct cop_live_seen { /* what a repetition penalty counts (live_penalty.c) */
    uint32_t *words;           /* a bit a token; NULL where the dialect asks for no penalty */
    int32_t last;
    float factor; /* of its row, where the answer's branches share one; 0: none */
    bool fresh;   /* opened or joined since that was looked at */
} cop_live_seen;

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
    uint32_t max_ids;           /* one more is kept free for an end token */
    size_t max_bytes;
    int32_t *ids; /* [max_ids + 1] */
    uint32_t n_ids, n_header;
    int32_t *call; /* [COP_LIVE_CALL_IDS], live_retext.c */
    char *text;
    size_t bytes, header_bytes;
    size_t turn_begin;                    /* of the text since its last join */
    uint32_t n_said;                      /* sampled tokens, */
    double logprob_sum;                   /* and of these */
    uint32_t n_given, n_forks, n_refused; /* what its sample counts of it */
    uint32_t first_child, n_children;     /* records of the open block's paths, in a row */
    uint32_t n_finished;                  /* of these: as the join policy counts them */
    cop_live_item *items;                 /* [max_branches] of the plan being written */
    uint32_t n_items;
    uint32_t quorum;         /* of that block */
    uint32_t turn_ids;       /* ids at the begin of its turn */
    uint32_t siblings;       /* paths of its own block, itself included */
    uint64_t base_ids;       /* what it began with, behind the prompt */
    uint32_t ended_order;    /* among the problem's paths, from 1 */
    uint32_t step, step_ids; /* a worker's step, from 1, and where it begins in ids */
    size_t step_bytes;       /* and in text */
    uint32_t kept_ids;       /* of a parent: what its KV holds, of ids (live_retext.c) */
    cop_live_pending pending;
    cop_live_async async;
    /* Where a program makes the messages: */
    uint32_t origin;    /* the position of the first of its ids */
    uint32_t n_message; /* ids that it begins with; they stay where they are when it begins anew */
    size_t call_begin;  /* of the text that the running call says, */
    uint32_t call_said; /* and what had been said before it */
    uint32_t turn, attempt; /* as the program is told */
    bool stopped;           /* a stop text ended the call */
    bool dropped;           /* cancelled, and its text with it */
    bool counted;           /* among its block's finished ones */
    /* A branch that began anew (live_pressure.c). Those below it wait for its block to be opened
     * once more: out of use until then. What was heard is not heard again. */
    bool withdrawn, had_ended, end_heard;
    uint32_t n_heard, n_muted;
    bool cut; /* it ended otherwise than by its tag, and the dialect ends the run for that */
    cop_stop stop;
    cop_confidence confidence;
    double *ring;
    cop_logit_bias bias[2];
    cop_live_seen seen;
} cop_live_record;

typedef struct cop__live_rule cop__live_rule;
typedef struct cop__live_penalty cop__live_penalty;
typedef struct cop__live_shared cop__live_shared;

struct cop_live {
    cop_driver driver;
    cop_live_options options;
    cop_arena *arena;
    cop_live_record *records;
    uint32_t n_records;
    cop_live_sample *samples;
    cop_branch *children; /* scratch of a fork */
    cop_branch root;
    uint32_t max_ids; /* of a record that may hold a whole block of its own, the largest */
    size_t max_bytes;
    uint64_t generated;
    uint32_t n_ended;              /* paths, so far */
    bool spent;                    /* the budget is used up */
    int32_t *join_ids, *close_ids; /* the dialect's join text and path close, encoded */
    uint32_t n_join, n_close;
    int32_t *after_fork_ids, *join_cut_ids, *join_close_ids;
    uint32_t n_after_fork, n_join_cut, n_join_close;
    cop_join_policy policy; /* the caller's, else the dialect's */
    double quorum_ratio;
    cop_message_child *asked; /* [max_branches] scratch of a join's question */
    const char *keep;         /* of the program's answer at the fork that is being taken */
    size_t keep_bytes;
    /* For programs, and of a dialect whose calls encode the whole text again: */
    cop_buffer prompt_text;
    cop_token_ids again;                      /* their ids */
    int32_t *others_ids, *own_ids, *tail_ids; /* of a shared dialect */
    uint32_t n_others, n_own, n_tail;
    cop_logit_bias *forbidden; /* what its workers may not say */
    uint32_t n_forbidden;
    cop__live_shared *shared;   /* [n_samples]; NULL: there are no workers */
    cop_encoder *encoder;       /* for headers, replies and cut tokens, with its own memory */
    size_t encode_bytes;        /* the longest text that it takes */
    cop__live_penalty *penalty; /* NULL: the dialect asks for none */
    cop__live_rule *rule;       /* NULL: there is none */
    cop_token_ids scratch;
    char *async_text;           /* [encode_bytes + 1], live_async.c */
    uint32_t *async_list;       /* scratch of a join: records, */
    cop_branch *async_branches; /* and branches */
    const char *joining;        /* the path that a JOIN is heard of */
};

/* How text is appended: generated, given, or both again (heard before, not heard now). */
typedef enum cop_live_voice { COP_LIVE_SAID, COP_LIVE_GIVEN, COP_LIVE_QUIET } cop_live_voice;

bool cop__live_forks(const cop_live *live);
cop_status cop__live_append(cop_live *live, cop_live_record *record, const int32_t *ids, uint32_t n,
                            cop_live_voice voice);
void cop__live_hear(const cop_live *live, cop_live_event_kind kind, cop_live_record *record);
/* Encodes into `scratch`; `plain`: control tokens' texts are ordinary text. */
cop_status cop__live_encode(cop_live *live, const char *text, size_t bytes, bool plain);
cop_status cop__live_end_sample(cop_live *live, cop_engine *engine, uint32_t sample, cop_stop stop);
bool cop__live_fits(const cop_engine *engine, cop_branch branch, uint64_t tokens);
/* A sample as it is right after its fork. */
void cop__live_begin_sample(cop_live *live, uint32_t sample, cop_branch branch);

bool cop__live_in_join(const cop_live_record *record);

/* live_token.c */
void cop__live_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                       cop_sample_request *request);
bool cop__live_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                             cop_sample_request *request);
cop_status cop__live_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                           const cop_sample *sampled);
cop_status cop__live_finish_sample(cop_live *live, cop_engine *engine, uint32_t sample,
                                   cop_stop stop);

/* live_trigger.c */
/* A fork of the branch was not taken. */
void cop__live_count_refused(cop_live *live, cop_live_record *record);
/* Room that the dialect's budget leaves the branch when `more` tokens join what it holds. */
bool cop__live_is_spent(const cop_live *live, const cop_engine *engine,
                        const cop_live_record *record, uint32_t more, uint32_t margin);
/* Whether it is too late for a fork. */
bool cop__live_is_late(const cop_live *live, const cop_engine *engine,
                       const cop_live_record *record);
/* A tag at `at` bytes of `text`, which follow the record's own, may fork. */
cop_status cop__live_consider(cop_live *live, const cop_engine *engine, cop_live_record *record,
                              const char *text, size_t at, uint32_t listed, cop_live_action *action,
                              uint32_t *items);
bool cop__live_is_last_block(const cop_live *live, const cop_live_sample *sample);
/* Whether an end of text forks. */
bool cop__live_end_forks(cop_live *live, const cop_engine *engine, cop_live_record *record,
                         uint32_t *items);

/* live_block.c */
bool cop__live_may_fork(const cop_live *live, const cop_engine *engine,
                        const cop_live_record *record, uint32_t items);
cop_status cop__live_fork(cop_live *live, cop_engine *engine, cop_live_record *parent,
                          uint32_t items);
/* A path as it is right after its fork, and what it is fed then. */
void cop__live_begin_path(cop_live *live, uint32_t number, const cop_live_record *parent,
                          uint32_t index, uint32_t block);
cop_status cop__live_open_path(cop_live *live, cop_engine *engine, const cop_live_record *parent,
                               uint32_t index);
/* A header or joined header of path `index`: at most COP_LIVE_HEADER_BYTES. */
cop_status cop__live_header(const cop_live *live, const cop_live_record *parent, uint32_t index,
                            const char *pattern, char *out, size_t *bytes);
const char *cop__live_find_text(const char *text, size_t bytes, const cop_tag *tag);
/* A path has ended: `closed` by its own tag, or by its end of text or its limit (`stop`). */
cop_status cop__live_end_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                              bool closed, cop_stop stop);
cop_status cop__live_cancel_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                                 cop_stop stop);
cop_status cop__live_cancel_paths(cop_live *live, cop_engine *engine);
/* The same for one, and its text goes with it. */
cop_status cop__live_drop_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                               cop_stop stop);

/* live_join.c */
cop_status cop__live_joined(cop_driver *driver, cop_engine *engine, cop_branch branch);
/* The paths that are open below a record that ends are over with it. */
void cop__live_mark_below(cop_live *live, const cop_live_record *record, cop_stop stop);
bool cop__live_says_success(const cop_live *live, const cop_live_record *record);
/* Text of paths that are still open goes behind their parent's, so that nothing said is lost. */
cop_status cop__live_gather(cop_live *live, cop_live_record *record);

/* live_shared.c */
/* The dialect's texts, encoded, and what its workers may not say. */
cop_status cop__live_shared_create(cop_live *live);
cop_status cop__live_shared_reset(cop_live *live);
void cop__live_shared_destroy(cop_live *live);
bool cop__live_is_worker(const cop_live *live, const cop_live_record *record);
/* cop__live_fits, for one that the others of its block see: what they may be fed in this step, and
 * what closes them all, stands in its view. */
bool cop__live_path_fits(const cop_live *live, const cop_engine *engine,
                         const cop_live_record *record, uint32_t tokens);
/* The block of workers, with the prompt's end. */
cop_status cop__live_shared_begin(cop_live *live, cop_engine *engine, cop_live_record *sample);
/* Right after a fork, where the dialect's paths see each other. */
cop_status cop__live_share(cop_live *live, cop_engine *engine, const cop_live_record *parent);
cop_status cop__live_worker_token(cop_live *live, cop_engine *engine, cop_live_record *record,
                                  int32_t token, bool end, bool doubtful);
/* The workers have ended. */
cop_status cop__live_workers_joined(cop_live *live, cop_engine *engine, cop_live_record *sample);
/* What the sample itself may still say is at its end. */
bool cop__live_is_concluded(const cop_live *live, const cop_live_record *record);
void cop__live_mark_ended(cop_live *live, cop_live_record *record, cop_stop stop);
/* A fixed text's ids, in the driver's memory. */
cop_status cop__live_encode_fixed(cop_live *live, const char *text, size_t bytes, int32_t **out,
                                  uint32_t *n);

/* live_retext.c */
cop_status cop__live_retext_reset(cop_live *live);
/* The prompt and the record's text, encoded in one into live->again. */
cop_status cop__live_retext_encode(cop_live *live, const cop_live_record *record);
/* Takes back what the parent's KV holds and the paths' calls have otherwise. */
cop_status cop__live_retext_fork(cop_live *live, cop_engine *engine, cop_live_record *parent);
/* What path `record` is fed: its call's ids behind those that its parent keeps. */
cop_status cop__live_retext_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                                 const cop_live_record *parent);
/* What the parent is fed behind a block: all that its KV does not hold, of its text as it is now.
 */
cop_status cop__live_retext_join(cop_live *live, cop_engine *engine, cop_live_record *parent);

/* live_async.c */
bool cop__live_is_async(const cop_live *live);
cop_status cop__live_async_create(cop_live *live);
/* What a token of a parent or a path calls for, and how much of it stays. */
cop_status cop__live_async_find(cop_live *live, cop_live_record *record, cop_text text,
                                size_t *kept, cop_live_action *action);
cop_status cop__live_async_act(cop_live *live, cop_engine *engine, cop_live_record *parent);
/* Right before the path's branch ends. */
cop_status cop__live_async_ended(cop_live *live, cop_engine *engine, cop_live_record *record);
cop_status cop__live_async_joined(cop_live *live, cop_engine *engine, cop_live_record *parent);
/* The parent ends: what still runs of its paths is given up. */
cop_status cop__live_async_cancel(cop_live *live, cop_engine *engine, cop_live_record *parent,
                                  cop_stop stop);
/* Whether its end of text waits for its paths, and then does so. */
bool cop__live_async_awaits_end(const cop_live *live, const cop_live_record *parent);
cop_status cop__live_async_end(cop_live *live, cop_engine *engine, cop_live_record *parent,
                               int32_t token);
cop_status cop__live_async_restart(cop_live *live, cop_engine *engine, uint32_t number);
/* Whether a path's KV is joined. */
static inline bool cop__live_stitches(const cop_dialect *d) {
    return d->join == COP_JOIN_STITCH || d->join == COP_JOIN_SHARED ||
           (d->join == COP_JOIN_ASYNC && d->async.insert == COP_INSERT_STITCH);
}
/* live_program.c */
bool cop__live_has_program(const cop_live *live);
cop_status cop__live_program_create(const cop_live *live); /* checks that they go together */
cop_status cop__live_program_reset(cop_live *live);
cop_status cop__live_program_token(cop_live *live, cop_engine *engine, cop_live_record *record,
                                   int32_t token, bool end);
/* The children's prompts, and what the parent keeps; then each is opened. */
cop_status cop__live_program_fork(cop_live *live, cop_engine *engine, cop_live_record *parent);
cop_status cop__live_program_open(cop_live *live, cop_engine *engine, cop_live_record *record);
cop_status cop__live_program_joined(cop_live *live, cop_engine *engine, cop_live_record *parent);
/* The branch began anew: so do its attempts. */
void cop__live_program_restart(const cop_live *live, cop_engine *engine,
                               const cop_live_record *record);

/* live_rewrite.c */
cop_status cop__live_rewrite_encode(cop_live *live, cop_message_text text, bool bos);
/* Of the record's ids, how many its KV holds. */
uint32_t cop__live_ids_fed(const cop_engine *engine, const cop_live_record *record);
/* Whether `n` ids and `bytes` may stand where the record has its `ids` first ones, and something be
 * said behind them. */
bool cop__live_rewrite_fits(const cop_live *live, const cop_engine *engine,
                            const cop_live_record *record, uint32_t ids, size_t n, size_t bytes);
void cop__live_cut_ids(const cop_live *live, cop_live_record *record, uint32_t n);
/* The text ends at `at`: of a token that this cuts, what is left is encoded anew. */
cop_status cop__live_cut_text(cop_live *live, cop_live_record *record, size_t at);
/* The record's text behind its first `base` ids is now the one in `scratch`; *same: ids that it had
 * before. */
cop_status cop__live_take_scratch(cop_live *live, cop_live_record *record, uint32_t base,
                                  uint32_t *same);
/* The branch goes on behind its ids, of which the first `same` are older than the others. */
cop_status cop__live_go_on(cop_live *live, cop_engine *engine, cop_live_record *record,
                           uint32_t same);
/* The record goes on behind `text`, which stands behind its first `base` ids; *fits is false where
 * there is no room for it, and nothing has changed. */
cop_status cop__live_go_on_behind(cop_live *live, cop_engine *engine, cop_live_record *record,
                                  uint32_t base, cop_message_text text, bool *fits);

/* live_pressure.c */
cop_status cop__live_shed(cop_driver *driver, cop_engine *engine, uint32_t problem, bool *shed);
bool cop__live_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask);
/* Before the branch is fed anything: it will be fed `now` tokens at once, and then what it may
 * still say. */
void cop__live_expect(const cop_live *live, cop_engine *engine, const cop_live_record *record,
                      uint32_t now);
/* The path has ended, and is joined: its KV stays only where the join takes it. */
cop_status cop__live_end_kept(const cop_live *live, cop_engine *engine,
                              const cop_live_record *record);
/* Records for a block of so many paths: those that a parent which began anew had before, or new
 * ones. *again: the former. False: there are no more. */
bool cop__live_find_records(const cop_live *live, const cop_live_record *parent, uint32_t items,
                            uint32_t *first, bool *again);
uint32_t cop__live_next_block(const cop_live *live, uint32_t sample);
/* Whether what is about to be heard was heard before the record began anew; counts it. */
bool cop__live_was_heard(cop_live_record *record, cop_live_event_kind kind);

/* live_penalty.c; all but create do nothing where the dialect asks for no penalty */
cop_status cop__live_penalty_create(cop_live *live);
bool cop__live_penalises(const cop_live *live);
/* The record is as after its fork; it has ended; its block was joined, and it goes on. */
void cop__live_penalty_begin(cop_live *live, cop_live_record *record);
void cop__live_penalty_ended(cop_live *live, const cop_live_record *record);
void cop__live_penalty_joined(cop_live *live, cop_live_record *parent);
void cop__live_penalty_said(cop_live *live, cop_live_record *record, int32_t token);
/* Of the record's next token: nothing of it can be known a step ahead. */
void cop__live_penalty_request(cop_live *live, cop_live_record *record, cop_stage stage,
                               cop_sample_request *request);

/* live_rule.c; all but create do nothing where there is no rule */
cop_status cop__live_rule_create(cop_live *live); /* last of the driver's parts */
cop_status cop__live_rule_reset(cop_live *live);
/* The problem begins anew, and its rule with it; not where the rule has seen waves before. */
bool cop__live_rule_may_forget(const cop_live *live);
cop_status cop__live_rule_forget(cop_live *live);
uint32_t cop__live_rule_extra(const cop_live *live); /* probes that start with the samples */
/* Feeds the record's ids from `first` on, unless a probe comes first. `plain`: the token called for
 * nothing else. */
cop_status cop__live_rule_feed(cop_live *live, cop_engine *engine, cop_live_record *record,
                               uint32_t first, bool plain);
/* The record's text is complete: its rule hears of the end. */
void cop__live_rule_ended(cop_live *live, cop_live_record *record, cop_stop stop);
bool cop__live_rule_waits(const cop_live *live, const cop_live_record *record); /* for a probe */
