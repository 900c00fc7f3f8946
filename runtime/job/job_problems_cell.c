/* One run of a cell: an engine for so many problems at once, a driver for each of these places, and
 * a queue that hands the problems out and takes down what became of them. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "job/job_problems.h"

enum {
    HEADER_TOKENS = 64,       /* what a path may be given at most */
    ROWS_SPARE = 512,         /* headers and joins of a step */
    PROMPT_ROWS_LIMIT = 8192, /* prompts that begin together; more of them take another step */
    CALIBRATION_BRANCHES = 17 /* decodes up to 16 beside their prompt */
};

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes) { /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3ull;
    return hash;
}

static const uint64_t hash_begin = 0xcbf29ce484222325ull;

/* ---- sizes ---- */

uint32_t cop__problem_max_tokens(const cop__problem_cell *cell) {
    return cell->method->max_tokens ? cell->method->max_tokens : cell->what->max_tokens;
}

uint32_t cop__problem_max_paths(const cop__problem_cell *cell) {
    if (cell->prompts->dialect->join == COP_JOIN_NONE)
        return 0;
    return cell->what->max_paths ? cell->what->max_paths : COP_PROBLEM_PATHS_DEFAULT;
}

/* Tokens that the branches of one sample of a problem hold together, each computed once. */
static uint64_t tokens_of_sample(const cop__problem_cell *cell) {
    uint64_t paths = cop__problem_max_paths(cell);
    uint64_t calls = cop_dialect_calls(cell->prompts->dialect);
    return (uint64_t)cell->prompts->longest_prompt + calls * cop__problem_max_tokens(cell) +
           paths * (cell->prompts->longest_spawn + HEADER_TOKENS);
}

/* The same of all its samples, which share the prompt. */
static uint64_t tokens_of(const cop__problem_cell *cell) {
    const uint64_t prompt = cell->prompts->longest_prompt;
    return prompt + cop__problem_n_samples(cell) * (tokens_of_sample(cell) - prompt);
}

cop_status cop__problem_rule_open(const cop__problem_cell *cell, cop_job_rule *out) {
    const uint32_t paths = cop__problem_max_paths(cell), samples = cop__problem_n_samples(cell);
    const cop_job_rule_limits limits = {.max_branches = samples > 1 ? samples
                                                        : paths     ? paths
                                                                    : 1,
                                        .checker = samples > 1 ? cell->checker : NULL,
                                        .max_tokens = cop__problem_max_tokens(cell),
                                        .model = cell->job->model,
                                        .runs_prompts = cell->method->runs_prompts};
    return cop_job_rule_open(cell->method->rule, &limits, out);
}

static cop_status add_rule_size(const cop__problem_cell *cell, cop_job_size *size) {
    if (!cell->method->rule)
        return COP_OK;
    cop_job_rule rule = {0};
    const uint64_t said = (uint64_t)cop_dialect_calls(cell->prompts->dialect) *
                          cop__problem_max_tokens(cell) * cell->at_once *
                          cop__problem_n_samples(cell);
    const uint32_t branches =
        cell->at_once * cop__problem_n_samples(cell) * (cop__problem_max_paths(cell) + 1);
    const cop_status status = cop__problem_rule_open(cell, &rule);
    if (status == COP_OK)
        cop_job_rule_size(&rule, branches, said, size);
    cop_job_rule_close(&rule);
    return status;
}

static cop_status size_of_calls(cop__problem_cell *cell, cop_job_size *out) {
    *out = cop__problem_calls_size(cell);
    cell->positions = out->positions;
    if (cell->job->options.prefix_block)
        out->tokens += cell->prompts->prompts.count;
    out->branches += CALIBRATION_BRANCHES;
    out->rows += CALIBRATION_BRANCHES;
    return COP_OK;
}

static cop_status size_of_paths(cop__problem_cell *cell, cop_job_size *out) {
    const cop_dialect *dialect = cell->prompts->dialect;
    uint64_t samples = cop__problem_n_samples(cell), tokens = tokens_of(cell);
    uint64_t paths = samples * (cop__problem_max_paths(cell) + 1) - 1;
    uint64_t prompt_rows = (uint64_t)cell->at_once * cell->prompts->longest_prompt;
    uint64_t branches = cell->at_once * (paths + 2) + CALIBRATION_BRANCHES;
    uint64_t positions = tokens_of_sample(cell);
    uint32_t context = cop_model_shape_of(cell->job->model)->context;
    /* A problem that reaches the end of the context stops there, so no more than that is needed. */
    if (positions > context && !cell->job->options.allow_extrapolation)
        positions = context;
    if (cell->prompts->longest_prompt >= positions)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "%s: a prompt of %u tokens leaves no room in the model's context of %u",
                        cell->what->name, cell->prompts->longest_prompt, context);
    if (positions > UINT32_MAX || branches > UINT32_MAX / 4)
        return COP_FAIL(COP_ERR_CONFIG, "%s: max_tokens and max_paths are too large together",
                        cell->what->name);
    if (prompt_rows > PROMPT_ROWS_LIMIT)
        prompt_rows = PROMPT_ROWS_LIMIT;
    /* Joins by text compute again what the paths hold still, or what a reply says. */
    bool again = dialect->join == COP_JOIN_REPREFILL || dialect->join == COP_JOIN_MESSAGE ||
                 dialect->join == COP_JOIN_ASYNC;
    cell->positions = (uint32_t)positions;
    /* A store that must give up what it was filled with would be neither cold nor warm. */
    uint64_t kept = cell->job->options.prefix_block ? cell->prompts->prompts.count : 0;
    *out = (cop_job_size){.tokens = cell->at_once * tokens * (again ? 2 : 1) + kept,
                          .segments = (uint32_t)(cell->at_once * (2 * paths + 4)) + 64,
                          .branches = (uint32_t)branches,
                          .positions = (uint32_t)positions,
                          .rows = (uint32_t)(branches + prompt_rows) + ROWS_SPARE,
                          .what = cell->problem};
    return add_rule_size(cell, out);
}

static cop_status open_engine(cop__problem_cell *cell, cop_engine **out) {
    cop_job_size size;
    COP_TRY(cell->method->runs_prompts ? size_of_calls(cell, &size) : size_of_paths(cell, &size));
    COP_TRY(cop_job_engine(cell->job, &size, NULL, out));
    return cop_engine_calibrate(*out);
}

/* ---- the queue ---- */

typedef struct place { /* one of the problems that run at the same time */
    cop_live *live;
    cop_controller *controller; /* instead, under a controller */
    cop_live_tracer *tracer;
    cop_job_rule rule; /* its own, begun anew with each problem; rule.rule is NULL: none */
    uint32_t problem;  /* the one that runs there, */
    uint32_t first_sample, wave; /* and of its samples, where several are drawn */
    bool has_bos;                /* its prompt begins with one */
} place;

typedef struct problem_queue {
    cop_problem_queue queue;
    cop__problem_cell *cell;
    place *places; /* [at_once] */
    uint32_t *idle, n_idle;
    uint32_t *again, n_again; /* places whose problem goes on with further samples */
    uint32_t next, end;       /* problems still to begin */
    uint32_t n_ended;
    cop_message_program *program; /* or NULL */
    uint8_t *marks;               /* [max_ids] of the sample that was read last */
    cop_status status;            /* what a callback could not do; nothing begins after it */
} problem_queue;

static uint64_t key_of(const cop_problem_entry *problem) {
    return hash_bytes(hash_begin, problem->id, strlen(problem->id));
}

static cop_driver *driver_of(const place *at) {
    return at->controller ? cop_controller_driver(at->controller) : cop_live_driver(at->live);
}

static cop_live_sample sample_of(const place *at) {
    return at->controller ? cop_controller_read(at->controller) : cop_live_sample_read(at->live, 0);
}

static uint32_t count_paths(const place *at) {
    return at->controller ? cop_controller_call_count(at->controller)
                          : cop_live_path_count(at->live);
}

static cop_live_path path_of(const place *at, uint32_t i) {
    return at->controller ? cop_controller_call_read(at->controller, i).path
                          : cop_live_path_read(at->live, i);
}

/* How many samples of its problem may run there now. */
static uint32_t next_wave(const problem_queue *queue, const place *at) {
    const uint32_t left = cop__problem_n_samples(queue->cell) - at->first_sample;
    const uint32_t may = at->rule.rule ? cop_rule_may_open(at->rule.rule) : left;
    return may < left ? may : left;
}

/* The place whose problem runs next: one that goes on, or the next problem's. */
static place *next_place(problem_queue *queue) {
    if (queue->status != COP_OK)
        return NULL;
    if (queue->n_again > 0)
        return &queue->places[queue->again[--queue->n_again]];
    if (queue->next == queue->end)
        return NULL;
    place *at = &queue->places[queue->idle[--queue->n_idle]];
    at->problem = queue->next++;
    at->first_sample = 0;
    if (at->rule.rule && !at->controller)
        cop_rule_reset(at->rule.rule);
    return at;
}

static cop_driver *next_problem(cop_problem_queue *self) {
    problem_queue *queue = (problem_queue *)self;
    const cop__problem_prompts *prompts = queue->cell->prompts;
    place *at = next_place(queue);
    if (!at)
        return NULL;
    const uint32_t i = at->problem;
    uint32_t n_prompt = cop__problem_length_at(prompts->prompt_end, i);
    uint32_t n_spawn = cop__problem_length_at(prompts->spawn_end, i);
    const int32_t *spawn = n_spawn ? prompts->spawns.data + prompts->spawn_end[i] - n_spawn : NULL;
    const int32_t *prompt = prompts->prompts.data + prompts->prompt_end[i] - n_prompt;
    const cop_tokenizer *tokenizer = cop_model_tokenizer(queue->cell->job->model);
    at->has_bos = prompt[0] == cop_tokenizer_bos(tokenizer);
    cop_live_tracer_reset(at->tracer, at->controller ? 0 : n_prompt, n_spawn);
    const uint64_t key = key_of(&queue->cell->set->list[i]);
    if (at->controller) {
        const size_t *end = prompts->input_end, from = i ? end[i - 1] : 0;
        queue->status =
            cop_controller_reset(at->controller, prompts->inputs.data + from, end[i] - from, key);
        return queue->status == COP_OK ? driver_of(at) : NULL;
    }
    if (cop__problem_n_samples(queue->cell) > 1) {
        at->wave = next_wave(queue, at);
        cop_live_wave(at->live, at->first_sample, at->wave);
    }
    queue->status = cop_live_reset(at->live, prompt, n_prompt, spawn, n_spawn, key);
    return queue->status == COP_OK ? driver_of(at) : NULL;
}

static bool well_formed(const place *at, const cop_live_sample *sample) {
    if (sample->ill_formed_tags > 0 || sample->forks_refused > 0 || sample->stop == COP_STOP_PATH ||
        sample->stop == COP_STOP_RULE)
        return false;
    for (uint32_t i = 0; i < count_paths(at); i++) {
        cop_stop stop = path_of(at, i).stop;
        if (stop == COP_STOP_LENGTH || stop == COP_STOP_NONE)
            return false;
    }
    return true;
}

/* Of all that was said: a child's text need not stand in its parent's. */
static uint64_t hash_outputs(const place *at, const cop_live_sample *sample) {
    uint64_t hash = hash_bytes(hash_begin, sample->ids, sample->n_ids * sizeof *sample->ids);
    for (uint32_t i = 0; i < count_paths(at); i++) {
        cop_live_path path = path_of(at, i);
        hash = hash_bytes(hash, path.path, strlen(path.path) + 1);
        hash = hash_bytes(hash, path.ids, path.n_ids * sizeof *path.ids);
    }
    return hash;
}

cop_answer_text cop__problem_claim_of(const cop__problem_cell *cell,
                                      const cop_live_sample *sample) {
    const cop_dialect *dialect = cell->prompts->dialect;
    bool by_checker = dialect->answer_after.bytes == 0 && cop_checker_has_mark(cell->checker);
    if (!by_checker)
        return (cop_answer_text){sample->answer, sample->answer_bytes};
    if (sample->stop != COP_STOP_END)
        return (cop_answer_text){0};
    return cop_checker_claim(cell->checker, (cop_answer_text){sample->text, sample->bytes});
}

/* The papers' measures, from the sample's trace and from its finished text. */
static void measure_reasoning(problem_queue *queue, const place *at, const cop_live_sample *sample,
                              cop__problem_outcome *out) {
    const cop__problem_cell *cell = queue->cell;
    const cop_dialect *d = cell->prompts->dialect;
    out->traced = cop_live_tracer_measure(at->tracer, at->has_bos, &out->trace);
    out->marked = cop_tag_marks(d, cop_model_tokenizer(cell->job->model), sample, queue->marks);
    out->gain_words = NAN;
    if (!out->marked)
        return;
    cop_marked_measure(queue->marks, sample->n_ids, &out->marks);
    const cop_word_tags tags = {d->open[COP_EL_BLOCK].text, d->close[COP_EL_BLOCK].text,
                                d->open[COP_EL_PATH].text, d->close[COP_EL_PATH].text};
    out->gain_words = cop_efficiency_gain_words(sample->text, sample->bytes, &tags);
}

static cop_status take_down(problem_queue *queue, const place *at,
                            const cop_problem_result *result) {
    cop__problem_cell *cell = queue->cell;
    const cop_problem_entry *problem = &cell->set->list[at->problem];
    const cop_live_sample sample = sample_of(at);
    if (sample.n_ids > cell->max_ids - cell->n_ids)
        return COP_FAIL(COP_ERR_NO_ROOM, "problem %s: the outputs are longer than %zu tokens",
                        problem->id, cell->max_ids);
    cop_answer_text claimed = at->controller ? cop__problem_calls_claim(cell, &sample)
                                             : cop__problem_claim_of(cell, &sample);
    if (claimed.text &&
        (claimed.text < sample.text || claimed.text + claimed.bytes > sample.text + sample.bytes))
        return COP_FAIL(COP_ERR_INTERNAL, "problem %s: its answer is no part of its text",
                        problem->id);
    cell->outcomes[at->problem] = (cop__problem_outcome){
        .grade = cop_checker_grade(cell->checker, problem->prompt, problem->answer, claimed),
        .stop = sample.stop,
        .begin_ns = result->begin_ns,
        .end_ns = result->end_ns,
        .longest = result->tokens_longest_thread,
        .tokens = result->tokens_total,
        .seen_sum = result->seen_sum,
        .hash = hash_outputs(at, &sample),
        .forks = sample.forks,
        .paths = sample.paths,
        .cancelled = sample.paths_cancelled,
        .well_formed = well_formed(at, &sample),
        .claimed = claimed.text != NULL,
        .lowest_confidence = sample.lowest_confidence,
        .first_id = cell->n_ids,
        .n_ids = sample.n_ids,
        .text_bytes = sample.bytes,
        .answer_at = claimed.text ? (size_t)(claimed.text - sample.text) : 0,
        .answer_bytes = claimed.text ? claimed.bytes : 0,
        .first_byte = cell->texts.bytes};
    if (at->controller)
        COP_TRY(cop__problem_calls_keep(cell, at->controller, &sample));
    measure_reasoning(queue, at, &sample, &cell->outcomes[at->problem]);
    if (at->rule.rule) {
        const cop_rule_stats stats = cop_rule_stats_of(at->rule.rule);
        cop_job_rule_add(&cell->rule, &stats);
    }
    if (sample.n_ids > 0)
        memcpy(cell->ids + cell->n_ids, sample.ids, sample.n_ids * sizeof *cell->ids);
    cell->n_ids += sample.n_ids;
    return COP_OK;
}

/* *goes_on: the problem has further samples to run. */
static cop_status take_down_samples(problem_queue *queue, place *at,
                                    const cop_problem_result *result, bool *goes_on) {
    COP_TRY(cop__problem_samples_keep(queue->cell, at->problem, at->live, at->first_sample,
                                      at->wave, result));
    at->first_sample += at->wave;
    *goes_on = next_wave(queue, at) > 0;
    if (*goes_on)
        return COP_OK;
    const cop_rule_stats stats = cop_rule_stats_of(at->rule.rule);
    cop_job_rule_add(&queue->cell->rule, &stats);
    return cop__problem_samples_finish(queue->cell, at->problem, at->rule.rule);
}

static void problem_ended(cop_problem_queue *self, cop_driver *driver,
                          const cop_problem_result *result) {
    problem_queue *queue = (problem_queue *)self;
    cop__problem_cell *cell = queue->cell;
    uint32_t at = 0;
    while (driver_of(&queue->places[at]) != driver)
        at++;
    bool goes_on = false;
    if (queue->status == COP_OK && cop__problem_n_samples(cell) > 1)
        queue->status = take_down_samples(queue, &queue->places[at], result, &goes_on);
    else if (queue->status == COP_OK)
        queue->status = take_down(queue, &queue->places[at], result);
    if (goes_on) {
        queue->again[queue->n_again++] = at;
        return;
    }
    queue->idle[queue->n_idle++] = at;
    uint32_t done = ++queue->n_ended, count = cell->set->count;
    if (!cell->what->progress || done % (count < 100 ? 1 : count / 100))
        return;
    char text[192];
    snprintf(text, sizeof text, "%s, %.60s: %u of %u problems", cell->problem, cell->method->name,
             done, count);
    cell->what->progress(cell->what->context, cell->done, cell->total, text);
}

/* ---- runs ---- */

static cop_live_options live_options(const cop__problem_cell *cell,
                                     const cop_prune_options *prune) {
    const cop_problems_job *what = cell->what;
    const cop__problem_prompts *prompts = cell->prompts;
    return (cop_live_options){.dialect = prompts->dialect,
                              .tokenizer = cop_model_tokenizer(cell->job->model),
                              .prompt = prompts->prompts.data,
                              .n_prompt = (uint32_t)prompts->prompt_end[0],
                              .spawn = prompts->spawns.data,
                              .n_spawn = (uint32_t)prompts->spawn_end[0],
                              .n_samples = cop__problem_n_samples(cell),
                              .rule_over_samples = cop__problem_n_samples(cell) > 1,
                              .max_tokens = cop__problem_max_tokens(cell),
                              .max_branches =
                                  cop__problem_n_samples(cell) * (1 + cop__problem_max_paths(cell)),
                              .temperature = what->temperature,
                              .top_p = what->top_p,
                              .min_p = what->min_p,
                              .top_k = what->top_k,
                              .max_blocks = cell->method->max_blocks,
                              .prune = *prune,
                              .join_policy = cell->method->join_policy};
}

/* Everything that runs one problem after another. */
static cop_status make_place(const cop__problem_cell *cell, cop_live_options *options, place *at) {
    const bool calls = cell->method->runs_prompts;
    const cop_live_tracer_options traced = {.dialect = cell->prompts->dialect,
                                            .max_paths = calls ? COP_CONTROLLER_CALLS
                                                               : cop__problem_max_paths(cell),
                                            .keep_partial = cell->method->join_policy.keep_partial,
                                            .spawns = calls};
    COP_TRY(cop_live_tracer_create(&traced, &at->tracer));
    if (cell->method->rule)
        COP_TRY(cop__problem_rule_open(cell, &at->rule));
    if (calls)
        return cop__problem_calls_create(cell, at->rule.rule, at->tracer, &at->controller);
    options->listener = cop_live_tracer_hear;
    options->listener_context = at->tracer;
    options->rule = at->rule.rule;
    if (cop__problem_n_samples(cell) == 1)
        return cop_live_create(options, &at->live);
    options->listener = NULL; /* what is measured of a trace is one sample's */
    options->claim = cop__problem_claim;
    options->claim_context = (void *)cell;
    options->wave = cop_rule_may_open(at->rule.rule);
    if (options->wave > options->n_samples)
        options->wave = options->n_samples;
    return cop_live_create(options, &at->live);
}

static cop_status make_places(problem_queue *queue, const cop_prune_options *prune) {
    const cop__problem_cell *cell = queue->cell;
    queue->places = cop_calloc(cell->at_once, sizeof *queue->places);
    queue->idle = cop_calloc(cell->at_once, sizeof *queue->idle);
    queue->again = cop_calloc(cell->at_once, sizeof *queue->again);
    queue->marks = cop_calloc(cell->max_ids, 1);
    if (!queue->places || !queue->idle || !queue->again || !queue->marks)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u problems at once", cell->at_once);
    cop_live_options options = live_options(cell, prune);
    if (cell->method->program)
        COP_TRY(cop_message_program_start(
            &(cop_message_program_options){.command = cell->method->program,
                                           .timeout_ms = COP_PROGRAM_TIMEOUT_MS},
            &queue->program));
    options.program = queue->program;
    for (uint32_t i = 0; i < cell->at_once; i++) {
        COP_TRY(make_place(cell, &options, &queue->places[i]));
        queue->idle[queue->n_idle++] = cell->at_once - 1 - i;
    }
    return COP_OK;
}

static void release_places(problem_queue *queue) {
    for (uint32_t i = 0; queue->places && i < queue->cell->at_once; i++) {
        cop_live_destroy(queue->places[i].live);
        cop_controller_destroy(queue->places[i].controller);
        cop_live_tracer_destroy(queue->places[i].tracer);
        cop_job_rule_close(&queue->places[i].rule);
    }
    cop_message_program_stop(queue->program);
    cop_free(queue->marks);
    cop_free(queue->places);
    cop_free(queue->idle);
    cop_free(queue->again);
}

/* Problems first .. end - 1 in one run of the engine; its metrics are added. */
static cop_status run_part(cop__problem_cell *cell, cop_engine *engine, uint32_t first,
                           uint32_t end, const cop_prune_options *prune) {
    problem_queue queue = {.queue = {next_problem, problem_ended},
                           .cell = cell,
                           .next = first,
                           .end = end,
                           .n_ended = first};
    cop_metrics metrics = {0};
    cop_status status = make_places(&queue, prune);
    if (status == COP_OK)
        status = cop_engine_run_queue(engine, &queue.queue, cell->at_once, &metrics);
    if (status == COP_OK)
        status = queue.status;
    if (status == COP_OK && (queue.n_ended != end || metrics.kv_pages_leaked > 0))
        status = COP_FAIL(COP_ERR_INTERNAL, "%s, %s: %u of %u problems ended, %llu pages are held",
                          cell->problem, cell->method->name, queue.n_ended - first, end - first,
                          (unsigned long long)metrics.kv_pages_leaked);
    if (first == 0)
        cell->metrics = metrics;
    else
        cop_metrics_add(&cell->metrics, &metrics);
    release_places(&queue);
    return status;
}

/* The warm-up problems' lowest confidences set the threshold; those without one say nothing. */
static cop_status find_threshold(cop__problem_cell *cell) {
    double *lowest = cop_calloc(cell->method->n_warmup, sizeof *lowest);
    if (!lowest)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the warm-up");
    uint32_t n = 0;
    for (uint32_t i = 0; i < cell->method->n_warmup; i++) {
        if (isfinite(cell->outcomes[i].lowest_confidence))
            lowest[n++] = cell->outcomes[i].lowest_confidence;
    }
    if (n > 0)
        cell->threshold = cop_confidence_threshold(lowest, n, cell->method->keep_percent);
    cop_free(lowest);
    return COP_OK;
}

static cop_status run_parts(cop__problem_cell *cell, cop_engine *engine) {
    uint32_t warmup = cell->method->prune.window ? cell->method->n_warmup : 0;
    cop_prune_options prune = cell->method->prune;
    prune.threshold = -INFINITY;
    if (warmup > 0) {
        const cop_prune_options observe = {.window = prune.window, .threshold = -INFINITY};
        COP_TRY(run_part(cell, engine, 0, warmup, &observe));
        COP_TRY(find_threshold(cell));
        prune.threshold = cell->threshold;
    }
    return run_part(cell, engine, warmup, cell->set->count, &prune);
}

cop_status cop__problem_cell_run(cop__problem_cell *cell) {
    uint32_t count = cell->set->count;
    /* Every problem's output, with what its paths were given and told in reply. */
    cell->max_ids = count * 2 * tokens_of(cell) + HEADER_TOKENS;
    if (cell->method->runs_prompts ||
        cop__problem_n_samples(cell) > 1) /* answers may be longer, but seldom are */
        COP_TRY(cop_grow(&cell->texts.data, &cell->texts.capacity,
                         4 * (size_t)count * cop__problem_max_tokens(cell), 1));
    cell->outcomes = cop_calloc(count, sizeof *cell->outcomes);
    const uint32_t samples = cop__problem_n_samples(cell);
    if (samples > 1) {
        COP_TRY(cop_grow(&cell->sample_text.data, &cell->sample_text.capacity,
                         16 * (size_t)tokens_of_sample(cell), 1));
        COP_TRY(cop_grow(&cell->sample_answers.data, &cell->sample_answers.capacity,
                         4 * (size_t)samples * cop__problem_max_tokens(cell), 1));
        cell->samples = cop_calloc((size_t)count * samples, sizeof *cell->samples);
    }
    cell->ids = cop_calloc(cell->max_ids, sizeof *cell->ids);
    cell->threshold = -INFINITY;
    if (!cell->outcomes || !cell->ids || (samples > 1 && !cell->samples))
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the outputs of %u problems", count);
    cop_engine *engine = NULL;
    cop_status status = open_engine(cell, &engine);
    cop_metrics fill = {0};
    if (status == COP_OK && cop_job_prefix_begin(cell->job, engine)) {
        status = run_parts(cell, engine);
        fill = cell->metrics;
        cell->n_ids = cell->texts.bytes = cell->n_failed = 0;
        cell->threshold = -INFINITY;
        cell->rule = (cop_rule_stats){0};
    }
    if (status == COP_OK)
        status = run_parts(cell, engine);
    cop_job_prefix_charge(&fill, &cell->metrics);
    cop_engine_destroy(engine);
    return status;
}

void cop__problem_cell_release(cop__problem_cell *cell) {
    cop_free(cell->outcomes);
    cop_free(cell->samples);
    cop_free(cell->ids);
    cop_buffer_release(&cell->texts);
    cop_buffer_release(&cell->sample_text);
    cop_buffer_release(&cell->sample_answers);
}
