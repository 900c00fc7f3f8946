/* What a steady decode step costs in each way of running it: products invariant or fast, with
 * captured graphs or launched one by one (eager); and what the host does for it.
 *
 *   step_bench (--random SHAPE.json | --model FILE) [--backend NAME] [--modes LIST] [--json] ..
 *
 * One tree a cell: a prompt of `prefix` tokens, one fork into `branches`, which decode side by
 * side. It is run with few tokens a branch and with more; every figure is the difference of the two
 * runs over the steps that one has more. So prompts, forks and joins cancel out, whatever is queued
 * ahead, and a step without events is what remains. Wall clock, from submission to the last token;
 * the difference of the repeats' medians, and of the least of each. Modes run one after another,
 * each with an engine of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "command/options.h"
#include "job/job.h"
#include "reason/driver_replay.h"

enum { AXIS_MAX = COP_GRID_AXIS_MAX, REPEATS_MAX = 99, MODES_MAX = 4, FEW_TOKENS = 16 };

typedef struct mode {
    const char *name;
    cop_products_mode products;
    bool eager;
} mode;

static const mode all_modes[MODES_MAX] = {
    {"fast", COP_PRODUCTS_FAST, false},
    {"fast-eager", COP_PRODUCTS_FAST, true},
    {"invariant", COP_PRODUCTS_INVARIANT, false},
    {"invariant-eager", COP_PRODUCTS_INVARIANT, true},
};

typedef struct settings {
    cop_job_options job;
    const char *compute, *branches, *prefixes, *modes_text;
    cop_tree_grid grid; /* branch_tokens: of the shorter run */
    mode modes[MODES_MAX];
    uint32_t n_modes, steps, repeats;
    bool json;
} settings;

typedef struct figures { /* of one step */
    double step_us, least_us, host_us, idle_us;
    double launches, graph_launches, waits, upload_bytes;
    uint64_t allocations;
} figures;

/* "1,2,8": numbers from 1. */
static cop_status parse_axis(const char *option, const char *text, uint32_t limit, uint32_t *out,
                             uint32_t *n) {
    for (*n = 0; *n < AXIS_MAX && *text >= '1' && *text <= '9';) {
        char *end;
        const unsigned long long number = strtoull(text, &end, 10);
        if (number > limit || (*end && *end != ','))
            break;
        out[(*n)++] = (uint32_t)number;
        if (!*end)
            return COP_OK;
        text = end + 1;
    }
    return COP_FAIL(COP_ERR_USAGE, "--%s: give 1 to %d numbers from 1 to %u, with commas", option,
                    AXIS_MAX, limit);
}

static cop_status parse_modes(const char *text, settings *s) {
    while (*text) {
        const size_t bytes = strcspn(text, ",");
        const mode *found = NULL;
        for (uint32_t i = 0; i < MODES_MAX; i++)
            if (strlen(all_modes[i].name) == bytes && !memcmp(all_modes[i].name, text, bytes))
                found = &all_modes[i];
        for (uint32_t i = 0; i < s->n_modes; i++)
            if (found && strcmp(s->modes[i].name, found->name) == 0)
                found = NULL; /* twice */
        if (!found)
            break;
        s->modes[s->n_modes++] = *found;
        text += bytes + (text[bytes] == ',' && text[bytes + 1]);
    }
    if (*text || s->n_modes == 0)
        return COP_FAIL(COP_ERR_USAGE, "--modes: give some of fast, fast-eager, invariant and "
                                       "invariant-eager, each once, with commas");
    return COP_OK;
}

/* Runs a tree and counts; a steady run allocates nothing. */
static cop_status run_tree(cop_engine *engine, const cop_trajectory *tree, cop_metrics *metrics) {
    cop_replay *replay;
    COP_TRY(cop_replay_create(tree, &(cop_replay_options){.join = COP_JOIN_STITCH}, &replay));
    cop_driver *driver = cop_replay_driver(replay);
    cop_status status = cop_engine_run(engine, &driver, 1, metrics);
    if (status == COP_OK)
        status = cop_replay_check(replay);
    cop_replay_destroy(replay);
    return status;
}

static int compare(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What the longer runs took more, by the step: at the repeats' median, or at the least of each. */
static double more_us(const settings *s, uint64_t *many, uint64_t *few, bool least) {
    const uint32_t at = least ? 0 : s->repeats / 2;
    qsort(many, s->repeats, sizeof *many, compare);
    qsort(few, s->repeats, sizeof *few, compare);
    return ((double)many[at] - (double)few[at]) / 1e3 / s->steps;
}

static double over(uint64_t more, uint64_t fewer, uint32_t steps) {
    return ((double)more - (double)fewer) / steps;
}

static cop_status measure(const settings *s, cop_engine *engine, const cop_trajectory *few,
                          const cop_trajectory *many, figures *out) {
    uint64_t wall[2][REPEATS_MAX], host[2][REPEATS_MAX], idle[2][REPEATS_MAX];
    cop_metrics m[2];
    *out = (figures){0};
    COP_TRY(run_tree(engine, few, &m[0])); /* warms up: graphs are captured here */
    for (uint32_t r = 0; r < s->repeats; r++) {
        for (int k = 0; k < 2; k++) {
            COP_TRY(run_tree(engine, k ? many : few, &m[k]));
            wall[k][r] = m[k].wall_ns;
            host[k][r] = m[k].term_ns[COP_TERM_HOST];
            idle[k][r] = m[k].device_idle_ns;
            out->allocations += m[k].device_allocations + m[k].allocations_in_steps;
        }
        if (m[1].steps_forward - m[0].steps_forward != s->steps)
            return COP_FAIL(COP_ERR_INTERNAL, "%s: %llu steps and %llu, not %u apart", many->id,
                            (unsigned long long)m[0].steps_forward,
                            (unsigned long long)m[1].steps_forward, s->steps);
    }
    out->step_us = more_us(s, wall[1], wall[0], false);
    out->least_us = more_us(s, wall[1], wall[0], true);
    out->host_us = more_us(s, host[1], host[0], false);
    out->idle_us = more_us(s, idle[1], idle[0], false);
    out->launches = over(m[1].launches, m[0].launches, s->steps);
    out->graph_launches = over(m[1].graph_launches, m[0].graph_launches, s->steps);
    out->waits = over(m[1].waits, m[0].waits, s->steps);
    out->upload_bytes = over(m[1].upload_bytes, m[0].upload_bytes, s->steps);
    return COP_OK;
}

/* Large enough for the largest tree of the grid. */
static cop_job_size size_of(const cop_trajectories *set) {
    cop_job_size size = {.what = "the grid's longest tree"};
    for (uint32_t i = 0; i < set->count; i++) {
        const cop_trajectory *t = &set->list[i];
        const uint32_t branches = cop_trajectory_branches(t);
        size.tokens = t->n_tokens + 64 > size.tokens ? t->n_tokens + 64 : size.tokens;
        size.branches = branches > size.branches ? branches : size.branches;
        if (t->n_tokens + 1 > size.positions)
            size.positions = (uint32_t)t->n_tokens + 1;
    }
    size.segments = 4 * size.branches + 16;
    return size;
}

static void print_cell(const settings *s, const cop_job *job, const cop_job_device *device,
                       const mode *m, uint32_t cell, const figures *f) {
    const uint32_t prefix = s->grid.prefix[cell / s->grid.n_branches];
    const uint32_t branches = s->grid.branches[cell % s->grid.n_branches];
    if (s->json)
        printf("{\"backend\": \"%s\", \"device\": \"%s\", \"clock\": \"%s\", \"model\": \"%s\", "
               "\"arithmetic\": \"%s\", \"mode\": \"%s\", \"products\": \"%s\", \"eager\": %s, "
               "\"prefix_tokens\": %u, \"branches\": %u, \"steps\": %u, \"repeats\": %u, "
               "\"step_us\": %.3f, \"least_us\": %.3f, \"host_us\": %.3f, \"idle_us\": %.3f, "
               "\"launches\": %g, \"graph_launches\": %g, \"waits\": %g, \"upload_bytes\": %g, "
               "\"allocations\": %llu}\n",
               device->backend, device->text, device->clock, cop_model_name(cop_job_model(job)),
               cop_arith_name(s->job.arith), m->name, device->products, m->eager ? "true" : "false",
               prefix, branches, s->steps, s->repeats, f->step_us, f->least_us, f->host_us,
               f->idle_us, f->launches, f->graph_launches, f->waits, f->upload_bytes,
               (unsigned long long)f->allocations);
    else
        printf("%-16s %8u %8u %10.2f %10.2f %8.2f %8.2f %8.2f %8.2f %6.2f %10.1f %6llu%s%s\n",
               m->name, prefix, branches, f->step_us, f->least_us, f->host_us, f->idle_us,
               f->launches, f->graph_launches, f->waits, f->upload_bytes,
               (unsigned long long)f->allocations, strcmp(device->clock, "wall") ? "  " : "",
               strcmp(device->clock, "wall") ? device->clock : "");
    fflush(stdout);
}

/* The trees with few tokens a branch and those with more lie in two sets, in one order. */
static cop_status run_mode(const settings *s, const mode *m, bool first, figures *out) {
    cop_job_options options = s->job;
    options.on.products = m->products;
    options.on.eager = m->eager;
    cop_tree_grid longer = s->grid;
    longer.branch_tokens += s->steps;
    char hash[COP_SHA256_HEX_BYTES];
    cop_trajectories *few = NULL, *many = NULL;
    cop_job *job = NULL;
    cop_engine *engine = NULL;
    const cop_job_device *device = NULL;
    cop_status status = cop_job_create(&options, &job);
    if (status == COP_OK)
        status = cop_tree_grid_read(&s->grid, &few, hash);
    if (status == COP_OK)
        status = cop_tree_grid_read(&longer, &many, hash);
    const uint32_t vocab = job ? cop_model_shape_of(cop_job_model(job))->vocab : 0;
    if (status == COP_OK)
        status = cop_trajectories_tokenize(few, NULL, vocab, options.seed);
    if (status == COP_OK)
        status = cop_trajectories_tokenize(many, NULL, vocab, options.seed);
    const cop_job_size size = status == COP_OK ? size_of(many) : (cop_job_size){0};
    if (status == COP_OK)
        status = cop_job_engine(job, &size, NULL, &engine);
    if (status == COP_OK)
        status = cop_job_device_of(job, &device);
    if (status == COP_OK && first && !s->json)
        printf("%s on %s, %s, clock %s; by the step, median of %u\n%-16s %8s %8s %10s %10s %8s %8s "
               "%8s %8s %6s %10s %6s\n",
               cop_model_name(cop_job_model(job)), device->text, cop_arith_name(options.arith),
               device->clock, s->repeats, "mode", "prefix", "branches", "step us", "least us",
               "host us", "idle us", "launches", "graphs", "waits", "upload B", "alloc");
    for (uint32_t i = 0; status == COP_OK && i < many->count; i++) {
        status = measure(s, engine, &few->list[i], &many->list[i], &out[i]);
        if (status == COP_OK)
            print_cell(s, job, device, m, i, &out[i]);
    }
    cop_engine_destroy(engine);
    cop_trajectories_destroy(few);
    cop_trajectories_destroy(many);
    cop_job_destroy(job);
    return status;
}

/* Each mode's step over the first mode's. */
static void print_ratios(const settings *s, const figures *all, uint32_t n_cells) {
    printf("\nstep time / that of %s\n%8s %8s", s->modes[0].name, "prefix", "branches");
    for (uint32_t m = 1; m < s->n_modes; m++)
        printf(" %16s", s->modes[m].name);
    printf("\n");
    for (uint32_t i = 0; i < n_cells; i++) {
        printf("%8u %8u", s->grid.prefix[i / s->grid.n_branches],
               s->grid.branches[i % s->grid.n_branches]);
        for (uint32_t m = 1; m < s->n_modes; m++)
            printf(" %16.3f", all[m * n_cells + i].step_us / all[i].step_us);
        printf("\n");
    }
}

static cop_status run(settings *s) {
    const bool cpu = strcmp(cop_backend_choice_name(&s->job.on), "cpu") == 0;
    s->job.arith = cop_job_arith_default(&s->job.on);
    if (s->compute)
        COP_TRY(cop_arith_parse(s->compute, &s->job.arith));
    COP_TRY(parse_axis("branches", s->branches, COP_GRID_BRANCHES_MAX, s->grid.branches,
                       &s->grid.n_branches));
    COP_TRY(parse_axis("prefix", s->prefixes, 1 << 20, s->grid.prefix, &s->grid.n_prefix));
    COP_TRY(parse_modes(s->modes_text ? s->modes_text
                        : cpu         ? "invariant"
                                      : "fast,fast-eager,invariant,invariant-eager",
                        s));
    const uint32_t n_cells = s->grid.n_prefix * s->grid.n_branches;
    figures *all = cop_calloc((size_t)s->n_modes * n_cells, sizeof *all);
    if (!all)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u cells", n_cells);
    cop_status status = COP_OK;
    for (uint32_t m = 0; m < s->n_modes && status == COP_OK; m++)
        status = run_mode(s, &s->modes[m], m == 0, all + (size_t)m * n_cells);
    if (status == COP_OK && !s->json && s->n_modes > 1)
        print_ratios(s, all, n_cells);
    cop_free(all);
    return status;
}

int main(int argc, char **argv) {
    settings s = {.branches = "1,2,4,8,16,32,64,128,256",
                  .prefixes = "1024,8192",
                  .grid = {.branch_tokens = FEW_TOKENS},
                  .steps = 64,
                  .repeats = 3};
    cop_job_options_default(&s.job);
    const cop_option options[] = {
        {"random", COP_OPTION_TEXT, &s.job.random, "FILE", "random weights of this shape"},
        {"model", COP_OPTION_TEXT, &s.job.model, "FILE", "or a GGUF model"},
        {"backend", COP_OPTION_TEXT, &s.job.on.name, "NAME", "where it is computed (cpu)"},
        {"device", COP_OPTION_U32, &s.job.on.device, "N", "which of its devices (0)"},
        {"compute", COP_OPTION_TEXT, &s.compute, NULL, "arithmetic (native-a8 on cpu, else bf16)",
         .choices = "f32|bf16|native-f32|native-a8|native"},
        {"threads", COP_OPTION_U32, &s.job.n_threads, "N", "threads (all)", .min = 1, .max = 1024},
        {"modes", COP_OPTION_TEXT, &s.modes_text, "LIST",
         "fast, fast-eager, invariant, invariant-eager (all; invariant on cpu)"},
        {"branches", COP_OPTION_TEXT, &s.branches, "LIST", "(1,2,4,8,16,32,64,128,256)"},
        {"prefix", COP_OPTION_TEXT, &s.prefixes, "LIST", "tokens before the fork (1024,8192)"},
        {"steps", COP_OPTION_U32, &s.steps, "N", "that a figure is of (64)", .min = 1, .max = 4096},
        {"repeats", COP_OPTION_U32, &s.repeats, "N", "(3)", .min = 1, .max = REPEATS_MAX},
        {"json", COP_OPTION_FLAG, &s.json, NULL, "a line of JSON a cell"},
    };
    const cop_command_line line = {"step_bench", "(--random SHAPE.json | --model FILE) [options]",
                                   "What a steady decode step costs, by products mode, with graphs "
                                   "and without.",
                                   options, sizeof options / sizeof options[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK)
        status = run(&s);
    return status == COP_OK ? 0 : cop_command_fail("step_bench", status);
}
