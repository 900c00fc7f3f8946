#include <string.h>

#include "base/memory.h"
#include "base/sha256.h"
#include "job/job_internal.h"
#include "reason/driver_replay.h"

static const struct {
    const char *name;
    cop_join_rule join;
    cop_reuse reuse;
} methods[COP_METHOD_COUNT] = {
    [COP_METHOD_FLATTENED] = {"flattened", COP_JOIN_NONE, COP_REUSE_NONE},
    [COP_METHOD_REPREFILL] = {"reprefill", COP_JOIN_REPREFILL, COP_REUSE_NONE},
    [COP_METHOD_REPREFILL_REUSE] = {"reprefill+reuse", COP_JOIN_REPREFILL,
                                    COP_REUSE_LONGEST_PREFIX},
    [COP_METHOD_STITCH] = {"stitch", COP_JOIN_STITCH, COP_REUSE_NONE},
    [COP_METHOD_SHARED] = {"shared", COP_JOIN_SHARED, COP_REUSE_NONE},
};

const char *cop_method_name(cop_method method) {
    return methods[method].name;
}

cop_status cop_method_parse(const char *name, cop_method *out) {
    for (int i = 0; i < COP_METHOD_COUNT; i++) {
        if (strcmp(name, methods[i].name) == 0) {
            *out = (cop_method)i;
            return COP_OK;
        }
    }
    return COP_FAIL(COP_ERR_USAGE,
                    "join \"%s\" is unknown: use flattened, reprefill, reprefill+reuse, stitch or "
                    "shared",
                    name);
}

cop_status cop__replay_trees(const char *path, const cop_tree_grid *grid, cop_trajectories **out,
                             char sha256[COP_SHA256_HEX_BYTES]) {
    if (grid)
        return cop_tree_grid_read(grid, out, sha256);
    COP_TRY(cop_sha256_of_file(path, sha256));
    return cop_trajectories_read(path, out);
}

typedef struct replay_run {
    cop_job *job;
    const cop_replay_job *what;
    cop_trajectories *set;
    const cop_trajectory **chosen;
    uint32_t n_chosen;
    cop_timeline *timeline;
    cop_engine *engine;
    uint32_t done;
    char file_hash[COP_SHA256_HEX_BYTES];
} replay_run;

static cop_status choose(replay_run *run) {
    const cop_replay_job *what = run->what;
    uint32_t n = what->n_ids ? what->n_ids : run->set->count;
    run->chosen = cop_calloc(n, sizeof *run->chosen);
    if (!run->chosen)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u trajectories", n);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < run->set->count; k++) {
            if (!what->n_ids ? k == i : strcmp(run->set->list[k].id, what->ids[i]) == 0)
                run->chosen[i] = &run->set->list[k];
        }
        if (!run->chosen[i])
            return COP_FAIL(COP_ERR_CONFIG, "%s holds no trajectory \"%s\"",
                            what->grid ? "the grid" : what->trajectories, what->ids[i]);
        const char *dialect = run->chosen[i]->dialect;
        if (i == 0 || strcmp(dialect, run->chosen[i - 1]->dialect) != 0) {
            cop_status known = cop_dialect_check_name(dialect);
            if (known != COP_OK)
                return cop_status_prefix(known, "%s, trajectory \"%s\"",
                                         what->grid ? "the grid" : what->trajectories,
                                         run->chosen[i]->id);
        }
    }
    run->n_chosen = n;
    return COP_OK;
}

static void count_pieces(const cop_stream *stream, cop_job_size *size) {
    size->segments += 2;
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        size->tokens += piece->block ? 0 : piece->n;
        size->segments += piece->block ? 2 : 0;
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++)
            count_pieces(&piece->block->paths[p], size);
    }
}

/* One engine serves all: the largest in each respect. A re-prefill holds, for a moment, a finished
 * block's paths beside their copy, so tokens are counted twice. */
static cop_job_size size_of(const replay_run *run) {
    cop_job_size most = {.what = ""};
    for (uint32_t i = 0; i < run->n_chosen; i++) {
        cop_job_size size = {0};
        const cop_trajectory *t = run->chosen[i];
        count_pieces(&t->prompt, &size);
        count_pieces(&t->stream, &size);
        uint32_t positions = (uint32_t)size.tokens + 1;
        uint32_t branches = cop_trajectory_branches(t);
        if (positions > most.positions) {
            most.positions = positions;
            most.what = t->id;
        }
        most.tokens = 2 * size.tokens > most.tokens ? 2 * size.tokens : most.tokens;
        most.segments = size.segments > most.segments ? size.segments : most.segments;
        most.branches = branches > most.branches ? branches : most.branches;
    }
    most.segments += 2 * most.branches;
    if (most.branches < 17)
        most.branches = 17; /* calibration decodes up to 16 beside their prompt */
    return most;
}

static json_t *describe(const replay_run *run, const cop_trajectory *t, cop_method method,
                        const cop_replay_stats *stats) {
    const cop_job *job = run->job;
    bool extrapolated = t->n_tokens + 1 > cop_model_shape_of(job->model)->context;
    double mean = stats->logprob_count ? stats->logprob_sum / (double)stats->logprob_count : 0;
    json_t *record = json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:I, s:f}", "group", "replay",
        "problem", t->id, "method", cop_method_name(method), "model", cop_model_name(job->model),
        "random_weights", (int)cop_model_is_random(job->model), "arithmetic",
        cop_arith_name(job->options.arith), "dialect", t->dialect, "tokens_from",
        cop_token_origin_text(t->origin), "extrapolated", (int)extrapolated, "blocks",
        (int)t->blocks, "paths", (int)t->paths, "depth", (int)t->depth, "tokens_recorded",
        (json_int_t)t->n_tokens, "mean_logprob", mean);
    json_t *notes = json_array();
    if (method == COP_METHOD_FLATTENED)
        json_array_append_new(notes, json_string("iso-token control: one sequence that holds the "
                                                 "tags and outlines of the recording"));
    if (extrapolated)
        json_array_append_new(notes,
                              json_string("positions past the model's context (by the flattened "
                                          "length, for every method)"));
    if (record)
        json_object_set_new(record, "notes", notes);
    else
        json_decref(notes);
    return record;
}

/* A token is generated or forced, once; what is computed again at joins comes on top. */
static cop_status check_work(const cop_trajectory *t, cop_method method, const cop_metrics *m,
                             const cop_replay *replay) {
    COP_TRY(cop_replay_check(replay));
    uint64_t expected = cop_replay_stats_read(replay).tokens;
    if (m->tokens_total + m->tokens_forced != expected)
        return COP_FAIL(COP_ERR_MISMATCH,
                        "trajectory %s, %s: %llu generated and %llu forced tokens are not the %llu "
                        "recorded ones",
                        t->id, cop_method_name(method), (unsigned long long)m->tokens_total,
                        (unsigned long long)m->tokens_forced, (unsigned long long)expected);
    if (m->kv_pages_leaked > 0)
        return COP_FAIL(COP_ERR_INTERNAL, "trajectory %s, %s: %llu pages are still held", t->id,
                        cop_method_name(method), (unsigned long long)m->kv_pages_leaked);
    return COP_OK;
}

/* Runs it once; *replay is the caller's either way. */
static cop_status force(replay_run *run, const cop_trajectory *t, cop_method method,
                        const cop_replay_options *options, cop_replay **replay,
                        cop_metrics *metrics) {
    COP_TRY(cop_replay_create(t, options, replay));
    if (run->timeline)
        cop_timeline_reset(run->timeline);
    cop_driver *driver = cop_replay_driver(*replay);
    COP_TRY(cop_engine_run(run->engine, &driver, 1, metrics));
    return check_work(t, method, metrics, *replay);
}

static cop_status run_cell(replay_run *run, const cop_trajectory *t, cop_method method,
                           uint32_t repeat) {
    const cop_replay_job *what = run->what;
    cop__job_cell cell = {.job = run->job,
                          .problem = t->id,
                          .method = cop_method_name(method),
                          .repeat = repeat,
                          .results = what->results,
                          .listener = what->listener,
                          .context = what->context};
    json_t *identity =
        cop__job_identity(run->job, "replay", t->id, cell.method, json_string(run->file_hash));
    cop_status status = cop_results_cell_key(identity, cell.key);
    json_decref(identity);
    COP_TRY(status);
    if (what->results && cop_results_done(what->results, cell.key, repeat))
        return COP_OK;
    const cop_tokenizer *tokenizer = cop_model_tokenizer(run->job->model);
    int32_t start = tokenizer ? cop_tokenizer_bos(tokenizer) : 0;
    cop_replay_options options = {.join = methods[method].join,
                                  .reuse = methods[method].reuse,
                                  .start_token = start < 0 ? 0 : start};
    cop_replay *replay = NULL;
    cop_metrics metrics, fill = {0};
    if (cop_job_prefix_begin(run->job, run->engine)) {
        status = force(run, t, method, &options, &replay, &fill);
        cop_replay_destroy(replay);
        replay = NULL;
    }
    if (status == COP_OK)
        status = force(run, t, method, &options, &replay, &metrics);
    if (status == COP_OK) {
        cop_job_prefix_charge(&fill, &metrics);
        cop_replay_stats stats = cop_replay_stats_read(replay);
        json_t *record = describe(run, t, method, &stats);
        status = cop__job_finish_cell(&cell, record, &metrics, run->timeline);
        json_decref(record);
    }
    cop_replay_destroy(replay);
    return status;
}

static cop_status run_cells(replay_run *run) {
    const cop_replay_job *what = run->what;
    uint32_t total = what->repeats * run->n_chosen * what->n_methods;
    for (uint32_t repeat = 0; repeat < what->repeats; repeat++) {
        for (uint32_t i = 0; i < run->n_chosen; i++) {
            for (uint32_t m = 0; m < what->n_methods; m++) {
                char text[128];
                snprintf(text, sizeof text, "%.60s, %s", run->chosen[i]->id,
                         cop_method_name(what->methods[m]));
                if (what->progress)
                    what->progress(what->context, run->done++, total, text);
                COP_TRY(run_cell(run, run->chosen[i], what->methods[m], repeat));
            }
        }
    }
    return COP_OK;
}

static cop_status prepare(replay_run *run) {
    const cop_model *model = run->job->model;
    COP_TRY(cop__replay_trees(run->what->trajectories, run->what->grid, &run->set, run->file_hash));
    COP_TRY(choose(run));
    COP_TRY(cop_trajectories_tokenize(run->set, cop_model_tokenizer(model),
                                      cop_model_shape_of(model)->vocab, run->job->options.seed));
    if (run->what->results)
        COP_TRY(cop_timeline_create(COP_TIMELINE_EVENTS, &run->timeline));
    cop_job_size size = size_of(run);
    char name[160];
    snprintf(name, sizeof name, "trajectory %.100s (flattened)", size.what);
    size.what = name;
    COP_TRY(cop_job_engine(run->job, &size, run->timeline, &run->engine));
    return cop_engine_calibrate(run->engine);
}

cop_status cop_job_replay(cop_job *job, const cop_replay_job *what) {
    replay_run run = {.job = job, .what = what};
    cop_status status = prepare(&run);
    if (status == COP_OK)
        status = run_cells(&run);
    cop_engine_destroy(run.engine);
    cop_timeline_destroy(run.timeline);
    cop_free(run.chosen);
    cop_trajectories_destroy(run.set);
    return status;
}
