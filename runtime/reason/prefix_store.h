/* Prompts that begin alike share the KV of what they have in common: a store of sealed prefixes,
 * keyed by content.
 *
 * A prompt is cut into blocks of `block_tokens`. An entry is one block behind one other entry (or
 * at the beginning): its tokens, and a node of the KV bookkeeping over the sealed segment that
 * holds them, of which the store is a holder like any branch. Keys are compared token by token;
 * the hash only finds them. An entry without followers and without any other holder can be given
 * up, least recently used first. Segment boundaries stand where the blocks end, so they are the
 * same whether an entry was found or made: a block is a multiple of a leaf and divides the chunk
 * rule's C = W, which keeps leaves and chunks, and so every bit, as they are without a store.
 *
 * All memory is taken in create. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kv/kv.h"

#define COP_PREFIX_NONE UINT32_MAX

typedef struct cop_prefix_store cop_prefix_store;
typedef uint32_t cop_prefix; /* an entry; COP_PREFIX_NONE: the beginning of every prompt */

cop_status cop_prefix_store_create(cop_kv *kv, uint32_t block_tokens, uint32_t max_entries,
                                   cop_prefix_store **out);
void cop_prefix_store_destroy(cop_prefix_store *store); /* gives every entry up */

/* The entry of these block_tokens tokens behind `before`, or COP_PREFIX_NONE. */
cop_prefix cop_prefix_find(cop_prefix_store *store, cop_prefix before, const int32_t *ids);
/* Opens, fills and seals a segment for them. Evicts where entries or pages run out;
 * COP_ERR_NO_PAGES or COP_ERR_NO_ROOM: nothing changed but what was evicted. `ready` is false until
 * cop_prefix_ready: its rows have not run yet, so it is not given up. */
cop_status cop_prefix_add(cop_prefix_store *store, cop_prefix before, const int32_t *ids,
                          cop_prefix *out);
void cop_prefix_ready(cop_prefix_store *store, cop_prefix entry);

cop_node cop_prefix_node(const cop_prefix_store *store, cop_prefix entry);
/* The store's own copy of an entry's tokens; stays while the entry does. */
const int32_t *cop_prefix_ids(const cop_prefix_store *store, cop_prefix entry);

/* Gives up entries that nobody else holds, least recently used first, until `pages` pages are free
 * in the pool or there is none left. */
void cop_prefix_evict(cop_prefix_store *store, uint32_t pages);
/* Gives up everything; entries whose rows never ran too. No step may be out. */
void cop_prefix_clear(cop_prefix_store *store);

typedef struct cop_prefix_stats {
    uint32_t entries; /* held now, and their tokens, in pages of their own */
    uint64_t tokens;
    uint64_t evicted; /* entries, since create */
} cop_prefix_stats;
cop_prefix_stats cop_prefix_stats_read(const cop_prefix_store *store);
