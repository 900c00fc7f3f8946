#include <stdio.h>

#include "command/command.h"
#include "command/job_line.h"
#include "measure/report.h"

static cop_status dry_run(const cop_bench_config *config) {
    cop_buffer text = {0};
    cop_status status = cop_bench_config_list(config, &text);
    if (status == COP_OK)
        status = cop_command_output(&text);
    cop_buffer_release(&text);
    return status;
}

static cop_status bench(cop_bench_config *config, const char *out, bool resume, cop_table *table) {
    const cop_bench_run run = {.folder = out,
                               .resume = resume,
                               .listener = cop_table_row,
                               .progress = cop_progress_line,
                               .note = cop_results_say_note,
                               .context = table};
    COP_TRY(cop_bench_run_config(config, &run));
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/report.html", out) >= sizeof path)
        return COP_FAIL(COP_ERR_USAGE, "the path of --out is too long");
    COP_TRY(cop_report_write(out, path));
    cop_progress_clear();
    if (!table->json)
        printf("\nresults: %s/results.jsonl\nreport:  %s\n", out, path);
    return COP_OK;
}

typedef struct bench_line {
    const char *out, *model, *random, *compute;
    cop_device_line on;
    cop_pool_line pool;
    uint32_t threads;
    bool json, resume, dry;
} bench_line;

/* What the line gives stands above what the config says. */
static cop_status override(const bench_line *given, cop_bench_config *config) {
    cop_job_options *job = cop_bench_config_job(config);
    job->interrupt = cop_interrupt_flag();
    if (given->threads)
        job->n_threads = given->threads;
    if (given->model || given->random) {
        job->model = given->model;
        job->random = given->random;
    }
    COP_TRY(cop_device_line_read(&given->on, &job->on));
    COP_TRY(cop_pool_line_read(&given->pool, job));
    if (given->compute)
        return cop_arith_parse(given->compute, &job->arith);
    if (!cop_bench_config_names(config, "compute"))
        job->arith = cop_job_arith_default(&job->on);
    return COP_OK;
}

int cop_command_bench(int argc, char **argv) {
    bench_line given = {0};
    const cop_option options[] = {
        {"out", COP_OPTION_TEXT, &given.out, "DIR", "result folder, made when it is not there"},
        {"model", COP_OPTION_TEXT, &given.model, "FILE", "this model instead of the config's"},
        {"random", COP_OPTION_TEXT, &given.random, "FILE", "random weights of this shape instead"},
        {"threads", COP_OPTION_U32, &given.threads, "N", "threads, instead of the config's",
         .min = 1, .max = 1024},
        {"compute", COP_OPTION_TEXT, &given.compute, NULL, "arithmetic, instead of the config's",
         .choices = "f32|bf16|native-f32|native-a8|native"},
        COP_DEVICE_LINE_OPTIONS(given.on),
        COP_KV_POLICY_OPTION(given.pool),
        {"resume", COP_OPTION_FLAG, &given.resume, NULL, "go on with a folder that holds results"},
        {"dry-run", COP_OPTION_FLAG, &given.dry, NULL, "print the cells and run nothing"},
        {"json", COP_OPTION_FLAG, &given.json, NULL, "print each result as a line of JSON"},
    };
    const cop_command_line line = {
        "bench",
        "CONFIG.json --out DIR [options]",
        "Runs a sweep: recorded trees under join rules, samples of a prompt, as the config says\n"
        "(configs/sweeps/ holds examples; runtime/job/bench_config.h its keys). Writes\n"
        "manifest.json, results.jsonl, a Chrome trace a cell and report.html.",
        options,
        sizeof options / sizeof options[0],
        "CONFIG.json",
        1,
        1};
    cop_operands operands;
    cop_bench_config *config = NULL;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    cop_table table = {.json = given.json};
    if (status == COP_OK && !given.out && !given.dry)
        status = COP_FAIL(COP_ERR_USAGE, "--out DIR is needed");
    if (status == COP_OK)
        status = cop_bench_config_load(operands.items[0], &config);
    if (status == COP_OK)
        status = override(&given, config);
    if (status == COP_OK)
        status = given.dry ? dry_run(config) : bench(config, given.out, given.resume, &table);
    cop_bench_config_destroy(config);
    cop_progress_clear();
    return status == COP_OK ? 0 : cop_command_fail("bench", status);
}
