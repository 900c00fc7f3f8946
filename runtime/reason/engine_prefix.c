/* Prompts through the prefix store (prefix_store.h): which blocks are found, and who runs those
 * that are not.
 *
 * A block that was not found is run by a filler: a record like that of a released branch whose fed
 * tokens must still run for others, but of no problem. Its rows come before all others. */
#include "reason/engine_internal.h"

cop_status cop__engine_prefix_create(cop_engine *engine) {
    cop_engine_options *o = &engine->options;
    if (o->prefix_block == 0)
        return COP_OK;
    if (o->prefix_block % COP_LEAF_TOKENS || o->chunk_tokens % o->prefix_block ||
        o->chunk_tail_tokens != o->chunk_tokens)
        return COP_FAIL(
            COP_ERR_CONFIG,
            "prefix_block is %u: it must be a multiple of %d that divides chunk_tokens, "
            "%u, with chunk_tail_tokens the same",
            o->prefix_block, COP_LEAF_TOKENS, o->chunk_tokens);
    return cop_prefix_store_create(engine->kv, o->prefix_block, cop__engine_prefix_entries(o),
                                   &engine->store);
}

/* As many blocks as the pool holds. */
uint32_t cop__engine_prefix_entries(const cop_engine_options *o) {
    if (o->prefix_block == 0)
        return 0;
    const uint64_t entries = (uint64_t)o->n_pages * o->page_tokens / o->prefix_block;
    return entries ? (uint32_t)entries : 1;
}

/* Fillers that can be out at once: the blocks of one prompt of full length, and some of others that
 * begin with it. Beyond it a prompt's rest is its own. */
uint32_t cop__engine_prefix_fillers(const cop_engine_options *o) {
    return o->prefix_block ? o->max_positions / o->prefix_block + o->max_branches : 0;
}

static cop_status open_filler(cop_engine *engine, cop_prefix entry, uint32_t position) {
    const cop_node node = cop_prefix_node(engine->store, entry);
    const uint32_t block = engine->options.prefix_block;
    const cop_branch id = engine->free_ids[--engine->n_free];
    cop_branch_record *filler = &engine->branches[id];
    *filler = cop__engine_blank(COP_PROBLEM_NONE, COP_BRANCH_NONE, UINT32_MAX, node);
    filler->state = COP_BRANCH_ZOMBIE;
    filler->entry = entry;
    filler->n_pending = block;
    filler->n_spans = 1;
    filler->spans[0] =
        (cop_fed_span){cop_prefix_ids(engine->store, entry), block, 0, position, COP_FEED_PROMPT};
    cop_kv_retain(engine->kv, node);
    cop__engine_list_append(engine, id);
    engine->n_zombies++;
    engine->fillers[engine->n_fillers++] = id;
    return COP_OK;
}

/* The entry behind `before`: found, or made with a filler to run it. COP_PREFIX_NONE: neither can
 * be had, and the rest of the prompt is the branch's own. */
static cop_prefix next_entry(cop_engine *engine, cop_prefix before, const int32_t *ids,
                             uint32_t position, bool *made) {
    cop_prefix entry = cop_prefix_find(engine->store, before, ids);
    *made = false;
    if (entry != COP_PREFIX_NONE)
        return entry;
    if (engine->n_fillers == engine->max_fillers ||
        cop_prefix_add(engine->store, before, ids, &entry) != COP_OK)
        return COP_PREFIX_NONE;
    *made = true;
    open_filler(engine, entry, position);
    return entry;
}

cop_status cop__engine_prefix_take(cop_engine *engine, cop_branch_record *branch,
                                   const int32_t **ids, uint32_t *n) {
    const uint32_t block = engine->options.prefix_block;
    cop_metrics *m = engine->metrics;
    cop_prefix last = COP_PREFIX_NONE;
    while (*n > block) { /* the last token stays the branch's own: its row is sampled from */
        bool made;
        const cop_prefix entry = next_entry(engine, last, *ids, branch->next_position, &made);
        if (entry == COP_PREFIX_NONE)
            break;
        last = entry;
        m->prefix_lookups++;
        m->prefix_hits += !made;
        m->tokens_prefix_reused += made ? 0 : block;
        branch->critical_tokens += made ? block : 0;
        m->tokens_prompt += block;
        branch->next_position += block;
        *ids += block;
        *n -= block;
    }
    if (last == COP_PREFIX_NONE)
        return COP_OK;
    cop_node node;
    COP_TRY(cop_kv_open(engine->kv, cop_prefix_node(engine->store, last), &node));
    cop_kv_release(engine->kv, branch->node);
    branch->node = node;
    return COP_OK;
}

/* Rows of the fillers, before all others: where they do not all fit, no room is left, so nobody
 * runs who stands on them. */
void cop__engine_prefix_drain(cop_engine *engine, uint32_t *room) {
    for (uint32_t i = 0; i<engine->n_fillers && * room> 0; i++) {
        const cop_branch id = engine->fillers[i];
        const uint32_t pending = engine->branches[id].n_pending;
        const uint32_t tokens = pending < *room ? pending : *room;
        engine->runs[engine->n_runs++] = (cop_run){id, tokens};
        *room -= tokens;
    }
}

/* Fillers whose rows were queued are done: what they wrote is there for every later step. */
void cop__engine_prefix_settle(cop_engine *engine) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->n_fillers; i++) {
        const cop_branch id = engine->fillers[i];
        const cop_branch_record *filler = &engine->branches[id];
        if (filler->n_pending > 0) {
            engine->fillers[kept++] = id;
            continue;
        }
        cop_prefix_ready(engine->store, filler->entry);
        cop__engine_forget(engine, id);
    }
    engine->n_fillers = kept;
}

/* At the end of a run: blocks that never ran hold nothing, so nobody may find them. */
void cop__engine_prefix_finish(cop_engine *engine) {
    const bool broken = engine->n_fillers > 0;
    engine->n_fillers = 0;
    if (broken)
        cop_prefix_clear(engine->store);
}

void cop_engine_prefix_clear(cop_engine *engine) {
    if (engine->store)
        cop_prefix_clear(engine->store);
}
