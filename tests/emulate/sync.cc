/* Barriers and warp collectives.
 *
 * A collective is gathered: each lane leaves its arguments and sleeps, the last one runs the whole
 * warp's operation on all of them, wakes the others and goes on. Arguments live on the lanes'
 * stacks, which stand still meanwhile. */
#include "emulate/collective.h"

void emu_collective(void (*run)(emu_warp *), const char *what, void *argument, const char *file,
                    int line) {
    emu_fiber *fiber = emu_running();
    emu_warp *warp = &fiber->owner->warps[fiber->thread / EMU_WARP];
    const uint32_t lane = fiber->thread % EMU_WARP;
    const emu_site site = {file, line};
    if (warp->arrived && (warp->run != run || warp->what != what || !(warp->site == site)))
        emu_fault(EMU_DIVERGED, file, line,
                  "lane %u is at %s while lanes 0x%08x of its warp wait in %s at %s:%d", lane, what,
                  warp->arrived, warp->what, warp->site.file, warp->site.line);
    warp->run = run;
    warp->what = what;
    warp->site = site;
    warp->arguments[lane] = argument;
    warp->arrived |= 1u << lane;
    if (warp->arrived != 0xffffffffu) {
        emu_wait(what, site);
        return;
    }
    warp->arrived = 0;
    run(warp);
    if (emu_here().options.count_banks)
        emu_bank_flush(warp);
    emu_wake_lanes(fiber->owner, warp->first, ~(1u << lane));
    emu_may_switch();
}

struct shuffle {
    emu_shuffle_mode mode;
    uint32_t value, argument, result;
};

static void run_shuffle(emu_warp *warp) {
    for (uint32_t lane = 0; lane < EMU_WARP; lane++) {
        shuffle *own = static_cast<shuffle *>(warp->arguments[lane]);
        uint32_t from = lane;
        if (own->mode == EMU_SHUFFLE_XOR)
            from = lane ^ own->argument;
        else if (own->mode == EMU_SHUFFLE_INDEX)
            from = own->argument % EMU_WARP;
        else if (own->mode == EMU_SHUFFLE_DOWN)
            from = lane + own->argument;
        else
            from = lane - own->argument;
        /* Beyond the warp a lane keeps its own value; below it, `from` has wrapped. */
        const shuffle *source =
            static_cast<shuffle *>(warp->arguments[from < EMU_WARP ? from : lane]);
        own->result = source->value;
    }
}

uint32_t emu_shuffle(emu_shuffle_mode mode, uint32_t value, uint32_t argument, const char *file,
                     int line) {
    shuffle own = {mode, value, argument, 0};
    emu_collective(run_shuffle, "a shuffle", &own, file, line);
    return own.result;
}

struct vote {
    bool predicate;
    uint32_t result;
};

static void run_vote(emu_warp *warp) {
    uint32_t lanes = 0;
    for (uint32_t lane = 0; lane < EMU_WARP; lane++)
        lanes |= static_cast<uint32_t>(static_cast<vote *>(warp->arguments[lane])->predicate)
                 << lane;
    for (uint32_t lane = 0; lane < EMU_WARP; lane++)
        static_cast<vote *>(warp->arguments[lane])->result = lanes;
}

uint32_t emu_ballot(bool predicate, const char *file, int line) {
    vote own = {predicate, 0};
    emu_collective(run_vote, "a vote", &own, file, line);
    return own.result;
}

static void run_sync_warp(emu_warp *warp) {
    emu_exchange_warp(warp->owner, warp);
}

void emu_sync_warp(const char *file, int line) {
    emu_collective(run_sync_warp, "cop_sync_warp", nullptr, file, line);
}

static const char *const barrier_names[EMU_BARRIERS] = {
    "the block's barrier", "barrier 1",  "barrier 2",  "barrier 3", "barrier 4",  "barrier 5",
    "barrier 6",           "barrier 7",  "barrier 8",  "barrier 9", "barrier 10", "barrier 11",
    "barrier 12",          "barrier 13", "barrier 14", "barrier 15"};

static void check_converged(const emu_fiber *fiber, const char *name, const char *file, int line) {
    const emu_warp &warp = fiber->owner->warps[fiber->thread / EMU_WARP];
    if (warp.arrived)
        emu_fault(EMU_DIVERGED, file, line,
                  "the thread is at %s while lanes 0x%08x of its warp wait in %s at %s:%d", name,
                  warp.arrived, warp.what, warp.site.file, warp.site.line);
}

/* Everyone is there: wakes those who wait, and resets the barrier for its next use. */
static void release(emu_block *block, uint32_t id, const emu_fiber *last) {
    emu_barrier *barrier = &block->barriers[id];
    emu_exchange(block, barrier->warps, id == 0);
    if (emu_here().options.count_banks)
        for (emu_warp &warp : block->warps)
            if (barrier->warps >> warp.first / EMU_WARP & 1)
                emu_bank_flush(&warp);
    for (uint32_t w = 0; w < (block->threads + 63) / 64; w++)
        for (uint64_t bits = barrier->waiting[w]; bits; bits &= bits - 1) {
            const uint32_t thread = w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits));
            if (thread != last->thread)
                emu_wake(block->fibers[thread]);
        }
    *barrier = emu_barrier();
    emu_may_switch();
}

static void arrive(uint32_t id, uint32_t expected, bool waits, const char *file, int line) {
    emu_fiber *fiber = emu_running();
    emu_block *block = fiber->owner;
    emu_barrier *barrier = &block->barriers[id];
    check_converged(fiber, barrier_names[id], file, line);
    if (barrier->arrived && barrier->expected != expected)
        emu_fault(EMU_BAD_BARRIER, file, line,
                  "%s is asked for %u threads here and for %u at %s:%d", barrier_names[id],
                  expected, barrier->expected, barrier->site.file, barrier->site.line);
    barrier->expected = expected;
    barrier->site = {file, line};
    barrier->warps |= 1u << fiber->thread / EMU_WARP;
    barrier->arrived++;
    if (waits)
        barrier->waiting[fiber->thread / 64] |= 1ull << fiber->thread % 64;
    if (barrier->arrived == expected)
        release(block, id, fiber);
    else if (waits)
        emu_wait(barrier_names[id], barrier->site);
}

void emu_sync_block(const char *file, int line) {
    emu_block *block = emu_running()->owner;
    const emu_barrier *barrier = &block->barriers[0];
    if (block->live != block->threads)
        emu_fault(EMU_DIVERGED, file, line,
                  "the thread is at the block's barrier, and %u have ended",
                  block->threads - block->live);
    if (barrier->arrived && !(barrier->site == emu_site{file, line}))
        emu_fault(EMU_DIVERGED, file, line,
                  "the thread is at the block's barrier here, others wait at %s:%d",
                  barrier->site.file, barrier->site.line);
    arrive(0, block->threads, true, file, line);
}

static void check_named(uint32_t threads, const char *file, int line) {
    const uint32_t all = emu_running()->threads;
    if (threads == 0 || threads % EMU_WARP || threads > all)
        emu_fault(
            EMU_BAD_BARRIER, file, line,
            "a named barrier of %u threads: it takes a multiple of 32, at most the block's %u",
            threads, all);
}

void emu_sync_named(uint32_t id, uint32_t threads, const char *file, int line) {
    check_named(threads, file, line);
    arrive(id, threads, true, file, line);
}

void emu_arrive_named(uint32_t id, uint32_t threads, const char *file, int line) {
    check_named(threads, file, line);
    arrive(id, threads, false, file, line);
}
