/* A result folder of a test's own, and the page that is written from it. One folder at a time. */
#pragma once

#include "check.h"

#include <ftw.h>
#include <unistd.h>

#include "measure/report.h"
#include "measure/results_file.h"

static char folder[COP_FILE_PATH_BYTES];
static const char hostile[] = "</script><script>alert(1)</script>&\"'<b>";

static inline int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static inline void remove_folder(void) {
    if (folder[0])
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fresh_folder(void) {
    remove_folder();
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/coppice_report_XXXXXX", base);
    CHECK(mkdtemp(folder));
}

static inline cop_buffer write_report(void) {
    char path[COP_FILE_PATH_BYTES];
    cop_buffer html = {0};
    CHECK_OK(cop__path_join(folder, "report.html", path));
    CHECK_OK(cop_report_write(folder, path));
    CHECK_OK(cop__file_read(path, &html, NULL));
    return html;
}

static inline uint32_t count_of(const char *text, const char *part) {
    uint32_t count = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        count++;
    return count;
}

/* Every element that is opened is closed, in order: a page that a reader's browser does not have to
 * guess at. */
static inline void check_well_formed(const char *html) {
    static const char *const empty[] = {"meta", "br", "line", "rect", "path"};
    char stack[64][16];
    int depth = 0;
    for (const char *at = strchr(html, '<'); at; at = strchr(at + 1, '<')) {
        bool close = at[1] == '/';
        char name[16];
        size_t bytes = strspn(at + 1 + close, "abcdefghijklmnopqrstuvwxyz0123456789");
        if (at[1] == '!')
            continue;
        CHECK(bytes > 0 && bytes < sizeof name);
        memcpy(name, at + 1 + close, bytes);
        name[bytes] = '\0';
        const char *end = strchr(at, '>');
        CHECK(end);
        bool single = end[-1] == '/';
        for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++)
            single |= !close && strcmp(name, empty[i]) == 0 && strncmp(end + 1, "<title>", 7) != 0;
        if (close) {
            CHECK(depth > 0);
            CHECK_TEXT(name, stack[--depth]);
        } else if (!single) {
            CHECK(depth < 64);
            memcpy(stack[depth++], name, sizeof name);
        }
        at = end;
    }
    CHECK_EQ(depth, 0);
}
