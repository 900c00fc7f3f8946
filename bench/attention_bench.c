/* What attention over published trees costs under four plans, and how fast the cpu backend is at
 * it.
 *
 *   attention_bench --shapes FILE.json [--json] [--gpu configs/gpus/x.json] [--no-cpu]
 *
 * Bytes, items and launches come from the planner's tables and from kernels/cost_plans.h; times of
 * a GPU are modelled with its described figures, never measured here. Times of the cpu backend are
 * measured with Google Benchmark. Bad input: a named error and exit code 2.
 */
#include <jansson.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_cpu.h"
#include "base/memory.h"
#include "config/paths.h"
#include "job/plan_compare.h"
#include "measure/gpu_figures.h"

#define EMULATED_NOTE                                                                              \
    "No GPU was used: GPU times are modelled from described figures, and times of emulated "       \
    "kernels mean nothing."

typedef struct settings {
    const char *shapes, *gpu, *isa;
    uint32_t n_threads;
    double min_time_s;
    bool json, cpu, one_width;
} settings;

static const char usage[] =
    "attention_bench --shapes FILE.json [--json] [--gpu FILE.json] [--no-cpu] [--one-width]\n"
    "                [--min-time SECONDS] [--threads N] [--isa portable|avx2|avx512]\n"
    "Launches, bytes, items and modelled times of four attention plans over the shapes of a file;\n"
    "times of the cpu backend, measured. --gpu: a described GPU (default "
    "configs/gpus/h100.json). --one-width: all tiles of a walk have one width, as the planner\n"
    "makes them today; else each chunk's tiles may have their own.\n";

static int fail(cop_status status) {
    fprintf(stderr, "attention_bench: %s\n", cop_status_message());
    return cop_status_exit_code(status);
}

static int parse(int argc, char **argv, settings *s) {
    *s = (settings){.cpu = true, .min_time_s = 0.05, .n_threads = (uint32_t)omp_get_max_threads()};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end = NULL;
        if (!strcmp(argv[i], "--json") || !strcmp(argv[i], "--no-cpu") ||
            !strcmp(argv[i], "--one-width")) {
            s->json |= !strcmp(argv[i], "--json");
            s->one_width |= !strcmp(argv[i], "--one-width");
            s->cpu &= strcmp(argv[i], "--no-cpu") != 0;
            continue;
        }
        if (!strcmp(argv[i], "--help"))
            return 1;
        if (!value) {
            fprintf(stderr, "attention_bench: %s is unknown or lacks its value\n", argv[i]);
            return 2;
        }
        if (!strcmp(argv[i], "--shapes"))
            s->shapes = value;
        else if (!strcmp(argv[i], "--gpu"))
            s->gpu = value;
        else if (!strcmp(argv[i], "--isa"))
            s->isa = value;
        else if (!strcmp(argv[i], "--threads") &&
                 (s->n_threads = (uint32_t)strtoul(value, &end, 10)) > 0 && !*end &&
                 s->n_threads <= 1024)
            ;
        else if (!strcmp(argv[i], "--min-time") && (s->min_time_s = strtod(value, &end)) > 0 &&
                 !*end && s->min_time_s <= 60)
            ;
        else {
            fprintf(stderr, "attention_bench: %s %s is not understood\n", argv[i], value);
            return 2;
        }
        i++;
    }
    if (!s->shapes)
        fprintf(stderr, "attention_bench: --shapes is required\n");
    return s->shapes ? 0 : 2;
}

static json_t *cost_json(const cop_plan_cost *cost, const cop_plan_compare *c) {
    const cop_attention_cost *b = &cost->bytes;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "launches",
                     (json_int_t)cost->launches, "items", (json_int_t)b->items, "kv_first_bytes",
                     (json_int_t)b->kv_first_bytes, "kv_load_bytes", (json_int_t)b->kv_load_bytes,
                     "partial_bytes", (json_int_t)b->partial_bytes, "query_bytes",
                     (json_int_t)b->query_bytes, "output_bytes", (json_int_t)b->output_bytes,
                     "all_bytes", (json_int_t)cop_cost_all_bytes(b), "flops", (json_int_t)b->flops,
                     "modelled_us", cost->seconds * 1e6, "times_bound", cost->seconds / c->bound_s);
}

static json_t *walk_json(const cop_walk_choice *walk, const cop_plan_compare *c) {
    json_t *out = cost_json(&walk->cost, c);
    json_object_set_new(out, "chunk_tokens", json_integer(walk->chunk_tokens));
    json_object_set_new(out, "chunk_tail_tokens", json_integer(walk->chunk_tail_tokens));
    json_object_set_new(out, "tile_slots",
                        walk->tile_slots ? json_integer(walk->tile_slots) : json_string("mixed"));
    return out;
}

static json_t *chunked_json(const cop_plan_cost *cost, const cop_plan_compare *c, uint32_t chunk) {
    json_t *out = cost_json(cost, c);
    json_object_set_new(out, "chunk_tokens", json_integer(chunk));
    return out;
}

static json_t *numbers_json(const uint32_t *numbers, uint32_t n) {
    json_t *out = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(out, json_integer(numbers[i]));
    return out;
}

static json_t *shape_json(const cop_tree_shape *shape) {
    json_t *out = json_pack(
        "{s:s, s:i, s:i, s:i, s:I, s:I}", "source", shape->source, "head_dim", (int)shape->head_dim,
        "branches", (int)shape->tree.n_rows, "nodes", (int)shape->tree.n_nodes, "kv_tokens_unique",
        (json_int_t)shape->unique_tokens, "kv_tokens_unshared", (json_int_t)shape->unshared_tokens);
    if (shape->n_levels) {
        json_object_set_new(out, "nodes_per_level",
                            numbers_json(shape->nodes_per_level, shape->n_levels));
        json_object_set_new(out, "tokens_per_node",
                            numbers_json(shape->tokens_per_node, shape->n_levels));
    }
    return out;
}

static json_t *compare_json(const cop_tree_shape *shape, const cop_plan_compare *c) {
    json_t *out = shape_json(shape);
    json_object_set_new(out, "heads",
                        json_pack("[i, i]", (int)c->heads.n_heads, (int)c->heads.n_kv_heads));
    json_object_set_new(out, "kv_minimum_bytes", json_integer((json_int_t)c->minimum_bytes));
    json_object_set_new(out, "bound_us", json_real(c->bound_s * 1e6));
    json_object_set_new(out, "plans",
                        json_pack("{s:o, s:o, s:o, s:o, s:o}", "walk", walk_json(&c->walk, c),
                                  "walk_best", walk_json(&c->walk_best, c), "segment",
                                  chunked_json(&c->segment, c, c->segment_chunk_tokens), "levels",
                                  chunked_json(&c->levels, c, c->levels_chunk_tokens), "unshared",
                                  cost_json(&c->unshared, c)));
    return out;
}

static void tree_text(const cop_tree_shape *shape, char *text, size_t bytes) {
    int used = shape->n_levels ? 0 : snprintf(text, bytes, "%u nodes", shape->tree.n_nodes);
    for (uint32_t i = 0; i < shape->n_levels && used >= 0 && (size_t)used < bytes; i++)
        used += snprintf(text + used, bytes - (size_t)used, "%s%ux%u", i ? " " : "",
                         shape->nodes_per_level[i], shape->tokens_per_node[i]);
}

static void compare_print(const cop_tree_shape *shape, const cop_plan_compare *c) {
    char tree[256];
    tree_text(shape, tree, sizeof tree);
    const cop_attention_cost *w = &c->walk.cost.bytes;
    printf("%-12.12s %-30.30s %3u/%-3u %6u %8.1f %8.1f %8.1f %8.1f %8.1f %7.1f %6.2f %6.2f %6.2f "
           "%6.2f %6.2f\n",
           shape->source, tree, c->heads.n_heads, c->heads.n_kv_heads, w->items,
           (double)c->minimum_bytes * 1e-6, (double)w->kv_first_bytes * 1e-6,
           (double)w->kv_load_bytes * 1e-6, (double)w->partial_bytes * 1e-6,
           (double)cop_cost_all_bytes(w) * 1e-6, c->bound_s * 1e6,
           c->walk.cost.seconds / c->bound_s, c->walk_best.cost.seconds / c->bound_s,
           c->segment.seconds / c->bound_s, c->levels.seconds / c->bound_s,
           c->unshared.seconds / c->bound_s);
}

static json_t *means_json(const cop_plan_means *sums) {
    const cop_plan_means m = cop_plan_means_read(sums);
    return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "cases", (int)m.cases, "walk",
                     m.walk, "walk_best", m.walk_best, "segment", m.segment, "levels", m.levels,
                     "unshared", m.unshared, "walk_worst", m.worst_walk, "walk_best_worst",
                     m.worst_walk_best, "walk_best_against_best_other_worst",
                     m.worst_against_others);
}

static void means_print(const char *what, const cop_plan_means *sums) {
    const cop_plan_means m = cop_plan_means_read(sums);
    printf("geometric mean of modelled time / bound, bound >= 10 us, %s (%u cases):\n"
           "  walk %.2f (worst %.2f), at its best chunk rule %.2f (worst %.2f), segment %.2f, "
           "levels %.2f, unshared %.2f; the best walk against the best other, at most %.2f\n",
           what, m.cases, m.walk, m.worst_walk, m.walk_best, m.worst_walk_best, m.segment, m.levels,
           m.unshared, m.worst_against_others);
}

typedef struct outcome {
    json_t *results; /* NULL: print instead */
    cop_plan_means all, first_two;
} outcome;

static cop_status compare_all(const cop_shape_file *file, const cop_gpu_figures *gpu,
                              bool one_width, outcome *o) {
    for (uint32_t i = 0; i < cop_shape_file_count(file); i++) {
        const cop_tree_shape *shape = cop_shape_file_shape(file, i);
        cop_plan_compare compared[COP_SHAPE_HEAD_PAIRS_MAX];
        COP_TRY(cop_plan_compare_shape(shape, &gpu->model, 2, one_width, compared));
        for (uint32_t h = 0; h < shape->n_heads; h++) {
            cop_plan_means_add(&o->all, &compared[h], 10e-6);
            if (h < 2)
                cop_plan_means_add(&o->first_two, &compared[h], 10e-6);
            if (o->results)
                json_array_append_new(o->results, compare_json(shape, &compared[h]));
            else
                compare_print(shape, &compared[h]);
        }
    }
    return COP_OK;
}

static json_t *cpu_json(const cop_tree_shape *shape, const cop_cpu_bench_result *r) {
    json_t *out = shape_json(shape);
    json_object_set_new(out, "group", json_integer(r->group));
    json_object_set_new(out, "items", json_integer(r->items));
    json_object_set_new(out, "kv_first_bytes", json_integer((json_int_t)r->kv_first_bytes));
    json_object_set_new(out, "kv_load_bytes", json_integer((json_int_t)r->kv_load_bytes));
    json_object_set_new(out, "partial_bytes", json_integer((json_int_t)r->partial_bytes));
    json_object_set_new(out, "flops", json_integer((json_int_t)r->flops));
    json_object_set_new(out, "iterations", json_integer((json_int_t)r->time.iterations));
    json_object_set_new(out, "real_ns", json_real(r->time.real_ns));
    json_object_set_new(out, "cpu_ns", json_real(r->time.cpu_ns));
    json_object_set_new(out, "kv_first_bytes_per_s", json_real(r->time.bytes_per_s));
    json_object_set_new(out, "flops_per_s", json_real(r->time.flops_per_s));
    return out;
}

static cop_status time_cpu(const cop_shape_file *file, const cop_cpu_bench_options *options,
                           json_t *results) {
    if (!results)
        printf("\nThe cpu backend, measured: %s, %u threads, bf16, one KV head of the first head "
               "configuration\n%-12s %-30s %4s %8s %8s %9s %8s %8s\n",
               cop_isa_name(options->isa), options->n_threads, "source", "tree", "G", "KV MB",
               "loads MB", "ms", "GB/s", "GFLOP/s");
    for (uint32_t i = 0; i < cop_shape_file_count(file); i++) {
        const cop_tree_shape *shape = cop_shape_file_shape(file, i);
        cop_cpu_bench_result r;
        COP_TRY(cop_cpu_bench_shape(shape, options, &r));
        if (results) {
            json_array_append_new(results, cpu_json(shape, &r));
            continue;
        }
        char tree[256];
        tree_text(shape, tree, sizeof tree);
        printf("%-12.12s %-30.30s %4u %8.2f %8.2f %9.3f %8.2f %8.2f\n", shape->source, tree,
               r.group, (double)r.kv_first_bytes * 1e-6, (double)r.kv_load_bytes * 1e-6,
               r.time.real_ns * 1e-6, r.time.bytes_per_s * 1e-9, r.time.flops_per_s * 1e-9);
        fflush(stdout);
    }
    return COP_OK;
}

static json_t *context_json(const settings *s, const cop_gpu_figures *gpu,
                            const cop_gbench_library *library) {
    return json_pack("{s:s, s:s, s:s, s:f, s:i, s:s, s:s}", "shapes", s->shapes, "note",
                     EMULATED_NOTE, "gpu_described", gpu->name, "dram_reached_bytes_per_s",
                     gpu->model.dram_bytes_per_s, "resident_blocks",
                     (int)gpu->model.resident_blocks, "benchmark_library", "Google Benchmark",
                     "benchmark_library_build", library->build_type);
}

static cop_status run(const settings *s, const cop_shape_file *file, const cop_gpu_figures *gpu) {
    cop_gbench_library library;
    cop_gbench_describe(&library);
    cop_cpu_bench_options options = {.n_threads = s->n_threads, .min_time_s = s->min_time_s};
    COP_TRY(cop_isa_choose(s->isa, &options.isa));
    outcome o = {.results = s->json ? json_array() : NULL};
    json_t *cpu = s->json ? json_array() : NULL;
    if (!s->json)
        printf("%s\nDescribed GPU: %s. Google Benchmark: a %s build of the library.\n\n"
               "%-12s %-30s %-7s %6s %8s %8s %8s %8s %8s %7s %6s %6s %6s %6s %6s\n",
               EMULATED_NOTE, gpu->name, library.build_type, "MB of the walk", "nodes x tokens",
               "heads", "items", "minimum", "KV first", "KV loads", "partial", "all", "bnd us",
               "walk", "best", "segm", "levels", "unsh");
    cop_status status = compare_all(file, gpu, s->one_width, &o);
    if (status == COP_OK && !s->json) {
        means_print("all head configurations", &o.all);
        means_print("the first two of each shape", &o.first_two);
    }
    if (status == COP_OK && s->cpu)
        status = time_cpu(file, &options, cpu);
    if (status == COP_OK && s->json) {
        json_t *root = json_pack("{s:o, s:o, s:{s:o, s:o}}", "context",
                                 context_json(s, gpu, &library), "results", o.results, "means",
                                 "all", means_json(&o.all), "first_two", means_json(&o.first_two));
        json_object_set_new(root, "cpu", s->cpu ? json_incref(cpu) : json_null());
        if (json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) != 0)
            status = COP_FAIL(COP_ERR_IO, "cannot write the results");
        putchar('\n');
        json_decref(root);
    } else {
        json_decref(o.results);
    }
    json_decref(cpu);
    return status;
}

int main(int argc, char **argv) {
    settings s;
    char root[COP_PATH_BYTES], described[COP_PATH_BYTES + 32];
    const int parsed = parse(argc, argv, &s);
    if (parsed) {
        fputs(usage, parsed == 1 ? stdout : stderr);
        return parsed == 1 ? 0 : 2;
    }
    cop_shape_file *file = NULL;
    cop_gpu_figures gpu;
    cop_status status = cop_root_folder(root);
    if (status == COP_OK) {
        snprintf(described, sizeof described, "%s/configs/gpus/h100.json", root);
        status = cop_gpu_figures_load(s.gpu ? s.gpu : described, &gpu);
    }
    if (status == COP_OK)
        status = cop_shape_file_load(s.shapes, &file);
    if (status == COP_OK)
        status = run(&s, file, &gpu);
    cop_shape_file_destroy(file);
    return status == COP_OK ? 0 : fail(status);
}
