/* What lies behind a cop_model: one table of tensors by role, whatever they came from. */
#pragma once

#include "base/sha256.h"
#include "model/model.h"

enum {
    COP__W_GLOBALS = COP_W_NORM_ATTN,                 /* roles that stand once */
    COP__W_PER_LAYER = COP_W_COUNT - COP_W_NORM_ATTN, /* roles that each layer may have */
    COP__MODEL_NAME_BYTES = 128,
    COP__MODEL_WARNING_BYTES = 256,
};

struct cop_model {
    cop_model_shape shape;
    cop_tensor *tensors; /* [COP__W_GLOBALS + n_layers * COP__W_PER_LAYER], zeros without a role */
    cop_gguf *gguf;      /* NULL for random weights */
    cop_tokenizer *tokenizer;
    uint8_t *random_weights; /* owned; NULL for a file */
    char *identity;          /* of random weights: the text that is hashed */
    uint64_t weight_bytes;
    char name[COP__MODEL_NAME_BYTES];
    char warning[COP__MODEL_WARNING_BYTES];
    char sha256[COP_SHA256_HEX_BYTES]; /* "" until asked for */
};

/* Takes the gguf, on failure too; `name` stands in when the file gives none. */
cop_status cop__model_open_gguf(cop_gguf *gguf, const char *name, cop_model **out);

/* What a shape must satisfy beyond the range of each number. `source` and `status` are the
 * caller's, for the message. */
cop_status cop__shape_check(const cop_model_shape *shape, const char *source, cop_status status);

/* Allocates the zeroed table of tensors for model->shape. */
cop_status cop__model_create_table(cop_model *model, const char *source);
cop_tensor *cop__model_slot(const cop_model *model, cop_weight weight, uint32_t layer);
void cop__weight_shape(const cop_model_shape *shape, cop_weight weight, uint64_t *rows,
                       uint64_t *cols);
/* 1 or n_layers; 0 where the family has no such weight. */
uint32_t cop__weight_layers(const cop_model_shape *shape, cop_weight weight);
bool cop__weight_is_norm(cop_weight weight);
bool cop__weight_is_bias(cop_weight weight);
uint64_t cop__model_sum_bytes(const cop_model *model);
