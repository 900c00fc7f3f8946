/* Stacks and the switch between them. Callee-saved registers only: a switch is a call, so the
 * compiler has saved the rest. swapcontext would also save the signal mask, by a system call. */
#include "emulate/world.h"

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the emulation switches fibers by hand, on x86-64 alone"
#endif

/* The jump instead of `ret`: the return predictor would expect the caller on the other stack. */
extern "C" void emu__switch_stacks(void **save, void *load);
asm(".text\n"
    ".p2align 4\n"
    ".globl emu__switch_stacks\n"
    ".type emu__switch_stacks, @function\n"
    "emu__switch_stacks:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    popq %rcx\n"
    "    jmp *%rcx\n"
    ".size emu__switch_stacks, . - emu__switch_stacks\n");

void emu_switch(emu_context *from, emu_context *to) {
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
    emu__switch_stacks(&from->stack_pointer, to->stack_pointer);
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#else
    emu__switch_stacks(&from->stack_pointer, to->stack_pointer);
#endif
}

void emu_switch_for_good(emu_context *to) {
    static __thread void *unused; /* not on a stack: the sanitizer may just have freed that frame */
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(nullptr, to->bottom, to->bytes);
#endif
    emu__switch_stacks(&unused, to->stack_pointer);
    __builtin_unreachable();
}

void emu_fiber_arrived(emu_world &world) {
#ifdef EMU_ASAN
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!world.main.bottom) { /* only main can have come first */
        world.main.bottom = bottom;
        world.main.bytes = bytes;
    }
#else
    (void)world;
#endif
}

static bool stack_make(emu_fiber *fiber, size_t bytes) {
    void *memory = mmap(nullptr, bytes + EMU_PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    mprotect(memory, EMU_PAGE, PROT_NONE); /* an overflow faults instead of spreading */
    fiber->context.bottom = static_cast<unsigned char *>(memory) + EMU_PAGE;
    fiber->context.bytes = bytes;
    return true;
}

void emu_fibers_free(emu_world &world) {
    for (emu_fiber *fiber : world.pool) {
        munmap(static_cast<unsigned char *>(const_cast<void *>(fiber->context.bottom)) - EMU_PAGE,
               fiber->context.bytes + EMU_PAGE);
        delete fiber;
    }
    world.pool.clear();
}

bool emu_fibers_reserve(emu_world &world, uint32_t n) {
    size_t bytes = world.options.stack_bytes ? world.options.stack_bytes : 128 * 1024;
    bytes = (bytes + EMU_PAGE - 1) / EMU_PAGE * EMU_PAGE;
    if (bytes != world.pool_stack_bytes)
        emu_fibers_free(world);
    world.pool_stack_bytes = bytes;
    while (world.pool.size() < n) {
        emu_fiber *fiber = new emu_fiber();
        if (!stack_make(fiber, bytes)) {
            delete fiber;
            return false;
        }
        world.pool.push_back(fiber);
    }
    return true;
}

/* Stack tops are spread over the sets of the first-level cache: at one distance from each other,
 * a multiple of a page, the 32 stacks of a warp would fight for the same few lines. */
void emu_fiber_start(emu_fiber *fiber, emu_world &, uint32_t index) {
    unsigned char *bottom = static_cast<unsigned char *>(const_cast<void *>(fiber->context.bottom));
#ifdef EMU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(bottom, fiber->context.bytes); /* of a fiber that was abandoned */
#endif
    unsigned char *top = bottom + fiber->context.bytes - index * 448 % 8192 / 16 * 16;
    void **frame = reinterpret_cast<void **>(top) - 8;
    memset(frame, 0, 8 * sizeof *frame);
    frame[6] = reinterpret_cast<void *>(&emu__fiber_main); /* after six registers; 7: the pad */
    fiber->context.stack_pointer = frame;
    fiber->context.fake_stack = nullptr;
}
