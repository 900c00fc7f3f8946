/* Who runs next; blocks that come and go; deadlocks; launches. */
#include "emulate/world.h"

#include <algorithm>

uint64_t emu_random(emu_world &world) { /* splitmix64 */
    uint64_t z = world.random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* The first ready thread at `from` or above it, cyclically. The block has one. */
static uint32_t ready_upwards(const emu_block *block, uint32_t from) {
    const uint32_t words = (block->threads + 63) / 64;
    uint32_t w = from / 64 % words;
    uint64_t bits = block->ready[w] & ~0ull << from % 64;
    while (!bits) {
        w = w + 1 == words ? 0 : w + 1;
        bits = block->ready[w];
    }
    return w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits));
}

static uint32_t ready_downwards(const emu_block *block, uint32_t from) {
    const uint32_t words = (block->threads + 63) / 64;
    uint32_t w = from / 64;
    uint64_t bits = block->ready[w] & ~0ull >> (63 - from % 64);
    while (!bits) {
        w = w == 0 ? words - 1 : w - 1;
        bits = block->ready[w];
    }
    return w * 64 + 63 - static_cast<uint32_t>(__builtin_clzll(bits));
}

/* Random schedules with an odd seed are greedy: a block, and within it a warp, runs as long as it
 * can, and now and then a block is put behind all others for long. Even choice hardly ever delays
 * one block by more than a few steps; this does, at the very points (atomics, fences) where it
 * matters. */
static bool greedy(const emu_world &world) {
    return world.options.schedule == EMU_RANDOM && world.options.seed % 2;
}

static emu_block *choose_favourite(emu_world &world, emu_block *current, bool stay) {
    if (current && !stay && emu_random(world) % 2)
        current->rank = ++world.last_rank;
    emu_block *best = nullptr;
    for (emu_block *block : world.resident)
        if (block->ready_count && (!best || block->rank < best->rank))
            best = block;
    return best;
}

static uint32_t choose_in_warp(emu_world &world, const emu_block *block) {
    const uint32_t first = block->cursor / EMU_WARP * EMU_WARP;
    const uint32_t lanes = static_cast<uint32_t>(block->ready[first / 64] >> first % 64);
    if (lanes)
        return first + static_cast<uint32_t>(__builtin_ctz(lanes));
    return ready_upwards(block, static_cast<uint32_t>(emu_random(world) % block->threads));
}

static emu_block *choose_block(emu_world &world, emu_block *current, bool stay) {
    if (greedy(world))
        return choose_favourite(world, current, stay);
    const uint32_t n = static_cast<uint32_t>(world.resident.size());
    const emu_schedule schedule = world.options.schedule;
    if (stay && current && current->ready_count &&
        (schedule != EMU_RANDOM || emu_random(world) % 8))
        return current;
    uint32_t slot = current ? current->slot : 0;
    if (schedule == EMU_RANDOM)
        slot = static_cast<uint32_t>(emu_random(world) % n);
    for (uint32_t i = 0; i < n; i++) {
        slot = schedule == EMU_REVERSE ? (slot ? slot : n) - 1 : slot + 1 == n ? 0 : slot + 1;
        if (world.resident[slot] && world.resident[slot]->ready_count)
            return world.resident[slot];
    }
    return nullptr;
}

/* Takes the chosen fiber from the ready ones; null when there is none. */
static emu_fiber *choose(emu_world &world, emu_block *current, bool stay) {
    if (world.ready_total == 0)
        return nullptr;
    emu_block *block = choose_block(world, current, stay);
    uint32_t thread;
    if (greedy(world))
        thread = choose_in_warp(world, block);
    else if (world.options.schedule == EMU_RANDOM)
        thread = ready_upwards(block, static_cast<uint32_t>(emu_random(world) % block->threads));
    else if (world.options.schedule == EMU_REVERSE)
        thread = ready_downwards(block, (block->cursor ? block->cursor : block->threads) - 1);
    else
        thread = ready_upwards(block, (block->cursor + 1) % block->threads);
    block->cursor = thread;
    block->ready[thread / 64] &= ~(1ull << thread % 64);
    block->ready_count--;
    world.ready_total--;
    return block->fibers[thread];
}

void emu_wake(emu_fiber *fiber) {
    emu_block *block = fiber->owner;
    block->ready[fiber->thread / 64] |= 1ull << fiber->thread % 64;
    block->ready_count++;
    emu_here().ready_total++;
}

void emu_wake_lanes(emu_block *block, uint32_t first_thread, uint32_t lanes) {
    const uint32_t n = static_cast<uint32_t>(__builtin_popcount(lanes));
    block->ready[first_thread / 64] |= static_cast<uint64_t>(lanes) << first_thread % 64;
    block->ready_count += n;
    emu_here().ready_total += n;
}

static void go_on(emu_world &world, emu_fiber *from, bool stay) {
    emu_fiber *next = choose(world, from->owner, stay);
    if (next == from)
        return;
    world.switches++;
    emu_now = next;
    emu_switch(&from->context, next ? &next->context : &world.main);
}

void emu_yield(const char *why, const char *file, int line) {
    emu_fiber *fiber = emu_running();
    emu_world &world = emu_here();
    fiber->waits_for = why;
    fiber->site = {file, line};
    emu_wake(fiber);
    go_on(world, fiber, false);
}

void emu_may_switch() {
    emu_world &world = emu_here();
    if (world.options.schedule != EMU_RANDOM || emu_random(world) & 1)
        return;
    emu_fiber *fiber = emu_running();
    emu_wake(fiber);
    go_on(world, fiber, true);
}

void emu_wait(const char *what, emu_site site) {
    emu_fiber *fiber = emu_running();
    fiber->waits_for = what;
    fiber->site = site;
    go_on(emu_here(), fiber, true);
}

void emu_leave() {
    emu_now = nullptr;
    emu_switch_for_good(&emu_here().main);
}

static void finish(emu_world &world, emu_fiber *fiber) {
    emu_block *block = fiber->owner;
    emu_warp &warp = block->warps[fiber->thread / EMU_WARP];
    if (warp.arrived)
        emu_fault(EMU_DIVERGED, warp.site.file, warp.site.line,
                  "the thread ended while lanes 0x%08x of its warp wait in %s", warp.arrived,
                  warp.what);
    if (block->barriers[0].arrived)
        emu_fault(EMU_DIVERGED, block->barriers[0].site.file, block->barriers[0].site.line,
                  "the thread ended while %u threads wait at the block's barrier",
                  block->barriers[0].arrived);
    fiber->ended = true;
    block->live--;
    emu_fiber *next = block->live ? choose(world, block, true) : nullptr;
    world.switches++;
    emu_now = next;
    emu_switch_for_good(next ? &next->context : &world.main);
}

void emu__fiber_main(void) {
    emu_world &world = emu_here();
    emu_fiber_arrived(world);
    world.work->call();
    finish(world, emu_running());
    __builtin_unreachable();
}

static void block_clear(emu_block *block) {
    block->ready_count = 0;
    block->cursor = 0;
    block->rank = 0;
    memset(block->ready, 0, sizeof block->ready);
    for (emu_barrier &barrier : block->barriers)
        barrier = emu_barrier();
    block->log.clear();
    block->own.clear();
    block->unpublished = block->fenced = block->first_unpublished = block->exchanged = 0;
}

static void warp_clear(emu_warp *warp, emu_block *block, uint32_t first) {
    warp->owner = block;
    warp->first = first;
    warp->arrived = 0;
    warp->synced = 0;
    warp->banks.clear();
}

static void block_begin(emu_world &world, uint32_t slot, uint32_t id) {
    const emu_work *work = world.work;
    emu_block *block = world.resident[slot];
    block->id = id;
    block->threads = block->live = work->threads;
    block_clear(block);
    memset(block->shared, 0xff, work->shared_bytes);
    block->shared_written.assign(
        world.options.check_uninitialised ? (work->shared_bytes + 63) / 64 : 0, 0);
    for (uint32_t w = 0; w < work->threads / EMU_WARP; w++)
        warp_clear(&block->warps[w], block, w * EMU_WARP);
    for (uint32_t t = 0; t < work->threads; t++) {
        emu_fiber *fiber = block->fibers[t];
        fiber->thread = t;
        fiber->threads = work->threads;
        fiber->block[0] = id % work->grid.x;
        fiber->block[1] = id / work->grid.x % work->grid.y;
        fiber->block[2] = id / work->grid.x / work->grid.y;
        fiber->grid[0] = work->grid.x;
        fiber->grid[1] = work->grid.y;
        fiber->grid[2] = work->grid.z;
        fiber->shared = block->shared;
        fiber->shared_bytes = static_cast<uint32_t>(work->shared_bytes);
        fiber->watched = world.options.switch_at_access || world.options.count_banks ||
                         world.options.check_uninitialised;
        fiber->copies.clear();
        fiber->group = 0;
        fiber->owner = block;
        fiber->ended = false;
        fiber->waits_for = "its start";
        fiber->site = emu_site();
        emu_fiber_start(fiber, world, t);
        emu_wake(fiber);
    }
    /* The cursor stands where the schedule's first step leads to one end of the block. */
    block->cursor = world.options.schedule == EMU_REVERSE ? 0 : work->threads - 1;
}

static void block_end(emu_world &world, emu_block *block) {
    emu_publish_all(block);
    if (world.options.count_banks)
        for (emu_warp &warp : block->warps)
            emu_bank_flush(&warp);
}

static bool blocks_make(emu_world &world, uint32_t resident) {
    const emu_work *work = world.work;
    if (!emu_fibers_reserve(world, resident * work->threads))
        return false;
    for (uint32_t slot = 0; slot < resident; slot++) {
        emu_block *block = new emu_block();
        block->slot = slot;
        block->warps.resize(work->threads / EMU_WARP);
        block->fibers.assign(world.pool.begin() + slot * work->threads,
                             world.pool.begin() + (slot + 1) * work->threads);
        world.resident.push_back(block);
        block->shared = static_cast<unsigned char *>(
            aligned_alloc(128, (work->shared_bytes + 255) / 128 * 128));
        if (!block->shared)
            return false;
    }
    return true;
}

static void blocks_free(emu_world &world) {
    for (emu_block *block : world.resident) {
        free(block->shared);
        delete block;
    }
    world.resident.clear();
}

/* Blocks start in no promised order: upwards, downwards or shuffled, as the schedule has it. */
static std::vector<uint32_t> start_order(emu_world &world, uint32_t n) {
    std::vector<uint32_t> order(n);
    for (uint32_t i = 0; i < n; i++)
        order[i] = world.options.schedule == EMU_REVERSE ? n - 1 - i : i;
    if (world.options.schedule == EMU_RANDOM)
        for (uint32_t i = n; i > 1; i--)
            std::swap(order[i - 1], order[emu_random(world) % i]);
    return order;
}

static void report_deadlock(emu_world &world) {
    emu_complain(world, EMU_DEADLOCK, "kernel %s: no thread can go on", world.work->name);
    for (const emu_block *block : world.resident)
        for (uint32_t t = 0; block->live && t < block->threads;) {
            const emu_fiber *first = block->fibers[t];
            uint32_t end = t + 1;
            while (end < block->threads && block->fibers[end]->ended == first->ended &&
                   block->fibers[end]->waits_for == first->waits_for &&
                   block->fibers[end]->site == first->site)
                end++;
            if (!first->ended)
                emu_complain_more(world, "; block %u: threads %u-%u wait for %s at %s:%d",
                                  block->id, t, end - 1, first->waits_for, first->site.file,
                                  first->site.line);
            else
                emu_complain_more(world, "; block %u: threads %u-%u have ended", block->id, t,
                                  end - 1);
            t = end;
        }
}

static void run_blocks(emu_world &world, const std::vector<uint32_t> &order) {
    size_t next = 0;
    uint32_t alive = 0;
    std::vector<bool> started(world.resident.size(), false);
    while (!world.failed) {
        for (uint32_t slot = 0; slot < world.resident.size(); slot++) {
            if (started[slot] && world.resident[slot]->live)
                continue;
            if (started[slot]) {
                block_end(world, world.resident[slot]);
                started[slot] = false;
                alive--;
            }
            if (next < order.size()) {
                block_begin(world, slot, order[next++]);
                started[slot] = true;
                alive++;
            }
        }
        if (!alive)
            return;
        emu_fiber *fiber = choose(world, nullptr, false);
        if (!fiber) {
            report_deadlock(world);
            world.failed = true;
            return;
        }
        world.switches++;
        emu_now = fiber;
        emu_switch(&world.main, &fiber->context);
    }
}

int emu_run(emu_world &world, emu_work *work) {
    if (world.work) {
        emu_complain(world, EMU_BAD_LAUNCH, "kernel %s: launched from inside %s", work->name,
                     world.work->name);
        return 1;
    }
    const uint64_t blocks = static_cast<uint64_t>(work->grid.x) * work->grid.y * work->grid.z;
    uint64_t resident = world.options.resident_blocks ? world.options.resident_blocks : 4;
    resident = std::min(resident, blocks);
    world.report.error = EMU_OK;
    world.report.text[0] = 0;
    world.work = work;
    world.failed = false;
    world.ready_total = 0;
    world.random = world.options.seed * 2 + 1;
    world.last_rank = 0;
    world.launches[work->name]++;
    emu_launch_begin_memory(world);
    int error = 0;
    if (blocks_make(world, static_cast<uint32_t>(resident))) {
        run_blocks(world, start_order(world, static_cast<uint32_t>(blocks)));
    } else {
        emu_complain(world, EMU_BAD_LAUNCH, "kernel %s: no memory for %u stacks", work->name,
                     static_cast<uint32_t>(resident) * work->threads);
        error = 2; /* cudaErrorMemoryAllocation */
    }
    blocks_free(world);
    world.work = nullptr;
    emu_now = nullptr;
    return world.failed ? 719 : error; /* cudaErrorLaunchFailure */
}
