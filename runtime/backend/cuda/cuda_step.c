#include "backend/cuda/cuda_internal.h"

#include "model/sampler.h"

enum { NO_ORDER = UINT32_MAX, SEVERAL = UINT32_MAX - 1 };

static int32_t *mirror_tokens(cop_backend *b) {
    return (int32_t *)b->tables[COP__T_TOKEN].mirror;
}
static cop_sample_order *mirror_orders(cop_backend *b) {
    return (cop_sample_order *)b->tables[COP__T_ORDERS].mirror;
}

/* ---- what a step must satisfy, before anything changes ---- */

static cop_status check_row(const cop_backend *b, const cop_step *step, uint32_t row) {
    const int32_t token = step->token[row], position = step->position[row];
    if (token == COP_TOKEN_SAMPLED) {
        if (b->n_steps == 0 || b->sampled[row] != b->n_steps)
            return COP_FAIL(COP_ERR_USAGE,
                            "row %u takes a sampled token: the step before it sampled none there",
                            row);
    } else if (token < 0 || (uint32_t)token >= b->shape.vocab) {
        return COP_FAIL(COP_ERR_USAGE, "row %u: token %d is outside the vocabulary of %u", row,
                        token, b->shape.vocab);
    }
    if (position < 0 || (uint32_t)position >= b->options.max_positions)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "row %u: position %d is outside the %u positions of this run", row,
                        position, b->options.max_positions);
    if (step->segment[row] >= b->options.capacity.segments)
        return COP_FAIL(COP_ERR_INTERNAL, "row %u: there is no segment %u", row,
                        step->segment[row]);
    const cop_segment *segment = &step->plan.segments[step->segment[row]];
    if (step->offset[row] >= segment->tokens)
        return COP_FAIL(COP_ERR_INTERNAL, "row %u: offset %u is beyond the %u tokens of segment %u",
                        row, step->offset[row], segment->tokens, step->segment[row]);
    return COP_OK;
}

static cop_status check_requests(const cop_backend *b, const cop_step *step,
                                 const cop_sample_request *requests, uint32_t n) {
    if (n > b->options.max_samples)
        return COP_FAIL(COP_ERR_NO_ROOM, "%u sampling requests: the backend was created for %u", n,
                        b->options.max_samples);
    for (uint32_t i = 0; i < n; i++) {
        if (requests[i].row >= step->n_rows)
            return COP_FAIL(COP_ERR_USAGE, "sampling request %u: row %u of a step of %u rows", i,
                            requests[i].row, step->n_rows);
        if (requests[i].n_bias > COP__ORDER_BIASES)
            return COP_FAIL(COP_ERR_NO_ROOM,
                            "sampling request %u: %u logit biases; the cuda backend takes %d", i,
                            requests[i].n_bias, COP__ORDER_BIASES);
        if (cop_sampler_penalises(&requests[i]))
            return COP_FAIL(COP_ERR_UNSUPPORTED,
                            "sampling request %u: a repetition penalty of %g, which the cuda "
                            "backend does not apply; use backend cpu",
                            i, (double)requests[i].repetition_penalty);
        const cop_status status = cop_sampler_check(&requests[i], b->shape.vocab);
        if (status != COP_OK)
            return cop_status_prefix(status, "sampling request %u", i);
    }
    return COP_OK;
}

static cop_status check_plan(const cop_backend *b, const cop_plan_tables *plan) {
    const cop_table_capacity *c = &b->options.capacity;
    if (plan->page_tokens != b->options.page_tokens)
        return COP_FAIL(COP_ERR_MISMATCH, "the plan has pages of %u tokens, the pool of %u",
                        plan->page_tokens, b->options.page_tokens);
    if (plan->n_tiles > c->tiles || plan->n_items > c->items || plan->n_slots > c->slots ||
        plan->n_partials > b->options.max_partials)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "the plan has %u tiles, %u items, %u slots and %u partials; the cuda "
                        "backend was created for %u, %u, %u and %u",
                        plan->n_tiles, plan->n_items, plan->n_slots, plan->n_partials, c->tiles,
                        c->items, c->slots, b->options.max_partials);
    return COP_OK;
}

/* The oldest step whose samples were not taken, or NULL. */
static cop__flight *oldest_untaken(cop_backend *b) {
    cop__flight *oldest = NULL;
    for (uint32_t i = 0; i < COP__RING; i++) {
        cop__flight *f = &b->flights[i];
        if (f->number && f->n_requests > 0 && (!oldest || f->number < oldest->number))
            oldest = f;
    }
    return oldest;
}

static cop_status check_step(cop_backend *b, const cop_step *step,
                             const cop_sample_request *requests, uint32_t n_requests) {
    if (b->broken)
        return COP_FAIL(COP_ERR_DEVICE, "the device failed before: %s", b->broken_text);
    if (b->now.open)
        return COP_FAIL(COP_ERR_USAGE, "a step begins inside another one");
    const cop__flight *oldest = oldest_untaken(b);
    if (oldest && oldest->number + COP__STEPS_AHEAD < b->n_steps + 1)
        return COP_FAIL(COP_ERR_USAGE,
                        "more than %d step begins before the samples of one were taken",
                        COP__STEPS_AHEAD);
    if (step->key_position)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "keys at other positions than their queries: the cuda backend does not "
                        "rotate queries for each segment that they see; use backend cpu");
    if (step->n_rows == 0 || step->n_rows > b->options.max_rows || step->n_decode > step->n_rows)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "a step of %u rows, %u of them decoding: the backend was created for 1 to "
                        "%u",
                        step->n_rows, step->n_decode, b->options.max_rows);
    COP_TRY(check_plan(b, &step->plan));
    for (uint32_t row = 0; row < step->n_rows; row++)
        COP_TRY(check_row(b, step, row));
    return check_requests(b, step, requests, n_requests);
}

/* ---- the shape of the step: what is launched ---- */

/* The one request of each row, and where a row's logits come to. Requests of one row share them. */
static void place_requests(cop_backend *b, const cop_step *step, const cop_sample_request *requests,
                           uint32_t n) {
    cop__current *now = &b->now;
    for (uint32_t row = 0; row < step->n_rows; row++)
        b->row_order[row] = NO_ORDER;
    now->n_logits = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = requests[i].row;
        if (b->row_order[row] == NO_ORDER && now->gather) {
            b->want.gather[now->n_logits] = row;
            b->row_logits[row] = now->n_logits++;
        }
        b->row_order[row] = b->row_order[row] == NO_ORDER ? i : SEVERAL;
    }
    if (!now->gather)
        now->n_logits = n > 0 ? now->rows : 0;
}

static void shape_step(cop_backend *b, const cop_step *step, uint32_t n_requests) {
    cop__current *now = &b->now;
    cop__bucket *bucket = cop__bucket_of(b, step->n_rows);
    const uint32_t orders =
        bucket->rows < b->options.max_samples ? bucket->rows : b->options.max_samples;
    const bool decode = step->n_decode == step->n_rows && n_requests > 0 &&
                        bucket->rows <= b->max_logits && n_requests <= orders;
    const uint32_t every = b->options.time_every;
    *now = (cop__current){.open = true,
                          .mode = COP__EAGER,
                          .timed = every && b->n_steps % every == 0 && !b->op_events_busy,
                          .rows = decode ? bucket->rows : step->n_rows,
                          .n_rows = step->n_rows,
                          .n_orders = decode ? orders : n_requests,
                          .n_requests = n_requests,
                          .gather = !decode};
    if (!decode || b->options.eager || now->timed)
        return;
    /* A bucket's first step runs as operations, so that whatever the driver loads when it is first
     * used is loaded outside a capture. */
    now->bucket = bucket;
    now->mode = bucket->exec ? COP__GRAPH : bucket->warm ? COP__CAPTURE : COP__EAGER;
    bucket->warm = true;
}

/* ---- what the tables are to hold before the step's first kernel ---- */

static void want_row(cop_backend *b, const cop_step *step, uint32_t row) {
    const cop__want *w = &b->want;
    const uint32_t segment = step->segment[row], offset = step->offset[row];
    /* A decode row is its segment's last token, which the device finds by itself. */
    const bool grows = row < step->n_decode && b->grows[segment] != b->turns &&
                       offset + 1 == step->plan.segments[segment].tokens;
    const uint32_t order = b->row_order[row];
    w->segment[row] = segment;
    w->offset[row] = grows ? COP_AT_END : offset;
    w->position[row] = step->position[row] - (grows ? 1 : 0);
    w->open[row] =
        grows ? (cop_open_segment){segment, 1, (int32_t)row, order < SEVERAL ? (int32_t)order : -1}
              : (cop_open_segment){b->dump_segment, 0, -1, -1};
    if (grows)
        b->grows[segment] = b->turns;
    int32_t *mirror = &mirror_tokens(b)[row];
    if (step->token[row] == COP_TOKEN_SAMPLED) {
        w->token[row] = *mirror;
    } else {
        if (COP_CUDA_MUTANT(token_assumed) && *mirror == COP__TOKEN_UNKNOWN)
            *mirror = step->token[row];
        w->token[row] = step->token[row];
        b->sampled[row] = 0;
    }
}

/* Rows that fill up the launch: they write to a page that nobody reads. */
static void want_filler(cop_backend *b, uint32_t row) {
    const cop__want *w = &b->want;
    w->token[row] = w->position[row] = 0;
    w->segment[row] = b->dump_segment;
    w->offset[row] = 0;
    w->open[row] = (cop_open_segment){b->dump_segment, 0, -1, -1};
}

/* `forced` of an order before the first kernel, which moves a place in the script on by one where
 * it moves the order. A script that goes on as it was sent costs nothing. */
static cop_status want_forced(cop_backend *b, const cop_sample_request *q, uint32_t i, bool moved,
                              int32_t *forced) {
    const int32_t base = (int32_t)(i * COP__SCRIPT_TOKENS), step = moved ? 1 : 0;
    const int32_t *script = (const int32_t *)b->tables[COP__T_SCRIPT].mirror;
    *forced = mirror_orders(b)[i].forced;
    const int32_t place = COP_FORCED_SCRIPT - *forced + step; /* in this step */
    if (q->forced >= 0 && *forced <= COP_FORCED_SCRIPT && place >= base &&
        place < base + COP__SCRIPT_TOKENS && script[place] == q->forced)
        return COP_OK;
    *forced = q->forced < 0 ? COP_FORCED_NONE : q->forced;
    if (q->forced < 0 || q->n_forced_next == 0)
        return COP_OK;
    int32_t line[COP__SCRIPT_TOKENS] = {q->forced};
    uint32_t n = 1;
    for (; n < COP__SCRIPT_TOKENS - 1 && n <= q->n_forced_next; n++) {
        line[n] = q->forced_next[n - 1];
        if (line[n] < 0 || (uint32_t)line[n] >= b->shape.vocab)
            break; /* a hint that cannot come true */
    }
    *forced = COP_FORCED_SCRIPT - base - 1 + step;
    return cop__table_sync(b, COP__T_SCRIPT, (uint32_t)base + 1, n, line);
}

static cop_status want_order(cop_backend *b, const cop_sample_request *q, uint32_t i) {
    const bool one = b->row_order[q->row] == i;
    const bool moved = one && b->want.open[q->row].order == (int32_t)i;
    cop_sample_order *o = &b->want.orders[i];
    *o = (cop_sample_order){.seed = q->key.seed,
                            .stream = q->key.stream,
                            .position = q->key.position - (moved ? 1 : 0),
                            .logits_row = b->now.gather ? b->row_logits[q->row] : q->row,
                            .temperature = q->temperature,
                            .top_k = q->top_k,
                            .top_p = q->top_p,
                            .min_p = q->min_p,
                            .first_bias = i * COP__ORDER_BIASES,
                            .n_bias = q->n_bias,
                            .row = (int32_t)q->row,
                            .next_row = one ? (int32_t)q->row : -1};
    COP_TRY(want_forced(b, q, i, moved, &o->forced));
    if (q->n_bias == 0)
        return COP_OK;
    _Static_assert(sizeof(cop_logit_bias) == sizeof(cop_sample_bias), "one is sent as the other");
    return cop__table_sync(b, COP__T_BIAS, o->first_bias * 2, q->n_bias * 2, q->bias);
}

static cop_status sync_rows(cop_backend *b, const cop_step *step) {
    const cop__want *w = &b->want;
    const uint32_t rows = COP_CUDA_MUTANT(padding_left) ? step->n_rows : b->now.rows;
    for (uint32_t row = 0; row < step->n_rows; row++)
        want_row(b, step, row);
    for (uint32_t row = step->n_rows; row < b->now.rows; row++)
        want_filler(b, row);
    COP_TRY(cop__table_sync(b, COP__T_TOKEN, 0, rows, w->token));
    COP_TRY(cop__table_sync(b, COP__T_POSITION, 0, rows, w->position));
    COP_TRY(cop__table_sync(b, COP__T_ROW_SEGMENT, 0, rows, w->segment));
    COP_TRY(cop__table_sync(b, COP__T_ROW_OFFSET, 0, rows, w->offset));
    return cop__table_sync(b, COP__T_OPEN, 0, rows * 4, w->open);
}

static cop_status sync_requests(cop_backend *b, const cop_sample_request *requests, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(want_order(b, &requests[i], i));
    for (uint32_t i = n; i < b->now.n_orders; i++)
        b->want.orders[i] =
            (cop_sample_order){.top_p = 1, .forced = COP_FORCED_NONE, .row = -1, .next_row = -1};
    if (b->now.gather)
        COP_TRY(cop__table_sync(b, COP__T_GATHER, 0, b->now.n_logits, b->want.gather));
    return cop__table_sync(b, COP__T_ORDERS, 0,
                           b->now.n_orders * (uint32_t)(sizeof(cop_sample_order) / 4),
                           b->want.orders);
}

/* Decode rows' segments are looked at whether the plan lists them or not. */
static cop_status sync_tables(cop_backend *b, const cop_step *step,
                              const cop_sample_request *requests, uint32_t n_requests) {
    COP_TRY(sync_rows(b, step));
    COP_TRY(sync_requests(b, requests, n_requests));
    COP_TRY(cop__tables_follow(b, &step->plan));
    for (uint32_t row = 0; row < step->n_decode; row++)
        COP_TRY(cop__segment_sync(b, &step->plan, step->segment[row]));
    return COP_OK;
}

/* ---- the prediction: the mirror does what the step's kernels do ---- */

static void predict_opens(cop_backend *b) {
    const cop_open_segment *open = (const cop_open_segment *)b->tables[COP__T_OPEN].mirror;
    cop_segment *segments = (cop_segment *)b->tables[COP__T_SEGMENTS].mirror;
    uint32_t *position = b->tables[COP__T_POSITION].mirror;
    cop_sample_order *orders = mirror_orders(b);
    for (uint32_t row = 0; row < b->now.rows; row++) {
        const cop_open_segment o = open[row];
        if (o.tokens == 0)
            continue;
        segments[o.segment].tokens += COP_CUDA_MUTANT(segment_not_moved) ? 0 : o.tokens;
        if (o.row >= 0 && !COP_CUDA_MUTANT(position_not_moved))
            position[o.row] += o.tokens;
        if (o.order < 0)
            continue;
        orders[o.order].position += COP_CUDA_MUTANT(order_not_moved) ? 0 : o.tokens;
        if (orders[o.order].forced <= COP_FORCED_SCRIPT && !COP_CUDA_MUTANT(script_not_moved))
            orders[o.order].forced -= (int32_t)o.tokens;
    }
}

/* The tokens that the sampler will write: those that are forced are known already. */
static void predict_tokens(cop_backend *b, cop__flight *flight, const cop_sample_request *requests,
                           uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const int32_t row = mirror_orders(b)[i].next_row;
        flight->next_row[i] = row;
        if (row < 0)
            continue;
        mirror_tokens(b)[row] = requests[i].forced >= 0 ? requests[i].forced : COP__TOKEN_UNKNOWN;
        b->sampled[row] = b->n_steps;
    }
}

static cop_status open_flight(cop_backend *b, uint32_t n_requests, cop__flight **out) {
    const uint64_t number = b->n_steps + 1;
    cop__flight *flight = &b->flights[number % COP__RING];
    cop__flight *next = &b->flights[(number + 1) % COP__RING];
    if (next->number && !next->retired)
        COP_TRY(cop__flight_wait(b, next));
    if (COP_CUDA_MUTANT(wait_in_step))
        COP__CUDA(b, cudaStreamSynchronize, b->stream);
    flight->number = number;
    flight->retired = false;
    flight->timed = b->now.timed;
    flight->n_requests = n_requests;
    COP__CUDA(b, cudaEventRecord, flight->begin, b->stream);
    *out = flight;
    return COP_OK;
}

static cop_status begin(cop_backend *b, const cop_step *step, const cop_sample_request *requests,
                        uint32_t n_requests) {
    cop__flight *flight = NULL;
    const uint64_t uploaded = b->counters.upload_bytes;
    b->turns++;
    shape_step(b, step, n_requests);
    place_requests(b, step, requests, n_requests);
    COP_TRY(open_flight(b, n_requests, &flight));
    COP_TRY(sync_tables(b, step, requests, n_requests));
    if (!COP_CUDA_MUTANT(patch_after_launch))
        COP_TRY(cop__patch_flush(b));
    COP_TRY(cop__graph_begin(b));
    if (COP_CUDA_MUTANT(patch_after_launch) && !b->now.capturing)
        COP_TRY(cop__patch_flush(b));
    b->counters.upload_steps += b->counters.upload_bytes != uploaded;
    b->n_steps++;
    predict_opens(b);
    predict_tokens(b, flight, requests, n_requests);
    return COP_OK;
}

/* After a failure. If the device is well the step can be asked for again: what was staged stays
 * staged, as the mirror has it, and no prediction was made. */
static void abandon(cop_backend *b) {
    cop__graph_abandon(b);
    cop__flight *flight = &b->flights[(b->n_steps + 1) % COP__RING];
    if (flight->number == b->n_steps + 1)
        *flight = (cop__flight){.begin = flight->begin,
                                .done = flight->done,
                                .results = flight->results,
                                .next_row = flight->next_row};
    b->now.open = false;
    cop__range(NULL);
}

cop_status cop__cuda_step_begin(cop_backend *b, const cop_step *step,
                                const cop_sample_request *requests, uint32_t n_requests,
                                bool *queued) {
    *queued = false;
    COP_TRY(check_step(b, step, requests, n_requests));
    cop__range("step");
    const cop_status status = begin(b, step, requests, n_requests);
    if (status != COP_OK) {
        abandon(b);
        return status;
    }
    *queued = b->now.mode == COP__GRAPH;
    return COP_OK;
}

/* Weights are read once a product, however many rows there are. */
static void count_step(cop_backend *b) {
    const cop_model_shape *s = &b->shape;
    const cop__current *now = &b->now;
    cop_backend_counters *c = &b->counters;
    c->steps++;
    c->timed_steps += now->timed;
    c->weight_bytes += b->layers_weight_bytes + (uint64_t)now->n_rows * s->hidden * 2;
    if (now->n_requests > 0)
        c->weight_bytes += (uint64_t)s->vocab * s->hidden * 2;
    c->kv_append_bytes += (uint64_t)now->n_rows * s->n_layers * 2 * s->n_kv_heads * s->head_dim * 2;
}

static cop_status end(cop_backend *b) {
    cop__flight *flight = &b->flights[b->n_steps % COP__RING];
    COP_TRY(cop__graph_end(b));
    if (b->now.n_requests > 0)
        COP__CUDA(b, cudaMemcpyAsync, flight->results, b->results,
                  b->now.n_requests * sizeof *b->results, cudaMemcpyDeviceToHost, b->stream);
    COP__CUDA(b, cudaEventRecord, flight->done, b->stream);
    count_step(b);
    return COP_OK;
}

cop_status cop__cuda_step_end(cop_backend *b) {
    if (!b->now.open || b->broken)
        return COP_FAIL(COP_ERR_USAGE, "a step ends that did not begin");
    const cop_status status = end(b);
    if (status != COP_OK) {
        abandon(b);
        return status;
    }
    b->now.open = false;
    cop__range(NULL);
    return COP_OK;
}

/* ---- samples ---- */

static void give_sample(const cop_sample_result *r, cop_sample *out) {
    *out = (cop_sample){.token = r->token,
                        .logprob = r->logprob,
                        .forced_logprob = r->forced_logprob,
                        .logsumexp = r->logsumexp,
                        .failed = r->failed != 0,
                        .n_top = r->n_top};
    if (out->failed) { /* as the cpu backend gives it: nothing else is set */
        *out = (cop_sample){.token = -1, .failed = true};
        return;
    }
    _Static_assert((int)COP_TOP_LOGPROBS == (int)COP_SAMPLE_TOP, "copied whole");
    for (uint32_t i = 0; i < r->n_top; i++) {
        out->top_token[i] = r->top_token[i];
        out->top_logprob[i] = r->top_logprob[i];
    }
}

cop_status cop__cuda_samples(cop_backend *b, uint32_t n, cop_sample *out) {
    if (b->broken)
        return COP_FAIL(COP_ERR_DEVICE, "the device failed before: %s", b->broken_text);
    cop__flight *flight = oldest_untaken(b);
    if (!flight || flight->n_requests != n || (b->now.open && flight->number == b->n_steps))
        return COP_FAIL(COP_ERR_USAGE, "%u samples are asked for, the step has %u requests", n,
                        flight ? flight->n_requests : 0);
    if (!flight->retired && !COP_CUDA_MUTANT(results_early))
        COP_TRY(cop__flight_wait(b, flight));
    for (uint32_t i = 0; i < n; i++) {
        give_sample(&flight->results[i], &out[i]);
        const int32_t row = flight->next_row[i];
        if (row < 0 || b->sampled[row] != flight->number)
            continue; /* a later step has given the row another token */
        int32_t *token = &mirror_tokens(b)[row];
        if (*token == COP__TOKEN_UNKNOWN || out[i].failed)
            *token = out[i].token;
    }
    flight->n_requests = 0;
    return COP_OK;
}
