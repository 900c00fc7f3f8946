/* Runs a sweep's cells into a result folder; a folder that holds some of them already is resumed.
 */
#include "base/memory.h"
#include "job/bench_config.h"

static cop_status run_all(const cop_bench_config *c, cop_job *job, cop_results *results,
                          const cop_bench_run *run) {
    for (uint32_t i = 0; i < c->n_replays; i++) {
        const cop_bench_replay *r = &c->replays[i];
        cop_replay_job replay = {.trajectories = r->trajectories,
                                 .grid = r->grid,
                                 .ids = r->ids,
                                 .n_ids = r->n_ids,
                                 .n_methods = r->n_methods,
                                 .repeats = c->repeats,
                                 .results = results,
                                 .listener = run->listener,
                                 .progress = run->progress,
                                 .context = run->context};
        for (uint32_t m = 0; m < r->n_methods; m++)
            replay.methods[m] = r->methods[m];
        COP_TRY(cop_job_replay(job, &replay));
    }
    for (uint32_t i = 0; i < c->n_samples; i++) {
        cop_samples_job samples = c->samples[i];
        samples.repeats = c->repeats;
        samples.results = results;
        samples.listener = run->listener;
        samples.progress = run->progress;
        samples.context = run->context;
        COP_TRY(cop_job_samples(job, &samples));
    }
    for (uint32_t i = 0; i < c->n_problems; i++) {
        cop_problems_job problems = c->problems[i];
        problems.repeats = c->repeats;
        problems.results = results;
        problems.listener = run->listener;
        problems.progress = run->progress;
        problems.context = run->context;
        COP_TRY(cop_job_problems(job, &problems));
    }
    return COP_OK;
}

cop_status cop_bench_run_config(cop_bench_config *c, const cop_bench_run *run) {
    cop_job *job = NULL;
    cop_results *results = NULL;
    json_t *manifest = NULL;
    COP_TRY(cop_job_create(&c->job, &job));
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < c->n_samples && status == COP_OK; i++)
        status = cop_job_samples_check(job, &c->samples[i]);
    for (uint32_t i = 0; i < c->n_problems && status == COP_OK; i++)
        status = cop_job_problems_check(job, &c->problems[i]);
    if (status == COP_OK)
        status = cop_job_manifest(job, c->name, &manifest);
    if (status == COP_OK) {
        json_object_set_new(manifest, "config", cop_bench_config_resolved(c));
        cop_results_options options = {
            .folder = run->folder, .manifest = manifest, .resume = run->resume};
        status = cop_results_open(&options, &results);
    }
    if (status == COP_OK && run->note)
        run->note(run->context, cop_results_note(results));
    if (status == COP_OK)
        status = run_all(c, job, results, run);
    cop_results_close(results);
    json_decref(manifest);
    cop_job_destroy(job);
    return status;
}
