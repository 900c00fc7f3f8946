#include <stdlib.h>
#include <string.h>

#include "job/job_grade_internal.h"

static cop_status check_job(const cop_grade_job *job) {
    if (job->n_inputs == 0)
        return COP_FAIL(COP_ERR_USAGE, "nothing to grade: name predictions or a result folder");
    if (job->n_k > COP_GRADE_K_MAX)
        return COP_FAIL(COP_ERR_USAGE, "at most %d values of k", COP_GRADE_K_MAX);
    for (uint32_t i = 0; i < job->n_k; i++)
        if (job->k[i] == 0)
            return COP_FAIL(COP_ERR_USAGE, "k is 0: pass@k and maj@k begin with 1");
    return COP_OK;
}

static cop_status grade_method(cop__grade_run *run, cop__graded_method *method) {
    for (uint32_t i = 0; i < method->count; i++) {
        cop__prediction *one = &method->list[i];
        const cop_problem_entry *problem = &method->problems[one->problem];
        cop_status status = cop_grader_grade(run->grader, problem->prompt, problem->answer,
                                             one->claimed, &one->grade);
        if (status != COP_OK)
            return cop_status_prefix(status, "%s:%llu", method->file,
                                     (unsigned long long)one->line);
        if (!run->job->answer)
            continue;
        json_t *line = cop__grade_answer_line(method, one);
        if (!line)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a graded answer");
        run->job->answer(run->job->context, line);
        json_decref(line);
    }
    return COP_OK;
}

static cop_status run_job(cop__grade_run *run) {
    const cop_grade_job *job = run->job;
    COP_TRY(check_job(job));
    COP_TRY(cop_arena_create(&run->arena));
    COP_TRY(cop_grader_create(&job->grader, &run->grader));
    if (job->dialect)
        COP_TRY(cop_dialect_open(job->dialect, &run->dialect));
    if (job->set)
        COP_TRY(cop_problem_set_read(job->set, cop_grader_checker(run->grader), 0, &run->set));
    /* All that can be wrong with a file is found before the first answer is graded. */
    for (uint32_t i = 0; i < job->n_inputs; i++)
        COP_TRY(cop__grade_read(run, job->inputs[i]));
    for (size_t i = 0; i < run->n_methods; i++)
        COP_TRY(grade_method(run, &run->methods[i]));
    return cop__grade_summaries(run);
}

cop_status cop_job_grade(const cop_grade_job *job) {
    cop__grade_run run = {.job = job};
    cop_status status = run_job(&run);
    for (size_t i = 0; i < run.n_methods; i++)
        cop_free(run.methods[i].list);
    cop_free(run.methods);
    cop_problem_set_destroy(run.set);
    cop_dialect_close(run.dialect);
    cop_grader_destroy(run.grader);
    cop_arena_destroy(run.arena);
    return status;
}
