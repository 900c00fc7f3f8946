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

int cop_command_bench(int argc, char **argv) {
    const char *out = NULL, *model = NULL, *random = NULL;
    uint32_t threads = 0;
    bool json = false, resume = false, dry = false;
    const cop_option options[] = {
        {"out", COP_OPTION_TEXT, &out, "DIR", "result folder, made when it is not there"},
        {"model", COP_OPTION_TEXT, &model, "FILE", "this model instead of the config's"},
        {"random", COP_OPTION_TEXT, &random, "FILE", "random weights of this shape instead"},
        {"threads", COP_OPTION_U32, &threads, "N", "threads, instead of the config's", .min = 1,
         .max = 1024},
        {"resume", COP_OPTION_FLAG, &resume, NULL, "go on with a folder that holds results"},
        {"dry-run", COP_OPTION_FLAG, &dry, NULL, "print the cells and run nothing"},
        {"json", COP_OPTION_FLAG, &json, NULL, "print each result as a line of JSON"},
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
    cop_table table = {.json = json};
    if (status == COP_OK && !out && !dry)
        status = COP_FAIL(COP_ERR_USAGE, "--out DIR is needed");
    if (status == COP_OK)
        status = cop_bench_config_load(operands.items[0], &config);
    if (status == COP_OK) {
        cop_job_options *job = cop_bench_config_job(config);
        job->interrupt = cop_interrupt_flag();
        if (threads)
            job->n_threads = threads;
        if (model || random) {
            job->model = model;
            job->random = random;
        }
        status = dry ? dry_run(config) : bench(config, out, resume, &table);
    }
    cop_bench_config_destroy(config);
    cop_progress_clear();
    return status == COP_OK ? 0 : cop_command_fail("bench", status);
}
