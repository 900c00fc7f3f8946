/* Inside the emulation: fibers, warps, blocks, and the world that one host thread owns.
 *
 * Control is always either in `main` (the context that called cop_launch) or in one fiber. A fiber
 * that waits picks the next ready one and switches to it directly; only when no fiber is ready, a
 * block has ended or a fault was recorded does control return to `main` (schedule.cc), which starts
 * blocks, ends the launch or reports a deadlock. Fibers of a faulted launch are abandoned where
 * they stand: kernels own nothing that needs destroying.
 */
#pragma once

#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "emulate/lines.h"
#include "emulate/twin.h"

enum { EMU_WARP = 32, EMU_BARRIERS = 16, EMU_THREADS_MAX = 1024, EMU_PAGE = 4096 };

struct emu_block;
struct emu_fiber;

struct emu_site {
    const char *file = "";
    int line = 0;
    bool operator==(const emu_site &other) const {
        return line == other.line && (file == other.file || !strcmp(file, other.file));
    }
};

struct emu_context { /* where a stack was left */
    void *stack_pointer = nullptr;
    void *fake_stack = nullptr; /* AddressSanitizer's */
    const void *bottom = nullptr;
    size_t bytes = 0;
};

struct emu_copy {
    unsigned char *to;
    const unsigned char *from;
    uint32_t bytes;
    uint32_t group;
};

struct emu_fiber : emu_lane {
    emu_context context;
    emu_block *owner = nullptr;
    bool ended = true;
    const char *waits_for = "";
    emu_site site;
    std::vector<emu_copy> copies; /* issued, not yet done; lazy only */
    uint32_t group = 0;           /* of copies issued now */
};

struct emu_bank_site { /* the accesses of a warp from one place, until its lanes meet again */
    emu_site site;
    uint32_t bytes;
    uint16_t occurrence[EMU_WARP];
    struct request {
        uint32_t lanes;
        uint32_t at[EMU_WARP];
    };
    std::vector<request> requests;
};

struct emu_warp {
    emu_block *owner = nullptr;
    uint32_t first = 0;   /* thread */
    uint32_t arrived = 0; /* lanes in the collective that is being gathered */
    void (*run)(emu_warp *warp) = nullptr;
    const char *what = "";
    emu_site site;
    void *arguments[EMU_WARP];
    uint32_t synced = 0; /* entries of the block's log that this warp's lanes have exchanged */
    std::vector<emu_bank_site> banks;
};

struct emu_barrier {
    uint32_t arrived = 0, expected = 0;
    uint32_t warps = 0; /* whose threads arrived or wait: what they stored is exchanged */
    emu_site site;
    uint64_t waiting[EMU_THREADS_MAX / 64] = {};
};

struct emu_stored { /* one store that other blocks may not see yet */
    unsigned char *to;
    unsigned char data[16];
    uint32_t thread;
    uint32_t seen; /* by these warps, through barriers */
    uint8_t bytes;
    bool fenced, published;
};

struct emu_latest { /* of the bytes of a line: the log's entry that holds its value, plus one */
    uint32_t entry[EMU_LINE];
};

struct emu_block {
    uint32_t id = 0;   /* linear */
    uint32_t slot = 0; /* of residency */
    uint32_t threads = 0, live = 0, ready_count = 0;
    uint32_t cursor = 0; /* the thread that ran last */
    uint64_t rank = 0;   /* of greedy schedules; the lowest runs first */
    uint64_t ready[EMU_THREADS_MAX / 64] = {};
    std::vector<emu_fiber *> fibers;
    std::vector<emu_warp> warps;
    emu_barrier barriers[EMU_BARRIERS];
    unsigned char *shared = nullptr;
    std::vector<uint64_t> shared_written; /* one bit a byte; check_uninitialised only */
    std::vector<emu_stored> log;
    uint32_t unpublished = 0, fenced = 0, first_unpublished = 0;
    uint32_t exchanged = 0; /* log entries that a barrier of the whole block has passed */
    emu_lines<emu_latest> own;
};

struct emu_buffer {
    unsigned char *base;
    size_t bytes;
    std::string name;
    emu_kind kind;
    bool owned;
    emu_buffer_counts counts = {};
    uint64_t *loaded = nullptr, *stored = nullptr; /* a bit a byte, of this launch */
    uint64_t *atomic = nullptr;                    /* the same, of atomics */
    uint64_t *written = nullptr;                   /* a bit a byte, ever; emu_remember_written */
    bool touched = false;
    bool retired = false;
    const unsigned char *touched_begin = nullptr, *touched_end = nullptr; /* in this launch */
};

struct emu_origin { /* a line that this launch changed */
    unsigned char before[EMU_LINE];
    uint32_t writer[EMU_LINE]; /* block id plus one of the last one; 0: unchanged */
};

struct emu_world {
    emu_options options = {};
    emu_report_text report = {};
    std::vector<emu_buffer *> buffers; /* by address */
    emu_buffer *recent = nullptr;
    std::map<std::string, emu_buffer_counts> former; /* counts of unregistered buffers */
    std::map<std::string, uint64_t> launches;
    emu_bank_counts banks = {};
    std::map<std::pair<std::string, int>, uint64_t> bank_sites;
    uint64_t switches = 0, products = 0;
    emu_stream_hook *hook = nullptr;
    void *hook_user = nullptr;

    std::vector<emu_fiber *> pool; /* with their stacks */
    size_t pool_stack_bytes = 0;
    uint32_t pool_used = 0;

    emu_work *work = nullptr; /* the launch under way */
    emu_context main;
    bool failed = false;
    uint64_t random = 0, last_rank = 0;
    std::vector<emu_block *> resident;
    uint64_t ready_total = 0;
    emu_lines<emu_origin> changed;
};

extern __thread emu_world *emu_current; /* of this host thread; null until its first use */
emu_world &emu_make_world();

static inline emu_world &emu_here() {
    return __builtin_expect(emu_current != nullptr, 1) ? *emu_current : emu_make_world();
}

/* Fiber.cc. */

bool emu_fibers_reserve(emu_world &world, uint32_t n);
void emu_fiber_start(emu_fiber *fiber, emu_world &world, uint32_t index);
void emu_switch(emu_context *from, emu_context *to);
[[noreturn]] void emu_switch_for_good(emu_context *to);
/* A fiber's first words. */
void emu_fiber_arrived(emu_world &world);
void emu_fibers_free(emu_world &world);
extern "C" [[noreturn]] void emu__fiber_main(void);

/* Schedule.cc. */

/* Leaves the running fiber ready and lets the schedule choose, among other blocks too. */
void emu_yield(const char *why, const char *file, int line);
/* Sleeps until emu_wake. */
void emu_wait(const char *what, emu_site site);
void emu_wake(emu_fiber *fiber);
/* `lanes`: a bit for each thread of a warp, the running one's not among them. */
void emu_wake_lanes(emu_block *block, uint32_t first_thread, uint32_t lanes);
/* At a point where the running fiber could go on: a random schedule may prefer another one. */
void emu_may_switch();
[[noreturn]] void emu_leave(); /* to main, for good */
int emu_run(emu_world &world, emu_work *work);
uint64_t emu_random(emu_world &world);

static inline emu_fiber *emu_running() {
    return static_cast<emu_fiber *>(emu_now);
}

/* Report.cc. */

/* Records a fault of the running fiber and leaves it for good. */
[[noreturn]] __attribute__((format(printf, 4, 5))) void
emu_fault(emu_error error, const char *file, int line, const char *format, ...);
__attribute__((format(printf, 3, 4))) void emu_complain(emu_world &world, emu_error error,
                                                        const char *format, ...);
void emu_complain_more(emu_world &world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Memory.cc, store.cc. */

emu_buffer *emu_find(const void *p, uint32_t bytes, const char *doing, const char *file, int line);
void emu_touch(emu_buffer *buffer, const unsigned char *p, uint32_t bytes, emu_access access);
/* The same for atomics, which have a count of their own. */
void emu_touch_atomic(emu_buffer *buffer, const unsigned char *p, uint32_t bytes);
size_t emu_bitmap_bytes(const emu_buffer *buffer);
void emu_launch_begin_memory(emu_world &world);
void emu_publish_all(emu_block *block);
/* Stores that this block made to these bytes and has not published reach memory now. */
void emu_publish_overlap(emu_block *block, const unsigned char *p, uint32_t bytes);
/* What a load past L1 gives: memory with the block's own stores on top. */
void emu_read_l2(emu_block *block, unsigned char *out, const unsigned char *p, uint32_t bytes);
/* At a barrier: what the threads of `warps` stored is known to all of them. */
void emu_exchange(emu_block *block, uint32_t warps, bool whole_block);
void emu_exchange_warp(emu_block *block, emu_warp *warp);

/* emu_shared_watch without the count of banks: ldmatrix counts its own request. */
void emu_shared_watch_row(const void *p, uint32_t bytes, emu_access access, const char *file,
                          int line);

/* Banks.cc. */

void emu_bank_access(emu_fiber *fiber, const void *p, uint32_t bytes, const char *file, int line);
void emu_bank_flush(emu_warp *warp);
void emu_bank_request(emu_world &world, const uint32_t *at, uint32_t lanes, uint32_t bytes,
                      const emu_site &site);
