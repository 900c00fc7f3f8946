/* What an operation does when its time comes, and how long the logical clock says it takes. */
#include "cuda_emulation/world.h"

const char *cemu_action_name(const cemu_action &action) {
    static const char *const ways[] = {"copy to the device", "copy to the host", "device copy"};
    switch (action.kind) {
    case CEMU_COPY:
        return ways[action.way];
    case CEMU_FILL:
        return "fill";
    case CEMU_KERNEL_RUN:
        return emu_work_name(action.work.get());
    case CEMU_PRODUCT:
        return "product";
    case CEMU_RECORD:
        return "event record";
    case CEMU_NOTHING:
        break;
    }
    return "nothing";
}

/* Not a model of any GPU: figures that grow with the work, so that tests of order, overlap and idle
 * time have something to measure. */
uint64_t cemu_action_ns(const cemu_action &action) {
    const cemu_product &p = action.product;
    switch (action.kind) {
    case CEMU_COPY:
        return 1500 + action.bytes / (action.way == CEMU_ACROSS ? 1000 : 25);
    case CEMU_FILL:
        return 1500 + action.bytes / 1000;
    case CEMU_KERNEL_RUN:
        return 2000 + emu_work_blocks(action.work.get()) * 50;
    case CEMU_PRODUCT:
        return 2000 + static_cast<uint64_t>(p.m) * static_cast<uint64_t>(p.n) *
                          static_cast<uint64_t>(p.k) / 100000;
    case CEMU_RECORD:
    case CEMU_NOTHING:
        break;
    }
    return 0;
}

static int fill(cemu_world &world, const cemu_action &action) {
    if (action.bytes == 0)
        return 0;
    if (cemu_check_device(world, action.to, action.bytes, "a fill writes"))
        return cudaErrorIllegalAddress;
    memset(action.to, action.value, action.bytes);
    emu_mark_written(action.to, action.bytes);
    return 0;
}

static int kernel(cemu_world &world, const cemu_action &action) {
    const int error = emu_work_run(action.work.get());
    if (!error)
        return 0;
    const emu_report_text *report = emu_report();
    cemu_complain(world, report->error == EMU_FREED ? CEMU_USE_AFTER_FREE : CEMU_KERNEL, "%s",
                  report->text);
    return error;
}

static int multiply(cemu_world &world, const cemu_action &action) {
    const cemu_product &p = action.product;
    const size_t a = cemu_product_a_bytes(&p), b = cemu_product_b_bytes(&p);
    const size_t c = cemu_product_c_bytes(&p);
    if ((a && cemu_check_device(world, p.a, a, "a product reads")) ||
        (b && cemu_check_device(world, p.b, b, "a product reads")) ||
        (c && cemu_check_device(world, p.c, c, "a product writes")) ||
        (action.workspace_bytes &&
         cemu_check_device(world, action.workspace, action.workspace_bytes, "a product writes")))
        return cudaErrorIllegalAddress;
    if (action.workspace_bytes) /* its content means nothing after a product */
        memset(action.workspace, 0xff, action.workspace_bytes < 256 ? action.workspace_bytes : 256);
    if (!cemu_product_run(&p)) {
        cemu_complain(world, CEMU_UNSUPPORTED, "no memory for a product of %d x %d x %d", p.m, p.n,
                      p.k);
        return cudaErrorLaunchFailure;
    }
    const size_t element = p.c_f32 ? 4 : 2;
    for (int column = 0; column < p.n; column++)
        emu_mark_written(static_cast<unsigned char *>(p.c) +
                             static_cast<size_t>(column) * static_cast<size_t>(p.ldc) * element,
                         static_cast<size_t>(p.m) * element);
    return 0;
}

static int run(cemu_world &world, cemu_operation &operation, uint32_t node) {
    const cemu_action &action = (*operation.nodes)[node].action;
    switch (action.kind) {
    case CEMU_COPY:
        return cemu_copy_run(world, operation, node);
    case CEMU_FILL:
        return fill(world, action);
    case CEMU_KERNEL_RUN:
        return kernel(world, action);
    case CEMU_PRODUCT:
        return multiply(world, action);
    case CEMU_RECORD:
    case CEMU_NOTHING:
        break;
    }
    return 0;
}

int cemu_node_run(cemu_world &world, cemu_operation &operation, uint32_t node) {
    const cemu_action &action = (*operation.nodes)[node].action;
    cemu_failure &failure = world.failure;
    world.counts.operations++;
    if (failure.operations_left && --failure.operations_left == 0) {
        failure.happened = cemu_action_name(action);
        return failure.operation_error;
    }
    world.call = "when it ran";
    cemu_guard(world, true);
    const int error = run(world, operation, node);
    cemu_guard(world, false);
    if (!error)
        cemu_note_accesses(world, operation, node);
    return error;
}
