#include "kv/plan_internal.h"

void cop__partials_touch(cop_plan *plan, uint32_t slot) {
    if (plan->partials[slot].touched)
        return;
    plan->partials[slot].touched = true;
    plan->touched[plan->n_touched++] = slot;
}

static uint32_t wanted(const cop_plan *plan, uint32_t slot) {
    const cop_slot *s = &plan->slots[slot];
    return s->row >= 0 && s->n_partials > 1 ? s->n_partials : 0;
}

static bool holds(const cop_plan *plan, uint32_t slot) {
    const cop__plan_partials *p = &plan->partials[slot];
    return p->held == plan->slots[slot].n_partials && p->era == plan->partials_era;
}

/* Counts the slot as it is now, and keeps the list of those that hold partials. */
static void count(cop_plan *plan, uint32_t slot) {
    cop__plan_partials *p = &plan->partials[slot];
    const uint32_t want = wanted(plan, slot);
    plan->partials_live += (uint64_t)want - p->counted; /* two's complement */
    if (want && p->counted == 0) {
        p->at = plan->n_holders;
        plan->holders[plan->n_holders++] = slot;
    } else if (want == 0 && p->counted) {
        const uint32_t last = plan->holders[--plan->n_holders];
        plan->holders[p->at] = last;
        plan->partials[last].at = p->at;
    }
    p->counted = want;
}

static void place(cop_plan *plan, uint32_t slot) {
    cop_slot *s = &plan->slots[slot];
    if (s->first_partial != plan->partials_end)
        cop__change(plan, COP_TABLE_SLOTS, slot, 1);
    s->first_partial = plan->partials_end;
    plan->partials[slot].held = s->n_partials;
    plan->partials[slot].era = plan->partials_era;
    plan->partials_end += s->n_partials;
}

static void place_prefill(cop_plan *plan) {
    plan->n_partials = plan->partials_end;
    for (uint32_t i = 0; i < plan->n_prefill_slots; i++) {
        cop_slot *s = &plan->slots[plan->slots_end + i];
        if (s->n_partials < 2)
            continue;
        s->first_partial = plan->n_partials; /* the slot is listed already, as any of this step */
        plan->n_partials += s->n_partials;
    }
}

cop_status cop__partials_place(cop_plan *plan) {
    uint64_t fresh = 0, prefill = 0;
    for (uint32_t i = 0; i < plan->n_touched; i++) {
        const uint32_t slot = plan->touched[i];
        count(plan, slot);
        fresh += holds(plan, slot) ? 0 : plan->partials[slot].counted;
    }
    for (uint32_t i = 0; i < plan->n_prefill_slots; i++) {
        const uint32_t n = plan->slots[plan->slots_end + i].n_partials;
        prefill += n > 1 ? n : 0;
    }
    const uint64_t live = plan->partials_live;
    if (live + prefill > plan->options.max_partials)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "the step needs %llu attention partials, at most %u; raise max_partials or "
                        "chunk_tokens",
                        (unsigned long long)(live + prefill), plan->options.max_partials);

    if (live == 0 || plan->partials_end + fresh > 2 * live + 64 ||
        plan->partials_end + fresh + prefill > plan->options.max_partials) {
        plan->partials_end = 0;
        plan->partials_era++;
        plan->stats.partials_moved += plan->n_holders > 0;
        for (uint32_t i = 0; i < plan->n_holders; i++)
            place(plan, plan->holders[i]);
    }
    while (plan->n_touched) {
        const uint32_t slot = plan->touched[--plan->n_touched];
        plan->partials[slot].touched = false;
        if (plan->partials[slot].counted && !holds(plan, slot))
            place(plan, slot);
    }
    place_prefill(plan);
    return COP_OK;
}
