/* What an answer in NPR's grammar says under NPR's penalty, by its engine's own parts: batches of
 * requests, a penalizer a batch with a factor and a set of counted tokens for each row, filtered
 * when requests leave and merged when some enter (bigai-nlco/Native-Parallel-Reasoner@e148ad5d,
 * below npr-rl/verl/workers/rollout/sglang_rollout/sglang/python/sglang/srt: managers/
 * schedule_batch.py:1479-1511,1548-1812, managers/scheduler.py:1318-1680,1835-1875,
 * sampling/penaltylib/). The answer is alone in its engine. One thing is Coppice's: what enters
 * samples its first token in the step in which the others sample their next one; there, a prefill
 * has a step of its own.
 *
 * Scripts as the live driver takes them; "~" is the first of the letters that is not penalised, or
 * the first of all. `out` is the answer's whole text. */
#pragma once

#include "model/tokenizer.h"
#include "reason/driver_live.h"

typedef struct penalty_batches_seen { /* how often what can happen did */
    uint32_t torn_down, renewed, split_merges, kept;
} penalty_batches_seen;

penalty_batches_seen penalty_batches_run(const cop_tokenizer *tokenizer, const cop_script *script,
                                         uint32_t n, char *out, size_t capacity);
