/* The emulated device, as tests see it (C). Kernels see twin.h through kernels/device.cuh.
 *
 * A launch runs to its end inside cop_launch, on the calling thread: every CUDA thread is a fiber,
 * a schedule decides who runs at every scheduling point, every access is checked against the
 * registered buffers. A fault ends the launch: cop_launch gives an error and emu_report says what,
 * where and who. Nothing aborts, nothing prints.
 *
 * State (buffers, options, counts, the report) belongs to the calling thread of the host; mutants
 * belong to the process. What the model promises and what it cannot see: README.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Buffers: a global access must lie in one. */

typedef enum emu_kind {
    EMU_INPUT,     /* kernels must not store here */
    EMU_OUTPUT,    /* kernels load and store */
    EMU_WORKSPACE, /* the same; emu_poison refills all of this kind */
} emu_kind;

/* False when it overlaps a registered one or is empty; emu_report says why. `name` is copied. */
bool emu_register(const void *p, size_t bytes, const char *name, emu_kind kind);
void emu_unregister(const void *p);
/* A registered buffer, freed: from now on every access to it is a fault (EMU_FREED), until it is
 * unregistered. Its memory is not touched any more. */
void emu_retire(const void *p);
/* Of a registered buffer; its counts so far stay under the old name. */
void emu_rename(const void *p, const char *name);
/* Registered, aligned to 256 bytes, filled with 0xff (NaN). NULL when there is no memory. */
void *emu_alloc(size_t bytes, const char *name, emu_kind kind);
void emu_free(void *p);    /* of emu_alloc; NULL is fine */
void emu_poison(void);     /* every workspace to 0xff, as if fresh */
void emu_forget_all(void); /* unregisters everything, frees what emu_alloc gave */

/* A registered buffer remembers which of its bytes were ever written, from this call on: by
 * kernels, and by whoever else says so. False: no such buffer, no memory. */
bool emu_remember_written(const void *p);
void emu_mark_written(const void *p, size_t bytes);
/* Of these bytes, how many come before the first that nobody wrote; `bytes` where all were, or
 * where the buffer does not remember. */
size_t emu_written(const void *p, size_t bytes);

/* What the last launch touched, buffer by buffer: runs of bytes written (by atomics, too), then
 * runs that were only read, each ascending. */
typedef void emu_touched_visit(void *user, const void *begin, size_t bytes, bool written);
void emu_touched(emu_touched_visit *visit, void *user);

/* How the next launches run. */

typedef enum emu_schedule { EMU_ROUND_ROBIN, EMU_REVERSE, EMU_RANDOM } emu_schedule;
typedef enum emu_copies {
    EMU_EAGER, /* cp.async copies when issued: shows a buffer refilled too early */
    EMU_LAZY,  /* when waited for: shows a wait for the wrong group, a source changed meanwhile */
} emu_copies;

typedef struct emu_options {
    emu_schedule schedule;
    uint64_t seed; /* of EMU_RANDOM */
    emu_copies copies;
    uint32_t resident_blocks;  /* blocks interleaved at a time; 0: 4 */
    uint32_t stack_bytes;      /* of a fiber; 0: 128 KB */
    uint32_t shared_bytes_max; /* a launch that asks for more is refused; 0: 227 KB */
    bool switch_at_access;     /* every global and shared access is a scheduling point too */
    bool immediate_stores;     /* other blocks see a store at once */
    bool coherent_l1;          /* cop_ld sees what other blocks published */
    bool no_arithmetic;        /* counts only: mma, ldmatrix and the data of cp.async do nothing */
    bool count_banks;          /* shared-memory bank conflicts; slow */
    bool check_uninitialised;  /* a read of shared bytes that nobody wrote is a fault */
} emu_options;

void emu_set_options(const emu_options *options); /* NULL: the defaults (all zero) */
emu_options emu_get_options(void);
/* The i-th of the schedules that a kernel must survive, eager and lazy in turn: round robin,
 * reverse, then random seeds. Only schedule, seed and copies change. */
void emu_vary(uint32_t i);
enum { EMU_VARIATIONS = 12 };

/* What went wrong. */

typedef enum emu_error {
    EMU_OK,
    EMU_BAD_LAUNCH,
    EMU_OUT_OF_BOUNDS,
    EMU_MISALIGNED,
    EMU_READ_ONLY, /* a store to an input, or cop_ld_nc of what this launch wrote */
    EMU_DIVERGED,  /* lanes or threads at different collectives or barriers */
    EMU_DEADLOCK,
    EMU_BAD_BARRIER, /* id, thread count */
    EMU_UNINITIALISED,
    EMU_BAD_BUFFER,
    EMU_FREED, /* an access to a retired buffer */
} emu_error;

typedef struct emu_report_text {
    emu_error error; /* of the last launch or registration */
    uint64_t errors; /* since emu_reset_counts */
    char text[2048]; /* kernel, block, thread, file:line, buffer; "" without an error */
} emu_report_text;

const emu_report_text *emu_report(void);
const char *emu_error_name(emu_error error);

/* Counts since emu_reset_counts. */

typedef struct emu_buffer_counts {
    uint64_t load_bytes, store_bytes;
    uint64_t first_load_bytes, first_store_bytes; /* bytes touched for the first time in a launch */
    uint64_t loads, stores, atomics;              /* accesses by threads */
} emu_buffer_counts;

typedef struct emu_bank_counts { /* with count_banks */
    uint64_t requests;           /* by warps */
    uint64_t phases; /* cycles without a conflict: 1, 2 (8-byte) or 4 (16-byte) a request */
    uint64_t cycles; /* with conflicts; equal to phases where there are none */
    const char *worst_file;
    int worst_line;
    uint64_t worst_extra; /* cycles - phases at that place */
} emu_bank_counts;

void emu_reset_counts(void);
/* Of the buffer registered under this name (all of that name together); false: no such name. */
bool emu_counts(const char *name, emu_buffer_counts *counts);
/* NULL: of all kernels. A name without template arguments counts every instantiation. */
uint64_t emu_launches(const char *kernel);
emu_bank_counts emu_banks(void);
uint64_t emu_switches(void);  /* of fibers */
uint64_t emu_mma_count(void); /* warp-wide m16n8k16 products; 0 with no_arithmetic */

/* Mutants. */

uint32_t emu_mutants(void); /* declared in the linked kernels, by distinct name */
const char *emu_mutant_name(uint32_t i);
const char *emu_mutant_text(uint32_t i);
/* Switches this one on and all others off; NULL: all off. False: no such name. */
bool emu_mutant_select(const char *name);

/* Launches that run later: for a stand-in of streams. */

typedef struct emu_work emu_work;
/* Now, with the arguments that the launch had; 0 or a cudaError_t. May be called again. */
int emu_work_run(emu_work *work);
void emu_work_free(emu_work *work);
const char *emu_work_name(const emu_work *work);
uint64_t emu_work_blocks(const emu_work *work);
/* With a hook cop_launch hands the work over (the hook frees it) and gives what the hook gives. */
typedef int emu_stream_hook(void *user, void *stream, emu_work *work);
void emu_set_stream_hook(emu_stream_hook *hook, void *user);

#ifdef __cplusplus
}
#endif
