#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include "kv/fold_reference.h"
#include "model/sampler.h"

static cop_status check_options(const cop_backend_options *o, const cop_model_shape *s) {
    if (o->max_rows == 0 || o->max_samples == 0 || o->max_positions == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "the cpu backend needs at least one row, one sample and one position: "
                        "max_rows %u, max_samples %u, max_positions %u",
                        o->max_rows, o->max_samples, o->max_positions);
    if (o->products == COP_PRODUCTS_FAST)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "products \"fast\": the cpu backend has the invariant ones alone; leave "
                        "it out");
    if (s->head_dim % 16 != 0 || s->head_dim == 0 || s->head_dim > 256)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "head_dim %u: the cpu backend takes multiples of 16 up to 256",
                        s->head_dim);
    if (s->n_kv_heads == 0 || s->n_heads % s->n_kv_heads != 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "%u query heads do not divide over %u KV heads",
                        s->n_heads, s->n_kv_heads);
    return COP_OK;
}

typedef struct matrix {
    cop_packed *packed;
    cop_weight weight;
    uint32_t layer;
} matrix;

enum { MATRICES_A_LAYER = 7 };

/* Matrix i of the model: seven a layer, then the output product. */
static matrix matrix_at(cop_backend *b, uint32_t i) {
    const uint32_t l = i / MATRICES_A_LAYER;
    if (l == b->shape.n_layers)
        return (matrix){&b->head, b->shape.tied ? COP_W_EMBED : COP_W_OUTPUT, 0};
    cop_cpu_layer *layer = &b->layers[l];
    const matrix all[MATRICES_A_LAYER] = {
        {&layer->qkv[0], COP_W_Q, l},        {&layer->qkv[1], COP_W_K, l},
        {&layer->qkv[2], COP_W_V, l},        {&layer->o, COP_W_O, l},
        {&layer->gate_up[0], COP_W_GATE, l}, {&layer->gate_up[1], COP_W_UP, l},
        {&layer->down, COP_W_DOWN, l},
    };
    return all[i % MATRICES_A_LAYER];
}

static cop_status check_matrix(const cop_backend *b, matrix m, const cop_tensor *t) {
    const cop_model_shape *s = &b->shape;
    const uint64_t q = (uint64_t)s->n_heads * s->head_dim;
    const uint64_t kv = (uint64_t)s->n_kv_heads * s->head_dim;
    uint64_t rows = s->vocab, cols = s->hidden;
    switch (m.weight) {
    case COP_W_Q:
        rows = q;
        break;
    case COP_W_K:
    case COP_W_V:
        rows = kv;
        break;
    case COP_W_O:
        rows = s->hidden, cols = q;
        break;
    case COP_W_GATE:
    case COP_W_UP:
        rows = s->ffn;
        break;
    case COP_W_DOWN:
        rows = s->hidden, cols = s->ffn;
        break;
    default:
        break;
    }
    if (!t || t->rows != rows || t->cols != cols)
        return COP_FAIL(
            COP_ERR_MISMATCH,
            "layer %u: weight %d is %llu x %llu, the model's shape asks for %llu x %llu", m.layer,
            (int)m.weight, t ? (unsigned long long)t->rows : 0ull,
            t ? (unsigned long long)t->cols : 0ull, (unsigned long long)rows,
            (unsigned long long)cols);
    return COP_OK;
}

/* Two passes over the matrices: their sizes, then their panels, all in one mapping. */
static cop_status pack_weights(cop_backend *b, const cop_model *model) {
    const uint32_t n = b->shape.n_layers * MATRICES_A_LAYER + 1;
    size_t scratch_floats = 0, panels_bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        const matrix m = matrix_at(b, i);
        const cop_tensor *tensor = cop_model_tensor(model, m.weight, m.layer);
        COP_TRY(check_matrix(b, m, tensor));
        COP_TRY(cop_packed_plan(tensor, b->options.arith, m.packed));
        panels_bytes += cop_packed_bytes(m.packed);
        const size_t need = cop_packed_scratch(m.packed);
        scratch_floats = need > scratch_floats ? need : scratch_floats;
    }
    const bool mapped = cop_mapping_create(panels_bytes, &b->panels);
    float *scratch = cop_calloc(b->options.n_threads * scratch_floats, sizeof *scratch);
    if (!mapped || !scratch) {
        cop_free(scratch);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu MB of repacked weights (%s)",
                        panels_bytes >> 20, cop_arith_name(b->options.arith));
    }
    uint8_t *at = b->panels.start;
    for (uint32_t i = 0; i < n; i++) {
        const matrix m = matrix_at(b, i);
        m.packed->data = at;
        at += cop_packed_bytes(m.packed);
        cop_packed_fill(m.packed, cop_model_tensor(model, m.weight, m.layer), b->options.n_threads,
                        scratch);
    }
    cop_free(scratch);
    return COP_OK;
}

/* Widens n values of a norm or a bias to *at, and moves *at behind them. */
static cop_status widen_vector(cop_backend *b, const cop_model *model, cop_weight weight,
                               uint32_t layer, uint32_t n, float **at) {
    const cop_tensor *tensor = cop_model_tensor(model, weight, layer);
    if (!tensor || tensor->rows != 1 || tensor->cols != n) {
        char name[COP_WEIGHT_NAME_BYTES];
        cop_weight_name(weight, layer, name);
        return COP_FAIL(COP_ERR_MISMATCH, "%s has %llu values, the model's shape asks for %u", name,
                        tensor ? (unsigned long long)(tensor->rows * tensor->cols) : 0ull, n);
    }
    cop_dtype_widen(tensor->type, tensor->data, n, *at);
    if (b->options.arith == COP_ARITH_BF16)
        b->ops->round(*at, n);
    *at += n;
    return COP_OK;
}

static cop_status load_heads(cop_backend *b, const cop_model *model, uint32_t l, float **at) {
    const cop_model_shape *s = &b->shape;
    const uint32_t d = s->head_dim, kv = s->n_kv_heads * d;
    cop_cpu_heads *heads = &b->layers[l].heads;
    *heads = (cop_cpu_heads){.n_heads = s->n_heads,
                             .n_kv_heads = s->n_kv_heads,
                             .head_dim = d,
                             .eps = (float)s->rms_eps,
                             .rope_halves = s->rope_halves,
                             .round = b->options.arith == COP_ARITH_BF16};
    if (s->qkv_bias) {
        heads->bias = *at;
        COP_TRY(widen_vector(b, model, COP_W_Q_BIAS, l, s->n_heads * d, at));
        COP_TRY(widen_vector(b, model, COP_W_K_BIAS, l, kv, at));
        COP_TRY(widen_vector(b, model, COP_W_V_BIAS, l, kv, at));
    }
    if (s->head_norms) {
        heads->q_norm = *at;
        COP_TRY(widen_vector(b, model, COP_W_Q_NORM, l, d, at));
        heads->k_norm = *at;
        COP_TRY(widen_vector(b, model, COP_W_K_NORM, l, d, at));
    }
    return COP_OK;
}

static cop_status load_vectors(cop_backend *b, const cop_model *model) {
    const cop_model_shape *s = &b->shape;
    const size_t hidden = s->hidden, d = s->head_dim;
    const size_t bias = s->qkv_bias ? (s->n_heads + 2 * (size_t)s->n_kv_heads) * d : 0;
    const size_t layer = 2 * hidden + bias + (s->head_norms ? 2 * d : 0);
    b->vectors = cop_calloc(s->n_layers * layer + hidden, sizeof *b->vectors);
    if (!b->vectors)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the weights of norms and biases");
    float *at = b->vectors;
    for (uint32_t l = 0; l < s->n_layers; l++) {
        b->layers[l].norm_attn = at;
        COP_TRY(widen_vector(b, model, COP_W_NORM_ATTN, l, s->hidden, &at));
        b->layers[l].norm_ffn = at;
        COP_TRY(widen_vector(b, model, COP_W_NORM_FFN, l, s->hidden, &at));
        COP_TRY(load_heads(b, model, l, &at));
    }
    b->norm_final = at;
    return widen_vector(b, model, COP_W_NORM_FINAL, 0, s->hidden, &at);
}

static cop_status take_buffers(cop_backend *b) {
    const cop_model_shape *s = &b->shape;
    const cop_backend_options *o = &b->options;
    b->width[COP_A_X] = b->width[COP_A_H] = b->width[COP_A_DELTA] = s->hidden;
    b->width[COP_A_QKV] = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    b->width[COP_A_ATT] = s->n_heads * s->head_dim;
    b->width[COP_A_GATE_UP] = 2 * s->ffn;
    b->width[COP_A_ACT] = s->ffn;
    bool ok = true;
    for (int a = 0; a < COP_A_COUNT; a++) {
        b->activation[a] = cop_calloc((size_t)o->max_rows * b->width[a], sizeof(float));
        ok = ok && b->activation[a];
    }
    b->head_input = cop_calloc((size_t)o->max_samples * s->hidden, sizeof(float));
    b->logits = cop_calloc((size_t)o->max_samples * s->vocab, sizeof(float));
    b->logits_row = cop_calloc(o->max_samples, sizeof *b->logits_row);
    b->row_logits = cop_calloc(o->max_rows, sizeof *b->row_logits);
    b->failed = cop_calloc(o->max_rows, sizeof *b->failed);
    b->scratch_bytes = (cop_sampler_scratch_bytes(s->vocab) + 63) / 64 * 64;
    b->scratch = cop_calloc(o->n_threads, b->scratch_bytes);
    if (!ok || !b->head_input || !b->logits || !b->logits_row || !b->row_logits || !b->failed ||
        !b->scratch)
        return COP_FAIL(COP_ERR_NO_MEMORY,
                        "no memory for the activations of %u rows and %u samples", o->max_rows,
                        o->max_samples);
    return COP_OK;
}

static cop_status create_parts(cop_backend *b) {
    const cop_model_shape *s = &b->shape;
    const cop_backend_options *o = &b->options;
    uint32_t widest = s->hidden > s->ffn ? s->hidden : s->ffn;
    if (b->width[COP_A_ATT] > widest)
        widest = b->width[COP_A_ATT];
    const uint32_t rows = o->max_rows > o->max_samples ? o->max_rows : o->max_samples;
    COP_TRY(cop_products_create(&(cop_products_options){.isa = b->isa,
                                                        .arith = o->arith,
                                                        .n_threads = o->n_threads,
                                                        .max_rows = rows,
                                                        .max_inputs = widest},
                                &b->products));
    COP_TRY(
        cop_rotary_create(o->max_positions, s->head_dim, s->rope_theta, o->n_threads, &b->rotary));
    return cop_cpu_attention_create(
        &(cop_cpu_attention_options){.n_layers = s->n_layers,
                                     .n_heads = s->n_heads,
                                     .n_kv_heads = s->n_kv_heads,
                                     .head_dim = s->head_dim,
                                     .n_pages = o->n_pages,
                                     .page_tokens = o->page_tokens,
                                     .max_rows = o->max_rows,
                                     .max_partials = o->max_partials,
                                     .bf16 = o->arith != COP_ARITH_F32,
                                     .round_output = o->arith == COP_ARITH_BF16,
                                     .n_threads = o->n_threads,
                                     .isa = b->isa},
        &b->attention);
}

/* The processor's name as the system gives it, for describe. */
static void processor_name(char *name, size_t capacity) {
    snprintf(name, capacity, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(name, capacity, "%.80s", colon + (colon[1] == ' ' ? 2 : 1));
        break;
    }
    fclose(file);
}

static void write_description(cop_backend *b) {
    char name[96];
    processor_name(name, sizeof name);
    const bool vnni = b->isa == COP_ISA_AVX512 && cop_isa_has_vnni();
    snprintf(b->describe, sizeof b->describe, "%s, %s%s, %u thread%s", name, cop_isa_name(b->isa),
             vnni ? " with vnni" : "", b->options.n_threads, b->options.n_threads == 1 ? "" : "s");
}

static cop_status build(cop_backend *b, const cop_model *model) {
    COP_TRY(check_options(&b->options, &b->shape));
    COP_TRY(cop_isa_choose(b->options.isa, &b->isa));
    if (b->options.n_threads == 0)
        b->options.n_threads = (uint32_t)omp_get_num_procs();
    b->options.isa = NULL; /* the caller's string need not outlive this call */
    b->ops = cop_cpu_ops_for(b->isa);
    b->layers = cop_calloc(b->shape.n_layers, sizeof *b->layers);
    if (!b->layers)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u layers", b->shape.n_layers);
    b->embed = cop_model_tensor(model, COP_W_EMBED, 0);
    if (!b->embed || b->embed->rows != b->shape.vocab || b->embed->cols != b->shape.hidden)
        return COP_FAIL(COP_ERR_MISMATCH, "the embedding is not %u x %u", b->shape.vocab,
                        b->shape.hidden);
    COP_TRY(pack_weights(b, model));
    COP_TRY(load_vectors(b, model));
    COP_TRY(take_buffers(b));
    COP_TRY(create_parts(b));
    write_description(b);
    return COP_OK;
}

cop_status cop__cpu_create(const cop_model *model, const cop_backend_options *options,
                           cop_backend **out) {
    cop_backend *b = cop_calloc(1, sizeof *b);
    if (!b)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the cpu backend");
    b->options = *options;
    b->shape = *cop_model_shape_of(model);
    const cop_status status = build(b, model);
    if (status != COP_OK) {
        cop__cpu_destroy(b);
        return status;
    }
    *out = b;
    return COP_OK;
}

void cop__cpu_destroy(cop_backend *b) {
    if (!b)
        return;
    cop_cpu_attention_destroy(b->attention);
    cop_products_destroy(b->products);
    cop_rotary_release(&b->rotary);
    cop_mapping_destroy(&b->panels);
    for (int a = 0; a < COP_A_COUNT; a++)
        cop_free(b->activation[a]);
    cop_free(b->layers);
    cop_free(b->vectors);
    cop_free(b->head_input);
    cop_free(b->logits);
    cop_free(b->logits_row);
    cop_free(b->row_logits);
    cop_free(b->failed);
    cop_free(b->scratch);
    cop_free(b);
}
