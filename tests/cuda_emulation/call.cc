/* The frame of every call: counts, the clock, failures on purpose, errors that stay; faults; the
 * reset; what is live. */
#include "cuda_emulation/world.h"

#include <cstdio>
#include <cstdlib>

static const uint64_t CALL_NS = 1000;
enum { FAULTS_KEPT = 64 };

static std::unique_ptr<cemu_world> the_world;

static int launch_hook(void *user, void *stream, emu_work *work);

static void start(cemu_world &world) {
    world.started = true;
    world.thread = pthread_self();
    world.random = world.options.seed * 2 + 1;
    if (!world.options.device_bytes)
        world.options.device_bytes = size_t{1} << 30;
    if (!world.options.host_bytes)
        world.options.host_bytes = size_t{1} << 30;
    if (!world.options.processors)
        world.options.processors = 4;
    if (!world.options.major)
        world.options.major = 9;
    cemu_streams_start(world);
    emu_set_stream_hook(launch_hook, nullptr);
    /* So that a program that knows the runtime alone can be run over a wrong kernel. */
    const char *mutant = getenv("COPPICE_MUTANT");
    world.unknown_mutant = mutant && !emu_mutant_select(mutant);
}

cemu_world &cemu_here() {
    if (!the_world)
        the_world = std::make_unique<cemu_world>();
    if (!the_world->started)
        start(*the_world);
    return *the_world;
}

void cemu_reset(const cemu_options *options) {
    if (the_world)
        cemu_memory_reset(*the_world);
    the_world = std::make_unique<cemu_world>();
    if (options)
        the_world->options = *options;
    start(*the_world);
}

void cemu_vary(uint32_t i) {
    static const cemu_order orders[] = {CEMU_LATE,   CEMU_EAGER,  CEMU_OTHERS_FIRST,
                                        CEMU_RANDOM, CEMU_FAVOUR, CEMU_RANDOM};
    cemu_world &world = cemu_here();
    world.options.order = orders[i % 6];
    world.options.seed = i;
    world.random = i * 2 + 1;
}

uint64_t cemu_random(cemu_world &world) { /* splitmix64 */
    uint64_t z = world.random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Faults. */

const char *cemu_fault_name(cemu_fault fault) {
    static const char *const names[] = {"no fault",
#define CEMU_FAULT_TEXT(name, text) text,
                                        CEMU_FAULTS(CEMU_FAULT_TEXT)
#undef CEMU_FAULT_TEXT
    };
    return names[fault];
}

void cemu_complain(cemu_world &world, cemu_fault fault, const char *format, ...) {
    world.fault_counts[CEMU_NO_FAULT]++;
    world.fault_counts[fault]++;
    if (world.faults.size() == FAULTS_KEPT)
        return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    world.faults.emplace_back(fault, std::string(cemu_fault_name(fault)) + ": " + world.call +
                                         ": " + text);
}

uint64_t cemu_faults(cemu_fault fault) {
    return cemu_here().fault_counts[fault];
}

const char *cemu_fault_text(uint32_t i, cemu_fault *fault) {
    const cemu_world &world = cemu_here();
    if (i >= world.faults.size())
        return nullptr;
    if (fault)
        *fault = world.faults[i].first;
    return world.faults[i].second.c_str();
}

void cemu_clear_faults(void) {
    cemu_world &world = cemu_here();
    world.faults.clear();
    memset(world.fault_counts, 0, sizeof world.fault_counts);
}

/* Errors. */

bool cemu_stays(int error) {
    switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
        return true;
    default:
        return false;
    }
}

void cemu_break(cemu_world &world, int error) {
    world.sticky = error;
    world.last_error = error;
    cemu_drop_queues(world);
}

/* What each call fails with when nothing else is asked for. */
static int usual_error(const char *name) {
    static const struct {
        const char *part;
        int error;
    } table[] = {
        {"cudaGetDeviceCount", cudaErrorNoDevice},
        {"cudaDriverGetVersion", cudaErrorInsufficientDriver},
        {"cudaMalloc", cudaErrorMemoryAllocation},
        {"cudaHostAlloc", cudaErrorMemoryAllocation},
        {"cudaHostRegister", cudaErrorMemoryAllocation},
        {"CreateWithFlags", cudaErrorMemoryAllocation},
        {"cudaGraphInstantiate", cudaErrorMemoryAllocation},
        {"cublasCreate", cudaErrorMemoryAllocation},
        {"cublasGemmEx", cudaErrorLaunchOutOfResources},
        {"cublas", cudaErrorInitializationError},
        {"cop_launch", cudaErrorLaunchOutOfResources},
        {"Synchronize", cudaErrorLaunchFailure},
        {"cudaStreamEndCapture", cudaErrorStreamCaptureInvalidated},
        {"cudaStreamBeginCapture", cudaErrorIllegalState},
    };
    for (const auto &entry : table)
        if (strstr(name, entry.part))
            return entry.error;
    return cudaErrorUnknown;
}

static void count_call(cemu_world &world, const char *name) {
    world.counts.calls++;
    for (auto &entry : world.calls)
        if (entry.first == name) {
            entry.second++;
            return;
        }
    world.calls.emplace_back(name, 1);
}

static int failure_due(cemu_world &world, const char *name) {
    cemu_failure &failure = world.failure;
    if (failure.left == 0 || (!failure.name.empty() && failure.name != name) || --failure.left)
        return 0;
    failure.happened = name;
    return failure.error ? failure.error : usual_error(name);
}

static int missing(const cemu_world &world, const char *name) {
    if (world.unknown_mutant)
        return cudaErrorInitializationError;
    if (world.options.no_driver && strcmp(name, "cudaRuntimeGetVersion") != 0)
        return cudaErrorInsufficientDriver;
    if (world.options.no_device && strcmp(name, "cudaRuntimeGetVersion") != 0 &&
        strcmp(name, "cudaDriverGetVersion") != 0)
        return cudaErrorNoDevice;
    return 0;
}

static void run_some(cemu_world &world) {
    if (!world.sticky && world.pending)
        cemu_tick(world);
}

cemu_call::cemu_call(const char *name, unsigned rules) : world(cemu_here()) {
    world.call = name;
    if (rules & CEMU_REPORTS)
        return;
    count_call(world, name);
    if (!pthread_equal(world.thread, pthread_self())) {
        cemu_complain(world, CEMU_THREAD, "the thread that called first owns the device");
        error = cudaErrorUnknown;
        refused = true;
        return;
    }
    world.now_ns += CALL_NS;
    run_some(world);
    error = missing(world, name);
    refused = error != 0;
    if (!error && (error = failure_due(world, name)) != 0) {
        refused = !(rules & (CEMU_RELEASES | CEMU_WAITS));
        if (cemu_stays(error) && !(rules & CEMU_WAITS))
            cemu_break(world, error);
    }
    if (!error && world.sticky) {
        error = world.sticky;
        refused = !(rules & CEMU_RELEASES);
    }
    if (!refused && rules & CEMU_UNSAFE) {
        const int refusal = cemu_refuse_unsafe(world);
        error = error ? error : refusal;
        refused = refusal != 0;
    }
    if (rules & CEMU_NOT_STEADY && world.steady)
        cemu_complain(world, CEMU_STEADY, "inside a steady step");
}

cudaError_t cemu_call::give(int own) {
    if (error && cemu_stays(error) && !world.sticky)
        cemu_break(world, error);
    if (!error)
        error = world.sticky ? world.sticky : own;
    if (error)
        world.last_error = error;
    run_some(world); /* what was just queued may be done before the program goes on */
    return static_cast<cudaError_t>(error);
}

cublasStatus_t cemu_call::give_blas(cublasStatus_t own) {
    run_some(world);
    if (!error && !world.sticky)
        return own;
    switch (error) {
    case cudaErrorInvalidValue:
        return CUBLAS_STATUS_INVALID_VALUE;
    case cudaErrorMemoryAllocation:
        return CUBLAS_STATUS_ALLOC_FAILED;
    case cudaErrorInitializationError:
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
        return CUBLAS_STATUS_NOT_INITIALIZED;
    case cudaErrorUnknown:
        return CUBLAS_STATUS_INTERNAL_ERROR;
    case cudaErrorNotSupported:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    default:
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
}

void cemu_fail_call(const char *name, uint64_t n, int error) {
    cemu_failure &failure = cemu_here().failure;
    failure = cemu_failure{};
    failure.name = name ? name : "";
    failure.left = n;
    failure.error = error;
}

void cemu_fail_operation(uint64_t n, int error) {
    cemu_failure &failure = cemu_here().failure;
    failure = cemu_failure{};
    failure.operations_left = n;
    failure.operation_error = error ? error : static_cast<int>(cudaErrorLaunchFailure);
}

const char *cemu_failed(void) {
    const cemu_failure &failure = cemu_here().failure;
    return failure.happened.empty() ? nullptr : failure.happened.c_str();
}

/* Kernels. */

static int launch_hook(void *, void *stream, emu_work *work) {
    std::shared_ptr<emu_work> owner(work, emu_work_free);
    cemu_call call("cop_launch", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    CUstream_st *at = cemu_stream_at(call.world, static_cast<cudaStream_t>(stream));
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    cemu_action action;
    action.kind = CEMU_KERNEL_RUN;
    action.work = owner;
    if (!at->capture)
        call.world.counts.kernel_launches++;
    return call.give(cemu_submit(call.world, at, std::move(action)));
}

/* Counts. */

cemu_counts cemu_get_counts(void) {
    return cemu_here().counts;
}

uint64_t cemu_calls(const char *name) {
    uint64_t n = 0;
    for (const auto &entry : cemu_here().calls)
        if (strcmp(entry.first, name) == 0)
            n += entry.second;
    return n;
}

const char *cemu_call_at(uint32_t i, uint64_t *calls) {
    const cemu_world &world = cemu_here();
    if (i >= world.calls.size())
        return nullptr;
    if (calls)
        *calls = world.calls[i].second;
    return world.calls[i].first;
}

template <typename T>
static uint32_t count_live(const std::vector<std::unique_ptr<T>> &all, std::string *names,
                           size_t from = 0) {
    uint32_t n = 0;
    for (size_t i = from; i < all.size(); i++)
        if (all[i]->alive) {
            n++;
            if (names)
                *names += all[i]->name + "; ";
        }
    return n;
}

static cemu_live look(const cemu_world &world, std::string *names) {
    cemu_live live = {};
    for (const auto &entry : world.blocks) {
        const cemu_block &block = entry.second;
        if (block.freed)
            continue;
        live.device_allocations += block.place == CEMU_DEVICE;
        live.host_allocations += block.place == CEMU_PINNED;
        live.host_registrations += block.place == CEMU_REGISTERED;
        if (names)
            *names += block.name + " (" + std::to_string(block.bytes) + " bytes); ";
    }
    live.device_bytes = world.device_bytes;
    live.host_bytes = world.host_bytes;
    live.streams = count_live(world.streams, names, 1); /* the legacy one is always there */
    live.events = count_live(world.events, names);
    live.graphs = count_live(world.graphs, names);
    live.execs = count_live(world.execs, names);
    live.handles = count_live(world.handles, names);
    live.captures = static_cast<uint32_t>(world.captures.size());
    if (names && live.captures)
        *names += std::to_string(live.captures) + " open captures; ";
    return live;
}

cemu_live cemu_get_live(void) {
    return look(cemu_here(), nullptr);
}

const char *cemu_leaks(void) {
    cemu_world &world = cemu_here();
    world.leaks.clear();
    look(world, &world.leaks);
    return world.leaks.c_str();
}

void cemu_steady_begin(void) {
    cemu_here().steady = true;
}

void cemu_steady_end(void) {
    cemu_here().steady = false;
}

uint64_t cemu_now_ns(void) {
    return cemu_here().now_ns;
}

void cemu_spend_ns(uint64_t ns) {
    cemu_here().now_ns += ns;
}
