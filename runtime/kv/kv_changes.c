#include "kv/kv_internal.h"

#include "base/memory.h"

cop_status cop__changes_create(cop_kv *kv) {
    cop__kv_changes *c = &kv->changes;
    const uint32_t n = kv->options.max_segments;
    kv->version = 1;
    c->all = true;
    c->segments = cop_calloc(n, sizeof *c->segments);
    c->segment_at = cop_calloc(n, sizeof *c->segment_at);
    c->ranges = cop_calloc(n, sizeof *c->ranges);
    c->range_segment = cop_calloc(n, sizeof *c->range_segment);
    c->range_at = cop_calloc(n, sizeof *c->range_at);
    if (!c->segments || !c->segment_at || !c->ranges || !c->range_segment || !c->range_at)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the changes of %u segments", n);
    return COP_OK;
}

void cop__changes_destroy(cop_kv *kv) {
    cop_free(kv->changes.segments);
    cop_free(kv->changes.segment_at);
    cop_free(kv->changes.ranges);
    cop_free(kv->changes.range_segment);
    cop_free(kv->changes.range_at);
}

void cop__change_segment(cop_kv *kv, uint32_t segment) {
    cop__kv_changes *c = &kv->changes;
    kv->version++;
    const uint32_t at = c->segment_at[segment];
    if (at < c->n_segments && c->segments[at] == segment)
        return;
    c->segment_at[segment] = c->n_segments;
    c->segments[c->n_segments++] = segment;
}

static cop_table_range *range_of(cop__kv_changes *c, uint32_t segment) {
    const uint32_t at = c->range_at[segment];
    return at < c->n_ranges && c->range_segment[at] == segment ? &c->ranges[at] : NULL;
}

/* A segment's words are written from its last page on, or all of them, and those that it gives up
 * are taken from the list: so what is written follows what is listed, or stands in it. */
void cop__change_pages(cop_kv *kv, uint32_t segment, uint32_t first, uint32_t n) {
    cop__kv_changes *c = &kv->changes;
    if (n == 0)
        return;
    kv->version++;
    first += kv->segments[segment].page_table_offset;
    cop_table_range *range = range_of(c, segment);
    if (range) {
        range->n = first + n - range->first;
        return;
    }
    c->range_at[segment] = c->n_ranges;
    c->range_segment[c->n_ranges] = segment;
    c->ranges[c->n_ranges++] = (cop_table_range){COP_TABLE_PAGE_TABLE, first, n};
}

void cop__change_pages_end(cop_kv *kv, uint32_t segment, uint32_t pages) {
    cop__kv_changes *c = &kv->changes;
    cop_table_range *range = range_of(c, segment);
    if (!range)
        return;
    const uint32_t end = kv->segments[segment].page_table_offset + pages;
    if (range->first < end) {
        if (range->n > end - range->first)
            range->n = end - range->first;
        return;
    }
    const uint32_t at = c->range_at[segment];
    c->n_ranges--;
    c->ranges[at] = c->ranges[c->n_ranges];
    c->range_segment[at] = c->range_segment[c->n_ranges];
    c->range_at[c->range_segment[at]] = at;
}

cop_kv_changes cop_kv_changes_read(const cop_kv *kv) {
    return (cop_kv_changes){
        .segments = kv->changes.segments,
        .ranges = kv->changes.ranges,
        .n_segments = kv->changes.n_segments,
        .n_ranges = kv->changes.n_ranges,
        .all = kv->changes.all,
    };
}

void cop_kv_changes_clear(cop_kv *kv) {
    kv->changes.n_segments = kv->changes.n_ranges = 0;
    kv->changes.cleared = kv->version;
    kv->changes.all = false;
}
