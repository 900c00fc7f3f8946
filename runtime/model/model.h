/* A Llama-family model: its shape, its weights as stored, its tokenizer when it has one.
 *
 * Opened from a GGUF file (weights borrowed from the mapping, never copied here) or made up from a
 * shape file alone (random weights, counter-based, the same on every machine). Immutable once open;
 * any thread. Backends prepare weights in their own layout from the tensors given here.
 *
 * A shape file is JSON: {"name", "n_layers", "hidden", "n_heads", "n_kv_heads", "head_dim", "ffn",
 * "vocab", "context", "rope_theta", "rms_eps", "tied" (bool), "dtype" ("F32" | "BF16" | "Q8_0" |
 * ..), "seed"}; unknown and duplicate keys are errors. Committed ones lie in configs/models/.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

typedef struct cop_model_shape {
    uint32_t n_layers;
    uint32_t hidden;
    uint32_t n_heads, n_kv_heads; /* query heads and KV heads; n_heads % n_kv_heads == 0 */
    uint32_t head_dim;            /* a multiple of 16 */
    uint32_t ffn;
    uint32_t vocab;
    uint32_t context; /* tokens */
    double rope_theta;
    double rms_eps;
    bool tied; /* the output product uses the embedding */
} cop_model_shape;

/* Weights by role. Shapes are [rows = outputs, cols = inputs]. Rotary pairs are neighbours
 * (2i, 2i+1), the layout of llama.cpp's "llama" files; Su et al. 2021 (RoFormer), section 3.2.2. */
typedef enum cop_weight {
    COP_W_EMBED,      /* [vocab, hidden] */
    COP_W_NORM_FINAL, /* [1, hidden] */
    COP_W_OUTPUT,     /* [vocab, hidden]; the embedding when tied */
    COP_W_NORM_ATTN,  /* per layer, [1, hidden] */
    COP_W_Q,          /* [n_heads * head_dim, hidden] */
    COP_W_K,          /* [n_kv_heads * head_dim, hidden] */
    COP_W_V,          /* [n_kv_heads * head_dim, hidden] */
    COP_W_O,          /* [hidden, n_heads * head_dim] */
    COP_W_NORM_FFN,   /* [1, hidden] */
    COP_W_GATE,       /* [ffn, hidden] */
    COP_W_UP,         /* [ffn, hidden] */
    COP_W_DOWN,       /* [hidden, ffn] */
    COP_W_COUNT,
} cop_weight;

typedef struct cop_model cop_model;

cop_status cop_model_open(const char *gguf_path, cop_model **out);
cop_status cop_model_open_random(const char *shape_json_path, cop_model **out);
void cop_model_close(cop_model *model);

const cop_model_shape *cop_model_shape_of(const cop_model *model);
const cop_tensor *cop_model_tensor(const cop_model *model, cop_weight weight, uint32_t layer);
const cop_tokenizer *cop_model_tokenizer(const cop_model *model); /* NULL for a random model */
cop_status cop_model_check(const cop_model *model); /* the mapped file is still whole */

const char *cop_model_name(const cop_model *model);
bool cop_model_is_random(const cop_model *model);        /* every table and report says so */
uint64_t cop_model_weight_bytes(const cop_model *model); /* as stored, read once a decode step */
/* Hex SHA-256 of the file, or of the shape and seed; computed on first use (slow for a file). */
cop_status cop_model_sha256(cop_model *model, char hex[65]);
