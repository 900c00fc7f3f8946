/* A model of the Llama, Qwen2 or Qwen3 family: its shape, its weights as stored, its tokenizer when
 * it has one.
 *
 * Opened from a GGUF file (weights borrowed from the mapping, never copied here) or made up from a
 * shape file alone (random weights, counter-based, the same on every machine). Immutable once open;
 * any thread. Backends prepare weights in their own layout from the tensors given here.
 *
 * The families are one sequence of layers and differ between the product that makes Q, K and V and
 * attention, in this order: Qwen2 adds a bias to Q, K and V; Qwen3 takes the norm of each head of Q
 * and K, one weight vector for all heads; then the rotary embedding turns neighbours (2i, 2i + 1)
 * of a head in a "llama" GGUF (whose weights were permuted for that) and halves (i, i + d / 2) in
 * the others. Sources: llama.cpp src/models/{llama,qwen2,qwen3}.cpp and llama_model_rope_type;
 * Hugging Face transformers modeling_qwen2.py and modeling_qwen3.py; Su et al. 2021 (RoFormer),
 * section 3.2.2.
 *
 * A shape file is JSON: {"name", "family" ("llama" when missing | "qwen2" | "qwen3"), "n_layers",
 * "hidden", "n_heads", "n_kv_heads", "head_dim", "ffn", "vocab", "context", "rope_theta",
 * "rms_eps", "tied" (bool), "dtype" ("F32" | "F16" | "BF16" | "Q8_0" | "Q4_0" | "Q4_1"), "seed" (0
 * when missing)}; unknown and duplicate keys are errors. Committed ones lie in configs/models/. The
 * dtype is that of the layers' matrices; as in llama.cpp's files, norms and biases are F32, and the
 * embedding and the output are Q8_0 beside Q4 matrices, so that "Q4_1" gives the bytes of
 * SmolLM2-135M-Instruct.Q4_1.gguf.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

typedef enum cop_model_family {
    COP_FAMILY_LLAMA,
    COP_FAMILY_QWEN2,
    COP_FAMILY_QWEN3,
    COP_FAMILY_COUNT,
} cop_model_family;

typedef struct cop_model_shape {
    uint32_t n_layers;
    uint32_t hidden;
    uint32_t n_heads, n_kv_heads; /* query heads and KV heads; n_heads % n_kv_heads == 0 */
    uint32_t head_dim;            /* a multiple of 16; not always hidden / n_heads */
    uint32_t ffn;
    uint32_t vocab;
    uint32_t context; /* tokens */
    double rope_theta;
    double rms_eps;
    bool tied; /* the output product uses the embedding */
    cop_model_family family;
    bool rope_halves; /* rotary pairs are (i, i + head_dim / 2), else (2i, 2i + 1) */
    bool qkv_bias;    /* COP_W_Q_BIAS, COP_W_K_BIAS and COP_W_V_BIAS are there */
    bool head_norms;  /* COP_W_Q_NORM and COP_W_K_NORM are there */
} cop_model_shape;

/* Sets the family and the three facts that follow from it; the other fields stay as they are. */
void cop_model_shape_set_family(cop_model_shape *shape, cop_model_family family);
const char *cop_model_family_name(cop_model_family family); /* as in GGUF: "llama", "qwen2", .. */

/* Weights by role. Shapes are [rows = outputs, cols = inputs]. New roles go to the end: a role's
 * number keys its random weights. */
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
    COP_W_Q_BIAS,     /* [1, n_heads * head_dim]; this and what follows: NULL in some families */
    COP_W_K_BIAS,     /* [1, n_kv_heads * head_dim] */
    COP_W_V_BIAS,     /* [1, n_kv_heads * head_dim] */
    COP_W_Q_NORM,     /* [1, head_dim] */
    COP_W_K_NORM,     /* [1, head_dim] */
    COP_W_COUNT,
} cop_weight;

typedef struct cop_model cop_model;

enum { /* what both kinds of model may be; a file beyond it is refused */
       COP_MODEL_LAYERS_MAX = 1024,
       COP_MODEL_HIDDEN_MAX = 1 << 16,
       COP_MODEL_HEADS_MAX = 1024,
       COP_MODEL_HEAD_DIM_MAX = 256,
       COP_MODEL_FFN_MAX = 1 << 20,
       COP_MODEL_VOCAB_MAX = 1 << 22,
       COP_MODEL_CONTEXT_MAX = INT32_MAX,
};

/* Refuses with ERR_UNSUPPORTED what would be computed wrongly if it were ignored: another
 * architecture (mixtures of experts have their own), rope scaling, rotation of a part of a head,
 * unknown keys of the architecture (a sliding window), tensors without a role in the family. */
cop_status cop_model_open(const char *gguf_path, cop_model **out);
cop_status cop_model_open_random(const char *shape_json_path, cop_model **out);
void cop_model_close(cop_model *model);

const cop_model_shape *cop_model_shape_of(const cop_model *model);
/* NULL where the family has no such weight. */
const cop_tensor *cop_model_tensor(const cop_model *model, cop_weight weight, uint32_t layer);
const cop_tokenizer *cop_model_tokenizer(const cop_model *model); /* NULL for a random model */
cop_status cop_model_check(const cop_model *model); /* the mapped file is still whole */

const char *cop_model_name(const cop_model *model);
bool cop_model_is_random(const cop_model *model); /* every table and report says so */
/* Bytes as stored that every decode step reads once: all but an embedding that is not tied. */
uint64_t cop_model_weight_bytes(const cop_model *model);
/* Hex SHA-256 of the file, or of the shape and seed; computed on first use (slow for a file). */
cop_status cop_model_sha256(cop_model *model, char hex[65]);

/* NaN and infinite weights are legal in the format, and reported. Opening scans the norms and the
 * biases alone: one line about what it saw, or "". */
const char *cop_model_warning(const cop_model *model);
/* Reads every weight (slow): how many values are not finite, and the name of the first tensor that
 * has one ("" when none has). */
enum { COP_WEIGHT_NAME_BYTES = 64 };
cop_status cop_model_count_nonfinite(const cop_model *model, uint64_t *values,
                                     char first[COP_WEIGHT_NAME_BYTES]);
/* "blk.3.attn_q.weight", "blk.3.attn_q.bias" */
void cop_weight_name(cop_weight weight, uint32_t layer, char name[COP_WEIGHT_NAME_BYTES]);
