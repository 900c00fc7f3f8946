/* Random programs of fills and copies in several streams, with events, graphs, the legacy stream
 * and waits of the host, against a naive account of what comes before what: the emulation must find
 * exactly the pairs that conflict and that nothing orders, and where there are none the memory must
 * be what the calls in their order would leave, whatever order they ran in. */
#include "programs.h"

enum { STREAMS = 4, EVENTS = 3, BUFFERS = 6, BYTES = 64, NODES = 256, WORDS = NODES / 64 };
enum { GRAPHS = 2, GRAPH_NODES = 6 };

typedef struct set {
    uint64_t words[WORDS];
} set;

typedef struct node { /* what touches memory, or only stands in an order */
    set before;
    int reads, writes; /* buffers; -1: none */
} node;

typedef struct recorded { /* a graph: nodes with the earlier ones that they follow */
    cudaGraphExec_t exec;
    int n, last; /* `last`: the node that ends its latest launch, or -1 */
    int reads[GRAPH_NODES], writes[GRAPH_NODES], values[GRAPH_NODES];
    uint32_t before[GRAPH_NODES];
} recorded;

typedef struct program {
    uint32_t random;
    cudaStream_t streams[STREAMS]; /* the legacy one, a blocking one, others */
    cudaEvent_t events[EVENTS];
    int last[STREAMS], event_at[EVENTS]; /* nodes; -1: none */
    unsigned char *buffers[BUFFERS];
    unsigned char expected[BUFFERS]; /* every byte of the buffer */
    recorded graphs[GRAPHS];
    node nodes[NODES];
    int n;
    set known; /* to the host */
} program;

static uint32_t pick(program *p, uint32_t n) {
    p->random = p->random * 1664525u + 1013904223u;
    return (p->random >> 8) % n;
}

static void follow(program *p, set *s, int at) {
    if (at < 0)
        return;
    for (int i = 0; i < WORDS; i++)
        s->words[i] |= p->nodes[at].before.words[i];
    s->words[at / 64] |= 1ull << at % 64;
}

static bool has(const set *s, int at) {
    return s->words[at / 64] >> at % 64 & 1;
}

/* A node in a stream; `also`: another one that it follows, or -1. */
static int add(program *p, int stream, int reads, int writes, int also) {
    node *new = &p->nodes[p->n];
    *new = (node){.before = p->known, .reads = reads, .writes = writes};
    follow(p, &new->before, p->last[stream]);
    follow(p, &new->before, also);
    if (stream == 0)
        follow(p, &new->before, p->last[1]);
    if (stream == 1)
        follow(p, &new->before, p->last[0]);
    p->last[stream] = p->n;
    return p->n++;
}

static void act(program *p, int reads, int writes, int value, cudaStream_t stream) {
    if (reads < 0)
        NEED(cudaMemsetAsync(p->buffers[writes], value, BYTES, stream));
    else
        NEED(cudaMemcpyAsync(p->buffers[writes], p->buffers[reads], BYTES, cudaMemcpyDeviceToDevice,
                             stream));
}

static void expect(program *p, int reads, int writes, int value) {
    p->expected[writes] = reads < 0 ? (unsigned char)value : p->expected[reads];
}

/* Buffers of an action: a fill or a copy. */
static void choose(program *p, int *reads, int *writes, int *value) {
    *writes = (int)pick(p, BUFFERS);
    *reads = pick(p, 2) ? -1 : (*writes + 1 + (int)pick(p, BUFFERS - 1)) % BUFFERS;
    *value = (int)pick(p, 250);
}

/* Captures a graph of two branches that fork, exchange events and join at random. */
static void record(program *p, recorded *g) {
    const cudaStream_t streams[2] = {p->streams[2], p->streams[3]};
    cudaGraph_t graph;
    uint32_t tips[2] = {0, 0}; /* nodes that the next one of the branch follows */
    g->n = 1 + (int)pick(p, GRAPH_NODES);
    NEED(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeThreadLocal));
    NEED(cudaEventRecord(p->events[0], streams[0]));
    NEED(cudaStreamWaitEvent(streams[1], p->events[0], 0));
    for (int i = 0; i < g->n; i++) {
        const int branch = (int)pick(p, 2);
        if (pick(p, 3) == 0) {
            NEED(cudaEventRecord(p->events[1], streams[1 - branch]));
            NEED(cudaStreamWaitEvent(streams[branch], p->events[1], 0));
            tips[branch] |= tips[1 - branch];
        }
        choose(p, &g->reads[i], &g->writes[i], &g->values[i]);
        act(p, g->reads[i], g->writes[i], g->values[i], streams[branch]);
        g->before[i] = tips[branch];
        for (int j = 0; j < i; j++)
            if (tips[branch] >> j & 1)
                g->before[i] |= g->before[j];
        tips[branch] = 1u << i;
    }
    NEED(cudaEventRecord(p->events[2], streams[1]));
    NEED(cudaStreamWaitEvent(streams[0], p->events[2], 0));
    NEED(cudaStreamEndCapture(streams[0], &graph));
    NEED(cudaGraphInstantiate(&g->exec, graph, 0));
    NEED(cudaGraphDestroy(graph));
    g->last = -1;
}

static void launch(program *p, int stream) {
    recorded *g = &p->graphs[pick(p, GRAPHS)];
    NEED(cudaGraphLaunch(g->exec, p->streams[stream]));
    const int first = add(p, stream, -1, -1, g->last); /* it begins */
    for (int i = 0; i < g->n; i++) {
        node *new = &p->nodes[p->n++];
        *new = (node){.reads = g->reads[i], .writes = g->writes[i]};
        follow(p, &new->before, first);
        for (int j = 0; j < i; j++)
            if (g->before[i] >> j & 1)
                follow(p, &new->before, first + 1 + j);
        expect(p, g->reads[i], g->writes[i], g->values[i]);
    }
    const int end = p->n++;
    p->nodes[end] = (node){.reads = -1, .writes = -1};
    for (int i = first; i < end; i++)
        follow(p, &p->nodes[end].before, i);
    p->last[stream] = g->last = end;
}

static void hand_over(program *p, int from, int to) {
    const int event = (int)pick(p, EVENTS);
    if (pick(p, 4)) {
        NEED(cudaEventRecord(p->events[event], p->streams[from]));
        p->event_at[event] = add(p, from, -1, -1, -1);
    }
    NEED(cudaStreamWaitEvent(p->streams[to], p->events[event], 0));
    if (p->event_at[event] >= 0)
        add(p, to, -1, -1, p->event_at[event]);
}

static void host_waits(program *p, int stream) {
    const int event = (int)pick(p, EVENTS);
    if (pick(p, 2)) {
        NEED(cudaStreamSynchronize(p->streams[stream]));
        follow(p, &p->known, p->last[stream]);
    } else {
        NEED(cudaEventSynchronize(p->events[event]));
        follow(p, &p->known, p->event_at[event]);
    }
}

static void one_call(program *p, bool careful) {
    const int stream = (int)pick(p, 8) == 0 ? 0 : 1 + (int)pick(p, STREAMS - 1);
    const uint32_t what = pick(p, 16);
    int reads, writes, value;
    if (what < 2) {
        hand_over(p, stream, (int)pick(p, STREAMS));
    } else if (what == 2) {
        host_waits(p, stream);
    } else if (what < 5) {
        launch(p, stream);
    } else {
        choose(p, &reads, &writes, &value);
        act(p, reads, writes, value, p->streams[stream]);
        add(p, stream, reads, writes, -1);
        expect(p, reads, writes, value);
    }
    if (careful) { /* everything follows everything */
        for (int to = 0; to < STREAMS; to++)
            if (to != stream) {
                NEED(cudaEventRecord(p->events[0], p->streams[stream]));
                p->event_at[0] = add(p, stream, -1, -1, -1);
                NEED(cudaStreamWaitEvent(p->streams[to], p->events[0], 0));
                add(p, to, -1, -1, p->event_at[0]);
            }
    }
}

static uint64_t count_races(const program *p) {
    uint64_t races = 0;
    for (int j = 0; j < p->n; j++)
        for (int i = 0; i < j; i++) {
            const node *a = &p->nodes[i], *b = &p->nodes[j];
            const bool meet =
                (a->writes >= 0 && (a->writes == b->writes || a->writes == b->reads)) ||
                (b->writes >= 0 && b->writes == a->reads);
            races += meet && !has(&b->before, i);
        }
    return races;
}

static void begin(program *p, uint32_t seed) {
    start(seed % CEMU_VARIATIONS);
    *p = (program){.random = seed * 2654435761u};
    NEED(cudaStreamCreateWithFlags(&p->streams[1], cudaStreamDefault));
    p->streams[2] = make_stream();
    p->streams[3] = make_stream();
    for (int i = 0; i < EVENTS; i++) {
        p->events[i] = make_event(cudaEventDisableTiming);
        p->event_at[i] = -1;
    }
    for (int i = 0; i < STREAMS; i++)
        p->last[i] = -1;
    for (int i = 0; i < BUFFERS; i++) {
        p->buffers[i] = device_bytes(BYTES);
        p->expected[i] = (unsigned char)i;
        NEED(cudaMemset(p->buffers[i], i, BYTES));
    }
    NEED(cudaDeviceSynchronize());
    for (int i = 0; i < GRAPHS; i++)
        record(p, &p->graphs[i]);
    for (int i = 0; i < EVENTS; i++) { /* captures have used them */
        NEED(cudaEventDestroy(p->events[i]));
        p->events[i] = make_event(cudaEventDisableTiming);
    }
}

static void end(program *p) {
    for (int i = 0; i < BUFFERS; i++)
        NEED(cudaFree(p->buffers[i]));
    for (int i = 0; i < GRAPHS; i++)
        NEED(cudaGraphExecDestroy(p->graphs[i].exec));
    for (int i = 0; i < EVENTS; i++)
        NEED(cudaEventDestroy(p->events[i]));
    for (int i = 1; i < STREAMS; i++)
        NEED(cudaStreamDestroy(p->streams[i]));
}

static void test_unordered_pairs_are_found_and_no_others(void) {
    static program p;
    uint32_t clean = 0, racing = 0, launches = 0, inside = 0;
    const uint32_t programs = check_effort(3000, 300);
    for (uint32_t seed = 1; seed <= programs; seed++) {
        begin(&p, seed);
        const bool careful = seed % 3 == 0;
        const uint32_t calls = careful ? 12 : 4 + pick(&p, 16);
        for (uint32_t i = 0; i < calls; i++)
            one_call(&p, careful);
        CHECK(p.n <= NODES);
        NEED(cudaDeviceSynchronize());
        const uint64_t races = count_races(&p);
        if (cemu_faults(CEMU_RACE) != races) {
            fprintf(stderr, "program %u: %u unordered pairs, not %u; %s\n", seed,
                    (unsigned)cemu_faults(CEMU_RACE), (unsigned)races, last_fault());
            exit(1);
        }
        CHECK_EQ(cemu_faults(CEMU_NO_FAULT), races);
        for (int i = 0; !races && i < BUFFERS; i++)
            for (int j = 0; j < BYTES; j++)
                CHECK_EQ(p.buffers[i][j], p.expected[i]);
        inside += careful && races; /* careful between calls: within a graph, then */
        clean += races == 0;
        racing += races > 0;
        launches += (uint32_t)cemu_get_counts().graph_launches;
        end(&p);
        CHECK_TEXT(cemu_leaks(), "");
    }
    printf(
        "  %u programs without and %u with unordered pairs, %u of these inside a graph alone; %u "
        "graph launches\n",
        clean, racing, inside, launches);
    CHECK(clean > programs / 5 && racing > programs / 5 && inside > programs / 50 &&
          launches > programs);
}

int main(void) {
    RUN(test_unordered_pairs_are_found_and_no_others);
    cemu_reset(NULL);
    return check_report();
}
