/* What the three files of the grading job share. Nothing else includes this.
 *
 * job_grade.c walks the inputs and grades, job_grade_read.c makes methods of lines,
 * job_grade_record.c adds up. Texts live in the run's arena.
 */
#pragma once

#include "base/memory.h"
#include "job/job_grade.h"
#include "reason/dialect.h"
#include "reason/problem_set.h"

typedef enum cop__known { COP_UNKNOWN = -1, COP_NO, COP_YES } cop__known;

typedef struct cop__prediction {
    uint32_t problem; /* of its method's problems */
    uint32_t sample;
    uint64_t line;
    cop_answer_text claimed; /* text NULL: nothing */
    cop_grade grade;
    cop__known well_formed, parallel;
    double tokens, latency_ms, device_s; /* NaN: not said */
} cop__prediction;

typedef struct cop__graded_method {
    const char *name, *file;
    const cop_problem_entry *problems;
    uint32_t n_problems;
    const cop_problem_entry **by_id; /* [n_problems] sorted */
    cop__prediction *list;           /* by problem, then by sample, once read */
    uint32_t count;
    size_t capacity;
    uint32_t missing; /* problems without a prediction */
} cop__graded_method;

typedef struct cop__grade_run {
    const cop_grade_job *job;
    cop_arena *arena;
    cop_grader *grader;
    cop_problem_set *set; /* or NULL */
    cop_dialect_file *dialect;
    cop__graded_method *methods;
    size_t n_methods, capacity;
} cop__grade_run;

/* Adds the methods of one input. */
cop_status cop__grade_read(cop__grade_run *run, const char *path);
/* One line of output for one prediction, or for one method among all; new objects, NULL without
 * memory. */
json_t *cop__grade_answer_line(const cop__graded_method *method, const cop__prediction *prediction);
cop_status cop__grade_summaries(cop__grade_run *run);
