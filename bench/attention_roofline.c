/* The cpu backend's attention against the machine's roofline, for 16 branches.
 *
 *   shared    one prefix that all branches see, in one tile: each KV byte is read once
 *   separate  the same prefix, a tile for each branch: what not sharing the reads costs
 *   private   every branch has a sixteenth of the pool for itself: what a decode without prefix is
 *
 * The pool holds 8 x the last-level cache or more, so that bytes come from memory. bound =
 * max(bytes / read bandwidth, flops / FMA peak); both are measured in this process with the same
 * threads and instruction set, in turns with attention, and each repetition's ratio is taken
 * against its own turn. Bytes are what the backend counted: first touches, for `separate` loads,
 * since a cache an eighth of the pool keeps nothing from one tile for the next. The timing window
 * holds cop_cpu_attention_run and nothing else: partials and merges are in it, filling is not.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/cpu/attention.h"
#include "base/clock.h"
#include "base/memory.h"
#include "kernels/cost.h"

enum { BRANCHES = 16, KV_HEADS = 4, MAX_REPEATS = 99, N_MODES = 3 };
static const char *const mode_name[N_MODES] = {"shared", "separate", "private"};

typedef struct settings {
    uint32_t repeats, n_threads, page_tokens, chunk_tokens;
    size_t pool_bytes, cache_bytes;
    cop_isa isa;
    bool json, cpu_time;
    const char *only; /* a mode's name, or NULL */
} settings;

typedef struct machine { /* what every thread together does */
    double bytes_per_ns, flops_per_ns;
} machine;

typedef struct bench_case {
    uint32_t d, group;
    cop_cpu_attention *attention;
    float *q, *out;
    cop_segment segments[BRANCHES];
    uint32_t *page_table;
    cop_tile tiles[BRANCHES];
    cop_walk_entry *entries;
    cop_item *items;
    cop_slot slots[BRANCHES];
    uint32_t n_pages, n_entries, max_partials;
} bench_case;

typedef struct result {
    double ns[MAX_REPEATS], ratio[MAX_REPEATS], bytes_ns, flops_ns;
    uint64_t bytes, flops, load_bytes;
} result;

static void fail(const char *what) {
    fprintf(stderr, "attention_roofline: %s: %s\n", what, cop_status_message());
    exit(2);
}

static void *need(void *pointer) {
    if (!pointer)
        fail("out of memory");
    return pointer;
}

/* The largest cache in /sys, else what libc says, else 32 MiB. */
static size_t last_level_cache_bytes(void) {
    size_t most = 0;
    for (int i = 0; i < 8; i++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        FILE *file = fopen(path, "r");
        unsigned long kib;
        if (file && fscanf(file, "%luK", &kib) == 1 && kib * 1024 > most)
            most = kib * 1024;
        if (file)
            fclose(file);
    }
    if (most)
        return most;
    const long libc = sysconf(_SC_LEVEL3_CACHE_SIZE); /* of the whole socket, on some machines */
    return libc > 0 ? (size_t)libc : 32u << 20;
}

/* Sums n floats, and does `rounds` x 32 independent multiply-adds of whole vectors; returns the
 * floating-point operations of the latter. Each instruction set once. */
#define DEFINE_PROBES(name, attributes, vector, lanes, load, add, fma_of, set)                     \
    attributes static float read_##name(const float *x, size_t n) {                                \
        vector sum[8];                                                                             \
        for (int a = 0; a < 8; a++)                                                                \
            sum[a] = set(0.0f);                                                                    \
        for (size_t i = 0; i + 8 * (lanes) <= n; i += 8 * (lanes))                                 \
            for (int a = 0; a < 8; a++)                                                            \
                sum[a] = add(sum[a], load(x + i + a * (lanes)));                                   \
        float out[lanes];                                                                          \
        for (int a = 1; a < 8; a++)                                                                \
            sum[0] = add(sum[0], sum[a]);                                                          \
        memcpy(out, &sum[0], sizeof out);                                                          \
        return out[0];                                                                             \
    }                                                                                              \
    attributes static double fma_##name(uint32_t rounds, float *sink) {                            \
        vector acc[12], b = set(0.999f), c = set(0.001f);                                          \
        for (int a = 0; a < 12; a++)                                                               \
            acc[a] = set((float)a);                                                                \
        for (uint32_t r = 0; r < rounds; r++)                                                      \
            _Pragma("GCC unroll 12") for (int a = 0; a < 12; a++) acc[a] = fma_of(acc[a], b, c);   \
        for (int a = 1; a < 12; a++)                                                               \
            acc[0] = add(acc[0], acc[a]);                                                          \
        memcpy(sink, &acc[0], sizeof *sink);                                                       \
        return 24.0 * (lanes)*rounds;                                                              \
    }

#define SCALAR_SET(x) (x)
#define SCALAR_LOAD(p) (*(p))
#define SCALAR_ADD(a, b) ((a) + (b))
#define SCALAR_FMA(a, b, c) __builtin_fmaf(a, b, c)
DEFINE_PROBES(portable, , float, 1, SCALAR_LOAD, SCALAR_ADD, SCALAR_FMA, SCALAR_SET)
#if defined(__x86_64__)
DEFINE_PROBES(avx2, __attribute__((target("avx2,fma"))), __m256, 8, _mm256_loadu_ps, _mm256_add_ps,
              _mm256_fmadd_ps, _mm256_set1_ps)
DEFINE_PROBES(avx512, __attribute__((target("avx512f"))), __m512, 16, _mm512_loadu_ps,
              _mm512_add_ps, _mm512_fmadd_ps, _mm512_set1_ps)
#endif

static float read_some(cop_isa isa, const float *x, size_t n) {
#if defined(__x86_64__)
    if (isa == COP_ISA_AVX512)
        return read_avx512(x, n);
    if (isa == COP_ISA_AVX2)
        return read_avx2(x, n);
#endif
    (void)isa;
    return read_portable(x, n);
}

static double fma_some(cop_isa isa, uint32_t rounds, float *sink) {
#if defined(__x86_64__)
    if (isa == COP_ISA_AVX512)
        return fma_avx512(rounds, sink);
    if (isa == COP_ISA_AVX2)
        return fma_avx2(rounds, sink);
#endif
    (void)isa;
    return fma_portable(rounds / 16, sink);
}

/* Wall clock; or the CPU time of each thread, which a machine's other work disturbs less. */
static double now_ns(const settings *s) {
    if (!s->cpu_time)
        return (double)cop_clock_ns();
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec * 1e9 + (double)t.tv_nsec) / s->n_threads;
}

static machine measure_machine(const settings *s, const float *buffer, float *sink) {
    machine m;
    const size_t n = s->pool_bytes / sizeof *buffer, piece = 1 << 20;
    double start = now_ns(s);
#pragma omp parallel for num_threads((int)s->n_threads) schedule(dynamic, 1)
    for (size_t i = 0; i < n / piece; i++) {
        const float sum = read_some(s->isa, buffer + i * piece, piece);
#pragma omp atomic
        *sink += sum;
    }
    m.bytes_per_ns = (double)(n / piece * piece * sizeof *buffer) / (now_ns(s) - start);

    double flops = 0;
    start = now_ns(s);
#pragma omp parallel for num_threads((int)s->n_threads) schedule(dynamic, 1) reduction(+ : flops)
    for (uint32_t i = 0; i < 8 * s->n_threads; i++) {
        float one;
        flops += fma_some(s->isa, 500000, &one);
#pragma omp atomic
        *sink += one;
    }
    m.flops_per_ns = flops / (now_ns(s) - start);
    return m;
}

/* Pages of the whole pool, each in use, filled with a few hundred different tokens. */
static void fill_pool(bench_case *c, uint32_t page_tokens) {
    enum { DIFFERENT = 251 };
    const uint32_t row = KV_HEADS * c->d;
    float *values = need(cop_calloc((DIFFERENT + 2) * (size_t)row, sizeof *values));
    uint32_t state = 1;
    for (size_t i = 0; i < (DIFFERENT + 2) * (size_t)row; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
    for (uint32_t t = 0; t < c->n_pages * page_tokens; t++)
        cop_cpu_attention_store(c->attention, 0, t / page_tokens, t % page_tokens,
                                values + (size_t)(t % DIFFERENT) * row,
                                values + (size_t)(t % DIFFERENT + 1) * row);
    for (size_t i = 0; i < (size_t)BRANCHES * KV_HEADS * c->group * c->d; i++) {
        state = state * 1664525u + 1013904223u;
        c->q[i] = (float)(int32_t)(state >> 24) * 0x1p-6f - 2.0f; /* exact in bf16 */
    }
    cop_free(values);
}

static void create_case(bench_case *c, const settings *s, uint32_t d, uint32_t group) {
    const size_t page_bytes = (size_t)s->page_tokens * d * 2 * 2 * KV_HEADS;
    const uint32_t chunk_pages = s->chunk_tokens / s->page_tokens;
    *c = (bench_case){.d = d, .group = group};
    c->n_pages = (uint32_t)((s->pool_bytes + page_bytes - 1) / page_bytes);
    c->n_pages += BRANCHES * chunk_pages - 1;
    c->n_pages -= c->n_pages % (BRANCHES * chunk_pages);
    const uint32_t n_chunks = c->n_pages / chunk_pages;
    c->max_partials = BRANCHES * n_chunks;
    const cop_cpu_attention_options options = {.n_layers = 1,
                                               .n_heads = KV_HEADS * group,
                                               .n_kv_heads = KV_HEADS,
                                               .head_dim = d,
                                               .n_pages = c->n_pages,
                                               .page_tokens = s->page_tokens,
                                               .max_rows = BRANCHES,
                                               .max_partials = c->max_partials,
                                               .bf16 = true,
                                               .round_output = true,
                                               .n_threads = s->n_threads,
                                               .isa = s->isa};
    if (cop_cpu_attention_create(&options, &c->attention) != COP_OK)
        fail("create");
    const size_t n = (size_t)BRANCHES * options.n_heads * d;
    c->q = need(cop_calloc(n, sizeof *c->q));
    c->out = need(cop_calloc(n, sizeof *c->out));
    c->page_table = need(cop_calloc(c->n_pages, sizeof *c->page_table));
    c->entries = need(cop_calloc(c->max_partials, sizeof *c->entries));
    c->items = need(cop_calloc(c->max_partials, sizeof *c->items));
    for (uint32_t p = 0; p < c->n_pages; p++)
        c->page_table[p] = p;
    fill_pool(c, s->page_tokens);
}

static void destroy_case(bench_case *c) {
    cop_cpu_attention_destroy(c->attention);
    cop_free(c->q);
    cop_free(c->out);
    cop_free(c->page_table);
    cop_free(c->entries);
    cop_free(c->items);
}

static cop_plan_tables make_tables(bench_case *c, const settings *s, uint32_t mode) {
    const bool shared_pages = mode != 2, one_tile = mode != 1;
    const uint32_t tokens = c->n_pages * s->page_tokens / (shared_pages ? 1 : BRANCHES);
    const uint32_t n_chunks = tokens / s->chunk_tokens;
    for (uint32_t b = 0; b < BRANCHES; b++) {
        c->segments[b].tokens = tokens;
        c->segments[b].page_table_offset = shared_pages ? 0 : b * (tokens / s->page_tokens);
        c->slots[b] = (cop_slot){.row = (int32_t)b, b * n_chunks, n_chunks};
        c->tiles[b].n_slots = one_tile ? BRANCHES : 1;
        for (uint32_t i = 0; i < BRANCHES; i++)
            c->tiles[b].slot[i] = (int32_t)(one_tile ? i : b);
    }
    uint32_t n_items = 0, n_entries = 0;
    for (uint32_t tile = 0; tile < (one_tile ? 1 : BRANCHES); tile++) {
        for (uint32_t chunk = 0; chunk < n_chunks; chunk++) {
            const uint32_t n = shared_pages ? 1 : BRANCHES;
            c->items[n_items++] = (cop_item){tile, chunk, n_entries, n};
            for (uint32_t e = 0; e < n; e++)
                c->entries[n_entries++] =
                    (cop_walk_entry){.segment = shared_pages ? 0 : e,
                                     .first = chunk * s->chunk_tokens,
                                     .tokens = s->chunk_tokens,
                                     .mask = mode == 0 ? 0xffff : 1ull << (mode == 1 ? 0 : e),
                                     .limits = COP_LIMITS_NONE};
        }
    }
    return (cop_plan_tables){.segments = c->segments,
                             .page_table = c->page_table,
                             .tiles = c->tiles,
                             .entries = c->entries,
                             .items = c->items,
                             .slots = c->slots,
                             .n_tiles = one_tile ? 1 : BRANCHES,
                             .n_items = n_items,
                             .n_slots = BRANCHES,
                             .n_partials = BRANCHES * n_chunks,
                             .page_tokens = s->page_tokens};
}

static void run_mode(bench_case *c, const settings *s, uint32_t mode, const machine *m,
                     uint32_t repeat, result *r) {
    const cop_plan_tables tables = make_tables(c, s, mode);
    const uint32_t stride = KV_HEADS * c->group * c->d;
    cop_cpu_attention_counters before, after;
    cop_cpu_attention_counters_read(c->attention, &before);
    const double start = now_ns(s);
    if (cop_cpu_attention_run(c->attention, 0, &tables, c->q, stride, c->out, stride) != COP_OK)
        fail("run");
    r->ns[repeat] = (now_ns(s) - start);
    cop_cpu_attention_counters_read(c->attention, &after);
    r->load_bytes = after.load_bytes - before.load_bytes;
    r->bytes = mode == 1 ? r->load_bytes : after.first_bytes - before.first_bytes;
    r->flops = 4ull * stride * BRANCHES * c->segments[0].tokens;
    r->bytes_ns = (double)r->bytes / m->bytes_per_ns;
    r->flops_ns = (double)r->flops / m->flops_per_ns;
    const double bound = r->bytes_ns > r->flops_ns ? r->bytes_ns : r->flops_ns;
    r->ratio[repeat] = r->ns[repeat] / bound;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, uint32_t n) {
    qsort(x, n, sizeof *x, compare_doubles);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void print_result(const settings *s, const bench_case *c, uint32_t mode, result *r,
                         bool first) {
    const double ns = median(r->ns, s->repeats), ratio = median(r->ratio, s->repeats);
    const char *limit = r->bytes_ns > r->flops_ns ? "memory" : "compute";
    if (s->json)
        printf("%s\n  {\"mode\": \"%s\", \"head_dim\": %u, \"group\": %u, \"branches\": %d, "
               "\"bytes\": %llu, \"load_bytes\": %llu, \"flops\": %llu, \"limit\": \"%s\", "
               "\"median_ns\": %.0f, \"median_bound_ns\": %.0f, \"median_ratio\": %.3f, "
               "\"best_ratio\": %.3f}",
               first ? "" : ",", mode_name[mode], c->d, c->group, BRANCHES,
               (unsigned long long)r->bytes, (unsigned long long)r->load_bytes,
               (unsigned long long)r->flops, limit, ns, ns / ratio, ratio, r->ratio[0]);
    else
        printf("%3u %2u  %-8s %8.1f %8.1f %9.2f  %-7s %9.2f %9.2f %6.2f %6.2f\n", c->d, c->group,
               mode_name[mode], (double)r->bytes / 0x1p20, (double)r->load_bytes / 0x1p20,
               (double)r->flops * 1e-9, limit, ns / ratio * 1e-6, ns * 1e-6, ratio, r->ratio[0]);
    fflush(stdout);
}

static void run_case(const settings *s, const float *buffer, uint32_t d, uint32_t group, bool first,
                     double bandwidth[], double peak[]) {
    static result results[N_MODES];
    bench_case c;
    float sink = 0;
    create_case(&c, s, d, group);
    for (uint32_t i = 0; i <= s->repeats; i++) { /* the first turn warms up and is written over */
        const uint32_t repeat = i ? i - 1 : 0;
        for (uint32_t mode = 0; mode < N_MODES; mode++) {
            if (s->only && strcmp(s->only, mode_name[mode]))
                continue;
            const machine m = measure_machine(s, buffer, &sink);
            bandwidth[repeat] = m.bytes_per_ns;
            peak[repeat] = m.flops_per_ns;
            run_mode(&c, s, mode, &m, repeat, &results[mode]);
        }
    }
    for (uint32_t mode = 0; mode < N_MODES; mode++) {
        if (s->only && strcmp(s->only, mode_name[mode]))
            continue;
        print_result(s, &c, mode, &results[mode], first);
        first = false;
    }
    destroy_case(&c);
}

static const char usage[] =
    "attention_roofline [--json] [--cpu-time] [--isa portable|avx2|avx512] [--threads N] "
    "[--repeats N]\n"
    "                   [--page-tokens 16|32|64] [--chunk-tokens N] [--pool-mib N]\n"
    "                   [--only shared|separate|private]\n"
    "Times 16 branches' attention, shared, separate and private, against the measured roofline.\n"
    "--cpu-time divides the threads' CPU time instead of taking wall clock: for a busy machine.\n";

static settings parse(int argc, char **argv) {
    settings s = {.repeats = 7, .page_tokens = 64, .chunk_tokens = 1024};
    s.n_threads = (uint32_t)omp_get_max_threads();
    s.cache_bytes = last_level_cache_bytes();
    s.pool_bytes = 8 * s.cache_bytes;
    const char *isa = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        const uint32_t number = (uint32_t)strtoul(value, NULL, 10);
        if (!strcmp(argv[i], "--json") || !strcmp(argv[i], "--cpu-time")) {
            s.json |= !strcmp(argv[i], "--json");
            s.cpu_time |= !strcmp(argv[i], "--cpu-time");
            continue;
        }
        if (!strcmp(argv[i], "--isa"))
            isa = value;
        else if (!strcmp(argv[i], "--only"))
            s.only = value;
        else if (!strcmp(argv[i], "--threads") && number)
            s.n_threads = number;
        else if (!strcmp(argv[i], "--repeats") && number && number <= MAX_REPEATS)
            s.repeats = number;
        else if (!strcmp(argv[i], "--page-tokens") && number)
            s.page_tokens = number;
        else if (!strcmp(argv[i], "--chunk-tokens") && number && number % 64 == 0)
            s.chunk_tokens = number;
        else if (!strcmp(argv[i], "--pool-mib") && number)
            s.pool_bytes = (size_t)number << 20;
        else {
            fputs(usage, strcmp(argv[i], "--help") ? stderr : stdout);
            exit(strcmp(argv[i], "--help") ? 2 : 0);
        }
        i++;
    }
    if (cop_isa_choose(isa, &s.isa) != COP_OK)
        fail("--isa");
    return s;
}

int main(int argc, char **argv) {
    const settings s = parse(argc, argv);
    static const uint32_t dims[] = {64, 128}, groups[] = {3, 4};
    static double bandwidth[MAX_REPEATS], peak[MAX_REPEATS];
    float *buffer = need(cop_calloc(s.pool_bytes, 1));
    if (s.json)
        printf("{\"isa\": \"%s\", \"threads\": %u, \"clock\": \"%s\", \"page_tokens\": %u, "
               "\"chunk_tokens\": %u, "
               "\"repeats\": %u, \"last_level_cache_bytes\": %zu, \"pool_bytes\": %zu, "
               "\"results\": [",
               cop_isa_name(s.isa), s.n_threads, s.cpu_time ? "cpu" : "wall", s.page_tokens,
               s.chunk_tokens, s.repeats, s.cache_bytes, s.pool_bytes);
    else
        printf("%s, %u threads, %s, pages of %u tokens, chunks of %u, pool %zu MiB, cache %zu MiB, "
               "median of %u\n"
               "  d  G  mode     mem MiB loads MiB   GFLOP  limit    bound ms   time ms  ratio   "
               "best\n",
               cop_isa_name(s.isa), s.n_threads, s.cpu_time ? "CPU time" : "wall clock",
               s.page_tokens, s.chunk_tokens, s.pool_bytes >> 20, s.cache_bytes >> 20, s.repeats);
    for (uint32_t i = 0; i < 4; i++)
        run_case(&s, buffer, dims[i / 2], groups[i % 2], i == 0, bandwidth, peak);
    const double gb = median(bandwidth, s.repeats), gflops = median(peak, s.repeats);
    if (s.json)
        printf("\n], \"read_gb_per_s\": %.2f, \"fma_gflop_per_s\": %.1f}\n", gb, gflops);
    else
        printf("read %.1f GB/s, FMA %.0f GFLOP/s (last case)\n", gb, gflops);
    cop_free(buffer);
    return 0;
}
