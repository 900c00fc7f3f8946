#include "kv/kv_internal.h"

static void set_ahead(cop_kv *kv, uint32_t segment, uint32_t pages) {
    cop__segment *state = &kv->segment_state[segment];
    kv->n_pages_ahead += pages - state->ahead; /* modulo 2^32 */
    if (pages && state->ahead == 0) {
        state->ahead_at = kv->n_segments_ahead;
        kv->segments_ahead[kv->n_segments_ahead++] = segment;
    } else if (pages == 0 && state->ahead) {
        const uint32_t last = kv->segments_ahead[--kv->n_segments_ahead];
        kv->segments_ahead[state->ahead_at] = last;
        kv->segment_state[last].ahead_at = state->ahead_at;
    }
    state->ahead = pages;
}

static void give_back(cop_kv *kv, uint32_t segment) {
    cop__pool_shrink(kv, segment,
                     kv->segment_state[segment].pages - kv->segment_state[segment].ahead);
    set_ahead(kv, segment, 0);
    kv->given_back++;
}

/* Half of the free pages are shared out among the open segments, so that what is taken ahead is
 * seldom asked back: when it is, pages are short, and then nearly nothing is taken ahead. */
static uint32_t share(const cop_kv *kv, uint32_t pages) {
    const uint32_t left = kv->n_free_pages - pages;
    const uint32_t fair = (left + kv->n_pages_ahead) / 2 / kv->n_open;
    return fair < left / 2 ? fair : left / 2;
}

void cop__ahead_grow(cop_kv *kv, uint32_t segment, uint32_t pages, uint32_t most) {
    const cop__segment *state = &kv->segment_state[segment];
    if (pages > state->pages) {
        const uint32_t more = pages - state->pages;
        set_ahead(kv, segment, 0); /* all that it held ahead is needed now */
        while (kv->n_free_pages < more)
            give_back(kv, kv->segments_ahead[kv->n_segments_ahead - 1]);
        const uint32_t may = share(kv, more), wish = most > pages ? most - pages : 0;
        cop__pool_grow(kv, segment, pages + (wish < may ? wish : may));
    }
    set_ahead(kv, segment, state->pages - pages);
    const uint32_t held = kv->options.n_pages - kv->n_free_pages - kv->n_pages_ahead;
    if (held > kv->pages_peak)
        kv->pages_peak = held;
}

void cop__ahead_keep(cop_kv *kv, uint32_t segment, uint32_t pages, uint32_t most) {
    const cop__segment *state = &kv->segment_state[segment];
    const uint32_t keep = most > pages ? most : pages;
    if (state->pages > keep)
        cop__pool_shrink(kv, segment, keep);
    set_ahead(kv, segment, state->pages - pages);
}
