/* The world of a thread, its options, reports and counts; mutants; the way into a launch. */
#include "emulate/world.h"

#include <cstdio>

__thread emu_lane *emu_now;

namespace {
struct owner { /* frees the world when its thread ends */
    emu_world *world = nullptr;
    ~owner() {
        if (!world)
            return;
        emu_forget_all();
        emu_fibers_free(*world);
        delete world;
        emu_current = nullptr;
    }
};
} // namespace

__thread emu_world *emu_current;

emu_world &emu_make_world() {
    static thread_local owner mine;
    emu_current = mine.world = new emu_world();
    return *emu_current;
}

void emu_set_options(const emu_options *options) {
    emu_here().options = options ? *options : emu_options{};
}

emu_options emu_get_options(void) {
    return emu_here().options;
}

void emu_vary(uint32_t i) {
    emu_options &options = emu_here().options;
    options.copies = i % 2 ? EMU_LAZY : EMU_EAGER;
    options.schedule = i / 2 == 0 ? EMU_ROUND_ROBIN : i / 2 == 1 ? EMU_REVERSE : EMU_RANDOM;
    options.seed = i / 2;
}

const char *emu_error_name(emu_error error) {
    static const char *const names[] = {
        "ok",       "bad launch",  "out of bounds",        "misaligned", "read only",   "diverged",
        "deadlock", "bad barrier", "uninitialised memory", "bad buffer", "freed memory"};
    return names[error];
}

const emu_report_text *emu_report(void) {
    return &emu_here().report;
}

static void append(emu_world &world, const char *format, va_list arguments) {
    const size_t used = strlen(world.report.text);
    vsnprintf(world.report.text + used, sizeof world.report.text - used, format, arguments);
}

void emu_complain(emu_world &world, emu_error error, const char *format, ...) {
    world.report.error = error;
    world.report.errors++;
    snprintf(world.report.text, sizeof world.report.text, "%s: ", emu_error_name(error));
    va_list arguments;
    va_start(arguments, format);
    append(world, format, arguments);
    va_end(arguments);
}

void emu_complain_more(emu_world &world, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append(world, format, arguments);
    va_end(arguments);
}

[[noreturn]] static void fault(const emu_fiber *fiber, emu_error error, const char *file, int line,
                               const char *format, va_list arguments) {
    emu_world &world = emu_here();
    emu_complain(world, error,
                 "kernel %s, block (%u, %u, %u), thread %u, %s:%d: ", world.work->name,
                 fiber->block[0], fiber->block[1], fiber->block[2], fiber->thread, file, line);
    append(world, format, arguments);
    world.failed = true;
    emu_leave();
}

void emu_fault(emu_error error, const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fault(emu_running(), error, file, line, format, arguments);
}

void emu_shared_fault(const void *p, uint32_t bytes, emu_access access, const char *file,
                      int line) {
    const emu_lane *now = emu_now;
    const ptrdiff_t at = static_cast<const unsigned char *>(p) - now->shared;
    emu_fault(at % static_cast<ptrdiff_t>(bytes) ? EMU_MISALIGNED : EMU_OUT_OF_BOUNDS, file, line,
              "%s of %u bytes at byte %td of %u of shared memory",
              access == EMU_READ ? "load" : "store", bytes, at, now->shared_bytes);
}

static void check_written(const emu_fiber *fiber, uint64_t at, uint32_t bytes, emu_access access,
                          const char *file, int line) {
    uint64_t &word = fiber->owner->shared_written[at / 64];
    const uint64_t mask = ((1ull << bytes) - 1) << at % 64;
    if (access == EMU_WRITE)
        word |= mask;
    else if (~word & mask)
        emu_fault(EMU_UNINITIALISED, file, line,
                  "load of %u bytes at byte %zu of shared memory, which nobody wrote", bytes,
                  static_cast<size_t>(at));
}

void emu_shared_watch_row(const void *p, uint32_t bytes, emu_access access, const char *file,
                          int line) {
    const emu_options &options = emu_here().options;
    const emu_fiber *fiber = emu_running();
    if (options.switch_at_access)
        emu_yield("a shared access", file, line);
    const uint64_t at =
        static_cast<uint64_t>(static_cast<const unsigned char *>(p) - fiber->shared);
    if (options.check_uninitialised)
        check_written(fiber, at, bytes, access, file, line);
}

void emu_shared_watch(const void *p, uint32_t bytes, emu_access access, const char *file,
                      int line) {
    emu_shared_watch_row(p, bytes, access, file, line);
    if (emu_here().options.count_banks)
        emu_bank_access(emu_running(), p, bytes, file, line);
}

void emu_reset_counts(void) {
    emu_world &world = emu_here();
    for (auto &entry : world.former)
        entry.second = emu_buffer_counts{};
    for (emu_buffer *buffer : world.buffers)
        buffer->counts = emu_buffer_counts{};
    world.launches.clear();
    world.banks = emu_bank_counts{};
    world.bank_sites.clear();
    world.switches = world.products = 0;
    world.report.errors = 0;
}

uint64_t emu_launches(const char *kernel) {
    uint64_t n = 0;
    for (const auto &entry : emu_here().launches) {
        std::string name = entry.first;
        name.erase(0, name.find_first_not_of("( "));
        if (!kernel || name.substr(0, name.find_last_not_of(") ") + 1) == kernel ||
            name.substr(0, name.find_first_of("< )")) == kernel)
            n += entry.second;
    }
    return n;
}

emu_bank_counts emu_banks(void) {
    return emu_here().banks;
}

uint64_t emu_switches(void) {
    return emu_here().switches;
}

uint64_t emu_mma_count(void) {
    return emu_here().products;
}

static emu_mutant *&mutants_head() {
    static emu_mutant *head = nullptr;
    return head;
}

emu_mutant::emu_mutant(const char *name_, const char *text_)
    : name(name_), text(text_), on(false), next(mutants_head()) {
    mutants_head() = this;
}

/* A header that several sources include declares its mutants once each; the first counts. */
static bool is_first_of_name(const emu_mutant *mutant) {
    for (const emu_mutant *other = mutants_head(); other != mutant; other = other->next)
        if (!strcmp(other->name, mutant->name))
            return false;
    return true;
}

static const emu_mutant *mutant_at(uint32_t i) {
    for (const emu_mutant *mutant = mutants_head(); mutant; mutant = mutant->next)
        if (is_first_of_name(mutant) && i-- == 0)
            return mutant;
    return nullptr;
}

uint32_t emu_mutants(void) {
    uint32_t n = 0;
    while (mutant_at(n))
        n++;
    return n;
}

const char *emu_mutant_name(uint32_t i) {
    const emu_mutant *mutant = mutant_at(i);
    return mutant ? mutant->name : nullptr;
}

const char *emu_mutant_text(uint32_t i) {
    const emu_mutant *mutant = mutant_at(i);
    return mutant ? mutant->text : nullptr;
}

bool emu_mutant_select(const char *name) {
    bool found = name == nullptr;
    for (emu_mutant *mutant = mutants_head(); mutant; mutant = mutant->next) {
        mutant->on = name && !strcmp(mutant->name, name);
        found |= mutant->on;
    }
    return found;
}

int emu_submit(emu_work *work, dim3 grid, uint32_t threads, size_t shared_bytes, void *stream) {
    emu_world &world = emu_here();
    work->grid = grid;
    work->threads = threads;
    work->shared_bytes = shared_bytes;
    const size_t shared_max =
        world.options.shared_bytes_max ? world.options.shared_bytes_max : 227 * 1024;
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    if (threads == 0 || threads > EMU_THREADS_MAX || threads % EMU_WARP || blocks == 0 ||
        blocks > INT32_MAX || grid.y > 65535 || grid.z > 65535 || shared_bytes > shared_max) {
        emu_complain(world, EMU_BAD_LAUNCH,
                     "kernel %s: grid (%u, %u, %u), %u threads (a multiple of 32 up to 1024), %zu "
                     "bytes of shared memory (at most %zu)",
                     work->name, grid.x, grid.y, grid.z, threads, shared_bytes, shared_max);
        delete work;
        return 9; /* cudaErrorInvalidConfiguration */
    }
    if (world.hook)
        return world.hook(world.hook_user, stream, work);
    const int error = emu_run(world, work);
    delete work;
    return error;
}

int emu_resident_blocks(uint32_t threads, size_t shared_bytes, uint32_t *blocks) {
    const emu_options &options = emu_here().options;
    const size_t shared_max = options.shared_bytes_max ? options.shared_bytes_max : 227 * 1024;
    *blocks = options.resident_blocks ? options.resident_blocks : 4;
    return threads == 0 || threads > EMU_THREADS_MAX || shared_bytes > shared_max ? 9 : 0;
}

int emu_work_run(emu_work *work) {
    return emu_run(emu_here(), work);
}

void emu_work_free(emu_work *work) {
    delete work;
}

const char *emu_work_name(const emu_work *work) {
    return work->name;
}

uint64_t emu_work_blocks(const emu_work *work) {
    return static_cast<uint64_t>(work->grid.x) * work->grid.y * work->grid.z;
}

void emu_set_stream_hook(emu_stream_hook *hook, void *user) {
    emu_here().hook = hook;
    emu_here().hook_user = user;
}
