#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "config/paths.h"
#include "job/job_internal.h"
#include "job/job_rule.h"
#include "model/chat.h"

enum { ROWS = 3, METHOD_BYTES = 96 };

typedef struct samples_run {
    cop_job *job;
    const cop_samples_job *what;
    cop_token_ids prompt;
    cop_timeline *timeline;
    cop_engine *engine;
    cop_live **lives; /* of the row that runs: one for serial samples each, one for a forked row */
    uint32_t n_lives;
    cop_live_sample *samples; /* [n_samples] of the row */
    cop_token_ids *serial;    /* [n_samples] the ids that the serial row gave */
    uint32_t n_run;           /* samples that the row ran: a rule may stop before the last */
    cop_job_rule rule;        /* of the pruned row; rule.rule is NULL: none */
    char pruned[METHOD_BYTES];
} samples_run;

static const char *row_name(const samples_run *run, uint32_t row) {
    return row == 0 ? "serial" : row == 1 ? "forked" : run->pruned;
}

static cop_status make_prompt(samples_run *run) {
    const cop_samples_job *what = run->what;
    const cop_model *model = run->job->model;
    const cop_tokenizer *tokenizer = cop_model_tokenizer(model);
    if (!tokenizer) {
        uint32_t n = what->n_placeholder ? what->n_placeholder : 64;
        COP_TRY(cop_grow(&run->prompt.data, &run->prompt.capacity, n, sizeof *run->prompt.data));
        for (uint32_t i = 0; i < n; i++)
            run->prompt.data[i] = (int32_t)cop_rng_below(
                (cop_rng_key){run->job->options.seed, 0, i}, 0, cop_model_shape_of(model)->vocab);
        run->prompt.count = n;
        return COP_OK;
    }
    cop_buffer text = {0};
    cop_status status = COP_OK;
    char root[COP_PATH_BYTES];
    if (what->chat) {
        status = cop_root_folder(root);
        if (status == COP_OK)
            status = cop_chat_apply(root, tokenizer, what->prompt, strlen(what->prompt), &text);
    } else {
        status = cop_buffer_append(&text, what->prompt, strlen(what->prompt));
    }
    if (status == COP_OK)
        status = cop_tokenizer_encode(tokenizer, text.data ? text.data : "", text.bytes,
                                      (cop_encode_options){0}, &run->prompt);
    cop_buffer_release(&text);
    return status;
}

static void drop_lives(samples_run *run) {
    for (uint32_t i = 0; i < run->n_lives; i++)
        cop_live_destroy(run->lives[i]);
    run->n_lives = 0;
}

/* Runs samples first .. first + n - 1 in one forked run, adds its metrics, keeps its outputs. */
static cop_status run_part(samples_run *run, uint32_t first, uint32_t n,
                           const cop_prune_options *prune, cop_rule *rule, cop_metrics *sum) {
    const cop_samples_job *what = run->what;
    cop_live_options options = {.tokenizer = cop_model_tokenizer(run->job->model),
                                .prompt = run->prompt.data,
                                .n_prompt = (uint32_t)run->prompt.count,
                                .n_samples = n,
                                .first_sample = first,
                                .max_tokens = what->max_tokens,
                                .temperature = what->temperature,
                                .top_p = what->top_p,
                                .min_p = what->min_p,
                                .top_k = what->top_k,
                                .rule = rule};
    if (prune)
        options.prune = *prune;
    cop_live *live;
    COP_TRY(cop_live_create(&options, &live));
    run->lives[run->n_lives++] = live;
    if (run->timeline) /* one run, one timeline: the last one of the row is kept */
        cop_timeline_reset(run->timeline);
    cop_driver *driver = cop_live_driver(live);
    cop_metrics metrics;
    COP_TRY(cop_engine_run(run->engine, &driver, 1, &metrics));
    if (metrics.kv_pages_leaked > 0)
        return COP_FAIL(COP_ERR_INTERNAL, "%llu pages are still held after a run of samples",
                        (unsigned long long)metrics.kv_pages_leaked);
    if (sum->steps_forward == 0)
        *sum = metrics;
    else
        cop_metrics_add(sum, &metrics);
    for (uint32_t i = 0; i < n; i++)
        run->samples[first + i] = cop_live_sample_read(live, i);
    return COP_OK;
}

static cop_status run_serial(samples_run *run, cop_metrics *sum) {
    for (uint32_t i = 0; i < run->what->n_samples; i++) {
        COP_TRY(run_part(run, i, 1, NULL, NULL, sum));
        run->serial[i].count = 0;
        cop_token_ids *kept = &run->serial[i];
        const cop_live_sample *sample = &run->samples[i];
        COP_TRY(cop_grow(&kept->data, &kept->capacity, sample->n_ids, sizeof *kept->data));
        memcpy(kept->data, sample->ids, sample->n_ids * sizeof *kept->data);
        kept->count = sample->n_ids;
    }
    return COP_OK;
}

/* The promise on bits, seen from outside: a sample is the same alone and among its siblings. */
static cop_status check_same(const samples_run *run) {
    for (uint32_t i = 0; i < run->what->n_samples; i++) {
        const cop_live_sample *sample = &run->samples[i];
        const cop_token_ids *alone = &run->serial[i];
        if (alone->count != sample->n_ids ||
            memcmp(alone->data, sample->ids, alone->count * sizeof *alone->data) != 0)
            return COP_FAIL(COP_ERR_MISMATCH,
                            "%s: sample %u gave other tokens alone than among its siblings",
                            run->what->name, i);
    }
    return COP_OK;
}

static cop_status run_pruned(samples_run *run, cop_metrics *sum, double *threshold) {
    const cop_samples_job *what = run->what;
    uint32_t warmup = what->prune.window ? what->n_warmup : 0;
    cop_prune_options prune = what->prune;
    prune.threshold = *threshold = -INFINITY;
    if (warmup > 0) {
        double lowest[256];
        COP_TRY(run_part(run, 0, warmup, &prune, NULL, sum));
        for (uint32_t i = 0; i < warmup; i++)
            lowest[i] = run->samples[i].lowest_confidence;
        *threshold = cop_confidence_threshold(lowest, warmup, what->keep_percent);
    }
    if (warmup == what->n_samples)
        return COP_OK;
    prune.threshold = *threshold;
    return run_part(run, warmup, what->n_samples - warmup, &prune, NULL, sum);
}

/* In the waves that the rule asks for: a warm-up ends before the rest begins, and nothing begins
 * after the rule has stopped all. */
static cop_status run_ruled(samples_run *run, cop_metrics *sum) {
    cop_rule *rule = run->rule.rule;
    cop_rule_reset(rule);
    run->n_run = 0;
    for (uint32_t may; (may = cop_rule_may_open(rule)) > 0 && run->n_run < run->what->n_samples;) {
        const uint32_t left = run->what->n_samples - run->n_run, n = may < left ? may : left;
        COP_TRY(run_part(run, run->n_run, n, NULL, rule, sum));
        run->n_run += n;
    }
    return COP_OK;
}

/* The answer that the votes are counted on: the last number of a sample's text. */
static size_t last_number(const char *text, size_t bytes, char out[32]) {
    size_t end = bytes;
    while (end > 0 && !isdigit((unsigned char)text[end - 1]))
        end--;
    size_t begin = end;
    while (begin > 0 && (isdigit((unsigned char)text[begin - 1]) || text[begin - 1] == '.' ||
                         text[begin - 1] == ','))
        begin--;
    size_t n = 0;
    for (size_t i = begin; i < end && n < 31; i++) {
        if (text[i] != ',')
            out[n++] = text[i];
    }
    out[n] = '\0';
    return n;
}

static json_t *count_votes(const samples_run *run) {
    json_t *votes = json_object();
    uint32_t none = 0, pruned = 0;
    for (uint32_t i = 0; i < run->n_run; i++) {
        const cop_live_sample *sample = &run->samples[i];
        char answer[32];
        if (sample->stop == COP_STOP_CONFIDENCE || sample->stop == COP_STOP_CANCELLED) {
            pruned++;
        } else if (last_number(sample->text, sample->bytes, answer) == 0) {
            none++;
        } else {
            json_int_t so_far = json_integer_value(json_object_get(votes, answer));
            json_object_set_new(votes, answer, json_integer(so_far + 1));
        }
    }
    const char *winner = NULL, *key;
    json_t *value;
    json_int_t most = 0;
    json_object_foreach(votes, key, value) {
        if (json_integer_value(value) > most) {
            most = json_integer_value(value);
            winner = key;
        }
    }
    json_t *out =
        json_pack("{s:s, s:O, s:i, s:i, s:s?}", "rule", "last number of the text", "votes", votes,
                  "without_answer", (int)none, "pruned", (int)pruned, "majority", winner);
    json_decref(votes);
    return out;
}

static json_t *describe_rule(const samples_run *run) {
    const cop_rule_stats stats = cop_rule_stats_of(run->rule.rule);
    const char *answer = NULL;
    size_t bytes = 0;
    if (!cop_rule_answer(run->rule.rule, &answer, &bytes))
        answer = NULL;
    json_t *identity = cop_job_rule_identity(&run->rule);
    json_t *out = identity ? cop_job_rule_record(identity, &stats, answer, bytes) : NULL;
    json_decref(identity);
    return out;
}

static json_t *describe(const samples_run *run, uint32_t row, double threshold) {
    const cop_samples_job *what = run->what;
    const cop_job *job = run->job;
    json_t *stops = json_object(), *notes = json_array();
    for (uint32_t i = 0; i < run->n_run; i++) {
        const char *name = cop_stop_name(run->samples[i].stop);
        json_int_t so_far = json_integer_value(json_object_get(stops, name));
        json_object_set_new(stops, name, json_integer(so_far + 1));
    }
    if (row == 2) {
        json_array_append_new(notes, json_string("does less work than the other two rows"));
        if (run->n_run < what->n_samples)
            json_array_append_new(notes, json_sprintf("the rule let %u of %u samples run",
                                                      run->n_run, what->n_samples));
        if (what->prune.window && what->prune.window != COP_DEEPCONF_WINDOW)
            json_array_append_new(notes,
                                  json_sprintf("confidence window %u: not DeepConf's preset (%d)",
                                               what->prune.window, COP_DEEPCONF_WINDOW));
    }
    json_t *record = json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:b, s:i, s:i, s:i, s:f, s:o, s:o, s:o}", "group",
        "samples", "problem", what->name, "method", row_name(run, row), "model",
        cop_model_name(job->model), "random_weights", (int)cop_model_is_random(job->model),
        "arithmetic", cop_arith_name(job->options.arith), "tokens_from",
        cop_model_tokenizer(job->model) ? "decoded live" : "decoded live from a placeholder prompt",
        "extrapolated", 0, "samples", (int)what->n_samples, "max_tokens", (int)what->max_tokens,
        "prompt_tokens", (int)run->prompt.count, "temperature", (double)what->temperature, "stops",
        stops, "answers", count_votes(run), "notes", notes);
    if (record && row == 2 && isfinite(threshold))
        json_object_set_new(record, "confidence_threshold", json_real(threshold));
    if (record && row == 2 && run->rule.rule)
        json_object_set_new(record, "rule", describe_rule(run));
    if (record && row == 1)
        json_object_set_new(record, "same_tokens_as_serial", json_true());
    return record;
}

static cop_status run_work(samples_run *run, uint32_t row, cop_metrics *sum, double *threshold) {
    run->n_run = run->what->n_samples;
    if (row == 0)
        return run_serial(run, sum);
    if (row == 1)
        return run_part(run, 0, run->n_run, NULL, NULL, sum);
    return run->rule.rule ? run_ruled(run, sum) : run_pruned(run, sum, threshold);
}

static cop_status run_row(samples_run *run, uint32_t row, uint32_t repeat) {
    const cop_samples_job *what = run->what;
    cop__job_cell cell = {.job = run->job,
                          .problem = what->name,
                          .method = row_name(run, row),
                          .repeat = repeat,
                          .results = what->results,
                          .listener = what->listener,
                          .context = what->context};
    json_t *work =
        json_pack("{s:s, s:b, s:i, s:i, s:f, s:i, s:f, s:f}", "prompt", what->prompt, "chat",
                  (int)what->chat, "n", (int)what->n_samples, "max_tokens", (int)what->max_tokens,
                  "temperature", (double)what->temperature, "top_k", (int)what->top_k, "top_p",
                  (double)what->top_p, "min_p", (double)what->min_p);
    json_t *prune = json_pack("{s:I, s:b, s:i, s:i, s:f}", "budget",
                              (json_int_t)what->prune.budget_tokens, "first_finisher",
                              (int)what->prune.first_finisher, "window", (int)what->prune.window,
                              "warmup", (int)what->n_warmup, "keep_percent", what->keep_percent);
    json_object_set_new(work, "prune", prune);
    if (row == 2 && run->rule.rule)
        json_object_set_new(work, "rule", cop_job_rule_identity(&run->rule));
    json_t *identity = cop__job_identity(run->job, "samples", what->name, cell.method, work);
    cop_status status = cop_results_cell_key(identity, cell.key);
    json_decref(identity);
    COP_TRY(status);
    bool done = what->results && cop_results_done(what->results, cell.key, repeat);
    if (done && row != 0) /* the forked row is held against the serial one: that runs again */
        return COP_OK;
    cop_metrics sum = {0}, fill = {0};
    double threshold = -INFINITY;
    if (cop_job_prefix_begin(run->job, run->engine)) {
        status = run_work(run, row, &fill, &threshold);
        drop_lives(run);
    }
    if (status == COP_OK)
        status = run_work(run, row, &sum, &threshold);
    if (status == COP_OK && row == 1)
        status = check_same(run);
    if (status == COP_OK && !done) {
        cop_job_prefix_charge(&fill, &sum);
        json_t *record = describe(run, row, threshold);
        /* The serial row's runs follow one another: a timeline of the last alone would mislead. */
        status = cop__job_finish_cell(&cell, record, &sum, row == 0 ? NULL : run->timeline);
        json_decref(record);
    }
    drop_lives(run);
    return status;
}

static cop_status open_rule(samples_run *run) {
    const cop_samples_job *what = run->what;
    snprintf(run->pruned, sizeof run->pruned, "forked+pruned");
    if (!what->rule)
        return COP_OK;
    const cop_job_rule_limits limits = {
        .max_branches = what->n_samples, .max_tokens = what->max_tokens, .model = run->job->model};
    COP_TRY(cop_job_rule_open(what->rule, &limits, &run->rule));
    snprintf(run->pruned, sizeof run->pruned, "forked+%.80s",
             cop_rule_config_name(run->rule.config));
    return COP_OK;
}

static cop_status prepare(samples_run *run) {
    const cop_samples_job *what = run->what;
    if (what->n_samples > 256 || what->n_warmup > what->n_samples)
        return COP_FAIL(COP_ERR_CONFIG, "samples take 1 to 256, warm-up samples among them");
    COP_TRY(open_rule(run));
    COP_TRY(make_prompt(run));
    run->lives = cop_calloc(what->n_samples, sizeof *run->lives);
    run->samples = cop_calloc(what->n_samples, sizeof *run->samples);
    run->serial = cop_calloc(what->n_samples, sizeof *run->serial);
    if (!run->lives || !run->samples || !run->serial)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u samples", what->n_samples);
    if (what->results)
        COP_TRY(cop_timeline_create(COP_TIMELINE_EVENTS, &run->timeline));
    char name[160];
    snprintf(name, sizeof name, "problem %.100s (prompt and max_tokens)", what->name);
    uint64_t own = run->prompt.count + what->max_tokens;
    cop_job_size size = {.tokens = run->prompt.count + (uint64_t)what->n_samples * what->max_tokens,
                         .segments = 2 * what->n_samples + 4,
                         .branches = what->n_samples + 1 < 17 ? 17 : what->n_samples + 1,
                         .positions = own > UINT32_MAX ? UINT32_MAX : (uint32_t)own,
                         .what = name};
    if (run->rule.rule)
        cop_job_rule_size(&run->rule, what->n_samples, (uint64_t)what->n_samples * what->max_tokens,
                          &size);
    COP_TRY(cop_job_engine(run->job, &size, run->timeline, &run->engine));
    return cop_engine_calibrate(run->engine);
}

cop_status cop_job_samples_check(cop_job *job, const cop_samples_job *what) {
    samples_run run = {.job = job, .what = what};
    const cop_status status = open_rule(&run);
    cop_job_rule_close(&run.rule);
    return status;
}

cop_status cop_job_samples(cop_job *job, const cop_samples_job *what) {
    samples_run run = {.job = job, .what = what};
    cop_status status = prepare(&run);
    uint32_t total = ROWS * what->repeats;
    for (uint32_t i = 0; i < total && status == COP_OK; i++) {
        char text[192];
        snprintf(text, sizeof text, "%.60s, %s", what->name, row_name(&run, i % ROWS));
        if (what->progress)
            what->progress(what->context, i, total, text);
        status = run_row(&run, i % ROWS, i / ROWS);
    }
    drop_lives(&run);
    cop_job_rule_close(&run.rule);
    cop_engine_destroy(run.engine);
    cop_timeline_destroy(run.timeline);
    for (uint32_t i = 0; run.serial && i < what->n_samples; i++)
        cop_token_ids_release(&run.serial[i]);
    cop_free(run.serial);
    cop_free(run.samples);
    cop_free(run.lives);
    cop_token_ids_release(&run.prompt);
    return status;
}
