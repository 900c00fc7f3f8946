/* Listens to a live sample and keeps the trace of it that the papers' measures are taken from
 * (measure/metrics_reasoning.h); and marks its finished text, for those that read it off there.
 *
 * Tokens are counted as the sample holds them: where a tag ended inside a token, as the ids that
 * its text was encoded to again. All memory is taken in create. One sample, one thread.
 */
#pragma once

#include "measure/metrics_reasoning.h"
#include "reason/driver_live.h"

typedef struct cop_live_tracer cop_live_tracer;

typedef struct cop_live_tracer_options {
    const cop_dialect *dialect; /* NULL: sequential */
    uint32_t max_paths;         /* of one sample, all its blocks */
    bool keep_partial;          /* as the driver's join policy */
    bool spawns;                /* a controller: a path sees its own prompt alone */
} cop_live_tracer_options;

cop_status cop_live_tracer_create(const cop_live_tracer_options *options, cop_live_tracer **out);
void cop_live_tracer_destroy(cop_live_tracer *tracer);

/* Before each run. n_spawn: what a spawned child's own context begins with. */
void cop_live_tracer_reset(cop_live_tracer *tracer, uint32_t n_prompt, uint32_t n_spawn);
/* A cop_live_listener; the context is the tracer. */
void cop_live_tracer_hear(void *tracer, const cop_live_event *event);
/* After the sample's end; false: more happened than the trace holds. */
bool cop_live_tracer_measure(cop_live_tracer *tracer, bool has_bos, cop_trace_figures *out);

/* One mark (cop_tag_mark) for each id of a finished sample: a token that shares a byte with a tag
 * of a block or a path is a token of it. false: the dialect has no such tags, or its children's
 * text is no part of their parent's. */
bool cop_tag_marks(const cop_dialect *dialect, const cop_tokenizer *tokenizer,
                   const cop_live_sample *sample, uint8_t *marks);
bool cop_dialect_marks_paths(const cop_dialect *dialect);
