#include "job/bench_config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/sha256.h"
#include "config/paths.h"
#include "job/job_internal.h"

cop_status cop__bench_keep_text(cop_bench_config *c, const char *text, const char **out) {
    *out = cop_arena_strndup(c->arena, text, strlen(text));
    return *out ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a config");
}

cop_status cop__bench_keep_path(cop_bench_config *c, const char *config, const cop_json *object,
                                const char *key, cop_json_presence presence, const char **out) {
    const char *text = NULL;
    COP_TRY(cop_json_text(object, key, presence, &text));
    if (!text)
        return COP_OK;
    char path[COP_PATH_BYTES];
    COP_TRY(cop_path_beside(config, text, path));
    return cop__bench_keep_text(c, path, out);
}

/* A name goes to the known ones, a file stands beside the config. */
cop_status cop__bench_named_or_beside(cop_bench_config *c, const char *config,
                                      const cop_json *object, const char *key,
                                      cop_json_presence presence, const char **out) {
    const char *name = NULL;
    COP_TRY(cop_json_text(object, key, presence, &name));
    if (!name)
        return COP_OK;
    const size_t bytes = strlen(name);
    if (strchr(name, '/') || (bytes > 5 && strcmp(name + bytes - 5, ".json") == 0))
        return cop__bench_keep_path(c, config, object, key, presence, out);
    return cop__bench_keep_text(c, name, out);
}

cop_status cop__bench_rule_read(cop_bench_config *c, const char *config, const cop_json *object,
                                const cop_job_rule_limits *limits, const char **out) {
    COP_TRY(cop__bench_named_or_beside(c, config, object, "rule", COP_JSON_OPTIONAL, out));
    if (!*out)
        return COP_OK;
    if (cop_json_has(object, "prune"))
        return cop_json_fail(object, "rule", "and \"prune\" both say who is pruned: give one");
    if (cop_job_rule_check(*out, limits) != COP_OK)
        return cop_json_fail(object, "rule", "%s", cop_status_message());
    return COP_OK;
}

static cop_status read_device(cop_bench_config *c, const cop_json *root) {
    static const char *const products[] = {"default", "invariant", "fast", NULL};
    cop_backend_choice *on = &c->job.on;
    const char *name = NULL;
    uint32_t mode = COP_PRODUCTS_DEFAULT;
    COP_TRY(cop_json_text(root, "backend", COP_JSON_OPTIONAL, &name));
    if (name)
        COP_TRY(cop__bench_keep_text(c, name, &on->name));
    COP_TRY(cop_json_choice(root, "products", products, COP_JSON_OPTIONAL, &mode));
    on->products = (cop_products_mode)mode;
    COP_TRY(cop_json_u32(root, "device", 0, 1023, COP_JSON_OPTIONAL, &on->device));
    COP_TRY(cop_json_bool(root, "eager", COP_JSON_OPTIONAL, &on->eager));
    return cop_json_u32(root, "time_every", 0, 1u << 20, COP_JSON_OPTIONAL, &on->time_every);
}

/* What a full pool does, and the prefix store: whether cells find it cold or warm is always said.
 */
static cop_status read_pool(const cop_json *root, cop_job_options *job) {
    static const char *const policies[] = {"fail", "queue", "recompute", "prune-lowest", NULL};
    static const char *const states[] = {"cold", "warm", NULL};
    uint32_t policy = 0, state = 0;
    cop_json prefix;
    COP_TRY(cop_json_choice(root, "kv_policy", policies, COP_JSON_OPTIONAL, &policy));
    COP_TRY(cop_pressure_parse(policies[policy], &job->kv_policy));
    COP_TRY(cop_json_object(root, "prefix", COP_JSON_OPTIONAL, &prefix));
    if (!prefix.value)
        return COP_OK;
    COP_TRY(COP_JSON_ONLY(&prefix, "block", "state"));
    COP_TRY(cop_json_u32(&prefix, "block", COP_LEAF_TOKENS, 1u << 20, COP_JSON_REQUIRED,
                         &job->prefix_block));
    COP_TRY(cop_json_choice(&prefix, "state", states, COP_JSON_REQUIRED, &state));
    job->prefix_warm = state == 1;
    return COP_OK;
}

/* The engine refuses it too, but when the sweep's folder is there already. */
static cop_status check_prefix(const cop_json *root, const cop_job_options *job) {
    const uint32_t chunk = job->chunk_tokens ? job->chunk_tokens : COP_CHUNK_TOKENS_DEFAULT;
    const uint32_t tail = job->chunk_tail_tokens ? job->chunk_tail_tokens : chunk;
    if (job->prefix_block == 0)
        return COP_OK;
    if (job->prefix_block % COP_LEAF_TOKENS || chunk % job->prefix_block || tail != chunk)
        return cop_json_fail(root, "prefix",
                             "blocks of %u tokens: a block is a multiple of %d that divides "
                             "chunk_tokens, %u, with chunk_tail_tokens the same",
                             job->prefix_block, COP_LEAF_TOKENS, chunk);
    return COP_OK;
}

static cop_status read_job(cop_bench_config *c, const char *path, const cop_json *root) {
    cop_job_options *job = &c->job;
    cop_job_options_default(job);
    COP_TRY(cop__bench_keep_path(c, path, root, "model", COP_JSON_OPTIONAL, &job->model));
    COP_TRY(cop__bench_keep_path(c, path, root, "random", COP_JSON_OPTIONAL, &job->random));
    if (!job->model && !job->random)
        return cop_json_fail(root, "model", "name a model file, or a shape file as \"random\"");
    if (job->model && access(job->model, R_OK) != 0 && job->random) {
        c->model_missing = true;
        job->model = NULL;
    } else if (job->model) {
        job->random = NULL;
    }
    const char *compute = NULL;
    COP_TRY(cop_json_text(root, "compute", COP_JSON_OPTIONAL, &compute));
    COP_TRY(read_device(c, root));
    job->arith = cop_job_arith_default(&job->on);
    if (compute && cop_arith_parse(compute, &job->arith) != COP_OK)
        return cop_json_fail(root, "compute", "use f32, bf16, native-f32 or native-a8");
    COP_TRY(cop_json_u32(root, "threads", 0, 1024, COP_JSON_OPTIONAL, &job->n_threads));
    COP_TRY(cop_json_u32(root, "page_tokens", 16, 64, COP_JSON_OPTIONAL, &job->page_tokens));
    COP_TRY(cop_json_u32(root, "pages", 0, 1u << 24, COP_JSON_OPTIONAL, &job->n_pages));
    COP_TRY(read_pool(root, job));
    COP_TRY(
        cop_json_u32(root, "chunk_tokens", 64, 1u << 20, COP_JSON_OPTIONAL, &job->chunk_tokens));
    COP_TRY(cop_json_u32(root, "chunk_tail_tokens", 64, 1u << 20, COP_JSON_OPTIONAL,
                         &job->chunk_tail_tokens));
    COP_TRY(check_prefix(root, job));
    COP_TRY(cop_json_u64(root, "seed", 0, INT64_MAX, COP_JSON_OPTIONAL, &job->seed));
    COP_TRY(
        cop_json_bool(root, "allow_extrapolation", COP_JSON_OPTIONAL, &job->allow_extrapolation));
    c->repeats = 1;
    return cop_json_u32(root, "repeats", 1, 1000, COP_JSON_OPTIONAL, &c->repeats);
}

static cop_status read_methods(const cop_json *joins, cop_bench_replay *out) {
    size_t n = cop_json_count(joins);
    if (n == 0) {
        out->methods[0] = COP_METHOD_FLATTENED;
        out->methods[1] = COP_METHOD_REPREFILL;
        out->methods[2] = COP_METHOD_REPREFILL_REUSE;
        out->methods[3] = COP_METHOD_STITCH;
        out->n_methods = 4;
        return COP_OK;
    }
    for (size_t i = 0; i < n; i++) {
        cop_json item = cop_json_at(joins, i);
        const char *name;
        cop_method method;
        COP_TRY(cop_json_text(&item, NULL, COP_JSON_REQUIRED, &name));
        if (cop_method_parse(name, &method) != COP_OK)
            return cop_json_fail(&item, NULL, "%s", cop_status_message());
        for (uint32_t k = 0; k < out->n_methods; k++) {
            if (out->methods[k] == method)
                return cop_json_fail(&item, NULL, "\"%s\" is named twice", name);
        }
        out->methods[out->n_methods++] = method;
    }
    return COP_OK;
}

static cop_status read_replay(cop_bench_config *c, const char *path, const cop_json *object,
                              cop_bench_replay *out) {
    COP_TRY(COP_JSON_ONLY(object, "trajectories", "grid", "ids", "joins"));
    cop_json grid, ids, joins;
    COP_TRY(cop_json_object(object, "grid", COP_JSON_OPTIONAL, &grid));
    if (!grid.value)
        COP_TRY(cop__bench_keep_path(c, path, object, "trajectories", COP_JSON_REQUIRED,
                                     &out->trajectories));
    else if (cop_json_has(object, "trajectories") || cop_json_has(object, "ids"))
        return cop_json_fail(object, "grid",
                             "makes the trees: leave out \"trajectories\" and \"ids\"");
    else
        COP_TRY(cop__bench_grid_read(c, &grid, &out->grid));
    COP_TRY(cop_json_array(object, "ids", COP_JSON_OPTIONAL, &ids));
    COP_TRY(cop_json_array(object, "joins", COP_JSON_OPTIONAL, &joins));
    out->n_ids = (uint32_t)cop_json_count(&ids);
    out->ids = cop_arena_calloc(c->arena, out->n_ids + 1, sizeof *out->ids);
    if (!out->ids)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a config");
    for (uint32_t i = 0; i < out->n_ids; i++) {
        cop_json item = cop_json_at(&ids, i);
        const char *id;
        COP_TRY(cop_json_text(&item, NULL, COP_JSON_REQUIRED, &id));
        COP_TRY(cop__bench_keep_text(c, id, &out->ids[i]));
    }
    return read_methods(&joins, out);
}

static cop_status read_prune(const cop_json *prune, cop_samples_job *out) {
    out->keep_percent = 90;
    out->prune.threshold = -INFINITY;
    if (!prune->value)
        return COP_OK;
    COP_TRY(COP_JSON_ONLY(prune, "budget_tokens", "first_finisher", "window", "warmup",
                          "keep_percent"));
    COP_TRY(cop_json_u64(prune, "budget_tokens", 0, 1u << 30, COP_JSON_OPTIONAL,
                         &out->prune.budget_tokens));
    COP_TRY(cop_json_bool(prune, "first_finisher", COP_JSON_OPTIONAL, &out->prune.first_finisher));
    COP_TRY(cop_json_u32(prune, "window", 1, 1u << 20, COP_JSON_OPTIONAL, &out->prune.window));
    if (out->prune.window) {
        COP_TRY(cop_json_u32(prune, "warmup", 1, 256, COP_JSON_REQUIRED, &out->n_warmup));
        COP_TRY(
            cop_json_f64(prune, "keep_percent", 0.001, 100, COP_JSON_OPTIONAL, &out->keep_percent));
        if (out->n_warmup > out->n_samples)
            return cop_json_fail(prune, "warmup", "%u warm-up samples of %u", out->n_warmup,
                                 out->n_samples);
    } else if (cop_json_has(prune, "warmup") || cop_json_has(prune, "keep_percent")) {
        return cop_json_fail(prune, "window", "warmup and keep_percent need a confidence window");
    }
    return COP_OK;
}

static cop_status read_samples(cop_bench_config *c, const char *path, const cop_json *object,
                               cop_samples_job *out) {
    COP_TRY(COP_JSON_ONLY(object, "name", "prompt", "chat", "n", "max_tokens", "temperature",
                          "top_k", "top_p", "min_p", "prune", "rule"));
    COP_TRY(cop_json_text(object, "name", COP_JSON_REQUIRED, &out->name));
    COP_TRY(cop_json_text(object, "prompt", COP_JSON_REQUIRED, &out->prompt));
    COP_TRY(cop__bench_keep_text(c, out->name, &out->name));
    COP_TRY(cop__bench_keep_text(c, out->prompt, &out->prompt));
    COP_TRY(cop_json_bool(object, "chat", COP_JSON_OPTIONAL, &out->chat));
    COP_TRY(cop_json_u32(object, "n", 1, 256, COP_JSON_REQUIRED, &out->n_samples));
    COP_TRY(cop_json_u32(object, "max_tokens", 1, 1u << 20, COP_JSON_REQUIRED, &out->max_tokens));
    double temperature = 1, top_p = 1, min_p = 0;
    COP_TRY(cop_json_f64(object, "temperature", 0, 100, COP_JSON_OPTIONAL, &temperature));
    COP_TRY(cop_json_u32(object, "top_k", 0, 1u << 20, COP_JSON_OPTIONAL, &out->top_k));
    COP_TRY(cop_json_f64(object, "top_p", 0.001, 1, COP_JSON_OPTIONAL, &top_p));
    COP_TRY(cop_json_f64(object, "min_p", 0, 1, COP_JSON_OPTIONAL, &min_p));
    out->temperature = (float)temperature;
    out->top_p = (float)top_p;
    out->min_p = (float)min_p;
    out->repeats = c->repeats;
    cop_json prune;
    COP_TRY(cop_json_object(object, "prune", COP_JSON_OPTIONAL, &prune));
    COP_TRY(read_prune(&prune, out));
    const cop_job_rule_limits limits = {.max_branches = out->n_samples,
                                        .max_tokens = out->max_tokens};
    return cop__bench_rule_read(c, path, object, &limits, &out->rule);
}

static cop_status read_problem_sets(cop_bench_config *c, const char *path,
                                    const cop_json *problems) {
    for (uint32_t i = 0; i < c->n_problems; i++) {
        cop_json item = cop_json_at(problems, i);
        COP_TRY(cop__bench_problems_read(c, path, &item, &c->problems[i]));
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(c->problems[k].name, c->problems[i].name) == 0)
                return cop_json_fail(&item, "name", "\"%s\" names two problem sets",
                                     c->problems[i].name);
        }
    }
    return COP_OK;
}

static cop_status read_config(cop_bench_config *c, const char *path, const cop_json *root) {
    COP_TRY(COP_JSON_ONLY(root, "name", "model", "random", "compute", "threads", "backend",
                          "products", "device", "eager", "time_every", "page_tokens", "pages",
                          "kv_policy", "prefix", "chunk_tokens", "chunk_tail_tokens", "seed",
                          "repeats", "allow_extrapolation", "replay", "samples", "problems"));
    COP_TRY(cop_json_text(root, "name", COP_JSON_REQUIRED, &c->name));
    COP_TRY(cop__bench_keep_text(c, c->name, &c->name));
    COP_TRY(read_job(c, path, root));
    cop_json replays, samples, problems;
    COP_TRY(cop_json_array(root, "replay", COP_JSON_OPTIONAL, &replays));
    COP_TRY(cop_json_array(root, "samples", COP_JSON_OPTIONAL, &samples));
    COP_TRY(cop_json_array(root, "problems", COP_JSON_OPTIONAL, &problems));
    c->n_replays = (uint32_t)cop_json_count(&replays);
    c->n_samples = (uint32_t)cop_json_count(&samples);
    c->n_problems = (uint32_t)cop_json_count(&problems);
    if (c->n_replays + c->n_samples + c->n_problems == 0)
        return cop_json_fail(root, NULL,
                             "nothing to run: give \"replay\", \"samples\" or \"problems\"");
    c->replays = cop_arena_calloc(c->arena, c->n_replays + 1, sizeof *c->replays);
    c->samples = cop_arena_calloc(c->arena, c->n_samples + 1, sizeof *c->samples);
    c->problems = cop_arena_calloc(c->arena, c->n_problems + 1, sizeof *c->problems);
    if (!c->replays || !c->samples || !c->problems)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a config");
    for (uint32_t i = 0; i < c->n_replays; i++) {
        cop_json item = cop_json_at(&replays, i);
        COP_TRY(read_replay(c, path, &item, &c->replays[i]));
    }
    for (uint32_t i = 0; i < c->n_samples; i++) {
        cop_json item = cop_json_at(&samples, i);
        COP_TRY(read_samples(c, path, &item, &c->samples[i]));
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(c->samples[k].name, c->samples[i].name) == 0)
                return cop_json_fail(&item, "name", "\"%s\" names two sets of samples",
                                     c->samples[i].name);
        }
    }
    return read_problem_sets(c, path, &problems);
}

cop_status cop_bench_config_load(const char *path, cop_bench_config **out) {
    cop_bench_config *c = cop_calloc(1, sizeof *c);
    if (!c)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a config");
    cop_json root = {0};
    cop_status status = cop_arena_create(&c->arena);
    if (status == COP_OK)
        status = cop_json_load(path, &root);
    if (status == COP_OK) {
        c->source = json_incref(root.value);
        status = read_config(c, path, &root);
    }
    cop_json_release(&root);
    if (status != COP_OK) {
        cop_bench_config_destroy(c);
        return status;
    }
    *out = c;
    return COP_OK;
}

void cop_bench_config_destroy(cop_bench_config *c) {
    if (!c)
        return;
    json_decref(c->source);
    cop_arena_destroy(c->arena);
    cop_free(c);
}

cop_job_options *cop_bench_config_job(cop_bench_config *c) {
    return &c->job;
}

bool cop_bench_config_names(const cop_bench_config *c, const char *key) {
    return json_object_get(c->source, key) != NULL;
}

static cop_status list_replay(const cop_bench_config *c, const cop_bench_replay *r,
                              cop_buffer *out) {
    cop_trajectories *set;
    char hash[COP_SHA256_HEX_BYTES];
    COP_TRY(cop__replay_trees(r->trajectories, r->grid, &set, hash));
    cop_status status = COP_OK;
    uint32_t n = r->n_ids ? r->n_ids : set->count;
    for (uint32_t i = 0; i < set->count && status == COP_OK; i++)
        if (i == 0 || strcmp(set->list[i].dialect, set->list[i - 1].dialect) != 0)
            status = cop_dialect_check_name(set->list[i].dialect);
    for (uint32_t i = 0; i < n && status == COP_OK; i++) {
        for (uint32_t m = 0; m < r->n_methods && status == COP_OK; m++)
            status = cop_buffer_printf(out, "replay   %-24s %-16s x %u\n",
                                       r->n_ids ? r->ids[i] : set->list[i].id,
                                       cop_method_name(r->methods[m]), c->repeats);
    }
    cop_trajectories_destroy(set);
    return status;
}

cop_status cop_bench_config_list(const cop_bench_config *c, cop_buffer *out) {
    for (uint32_t i = 0; i < c->n_replays; i++)
        COP_TRY(list_replay(c, &c->replays[i], out));
    for (uint32_t i = 0; i < c->n_samples; i++)
        COP_TRY(cop_buffer_printf(out, "samples  %-24s %u, three rows     x %u\n",
                                  c->samples[i].name, c->samples[i].n_samples, c->repeats));
    for (uint32_t i = 0; i < c->n_problems; i++)
        COP_TRY(cop__bench_problems_list(&c->problems[i], c->repeats, out));
    return COP_OK;
}

static json_t *hash_of(const char *path) {
    char hex[COP_SHA256_HEX_BYTES];
    /* A file that is missing: reading it will fail, and say so. */
    return json_string(cop_sha256_of_file(path, hex) == COP_OK ? hex : "missing");
}

static json_t *hash_of_trees(const cop_bench_replay *replay) {
    char hex[COP_SHA256_HEX_BYTES];
    cop_trajectories *set = NULL;
    if (!replay->grid)
        return hash_of(replay->trajectories);
    const bool made = cop_tree_grid_read(replay->grid, &set, hex) == COP_OK;
    cop_trajectories_destroy(set);
    return json_string(made ? hex : "missing");
}

json_t *cop_bench_config_resolved(const cop_bench_config *c) {
    json_t *out = json_deep_copy(c->source);
    if (!out)
        return NULL;
    json_t *trajectories = json_array(), *sets = json_array();
    for (uint32_t i = 0; i < c->n_replays; i++)
        json_array_append_new(trajectories, hash_of_trees(&c->replays[i]));
    for (uint32_t i = 0; i < c->n_problems; i++)
        json_array_append_new(sets, hash_of(c->problems[i].set));
    json_object_set_new(out, "trajectories_sha256", trajectories);
    if (c->n_problems > 0)
        json_object_set(out, "problem_sets_sha256", sets);
    json_decref(sets);
    json_object_set_new(out, "compute", json_string(cop_arith_name(c->job.arith)));
    json_object_set_new(out, "repeats", json_integer(c->repeats));
    json_object_set_new(out, "seed", json_integer((json_int_t)c->job.seed));
    json_object_set_new(out, "page_tokens", json_integer(c->job.page_tokens));
    json_object_set_new(out, "threads", json_integer(c->job.n_threads));
    if (c->job.kv_policy != COP_PRESSURE_FAIL)
        json_object_set_new(out, "kv_policy", json_string(cop_pressure_name(c->job.kv_policy)));
    const cop_backend_choice *on = &c->job.on;
    json_object_set_new(out, "backend", json_string(cop_backend_choice_name(on)));
    json_object_set_new(out, "products", json_string(cop_products_mode_name(on->products)));
    json_object_set_new(out, "device", json_integer(on->device));
    json_object_set_new(out, "eager", json_boolean(on->eager));
    json_object_set_new(out, "time_every", json_integer(on->time_every));
    json_object_set_new(out, "model_missing", json_boolean(c->model_missing));
    return out;
}
