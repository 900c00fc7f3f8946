/* From one row of logits to one sample: a pure function of the row and the request, for backends
 * that sample on the host. No allocation, no state; any thread, each with its own scratch.
 *
 * Order: biases, repetition penalty, temperature, top-k, top-p, min-p, draw. It is Hugging Face's
 * order of processors and warpers; llama.cpp filters first and applies the temperature last by
 * default, which is another distribution whenever temperature is not 1. The penalty divides what is
 * positive of the biased logits and multiplies the rest, once a token however often it was seen
 * (Keskar et al. 2019, CTRL, section 4.1), so a bias cannot stand for it. Each filter keeps a
 * prefix of the tokens ordered by (falling logit, rising id), so ties have one answer: top-k keeps
 * exactly k; top-p the shortest prefix whose probability, among what top-k kept, reaches top_p (one
 * at least); min-p those with at least min_p times the probability of the most likely token.
 * Probabilities are integers: exp((logit - max) / temperature) * 2^40, rounded down, so sums have
 * no order and a token 2^40 times less likely than the best one is never drawn. The draw takes 64
 * bits of the counter-based generator (draw 0 of the key) and walks the kept tokens by rising id.
 *
 * logprob, top_logprob, forced_logprob and logsumexp are those of the logits after biases and
 * penalty, before temperature and filters. A row that holds a value that is not finite, or whose
 * biases and penalty leave an infinite logit or none that is finite, gives failed; a bias of -inf
 * bans its token.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

/* ERR_USAGE, naming the field, for a request that has no meaning with this vocabulary. */
cop_status cop_sampler_check(const cop_sample_request *request, uint32_t vocab);

static inline bool cop_sampler_penalises(const cop_sample_request *request) {
    return request->repetition_penalty != 0.0f && request->repetition_penalty != 1.0f;
}

size_t cop_sampler_scratch_bytes(uint32_t vocab);

/* scratch: cop_sampler_scratch_bytes(vocab) bytes, 8-byte aligned. The request has been checked. */
void cop_sampler_run(const float *logits, uint32_t vocab, const cop_sample_request *request,
                     void *scratch, cop_sample *out);
