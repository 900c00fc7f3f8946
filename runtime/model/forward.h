/* The layer sequence of all families, written once for every backend; what sets them apart
 * (model.h) lies within `append`. */
#pragma once

#include "backend/backend.h"

/* Queues one step: all rows through all layers. Its samples are the backend's to give later. */
cop_status cop_forward_queue(const cop_backend_ops *ops, cop_backend *backend,
                             const cop_model_shape *shape, const cop_step *step,
                             const cop_sample_request *requests, uint32_t n);

/* Runs one step: all rows through all layers, then samples of the requested rows into out[n]. */
cop_status cop_forward(const cop_backend_ops *ops, cop_backend *backend,
                       const cop_model_shape *shape, const cop_step *step,
                       const cop_sample_request *requests, uint32_t n, cop_sample *out);
