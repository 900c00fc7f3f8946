/* What an event costs the host, and what a copy of the tables on a device would be sent for it,
 * over the number of branches that it does not concern.
 *
 *   event_bench [--json] [--cycles N] [--min-time SECONDS] [--live N] [--tile-slots N]
 *
 * The world is event_world.h's. The timing window holds what a step does in the kv and the plan:
 * the event's own calls, a token appended for each row, cop_plan_step, the lists cleared; no
 * engine, no upload. Work of an event = the step with the event and the one after it, in which
 * prefilled branches get their rows and prefill tiles go, minus the steady steps before and after
 * them: measured in turns in one process, median and 90th percentile over the cycles. Google
 * Benchmark takes the CPU time of steady steps and of whole cycles, for the mean, which holds what
 * is amortised: (cycle - its steps x steady) / events. Bytes: 4 a word that the lists name, 16 a
 * record.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "event_world.h"
#include "gbench_shim.h"
#include "measure/environment.h"

enum { CYCLES_MAX = 100000, STEPS_EVENT = 4, STEPS_CYCLE = 2 * EVENT_CYCLE };

typedef struct settings {
    uint32_t cycles, live, tile_slots; /* live 0: the curve */
    double min_time_s;
    bool json;
} settings;

typedef struct distribution {
    double *ns;
    uint32_t n;
    double bytes, records; /* sums */
} distribution;

typedef struct outcome {
    distribution of[EVENT_KINDS]; /* EVENT_NONE: steady steps */
    cop_plan_stats before, after;
    double steady_mean_ns, event_mean_ns; /* by Google Benchmark */
} outcome;

static const char usage[] =
    "event_bench [--json] [--cycles N] [--min-time SECONDS] [--live N] [--tile-slots N]\n"
    "Host work and table bytes of a fork, a prune, a finished branch and a join at 8, 64, 512 and\n"
    "4,096 live branches, against steady steps of the same process.\n"
    "--cycles: measured ones at each size (default 400); --live: one size alone; --tile-slots: of\n"
    "the plan (default 16).\n";

static int parse(int argc, char **argv, settings *s) {
    *s = (settings){.cycles = 400, .tile_slots = 16, .min_time_s = 0.2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        char *end = NULL;
        const unsigned long number = strtoul(value, &end, 10);
        const bool whole = *value && *end == '\0';
        if (!strcmp(argv[i], "--json")) {
            s->json = true;
            continue;
        }
        if (!strcmp(argv[i], "--help"))
            return 1;
        if (!strcmp(argv[i], "--cycles") && whole && number >= 1 && number <= CYCLES_MAX)
            s->cycles = (uint32_t)number;
        else if (!strcmp(argv[i], "--live") && whole && number >= 1 && number <= 1u << 16)
            s->live = (uint32_t)number;
        else if (!strcmp(argv[i], "--tile-slots") && whole && number >= 1 && number <= 64)
            s->tile_slots = (uint32_t)number;
        else if (!strcmp(argv[i], "--min-time") && (s->min_time_s = strtod(value, &end)) > 0 &&
                 *end == '\0' && s->min_time_s <= 60)
            ;
        else {
            fprintf(stderr, "event_bench: %s %s is not understood\n", argv[i], value);
            return 2;
        }
        i++;
    }
    return 0;
}

static cop_status outcome_create(outcome *o, uint32_t cycles) {
    *o = (outcome){0};
    for (uint32_t kind = 0; kind < EVENT_KINDS; kind++) {
        o->of[kind].ns = cop_calloc((size_t)cycles * EVENT_CYCLE, sizeof *o->of[kind].ns);
        if (!o->of[kind].ns)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the times of %u cycles", cycles);
    }
    return COP_OK;
}

static void outcome_destroy(outcome *o) {
    for (uint32_t kind = 0; kind < EVENT_KINDS; kind++)
        cop_free(o->of[kind].ns);
}

static void add(distribution *d, double ns, const event_bytes *bytes, uint32_t n) {
    d->ns[d->n++] = ns;
    for (uint32_t i = 0; i < n; i++) {
        d->bytes += 4.0 * bytes[i].words + 16.0 * bytes[i].records;
        d->records += bytes[i].records;
    }
}

/* A steady step, the event, the step that follows from it, a steady step. */
static cop_status time_event(event_world *w, event_kind kind, outcome *o) {
    double ns[STEPS_EVENT];
    event_bytes bytes[STEPS_EVENT];
    for (uint32_t i = 0; i < STEPS_EVENT; i++) {
        const uint64_t begin = cop_clock_ns();
        const cop_status status = event_world_step(w, i == 1 ? kind : EVENT_NONE);
        ns[i] = (double)(cop_clock_ns() - begin);
        COP_TRY(status);
        bytes[i] = event_world_bytes(w);
    }
    add(&o->of[EVENT_NONE], ns[0], bytes, 1);
    add(&o->of[kind], ns[1] + ns[2] - ns[0] - ns[3], bytes + 1, 2);
    return COP_OK;
}

typedef struct loop { /* what Google Benchmark runs */
    event_world *w;
    uint32_t steps; /* since the leaves were taken back */
    cop_status status;
} loop;

static int loop_settle(loop *l, uint32_t steps) {
    l->steps += steps;
    if (l->status == COP_OK && l->steps + steps > EVENT_STEPS_MAX) {
        l->status = event_world_settle(l->w);
        l->steps = 0;
    }
    return l->status != COP_OK;
}

static int loop_steady(void *user) {
    loop *l = user;
    l->status = event_world_step(l->w, EVENT_NONE);
    return loop_settle(l, 1);
}

static int loop_cycle(void *user) {
    loop *l = user;
    for (uint32_t i = 0; i < STEPS_CYCLE && l->status == COP_OK; i++)
        l->status = event_world_step(l->w, i % 2 ? EVENT_NONE : event_cycle[i / 2]);
    return loop_settle(l, STEPS_CYCLE);
}

static cop_status time_means(event_world *w, const settings *s, outcome *o) {
    loop l = {.w = w, .status = COP_OK};
    const cop_gbench_case cases[] = {{.name = "steady", .iterate = loop_steady, .user = &l},
                                     {.name = "cycle", .iterate = loop_cycle, .user = &l}};
    cop_gbench_result result[2];
    COP_TRY(event_world_settle(w));
    const uint32_t failed = cop_gbench_run(cases, 2, s->min_time_s, result);
    COP_TRY(l.status);
    if (failed)
        return COP_FAIL(COP_ERR_INTERNAL, "Google Benchmark ran nothing");
    o->steady_mean_ns = result[0].cpu_ns;
    o->event_mean_ns = (result[1].cpu_ns - STEPS_CYCLE * result[0].cpu_ns) / EVENT_CYCLE;
    return COP_OK;
}

static cop_status time_world(uint32_t live, const settings *s, outcome *o) {
    event_world *w;
    COP_TRY(event_world_create(live, s->tile_slots, &w));
    cop_status status = COP_OK;
    o->before = event_world_stats(w);
    for (uint32_t cycle = 0; status == COP_OK && cycle < s->cycles; cycle++) {
        for (uint32_t i = 0; status == COP_OK && i < EVENT_CYCLE; i++)
            status = time_event(w, event_cycle[i], o);
        if (status == COP_OK)
            status = event_world_settle(w);
    }
    o->after = event_world_stats(w);
    if (status == COP_OK)
        status = time_means(w, s, o);
    event_world_destroy(w);
    return status;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts in place; linear interpolation, as everywhere in the results. */
static double percentile(distribution *d, double share) {
    qsort(d->ns, d->n, sizeof *d->ns, by_value);
    const double at = share * (d->n - 1);
    const uint32_t below = (uint32_t)at;
    const double above = below + 1 < d->n ? d->ns[below + 1] : d->ns[below];
    return d->ns[below] + (at - below) * (above - d->ns[below]);
}

static json_t *outcome_json(uint32_t live, outcome *o) {
    json_t *events = json_object();
    for (uint32_t kind = EVENT_FORK; kind < EVENT_KINDS; kind++) {
        distribution *d = &o->of[kind];
        json_object_set_new(events, event_kind_name((event_kind)kind),
                            json_pack("{s:i, s:f, s:f, s:f, s:f}", "n", (int)d->n, "median_us",
                                      percentile(d, 0.5) * 1e-3, "p90_us",
                                      percentile(d, 0.9) * 1e-3, "table_bytes", d->bytes / d->n,
                                      "table_records", d->records / d->n));
    }
    distribution *steady = &o->of[EVENT_NONE];
    const cop_plan_stats *a = &o->before, *b = &o->after;
    return json_pack("{s:i, s:{s:f, s:f, s:f}, s:o, s:f, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "live",
                     (int)live, "steady", "median_us", percentile(steady, 0.5) * 1e-3, "mean_us",
                     o->steady_mean_ns * 1e-3, "table_bytes", steady->bytes / steady->n, "events",
                     events, "event_mean_cpu_us", o->event_mean_ns * 1e-3, "counted",
                     "tiles_rewritten", (json_int_t)(b->tiles_rewritten - a->tiles_rewritten),
                     "tilings_searched", (json_int_t)(b->tilings_searched - a->tilings_searched),
                     "rebuilds", (json_int_t)(b->rebuilds - a->rebuilds), "partials_moved",
                     (json_int_t)(b->partials_moved - a->partials_moved), "entries_moved",
                     (json_int_t)(b->entries_moved - a->entries_moved), "changes_whole",
                     (json_int_t)(b->changes_whole - a->changes_whole));
}

static void outcome_print(uint32_t live, outcome *o) {
    distribution *steady = &o->of[EVENT_NONE];
    printf("%5u %8.2f %6.0f", live, percentile(steady, 0.5) * 1e-3, steady->bytes / steady->n);
    for (uint32_t kind = EVENT_FORK; kind < EVENT_KINDS; kind++) {
        distribution *d = &o->of[kind];
        printf(" %6.2f %6.2f %5.0f", percentile(d, 0.5) * 1e-3, percentile(d, 0.9) * 1e-3,
               d->bytes / d->n);
    }
    printf(" %7.2f %5llu %5llu\n", o->event_mean_ns * 1e-3,
           (unsigned long long)(o->after.rebuilds - o->before.rebuilds),
           (unsigned long long)(o->after.partials_moved - o->before.partials_moved));
    fflush(stdout);
}

static void heading_print(const settings *s, const json_t *environment) {
    const char *cpu = "unknown CPU";
    json_unpack((json_t *)environment, "{s:{s:s}}", "cpu", "model", &cpu);
    printf("%s; %u cycles, tiles of %u slots. us: median and 90th percentile; B: table bytes of "
           "one event\n%5s %8s %6s",
           cpu, s->cycles, s->tile_slots, "live", "steady", "B");
    for (uint32_t kind = EVENT_FORK; kind < EVENT_KINDS; kind++)
        printf(" %6.6s %6s %5s", event_kind_name((event_kind)kind), "p90", "B");
    printf(" %7s %5s %5s\n", "mean", "anew", "moved");
}

static cop_status run(const settings *s, json_t *environment) {
    json_t *results = s->json ? json_array() : NULL;
    cop_status status = COP_OK;
    if (!s->json)
        heading_print(s, environment);
    for (uint32_t live = 8; status == COP_OK && live <= 4096; live *= 8) {
        outcome o;
        const uint32_t n = s->live ? s->live : live;
        status = outcome_create(&o, s->cycles);
        if (status == COP_OK)
            status = time_world(n, s, &o);
        if (status == COP_OK && s->json)
            json_array_append_new(results, outcome_json(n, &o));
        else if (status == COP_OK)
            outcome_print(n, &o);
        outcome_destroy(&o);
        if (s->live)
            break;
    }
    if (status == COP_OK && s->json) {
        cop_gbench_library library;
        cop_gbench_describe(&library);
        json_t *root = json_pack(
            "{s:{s:O, s:s, s:s, s:i, s:i}, s:O}", "context", "environment", environment,
            "benchmark_library", "Google Benchmark", "benchmark_library_build", library.build_type,
            "cycles", (int)s->cycles, "tile_slots", (int)s->tile_slots, "results", results);
        if (!root || json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) != 0)
            status = COP_FAIL(COP_ERR_IO, "cannot write the results");
        putchar('\n');
        json_decref(root);
    }
    json_decref(results);
    return status;
}

int main(int argc, char **argv) {
    settings s;
    json_t *environment = NULL;
    const int parsed = parse(argc, argv, &s);
    if (parsed) {
        fputs(usage, parsed == 1 ? stdout : stderr);
        return parsed == 1 ? 0 : 2;
    }
    cop_status status = cop_environment_read(&environment);
    if (status == COP_OK)
        status = run(&s, environment);
    json_decref(environment);
    if (status != COP_OK)
        fprintf(stderr, "event_bench: %s\n", cop_status_message());
    return status == COP_OK ? 0 : cop_status_exit_code(status);
}
