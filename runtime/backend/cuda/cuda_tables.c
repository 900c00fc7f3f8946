#include "backend/cuda/cuda_internal.h"

#include <string.h>

#include "base/memory.h"

enum {
    STAGE_WORDS = COP__STAGE_BYTES / 4,
    RECORD_WORDS = sizeof(cop_patch_record) / 4,
    BLOCK_WORDS = 16, /* compared at once */
    GAP_WORDS = 4,    /* equal words inside a record: a record of their own would cost as much */
};

/* Memory that an earlier copy may still read is not written to. */
static cop_status claim_stage(cop_backend *b, cop__stage *stage) {
    if (stage->busy && stage->step > b->completed && !COP_CUDA_MUTANT(stage_reused)) {
        COP__CUDA(b, cudaEventSynchronize, stage->done);
        b->counters.waits++;
    }
    stage->busy = false;
    return COP_OK;
}

cop_status cop__patch_flush(cop_backend *b) {
    cop__patch *p = &b->patch;
    if (p->n_records == 0)
        return COP_OK;
    cop__stage *stage = &b->stages[p->stage];
    const uint32_t at = (p->n_words + 3) & ~3u; /* records are read 16 bytes at a time */
    const size_t bytes = at * 4ull + p->n_records * sizeof *p->records;
    memset(stage->words + p->n_words, 0, (at - p->n_words) * 4ull);
    memcpy(stage->words + at, p->records, p->n_records * sizeof *p->records);
    COP__CUDA(b, cudaMemcpyAsync, b->patch_words, stage->words, bytes, cudaMemcpyHostToDevice,
              b->stream);
    COP__CUDA(b, cudaEventRecord, stage->done, b->stream);
    stage->busy = true;
    stage->step = b->n_steps + 1;
    cop_patch_args args = {.records = (const cop_patch_record *)(b->patch_words + at),
                           .words = b->patch_words,
                           .bad = b->bad,
                           .n_tables = COP__T_COUNT,
                           .n_records = p->n_records,
                           .n_words = p->n_words};
    for (uint32_t t = 0; t < COP__T_COUNT; t++)
        args.tables[t] = (cop_patch_table){b->tables[t].device, b->tables[t].n_words};
    COP__LAUNCH(b, cop_launch_patch, &args);
    b->counters.upload_bytes += bytes;
    p->n_records = p->n_words = 0;
    p->stage = (p->stage + 1) % COP__STAGES;
    return COP_OK;
}

static uint32_t room_words(const cop__patch *p) {
    const uint32_t used = p->n_words + 4 + (p->n_records + 1) * RECORD_WORDS;
    return p->n_records < p->records_max && used < STAGE_WORDS ? STAGE_WORDS - used : 0;
}

static cop_status emit(cop_backend *b, uint32_t table, uint32_t index, uint32_t n,
                       const uint32_t *words) {
    cop__patch *p = &b->patch;
    while (n > 0) {
        if (room_words(p) == 0)
            COP_TRY(cop__patch_flush(b));
        cop__stage *stage = &b->stages[p->stage];
        if (p->n_records == 0)
            COP_TRY(claim_stage(b, stage));
        const uint32_t room = room_words(p), take = n < room ? n : room;
        memcpy(stage->words + p->n_words, words, take * 4ull);
        p->records[p->n_records++] = (cop_patch_record){table, index, take, p->n_words};
        p->n_words += take;
        index += take, words += take, n -= take;
    }
    return COP_OK;
}

cop_status cop__table_sync(cop_backend *b, enum cop__table_id id, uint32_t first, uint32_t n,
                           const void *want) {
    cop__table *table = &b->tables[id];
    if (first > table->n_words || n > table->n_words - first)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "table %d of the cuda backend has %u words, a step needs %llu: the "
                        "capacity that it was created with is too small",
                        (int)id, table->n_words, (unsigned long long)first + n);
    const uint32_t *words = want;
    uint32_t *mirror = table->mirror + first;
    for (uint32_t i = 0; i < n;) {
        while (n - i >= BLOCK_WORDS && memcmp(words + i, mirror + i, BLOCK_WORDS * 4) == 0)
            i += BLOCK_WORDS;
        while (i < n && words[i] == mirror[i])
            i++;
        if (i == n)
            break;
        uint32_t end = i + 1, same = 0;
        for (uint32_t j = end; j < n && same <= GAP_WORDS; j++) {
            same = words[j] == mirror[j] ? same + 1 : 0;
            end = same ? end : j + 1;
        }
        COP_TRY(emit(b, id, first + i, end - i, words + i));
        memcpy(mirror + i, words + i, (end - i) * 4ull);
        i = end;
    }
    return COP_OK;
}

/* ---- the plan's tables ---- */

static cop_status sync_elements(cop_backend *b, enum cop__table_id id, uint32_t first, uint32_t n,
                                size_t bytes, const void *table) {
    const uint32_t words = (uint32_t)(bytes / 4);
    return cop__table_sync(b, id, first * words, n * words,
                           (const uint8_t *)table + (size_t)first * bytes);
}

/* What the kernels take for granted. */
static cop_status check_entries(const cop_walk_entry *entries, uint32_t first, uint32_t n) {
    for (uint32_t i = first; i < first + n; i++)
        if (entries[i].q_shift != 0)
            return COP_FAIL(COP_ERR_UNSUPPORTED,
                            "a view that sees a segment at shifted positions: the cuda backend "
                            "does not rotate queries; use backend cpu");
    return COP_OK;
}

static cop_status check_tiles(const cop_backend *b, const cop_tile *tiles, uint32_t first,
                              uint32_t n) {
    const cop_model_shape *s = &b->shape;
    const uint32_t most = cop_attention_tile_slots(s->head_dim, s->n_heads / s->n_kv_heads);
    for (uint32_t i = first; i < first + n; i++)
        if (tiles[i].n_slots > most)
            return COP_FAIL(COP_ERR_CONFIG,
                            "a tile of %u slots: the kernels take %u at head size %u with %u "
                            "query heads for each KV head; lower tile_slots",
                            tiles[i].n_slots, most, s->head_dim, s->n_heads / s->n_kv_heads);
    return COP_OK;
}

static cop_status sync_range(cop_backend *b, const cop_plan_tables *plan, cop_table_range r) {
    const cop_table_capacity *c = &b->options.capacity;
    const struct {
        enum cop__table_id id;
        uint32_t capacity;
        size_t bytes;
        const void *table;
    } tables[COP_TABLE_COUNT] = {
        [COP_TABLE_PAGE_TABLE] = {COP__T_PAGE_TABLE, c->page_table, 4, plan->page_table},
        [COP_TABLE_TILES] = {COP__T_TILES, c->tiles, sizeof(cop_tile), plan->tiles},
        [COP_TABLE_ENTRIES] = {COP__T_ENTRIES, c->entries, sizeof(cop_walk_entry), plan->entries},
        [COP_TABLE_LIMITS] = {COP__T_LIMITS, c->limits, 4, plan->limits},
        [COP_TABLE_ITEMS] = {COP__T_ITEMS, c->items, sizeof(cop_item), plan->items},
        [COP_TABLE_SLOTS] = {COP__T_SLOTS, c->slots, sizeof(cop_slot), plan->slots},
    };
    if (r.table >= COP_TABLE_COUNT || r.first > tables[r.table].capacity ||
        r.n > tables[r.table].capacity - r.first)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "table %u of the plan holds elements %u + %u: the cuda backend was created "
                        "for less",
                        r.table, r.first, r.n);
    if (r.table == COP_TABLE_ENTRIES)
        COP_TRY(check_entries(plan->entries, r.first, r.n));
    if (r.table == COP_TABLE_TILES)
        COP_TRY(check_tiles(b, plan->tiles, r.first, r.n));
    return sync_elements(b, tables[r.table].id, r.first, r.n, tables[r.table].bytes,
                         tables[r.table].table);
}

/* Entries and limits that the items reach: the tables do not say how long they are. */
static cop_status reach_of(const cop_backend *b, const cop_plan_tables *plan, uint32_t *n_entries,
                           uint32_t *n_limits) {
    const cop_table_capacity *c = &b->options.capacity;
    uint64_t entries = 0, limits = 0;
    for (uint32_t i = 0; i < plan->n_items; i++) {
        const cop_item *item = &plan->items[i];
        const uint64_t end = (uint64_t)item->first_entry + item->n_entries;
        if (end > c->entries || item->tile >= plan->n_tiles)
            return COP_FAIL(COP_ERR_NO_ROOM,
                            "item %u of the plan reaches entry %llu of %u, tile %u of %u", i,
                            (unsigned long long)end, c->entries, item->tile, plan->n_tiles);
        entries = end > entries ? end : entries;
        for (uint64_t e = item->first_entry; e < end; e++) {
            if (plan->entries[e].limits < 0)
                continue;
            const uint64_t last =
                (uint64_t)plan->entries[e].limits + plan->tiles[item->tile].n_slots;
            limits = last > limits ? last : limits;
        }
    }
    *n_entries = (uint32_t)entries;
    *n_limits = (uint32_t)(limits < c->limits ? limits : c->limits);
    return COP_OK;
}

static cop_status sync_whole(cop_backend *b, const cop_plan_tables *plan) {
    uint32_t n_entries = 0, n_limits = 0;
    COP_TRY(reach_of(b, plan, &n_entries, &n_limits));
    const cop_table_range ranges[] = {
        {COP_TABLE_PAGE_TABLE, 0, b->options.capacity.page_table},
        {COP_TABLE_TILES, 0, plan->n_tiles},
        {COP_TABLE_ENTRIES, 0, n_entries},
        {COP_TABLE_LIMITS, 0, n_limits},
        {COP_TABLE_ITEMS, 0, plan->n_items},
        {COP_TABLE_SLOTS, 0, plan->n_slots},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        COP_TRY(sync_range(b, plan, ranges[i]));
    return COP_OK;
}

/* A segment as it is before the step's first kernel. */
cop_status cop__segment_sync(cop_backend *b, const cop_plan_tables *plan, uint32_t segment) {
    if (segment >= b->options.capacity.segments)
        return COP_FAIL(COP_ERR_NO_ROOM, "segment %u: the cuda backend was created for %u", segment,
                        b->options.capacity.segments);
    cop_segment want = plan->segments[segment];
    want.tokens -= b->grows[segment] == b->turns ? 1 : 0;
    return cop__table_sync(b, COP__T_SEGMENTS, segment * 2, 2, &want);
}

cop_status cop__tables_follow(cop_backend *b, const cop_plan_tables *plan) {
    const cop_table_changes *c = &plan->changes;
    const bool missed = !b->turn_known || c->from != b->turn;
    if (c->all || (missed && !COP_CUDA_MUTANT(stale_tables))) {
        b->turn_known = false; /* until all of it has been followed */
        COP_TRY(sync_whole(b, plan));
        for (uint32_t s = 0; s < b->options.capacity.segments; s++)
            COP_TRY(cop__segment_sync(b, plan, s));
    } else {
        b->turn_known = false;
        for (uint32_t i = 0; i < c->n_kv; i++)
            COP_TRY(sync_range(b, plan, c->kv[i]));
        for (uint32_t i = 0; i < c->n_plan; i++)
            COP_TRY(sync_range(b, plan, c->plan[i]));
        for (uint32_t i = 0; i < c->n_segments; i++)
            COP_TRY(cop__segment_sync(b, plan, c->segments[i]));
    }
    b->turn = c->to;
    b->turn_known = true;
    const cop_attention_queue queue = {plan->n_items, plan->n_slots};
    return cop__table_sync(b, COP__T_QUEUE, 0, sizeof queue / 4, &queue);
}

/* The state of a device that has run no step: rows fill up, and everything goes up at once. */
cop_status cop__tables_init(cop_backend *b) {
    const cop_table_capacity *c = &b->options.capacity;
    cop__table *t = b->tables;
    memset(t[COP__T_PAGE_TABLE].mirror, 0xff, t[COP__T_PAGE_TABLE].n_words * 4ull);
    t[COP__T_PAGE_TABLE].mirror[c->page_table] =
        COP_CUDA_MUTANT(padding_live_page) ? 0 : b->options.n_pages;
    ((cop_segment *)t[COP__T_SEGMENTS].mirror)[b->dump_segment] = (cop_segment){c->page_table, 1};
    for (uint32_t r = 0; r < b->options.max_rows; r++) {
        t[COP__T_ROW_SEGMENT].mirror[r] = b->dump_segment;
        ((cop_open_segment *)t[COP__T_OPEN].mirror)[r] =
            (cop_open_segment){b->dump_segment, 0, -1, -1};
    }
    /* Most steps ask for the logits of every row, or of the first ones and a few more. */
    for (uint32_t i = 0; i < b->max_logits; i++)
        t[COP__T_GATHER].mirror[i] = i;
    COP__CUDA(b, cudaMemcpyAsync, b->device_tables, b->mirror, b->table_bytes,
              cudaMemcpyHostToDevice, b->stream);
    COP__CUDA(b, cudaStreamSynchronize, b->stream);
    return COP_OK;
}
