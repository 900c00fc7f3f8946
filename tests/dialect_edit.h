/* Dialect files for tests: a whole one, and any with one edit. */
#pragma once

#include <stdio.h>
#include <unistd.h>

#include "check.h"
#include "reason/dialect.h"

static const char dialect_good[] =
    "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"stitch\","
    " \"positions\": \"equal_start_max\", \"nested\": true, \"max_depth\": 3,"
    " \"branch_prompt\": \"\\n<p>{n}:\", \"join_prompt\": \"\\n<j>\","
    " \"tags\": {\"block\": {\"open\": \"<b>\", \"close\": \"</b>\"},"
    " \"item\": {\"open\": \"<i>\", \"close\": \"</i>\"},"
    " \"path\": {\"open\": \"<p>\", \"close\": \"</p>\"},"
    " \"join\": {\"open\": \"<j>\", \"close\": \"</j>\"}}}";

/* Writes `whole` with its first `from` replaced by `to`, and loads it. */
static inline cop_status load_edited(const char *whole, const char *from, const char *to,
                                     cop_dialect_file **file) {
    char path[] = "/tmp/coppice-dialect-XXXXXX", text[8192];
    const char *at = strstr(whole, from);
    CHECK(at != NULL);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - whole), whole, to, at + strlen(from));
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    cop_status status = cop_dialect_load(path, file);
    if (status != COP_OK)
        CHECK_MESSAGE(path);
    unlink(path);
    return status;
}
