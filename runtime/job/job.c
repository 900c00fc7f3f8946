#include "job/job.h"

#include <sched.h>
#include <string.h>

#include "backend/cpu/isa.h"
#include "base/memory.h"
#include "job/job_internal.h"
#include "measure/ceilings.h"

enum { CALIBRATION_POSITIONS = 256 }; /* what cop_engine_calibrate would like to have */

void cop_job_options_default(cop_job_options *options) {
    *options = (cop_job_options){.arith = COP_ARITH_NATIVE_A8, .page_tokens = 32, .seed = 1};
}

cop_arith cop_job_arith_default(const cop_backend_choice *on) {
    return strcmp(cop_backend_choice_name(on), "cpu") == 0 ? COP_ARITH_NATIVE_A8 : COP_ARITH_BF16;
}

cop_status cop_job_create(const cop_job_options *options, cop_job **out) {
    if (!options->model == !options->random)
        return COP_FAIL(COP_ERR_USAGE, "name either a model file (--model) or a shape file for "
                                       "random weights (--random)");
    cop_job *job = cop_calloc(1, sizeof *job);
    if (!job)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a job");
    job->options = *options;
    cop_status status = options->model ? cop_model_open(options->model, &job->model)
                                       : cop_model_open_random(options->random, &job->model);
    if (status != COP_OK) {
        cop_job_destroy(job);
        return status;
    }
    *out = job;
    return COP_OK;
}

void cop_job_destroy(cop_job *job) {
    if (!job)
        return;
    cop_model_close(job->model);
    cop_free(job);
}

const cop_model *cop_job_model(const cop_job *job) {
    return job->model;
}

static uint32_t thread_count(const cop_job *job) {
    cpu_set_t set;
    if (job->options.n_threads)
        return job->options.n_threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

static uint32_t group_of(const cop_job *job) {
    const cop_model_shape *shape = cop_model_shape_of(job->model);
    return shape->n_heads / shape->n_kv_heads;
}

static cop_status create_engine(const cop_job *job, const cop_job_size *size,
                                cop_timeline *timeline, bool profile, cop_engine **out) {
    const cop_job_options *o = &job->options;
    const cop_model_shape *shape = cop_model_shape_of(job->model);
    uint32_t page = o->page_tokens ? o->page_tokens : 32;
    if (size->positions > shape->context && !o->allow_extrapolation)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "%s is %u tokens long, the model's context is %u: take a shorter one, or "
                        "pass --allow-extrapolation (the results will say so)",
                        size->what, size->positions, shape->context);
    uint32_t positions =
        shape->context < CALIBRATION_POSITIONS ? shape->context : CALIBRATION_POSITIONS;
    if (positions < size->positions)
        positions = size->positions;
    uint64_t pages = size->tokens / page + size->segments + 1;
    if (pages > UINT32_MAX / page)
        return COP_FAIL(COP_ERR_CONFIG, "%s needs %llu pages", size->what,
                        (unsigned long long)pages);
    const cop_backend_choice *on = &o->on;
    cop_engine_options engine = {.backend = on->name,
                                 .products = on->products,
                                 .device = on->device,
                                 .eager = on->eager,
                                 .time_every = on->time_every,
                                 .profile_first = profile ? on->profile_first : 0,
                                 .profile_last = profile ? on->profile_last : 0,
                                 .arith = o->arith,
                                 .n_threads = o->n_threads,
                                 .isa = o->isa,
                                 .page_tokens = page,
                                 .n_pages = o->n_pages ? o->n_pages : (uint32_t)pages,
                                 .chunk_tokens = o->chunk_tokens,
                                 .chunk_tail_tokens = o->chunk_tail_tokens,
                                 .tile_slots = o->tile_slots,
                                 .max_branches = size->branches,
                                 .max_rows = o->max_rows ? o->max_rows : size->rows,
                                 .max_positions = positions,
                                 .prefix_block = o->prefix_block,
                                 .pressure = o->kv_policy,
                                 .seed = o->seed,
                                 .timeline = timeline,
                                 .interrupt = o->interrupt};
    if (engine.tile_slots > group_of(job) * COP_TILE_SLOTS_MAX)
        engine.tile_slots = 0;
    memcpy(engine.inject_ns, o->inject_ns, sizeof engine.inject_ns);
    return cop_engine_create(job->model, &engine, out);
}

/* A backend's own words end with it, so they are copied; the names are constants. */
static void note_device(cop_job *job, const cop_engine *engine) {
    const cop_backend_ops *ops;
    const cop_backend *backend = cop_engine_backend(engine, &ops);
    job->device = (cop_job_device){.backend = ops->name,
                                   .products = cop_products_mode_name(ops->products(backend)),
                                   .clock = cop_backend_clock(ops)};
    snprintf(job->device.text, sizeof job->device.text, "%s", ops->describe(backend));
}

static cop_status check_choice(const cop_job *job) {
    const cop_backend_ops *ops;
    return cop_backend_choice_find(&job->options.on, &ops);
}

cop_status cop_job_engine(cop_job *job, const cop_job_size *size, cop_timeline *timeline,
                          cop_engine **out) {
    COP_TRY(check_choice(job));
    COP_TRY(create_engine(job, size, timeline, !job->profiled, out));
    job->profiled = true;
    note_device(job, *out);
    return COP_OK;
}

cop_status cop_job_device_of(cop_job *job, const cop_job_device **out) {
    *out = &job->device;
    if (job->device.backend)
        return COP_OK;
    const cop_job_size small = {
        .tokens = 64, .segments = 4, .branches = 4, .positions = 1, .what = "a token"};
    cop_engine *engine = NULL;
    COP_TRY(check_choice(job));
    COP_TRY(create_engine(job, &small, NULL, false, &engine));
    note_device(job, engine);
    cop_engine_destroy(engine);
    return COP_OK;
}

int cop__job_describe_device(const cop_job *job, json_t *object) {
    const cop_backend_choice *on = &job->options.on;
    int failed = json_object_set_new(object, "backend", json_string(job->device.backend));
    failed |= json_object_set_new(object, "device", json_string(job->device.text));
    failed |= json_object_set_new(object, "products", json_string(job->device.products));
    failed |= json_object_set_new(object, "clock", json_string(job->device.clock));
    failed |= json_object_set_new(object, "eager", json_boolean(on->eager));
    return failed | json_object_set_new(object, "time_every", json_integer(on->time_every));
}

/* Nothing where nothing is used: lines and keys of plain runs stay what they were. A pool's size
 * decides what a policy does, and nothing where a full pool is an error. */
int cop_job_describe_pool(const cop_job *job, json_t *object) {
    const cop_job_options *o = &job->options;
    int failed = 0;
    if (o->kv_policy != COP_PRESSURE_FAIL) {
        failed |=
            json_object_set_new(object, "kv_policy", json_string(cop_pressure_name(o->kv_policy)));
        failed |= json_object_set_new(object, "pages", json_integer(o->n_pages));
    }
    if (o->prefix_block)
        failed |= json_object_set_new(object, "prefix",
                                      json_pack("{s:i, s:s}", "block", (int)o->prefix_block,
                                                "state", o->prefix_warm ? "warm" : "cold"));
    return failed;
}

static int note_pool(const cop_job *job, json_t *record) {
    const cop_job_options *o = &job->options;
    json_t *notes = json_object_get(record, "notes");
    int failed = 0;
    if (!json_is_array(notes))
        return 0;
    if (o->kv_policy != COP_PRESSURE_FAIL)
        failed |= json_array_append_new(
            notes, json_sprintf("a full KV pool: %s", cop_pressure_name(o->kv_policy)));
    if (o->prefix_block)
        failed |= json_array_append_new(
            notes, json_sprintf("prefix store, blocks of %u tokens: %s", o->prefix_block,
                                o->prefix_warm ? "warm, filled by a discarded pass that is charged "
                                                 "as kv.prefix_fill"
                                               : "cold, emptied before this cell"));
    return failed;
}

bool cop_job_prefix_begin(const cop_job *job, cop_engine *engine) {
    if (job->options.prefix_block)
        cop_engine_prefix_clear(engine);
    return job->options.prefix_block && job->options.prefix_warm;
}

void cop_job_prefix_charge(const cop_metrics *fill, cop_metrics *metrics) {
    metrics->prefix_fill_tokens += fill->tokens_prompt - fill->tokens_prefix_reused +
                                   fill->tokens_total + fill->tokens_forced +
                                   fill->tokens_reprefilled + fill->tokens_recomputed;
    metrics->prefix_fill_ns += fill->wall_ns;
}

cop_status cop_job_manifest(cop_job *job, const char *name, json_t **out) {
    char hash[65];
    const cop_job_device *device;
    COP_TRY(cop_job_device_of(job, &device));
    COP_TRY(cop_model_sha256(job->model, hash));
    const cop_job_options *o = &job->options;
    cop_isa isa;
    COP_TRY(cop_isa_choose(o->isa, &isa));
    uint32_t chunk = o->chunk_tokens ? o->chunk_tokens : COP_CHUNK_TOKENS_DEFAULT;
    json_t *manifest = json_pack(
        "{s:s, s:{s:s, s:s, s:b}, s:s, s:s, s:i, s:I, s:{s:i, s:i}, s:i, s:b}", "name", name,
        "model", "name", cop_model_name(job->model), "sha256", hash, "random_weights",
        (int)cop_model_is_random(job->model), "arithmetic", cop_arith_name(o->arith), "isa",
        cop_isa_name(isa), "threads", (int)thread_count(job), "seed", (json_int_t)o->seed,
        "chunk_rule", "tokens", (int)chunk, "tail_tokens",
        (int)(o->chunk_tail_tokens ? o->chunk_tail_tokens : chunk), "page_tokens",
        (int)o->page_tokens, "allow_extrapolation", (int)o->allow_extrapolation);
    int failed = !manifest || cop__job_describe_device(job, manifest) ||
                 cop_job_describe_pool(job, manifest);
    if (!failed && strcmp(device->backend, "cpu") == 0) {
        double read_gbps, fma_gflops;
        cop_status status = cop_ceilings_measure(thread_count(job), &read_gbps, &fma_gflops);
        if (status != COP_OK) {
            json_decref(manifest);
            return status;
        }
        failed = json_object_set_new(
            manifest, "ceilings",
            json_pack("{s:f, s:f}", "read_gbps", read_gbps, "fma_gflops", fma_gflops));
    }
    if (!failed) {
        *out = manifest;
        return COP_OK;
    }
    json_decref(manifest);
    return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a manifest");
}

json_t *cop__job_identity(const cop_job *job, const char *group, const char *problem,
                          const char *method, json_t *work) {
    const cop_job_options *o = &job->options;
    json_t *identity = json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:i}", "work", work, "group", group,
        "problem", problem, "method", method, "model", cop_model_name(job->model), "arithmetic",
        cop_arith_name(o->arith), "seed", (json_int_t)o->seed, "page_tokens", (int)o->page_tokens,
        "chunk_tokens", (int)o->chunk_tokens, "tail_tokens", (int)o->chunk_tail_tokens);
    if (identity && cop__job_describe_device(job, identity) == 0 &&
        cop_job_describe_pool(job, identity) == 0)
        return identity;
    json_decref(identity);
    return NULL;
}

cop_status cop__job_finish_cell(const cop__job_cell *cell, json_t *record,
                                const cop_metrics *metrics, const cop_timeline *timeline) {
    if (!record || cop__job_describe_device(cell->job, record) != 0 ||
        cop_job_describe_pool(cell->job, record) != 0 || note_pool(cell->job, record) != 0)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a result");
    cop_status status = COP_OK;
    if (cell->results) {
        char title[192];
        const char *clock = cell->job->device.clock;
        const bool measured = strcmp(clock, "wall") == 0;
        snprintf(title, sizeof title, "%s%s%.70s, %.70s", measured ? "" : clock,
                 measured ? "" : ": ", cell->problem, cell->method);
        if (timeline && cell->repeat == 0)
            status = cop_results_trace(cell->results, cell->key, title, timeline);
        if (status == COP_OK)
            status = cop_results_append(cell->results, cell->key, cell->repeat, record, metrics);
    }
    if (status == COP_OK && cell->listener)
        cell->listener(cell->context, record, metrics);
    return status;
}
