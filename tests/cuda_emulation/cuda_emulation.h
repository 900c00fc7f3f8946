/* The emulated CUDA runtime, as tests see it (C). The program under test sees the stand-in headers
 * (include/) alone; kernels reach it through cop_launch.
 *
 * One device, one host thread: the thread that calls first owns everything until cemu_reset. Work
 * is queued and runs only when something forces it, or at points inside calls that the order
 * chooses; two streams keep only the order that events, the legacy stream and graph launches give.
 * What a program does wrong is recorded as a fault with a name, never an abort. What the model
 * promises and what it cannot see: README.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How queued work runs. */

typedef enum cemu_order {
    CEMU_RANDOM, /* some ready operations at every call; others among them whenever one is forced */
    CEMU_LATE,   /* only what is forced, as late as it may */
    CEMU_EAGER,  /* everything ready, at every call */
    CEMU_OTHERS_FIRST, /* when one stream is forced, first all that the others can do */
    CEMU_FAVOUR,       /* one stream runs eagerly, the others late; the favourite changes */
} cemu_order;

typedef struct cemu_options {
    cemu_order order;
    uint64_t seed;
    size_t device_bytes;         /* of memory; 0: 1 GiB */
    size_t host_bytes;           /* that may be pinned; 0: 1 GiB */
    uint32_t processors;         /* multiprocessors; 0: 4 */
    uint32_t major, minor;       /* compute capability; 0: 9.0 */
    bool no_driver;              /* every call gives cudaErrorInsufficientDriver */
    bool no_device;              /* the driver is there, a device is not */
    bool allow_unwritten_copies; /* to the host, of device bytes that nobody wrote */
    bool guard;                  /* the host's access to device memory is a SIGSEGV; slow */
} cemu_options;

/* Forgets everything (streams, memory, graphs, counts, faults) and starts anew; NULL: defaults.
 * Kept are the counts' names alone. Pointers and handles from before are dead. */
void cemu_reset(const cemu_options *options);
/* The i-th of the orders that a program must survive. Only order and seed change. */
void cemu_vary(uint32_t i);
enum { CEMU_VARIATIONS = 24 };
/* Queued work that is free to run, in the order chosen; n operations at most. Gives how many ran.
 */
uint32_t cemu_run_some(uint32_t n);

/* What went wrong. */

#define CEMU_FAULTS(X)                                                                             \
    X(KERNEL, "kernel fault")                                                                      \
    X(USE_AFTER_FREE, "use after free")                                                            \
    X(OUT_OF_RANGE, "out of range")                                                                \
    X(BAD_POINTER, "wrong kind of memory")                                                         \
    X(DOUBLE_FREE, "double free")                                                                  \
    X(BAD_FREE, "free of what was not allocated")                                                  \
    X(FREED_IN_USE, "freed while in use")                                                          \
    X(SOURCE_CHANGED, "source changed before its copy was known to be done")                       \
    X(TARGET_CHANGED, "target written before its copy was known to be done")                       \
    X(UNWRITTEN, "copy of memory that nobody wrote")                                               \
    X(RACE, "unordered accesses")                                                                  \
    X(BAD_HANDLE, "destroyed or unknown handle")                                                   \
    X(BAD_CALL, "wrong arguments")                                                                 \
    X(NOT_READY, "result used before it was ready")                                                \
    X(CAPTURE, "refused by a capture")                                                             \
    X(STEADY, "not allowed in a steady step")                                                      \
    X(UNSUPPORTED, "beyond the emulation")                                                         \
    X(THREAD, "second host thread")

typedef enum cemu_fault {
    CEMU_NO_FAULT,
#define CEMU_DECLARE_FAULT(name, text) CEMU_##name,
    CEMU_FAULTS(CEMU_DECLARE_FAULT)
#undef CEMU_DECLARE_FAULT
        CEMU_FAULT_COUNT
} cemu_fault;

const char *cemu_fault_name(cemu_fault fault);
/* Faults since the reset: of one kind, or of all (CEMU_NO_FAULT). */
uint64_t cemu_faults(cemu_fault fault);
/* The i-th fault's kind and its text ("double free: cudaFree of device memory 3 ..."); NULL past
 * the last. The first 64 are kept. */
const char *cemu_fault_text(uint32_t i, cemu_fault *fault);
void cemu_clear_faults(void);

/* Failures on purpose. A call that waits has waited, one that releases has released when it
 * fails so; any other has done nothing. The calls that only report errors never fail. */

/* The n-th call from now (1: the next one), launches of kernels among them ("cop_launch"), fails;
 * a name counts that call alone. `error` is a cudaError_t, or 0 for the call's usual failure; for
 * cuBLAS a cublasStatus_t follows from it. Only one failure waits at a time; n = 0: none. */
void cemu_fail_call(const char *name, uint64_t n, int error);
/* The n-th queued operation (node of a graph) that runs from now fails on the device: the error
 * comes out of a later call and stays, as CUDA has it. */
void cemu_fail_operation(uint64_t n, int error);
/* Whether the failure asked for last has happened, and in which call or operation (or NULL). */
const char *cemu_failed(void);

/* Counts since the reset. */

typedef struct cemu_counts {
    uint64_t calls; /* of any kind but error texts */
    uint64_t waits; /* stream, event and device synchronisations; blocking copies */
    uint64_t queries;
    uint64_t kernel_launches;             /* by cop_launch, outside captures */
    uint64_t graph_launches, graph_nodes; /* nodes that those launches brought */
    uint64_t products;                    /* cublasGemmEx, outside captures */
    uint64_t legacy_operations;           /* queued in the legacy stream */
    /* By copies and graph nodes that copy, when they are queued: */
    uint64_t upload_bytes, download_bytes, device_copy_bytes, memset_bytes;
    uint64_t uploads, downloads, device_copies, memsets;
    uint64_t pageable_copies; /* asynchronous copies to or from memory that is not pinned */
    uint64_t allocations;     /* cudaMalloc, cudaMallocHost, cudaHostAlloc, cudaHostRegister */
    uint64_t creations;       /* of streams, events, graphs, executable graphs, cuBLAS handles */
    uint64_t operations;      /* run so far, nodes of graphs among them */
    uint64_t profiler_starts, profiler_stops;
} cemu_counts;

cemu_counts cemu_get_counts(void);
/* Calls of one name ("cudaMalloc", "cop_launch"). */
uint64_t cemu_calls(const char *name);
/* The i-th name called since the reset; NULL past the last. */
const char *cemu_call_at(uint32_t i, uint64_t *calls);

typedef struct cemu_live {
    uint32_t device_allocations, host_allocations, host_registrations;
    uint32_t streams, events, graphs, execs, handles, captures;
    size_t device_bytes, host_bytes;
} cemu_live;

cemu_live cemu_get_live(void);
/* "" when nothing is live; else what is, by name. */
const char *cemu_leaks(void);

/* From begin to end, allocations, creations, destructions, frees and pageable copies are faults. */
void cemu_steady_begin(void);
void cemu_steady_end(void);

/* Names an allocation for faults and for emu_counts (as emu_register's name). */
void cemu_name(const void *p, const char *name);
/* Of an allocation's bytes, how many come before the first that nobody wrote. */
size_t cemu_written(const void *p, size_t bytes);

/* The logical clock, in nanoseconds: every call costs the host some, every operation its stream; an
 * operation starts when it was queued, its stream is free and what it waits for has ended. Events
 * read it. The same calls give the same times, whatever order operations ran in. */
uint64_t cemu_now_ns(void);
void cemu_spend_ns(uint64_t ns); /* the host does something else */

#ifdef __cplusplus
}
#endif
