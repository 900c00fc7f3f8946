#include "command/command.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/choice.h"
#include "command/job_line.h"
#include "command/jsonl.h"
#include "command/options.h"
#include "kv/kv.h"
#include "kv/plan.h"
#include "model/forward.h"
#include "model/model.h"

enum { ROWS_MAX = 256, PAGE_TOKENS = 32, CHUNK_TOKENS = 1024 };

typedef struct score_options {
    cop_device_line on;
    const char *model, *input, *compute, *isa;
    uint32_t top, threads;
} score_options;

static const char about[] =
    "Runs each line of token ids (or of text, which is encoded first) through the model and "
    "prints\n"
    "one JSON object a line, in the order of the input:\n"
    "  {\"n\": tokens, \"nll\": x, \"logsumexp\": x, \"top\": [[id, logit], ..], \"compute\": "
    "\"f32\",\n   \"backend\": \"cpu\"}\n"
    "nll is the sum over positions 1 .. n-1 of -log p(ids[i] | ids[<i]) in nats, or null with a\n"
    "\"nll_reason\"; logsumexp and top belong to the last position; top falls by logit, the lower "
    "id\n"
    "first on a tie. A line is {\"text\": ..} or {\"ids\": [..]}; with both, the ids are taken. "
    "Output\n"
    "appears only when every line is good; a bad one is named as FILE:LINE, exit code 2.";

typedef struct line_set { /* all lines, encoded: line i is ids[begin[i]] .. ids[begin[i + 1]] */
    cop_token_ids ids;
    size_t *begin;
    size_t capacity, count;
    size_t longest;
} line_set;

typedef struct ranked {
    float logit;
    int32_t id;
} ranked;

typedef struct score_run {
    const cop_model *model;
    const cop_backend_ops *ops;
    cop_backend *backend;
    cop_profile profile;
    uint64_t n_steps;
    cop_kv *kv;
    cop_plan *plan;
    uint32_t max_rows;
    uint32_t top;
    const char *compute;
    int32_t *token, *position;
    uint32_t *segment, *offset;
    cop_sample_request *requests;
    cop_sample *samples;
    float *logits;  /* [vocab] of the last position */
    ranked *ranked; /* [vocab] */
} score_run;

static cop_status read_line(const cop_model *model, const json_t *line, line_set *set) {
    uint32_t vocab = cop_model_shape_of(model)->vocab;
    cop_token_ids ids = {0};
    cop_status status;
    if (json_object_get(line, "ids")) {
        status = cop_jsonl_ids(line, vocab, &ids);
    } else if (!json_object_get(line, "text")) {
        status = COP_FAIL(COP_ERR_FORMAT, "the line has neither \"text\" nor \"ids\"");
    } else if (!cop_model_tokenizer(model)) {
        status = COP_FAIL(COP_ERR_FORMAT, "the model has no tokenizer: give \"ids\"");
    } else {
        const char *text = NULL;
        size_t bytes = 0;
        status = cop_jsonl_text(line, &text, &bytes);
        if (status == COP_OK)
            status = cop_tokenizer_encode(cop_model_tokenizer(model), text, bytes,
                                          (cop_encode_options){0}, &ids);
    }
    uint32_t context = cop_model_shape_of(model)->context;
    if (status == COP_OK && ids.count > context)
        status = COP_FAIL(COP_ERR_CONTEXT, "%zu tokens, but the model's context is %u: shorten it",
                          ids.count, context);
    size_t total = set->ids.count + ids.count;
    if (status == COP_OK)
        status = cop_grow(&set->ids.data, &set->ids.capacity, total + 1, sizeof *ids.data);
    if (status == COP_OK)
        status = cop_grow(&set->begin, &set->capacity, set->count + 2, sizeof *set->begin);
    if (status == COP_OK) {
        if (ids.count)
            memcpy(set->ids.data + set->ids.count, ids.data, ids.count * sizeof *ids.data);
        set->ids.count = total;
        set->begin[++set->count] = total;
        set->longest = ids.count > set->longest ? ids.count : set->longest;
    }
    cop_token_ids_release(&ids);
    return status;
}

static cop_status read_lines(const cop_model *model, const char *path, line_set *set) {
    cop_jsonl input;
    json_t *line = NULL;
    cop_status status = cop_jsonl_open(path, &input);
    while (status == COP_OK && (status = cop_jsonl_next(&input, &line)) == COP_OK && line) {
        status = read_line(model, line, set);
        json_decref(line);
        if (status != COP_OK)
            status = cop_jsonl_fail(&input, status);
    }
    cop_jsonl_close(&input);
    return status;
}

static void scorer_release(score_run *scorer) {
    if (scorer->profile.on) /* its steps were more than the input took */
        scorer->ops->profile(scorer->backend, false);
    if (scorer->backend)
        scorer->ops->destroy(scorer->backend);
    cop_plan_destroy(scorer->plan);
    cop_kv_destroy(scorer->kv);
    cop_free(scorer->token);
    cop_free(scorer->position);
    cop_free(scorer->segment);
    cop_free(scorer->offset);
    cop_free(scorer->requests);
    cop_free(scorer->samples);
    cop_free(scorer->logits);
    cop_free(scorer->ranked);
}

static cop_status take_buffers(score_run *scorer, uint32_t vocab) {
    scorer->token = cop_calloc(scorer->max_rows, sizeof *scorer->token);
    scorer->position = cop_calloc(scorer->max_rows, sizeof *scorer->position);
    scorer->segment = cop_calloc(scorer->max_rows, sizeof *scorer->segment);
    scorer->offset = cop_calloc(scorer->max_rows, sizeof *scorer->offset);
    scorer->requests = cop_calloc(scorer->max_rows, sizeof *scorer->requests);
    scorer->samples = cop_calloc(scorer->max_rows, sizeof *scorer->samples);
    scorer->logits = cop_calloc(vocab, sizeof *scorer->logits);
    scorer->ranked = cop_calloc(vocab, sizeof *scorer->ranked);
    if (!scorer->token || !scorer->position || !scorer->segment || !scorer->offset ||
        !scorer->requests || !scorer->samples || !scorer->logits || !scorer->ranked)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u rows", scorer->max_rows);
    return COP_OK;
}

/* Everything is sized for the longest line; each line is one segment of its own. */
static cop_status scorer_create(score_run *scorer, const score_options *options,
                                const cop_backend_choice *on, cop_arith arith, uint32_t longest) {
    const cop_model_shape *shape = cop_model_shape_of(scorer->model);
    uint32_t n_pages = longest / PAGE_TOKENS + 1;
    scorer->max_rows = longest < ROWS_MAX ? longest : ROWS_MAX;
    scorer->profile = (cop_profile){.first = on->profile_first, .last = on->profile_last};
    cop_kv_options kv = {.page_tokens = PAGE_TOKENS,
                         .n_pages = n_pages,
                         .max_segments = 4,
                         .max_nodes = 4,
                         .chunk_tokens = CHUNK_TOKENS,
                         .chunk_tail_tokens = CHUNK_TOKENS};
    COP_TRY(cop_kv_create(&kv, &scorer->kv));
    uint32_t max_partials = scorer->max_rows * (longest / CHUNK_TOKENS + 1);
    cop_plan_options plan = {.group = shape->n_heads / shape->n_kv_heads,
                             .chunk_tokens = CHUNK_TOKENS,
                             .chunk_tail_tokens = CHUNK_TOKENS,
                             .max_decode_slots = 1,
                             .max_prefill_slots = scorer->max_rows,
                             .max_partials = max_partials};
    COP_TRY(cop_plan_create(&plan, scorer->kv, &scorer->plan));
    cop_backend_options backend = {.arith = arith,
                                   .n_threads = options->threads,
                                   .isa = options->isa,
                                   .max_rows = scorer->max_rows,
                                   .max_samples = scorer->max_rows,
                                   .max_partials = max_partials,
                                   .max_positions = longest,
                                   .n_pages = n_pages,
                                   .page_tokens = PAGE_TOKENS,
                                   .capacity = cop_plan_capacity(scorer->plan),
                                   .products = on->products,
                                   .device = on->device,
                                   .eager = on->eager,
                                   .time_every = on->time_every};
    COP_TRY(scorer->ops->create(scorer->model, &backend, &scorer->backend));
    return take_buffers(scorer, shape->vocab);
}

/* Rows first .. first + rows - 1 of a line of n tokens; adds to the log-likelihood of the line. */
static cop_status run_rows(score_run *scorer, cop_node node, const int32_t *ids, uint32_t n,
                           uint32_t first, uint32_t rows, double *nll) {
    COP_TRY(cop_kv_append(scorer->kv, node, rows));
    cop_prefill_run run = {.node = node, .first = first, .tokens = rows, .row = 0};
    COP_TRY(cop_plan_step(scorer->plan, NULL, 0, &run, 1));
    uint32_t segment = cop_kv_node(scorer->kv, node).segment;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t at = first + i;
        scorer->token[i] = ids[at];
        scorer->position[i] = (int32_t)at;
        scorer->segment[i] = segment;
        scorer->offset[i] = at;
        scorer->requests[i] =
            (cop_sample_request){.row = i, .top_p = 1, .forced = at + 1 < n ? ids[at + 1] : -1};
    }
    cop_step step = {.n_rows = rows,
                     .token = scorer->token,
                     .position = scorer->position,
                     .segment = scorer->segment,
                     .offset = scorer->offset,
                     .plan = cop_plan_view(scorer->plan)};
    COP_TRY(cop_profile_before(&scorer->profile, scorer->ops, scorer->backend, ++scorer->n_steps));
    COP_TRY(cop_forward(scorer->ops, scorer->backend, cop_model_shape_of(scorer->model), &step,
                        scorer->requests, rows, scorer->samples));
    COP_TRY(cop_profile_after(&scorer->profile, scorer->ops, scorer->backend, scorer->n_steps));
    cop_plan_changes_clear(scorer->plan);
    for (uint32_t i = 0; i < rows; i++) {
        if (scorer->samples[i].failed)
            return COP_FAIL(COP_ERR_NONFINITE, "position %u gives values that are not finite",
                            first + i);
        if (first + i + 1 < n)
            *nll -= (double)scorer->samples[i].forced_logprob;
    }
    if (first + rows < n)
        return COP_OK;
    return scorer->ops->read_logits(scorer->backend, rows - 1, scorer->logits);
}

static cop_status run_line(score_run *scorer, const int32_t *ids, uint32_t n, double *nll) {
    cop_node node = COP_NODE_NONE;
    COP_TRY(cop_kv_open(scorer->kv, cop_kv_root(scorer->kv), &node));
    cop_status status = COP_OK;
    for (uint32_t first = 0, rows; status == COP_OK && first < n; first += rows) {
        rows = n - first < scorer->max_rows ? n - first : scorer->max_rows;
        status = run_rows(scorer, node, ids, n, first, rows, nll);
    }
    cop_kv_release(scorer->kv, node);
    return status;
}

static int compare_ranked(const void *a, const void *b) {
    const ranked *left = a, *right = b;
    if (left->logit != right->logit)
        return left->logit < right->logit ? 1 : -1;
    return (left->id > right->id) - (left->id < right->id);
}

/* The last position's logits: their logsumexp in double precision, and the largest. */
static cop_status print_last(score_run *scorer, cop_buffer *out) {
    uint32_t vocab = cop_model_shape_of(scorer->model)->vocab;
    for (uint32_t i = 0; i < vocab; i++)
        scorer->ranked[i] = (ranked){scorer->logits[i], (int32_t)i};
    qsort(scorer->ranked, vocab, sizeof *scorer->ranked, compare_ranked);
    double max = scorer->ranked[0].logit, sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)scorer->logits[i] - max);
    COP_TRY(cop_buffer_printf(out, ", \"logsumexp\": %.9g, \"top\": [", max + log(sum)));
    for (uint32_t i = 0; i < scorer->top; i++)
        COP_TRY(cop_buffer_printf(out, "%s[%d, %.9g]", i ? ", " : "", scorer->ranked[i].id,
                                  (double)scorer->ranked[i].logit));
    return cop_buffer_printf(out, "], \"compute\": \"%s\", \"backend\": \"%s\"}\n", scorer->compute,
                             scorer->ops->name);
}

static cop_status score_line(score_run *scorer, const int32_t *ids, uint32_t n, cop_buffer *out) {
    double nll = 0;
    if (n == 0)
        return cop_buffer_printf(out,
                                 "{\"n\": 0, \"nll\": null, \"nll_reason\": \"no token\", "
                                 "\"logsumexp\": null, \"top\": [], \"compute\": \"%s\", "
                                 "\"backend\": \"%s\"}\n",
                                 scorer->compute, scorer->ops->name);
    COP_TRY(run_line(scorer, ids, n, &nll));
    if (n == 1)
        COP_TRY(cop_buffer_printf(out,
                                  "{\"n\": 1, \"nll\": null, \"nll_reason\": \"one token: nothing "
                                  "before it predicts it\""));
    else
        COP_TRY(cop_buffer_printf(out, "{\"n\": %u, \"nll\": %.9g", n, nll));
    return print_last(scorer, out);
}

static cop_status score(const score_options *options, cop_buffer *out) {
    cop_model *model = NULL;
    line_set set = {0};
    score_run scorer = {0};
    cop_arith arith;
    cop_backend_choice on = {0};
    cop_status status = cop_device_line_read(&options->on, &on);
    if (status == COP_OK)
        status = cop_backend_choice_find(&on, &scorer.ops);
    const char *otherwise = status == COP_OK && scorer.ops == &cop_backend_cpu ? "f32" : "bf16";
    if (status == COP_OK)
        status = cop_arith_parse(options->compute ? options->compute : otherwise, &arith);
    if (status != COP_OK)
        goto done;
    status = cop_model_open(options->model, &model);
    if (status != COP_OK)
        goto done;
    status = read_lines(model, options->input, &set);
    if (status != COP_OK)
        goto done;
    uint32_t vocab = cop_model_shape_of(model)->vocab;
    if (options->top > vocab) {
        status = COP_FAIL(COP_ERR_USAGE, "--top %u is more than the vocabulary's %u tokens",
                          options->top, vocab);
        goto done;
    }
    scorer.model = model;
    scorer.top = options->top;
    scorer.compute = cop_arith_name(arith);
    if (set.longest > 0)
        status = scorer_create(&scorer, options, &on, arith, (uint32_t)set.longest);
    for (size_t i = 0; status == COP_OK && i < set.count; i++) {
        status = score_line(&scorer, set.ids.data + set.begin[i],
                            (uint32_t)(set.begin[i + 1] - set.begin[i]), out);
        if (status != COP_OK)
            cop_status_prefix(status, "%s:%zu",
                              strcmp(options->input, "-") ? options->input : "stdin", i + 1);
    }
    if (status == COP_OK)
        status = cop_model_check(model);
done:
    scorer_release(&scorer);
    cop_token_ids_release(&set.ids);
    cop_free(set.begin);
    cop_model_close(model);
    return status;
}

int cop_command_score(int argc, char **argv) {
    score_options options = {.top = 20};
    const cop_option list[] = {
        {"model", COP_OPTION_TEXT, &options.model, "FILE", "a GGUF model", .required = true},
        {"input", COP_OPTION_TEXT, &options.input, "FILE", "JSON lines; - is stdin",
         .required = true},
        {"top", COP_OPTION_U32, &options.top, "K", "how many logits, up to the vocabulary (20)"},
        {"compute", COP_OPTION_TEXT, &options.compute, "NAME",
         "the arithmetic (f32 on cpu, bf16 elsewhere)",
         .choices = "f32|bf16|native-f32|native-a8|native"},
        {"threads", COP_OPTION_U32, &options.threads, "N", "0: all that the process may use (0)",
         .max = 1024},
        {"isa", COP_OPTION_TEXT, &options.isa, "NAME", "instruction set (the best one)",
         .choices = "portable|avx2|avx512"},
        COP_DEVICE_LINE_OPTIONS(options.on),
    };
    const cop_command_line line = {
        .verb = "score",
        .usage = "--model FILE --input FILE [--top K] [--compute NAME] [--backend NAME] [options]",
        .about = about,
        .options = list,
        .n_options = sizeof list / sizeof list[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status != COP_OK)
        return cop_command_fail("score", status);
    if (operands.help)
        return 0;
    cop_buffer out = {0};
    status = score(&options, &out);
    if (status == COP_OK)
        status = cop_command_output(&out);
    cop_buffer_release(&out);
    return status == COP_OK ? 0 : cop_command_fail("score", status);
}
