/* A folder of a test's own, and sweeps over problem sets written into it, with the small model that
 * ships with the repository. */
#pragma once

#include <ftw.h>
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "job/bench_config.h"
#include "measure/results_file.h"

#define ONE_METHOD "{\"name\": \"s\", \"dialect\": \"countdown-sequential\"}"
#define SHIPPED_SET "bench/countdown/problems-200.jsonl"

static char folder[64];

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void drop_folder(void) {
    if (folder[0])
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    folder[0] = '\0';
}

static void fresh_folder(void) {
    drop_folder();
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/coppice_problems_XXXXXX", base);
    CHECK(mkdtemp(folder));
}

static const char *path_of(const char *name) {
    static char path[COP_FILE_PATH_BYTES];
    CHECK_OK(cop__path_join(folder, name, path));
    return path;
}

static void write_file(const char *name, const char *text) {
    CHECK_OK(cop__file_replace(path_of(name), text, strlen(text)));
}

static cop_status load_text(const char *text, cop_bench_config **out) {
    write_file("sweep.json", text);
    return cop_bench_config_load(path_of("sweep.json"), out);
}

/* A config of one set, whose members (without a method's) and methods are given. */
static cop_status load_set(const char *set, const char *members, const char *methods,
                           cop_bench_config **out) {
    char root[2048];
    CHECK(getcwd(root, sizeof root));
    cop_buffer text = {0};
    CHECK_OK(cop_buffer_printf(
        &text,
        "{\"name\": \"t\", \"model\": \"%s/bench/countdown/countdown.gguf\", "
        "\"compute\": \"f32\", \"threads\": 1, \"problems\": [{\"name\": "
        "\"cd\", \"set\": \"%s%s%s\", %s, \"methods\": [%s]}]}",
        root, set ? "" : root, set ? "" : "/", set ? set : SHIPPED_SET, members, methods));
    cop_status status = load_text(text.data, out);
    cop_buffer_release(&text);
    return status;
}
