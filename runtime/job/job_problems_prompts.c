/* What the problems of a set are given under one method: a dialect's prompts, encoded, or the texts
 * that a controller asks about. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/paths.h"
#include "job/job_problems.h"
#include "model/chat.h"

enum { INSERTED_BYTES = 1024 }; /* a dialect's texts have at most half of it */

typedef struct prompt_form { /* how a problem becomes a prompt */
    const cop_job *job;
    const cop_dialect *dialect;
    uint32_t paths;
    const cop_buffer *before, *after; /* of a chat format; empty: none */
} prompt_form;

static cop_status wrap(const prompt_form *form, const cop_buffer *text, cop_buffer *out) {
    out->bytes = 0;
    COP_TRY(cop_buffer_append(out, form->before->data, form->before->bytes));
    COP_TRY(cop_buffer_append(out, text->data, text->bytes));
    return cop_buffer_append(out, form->after->data, form->after->bytes);
}

/* `inputs` takes the text before it is wrapped; NULL: nobody asks. */
static cop_status encode_one(const prompt_form *form, const char *pattern,
                             const cop_problem_entry *problem, cop_buffer *inputs,
                             cop_token_ids *ids) {
    cop_buffer text = {0}, whole = {0};
    cop_status status = cop_dialect_fill(form->dialect, pattern, problem->prompt.text,
                                         problem->prompt.bytes, form->paths, &text);
    if (status == COP_OK && inputs)
        status = cop_buffer_append(inputs, text.data, text.bytes);
    if (status == COP_OK)
        status = wrap(form, &text, &whole);
    if (status == COP_OK)
        status = cop_tokenizer_encode(cop_model_tokenizer(form->job->model),
                                      whole.data ? whole.data : "", whole.bytes,
                                      (cop_encode_options){0}, ids);
    cop_buffer_release(&text);
    cop_buffer_release(&whole);
    return status;
}

static cop_status encode_prompts(const prompt_form *form, const cop_problem_set *set,
                                 cop__problem_prompts *out) {
    for (uint32_t i = 0; i < set->count; i++) {
        cop_status status = encode_one(form, form->dialect->prompt, &set->list[i],
                                       out->input_end ? &out->inputs : NULL, &out->prompts);
        out->prompt_end[i] = out->prompts.count;
        if (out->input_end)
            out->input_end[i] = out->inputs.bytes;
        const uint32_t length = cop__problem_length_at(out->prompt_end, i);
        if (status == COP_OK && length == 0)
            status = COP_FAIL(COP_ERR_CONFIG, "dialect %s makes an empty prompt of it",
                              form->dialect->name);
        if (status != COP_OK)
            return cop_status_prefix(status, "problem %s", set->list[i].id);
        out->longest_prompt = length > out->longest_prompt ? length : out->longest_prompt;
    }
    return COP_OK;
}

static cop_status encode_spawns(const prompt_form *form, const cop_problem_set *set,
                                cop__problem_prompts *out) {
    for (uint32_t i = 0; i < set->count; i++) {
        const cop_status status =
            encode_one(form, form->dialect->spawn_prompt, &set->list[i], NULL, &out->spawns);
        if (status != COP_OK)
            return cop_status_prefix(status, "problem %s", set->list[i].id);
        out->spawn_end[i] = out->spawns.count;
        const uint32_t length = cop__problem_length_at(out->spawn_end, i);
        out->longest_spawn = length > out->longest_spawn ? length : out->longest_spawn;
    }
    return COP_OK;
}

/* What the dialect lets a model do beyond its prompts: with other tags, texts or limits the same
 * problems are other work. Its source is a note. */
static void hash_dialect(cop_sha256 *sha, const cop_dialect *d) {
    const char *texts[2 * COP_EL_COUNT + COP_REPLY_TAGS_MAX + 8];
    size_t n = 0;
    for (int e = 0; e < COP_EL_COUNT; e++) {
        texts[n++] = d->open[e].text;
        texts[n++] = d->close[e].text;
    }
    for (uint32_t i = 0; i < COP_REPLY_TAGS_MAX; i++)
        texts[n++] = i < d->n_reply_from ? d->reply_from[i].text : "";
    texts[n++] = d->prompt;
    texts[n++] = d->branch_prompt;
    texts[n++] = d->join_prompt;
    texts[n++] = d->spawn_prompt;
    texts[n++] = d->reply_otherwise;
    texts[n++] = d->success.text;
    texts[n++] = d->answer_after.text;
    for (size_t i = 0; i < n; i++) /* with their ends: no two lists are the same bytes */
        cop_sha256_add(sha, texts[i], strlen(texts[i]) + 1);
    const uint32_t rules[] = {d->join,      d->positions,  d->reuse,          d->path_end,
                              d->refused,   d->ask_paths,  d->nested,         d->max_paths,
                              d->max_depth, d->max_blocks, d->max_path_tokens};
    cop_sha256_add(sha, rules, sizeof rules);
}

/* And whatever else its file says, but for what is a note: nothing where it says no more. */
static cop_status hash_more(cop_sha256 *sha, const cop_dialect_file *file) {
    static const char *const hashed[] = {
        "name",      "source",     "notes",          "supported",   "join",
        "positions", "reuse",      "path_end",       "refused",     "tags",
        "prompt",    "ask_paths",  "branch_prompt",  "join_prompt", "spawn_prompt",
        "reply",     "success",    "answer_after",   "nested",      "max_paths",
        "max_depth", "max_blocks", "max_path_tokens"};
    json_t *rest = json_copy((json_t *)cop_dialect_json(file));
    if (json_is_true(
            json_object_get(json_object_get(json_object_get(rest, "tags"), "join"), "outside")))
        json_object_set_new(rest, "outside", json_true());
    for (size_t i = 0; i < sizeof hashed / sizeof hashed[0]; i++)
        json_object_del(rest, hashed[i]);
    char *text = json_object_size(rest) ? json_dumps(rest, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    bool short_of_memory = !rest || (json_object_size(rest) && !text);
    if (text)
        cop_sha256_add(sha, text, strlen(text));
    free(text);
    json_decref(rest);
    return short_of_memory ? COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a dialect's rules")
                           : COP_OK;
}

/* The texts that the runtime will insert are tried here: one that the model's tokenizer cannot
 * encode is known before anything is run. */
static cop_status try_texts(const cop_job *job, const cop_dialect *d) {
    char header[INSERTED_BYTES];
    size_t bytes;
    COP_TRY(cop_dialect_branch_prompt(d, (const uint32_t[]){1}, 1, "", 0, header, sizeof header,
                                      &bytes));
    const struct {
        const char *key, *text;
    } inserted[] = {{"branch_prompt", header},
                    {"join_prompt", d->join_prompt},
                    {"path's closing tag", d->close[COP_EL_PATH].text},
                    {"reply", d->reply_otherwise}};
    cop_token_ids ids = {0};
    cop_status status = COP_OK;
    for (size_t i = 0; i < sizeof inserted / sizeof inserted[0] && status == COP_OK; i++) {
        status = cop_tokenizer_encode(cop_model_tokenizer(job->model), inserted[i].text,
                                      strlen(inserted[i].text),
                                      (cop_encode_options){.no_bos = true}, &ids);
        if (status != COP_OK)
            status = cop_status_prefix(status, "dialect %s, its %s, with this model's tokenizer",
                                       d->name, inserted[i].key);
    }
    cop_token_ids_release(&ids);
    return status;
}

static cop_status encode_all(const cop_job *job, const cop_problem_set *set,
                             const cop_problems_method *method, cop__problem_prompts *out) {
    static const cop_buffer none = {0};
    const prompt_form form = {.job = job,
                              .dialect = out->dialect,
                              .paths = method->ask_paths,
                              .before = &out->before,
                              .after = &out->after};
    COP_TRY(encode_prompts(&form, set, out));
    if (!cop_dialect_spawns(out->dialect))
        return COP_OK;
    prompt_form spawn = form;
    spawn.before = spawn.after = &none; /* a child's context is none of a chat */
    return encode_spawns(&spawn, set, out);
}

cop_status cop__problem_prompts_encode(const cop_job *job, const cop_problem_set *set,
                                       const cop_problems_method *method,
                                       cop__problem_prompts *out) {
    char root[COP_PATH_BYTES];
    COP_TRY(cop_dialect_open(method->dialect, &out->file));
    out->dialect = cop_dialect_of(out->file);
    out->prompt_end = cop_calloc(set->count, sizeof *out->prompt_end);
    out->spawn_end = cop_calloc(set->count, sizeof *out->spawn_end);
    if (method->runs_prompts)
        out->input_end = cop_calloc(set->count, sizeof *out->input_end);
    if (!out->prompt_end || !out->spawn_end || (method->runs_prompts && !out->input_end))
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u prompts", set->count);
    if (method->chat) {
        COP_TRY(cop_root_folder(root));
        COP_TRY(cop_chat_frame(root, cop_model_tokenizer(job->model), &out->before, &out->after));
    }
    COP_TRY(encode_all(job, set, method, out));
    if (out->dialect->join != COP_JOIN_NONE && !out->dialect->program)
        COP_TRY(try_texts(job, out->dialect));
    cop_sha256 sha;
    cop_sha256_begin(&sha);
    hash_dialect(&sha, out->dialect);
    COP_TRY(hash_more(&sha, out->file));
    if (method->program)
        cop_sha256_add(&sha, method->program, strlen(method->program) + 1);
    cop_sha256_add(&sha, out->prompts.data, out->prompts.count * sizeof(int32_t));
    if (out->spawns.count > 0)
        cop_sha256_add(&sha, out->spawns.data, out->spawns.count * sizeof(int32_t));
    cop_sha256_finish(&sha, out->sha256);
    return COP_OK;
}

void cop__problem_prompts_release(cop__problem_prompts *prompts) {
    cop_dialect_close(prompts->file);
    cop_token_ids_release(&prompts->prompts);
    cop_token_ids_release(&prompts->spawns);
    cop_free(prompts->prompt_end);
    cop_free(prompts->spawn_end);
    cop_free(prompts->input_end);
    cop_buffer_release(&prompts->inputs);
    cop_buffer_release(&prompts->before);
    cop_buffer_release(&prompts->after);
}
