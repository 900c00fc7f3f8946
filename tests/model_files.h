/* Small GGUF models of each family, written and opened: what the tests of model files share. */
#pragma once

#include <unistd.h>

#include "check.h"
#include "ref/gguf_writer.h"

static const cop_model_shape small = {.n_layers = 2,
                                      .hidden = 64,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 16,
                                      .ffn = 96,
                                      .vocab = 288,
                                      .context = 512,
                                      .rope_theta = 20000,
                                      .rms_eps = 0x1p-17,
                                      .tied = true};

/* The small shape in another family; a head of Qwen3's is wider than hidden / n_heads. */
static inline cop_model_shape small_of(cop_model_family family) {
    cop_model_shape shape = small;
    cop_model_shape_set_family(&shape, family);
    shape.head_dim = family == COP_FAMILY_QWEN3 ? 32 : 16;
    return shape;
}

static inline void write_family(gguf_writer *w, cop_model_family family) {
    const cop_model_shape shape = small_of(family);
    gguf_writer_llama(w, &(gguf_writer_model){.shape = shape, .dtype = COP_Q4_1, .seed = 3});
}

static inline void write_small(gguf_writer *w) {
    write_family(w, COP_FAMILY_LLAMA);
}

static inline cop_status open_written(gguf_writer *w, char path[32], cop_model **model) {
    strcpy(path, "/tmp/test_model_XXXXXX");
    gguf_image image = gguf_writer_finish(w);
    close(mkstemp(path));
    gguf_image_save(&image, path);
    gguf_image_release(&image);
    cop_status status = cop_model_open(path, model);
    unlink(path);
    return status;
}

static inline void check_refused(gguf_writer *w, cop_status want, const char *message) {
    char path[32];
    cop_model *model;
    CHECK_STATUS(open_written(w, path, &model), want);
    CHECK_MESSAGE(message);
    CHECK_MESSAGE(path);
    CHECK(!model);
    gguf_writer_release(w);
}
