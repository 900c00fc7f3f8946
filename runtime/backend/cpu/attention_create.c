/* Attention's pool and its threads' scratch. */
#include <math.h>

#include "backend/cpu/attention_internal.h"
#include "base/memory.h"

#define LOG2_E 0x1.71547652b82fep+0
static cop_status check_options(const cop_cpu_attention_options *o) {
    if (o->head_dim == 0 || o->head_dim % 16 || o->head_dim > COP__HEAD_DIM_MAX)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "head_dim %u: attention needs a multiple of 16 up to %d", o->head_dim,
                        COP__HEAD_DIM_MAX);
    if (o->n_kv_heads == 0 || o->n_heads == 0 || o->n_heads % o->n_kv_heads)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "%u heads cannot share %u KV heads evenly", o->n_heads,
                        o->n_kv_heads);
    if (o->page_tokens != 16 && o->page_tokens != 32 && o->page_tokens != 64)
        return COP_FAIL(COP_ERR_CONFIG, "page_tokens %u: must be 16, 32 or 64", o->page_tokens);
    if (o->n_layers == 0 || o->n_pages == 0 || o->n_threads == 0)
        return COP_FAIL(COP_ERR_CONFIG, "attention needs layers, pages and threads: %u, %u, %u",
                        o->n_layers, o->n_pages, o->n_threads);
    if (!cop_isa_available(o->isa))
        return COP_FAIL(COP_ERR_UNSUPPORTED, "this machine cannot run %s: choose another isa",
                        cop_isa_name(o->isa));
    return COP_OK;
}

static const cop__attention_kernels *choose_kernels(cop_isa isa) {
#if defined(__x86_64__)
    if (isa == COP_ISA_AVX512)
        return &cop__attention_avx512;
    if (isa == COP_ISA_AVX2)
        return &cop__attention_avx2;
#endif
    (void)isa;
    return &cop__attention_portable;
}

static cop_status map_memory(size_t count, size_t size, const char *what, cop_mapping *out) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s of %zu x %zu bytes cannot be held", what, count,
                        size);
    if (!cop_mapping_create(bytes, out))
        return COP_FAIL(COP_ERR_NO_MEMORY, "no %zu bytes for %s: use fewer pages or rows", bytes,
                        what);
    return COP_OK;
}

static cop__attention_worker *create_worker(const cop_cpu_attention *a) {
    const size_t rows = (size_t)COP_TILE_SLOTS_MAX * a->group;
    cop__attention_worker *w = cop_calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->rows = cop_calloc(rows, sizeof *w->rows);
    w->visible = cop_calloc(rows, sizeof(cop__row *));
    w->o = cop_calloc(rows * a->options.head_dim, sizeof *w->o);
    w->turned = cop_calloc(rows * a->options.head_dim, sizeof *w->turned);
    return w;
}

static void destroy_worker(cop__attention_worker *w) {
    if (!w)
        return;
    cop_free(w->rows);
    cop_free(w->visible);
    cop_free(w->o);
    cop_free(w->turned);
    cop_free(w);
}

cop_status cop_cpu_attention_create(const cop_cpu_attention_options *options,
                                    cop_cpu_attention **out) {
    *out = NULL;
    COP_TRY(check_options(options));
    cop_cpu_attention *a = cop_calloc(1, sizeof *a);
    if (!a)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for attention");
    const uint32_t d = options->head_dim;
    a->options = *options;
    a->kernels = choose_kernels(options->isa);
    a->fold = (cop__fold_options){.d = d, .round_p = options->bf16};
    a->fold.c = (float)(LOG2_E / sqrt(d));
    a->group = options->n_heads / options->n_kv_heads;
    a->element_bytes = options->bf16 ? 2 : 4;
    a->tile_elements = (size_t)options->page_tokens * d;
    a->layer_elements = 2 * a->tile_elements * options->n_kv_heads * options->n_pages;
    const size_t partials = (size_t)options->max_partials * options->n_heads;
    cop_status status = map_memory((size_t)options->n_layers * a->layer_elements, a->element_bytes,
                                   "the KV pool", &a->pool);
    if (status == COP_OK)
        status = map_memory(partials, d * sizeof(float), "attention partials", &a->partial_o);
    if (status != COP_OK)
        goto failed;
    a->workers = cop_calloc(options->n_threads, sizeof *a->workers);
    a->partials = cop_calloc(partials, sizeof *a->partials);
    a->loaded = cop_calloc((size_t)options->n_pages * options->n_kv_heads, sizeof(uint64_t));
    bool complete = a->workers && a->partials && a->loaded;
    for (uint32_t t = 0; complete && t < options->n_threads; t++) {
        a->workers[t] = create_worker(a);
        const cop__attention_worker *w = a->workers[t];
        complete = w && w->rows && w->visible && w->o && w->turned;
    }
    if (complete) {
        *out = a;
        return COP_OK;
    }
    status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u attention partials and %u threads",
                      options->max_partials, options->n_threads);
failed:
    cop_cpu_attention_destroy(a);
    return status;
}

void cop_cpu_attention_destroy(cop_cpu_attention *a) {
    if (!a)
        return;
    cop_mapping_destroy(&a->pool);
    cop_mapping_destroy(&a->partial_o);
    for (uint32_t t = 0; a->workers && t < a->options.n_threads; t++)
        destroy_worker(a->workers[t]);
    cop_free(a->workers);
    cop_free(a->partials);
    cop_free(a->loaded);
    cop_free(a);
}
