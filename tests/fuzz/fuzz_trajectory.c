/* Trajectories on any bytes. Bit 7 of the first byte clear: the rest is a transcript in the tags of
 * one of two dialects (bit 0); when it parses, its pieces give the text again. Bit 7 set: the rest
 * is a JSONL file. Either way what was accepted is written, read back and written again the same.
 * Seeds: tests/fuzz/corpus/trajectory, that byte and then a transcript or a file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "reason/trajectory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { TOKENS_MAX = 100000 };

#define TAG(text)                                                                                  \
    { text, sizeof(text) - 1 }

static const cop_dialect dialects[2] = {
    {.name = "short",
     .open = {TAG("<r>"), TAG("<b>"), TAG("<g>"), TAG("<i>"), TAG("<p>"), TAG("<j>")},
     .close = {TAG("</r>"), TAG("</b>"), TAG("</g>"), TAG("</i>"), TAG("</p>"), TAG("</j>")},
     .branch_prompt = "\n<p>{n}:",
     .join_prompt = "\n<j>\n",
     .nested = true},
    {.name = "plain",
     .open = {TAG(""), TAG("[["), TAG(""), TAG("[i"), TAG("[p"), TAG("")},
     .close = {TAG(""), TAG("]]"), TAG(""), TAG("i]"), TAG("p]"), TAG("")},
     .branch_prompt = "\n[p{n}",
     .join_prompt = "\n.",
     .nested = true},
};

static void require(int condition) {
    if (!condition)
        abort();
}

static void flatten(const cop_stream *stream, cop_buffer *out) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        if (!piece->block)
            require(cop_buffer_append(out, piece->text, piece->bytes) == COP_OK);
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++)
            flatten(&piece->block->paths[p], out);
    }
}

static cop_trajectories *read_memory(const void *data, size_t bytes) {
    char path[64];
    cop_trajectories *set = NULL;
    int fd = memfd_create("trajectories", 0);
    require(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cop_status status = cop_trajectories_read(path, &set);
    require((status == COP_OK) == (set != NULL));
    close(fd);
    return set;
}

static char *dump(const cop_trajectories *set) {
    cop_buffer out = {0};
    for (uint32_t i = 0; i < set->count; i++) {
        json_t *json =
            cop_trajectory_to_json(&set->list[i], (cop_trajectory_write_options){.ids = true});
        char *line = json ? json_dumps(json, JSON_COMPACT) : NULL;
        require(line != NULL && cop_buffer_printf(&out, "%s\n", line) == COP_OK);
        free(line);
        json_decref(json);
    }
    return out.data;
}

static void check_round_trip(const cop_trajectories *set) {
    char *first = dump(set);
    cop_trajectories *again = read_memory(first, strlen(first));
    require(again != NULL);
    char *second = dump(again);
    require(strcmp(first, second) == 0);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < again->count; i++)
        tokens += again->list[i].n_tokens;
    if (tokens <= TOKENS_MAX)
        cop_trajectories_tokenize(again, NULL, 1000, 1);
    cop_trajectories_destroy(again);
    cop_free(first);
    cop_free(second);
}

static void check_transcript(const cop_dialect *dialect, const char *text, size_t bytes) {
    cop_trajectories *set = NULL;
    require(cop_trajectories_create(&set) == COP_OK);
    if (cop_trajectory_parse(dialect, "id", "source", text, bytes, set) == COP_OK) {
        cop_buffer flat = {0};
        flatten(&set->list[0].prompt, &flat);
        flatten(&set->list[0].stream, &flat);
        require(flat.bytes == bytes && memcmp(flat.data, text, bytes) == 0);
        cop_buffer_release(&flat);
        check_round_trip(set);
    } else {
        require(set->count == 0);
    }
    cop_trajectories_destroy(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 1)
        return 0;
    if (data[0] & 0x80) {
        cop_trajectories *set = read_memory(data + 1, bytes - 1);
        if (set)
            check_round_trip(set);
        cop_trajectories_destroy(set);
    } else {
        check_transcript(&dialects[data[0] & 1], (const char *)data + 1, bytes - 1);
    }
    return 0;
}
