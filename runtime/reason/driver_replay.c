#include "reason/driver_replay.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

typedef struct replay_op { /* text [begin, end) of the flat tokens, or a block */
    uint32_t begin, end;
    cop_forced forced;
    uint32_t first_path, n_paths; /* streams, when n_paths > 0 */
} replay_op;

typedef struct replay_stream {
    uint32_t first_op, n_ops;
    uint32_t begin, end; /* all its tokens in the flat order, nested ones included */
    uint32_t op, at;     /* cursor: operation, and token within the flat order */
    cop_branch branch;
} replay_stream;

struct cop_replay {
    cop_driver driver;
    cop_replay_options options;
    cop_arena *arena;
    int32_t *flat;
    float *logprob; /* of each flat token that was generated; NaN: of none */
    uint8_t *ran;   /* how often each flat token ran as generated or forced */
    uint32_t n_flat;
    replay_op *ops;
    replay_stream *streams; /* 0 is the main one */
    uint32_t n_ops, n_streams;
    cop_branch *children; /* scratch of a fork */
    int32_t *prompt;
    uint32_t n_prompt;
    cop_replay_stats stats;
};

typedef struct sizes {
    uint64_t tokens, ops, streams, widest;
} sizes;

static void measure(const cop_stream *stream, sizes *s) {
    s->streams++;
    s->ops += stream->n_pieces;
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        s->tokens += piece->block ? 0 : piece->n;
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++)
            measure(&piece->block->paths[p], s);
        if (piece->block && piece->block->n_paths > s->widest)
            s->widest = piece->block->n_paths;
    }
}

static uint32_t live_branches(const cop_stream *stream) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_block *block = stream->pieces[i].block;
        uint32_t sum = 0;
        for (uint32_t p = 0; block && p < block->n_paths; p++)
            sum += live_branches(&block->paths[p]);
        most = sum > most ? sum : most;
    }
    return most + 1;
}

uint32_t cop_trajectory_branches(const cop_trajectory *trajectory) {
    /* Twice: branches whose last tokens still have to run when their successors are opened. */
    return 1 + 2 * live_branches(&trajectory->stream);
}

/* A branch's first token is sampled from its own header's last row, or else from the last row that
 * its parent ran; where there is neither, the tree cannot be replayed. */
static cop_status check_block(const cop_block *block, const cop_piece *before, bool in_path) {
    bool text_before = before && !before->block && before->n > 0;
    if (in_path && !before)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "a path begins with a block: it needs text first");
    for (uint32_t p = 0; p < block->n_paths; p++) {
        const cop_stream *path = &block->paths[p];
        bool header = path->n_pieces > 0 && path->pieces[0].forced == COP_FORCED_BRANCH &&
                      path->pieces[0].n > 0;
        if (!header && !text_before)
            return COP_FAIL(COP_ERR_UNSUPPORTED,
                            "path %u has no header, and no text stands before its block", p + 1);
    }
    return COP_OK;
}

static cop_status compile(cop_replay *r, const cop_stream *stream, uint32_t self) {
    replay_stream *s = &r->streams[self];
    s->first_op = r->n_ops;
    s->n_ops = stream->n_pieces;
    s->begin = r->n_flat;
    r->n_ops += stream->n_pieces;
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        replay_op *op = &r->ops[s->first_op + i];
        op->begin = r->n_flat;
        op->forced = piece->forced;
        if (!piece->block) {
            if (piece->n > 0)
                memcpy(r->flat + r->n_flat, piece->ids, piece->n * sizeof *r->flat);
            r->n_flat += piece->n;
        } else {
            COP_TRY(check_block(piece->block, i > 0 ? &stream->pieces[i - 1] : NULL, self != 0));
            if (self != 0 && r->options.join == COP_JOIN_SHARED)
                return COP_FAIL(COP_ERR_UNSUPPORTED,
                                "a path holds a block: under the join rule shared, paths see each "
                                "other's tokens and cannot fork (choose other trajectories with "
                                "--id, or another rule)");
            op->first_path = r->n_streams;
            op->n_paths = piece->block->n_paths;
            r->n_streams += op->n_paths;
            for (uint32_t p = 0; p < op->n_paths; p++)
                COP_TRY(compile(r, &piece->block->paths[p], op->first_path + p));
        }
        op->end = r->n_flat;
    }
    s->end = r->n_flat;
    return COP_OK;
}

/* The flattened control: one operation, everything generated. */
static void flatten(cop_replay *r) {
    r->ops[0] = (replay_op){.begin = 0, .end = r->n_flat};
    r->streams[0] = (replay_stream){.n_ops = 1, .end = r->n_flat};
    r->n_ops = r->n_streams = 1;
}

static void rewind_streams(cop_replay *r) {
    for (uint32_t i = 0; i < r->n_streams; i++) {
        r->streams[i].op = 0;
        r->streams[i].at = r->streams[i].begin;
        r->streams[i].branch = COP_BRANCH_NONE;
    }
}

static const replay_op *current(const cop_replay *r, replay_stream *s) {
    while (s->op < s->n_ops) {
        const replay_op *op = &r->ops[s->first_op + s->op];
        if (op->n_paths > 0 || s->at < op->end)
            return op;
        s->op++;
    }
    return NULL;
}

static bool keeps_last_token(const cop_replay *r, cop_engine *engine, cop_branch branch) {
    if (r->options.join == COP_JOIN_STITCH || r->options.join == COP_JOIN_SHARED)
        return true;
    return r->options.reuse == COP_REUSE_LONGEST_PREFIX &&
           cop_engine_branch(engine, branch).index == 0;
}

static cop_status feed_range(cop_replay *r, cop_engine *engine, cop_branch branch, uint32_t begin,
                             uint32_t end, cop_feed feed) {
    for (uint32_t i = begin; i < end && feed != COP_FEED_AGAIN; i++)
        r->ran[i]++;
    return cop_engine_feed(engine, branch, r->flat + begin, end - begin, feed);
}

static cop_status proceed(cop_replay *r, cop_engine *engine, uint32_t self);

/* Tokens that the stream still has before its next block or its end. */
static uint32_t tokens_ahead(const cop_replay *r, const replay_stream *s) {
    uint32_t n = 0, at = s->at;
    for (uint32_t i = s->op; i < s->n_ops; i++) {
        const replay_op *op = &r->ops[s->first_op + i];
        if (op->n_paths > 0)
            break;
        n += op->end > at ? op->end - at : 0;
        at = op->end;
    }
    return n;
}

static cop_status end_stream(cop_replay *r, cop_engine *engine, cop_branch branch) {
    return keeps_last_token(r, engine, branch) ? cop_engine_end(engine, branch, COP_END_DONE)
                                               : cop_engine_end_text(engine, branch);
}

static cop_status fork_paths(cop_replay *r, cop_engine *engine, replay_stream *s,
                             const replay_op *op) {
    cop_branch *children = r->children;
    COP_TRY(cop_engine_fork(engine, s->branch, op->n_paths, children));
    if (r->options.join == COP_JOIN_SHARED)
        COP_TRY(cop_engine_share(engine, s->branch, NULL));
    for (uint32_t p = 0; p < op->n_paths; p++) {
        r->streams[op->first_path + p].branch = children[p];
        cop_engine_set_data(engine, children[p], op->first_path + p);
        cop_engine_expect(engine, children[p], tokens_ahead(r, &r->streams[op->first_path + p]));
    }
    /* An inner fork reuses the scratch, so each path's own branch is the one kept in its stream. */
    for (uint32_t p = 0; p < op->n_paths; p++)
        COP_TRY(proceed(r, engine, op->first_path + p));
    return COP_OK;
}

/* Feeds what is forced, forks, or ends, until a token has to be generated. */
static cop_status proceed(cop_replay *r, cop_engine *engine, uint32_t self) {
    replay_stream *s = &r->streams[self];
    for (;;) {
        const replay_op *op = current(r, s);
        if (!op)
            return end_stream(r, engine, s->branch);
        if (op->n_paths > 0)
            return fork_paths(r, engine, s, op);
        if (op->forced == COP_FORCED_NOT)
            return COP_OK;
        cop_feed feed = op->forced == COP_FORCED_BRANCH ? COP_FEED_HEADER : COP_FEED_JOIN;
        COP_TRY(feed_range(r, engine, s->branch, s->at, op->end, feed));
        s->at = op->end;
    }
}

static cop_status replay_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    cop_replay *r = (cop_replay *)driver;
    cop_branch root;
    COP_TRY(cop_engine_root(engine, problem, &root));
    cop_engine_set_data(engine, root, UINT32_MAX);
    COP_TRY(cop_engine_feed(engine, root, r->prompt, r->n_prompt, COP_FEED_PROMPT));
    COP_TRY(cop_engine_fork(engine, root, 1, &r->streams[0].branch));
    cop_engine_set_data(engine, r->streams[0].branch, 0);
    cop_engine_expect(engine, r->streams[0].branch, tokens_ahead(r, &r->streams[0]));
    return proceed(r, engine, 0);
}

static void force(const cop_replay *r, const replay_op *op, uint32_t at,
                  cop_sample_request *request) {
    request->forced = r->flat[at];
    request->forced_next = r->flat + at + 1;
    request->n_forced_next = op->end - at - 1;
}

static void replay_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                           cop_sample_request *request) {
    cop_replay *r = (cop_replay *)driver;
    replay_stream *s = &r->streams[cop_engine_branch(engine, branch).data];
    const replay_op *op = current(r, s);
    request->temperature = 1;
    if (op && op->n_paths == 0)
        force(r, op, s->at, request);
}

/* The token after the next one, which may begin another piece of text. Where the text ends, or goes
 * on with what is not generated, the guess is wrong, and is taken back. */
static bool replay_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                                 cop_sample_request *request) {
    cop_replay *r = (cop_replay *)driver;
    replay_stream *s = &r->streams[cop_engine_branch(engine, branch).data];
    const replay_op *op = current(r, s), *end = &r->ops[s->first_op + s->n_ops];
    request->temperature = 1;
    while (op && op < end && op->n_paths == 0 && s->at + 1 >= op->end)
        op++;
    if (op && op < end && op->n_paths == 0 && op->forced == COP_FORCED_NOT)
        force(r, op, s->at + 1, request);
    return true;
}

static cop_status replay_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                               const cop_sample *sample) {
    cop_replay *r = (cop_replay *)driver;
    uint32_t self = cop_engine_branch(engine, branch).data;
    replay_stream *s = &r->streams[self];
    const replay_op *op = current(r, s);
    if (!op || op->n_paths > 0)
        return COP_FAIL(COP_ERR_INTERNAL, "a replayed branch was asked for a token it has not");
    if (sample->failed)
        return COP_FAIL(COP_ERR_NONFINITE,
                        "trajectory token %u: the model gave values that are not finite", s->at);
    uint32_t at = s->at++;
    r->logprob[at] = sample->forced_logprob;
    cop_engine_generated(engine, branch, 1);
    const replay_op *next = current(r, s);
    if (next || (self != 0 && keeps_last_token(r, engine, branch)))
        COP_TRY(feed_range(r, engine, branch, at, at + 1, COP_FEED_DECODE));
    else
        r->ran[at]++;
    if (next && next->n_paths == 0 && next->forced == COP_FORCED_NOT)
        return COP_OK;
    return proceed(r, engine, self);
}

static cop_status replay_joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    cop_replay *r = (cop_replay *)driver;
    uint32_t self = cop_engine_branch(engine, parent).data;
    if (self == UINT32_MAX)
        return cop_engine_end(engine, parent, COP_END_DONE);
    replay_stream *s = &r->streams[self];
    const replay_op *op = current(r, s);
    for (uint32_t p = 0; p < op->n_paths; p++)
        r->streams[op->first_path + p].branch = COP_BRANCH_NONE;
    bool reuse = r->options.reuse == COP_REUSE_LONGEST_PREFIX, fed = false;
    const replay_stream after = {
        .first_op = s->first_op, .n_ops = s->n_ops, .op = s->op + 1, .at = op->end};
    if (r->options.join == COP_JOIN_STITCH) {
        COP_TRY(cop_engine_join_stitch(engine, parent, true));
        cop_engine_expect(engine, parent, tokens_ahead(r, &after));
    } else if (r->options.join == COP_JOIN_SHARED) {
        COP_TRY(cop_engine_join_shared(engine, parent));
        cop_engine_expect(engine, parent, tokens_ahead(r, &after));
    } else {
        COP_TRY(cop_engine_join_text(engine, parent, reuse));
        uint32_t begin = reuse ? r->streams[op->first_path].end : op->begin;
        cop_engine_expect(engine, parent, op->end - begin + tokens_ahead(r, &after));
        COP_TRY(feed_range(r, engine, parent, begin, op->end, COP_FEED_AGAIN));
        fed = op->end > begin;
    }
    s->op++;
    s->at = op->end;
    const replay_op *next = current(r, s);
    if (next && next->n_paths == 0 && next->forced == COP_FORCED_NOT && !fed) {
        /* Nothing was computed since the join: there is no row to sample the next token from, so it
         * is forced. */
        COP_TRY(feed_range(r, engine, parent, s->at, s->at + 1, COP_FEED_JOIN));
        s->at++;
    }
    return proceed(r, engine, self);
}

/* Whether the stream is first asked for a token, after what is forced at most. */
static bool begins_with_text(const cop_replay *r, const replay_stream *s) {
    const replay_op *first = s->n_ops ? &r->ops[s->first_op] : NULL;
    if (first && first->n_paths == 0 && first->forced != COP_FORCED_NOT && s->n_ops > 1)
        first++;
    return first && first->n_paths == 0 && first->forced == COP_FORCED_NOT &&
           first->end > first->begin;
}

/* The stream and those inside it begin anew. */
static bool replay_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask) {
    cop_replay *r = (cop_replay *)driver;
    const uint32_t self = cop_engine_branch(engine, branch).data;
    if (self == UINT32_MAX) { /* the root */
        if (ask)
            return true;
        memset(r->ran, 0, r->n_flat * sizeof *r->ran);
        rewind_streams(r);
        return true;
    }
    if (ask || !begins_with_text(r, &r->streams[self]))
        return begins_with_text(r, &r->streams[self]);
    replay_stream *s = &r->streams[self];
    memset(r->ran + s->begin, 0, s->end - s->begin);
    for (uint32_t i = 0; i < r->n_streams; i++) {
        replay_stream *inner = &r->streams[i];
        if (inner->begin < s->begin || inner->end > s->end)
            continue;
        inner->op = 0;
        inner->at = inner->begin;
    }
    s->branch = branch;
    return proceed(r, engine, self) == COP_OK;
}

static cop_status build(cop_replay *r, const cop_trajectory *t) {
    sizes s = {0};
    measure(&t->stream, &s);
    if (s.tokens > UINT32_MAX / 2)
        return COP_FAIL(COP_ERR_FORMAT, "trajectory %s holds too many tokens", t->id);
    COP_TRY(cop_arena_create(&r->arena));
    r->flat = cop_arena_calloc(r->arena, s.tokens + 1, sizeof *r->flat);
    r->ran = cop_arena_calloc(r->arena, s.tokens + 1, sizeof *r->ran);
    r->logprob = cop_arena_calloc(r->arena, s.tokens + 1, sizeof *r->logprob);
    r->ops = cop_arena_calloc(r->arena, s.ops + 1, sizeof *r->ops);
    r->streams = cop_arena_calloc(r->arena, s.streams, sizeof *r->streams);
    r->children = cop_arena_calloc(r->arena, s.widest + 1, sizeof *r->children);
    for (uint32_t i = 0; i < t->prompt.n_pieces; i++)
        r->n_prompt += t->prompt.pieces[i].n;
    r->prompt = cop_arena_calloc(r->arena, r->n_prompt + 1, sizeof *r->prompt);
    if (!r->flat || !r->ran || !r->logprob || !r->ops || !r->streams || !r->children || !r->prompt)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to replay trajectory %s", t->id);
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->prompt.n_pieces; i++) {
        const cop_piece *piece = &t->prompt.pieces[i];
        if (piece->n > 0)
            memcpy(r->prompt + at, piece->ids, piece->n * sizeof *r->prompt);
        at += piece->n;
    }
    if (r->n_prompt == 0)
        r->prompt[r->n_prompt++] = r->options.start_token;
    for (uint64_t i = 0; i <= s.tokens; i++)
        r->logprob[i] = NAN;
    r->n_streams = 1;
    COP_TRY(compile(r, &t->stream, 0));
    if (r->n_flat == 0)
        return COP_FAIL(COP_ERR_FORMAT, "trajectory %s holds no token: tokenise it first", t->id);
    r->stats.tokens = r->n_flat;
    if (r->options.join == COP_JOIN_NONE)
        flatten(r);
    rewind_streams(r);
    r->driver.prompt_tokens = r->n_prompt;
    return COP_OK;
}

cop_status cop_replay_create(const cop_trajectory *trajectory, const cop_replay_options *options,
                             cop_replay **out) {
    cop_replay *r = cop_calloc(1, sizeof *r);
    if (!r)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to replay");
    r->driver = (cop_driver){.start = replay_start,
                             .request = replay_request,
                             .request_ahead = replay_request_ahead,
                             .token = replay_token,
                             .joined = replay_joined,
                             .restart = replay_restart};
    r->options = *options;
    cop_status status = build(r, trajectory);
    if (status != COP_OK) {
        cop_replay_destroy(r);
        return cop_status_prefix(status, "trajectory %s", trajectory->id);
    }
    *out = r;
    return COP_OK;
}

void cop_replay_destroy(cop_replay *r) {
    if (!r)
        return;
    cop_arena_destroy(r->arena);
    cop_free(r);
}

cop_driver *cop_replay_driver(cop_replay *replay) {
    return &replay->driver;
}

cop_status cop_replay_check(const cop_replay *r) {
    for (uint32_t i = 0; i < r->n_flat; i++) {
        if (r->ran[i] != 1)
            return COP_FAIL(COP_ERR_MISMATCH, "recorded token %u of %u ran %u times", i, r->n_flat,
                            r->ran[i]);
    }
    return COP_OK;
}

cop_replay_stats cop_replay_stats_read(const cop_replay *r) {
    cop_replay_stats stats = r->stats;
    for (uint32_t i = 0; i < r->n_flat; i++) {
        if (isnan(r->logprob[i]))
            continue;
        stats.logprob_sum += r->logprob[i];
        stats.logprob_count++;
    }
    return stats;
}
