/* Inside the emulated runtime.
 *
 * An operation stands in the queue of its stream and consists of nodes (a graph launch of many, all
 * others of one). It may begin when it heads its queue and the points that it waits for are done; a
 * node may run when the nodes before it have. Each run is whole: streams interleave node by node.
 *
 * Knowledge is kept in vector clocks, one entry a stream: what an operation is ordered behind, and
 * what the host has learnt by waiting. What a copy to the host brings stays hidden until the host
 * has learnt that the copy is done; what a copy from the host reads is compared until then.
 *
 * Handles and the records of memory live until the reset, so that the use of a dead one is known.
 */
#pragma once

#include <pthread.h>

#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cublas_v2.h"
#include "cuda_emulation/cuda_emulation.h"
#include "cuda_emulation/product.h"
#include "cuda_profiler_api.h"
#include "cuda_runtime_api.h"
#include "emulate/emulate.h"

enum { CEMU_SLOTS = 32 }; /* streams that have work, or had some that the host has not waited for */

struct cemu_clock {
    uint64_t at[CEMU_SLOTS] = {};
    void join(const cemu_clock &other) {
        for (int i = 0; i < CEMU_SLOTS; i++)
            at[i] = at[i] > other.at[i] ? at[i] : other.at[i];
    }
};

enum cemu_kind { CEMU_NOTHING, CEMU_COPY, CEMU_FILL, CEMU_KERNEL_RUN, CEMU_PRODUCT, CEMU_RECORD };
enum cemu_way { CEMU_UP, CEMU_DOWN, CEMU_ACROSS };

struct cemu_action {
    cemu_kind kind = CEMU_NOTHING;
    cemu_way way = CEMU_ACROSS;
    bool pageable = false;
    int value = 0; /* of a fill */
    void *to = nullptr;
    const void *from = nullptr;
    size_t bytes = 0;
    std::shared_ptr<std::vector<unsigned char>> staged; /* of a pageable source */
    std::shared_ptr<emu_work> work;
    cemu_product product = {};
    void *workspace = nullptr; /* of a product */
    size_t workspace_bytes = 0;
    CUevent_st *event = nullptr;
};

struct cemu_node {
    cemu_action action;
    std::vector<uint32_t> after;
};
typedef std::shared_ptr<const std::vector<cemu_node>> cemu_nodes;

struct cemu_point { /* what can be waited for: the end of an operation, or of a node of a graph */
    CUstream_st *stream = nullptr;
    uint64_t number = 0; /* of the operation in its stream's slot */
    cemu_clock clock;
    cemu_nodes nodes; /* of a graph, where the point is one of its nodes: it follows some of them */
    uint32_t node = 0;
    std::vector<std::shared_ptr<cemu_point>> partial; /* such points that it follows */
    bool done = false;
    uint64_t time_ns = 0;
};
typedef std::shared_ptr<cemu_point> cemu_point_ref;

struct cemu_operation {
    cemu_nodes nodes;
    struct run {
        bool done = false;
        uint64_t end_ns = 0;
        cemu_point_ref record; /* of CEMU_RECORD */
    };
    std::vector<run> runs;
    size_t left = 0;
    bool begun = false, graph = false;
    bool branches = false; /* a graph where a node does not follow the one before it */
    uint64_t queued_ns = 0, start_ns = 0;
    std::vector<cemu_point_ref> after;
    cemu_point_ref end;
};

struct cemu_watch { /* a copy between the host and the device that the host does not know done */
    cemu_point_ref end; /* of its operation */
    uint32_t node;
    unsigned char *host;
    size_t bytes;
    bool down, ran = false;
    bool hashed = false; /* up: `hash` is of the source when queued; down: it was poisoned */
    uint64_t hash = 0;
    std::vector<unsigned char> data; /* down, once it ran */
};

struct cemu_range {
    uintptr_t begin, end;
};

struct cemu_accesses { /* of an operation's node that ran and that the host has not waited for */
    cemu_point_ref end;
    cemu_nodes nodes;
    uint32_t node;
    std::vector<cemu_range> reads, writes; /* ascending */
};

struct cemu_capture {
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    bool invalid = false, over = false;
    std::vector<cemu_node> nodes;
    std::vector<CUstream_st *> streams;
};
typedef std::shared_ptr<cemu_capture> cemu_capture_ref;

struct CUstream_st {
    std::string name;
    uint32_t slot = 0;
    bool alive = true, blocking = true;
    std::deque<std::unique_ptr<cemu_operation>> queue;
    cemu_point_ref last;
    uint64_t end_ns = 0;
    uint32_t polls = 0;
    cemu_capture_ref capture;
    std::vector<uint32_t> tips; /* nodes that the next captured one follows */
};

struct CUevent_st {
    std::string name;
    bool alive = true, timing = true;
    cemu_point_ref point; /* null: never recorded */
    uint32_t polls = 0;
    cemu_capture_ref capture; /* last recorded in it */
    std::vector<uint32_t> tips;
};

struct CUgraphNode_st {
    uint32_t index;
};

struct CUgraph_st {
    std::string name;
    bool alive = true;
    cemu_nodes nodes;
    std::vector<std::unique_ptr<CUgraphNode_st>> handles;
};

struct CUgraphExec_st {
    std::string name;
    bool alive = true;
    cemu_nodes nodes;
    cemu_point_ref last;
};

struct cublasContext {
    std::string name;
    bool alive = true;
    CUstream_st *stream = nullptr;
    void *workspace = nullptr;
    size_t workspace_bytes = 0;
};

enum cemu_place { CEMU_DEVICE, CEMU_PINNED, CEMU_REGISTERED };

struct cemu_block {
    unsigned char *base;
    size_t bytes;
    cemu_place place;
    bool freed = false;
    bool mapped = false; /* kernels may use it */
    std::string name;
};

struct cemu_arena { /* addresses that are given out once */
    unsigned char *base = nullptr;
    size_t reserved = 0, used = 0;
};

struct cemu_failure {
    std::string name; /* of the call; empty: any */
    uint64_t left = 0;
    int error = 0;
    uint64_t operations_left = 0;
    int operation_error = 0;
    std::string happened;
};

struct cemu_world {
    cemu_options options = {};
    uint64_t random = 1;
    pthread_t thread;
    bool started = false;
    bool unknown_mutant = false; /* the environment names one that no kernel declares */

    std::vector<std::unique_ptr<CUstream_st>> streams; /* the first is the legacy stream */
    std::vector<std::unique_ptr<CUevent_st>> events;
    std::vector<std::unique_ptr<CUgraph_st>> graphs;
    std::vector<std::unique_ptr<CUgraphExec_st>> execs;
    std::vector<std::unique_ptr<cublasContext>> handles;
    std::vector<cemu_capture_ref> captures; /* open */
    CUstream_st *slots[CEMU_SLOTS] = {};
    uint64_t slot_numbers[CEMU_SLOTS] = {};
    uint32_t favourite = 0;
    size_t pending = 0; /* operations in queues */

    std::map<uintptr_t, cemu_block> blocks; /* by base */
    cemu_arena device, pinned;
    std::deque<uintptr_t> retired, quarantine;
    size_t device_bytes = 0, host_bytes = 0, quarantine_bytes = 0;
    uint32_t blocks_made = 0;
    std::vector<std::unique_ptr<cemu_watch>> watches;
    std::vector<std::unique_ptr<cemu_accesses>> accesses;

    cemu_clock known; /* to the host */
    uint64_t now_ns = 0;
    int last_error = 0, sticky = 0;
    std::string broken; /* the text of the fault behind the error that stays */
    bool steady = false;
    cemu_failure failure;
    cemu_counts counts = {};
    std::vector<std::pair<const char *, uint64_t>> calls;
    uint64_t fault_counts[CEMU_FAULT_COUNT] = {};
    std::vector<std::pair<cemu_fault, std::string>> faults;
    const char *call = "";
    std::string leaks;
};

cemu_world &cemu_here();

/* Call.cc: the frame of every call. */

enum cemu_rules {
    CEMU_PLAIN = 0,
    CEMU_REPORTS = 1,  /* only tells what happened: never fails, runs nothing */
    CEMU_RELEASES = 2, /* releases, also when it fails on purpose or after an error that stays */
    CEMU_WAITS = 4,    /* waits, also when it fails on purpose */
    CEMU_UNSAFE = 8,   /* refused while a capture is open that is not relaxed */
    CEMU_NOT_STEADY = 16,
};

struct cemu_call {
    cemu_world &world;
    int error = 0;
    bool refused = false;
    cemu_call(const char *name, unsigned rules);
    /* What the call gives: what went wrong on the way in, else `own`. */
    cudaError_t give(int own = cudaSuccess);
    cublasStatus_t give_blas(cublasStatus_t own = CUBLAS_STATUS_SUCCESS);
};

uint64_t cemu_random(cemu_world &world);
__attribute__((format(printf, 3, 4))) void cemu_complain(cemu_world &world, cemu_fault fault,
                                                         const char *format, ...);
/* An error that stays: queued work is gone, all later calls give it. */
void cemu_break(cemu_world &world, int error);
bool cemu_stays(int error);
/* Device memory is open to the emulation between these, where options.guard closes it. */
void cemu_guard(cemu_world &world, bool open);

/* Memory.cc. */

cemu_block *cemu_block_at(cemu_world &world, const void *p);
/* 0, or the error of a call with such a pointer; the fault is recorded. */
int cemu_check_device(cemu_world &world, const void *p, size_t bytes, const char *doing);
/* The same for host memory; `pageable` tells whether it is neither pinned nor registered. */
int cemu_check_host(cemu_world &world, const void *p, size_t bytes, const char *doing,
                    bool *pageable);
uint64_t cemu_hash(const void *p, size_t bytes);
void cemu_memory_reset(cemu_world &world);
/* Of a pointer, for texts: "device memory 3 + 16". */
std::string cemu_where(cemu_world &world, const void *p);

/* Watch.cc: copies and the host's eyes on them. */

void cemu_watch_operation(cemu_world &world, const cemu_operation &operation);
/* The host has learnt that the point is done. */
void cemu_learn(cemu_world &world, const cemu_point_ref &point);
/* Adds to the counts of bytes, when it is queued. */
void cemu_count_action(cemu_world &world, const cemu_action &action);
int cemu_copy_run(cemu_world &world, const cemu_operation &operation, uint32_t node);

/* Which nodes of the graph come before this one; it is among them. */
std::vector<bool> cemu_ancestors(const std::vector<cemu_node> &nodes, uint32_t node);

/* Races.cc. */

/* After the node ran. */
void cemu_note_accesses(cemu_world &world, const cemu_operation &operation, uint32_t node);
/* Of what is ordered before all that can still run. */
void cemu_forget_accesses(cemu_world &world);

/* Stream.cc. */

/* Null and a fault: no live stream. */
CUstream_st *cemu_stream_at(cemu_world &world, cudaStream_t handle);
CUevent_st *cemu_event_at(cemu_world &world, cudaEvent_t handle);
/* Queues the action, or captures it. 0 or the error. `point`: where it ends, if it was queued. */
int cemu_submit(cemu_world &world, CUstream_st *stream, cemu_action action,
                cemu_point_ref *point = nullptr);
cemu_point_ref cemu_queue(cemu_world &world, CUstream_st *stream, cemu_nodes nodes, bool graph,
                          const std::vector<cemu_point_ref> &after);
void cemu_tick(cemu_world &world);
/* Runs until the point is done, or an error stays. */
void cemu_force(cemu_world &world, const cemu_point_ref &point);
uint32_t cemu_run_ready(cemu_world &world, uint32_t n);
/* Whether all is done; who asks often enough gets there. */
bool cemu_poll_stream(cemu_world &world, CUstream_st *stream);
bool cemu_poll_event(cemu_world &world, CUevent_st *event);
void cemu_streams_start(cemu_world &world);
void cemu_drop_queues(cemu_world &world);

/* Run.cc: 0 or the error that stays. */
int cemu_node_run(cemu_world &world, cemu_operation &operation, uint32_t node);
uint64_t cemu_action_ns(const cemu_action &action);
const char *cemu_action_name(const cemu_action &action);

/* Capture.cc. */

void cemu_invalidate(cemu_world &world, cemu_capture &capture, const char *why);
/* Refuses what no capture allows: 0 or the error, all open captures that object invalid. */
int cemu_refuse_unsafe(cemu_world &world);
int cemu_refuse_device_wide(cemu_world &world);
/* Waiting for a stream or an event, or asking whether it is done, is refused to a capture. */
int cemu_refuse_captured(cemu_world &world, CUstream_st *stream);
int cemu_refuse_captured(cemu_world &world, CUevent_st *event);
/* The legacy stream must not be used while a blocking stream captures. */
int cemu_refuse_implicit(cemu_world &world, const CUstream_st *stream);
int cemu_capture_action(cemu_world &world, CUstream_st *stream, cemu_action action);
int cemu_capture_record(cemu_world &world, CUstream_st *stream, CUevent_st *event, bool external);
int cemu_capture_wait(cemu_world &world, CUstream_st *stream, CUevent_st *event, bool external);
/* The stream goes: a capture that it belongs to is lost. */
void cemu_capture_leave(cemu_world &world, CUstream_st *stream);
