#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command/command.h"
#include "command/job_line.h"
#include "job/joins.h"
#include "measure/results_file.h"

typedef struct joins_line {
    const char *model, *random, *trajectories, *id, *compute, *isa, *lines, *html;
    uint32_t threads, after;
    uint64_t seed;
    bool json, allow_extrapolation;
} joins_line;

typedef struct joins_work {
    cop_model *model;
    cop_trajectories *set;
    cop_joins_table *tables; /* [set->count], of which n are done */
    uint32_t n;
} joins_work;

static const char about[] =
    "Takes recorded reasoning trees through one set of weights under every way to join, all\n"
    "forced through the same tokens, and compares the next-token distribution after each\n"
    "join with that of re-prefill: KL divergence and the largest difference of a logit, with\n"
    "the time that joins took and the bytes of KV that they wrote and read. The ways differ\n"
    "in positions, in visibility and in recomputation, one at a time and together; bands that\n"
    "differ in nothing (siblings in another order, another arithmetic) show what is noise.\n"
    "Runs on cpu. Branches run one after the other, so decoding is not timed: replay times it.\n"
    "A join that a model was not trained with says nothing about a model that was.";

static void put_number(char text[24], double value, const char *format) {
    if (!isfinite(value))
        snprintf(text, 24, "-");
    else
        snprintf(text, 24, format, value);
}

static cop_status put_tracks(const cop_joins_table *table, cop_buffer *out) {
    COP_TRY(cop_buffer_printf(out, "  %-31s %-8s %-8s %-21s %9s %9s %8s %9s %9s %9s\n", "track",
                              "keys", "siblings", "positions", "logprob", "join ms", "again",
                              "kB write", "kB read", "kB seen"));
    for (uint32_t t = 0; t < table->n_tracks; t++) {
        const cop_joins_track *track = &table->tracks[t];
        char name[64], logprob[24];
        bool other = strcmp(track->compute, table->tracks[0].compute) != 0;
        snprintf(name, sizeof name, "%s", track->name);
        if (other)
            snprintf(name, sizeof name, "reprefill, %s", track->compute);
        put_number(logprob, cop_joins_logprob_mean(table, t), "%.4f");
        COP_TRY(cop_buffer_printf(
            out, "  %-31s %-8s %-8s %-21s %9s %9.3f %8llu %9.1f %9.1f %9.1f\n", name, track->keys,
            track->siblings, track->positions, logprob, (double)track->join_ns / 1e6,
            (unsigned long long)track->tokens_recomputed, (double)track->kv_written / 1e3,
            (double)track->kv_read / 1e3, (double)track->kv_seen / 1e3));
    }
    return COP_OK;
}

static cop_status put_contrasts(const cop_joins_table *table, cop_buffer *out) {
    static const char *const titles[] = {"against reprefill", "one difference alone",
                                         "no difference in method: noise"};
    for (cop_joins_kind kind = COP_JOINS_AGAINST_REFERENCE; kind <= COP_JOINS_BAND; kind++) {
        COP_TRY(cop_buffer_printf(out, "  %-31s %10s %10s %10s %11s %9s %10s\n", titles[kind],
                                  "KL mean", "KL median", "KL max", "logit diff", "same top",
                                  "d logprob"));
        for (uint32_t c = 0; c < table->n_contrasts; c++) {
            cop_joins_summary s;
            char text[6][24];
            if (table->contrasts[c].kind != kind)
                continue;
            COP_TRY(cop_joins_summarise(table, c, &s));
            put_number(text[0], s.kl_mean, "%.3g");
            put_number(text[1], s.kl_p50, "%.3g");
            put_number(text[2], s.kl_max, "%.3g");
            put_number(text[3], s.logit_diff_max, "%.3g");
            put_number(text[4], 100 * s.same_top_share, "%.1f%%");
            put_number(text[5], s.logprob_change, "%+.2g");
            COP_TRY(cop_buffer_printf(out, "  %-31s %10s %10s %10s %11s %9s %10s\n",
                                      table->contrasts[c].name, text[0], text[1], text[2], text[3],
                                      text[4], text[5]));
        }
    }
    return COP_OK;
}

static cop_status put_table(const cop_joins_table *table, cop_buffer *out) {
    COP_TRY(cop_buffer_printf(out, "%s (%s): %u tokens after %u joins; %s%s, %s; tokens: %s%s\n",
                              table->trajectory, table->dialect, table->n_tokens, table->joins,
                              table->model, table->random_weights ? " (random weights)" : "",
                              table->tracks[0].compute, table->tokens_from,
                              table->extrapolated ? "; past the model's context" : ""));
    COP_TRY(put_tracks(table, out));
    COP_TRY(put_contrasts(table, out));
    for (uint32_t i = 0; i < table->n_omitted; i++)
        COP_TRY(cop_buffer_printf(out, "  left out: %s\n", table->omitted[i]));
    return cop_buffer_printf(out, "\n");
}

static cop_status open_work(const joins_line *line, joins_work *work) {
    if (!line->model == !line->random)
        return COP_FAIL(COP_ERR_USAGE, "name either a model file (--model) or a shape file for "
                                       "random weights (--random)");
    COP_TRY(line->model ? cop_model_open(line->model, &work->model)
                        : cop_model_open_random(line->random, &work->model));
    COP_TRY(cop_trajectories_read(line->trajectories, &work->set));
    COP_TRY(cop_trajectories_tokenize(work->set, cop_model_tokenizer(work->model),
                                      cop_model_shape_of(work->model)->vocab, line->seed));
    work->tables = cop_calloc(work->set->count + 1, sizeof *work->tables);
    return work->tables ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the results");
}

/* A dialect that configs/dialects does not know says nothing, and is no error: `replay` takes such
 * records too. */
static cop_status run_one(joins_work *work, const cop_trajectory *trajectory,
                          cop_joins_options *options) {
    cop_dialect_file *file = NULL;
    options->dialect = NULL;
    if (cop_dialect_open(trajectory->dialect, &file) == COP_OK)
        options->dialect = cop_dialect_of(file);
    cop_status status = cop_joins_run(work->model, trajectory, options, &work->tables[work->n++]);
    cop_dialect_close(file);
    return status;
}

static cop_status run_set(const joins_line *line, joins_work *work) {
    cop_joins_options options = {.arith = COP_ARITH_F32,
                                 .n_threads = line->threads,
                                 .isa = line->isa,
                                 .after_max = line->after,
                                 .allow_extrapolation = line->allow_extrapolation,
                                 .interrupt = cop_interrupt_flag()};
    if (line->compute)
        COP_TRY(cop_arith_parse(line->compute, &options.arith));
    options.other = options.arith == COP_ARITH_F32 ? COP_ARITH_BF16 : COP_ARITH_F32;
    COP_TRY(open_work(line, work));
    for (uint32_t i = 0; i < work->set->count; i++) {
        const cop_trajectory *trajectory = &work->set->list[i];
        if (line->id && strcmp(line->id, trajectory->id) != 0)
            continue;
        COP_TRY(cop_dialect_check_name(trajectory->dialect));
        cop_progress_line(NULL, i, work->set->count, trajectory->id);
        COP_TRY(run_one(work, trajectory, &options));
    }
    cop_progress_clear();
    if (work->n == 0 && line->id)
        return COP_FAIL(COP_ERR_USAGE, "%s holds no trajectory \"%s\"", line->trajectories,
                        line->id);
    return work->n ? COP_OK
                   : COP_FAIL(COP_ERR_FORMAT, "%s holds no trajectory", line->trajectories);
}

/* Files first: what is printed stands for all of it. */
static cop_status put_results(const joins_line *line, const joins_work *work) {
    cop_buffer lines = {0}, table = {0};
    cop_status status = COP_OK;
    for (uint32_t i = 0; status == COP_OK && i < work->n; i++) {
        status = cop_joins_lines(&work->tables[i], &lines);
        if (status == COP_OK)
            status = put_table(&work->tables[i], &table);
    }
    if (status == COP_OK)
        status = cop_buffer_printf(&table, "%s\n", cop_joins_caution);
    if (status == COP_OK && line->lines)
        status = cop__file_replace(line->lines, lines.data, lines.bytes);
    if (status == COP_OK && line->html)
        status = cop_joins_page(work->tables, work->n, line->html);
    if (status == COP_OK)
        status = cop_command_output(line->json ? &lines : &table);
    cop_buffer_release(&lines);
    cop_buffer_release(&table);
    return status;
}

static void release(joins_work *work) {
    for (uint32_t i = 0; i < work->n; i++)
        cop_joins_table_release(&work->tables[i]);
    cop_free(work->tables);
    cop_trajectories_destroy(work->set);
    cop_model_close(work->model);
}

int cop_command_joins(int argc, char **argv) {
    joins_line line = {.seed = 1};
    const cop_option options[] = {
        {"model", COP_OPTION_TEXT, &line.model, "FILE", "a GGUF model"},
        {"random", COP_OPTION_TEXT, &line.random, "FILE",
         "random weights from a shape file instead (configs/models/)"},
        {"trajectories", COP_OPTION_TEXT, &line.trajectories, "FILE",
         "recorded problems, JSONL (coppice import makes them)", .required = true},
        {"id", COP_OPTION_TEXT, &line.id, "ID", "only this trajectory"},
        {"after", COP_OPTION_U32, &line.after, "N",
         "compare only so many tokens after each join; 0: all (0)"},
        {"compute", COP_OPTION_TEXT, &line.compute, "NAME",
         "arithmetic (f32); the band compares it with bf16, or with f32",
         .choices = "f32|bf16|native-f32|native-a8|native"},
        {"threads", COP_OPTION_U32, &line.threads, "N", "threads (all)", .max = 1024},
        {"isa", COP_OPTION_TEXT, &line.isa, "NAME", "instruction set (the best)",
         .choices = "portable|avx2|avx512"},
        {"seed", COP_OPTION_U64, &line.seed, "N", "of placeholder tokens (1)", .max = INT64_MAX},
        {"allow-extrapolation", COP_OPTION_FLAG, &line.allow_extrapolation, NULL,
         "go past the model's context; the results say so"},
        {"html", COP_OPTION_TEXT, &line.html, "FILE", "write a page with plots as well"},
        {"lines", COP_OPTION_TEXT, &line.lines, "FILE", "write each token's figures, JSON lines"},
        {"json", COP_OPTION_FLAG, &line.json, NULL, "print these lines instead of the table"},
    };
    const cop_command_line usage = {
        .verb = "joins",
        .usage = "(--model FILE | --random SHAPE.json) --trajectories T.jsonl [options]",
        .about = about,
        .options = options,
        .n_options = sizeof options / sizeof options[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&usage, argc, argv, &operands);
    if (status != COP_OK)
        return cop_command_fail("joins", status);
    if (operands.help)
        return 0;
    joins_work work = {0};
    status = run_set(&line, &work);
    if (status == COP_OK)
        status = put_results(&line, &work);
    release(&work);
    cop_progress_clear();
    return status == COP_OK ? 0 : cop_command_fail("joins", status);
}
