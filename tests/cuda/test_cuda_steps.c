/* Steps of the CUDA backend over the emulated runtime: what a steady step sends, waits for and
 * allocates; one step ahead; events between; padding, buckets, scripts. Digests of the cpu backend,
 * of eager runs and of others must agree. */
#include "cuda_checks.h"

static void test_a_steady_step_sends_nothing(void) {
    world_options o = options_of(5);
    steady(o, 20);
    o.ahead = true;
    steady(o, 20);
    o.temperature = 1, o.top_p = 0.9f, o.biased = true;
    steady(o, 20);
    o.backend.products = COP_PRODUCTS_INVARIANT;
    steady(o, 6);
}

static void test_a_replayed_step_sends_nothing(void) {
    world_options o = options_of(3);
    o.forced = o.hints = true;
    steady(o, 20);
    o.ahead = true;
    steady(o, 20);
}

/* ---- the same whatever the way ---- */

static void same_everywhere(world_options o, uint32_t n_steps) {
    world_options other = o;
    other.ops = &cop_backend_cpu;
    const run_result cpu = run(other, n_steps);
    const run_result graph = run_cuda(o, n_steps);
    CHECK_EQ(graph.tokens, cpu.tokens);
    CHECK(graph.graph_launches > 0 && graph.captures > 1);
    CHECK_EQ(graph.waits, graph.steps - 1); /* the prompt has no sample to wait for */
    other = o, other.backend.eager = true;
    const run_result eager = run_cuda(other, n_steps);
    CHECK_EQ(eager.bits, graph.bits);
    CHECK_EQ(eager.graph_launches + eager.captures, 0);
    other = o, other.ahead = true;
    const run_result ahead = run_cuda(other, n_steps);
    CHECK_EQ(ahead.bits, graph.bits);
    other.backend.time_every = 3;
    const run_result timed = run_cuda(other, n_steps);
    CHECK_EQ(timed.bits, graph.bits);
    CHECK(timed.timed >= timed.steps / 3 && timed.op_ns > 0 && graph.op_ns == 0);
    CHECK(timed.idle_ns > 0);
    other = o, other.page_tokens = 16;
    CHECK_EQ(run_cuda(other, n_steps).bits, graph.bits);
}

static void test_the_same_eager_by_graph_and_ahead(void) {
    world_options o = options_of(3);
    same_everywhere(o, check_effort(60, 34));
    o.temperature = 0.8f, o.biased = true;
    same_everywhere(o, check_effort(30, 16));
    o.forced = o.hints = true;
    same_everywhere(o, check_effort(90, 16)); /* longer than a script */
    o.hints = false;
    same_everywhere(o, check_effort(20, 12));
}

static void test_invariant_products_agree_with_themselves(void) {
    world_options o = options_of(6);
    o.backend.products = COP_PRODUCTS_INVARIANT;
    const run_result graph = run_cuda(o, 30);
    o.backend.eager = o.ahead = true;
    CHECK_EQ(run_cuda(o, 30).bits, graph.bits);
}

static void test_every_order_of_the_queue(void) {
    world_options o = options_of(3);
    o.ahead = true, o.temperature = 1;
    cemu_reset(NULL);
    const run_result first = run(o, 24);
    const uint32_t n = check_effort(CEMU_VARIATIONS, 5);
    for (uint32_t i = 0; i < n; i++) {
        cemu_reset(NULL);
        cemu_vary(i);
        const run_result r = run(o, 24);
        CHECK_EQ(r.bits, first.bits);
    }
}

int main(void) {
    RUN(test_a_steady_step_sends_nothing);
    RUN(test_a_replayed_step_sends_nothing);
    RUN(test_the_same_eager_by_graph_and_ahead);
    RUN(test_invariant_products_agree_with_themselves);
    RUN(test_every_order_of_the_queue);
    return check_report();
}
