/* The direction of every include: lower parts never know upper ones (architecture, "the flow"). */
#include <dirent.h>
#include <sys/stat.h>

#include "check.h"

/* A folder may include from itself and from what stands in its row. */
static const struct {
    const char *folder, *may;
} rules[] = {
    {"kernels", "kernels"},
    {"runtime/base", "base"},
    {"runtime/config", "base config"},
    {"runtime/kv", "base kernels kv"},
    {"runtime/model", "base config kernels kv model backend"},
    {"runtime/backend", "base kernels kv model backend"},
    {"runtime/reason", "base config kernels kv model backend measure reason"},
    {"runtime/measure", "base config kernels measure"},
    {"runtime/job", "base config kernels kv model backend measure reason job"},
    {"runtime/command", "base config kernels kv model backend measure reason job command"},
};

/* Exceptions, each with its reason. */
static const struct {
    const char *file, *include;
} exceptions[] = {
    {"runtime/measure/metrics_json.c", "backend/backend.h"}, /* the names of its operations */
};

static int files_seen;

static int allowed(const char *may, const char *include) {
    size_t bytes = strcspn(include, "/");
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)bytes, include);
    char list[256];
    snprintf(list, sizeof list, " %s ", may);
    char spaced[80];
    snprintf(spaced, sizeof spaced, " %s ", word);
    return strstr(list, spaced) != NULL;
}

static void check_file(const char *path, const char *may) {
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    char line[512], include[256];
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "#include \"%255[^\"]\"", include) != 1 || !strchr(include, '/'))
            continue;
        int excepted = 0;
        for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++)
            excepted |= strcmp(exceptions[i].file, path) == 0 &&
                        strcmp(exceptions[i].include, include) == 0;
        if (!excepted && !allowed(may, include)) {
            fprintf(stderr, "%s must not include %s\n", path, include);
            exit(1);
        }
    }
    fclose(file);
    files_seen++;
}

static void check_folder(const char *folder, const char *may) {
    DIR *directory = opendir(folder);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        struct stat info;
        if (entry->d_name[0] == '.' || stat(path, &info) != 0)
            continue;
        const char *dot = strrchr(entry->d_name, '.');
        if (S_ISDIR(info.st_mode))
            check_folder(path, may);
        else if (dot && (!strcmp(dot, ".c") || !strcmp(dot, ".h")))
            check_file(path, may);
    }
    closedir(directory);
}

static void test_includes_point_down(void) {
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        check_folder(rules[i].folder, rules[i].may);
    CHECK(files_seen > 80);
}

static void test_the_rule_can_fail(void) {
    CHECK(allowed("base kernels kv", "kv/plan.h"));
    CHECK(!allowed("base kernels kv", "reason/engine.h"));
    CHECK(!allowed("base kernels kv", "k/plan.h"));
}

int main(void) {
    RUN(test_the_rule_can_fail);
    RUN(test_includes_point_down);
    return check_report();
}
