#include "kv/plan_internal.h"

#include <string.h>

static void put(cop_plan *plan, uint32_t place, uint32_t at) {
    cop_item item = plan->tile_items[at];
    item.first_entry += plan->tile_state[item.tile].first_entry;
    plan->items[place] = item;
    plan->item_place[at] = place;
    cop__change(plan, COP_TABLE_ITEMS, place, 1);
}

static void move(cop_plan *plan, uint32_t from, uint32_t to) {
    if (from == to)
        return;
    const cop_item item = plan->items[from];
    plan->items[to] = item;
    plan->item_place[plan->tile_state[item.tile].first_entry + item.chunk] = to;
    cop__change(plan, COP_TABLE_ITEMS, to, 1);
}

/* Makes the hole at `place` in bucket `from` one in bucket `to`: at each boundary between them one
 * item moves, from one end of its bucket to the other. */
static uint32_t hole_shift(cop_plan *plan, uint32_t place, uint32_t from, uint32_t to) {
    uint32_t *end = plan->bucket_end;
    for (; from < to; from++) {
        const uint32_t first = end[from + 1]++;
        move(plan, first, place);
        place = first;
    }
    for (; from > to; from--) {
        const uint32_t last = --end[from];
        move(plan, last, place);
        place = last;
    }
    return place;
}

static void insert(cop_plan *plan, uint32_t at) {
    const uint32_t bucket = cop__item_bucket(plan->item_tokens[at]);
    plan->item_bucket[at] = (uint8_t)bucket;
    put(plan, hole_shift(plan, plan->bucket_end[0]++, 0, bucket), at);
}

static void take_out(cop_plan *plan, uint32_t at) {
    const uint32_t place = hole_shift(plan, plan->item_place[at], plan->item_bucket[at], 0);
    move(plan, --plan->bucket_end[0], place);
}

/* In the place that its tokens give it, with the content that it has now. */
static void renew(cop_plan *plan, uint32_t at) {
    const uint32_t bucket = cop__item_bucket(plan->item_tokens[at]), place = plan->item_place[at];
    cop_item item = plan->tile_items[at];
    item.first_entry += plan->tile_state[item.tile].first_entry;
    if (bucket == plan->item_bucket[at] && memcmp(&plan->items[place], &item, sizeof item) == 0)
        return;
    const uint32_t fresh = hole_shift(plan, place, plan->item_bucket[at], bucket);
    plan->item_bucket[at] = (uint8_t)bucket;
    put(plan, fresh, at);
}

void cop__items_keep(cop_plan *plan, uint32_t tile, uint32_t n) {
    cop__plan_tile *t = &plan->tile_state[tile];
    while (t->n_items > n) {
        t->n_items--;
        if (!plan->items_stale)
            take_out(plan, t->first_entry + t->n_items);
    }
}

void cop__items_renew(cop_plan *plan, uint32_t tile, uint32_t n) {
    cop__plan_tile *t = &plan->tile_state[tile];
    for (uint32_t c = 0; c < n && !plan->items_stale; c++) {
        if (c < t->n_items)
            renew(plan, t->first_entry + c);
        else
            insert(plan, t->first_entry + c);
    }
    t->n_items = n;
}

void cop__item_grow(cop_plan *plan, uint32_t tile, uint32_t chunk, uint64_t grown) {
    cop__plan_tile *t = &plan->tile_state[tile];
    const uint32_t at = t->first_entry + chunk;
    plan->item_tokens[at] += grown;
    if (t->lagging || cop__item_bucket(plan->item_tokens[at]) == plan->item_bucket[at])
        return;
    t->lagging = true;
    plan->lagging[plan->n_lagging++] = tile;
}

/* By tile and chunk inside a bucket. */
static void sort(cop_plan *plan) {
    const uint32_t n_tiles = plan->tiles_end + plan->n_prefill_tiles;
    uint32_t *end = plan->bucket_end;
    memset(end, 0, sizeof plan->bucket_end);
    for (uint32_t tile = 0; tile < n_tiles; tile++) {
        const cop__plan_tile *t = &plan->tile_state[tile];
        for (uint32_t at = t->first_entry; at < t->first_entry + t->n_items; at++) {
            plan->item_bucket[at] = (uint8_t)cop__item_bucket(plan->item_tokens[at]);
            end[plan->item_bucket[at]]++;
        }
    }
    /* Each bucket ends where it begins until its items have come. */
    for (uint32_t bucket = COP__BUCKETS, n = 0; bucket-- > 0;) {
        const uint32_t count = end[bucket];
        end[bucket] = n;
        n += count;
    }
    for (uint32_t tile = 0; tile < n_tiles; tile++) {
        const cop__plan_tile *t = &plan->tile_state[tile];
        for (uint32_t at = t->first_entry; at < t->first_entry + t->n_items; at++)
            put(plan, end[plan->item_bucket[at]]++, at);
    }
}

void cop__items_settle(cop_plan *plan) {
    if (plan->items_stale)
        sort(plan);
    plan->items_stale = false;
    while (plan->n_lagging) {
        const uint32_t tile = plan->lagging[--plan->n_lagging];
        cop__plan_tile *t = &plan->tile_state[tile];
        t->lagging = false;
        cop__items_renew(plan, tile, t->n_items);
    }
}
