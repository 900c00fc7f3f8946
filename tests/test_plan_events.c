/* What an event costs the plan does not grow with the branches that it does not concern: counted in
 * the bytes that a copy of the tables is sent and in tiles written, never by the clock (that is
 * bench/event_bench.c), over the benchmark's world. */
#include "check.h"

#include "../bench/event_world.h"
#include "base/memory.h"

enum { CYCLES = 60 };

typedef struct cost {
    uint32_t bytes[EVENT_KINDS]; /* of the most expensive event of a kind */
    uint64_t tiles;              /* written for the most expensive one of all */
} cost;

static uint32_t bytes_of(event_bytes b) {
    return 4 * b.words + 16 * b.records;
}

/* The step with the event, and the one after it: what was prefilled gets rows and a place. */
static uint32_t event_cost(event_world *w, event_kind kind) {
    uint32_t bytes = 0;
    CHECK_OK(event_world_step(w, kind));
    bytes += bytes_of(event_world_bytes(w));
    CHECK_OK(event_world_step(w, EVENT_NONE));
    return bytes + bytes_of(event_world_bytes(w));
}

static void check_steady(event_world *w, uint32_t steps) {
    const uint64_t unchanged = event_world_stats(w).steps_unchanged;
    for (uint32_t i = 0; i < steps; i++) {
        CHECK_OK(event_world_step(w, EVENT_NONE));
        CHECK_EQ(bytes_of(event_world_bytes(w)), 0);
    }
    CHECK_EQ(event_world_stats(w).steps_unchanged - unchanged, steps);
}

static cost run_world(uint32_t live, uint32_t tile_slots, uint32_t cycles) {
    event_world *w;
    cost most = {0};
    CHECK_OK(event_world_create(live, tile_slots, &w));
    CHECK_OK(event_world_check(w));
    const uint64_t allocations = cop_memory_count();
    const cop_plan_stats before = event_world_stats(w);
    for (uint32_t cycle = 0; cycle < cycles; cycle++) {
        for (uint32_t i = 0; i < EVENT_CYCLE; i++) {
            const uint64_t tiles = event_world_stats(w).tiles_rewritten;
            const uint32_t bytes = event_cost(w, event_cycle[i]);
            const uint64_t written = event_world_stats(w).tiles_rewritten - tiles;
            if (bytes > most.bytes[event_cycle[i]])
                most.bytes[event_cycle[i]] = bytes;
            if (written > most.tiles)
                most.tiles = written;
        }
        check_steady(w, 10);
        CHECK_OK(event_world_settle(w));
    }
    CHECK_OK(event_world_check(w));
    /* Slots that the search for a better tiling looked at, for each event. */
    const uint64_t searched = event_world_stats(w).tilings_searched - before.tilings_searched;
    CHECK(searched * live <= 16ull * cycles * EVENT_CYCLE);
    CHECK_EQ(event_world_stats(w).rebuilds, before.rebuilds);
    CHECK_EQ(event_world_stats(w).entries_moved, before.entries_moved);
    CHECK_EQ(event_world_stats(w).changes_whole, before.changes_whole);
    CHECK_EQ(cop_memory_count(), allocations);
    event_world_destroy(w);
    return most;
}

static void test_an_event_costs_the_same_among_many(void) {
    const uint32_t cycles = check_effort(CYCLES, 10), width[] = {1, 16, 64};
    for (uint32_t i = 0; i < 3; i++) {
        const cost few = run_world(64, width[i], cycles);
        for (uint32_t live = 512; live <= 4096; live *= 8) {
            const cost many = run_world(live, width[i], live == 512 ? cycles : 10);
            printf("  tiles of %2u, %4u live:", width[i], live);
            for (uint32_t kind = EVENT_FORK; kind < EVENT_KINDS; kind++) {
                printf(" %s %u B (%u)", event_kind_name((event_kind)kind), many.bytes[kind],
                       few.bytes[kind]);
                CHECK(many.bytes[kind] > 0);
                CHECK(many.bytes[kind] <= few.bytes[kind] + few.bytes[kind] / 4);
            }
            printf("; %" PRIu64 " tiles (%" PRIu64 ")\n", many.tiles, few.tiles);
            CHECK(many.tiles <= few.tiles && many.tiles > 0);
        }
    }
}

int main(void) {
    RUN(test_an_event_costs_the_same_among_many);
    return check_report();
}
