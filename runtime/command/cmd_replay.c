#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "command/command.h"
#include "command/job_line.h"

enum { JOINS_BYTES = 128 };

static cop_status parse_joins(const char *joins, cop_replay_job *out) {
    static const char all[] = "flattened,reprefill,reprefill+reuse,stitch";
    char copy[JOINS_BYTES];
    if (strcmp(joins, "all") == 0)
        joins = all;
    if (strlen(joins) >= sizeof copy)
        return COP_FAIL(COP_ERR_USAGE, "--join is too long");
    strcpy(copy, joins);
    char *rest = NULL;
    for (char *name = strtok_r(copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        cop_method method;
        COP_TRY(cop_method_parse(name, &method));
        for (uint32_t i = 0; i < out->n_methods; i++) {
            if (out->methods[i] == method)
                return COP_FAIL(COP_ERR_USAGE, "--join names %s twice", name);
        }
        out->methods[out->n_methods++] = method;
    }
    return out->n_methods ? COP_OK : COP_FAIL(COP_ERR_USAGE, "--join names no join rule");
}

static cop_status replay(const cop_job_options *options, cop_replay_job *what, const char *folder,
                         bool resume) {
    cop_job *job;
    json_t *manifest = NULL;
    COP_TRY(cop_job_create(options, &job));
    char hash[COP_SHA256_HEX_BYTES];
    cop_status status = cop_sha256_of_file(what->trajectories, hash);
    if (status == COP_OK)
        status = cop_job_manifest(job, "replay", &manifest);
    if (status == COP_OK) {
        json_object_set_new(manifest, "trajectories_sha256", json_string(hash));
        json_object_set_new(manifest, "trajectories", json_string(what->trajectories));
        json_object_set_new(manifest, "repeats", json_integer(what->repeats));
        cop_results_options results = {.folder = folder, .manifest = manifest, .resume = resume};
        status = cop_results_open(&results, &what->results);
    }
    if (status == COP_OK) {
        cop_results_say_note(NULL, cop_results_note(what->results));
        status = cop_job_replay(job, what);
    }
    cop_results_close(what->results);
    json_decref(manifest);
    cop_job_destroy(job);
    return status;
}

int cop_command_replay(int argc, char **argv) {
    cop_job_line shared = COP_JOB_LINE_DEFAULT;
    const char *trajectories = NULL, *join = "all", *out = NULL, *id = NULL;
    uint32_t repeats = 1;
    bool json = false, resume = false;
    const cop_option options[] = {
        COP_JOB_LINE_OPTIONS(shared),
        {"trajectories", COP_OPTION_TEXT, &trajectories, "FILE",
         "recorded problems, JSONL (coppice import makes them)", .required = true},
        {"join", COP_OPTION_TEXT, &join, "RULE,..",
         "flattened, reprefill, reprefill+reuse, stitch, shared, or all but that (all)"},
        {"out", COP_OPTION_TEXT, &out, "DIR", "result folder, made when it is not there",
         .required = true},
        {"id", COP_OPTION_TEXT, &id, "ID", "only this trajectory"},
        {"repeats", COP_OPTION_U32, &repeats, "N", "times each, interleaved (1)", .min = 1,
         .max = 1000},
        {"resume", COP_OPTION_FLAG, &resume, NULL, "go on with a folder that holds results"},
        {"json", COP_OPTION_FLAG, &json, NULL, "print each result as a line of JSON"},
    };
    const cop_command_line line = {
        "replay", "(--model FILE | --random SHAPE.json) --trajectories T.jsonl --out DIR [options]",
        "Replays recorded reasoning trees under one or more join rules. Every rule is forced\n"
        "through the same tokens (a mismatch is an error), so what differs is the method:\n"
        "steps, where the time went, KV bytes. `flattened` is the iso-token control: one\n"
        "sequence that holds tags and outlines which a sequential model would not write.\n"
        "KV bytes are summed over all layers and steps.",
        options, sizeof options / sizeof options[0]};
    cop_operands operands;
    cop_job_options job;
    cop_table table = {.json = json};
    cop_replay_job what = {
        .listener = cop_table_row, .progress = cop_progress_line, .context = &table};
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK)
        status = parse_joins(join, &what);
    if (status == COP_OK)
        status = cop_job_line_read(&shared, &job);
    if (status == COP_OK) {
        table.json = json;
        what.trajectories = trajectories;
        what.ids = &id;
        what.n_ids = id != NULL;
        what.repeats = repeats;
        status = replay(&job, &what, out, resume);
    }
    cop_progress_clear();
    return status == COP_OK ? 0 : cop_command_fail("replay", status);
}
