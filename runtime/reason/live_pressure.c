/* What the driver does for a KV pool that is full: what its branches may still need, what of their
 * KV nobody reads again, which branch can be given up, and how one begins anew.
 *
 * A branch that begins anew says what it said before, so its records, and those of the blocks that
 * it opens once more, are the ones it had: paths keep their numbers, and a listener, who has heard
 * it all, hears only what is new. Under a rule, which cannot forget one branch but can forget all,
 * only the whole problem does; where a penalty hangs on what the answer's other branches have done,
 * only the whole sample; a sample of workers does not. */
#include <string.h>

#include "reason/live_internal.h"

/* ---- what is needed ---- */

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t left_of(uint64_t limit, uint64_t used) {
    return limit > used ? limit - used : 0;
}

void cop__live_expect(const cop_live *live, cop_engine *engine, const cop_live_record *record,
                      uint32_t now) {
    const cop_live_options *o = &live->options;
    const cop_dialect *d = o->dialect;
    uint64_t more = o->max_tokens;
    bool shared = !cop__live_forks(live) || d->charge == COP_CHARGE_GENERATED;
    if (shared)
        more = left_of(more, live->samples[record->sample].generated);
    if (record->n_path > 0) {
        if (d->max_path_tokens && !d->limit_cuts_after)
            more = least(more, left_of(d->max_path_tokens, record->n_said));
        if (live->policy.deadline_tokens)
            more = least(more, left_of(live->policy.deadline_tokens, record->n_said));
        more += live->n_close;
    }
    uint64_t room =
        cop_engine_max_positions(engine) - cop_engine_branch(engine, record->branch).next_position;
    cop_engine_expect(engine, record->branch, (uint32_t)least(now + more, room));
}

cop_status cop__live_end_kept(const cop_live *live, cop_engine *engine,
                              const cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    bool first = record == &live->records[live->records[record->parent].first_child];
    bool reused = d->join == COP_JOIN_REPREFILL && d->reuse == COP_REUSE_LONGEST_PREFIX && first;
    if (cop__live_stitches(d) || reused)
        return cop_engine_end(engine, record->branch, COP_END_DONE);
    return cop_engine_end_text(engine, record->branch);
}

/* ---- giving up ---- */

static bool is_given_up(cop_stop stop) {
    return stop == COP_STOP_CONFIDENCE || stop == COP_STOP_CANCELLED || stop == COP_STOP_FAILED;
}

/* Whether its block, or its problem, has something left without it. */
static bool can_go(const cop_live *live, const cop_live_record *record) {
    if (record->n_path == 0) {
        for (uint32_t i = 0; i < live->options.n_samples; i++)
            if (i != record->sample && !is_given_up(live->samples[i].stop))
                return true;
        return false;
    }
    const cop_live_record *parent = &live->records[record->parent];
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *other = &live->records[parent->first_child + i];
        if (other != record && !other->dropped)
            return true;
    }
    return false;
}

static bool runs(const cop_live *live, const cop_live_record *record) {
    return !record->withdrawn && cop__live_forks(live) == (record->n_path > 0) &&
           record->stop == COP_STOP_NONE && live->samples[record->sample].stop == COP_STOP_NONE &&
           record->n_children == 0 && !cop__live_rule_waits(live, record);
}

/* One that has said nothing yet is as good as any. */
static double score(const cop_live_record *record) {
    return record->n_said > 0 ? record->logprob_sum / record->n_said : 0;
}

cop_status cop__live_shed(cop_driver *driver, cop_engine *engine, uint32_t problem, bool *shed) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *lowest = NULL;
    (void)problem;
    COP_TRY(cop_live_prune_victim(live, engine, shed));
    for (uint32_t i = 0; i < live->n_records && !*shed; i++) {
        cop_live_record *record = &live->records[i];
        if (runs(live, record) && can_go(live, record) &&
            (!lowest || score(record) <= score(lowest)))
            lowest = record;
    }
    if (!lowest)
        return COP_OK;
    *shed = true;
    if (lowest->n_path > 0)
        return cop__live_drop_path(live, engine, lowest, COP_STOP_CANCELLED);
    return cop__live_end_sample(live, engine, lowest->sample, COP_STOP_CANCELLED);
}

/* ---- beginning anew ---- */

bool cop__live_was_heard(cop_live_record *record, cop_live_event_kind kind) {
    bool before = record->end_heard;
    if (kind != COP_LIVE_END && kind != COP_LIVE_STOP)
        return record->n_heard++ < record->n_muted;
    record->end_heard = true;
    return before;
}

/* The sample counts nothing of the record any more. */
static void take_back(cop_live *live, cop_live_record *record) {
    cop_live_sample *sample = &live->samples[record->sample];
    live->generated -= record->n_said;
    sample->generated -= record->n_said;
    sample->given -= record->n_given;
    sample->forks -= record->n_forks;
    sample->forks_refused -= record->n_refused;
    sample->paths -= record->n_path > 0;
    if (record->stop != COP_STOP_NONE) {
        sample->paths_ended--;
        sample->ill_formed_tags -= record->parser.ill_formed - record->ill_formed_before;
        sample->paths_cancelled -=
            record->stop == COP_STOP_CANCELLED || record->stop == COP_STOP_CONFIDENCE;
        record->had_ended = true;
    }
    if (record->n_heard > record->n_muted)
        record->n_muted = record->n_heard;
}

static bool stands_below(const cop_live *live, const cop_live_record *record, uint32_t above) {
    while (record->parent != UINT32_MAX && record->parent != above)
        record = &live->records[record->parent];
    return record->parent == above;
}

static void withdraw_below(cop_live *live, uint32_t above) {
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++) {
        cop_live_record *record = &live->records[i];
        if (record->withdrawn || !stands_below(live, record, above))
            continue;
        take_back(live, record);
        record->withdrawn = true;
        record->n_children = 0;
        record->stop = COP_STOP_CANCELLED; /* nobody has anything to do with it */
    }
}

static void withdraw_sample(cop_live *live, uint32_t sample) {
    withdraw_below(live, sample);
    take_back(live, &live->records[sample]);
    memset(&live->samples[sample], 0, sizeof live->samples[sample]);
}

static cop_status restart_path(cop_live *live, cop_engine *engine, uint32_t number) {
    cop_live_record *record = &live->records[number];
    cop_live_record *parent = &live->records[record->parent];
    uint32_t index = number - parent->first_child;
    withdraw_below(live, number);
    take_back(live, record);
    parent->n_finished -= record->counted;
    if (cop__live_is_async(live))
        return cop__live_async_restart(live, engine, number);
    cop__live_begin_path(live, number, parent, index, record->block);
    cop__live_program_restart(live, engine, record);
    return cop__live_open_path(live, engine, parent, index);
}

static bool may_restart(const cop_live *live, uint32_t number) {
    if (number == UINT32_MAX) /* the root */
        return cop__live_rule_may_forget(live);
    /* A sample whose workers were joined would have to open them again where it stands. */
    if (live->rule || live->shared)
        return false;
    return live->records[number].n_path == 0 || !cop__live_penalises(live) ||
           !live->options.dialect->penalty_shared;
}

bool cop__live_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask) {
    cop_live *live = (cop_live *)driver;
    const uint32_t number = cop_engine_branch(engine, branch).data;
    const bool may = may_restart(live, number);
    if (ask || !may)
        return may;
    if (number == UINT32_MAX) {
        if (cop__live_rule_forget(live) != COP_OK)
            return false;
        for (uint32_t i = 0; i < live->options.n_samples; i++)
            withdraw_sample(live, i);
        live->spent = false;
        return true;
    }
    if (live->records[number].n_path > 0)
        return restart_path(live, engine, number) == COP_OK;
    withdraw_sample(live, number);
    cop__live_begin_sample(live, number, branch);
    cop__live_program_restart(live, engine, &live->records[number]);
    cop__live_expect(live, engine, &live->records[number], 0);
    return true;
}

/* A parent that began anew opens its blocks in the order in which it did before, and the records of
 * each stand side by side. */
bool cop__live_find_records(const cop_live *live, const cop_live_record *parent, uint32_t items,
                            uint32_t *first, bool *again) {
    const uint32_t number = (uint32_t)(parent - live->records);
    uint32_t i = live->options.n_samples, n = 0;
    while (i < live->n_records &&
           !(live->records[i].withdrawn && live->records[i].parent == number))
        i++;
    const cop_live_record *block = &live->records[i];
    while (i + n < live->n_records && block[n].withdrawn && block[n].parent == number &&
           block[n].block == block[0].block)
        n++;
    *again = n == items && n > 0;
    *first = *again ? i : live->n_records;
    return *again || items <= live->options.max_branches - live->n_records;
}

uint32_t cop__live_next_block(const cop_live *live, uint32_t sample) {
    uint32_t next = 0;
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++) {
        const cop_live_record *record = &live->records[i];
        if (record->sample == sample && record->block >= next)
            next = record->block + 1;
    }
    return next;
}
