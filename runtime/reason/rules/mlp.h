/* A scorer of hidden states: hidden -> inner, ReLU, inner -> 1, sigmoid, read from a safetensors
 * file. It is STEP's (2601.09093; Supercomputing-System-AI-Lab/STEP@8ef9d1e,
 * vllm/v1/hiddenstate/classifier.py): tensors net.0.weight [inner, hidden], net.0.bias [inner],
 * net.2.weight [1, inner], net.2.bias [1], inner = 512. Its checkpoints are .pt files; a line of
 * Python makes them safetensors: save_file(state["model_state_dict"], "step.safetensors").
 *
 * Sums run in f32 over the hidden values in their order, for each inner unit by itself, so the same
 * bits come from every instruction set. Immutable once loaded; a thread needs scratch of its own.
 */
#pragma once

#include "base/status.h"
#include "model/safetensors.h"

typedef struct cop_mlp cop_mlp;

/* `hidden`: the model's width, or 0 to take the file's. A scorer of another width, or with values
 * that are not finite, is refused by name. */
cop_status cop_mlp_load(const char *path, uint32_t hidden, cop_mlp **out);
cop_status cop_mlp_from(const cop_safetensors *file, uint32_t hidden, cop_mlp **out);
void cop_mlp_destroy(cop_mlp *mlp);
uint32_t cop_mlp_hidden(const cop_mlp *mlp);
uint32_t cop_mlp_inner(const cop_mlp *mlp); /* floats of scratch */
/* In 0 .. 1; NaN where a hidden value is not finite. */
double cop_mlp_score(const cop_mlp *mlp, const float *hidden, float *scratch);
