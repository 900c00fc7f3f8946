#include "measure/joins_table.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

const char cop_joins_caution[] =
    "These figures tell how far the ways to join lie apart for these weights, never which is "
    "better: a join that a model was not trained with says nothing about a model that was trained "
    "for it.";

cop_status cop_joins_table_reserve(cop_joins_table *table, uint32_t tokens) {
    table->capacity = tokens;
    table->tokens = cop_calloc((size_t)tokens + 1, sizeof *table->tokens);
    table->logprobs =
        cop_calloc(((size_t)tokens + 1) * (table->n_tracks + 1), sizeof *table->logprobs);
    table->rows = cop_calloc(((size_t)tokens + 1) * (table->n_contrasts + 1), sizeof *table->rows);
    if (!table->tokens || !table->logprobs || !table->rows)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the rows of %u tokens", tokens);
    return COP_OK;
}

void cop_joins_table_release(cop_joins_table *table) {
    cop_free(table->tokens);
    cop_free(table->logprobs);
    cop_free(table->rows);
    table->tokens = NULL;
    table->logprobs = NULL;
    table->rows = NULL;
}

double cop_joins_logsumexp(const float *logits, uint32_t vocab) {
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        most = fmax(most, logits[i]);
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

/* A term of D(p || q) = sum of p log(p / q) + q - p, which is the same sum because both add up to
 * one, and in which no term is negative. Near 0 the difference of logarithms d = log(q / p) is
 * small, and expm1 keeps the digits that a subtraction would lose. */
static double divergence_term(double log_p, double log_q) {
    const double d = log_q - log_p, p = exp(log_p);
    const double term = fabs(d) < 1 ? p * (expm1(d) - d) : exp(log_q) - p - p * d;
    return term > 0 ? term : 0; /* NaN as well: p = 0, and no digit of d left */
}

cop_joins_row cop_joins_compare(const float *base, double base_lse, const float *other,
                                double other_lse, uint32_t vocab) {
    cop_joins_row row = {0};
    uint32_t top = 0, other_top = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        row.kl += divergence_term(base[i] - base_lse, other[i] - other_lse);
        row.logit_diff = fmax(row.logit_diff, fabs((double)other[i] - base[i]));
        top = base[i] > base[top] ? i : top;
        other_top = other[i] > other[other_top] ? i : other_top;
    }
    row.same_top = top == other_top;
    return row;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

cop_status cop_joins_summarise(const cop_joins_table *table, uint32_t contrast,
                               cop_joins_summary *out) {
    const cop_joins_contrast *c = &table->contrasts[contrast];
    const uint32_t n = table->n_tokens;
    *out = (cop_joins_summary){0, NAN, NAN, NAN, NAN, NAN, NAN};
    if (n == 0)
        return COP_OK;
    double *sorted = cop_calloc(n, sizeof *sorted);
    if (!sorted)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to sort %u values", n);
    double kl = 0, change = 0, most = 0;
    uint32_t tokens = 0, same = 0, followed = 0;
    for (uint32_t i = 0; i < n; i++) {
        const cop_joins_row *row = &table->rows[(size_t)i * table->n_contrasts + contrast];
        const double *logprobs = &table->logprobs[(size_t)i * table->n_tracks];
        if (isnan(row->kl))
            continue;
        kl += sorted[tokens++] = row->kl;
        same += row->same_top;
        most = fmax(most, row->logit_diff);
        if (table->tokens[i].next >= 0) {
            change += logprobs[c->track] - logprobs[c->base];
            followed++;
        }
    }
    if (tokens > 0) {
        qsort(sorted, tokens, sizeof *sorted, by_size);
        *out = (cop_joins_summary){.tokens = tokens,
                                   .kl_mean = kl / tokens,
                                   .kl_p50 = (sorted[(tokens - 1) / 2] + sorted[tokens / 2]) / 2,
                                   .kl_max = sorted[tokens - 1],
                                   .logit_diff_max = most,
                                   .same_top_share = (double)same / tokens,
                                   .logprob_change = followed ? change / followed : NAN};
    }
    cop_free(sorted);
    return COP_OK;
}

double cop_joins_logprob_mean(const cop_joins_table *table, uint32_t track) {
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < table->n_tokens; i++) {
        const double logprob = table->logprobs[(size_t)i * table->n_tracks + track];
        if (isnan(logprob))
            continue;
        sum += logprob;
        n++;
    }
    return n ? sum / n : NAN;
}

/* JSON has no NaN: null stands for what has no meaning. */
static json_t *real_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static cop_status put_line(cop_buffer *out, json_t *line) {
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (!text)
        return COP_FAIL(COP_ERR_INTERNAL, "a line of figures cannot be written as JSON");
    cop_status status = cop_buffer_printf(out, "%s\n", text);
    free(text);
    return status;
}

static cop_status put_token(const cop_joins_table *table, uint32_t i, cop_buffer *out) {
    const cop_joins_token *t = &table->tokens[i];
    json_t *logprobs = json_object(), *against = json_object();
    for (uint32_t k = 0; k < table->n_tracks; k++)
        json_object_set_new(logprobs, table->tracks[k].name,
                            real_or_null(table->logprobs[(size_t)i * table->n_tracks + k]));
    for (uint32_t k = 0; k < table->n_contrasts; k++) {
        const cop_joins_row *row = &table->rows[(size_t)i * table->n_contrasts + k];
        json_object_set_new(against, table->contrasts[k].name,
                            json_pack("{s:f,s:f,s:b}", "kl", row->kl, "logit_diff", row->logit_diff,
                                      "same_top", row->same_top));
    }
    return put_line(out,
                    json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:o,s:o,s:o}", "kind", "token",
                              "trajectory", table->trajectory, "token", (int)t->token, "join",
                              (int)t->join, "after", (int)t->after, "depth", (int)t->depth, "id",
                              (int)t->id, "next", t->next < 0 ? json_null() : json_integer(t->next),
                              "logprob", logprobs, "contrast", against));
}

cop_status cop_joins_lines(const cop_joins_table *table, cop_buffer *out) {
    for (uint32_t i = 0; i < table->n_tokens; i++)
        COP_TRY(put_token(table, i, out));
    for (uint32_t i = 0; i < table->n_tracks; i++) {
        const cop_joins_track *t = &table->tracks[i];
        COP_TRY(put_line(
            out,
            json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:f,s:I,s:I,s:I,s:I}", "kind", "track",
                      "trajectory", table->trajectory, "name", t->name, "keys", t->keys, "siblings",
                      t->siblings, "positions", t->positions, "compute", t->compute, "logprob_mean",
                      real_or_null(cop_joins_logprob_mean(table, i)), "join_ms",
                      (double)t->join_ns / 1e6, "tokens_recomputed",
                      (json_int_t)t->tokens_recomputed, "kv_written", (json_int_t)t->kv_written,
                      "kv_read", (json_int_t)t->kv_read, "kv_seen", (json_int_t)t->kv_seen)));
    }
    static const char *const kinds[] = {"reference", "alone", "band"};
    for (uint32_t i = 0; i < table->n_contrasts; i++) {
        const cop_joins_contrast *c = &table->contrasts[i];
        cop_joins_summary s;
        COP_TRY(cop_joins_summarise(table, i, &s));
        COP_TRY(put_line(
            out, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:o,s:o,s:o,s:o,s:o,s:o}", "kind",
                           "contrast", "trajectory", table->trajectory, "name", c->name, "against",
                           kinds[c->kind], "track", table->tracks[c->track].name, "base",
                           table->tracks[c->base].name, "tokens", (int)s.tokens, "kl_mean",
                           real_or_null(s.kl_mean), "kl_p50", real_or_null(s.kl_p50), "kl_max",
                           real_or_null(s.kl_max), "logit_diff_max", real_or_null(s.logit_diff_max),
                           "same_top_share", real_or_null(s.same_top_share), "logprob_change",
                           real_or_null(s.logprob_change))));
    }
    json_t *omitted = json_array();
    for (uint32_t i = 0; i < table->n_omitted; i++)
        json_array_append_new(omitted, json_string(table->omitted[i]));
    return put_line(out,
                    json_pack("{s:s,s:s,s:s?,s:s?,s:b,s:b,s:s?,s:i,s:o,s:s}", "kind", "trajectory",
                              "trajectory", table->trajectory, "dialect", table->dialect, "model",
                              table->model, "random_weights", table->random_weights, "extrapolated",
                              table->extrapolated, "tokens_from", table->tokens_from, "joins",
                              (int)table->joins, "omitted", omitted, "caution", cop_joins_caution));
}
