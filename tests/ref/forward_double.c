#include "ref/forward_double.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct pass {
    const cop_model *model;
    const cop_model_shape *s;
    uint32_t n;
    const int32_t *position; /* NULL: 0, 1, .. */
    const uint8_t *sees;     /* [n, n]; NULL: causal */
    const int32_t *at;       /* [n, n] positions, each row's own; or NULL */
    double *x, *h, *delta;   /* [n, hidden] */
    double *q, *k, *v, *att; /* [n, heads * head_dim] */
    double *gate, *up;       /* [n, ffn] */
} pass;

static double *take(size_t n) {
    double *values = calloc(n, sizeof *values);
    if (!values)
        abort();
    return values;
}

static float *widened(const pass *p, cop_weight weight, uint32_t layer) {
    const cop_tensor *t = cop_model_tensor(p->model, weight, layer);
    float *values = calloc(t->rows * t->cols, sizeof *values);
    if (!values)
        abort();
    cop_dtype_widen(t->type, t->data, t->rows * t->cols, values);
    return values;
}

/* y [rows, outputs] = x [rows, inputs] times the weight, plus a bias where one is named. */
static void multiply(const pass *p, cop_weight weight, cop_weight bias, uint32_t layer,
                     uint32_t rows, const double *x, double *y) {
    const cop_tensor *t = cop_model_tensor(p->model, weight, layer);
    const size_t outputs = t->rows, inputs = t->cols;
    float *w = widened(p, weight, layer);
    float *b = bias == COP_W_COUNT ? NULL : widened(p, bias, layer);
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < outputs; o++) {
            double sum = b ? b[o] : 0;
            for (size_t i = 0; i < inputs; i++)
                sum += x[r * inputs + i] * w[o * inputs + i];
            y[r * outputs + o] = sum;
        }
    free(w);
    free(b);
}

/* The root-mean-square norm of each of `rows` vectors of `width`, by one weight vector. */
static void normalise(const pass *p, cop_weight weight, uint32_t layer, size_t rows, size_t width,
                      const double *x, double *out) {
    float *w = widened(p, weight, layer);
    for (size_t r = 0; r < rows; r++) {
        double squares = 0;
        for (size_t i = 0; i < width; i++)
            squares += x[r * width + i] * x[r * width + i];
        const double length = sqrt(squares / (double)width + p->s->rms_eps);
        for (size_t i = 0; i < width; i++)
            out[r * width + i] = x[r * width + i] / length * w[i];
    }
    free(w);
}

static void rotate_head(const pass *p, double position, double *head) {
    const uint32_t d = p->s->head_dim;
    const bool neighbours = p->s->family == COP_FAMILY_LLAMA;
    for (uint32_t i = 0; i < d / 2; i++) {
        double *a = head + (neighbours ? 2 * i : i), *b = a + (neighbours ? 1 : d / 2);
        const double angle = position * pow(p->s->rope_theta, -2.0 * i / d);
        const double real = *a * cos(angle) - *b * sin(angle);
        *b = *a * sin(angle) + *b * cos(angle);
        *a = real;
    }
}

static void rotate(const pass *p, uint32_t heads, double *x) {
    for (uint32_t row = 0; row < p->n; row++)
        for (uint32_t h = 0; h < heads; h++)
            rotate_head(p, p->position ? p->position[row] : (double)row,
                        x + ((size_t)row * heads + h) * p->s->head_dim);
}

/* Attention of one row and one query head. */
static void attend(const pass *p, uint32_t row, uint32_t head) {
    const cop_model_shape *s = p->s;
    const size_t d = s->head_dim, kv = head / (s->n_heads / s->n_kv_heads);
    const double *q = p->q + ((size_t)row * s->n_heads + head) * d;
    double *out = p->att + ((size_t)row * s->n_heads + head) * d, total = 0;
    memset(out, 0, d * sizeof *out);
    double turned_q[256], turned_k[256];
    if (p->at) {
        memcpy(turned_q, q, d * sizeof *q);
        rotate_head(p, p->at[(size_t)row * p->n + row], turned_q);
        q = turned_q;
    }
    for (size_t j = 0; j < (p->at ? p->n : row + 1); j++) {
        if (p->at ? p->at[(size_t)row * p->n + j] < 0 : p->sees && !p->sees[(size_t)row * p->n + j])
            continue;
        const double *k = p->k + (j * s->n_kv_heads + kv) * d;
        if (p->at) {
            memcpy(turned_k, k, d * sizeof *k);
            rotate_head(p, p->at[(size_t)row * p->n + j], turned_k);
            k = turned_k;
        }
        const double *v = p->v + (j * s->n_kv_heads + kv) * d;
        double score = 0;
        for (size_t i = 0; i < d; i++)
            score += q[i] * k[i];
        score = exp(score / sqrt((double)d));
        total += score;
        for (size_t i = 0; i < d; i++)
            out[i] += score * v[i];
    }
    for (size_t i = 0; i < d; i++)
        out[i] /= total;
}

static void add(const pass *p) {
    for (size_t i = 0; i < (size_t)p->n * p->s->hidden; i++)
        p->x[i] += p->delta[i];
}

static void layer_forward(const pass *p, uint32_t l) {
    const cop_model_shape *s = p->s;
    const bool bias = s->family == COP_FAMILY_QWEN2;
    normalise(p, COP_W_NORM_ATTN, l, p->n, s->hidden, p->x, p->h);
    multiply(p, COP_W_Q, bias ? COP_W_Q_BIAS : COP_W_COUNT, l, p->n, p->h, p->q);
    multiply(p, COP_W_K, bias ? COP_W_K_BIAS : COP_W_COUNT, l, p->n, p->h, p->k);
    multiply(p, COP_W_V, bias ? COP_W_V_BIAS : COP_W_COUNT, l, p->n, p->h, p->v);
    if (s->family == COP_FAMILY_QWEN3) {
        normalise(p, COP_W_Q_NORM, l, (size_t)p->n * s->n_heads, s->head_dim, p->q, p->q);
        normalise(p, COP_W_K_NORM, l, (size_t)p->n * s->n_kv_heads, s->head_dim, p->k, p->k);
    }
    if (!p->at) {
        rotate(p, s->n_heads, p->q);
        rotate(p, s->n_kv_heads, p->k);
    }
    for (uint32_t row = 0; row < p->n; row++)
        for (uint32_t head = 0; head < s->n_heads; head++)
            attend(p, row, head);
    multiply(p, COP_W_O, COP_W_COUNT, l, p->n, p->att, p->delta);
    add(p);
    normalise(p, COP_W_NORM_FFN, l, p->n, s->hidden, p->x, p->h);
    multiply(p, COP_W_GATE, COP_W_COUNT, l, p->n, p->h, p->gate);
    multiply(p, COP_W_UP, COP_W_COUNT, l, p->n, p->h, p->up);
    for (size_t i = 0; i < (size_t)p->n * s->ffn; i++)
        p->gate[i] *= p->up[i] / (1 + exp(-p->gate[i]));
    multiply(p, COP_W_DOWN, COP_W_COUNT, l, p->n, p->gate, p->delta);
    add(p);
}

/* Logits of the last n_logits tokens. */
static void forward(const cop_model *model, const int32_t *ids, const int32_t *position,
                    const uint8_t *sees, const int32_t *at, uint32_t n, uint32_t n_logits,
                    double *logits) {
    const cop_model_shape *s = cop_model_shape_of(model);
    const size_t wide = (size_t)n * s->hidden, kv = (size_t)n * s->n_kv_heads * s->head_dim;
    const size_t q = (size_t)n * s->n_heads * s->head_dim, ffn = (size_t)n * s->ffn;
    pass p = {.model = model,
              .s = s,
              .n = n,
              .position = position,
              .sees = sees,
              .at = at,
              .x = take(wide),
              .h = take(wide),
              .delta = take(wide),
              .q = take(q),
              .k = take(kv),
              .v = take(kv),
              .att = take(q),
              .gate = take(ffn),
              .up = take(ffn)};
    float *embedding = widened(&p, COP_W_EMBED, 0);
    for (size_t i = 0; i < wide; i++)
        p.x[i] = embedding[(size_t)ids[i / s->hidden] * s->hidden + i % s->hidden];
    for (uint32_t l = 0; l < s->n_layers; l++)
        layer_forward(&p, l);
    normalise(&p, COP_W_NORM_FINAL, 0, n, s->hidden, p.x, p.h);
    multiply(&p, s->tied ? COP_W_EMBED : COP_W_OUTPUT, COP_W_COUNT, 0, n_logits,
             p.h + wide - (size_t)n_logits * s->hidden, logits);
    double *const owned[] = {p.x, p.h, p.delta, p.q, p.k, p.v, p.att, p.gate, p.up};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    free(embedding);
}

void forward_double_masked(const cop_model *model, const int32_t *ids, const int32_t *position,
                           const uint8_t *sees, uint32_t n, double *logits) {
    forward(model, ids, position, sees, NULL, n, n, logits);
}

void forward_double_views(const cop_model *model, const int32_t *ids, const int32_t *at, uint32_t n,
                          double *logits) {
    forward(model, ids, NULL, NULL, at, n, n, logits);
}

void forward_double(const cop_model *model, const int32_t *ids, uint32_t n, double *logits) {
    forward(model, ids, NULL, NULL, NULL, n, 1, logits);
}
