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

static json_t *json_paths(const cop_live *live) {
    json_t *paths = json_array();
    for (uint32_t i = 0; i < cop_live_path_count(live); i++) {
        cop_live_path path = cop_live_path_read(live, i);
        json_array_append_new(
            paths,
            json_pack("{s:i, s:s, s:o, s:i, s:o, s:s, s:b}", "block", (int)path.block, "path",
                      path.path, "ids", json_ids(path.ids, path.n_ids), "header_tokens",
                      (int)path.n_header, "text", json_text(path.text, path.bytes), "stop",
                      cop_stop_name(path.stop), "success", (int)path.success));
    }
    return paths;
}

static cop_status print_json(cop_job *job, const cop_token_ids *prompt, const cop_live *live,
                             const cop_metrics *metrics) {
    cop_live_sample sample = cop_live_sample_read(live, 0);
    const cop_job_device *device;
    COP_TRY(cop_job_device_of(job, &device));
    json_t *answer = sample.answer ? json_text(sample.answer, sample.answer_bytes) : json_null();
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:s, s:i, s:s, s:s, s:b, s:i, s:i, s:s, s:s, s:s, s:s, s:o, "
        "s:o}",
        "ids", json_ids(sample.ids, sample.n_ids), "text", json_text(sample.text, sample.bytes),
        "answer", answer, "stop", cop_stop_name(sample.stop), "prompt_tokens", (int)prompt->count,
        "model", cop_model_name(cop_job_model(job)), "status",
        sample.stop == COP_STOP_NONE ? "partial" : "complete", "random_weights",
        (int)cop_model_is_random(cop_job_model(job)), "forks", (int)sample.forks, "forks_refused",
        (int)sample.forks_refused, "backend", device->backend, "device", device->text, "products",
        device->products, "clock", device->clock, "paths", json_paths(live), "metrics",
        cop_metrics_to_json(metrics));
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
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

static void print_summary(const cop_live_sample *sample, const cop_metrics *m, const char *clock,
                          const cop_run_output *state) {
    if (state->any_path && !state->tree) /* the whole text in order, now that every join is done */
        printf("\n----\n%.*s", (int)sample->bytes, sample->text);
    if (!state->tree)
        printf("\n");
    fflush(stdout); /* the lines on stderr come after the text, in one pipe as well */
    if (sample->answer)
        fprintf(stderr, "[answer:%.*s]\n", (int)sample->answer_bytes, sample->answer);
    fprintf(stderr,
            "[%llu tokens, longest thread %llu, %llu steps, %llu forks, stop: %s, %.1f tokens/s, "
            "first token after %.0f ms%s%s]\n",
            (unsigned long long)m->tokens_total, (unsigned long long)m->tokens_longest_thread,
            (unsigned long long)m->steps_forward, (unsigned long long)m->forks,
            cop_stop_name(sample->stop), (double)m->tokens_total / ((double)m->wall_ns / 1e9),
            (double)m->ttft_ns / 1e6, strcmp(clock, "wall") == 0 ? "" : "; times are ",
            strcmp(clock, "wall") == 0 ? "" : clock);
}

cop_status cop_run_output_finish(cop_run_output *output, cop_job *job, const cop_token_ids *prompt,
                                 const cop_live *live, const cop_metrics *metrics) {
    if (output->json)
        return print_json(job, prompt, live, metrics);
    cop_live_sample sample = cop_live_sample_read(live, 0);
    const cop_job_device *device;
    COP_TRY(cop_job_device_of(job, &device));
    cop_status status = output->tree ? cop_live_tree_finish(output->tree) : COP_OK;
    print_summary(&sample, metrics, device->clock, output);
    return status;
}
