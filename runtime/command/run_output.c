#include "command/run_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/options.h"

/* Text as it is said, whole characters only; a path's text is not mixed into its siblings': with
 * several branches at once each line says whose it is. */
void cop_run_output_listen(void *context, const cop_live_event *event) {
    cop_run_output *state = context;
    char out[3 * 256 + COP_UTF8_SLACK];
    if (state->tree) {
        cop_live_tree_listen(state->tree, event);
        return;
    }
    if (event->kind != COP_LIVE_TEXT)
        return;
    if (event->path[0]) { /* paths run at once: their text comes with the result */
        if (!state->any_path)
            fputs(" [branches run] ", stdout);
        state->any_path = true;
        fflush(stdout);
        return;
    }
    for (size_t at = 0; at < event->bytes; at += 256) {
        size_t n = event->bytes - at < 256 ? event->bytes - at : 256;
        fwrite(out, 1, cop_utf8_stream_push(&state->utf8, event->text + at, n, false, out), stdout);
    }
    fflush(stdout);
}

/* Text of any bytes as a JSON string: what is not UTF-8 is replaced. */
static json_t *json_text(const char *text, size_t bytes) {
    char *clean = malloc(3 * bytes + 2 * COP_UTF8_SLACK);
    if (!clean)
        return NULL;
    cop_utf8_stream utf8 = {0};
    size_t n = cop_utf8_stream_push(&utf8, text, bytes, false, clean);
    n += cop_utf8_stream_push(&utf8, NULL, 0, true, clean + n);
    json_t *value = json_stringn(clean, n);
    free(clean);
    return value;
}

static json_t *json_ids(const int32_t *ids, uint32_t n) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(array, json_integer(ids[i]));
    return array;
}

static json_t *json_paths(const cop_live *live, uint32_t of_sample) {
    json_t *paths = json_array();
    for (uint32_t i = 0; i < cop_live_path_count(live); i++) {
        cop_live_path path = cop_live_path_read(live, i);
        if (path.sample != of_sample)
            continue;
        json_array_append_new(
            paths,
            json_pack("{s:i, s:s, s:o, s:i, s:o, s:s, s:b}", "block", (int)path.block, "path",
                      path.path, "ids", json_ids(path.ids, path.n_ids), "header_tokens",
                      (int)path.n_header, "text", json_text(path.text, path.bytes), "stop",
                      cop_stop_name(path.stop), "success", (int)path.success));
    }
    return paths;
}

/* A controller's calls: what each was asked, too. */
static json_t *json_calls(const cop_controller *controller) {
    json_t *calls = json_array();
    for (uint32_t i = 0; i < cop_controller_call_count(controller); i++) {
        const cop_controller_call call = cop_controller_call_read(controller, i);
        const cop_live_path *path = &call.path;
        json_array_append_new(
            calls,
            json_pack("{s:i, s:s, s:o, s:o, s:i, s:o, s:o, s:s}", "block", (int)path->block, "path",
                      path->path, "prompt", json_text(call.prompt, call.prompt_bytes), "partial",
                      json_text(call.partial, strlen(call.partial)), "prompt_tokens",
                      (int)call.n_prompt, "ids", json_ids(path->ids, path->n_ids), "text",
                      json_text(path->text, path->bytes), "stop", cop_stop_name(path->stop)));
    }
    return calls;
}

/* `paths` is stolen. */
static json_t *json_sample(const cop_live_sample *sample, json_t *paths) {
    json_t *answer = sample->answer ? json_text(sample->answer, sample->answer_bytes) : json_null();
    return json_pack(
        "{s:o, s:o, s:o, s:s, s:s, s:i, s:i, s:o}", "ids", json_ids(sample->ids, sample->n_ids),
        "text", json_text(sample->text, sample->bytes), "answer", answer, "stop",
        cop_stop_name(sample->stop), "status",
        sample->stop == COP_STOP_NONE ? "partial" : "complete", "forks", (int)sample->forks,
        "forks_refused", (int)sample->forks_refused, "paths", paths);
}

static cop_live_sample first_sample(const cop_run_result *result) {
    return result->controller ? cop_controller_read(result->controller)
                              : cop_live_sample_read(result->waves[0].live, 0);
}

static json_t *json_first(const cop_run_result *result) {
    const cop_live_sample sample = first_sample(result);
    return json_sample(&sample, result->controller ? json_calls(result->controller)
                                                   : json_paths(result->waves[0].live, 0));
}

static json_t *json_samples(const cop_run_result *result) {
    json_t *samples = json_array();
    for (uint32_t w = 0; w < result->n_waves; w++) {
        const cop_live *live = result->waves[w].live;
        for (uint32_t i = 0; i < result->waves[w].n; i++) {
            const cop_live_sample sample = cop_live_sample_read(live, i);
            json_array_append_new(samples, json_sample(&sample, json_paths(live, i)));
        }
    }
    return samples;
}

/* What the rule would answer is a model's text: bytes that are no valid UTF-8 are replaced. */
static json_t *json_rule(const cop_job_rule *rule) {
    const cop_rule_stats stats = cop_rule_stats_of(rule->rule);
    const char *answer = NULL;
    size_t bytes = 0;
    const bool any = cop_rule_answer(rule->rule, &answer, &bytes);
    json_t *identity = cop_job_rule_identity(rule);
    json_t *out = cop_job_rule_record(identity, &stats, NULL, 0);
    json_decref(identity);
    if (out && any)
        json_object_set_new(out, "answer", json_text(answer, bytes));
    return out;
}

static cop_status print_json(cop_job *job, const cop_run_result *result) {
    const cop_job_device *device;
    COP_TRY(cop_job_device_of(job, &device));
    json_t *object =
        result->many ? json_pack("{s:o}", "samples", json_samples(result)) : json_first(result);
    json_t *rest =
        json_pack("{s:i, s:s, s:b, s:s, s:s, s:s, s:s, s:o}", "prompt_tokens",
                  (int)result->prompt->count, "model", cop_model_name(cop_job_model(job)),
                  "random_weights", (int)cop_model_is_random(cop_job_model(job)), "backend",
                  device->backend, "device", device->text, "products", device->products, "clock",
                  device->clock, "metrics", cop_metrics_to_json(result->metrics));
    int failed = !object || !rest || json_object_update(object, rest);
    if (!failed)
        failed = cop_job_describe_pool(job, object);
    if (!failed && result->rule)
        failed = json_object_set_new(object, "rule", json_rule(result->rule));
    json_decref(rest);
    char *line = failed ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!line)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the answer");
    cop_buffer out = {0};
    cop_status status = cop_buffer_printf(&out, "%s\n", line);
    free(line);
    if (status == COP_OK)
        status = cop_command_output(&out);
    cop_buffer_release(&out);
    return status;
}

static void print_samples(const cop_run_result *result) {
    uint32_t number = 0;
    for (uint32_t w = 0; w < result->n_waves; w++) {
        for (uint32_t i = 0; i < result->waves[w].n; i++) {
            const cop_live_sample sample = cop_live_sample_read(result->waves[w].live, i);
            printf("---- sample %u, %u tokens, stop: %s\n%.*s\n", ++number, sample.generated,
                   cop_stop_name(sample.stop), (int)sample.bytes, sample.text ? sample.text : "");
        }
    }
    fflush(stdout);
}

/* `answers`: where the text that was printed is not its answer already. */
static void print_rule(const cop_job_rule *rule, bool answers) {
    const cop_rule_stats s = cop_rule_stats_of(rule->rule);
    const char *answer = "";
    size_t bytes = 0;
    if (!answers || !cop_rule_answer(rule->rule, &answer, &bytes))
        bytes = 0;
    fprintf(stderr,
            "[rule %s: %u opened, %u pruned, %u finished; %llu tokens, of these %llu pruned and "
            "%llu warm-up; %llu in %llu probes%s%.*s]\n",
            cop_rule_config_name(rule->config), s.opened, s.pruned, s.finished,
            (unsigned long long)s.tokens, (unsigned long long)s.tokens_pruned,
            (unsigned long long)s.tokens_warmup,
            (unsigned long long)(s.tokens_probe + s.tokens_given),
            (unsigned long long)s.probes_answered, bytes ? "; answer: " : "", (int)bytes, answer);
}

/* `sample`: the one that was asked for; NULL: several were, and are printed already. */
static void print_summary(const cop_live_sample *sample, const cop_metrics *m, const char *clock,
                          const cop_run_output *state) {
    if (sample && state->any_path &&
        !state->tree) /* the whole text in order, now that every join is done */
        printf("\n----\n%.*s", (int)sample->bytes, sample->text);
    if (sample && !state->tree)
        printf("\n");
    fflush(stdout); /* the lines on stderr come after the text, in one pipe as well */
    if (sample && sample->answer)
        fprintf(stderr, "[answer:%.*s]\n", (int)sample->answer_bytes, sample->answer);
    fprintf(stderr,
            "[%llu tokens, longest thread %llu, %llu steps, %llu forks, stop: %s, %.1f tokens/s, "
            "first token after %.0f ms%s%s]\n",
            (unsigned long long)m->tokens_total, (unsigned long long)m->tokens_longest_thread,
            (unsigned long long)m->steps_forward, (unsigned long long)m->forks,
            sample ? cop_stop_name(sample->stop) : "of each above",
            (double)m->tokens_total / ((double)m->wall_ns / 1e9), (double)m->ttft_ns / 1e6,
            strcmp(clock, "wall") == 0 ? "" : "; times are ",
            strcmp(clock, "wall") == 0 ? "" : clock);
}

cop_status cop_run_output_finish(cop_run_output *output, cop_job *job,
                                 const cop_run_result *result) {
    if (output->json)
        return print_json(job, result);
    const cop_live_sample sample = first_sample(result);
    const cop_job_device *device;
    COP_TRY(cop_job_device_of(job, &device));
    cop_status status = output->tree ? cop_live_tree_finish(output->tree) : COP_OK;
    if (result->many)
        print_samples(result);
    print_summary(result->many ? NULL : &sample, result->metrics, device->clock, output);
    if (result->rule)
        print_rule(result->rule, !result->controller);
    return status;
}
