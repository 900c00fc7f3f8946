#include <string.h>

#include "reason/live_internal.h"

static uint64_t used_of(const cop_live *live, const cop_engine *engine,
                        const cop_live_record *record, cop_charge charge, uint32_t more) {
    const cop_live_options *o = &live->options;
    const cop_live_sample *sample = &live->samples[record->sample];
    uint64_t used = sample->generated;
    if (charge == COP_CHARGE_ALL_TOKENS && o->dialect->charge_each_step) {
        /* One call has no more than the whole budget: what is more is cut away in the end. */
        used = record->n_path > 0 ? record->n_said : record->n_ids;
    } else if (charge == COP_CHARGE_ALL_TOKENS) {
        used += sample->given;
    } else if (charge == COP_CHARGE_POSITION) {
        uint64_t position =
            (uint64_t)cop_engine_branch(engine, record->branch).next_position + more;
        bool spawned = record->n_path > 0 && cop_dialect_spawns(o->dialect);
        uint64_t begin = spawned ? o->n_spawn : o->n_prompt;
        used = position > begin ? position - begin : 0;
    } else if (charge == COP_CHARGE_EACH_BRANCH) {
        /* What concludes has a limit of its own, where the dialect gives one. */
        used = record->n_path > 0 || !o->dialect->shared.finish_tokens ? record->n_said : 0;
    } else if (charge == COP_CHARGE_OWN_TIMES_SIBLINGS) {
        /* After a join of its own a path counts alone. */
        bool among = record->n_path > 0 && record->turn_ids == record->n_header;
        used = record->base_ids + record->turn_ids +
               (uint64_t)(record->n_ids - record->turn_ids) * (among ? record->siblings : 1);
    }
    return used;
}

void cop__live_count_refused(cop_live *live, cop_live_record *record) {
    live->samples[record->sample].forks_refused++;
    record->n_refused++;
}

bool cop__live_is_spent(const cop_live *live, const cop_engine *engine,
                        const cop_live_record *record, uint32_t more, uint32_t margin) {
    const cop_live_options *o = &live->options;
    cop_charge charge = cop__live_forks(live) ? o->dialect->charge : COP_CHARGE_GENERATED;
    return used_of(live, engine, record, charge, more) + margin >= o->max_tokens;
}

bool cop__live_is_late(const cop_live *live, const cop_engine *engine,
                       const cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    return used_of(live, engine, record, d->fork_charge, 0) + d->fork_margin >=
           live->options.max_tokens;
}

static uint32_t max_blocks_of(const cop_live *live) {
    return live->options.max_blocks ? live->options.max_blocks : live->options.dialect->max_blocks;
}

bool cop__live_is_last_block(const cop_live *live, const cop_live_sample *sample) {
    return cop__live_forks(live) && live->options.dialect->last_block_ends_run &&
           sample->forks >= max_blocks_of(live);
}

/* Where the expression begins to look in the branch's text, whose end is at `end`; there if it
 * looks nowhere. */
static size_t search_from(const cop_live *live, const cop_live_record *record, size_t end) {
    const cop_dialect *d = live->options.dialect;
    const cop_tag *open = &d->open[COP_EL_PLAN];
    size_t least = d->item_search == COP_SEARCH_PLAN ? 0 : record->turn_begin;
    size_t from = d->item_search == COP_SEARCH_TURN_PLAN ? end : least;
    const char *found, *at = record->text + least;
    while (open->bytes &&
           (found = memmem(at, (size_t)(record->text + end - at), open->text, open->bytes))) {
        at = found + 1;
        from = (size_t)(found - record->text);
    }
    return from;
}

/* The items that the expression finds in the branch's text up to `end`. */
static uint32_t find_items(const cop_live *live, cop_live_record *record, size_t end) {
    const cop_dialect *d = live->options.dialect;
    size_t at = search_from(live, record, end);
    uint32_t n = 0, max = live->options.max_branches;
    cop_span number;
    while (cop_pattern_next(d->items_pattern, record->text, end, &at, &number)) {
        bool known = false;
        for (uint32_t i = 0; d->duplicates == COP_DUPLICATES_DROP && i < n && i < max; i++)
            known |= record->items[i].bytes == number.bytes &&
                     memcmp(record->text + record->items[i].begin, record->text + number.begin,
                            number.bytes) == 0;
        if (known)
            continue;
        if (n < max) /* more than `max` are counted: their fork is refused */
            record->items[n] = (cop_live_item){number.begin, number.bytes};
        n++;
    }
    record->n_items = n < max ? n : max;
    return n;
}

/* The parser's own count of the plan gives way to the expression's. */
static bool open_plan(const cop_live *live, cop_live_record *record, uint32_t items) {
    return !live->options.dialect->items_pattern || cop_parser_plan(&record->parser, items);
}

cop_status cop__live_consider(cop_live *live, const cop_engine *engine, cop_live_record *record,
                              const char *text, size_t at, uint32_t listed, cop_live_action *action,
                              uint32_t *items) {
    const cop_dialect *d = live->options.dialect;
    cop_live_sample *sample = &live->samples[record->sample];
    if (record->n_path == 0 && d->max_steps && ++sample->steps >= d->max_steps) {
        *action = COP_ACT_LIMIT;
        return COP_OK;
    }
    *items = d->paths_from == COP_PATHS_FIXED ? d->paths : listed;
    if (d->items_pattern && cop__live_forks(live)) {
        if (at > record->max_bytes - record->bytes)
            return COP_FAIL(COP_ERR_NO_ROOM, "a branch's text is longer than %zu bytes",
                            record->max_bytes);
        memcpy(record->text + record->bytes, text, at); /* where it will be appended */
        *items = find_items(live, record, record->bytes + at);
    }
    if (cop__live_may_fork(live, engine, record, *items) && open_plan(live, record, *items)) {
        *action = COP_ACT_FORK;
        return COP_OK;
    }
    bool many = d->max_paths && *items > d->max_paths;
    cop_refusal how = d->refused;
    if (*items == 0 && d->zero_set)
        how = d->on_zero_items;
    else if (many && d->many_set)
        how = d->on_too_many;
    cop__live_count_refused(live, record);
    if (how != COP_REFUSAL_DECODES_ON)
        *action = how == COP_REFUSAL_ENDS_RUN ? COP_ACT_REFUSED : COP_ACT_BRANCH_END;
    return COP_OK;
}

bool cop__live_end_forks(cop_live *live, const cop_engine *engine, cop_live_record *record,
                         uint32_t *items) {
    *items = find_items(live, record, record->bytes);
    return *items > 0 && cop__live_may_fork(live, engine, record, *items) &&
           open_plan(live, record, *items);
}
