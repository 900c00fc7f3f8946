/* kernel_check: every kernel through its launch wrapper, against double precision.
 *
 *   kernel_check [--shapes FILE.json].. [--shrink N] [--kv-heads N] [--heads N] [--no-step]
 *
 * Prints one line a case and exits with 1 if one failed, with 2 on bad input. Lengths of the shapes
 * are divided by N (default 1), and so is the chunk rule, down to 64 tokens. Heads are symmetric,
 * so cases keep at most --kv-heads KV heads (default 2); of each shape's head configurations the
 * first
 * --heads are run (default all). It uses the CUDA runtime's plain memory calls and nothing else of
 * CUDA.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_device.h"

enum { FILES_MAX = 16 };

typedef struct settings {
    const char *files[FILES_MAX];
    uint32_t n_files, shrink, kv_heads, heads;
    bool step;
} settings;

static const char usage[] =
    "kernel_check [--shapes FILE.json].. [--shrink N] [--kv-heads N] [--heads N] [--no-step]\n"
    "Runs every kernel against double precision; one line a case.\n";

static bool number(const char *text, uint32_t *out) {
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    *out = (uint32_t)n;
    return text[0] >= '1' && text[0] <= '9' && !*end && n <= 1 << 20;
}

static int parse(int argc, char **argv, settings *s) {
    *s = (settings){.shrink = 1, .kv_heads = 2, .heads = COP_SHAPE_HEAD_PAIRS_MAX, .step = true};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--help"))
            return 1;
        if (!strcmp(argv[i], "--no-step")) {
            s->step = false;
            continue;
        }
        if (!strcmp(argv[i], "--shapes") && *value && s->n_files < FILES_MAX)
            s->files[s->n_files++] = value;
        else if (!(!strcmp(argv[i], "--shrink") && number(value, &s->shrink)) &&
                 !(!strcmp(argv[i], "--kv-heads") && number(value, &s->kv_heads)) &&
                 !(!strcmp(argv[i], "--heads") && number(value, &s->heads))) {
            fprintf(stderr, "kernel_check: %s %s is not understood\n", argv[i], value);
            return 2;
        }
        i++;
    }
    return 0;
}

static cop_status check_file(const settings *s, const char *path) {
    cop_shape_file *file;
    COP_TRY(cop_shape_file_load(path, &file));
    uint32_t chunk_tokens = 1024 / s->shrink / 64 * 64;
    chunk_tokens = chunk_tokens < 64 ? 64 : chunk_tokens;
    cop_status status = COP_OK;
    uint32_t n = 0;
    for (uint32_t i = 0; status == COP_OK && i < cop_shape_file_count(file); i++) {
        cop_tree_shape shape;
        status = cop_tree_shape_shrink(file, cop_shape_file_shape(file, i), s->shrink, &shape);
        for (uint32_t h = 0; status == COP_OK && h < shape.n_heads && h < s->heads; h++)
            check_attention(&shape, h, 16u << n++ % 3, chunk_tokens, s->kv_heads);
    }
    cop_shape_file_destroy(file);
    return status;
}

int main(int argc, char **argv) {
    settings s;
    const int parsed = parse(argc, argv, &s);
    if (parsed) {
        fputs(usage, parsed == 1 ? stdout : stderr);
        return parsed == 1 ? 0 : 2;
    }
    for (uint32_t i = 0; i < s.n_files; i++) {
        const cop_status status = check_file(&s, s.files[i]);
        if (status != COP_OK) {
            fprintf(stderr, "kernel_check: %s\n", cop_status_message());
            return cop_status_exit_code(status);
        }
    }
    if (s.step)
        check_step_kernels();
    printf("%d cases, %d failed\n", cases_run, cases_failed);
    return cases_failed || cases_run == 0 ? 1 : 0;
}
