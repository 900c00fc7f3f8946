#include "model/model_internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/rng.h"
#include "config/json.h"

/* Random weights. Every block of 32 values is a pure function of (seed, role, layer, index), so
 * neither the number of threads nor the machine shows in them.
 *
 * Values are uniform with mean 0. A matrix has variance 1 / cols, which keeps the activations'
 * scale; what is added to the residual stream (O, DOWN) is divided by sqrt(2 n_layers). The output
 * is LOGIT_STD times larger, so that logits spread enough for the choice of a token to mean
 * something, and little enough that sampling does not always take the same. Norms lie around 1,
 * and a bias is half as large as what it is added to. */
enum { VALUES_PER_DRAW = 8, DRAWS_PER_BLOCK = COP_BLOCK_VALUES / VALUES_PER_DRAW };
static const double LOGIT_STD = 3, NORM_SPREAD = 0.125, BIAS_STD = 0.5;

typedef struct random_options {
    cop_model_shape shape;
    const char *name;
    cop_dtype dtype;
    uint64_t seed;
} random_options;

static cop_status read_options(const cop_json *root, random_options *options) {
    static const char *const names[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", NULL};
    static const cop_dtype types[] = {COP_F32, COP_F16, COP_BF16, COP_Q8_0, COP_Q4_0, COP_Q4_1};
    const char *families[COP_FAMILY_COUNT + 1] = {NULL};
    cop_model_shape *shape = &options->shape;
    const cop_json_presence required = COP_JSON_REQUIRED;
    uint32_t type = 0, family = COP_FAMILY_LLAMA;
    for (int f = 0; f < COP_FAMILY_COUNT; f++)
        families[f] = cop_model_family_name((cop_model_family)f);
    COP_TRY(COP_JSON_ONLY(root, "name", "family", "n_layers", "hidden", "n_heads", "n_kv_heads",
                          "head_dim", "ffn", "vocab", "context", "rope_theta", "rms_eps", "tied",
                          "dtype", "seed"));
    COP_TRY(cop_json_text(root, "name", required, &options->name));
    COP_TRY(cop_json_choice(root, "family", families, COP_JSON_OPTIONAL, &family));
    cop_model_shape_set_family(shape, (cop_model_family)family);
    COP_TRY(cop_json_u32(root, "n_layers", 1, COP_MODEL_LAYERS_MAX, required, &shape->n_layers));
    COP_TRY(cop_json_u32(root, "hidden", 1, COP_MODEL_HIDDEN_MAX, required, &shape->hidden));
    COP_TRY(cop_json_u32(root, "n_heads", 1, COP_MODEL_HEADS_MAX, required, &shape->n_heads));
    COP_TRY(cop_json_u32(root, "n_kv_heads", 1, COP_MODEL_HEADS_MAX, required, &shape->n_kv_heads));
    COP_TRY(cop_json_u32(root, "head_dim", 1, COP_MODEL_HEAD_DIM_MAX, required, &shape->head_dim));
    COP_TRY(cop_json_u32(root, "ffn", 1, COP_MODEL_FFN_MAX, required, &shape->ffn));
    COP_TRY(cop_json_u32(root, "vocab", 1, COP_MODEL_VOCAB_MAX, required, &shape->vocab));
    COP_TRY(cop_json_u32(root, "context", 1, COP_MODEL_CONTEXT_MAX, required, &shape->context));
    COP_TRY(cop_json_f64(root, "rope_theta", 1, 1e12, required, &shape->rope_theta));
    COP_TRY(cop_json_f64(root, "rms_eps", 1e-12, 0.1, required, &shape->rms_eps));
    COP_TRY(cop_json_bool(root, "tied", required, &shape->tied));
    COP_TRY(cop_json_choice(root, "dtype", names, required, &type));
    COP_TRY(cop_json_u64(root, "seed", 0, INT64_MAX, COP_JSON_OPTIONAL, &options->seed));
    options->dtype = types[type];
    return cop__shape_check(shape, root->source, COP_ERR_CONFIG);
}

static cop_dtype dtype_of(cop_weight weight, cop_dtype matrices) {
    if (cop__weight_is_norm(weight) || cop__weight_is_bias(weight))
        return COP_F32;
    bool four_bits = matrices == COP_Q4_0 || matrices == COP_Q4_1;
    return four_bits && (weight == COP_W_EMBED || weight == COP_W_OUTPUT) ? COP_Q8_0 : matrices;
}

/* Fills rows, cols, type, bytes of all tensors, and makes `data` offsets into one block. */
static cop_status lay_out(cop_model *model, const random_options *options, const char *path,
                          uint64_t *total) {
    *total = 0;
    for (int w = 0; w < COP_W_COUNT; w++) {
        if (w == COP_W_OUTPUT && model->shape.tied)
            continue;
        uint32_t layers = cop__weight_layers(&model->shape, (cop_weight)w);
        for (uint32_t layer = 0; layer < layers; layer++) {
            cop_tensor *tensor = cop__model_slot(model, (cop_weight)w, layer);
            tensor->type = dtype_of((cop_weight)w, options->dtype);
            cop__weight_shape(&model->shape, (cop_weight)w, &tensor->rows, &tensor->cols);
            uint32_t values = cop_dtype_block_values(tensor->type);
            if (tensor->cols % values != 0) {
                char name[COP_WEIGHT_NAME_BYTES];
                cop_weight_name((cop_weight)w, layer, name);
                return COP_FAIL(COP_ERR_CONFIG,
                                "%s: \"dtype\" is %s, which comes in blocks of %u, and %s has rows "
                                "of %" PRIu64 "; choose another size or BF16",
                                path, cop_dtype_name(tensor->type), values, name, tensor->cols);
            }
            tensor->bytes =
                tensor->rows * (tensor->cols / values) * cop_dtype_block_bytes(tensor->type);
            tensor->data = (const void *)(uintptr_t)*total;
            *total += (tensor->bytes + 63) / 64 * 64;
        }
    }
    return COP_OK;
}

static double amplitude_of(const cop_model_shape *shape, cop_weight weight, uint64_t cols) {
    double variance = 1.0 / (double)cols;
    if (cop__weight_is_norm(weight))
        return NORM_SPREAD;
    if (cop__weight_is_bias(weight))
        return sqrt(3) * BIAS_STD;
    if (weight == COP_W_O || weight == COP_W_DOWN)
        variance /= 2.0 * shape->n_layers;
    if (weight == COP_W_OUTPUT || (weight == COP_W_EMBED && shape->tied))
        variance *= LOGIT_STD * LOGIT_STD;
    return sqrt(3 * variance);
}

static void fill_tensor(const cop_tensor *tensor, uint8_t *data, cop_rng_key key, double amplitude,
                        float mean) {
    const uint64_t values = tensor->rows * tensor->cols;
    const int64_t blocks = (int64_t)((values + COP_BLOCK_VALUES - 1) / COP_BLOCK_VALUES);
    const uint64_t block_bytes = (uint64_t)cop_dtype_block_bytes(tensor->type) * COP_BLOCK_VALUES /
                                 cop_dtype_block_values(tensor->type);
    const float scale = (float)(amplitude / 65536);
#pragma omp parallel for schedule(static) if (blocks > 1024)
    for (int64_t block = 0; block < blocks; block++) {
        float x[COP_BLOCK_VALUES];
        cop_rng_key at = key;
        at.position = (uint64_t)block;
        for (uint32_t draw = 0; draw < DRAWS_PER_BLOCK; draw++) {
            uint32_t words[4];
            cop_rng_draw4(at, draw, words);
            for (int i = 0; i < VALUES_PER_DRAW; i++) {
                /* 16 bits as an odd number around 0: symmetric, and exact in f32. */
                int32_t bits = (int32_t)(words[i / 2] >> (16 * (i % 2)) & 0xffffu);
                x[draw * VALUES_PER_DRAW + i] = mean + (float)(2 * bits - 65535) * scale;
            }
        }
        uint64_t left = values - (uint64_t)block * COP_BLOCK_VALUES;
        cop_dtype_narrow(tensor->type, x, left < COP_BLOCK_VALUES ? left : COP_BLOCK_VALUES,
                         data + (uint64_t)block * block_bytes);
    }
}

static void fill(cop_model *model, uint64_t seed) {
    for (int w = 0; w < COP_W_COUNT; w++) {
        if (w == COP_W_OUTPUT && model->shape.tied)
            continue;
        uint32_t layers = cop__weight_layers(&model->shape, (cop_weight)w);
        for (uint32_t layer = 0; layer < layers; layer++) {
            cop_tensor *tensor = cop__model_slot(model, (cop_weight)w, layer);
            uint8_t *data = model->random_weights + (uintptr_t)tensor->data;
            cop_rng_key key = {seed, cop_rng_fold(cop_rng_fold(0, (uint64_t)w), layer), 0};
            fill_tensor(tensor, data, key, amplitude_of(&model->shape, (cop_weight)w, tensor->cols),
                        cop__weight_is_norm((cop_weight)w) ? 1.0f : 0.0f);
            tensor->data = data;
        }
    }
    if (model->shape.tied)
        *cop__model_slot(model, COP_W_OUTPUT, 0) = *cop__model_slot(model, COP_W_EMBED, 0);
}

/* The text behind cop_model_sha256: all that the weights and their use depend on. */
static cop_status describe(cop_model *model, const random_options *options) {
    const cop_model_shape *s = &model->shape;
    cop_buffer text = {0};
    COP_TRY(cop_buffer_printf(
        &text,
        "coppice random weights 1: n_layers %u hidden %u n_heads %u n_kv_heads %u head_dim %u ffn "
        "%u vocab %u context %u rope_theta %.17g rms_eps %.17g tied %d dtype %s seed %" PRIu64,
        s->n_layers, s->hidden, s->n_heads, s->n_kv_heads, s->head_dim, s->ffn, s->vocab,
        s->context, s->rope_theta, s->rms_eps, s->tied, cop_dtype_name(options->dtype),
        options->seed));
    /* A Llama's text names no family, so that results made before there were others keep its hash.
     */
    cop_status status = COP_OK;
    if (s->family != COP_FAMILY_LLAMA)
        status = cop_buffer_printf(&text, " family %s", cop_model_family_name(s->family));
    model->identity = text.data;
    return status;
}

static cop_status generate(cop_model *model, const random_options *options, const char *path) {
    model->shape = options->shape;
    size_t bytes = strlen(options->name);
    bytes = bytes < sizeof model->name ? bytes : sizeof model->name - 1;
    memcpy(model->name, options->name, bytes);
    COP_TRY(describe(model, options));
    COP_TRY(cop__model_create_table(model, path));
    uint64_t total = 0;
    COP_TRY(lay_out(model, options, path, &total));
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (total <= machine)
        model->random_weights = cop_calloc(total, 1);
    if (!model->random_weights)
        return COP_FAIL(COP_ERR_NO_MEMORY,
                        "%s: random weights of %.1f GB do not fit into this machine's %.1f GB; "
                        "choose a smaller shape or dtype",
                        path, (double)total * 1e-9, (double)machine * 1e-9);
    fill(model, options->seed);
    model->weight_bytes = cop__model_sum_bytes(model);
    return COP_OK;
}

cop_status cop_model_open_random(const char *shape_json_path, cop_model **out) {
    cop_json root;
    random_options options = {0};
    *out = NULL;
    COP_TRY(cop_json_load(shape_json_path, &root));
    cop_model *model = NULL;
    cop_status status = read_options(&root, &options);
    if (status == COP_OK && !(model = cop_calloc(1, sizeof *model)))
        status = COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for a model", shape_json_path);
    if (status == COP_OK)
        status = generate(model, &options, shape_json_path);
    cop_json_release(&root);
    if (status == COP_OK)
        *out = model;
    else
        cop_model_close(model);
    return status;
}
