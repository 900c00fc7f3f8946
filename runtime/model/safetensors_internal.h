/* What the reader's own files share: safetensors.c (life, look-ups), safetensors_parse.c (the
 * header). */
#pragma once

#include "model/safetensors.h"

struct cop_safetensors {
    char *source;
    int descriptor; /* -1: memory of the caller's */
    const uint8_t *data;
    uint64_t bytes;
    uint64_t data_at; /* where the tensors' bytes begin */
    cop_safetensors_tensor *tensors;
    size_t n_tensors, capacity;
};

/* Fills the tensors, sorted by name. */
cop_status cop__safetensors_parse(cop_safetensors *file);
