/* The figures of reasoning trees by brute force: every token is a node, every wait an edge, and the
 * longest way through them is found by trying all edges until nothing grows. Shares no code with
 * measure/metrics_reasoning.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* One event a token. kind: 't' token of `role` (p prompt, s said, g tag, f forced, a again, r
 * probe), 'f' fork of `other`, 's' spawn of `other`, 'j' join of `other` ('h' as role: the branch
 * holds its text), 'e' end ('e' as role: with an end of text). */
typedef struct naive_event {
    char kind, role;
    int branch, other;
} naive_event;

typedef struct naive_figures {
    uint64_t total, longest_thread, critical_path, longest_generated, longest_text,
        position_critical, longest_sequence, longest_sequence_bos_eos, longest_branch, in_branches;
    double concurrency;
} naive_figures;

void naive_measure(const naive_event *events, int n, int n_branches, bool has_bos,
                   naive_figures *out);

typedef struct naive_marked {
    uint64_t total, longest_code, longest_text, in_blocks;
    uint32_t blocks, threads;
} naive_marked;

/* One character a token: 'x' text, 'P' and 'p' a block's tags, 'T' and 't' a thread's, '.' a token
 * of the tag behind it. */
void naive_measure_marked(const char *tokens, naive_marked *out);
