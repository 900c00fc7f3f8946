/* A model's forward pass in double precision, one sequence at a time: the plain formulas of the
 * Llama, Qwen2 and Qwen3 papers on the weights as they are stored, with no cache, no plan and no
 * rounding. What a family has is decided here by its name, not by the facts in its shape.
 */
#pragma once

#include "model/model.h"

/* Logits of every token, [n, vocab]: token i stands at position[i] and attends to the tokens j <= i
 * for which sees[i * n + j] is not 0, itself among them. */
void forward_double_masked(const cop_model *model, const int32_t *ids, const int32_t *position,
                           const uint8_t *sees, uint32_t n, double *logits);

/* The same where tokens may see later ones, and each meets another where it stands in its own view:
 * at[i * n + j] is that position of token j for token i, which stands at at[i * n + i]; negative:
 * it is not seen. */
void forward_double_views(const cop_model *model, const int32_t *ids, const int32_t *at, uint32_t n,
                          double *logits);

/* Logits of the last of n tokens, [vocab]. Running out of memory ends the test. */
void forward_double(const cop_model *model, const int32_t *ids, uint32_t n, double *logits);
