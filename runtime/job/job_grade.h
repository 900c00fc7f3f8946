/* Grading: predictions against a data set, and what they are worth (measure/answer_stats.h).
 *
 * An input is a JSONL file of predictions, one a line,
 *   {"id", "sample"?, "answer" | "text", "tokens"?, "latency_ms"?, "device_s"?, "well_formed"?,
 *    "forks"?}
 * or a result folder, each of whose cells of group "problems" is graded again from its answers. A
 * prediction's "answer" is what is claimed (null: nothing); a "text" is a whole solution, in which
 * the checker finds its claim. Every other key is let through. One input file, or one cell, is one
 * method. Bad input is ERR_FORMAT, "FILE:LINE: what, what to do": an id that the set does not hold,
 * a sample that stands twice, a problem without a prediction (unless `partial`).
 */
#pragma once

#include <jansson.h>

#include "measure/answer_stats.h"
#include "reason/grader.h"

enum { COP_GRADE_K_MAX = 16 };

/* Where a claim is looked for in a line that has both. */
typedef enum cop_grade_from { COP_GRADE_FROM_ANSWER, COP_GRADE_FROM_TEXT } cop_grade_from;

typedef void cop_grade_listener(void *context, const json_t *line);

typedef struct cop_grade_job {
    const char *const *inputs;
    uint32_t n_inputs;
    const char *set; /* JSONL of problem_set.h; NULL: of folders, what their answers hold */
    cop_grader_options grader;
    const char *dialect;      /* texts: whether their blocks are well formed; NULL: as lines say */
    const char *answer_after; /* texts: only what follows its last occurrence; NULL: all */
    cop_grade_from from;
    uint32_t k[COP_GRADE_K_MAX], n_k; /* n_k 0: 1, and the fewest samples of a problem */
    cop_tie tie;
    cop_few few;
    uint32_t replicates; /* of the bootstrap */
    uint64_t seed;
    bool partial;                /* problems without a prediction are left out, and counted */
    cop_grade_listener *answer;  /* each graded prediction; may be NULL */
    cop_grade_listener *summary; /* each method, once all are graded */
    void *context;
} cop_grade_job;

cop_status cop_job_grade(const cop_grade_job *job);
