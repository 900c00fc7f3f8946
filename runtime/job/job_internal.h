/* What the jobs' own files share. Nothing else includes this. */
#pragma once

#include <stdio.h>

#include "job/job.h"

enum { COP_CHUNK_TOKENS_DEFAULT = 1024, COP_TIMELINE_EVENTS = 400000 };

struct cop_job {
    cop_job_options options;
    cop_model *model;
    cop_job_device device; /* backend is NULL until it is known */
    bool profiled;         /* an engine has been given the steps to profile */
};

/* The members that say what the work runs on, for manifests, lines and what identifies a cell; the
 * device must be known. */
int cop__job_describe_device(const cop_job *job, json_t *object);

/* The trees of a replay, and the hash that names them in cell keys. */
cop_status cop__replay_trees(const char *path, const cop_tree_grid *grid, cop_trajectories **out,
                             char sha256[COP_SHA256_HEX_BYTES]);

/* What identifies a cell; its hash is the cell's key. `work` (stolen) says what is run: the hash of
 * a trajectory file, a prompt and its limits. New object; the device must be known. */
json_t *cop__job_identity(const cop_job *job, const char *group, const char *problem,
                          const char *method, json_t *work);

typedef struct cop__job_cell {
    const cop_job *job;
    char key[COP_CELL_KEY_BYTES];
    const char *problem, *method;
    uint32_t repeat;
    cop_results *results;
    cop_job_listener *listener;
    void *context;
} cop__job_cell;

/* Writes a finished cell's line and, for the first repeat, its trace. `record` is borrowed; what it
 * ran on is added to it. */
cop_status cop__job_finish_cell(const cop__job_cell *cell, json_t *record,
                                const cop_metrics *metrics, const cop_timeline *timeline);
