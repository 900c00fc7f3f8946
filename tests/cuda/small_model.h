/* Models that are small and have head sizes that the kernels take, from shape files made up here.
 */
#pragma once

#include <unistd.h>

#include "check.h"
#include "model/model.h"

typedef struct small_model {
    uint32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    bool tied;
    const char *dtype;
    const char *family; /* NULL: llama */
} small_model;

static inline cop_model *small_model_open(const small_model *m) {
    char path[] = "/tmp/coppice_shape_XXXXXX";
    const int file = mkstemp(path);
    CHECK(file >= 0);
    char text[512];
    const int n = snprintf(
        text, sizeof text,
        "{\"name\": \"small\", \"family\": \"%s\", \"n_layers\": %u, \"hidden\": %u, \"n_heads\": "
        "%u, \"n_kv_heads\": "
        "%u, "
        "\"head_dim\": %u, \"ffn\": %u, \"vocab\": %u, \"context\": 32768, \"rope_theta\": 10000, "
        "\"rms_eps\": 1e-5, \"tied\": %s, \"dtype\": \"%s\", \"seed\": 1}",
        m->family ? m->family : "llama", m->n_layers, m->hidden, m->n_heads, m->n_kv_heads,
        m->head_dim, m->ffn, m->vocab, m->tied ? "true" : "false", m->dtype);
    CHECK(n > 0 && n < (int)sizeof text && write(file, text, (size_t)n) == n);
    close(file);
    cop_model *model;
    CHECK_OK(cop_model_open_random(path, &model));
    unlink(path);
    return model;
}
