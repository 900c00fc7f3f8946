/* Dialect files on any bytes. What loads is whole: its texts are there, and its parser and
 * expression stay sound on text made of its own tags. What does not load leaves a message that
 * names the file. Seeds: tests/fuzz/corpus/dialect, files as they ship.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "reason/dialect.h"
#include "reason/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(int condition) {
    if (!condition)
        abort();
}

/* Every tag once, in an order that the bytes choose. */
static size_t make_text(const cop_dialect *d, const uint8_t *data, size_t bytes, char *text,
                        size_t capacity) {
    size_t used = 0;
    for (size_t i = 0; i < bytes && i < 256; i++) {
        const cop_tag *tag = data[i] & 1 ? &d->close[data[i] / 2 % COP_EL_COUNT]
                                         : &d->open[data[i] / 2 % COP_EL_COUNT];
        if (used + tag->bytes + 2 > capacity)
            break;
        memcpy(text + used, tag->text, tag->bytes);
        used += tag->bytes;
        text[used++] = (char)data[i];
    }
    return used;
}

static void follow(const cop_dialect *d, const char *text, size_t bytes) {
    cop_parser parser;
    cop_parser_init(&parser, d, false);
    parser.report_stray = true;
    for (size_t at = 0; at < bytes;) {
        size_t used = 0;
        bool found;
        cop_tag_event event;
        require(cop_parser_feed(&parser, text + at, bytes - at, &used, &found, &event) == COP_OK);
        require(used > 0);
        at += used;
        if (found && event.element == COP_EL_PLAN && event.closing)
            cop_parser_plan(&parser, event.items);
        uint32_t blocks = 0;
        for (int i = 0; i < parser.n_open; i++)
            blocks += parser.open[i] == COP_EL_BLOCK;
        require(parser.n_open <= COP_PARSER_OPEN_MAX && blocks == parser.depth);
    }
    cop_parser child = cop_parser_fork(&parser, 0);
    require(child.depth >= parser.depth);
    cop_parser_join(&parser, 1);
    cop_span number;
    size_t at = 0, before = 0;
    while (d->items_pattern && cop_pattern_next(d->items_pattern, text, bytes, &at, &number)) {
        require(at > before && number.begin + number.bytes <= bytes);
        before = at;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char path[64], text[16384], header[2048];
    cop_dialect_file *file = NULL;
    int fd = memfd_create("dialect", 0);
    require(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cop_status status = cop_dialect_describe(path, &file);
    require((status == COP_OK) == (file != NULL));
    require(status == COP_OK || strstr(cop_status_message(), path) != NULL);
    close(fd);
    if (!file)
        return 0;
    const cop_dialect *d = cop_dialect_of(file);
    require(d->name && d->source && d->prompt && d->branch_prompt && d->join_prompt);
    if (cop_dialect_reason_count(file) == 0) {
        size_t n;
        uint32_t number = 1;
        follow(d, text, make_text(d, data, bytes, text, sizeof text));
        status = cop_dialect_branch_prompt(d, &number, 1, "item", 4, header, sizeof header, &n);
        require(status == COP_OK || status == COP_ERR_NO_ROOM);
    }
    cop_dialect_close(file);
    return 0;
}
