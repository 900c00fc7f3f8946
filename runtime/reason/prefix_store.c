#include "reason/prefix_store.h"

#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

typedef struct entry {
    cop_prefix before, hash_next;
    cop_prefix older, newer; /* by last use */
    uint64_t hash;
    cop_node node;
    uint32_t followers;
    bool used, ready;
} entry;

struct cop_prefix_store {
    cop_kv *kv;
    uint32_t block, max_entries;
    entry *entries;
    int32_t *ids; /* [max_entries, block] */
    cop_prefix *buckets, *free;
    uint32_t bucket_mask, n_free;
    cop_prefix oldest, newest;
    uint64_t evicted;
};

cop_status cop_prefix_store_create(cop_kv *kv, uint32_t block_tokens, uint32_t max_entries,
                                   cop_prefix_store **out) {
    if (block_tokens == 0 || block_tokens % COP_LEAF_TOKENS != 0 || max_entries == 0)
        return COP_FAIL(
            COP_ERR_CONFIG,
            "a prefix store of %u blocks of %u tokens: a block is a multiple of %d, and "
            "there is at least one",
            max_entries, block_tokens, COP_LEAF_TOKENS);
    cop_prefix_store *s = cop_calloc(1, sizeof *s);
    uint32_t buckets = 16;
    while (buckets < max_entries && buckets < 1u << 30)
        buckets *= 2;
    if (s) {
        s->kv = kv;
        s->block = block_tokens;
        s->max_entries = max_entries;
        s->bucket_mask = buckets - 1;
        s->oldest = s->newest = COP_PREFIX_NONE;
        s->entries = cop_calloc(max_entries, sizeof *s->entries);
        s->ids = cop_calloc((size_t)max_entries * block_tokens, sizeof *s->ids);
        s->buckets = cop_calloc(buckets, sizeof *s->buckets);
        s->free = cop_calloc(max_entries, sizeof *s->free);
    }
    if (!s || !s->entries || !s->ids || !s->buckets || !s->free) {
        cop_prefix_store_destroy(s);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a prefix store of %u blocks",
                        max_entries);
    }
    memset(s->buckets, 0xff, buckets * sizeof *s->buckets);
    for (uint32_t i = 0; i < max_entries; i++)
        s->free[s->n_free++] = max_entries - 1 - i;
    *out = s;
    return COP_OK;
}

void cop_prefix_store_destroy(cop_prefix_store *s) {
    if (!s)
        return;
    if (s->entries && s->free)
        cop_prefix_clear(s);
    cop_free(s->entries);
    cop_free(s->ids);
    cop_free(s->buckets);
    cop_free(s->free);
    cop_free(s);
}

static uint64_t hash_of(const cop_prefix_store *s, cop_prefix before, const int32_t *ids) {
    uint64_t hash = before == COP_PREFIX_NONE ? 0 : s->entries[before].hash;
    for (uint32_t i = 0; i < s->block; i += 2)
        hash = cop_rng_fold(hash, (uint64_t)(uint32_t)ids[i] << 32 | (uint32_t)ids[i + 1]);
    return hash;
}

static void unlink_used(cop_prefix_store *s, cop_prefix id) {
    const entry *e = &s->entries[id];
    *(e->older == COP_PREFIX_NONE ? &s->oldest : &s->entries[e->older].newer) = e->newer;
    *(e->newer == COP_PREFIX_NONE ? &s->newest : &s->entries[e->newer].older) = e->older;
}

static void link_newest(cop_prefix_store *s, cop_prefix id) {
    entry *e = &s->entries[id];
    e->older = s->newest;
    e->newer = COP_PREFIX_NONE;
    *(s->newest == COP_PREFIX_NONE ? &s->oldest : &s->entries[s->newest].newer) = id;
    s->newest = id;
}

cop_prefix cop_prefix_find(cop_prefix_store *s, cop_prefix before, const int32_t *ids) {
    const uint64_t hash = hash_of(s, before, ids);
    for (cop_prefix id = s->buckets[hash & s->bucket_mask]; id != COP_PREFIX_NONE;
         id = s->entries[id].hash_next) {
        const entry *e = &s->entries[id];
        if (e->hash != hash || e->before != before ||
            memcmp(cop_prefix_ids(s, id), ids, s->block * sizeof *ids) != 0)
            continue;
        unlink_used(s, id);
        link_newest(s, id);
        return id;
    }
    return COP_PREFIX_NONE;
}

static void give_up(cop_prefix_store *s, cop_prefix id) {
    entry *e = &s->entries[id];
    cop_prefix *link = &s->buckets[e->hash & s->bucket_mask];
    while (*link != id)
        link = &s->entries[*link].hash_next;
    *link = e->hash_next;
    unlink_used(s, id);
    if (e->before != COP_PREFIX_NONE)
        s->entries[e->before].followers--;
    cop_kv_release(s->kv, e->node);
    e->used = false;
    s->free[s->n_free++] = id;
}

/* The least recently used entry that nobody stands on: no follower here, no node below it, no
 * holder but the store. */
static cop_prefix idle_entry(const cop_prefix_store *s) {
    for (cop_prefix id = s->oldest; id != COP_PREFIX_NONE; id = s->entries[id].newer) {
        const entry *e = &s->entries[id];
        if (e->ready && e->followers == 0 && cop_kv_references(s->kv, e->node) == 1)
            return id;
    }
    return COP_PREFIX_NONE;
}

static bool evict_one(cop_prefix_store *s) {
    const cop_prefix id = idle_entry(s);
    if (id == COP_PREFIX_NONE)
        return false;
    give_up(s, id);
    s->evicted++;
    return true;
}

void cop_prefix_evict(cop_prefix_store *s, uint32_t pages) {
    while (cop_kv_stats_read(s->kv).pages_free < pages && evict_one(s))
        ;
}

/* A sealed node with the block's tokens under `parent`. */
static cop_status fill_node(cop_prefix_store *s, cop_node parent, cop_node *out) {
    cop_node node;
    COP_TRY(cop_kv_open(s->kv, parent, &node));
    cop_status status = cop_kv_append(s->kv, node, s->block);
    while (status == COP_ERR_NO_PAGES && evict_one(s))
        status = cop_kv_append(s->kv, node, s->block);
    if (status != COP_OK) {
        cop_kv_release(s->kv, node);
        return status;
    }
    cop_kv_seal(s->kv, node);
    *out = node;
    return COP_OK;
}

cop_status cop_prefix_add(cop_prefix_store *s, cop_prefix before, const int32_t *ids,
                          cop_prefix *out) {
    /* What comes before must outlast the evictions. */
    const cop_node parent =
        before == COP_PREFIX_NONE ? cop_kv_root(s->kv) : s->entries[before].node;
    if (before != COP_PREFIX_NONE)
        s->entries[before].followers++;
    cop_status status = COP_OK;
    cop_node node = COP_NODE_NONE;
    if (s->n_free == 0 && !evict_one(s))
        status = COP_FAIL(COP_ERR_NO_ROOM, "all %u blocks of the prefix store are in use",
                          s->max_entries);
    if (status == COP_OK)
        status = fill_node(s, parent, &node);
    if (status != COP_OK) {
        if (before != COP_PREFIX_NONE)
            s->entries[before].followers--;
        return status;
    }
    const cop_prefix id = s->free[--s->n_free];
    entry *e = &s->entries[id];
    *e = (entry){.before = before, .hash = hash_of(s, before, ids), .node = node, .used = true};
    memcpy(s->ids + (size_t)id * s->block, ids, s->block * sizeof *ids);
    cop_prefix *bucket = &s->buckets[e->hash & s->bucket_mask];
    e->hash_next = *bucket;
    *bucket = id;
    link_newest(s, id);
    *out = id;
    return COP_OK;
}

void cop_prefix_ready(cop_prefix_store *s, cop_prefix id) {
    s->entries[id].ready = true;
}

cop_node cop_prefix_node(const cop_prefix_store *s, cop_prefix id) {
    return s->entries[id].node;
}

const int32_t *cop_prefix_ids(const cop_prefix_store *s, cop_prefix id) {
    return s->ids + (size_t)id * s->block;
}

void cop_prefix_clear(cop_prefix_store *s) {
    while (s->newest != COP_PREFIX_NONE)
        give_up(s, s->newest); /* the order is free: nodes count their own references */
}

cop_prefix_stats cop_prefix_stats_read(const cop_prefix_store *s) {
    const uint32_t entries = s->max_entries - s->n_free;
    return (cop_prefix_stats){
        .entries = entries, .tokens = (uint64_t)entries * s->block, .evicted = s->evicted};
}
