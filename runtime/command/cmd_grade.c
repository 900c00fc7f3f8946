#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"
#include "command/options.h"
#include "job/job_grade.h"
#include "measure/results_file.h"

typedef struct grade_line {
    const char *set, *checker, *dialect, *answer_after, *from, *k, *tie, *few, *answers, *failure;
    uint32_t timeout_ms, replicates;
    uint64_t seed;
    bool partial, json;
} grade_line;

/* What is printed and written once everything is graded: nothing comes out of a run that fails. */
typedef struct grade_output {
    bool json, begun;
    cop_buffer out, answers;
    cop_status status;
} grade_output;

static void append_line(grade_output *output, cop_buffer *to, const json_t *line) {
    char *text = json_dumps(line, JSON_COMPACT);
    if (output->status == COP_OK)
        output->status = text ? cop_buffer_printf(to, "%s\n", text)
                              : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a line");
    free(text);
}

static void hear_answer(void *context, const json_t *line) {
    grade_output *output = context;
    append_line(output, &output->answers, line);
}

static double number_at(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void put(grade_output *output, const char *text, int width) {
    if (output->status == COP_OK)
        output->status = cop_buffer_printf(&output->out, "%*s", width, text);
}

static void put_share(grade_output *output, double share, int width) {
    char text[32] = "-";
    if (isfinite(share))
        snprintf(text, sizeof text, "%.1f", 100 * share);
    put(output, text, width);
}

/* "62.5 [55.0, 70.0]" */
static void put_interval(grade_output *output, const json_t *object, int width) {
    char text[64] = "-";
    double share = number_at(object, "share");
    if (isfinite(share) && isfinite(number_at(object, "low")))
        snprintf(text, sizeof text, "%.1f [%.1f, %.1f]", 100 * share,
                 100 * number_at(object, "low"), 100 * number_at(object, "high"));
    else if (isfinite(share))
        snprintf(text, sizeof text, "%.1f", 100 * share);
    put(output, text, width);
}

/* A number, and a star where the method is on the Pareto front of that cost. */
static void put_cost(grade_output *output, const json_t *line, const char *cost, int width) {
    char name[32], text[32] = "-";
    snprintf(name, sizeof name, "%s_mean", cost);
    double value = number_at(line, name);
    bool front = json_is_true(json_object_get(json_object_get(line, "pareto"), cost));
    if (isfinite(value))
        snprintf(text, sizeof text, "%.*f%s", value < 10 ? 3 : 1, value, front ? "*" : " ");
    put(output, text, width);
}

static void put_header(grade_output *output, const json_t *line) {
    const json_t *list[] = {json_object_get(line, "pass"), json_object_get(line, "maj")};
    static const char *const names[] = {"pass", "maj"};
    if (output->status == COP_OK)
        output->status = cop_buffer_printf(&output->out, "%-32s %8s %8s %6s %6s %5s %8s %20s",
                                           "method", "problems", "samples", "right", "wrong",
                                           "none", "ungraded", "avg % [95 %]");
    for (int which = 0; which < 2; which++)
        for (size_t i = 0; i < json_array_size(list[which]); i++) {
            char text[32];
            snprintf(text, sizeof text, "%s@%.0f", names[which],
                     number_at(json_array_get(list[which], i), "k"));
            put(output, text, 9);
        }
    static const struct {
        const char *title;
        int width;
    } rest[] = {{"well-formed", 12}, {"parallel", 9}, {"tokens", 10}, {"ms", 10}, {"device s", 10}};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        put(output, rest[i].title, rest[i].width);
    put(output, "\n", 1);
}

static void hear_summary(void *context, const json_t *line) {
    grade_output *output = context;
    if (output->json) {
        append_line(output, &output->out, line);
        return;
    }
    if (!output->begun)
        put_header(output, line);
    output->begun = true;
    if (output->status == COP_OK)
        output->status = cop_buffer_printf(
            &output->out, "%-32s %8.0f %8.0f %6.0f %6.0f %5.0f %8.0f ",
            json_string_value(json_object_get(line, "method")), number_at(line, "problems"),
            number_at(line, "samples"), number_at(line, "right"), number_at(line, "wrong"),
            number_at(line, "none"), number_at(line, "ungraded"));
    put_interval(output, json_object_get(line, "avg"), 20);
    static const char *const lists[] = {"pass", "maj"};
    for (int which = 0; which < 2; which++) {
        const json_t *list = json_object_get(line, lists[which]);
        for (size_t i = 0; i < json_array_size(list); i++)
            put_share(output, number_at(json_array_get(list, i), "share"), 9);
    }
    put_share(output, number_at(json_object_get(line, "well_formed"), "share"), 12);
    put_share(output, number_at(json_object_get(line, "used_parallelism"), "share"), 9);
    put_cost(output, line, "tokens", 10);
    put_cost(output, line, "latency_ms", 10);
    put_cost(output, line, "device_s", 10);
    put(output, "\n", 1);
    double missing = number_at(line, "problems_missing");
    double failures = number_at(line, "checker_failures");
    if (output->status == COP_OK && missing > 0)
        output->status = cop_buffer_printf(
            &output->out, "  %.0f problems have no prediction: left out\n", missing);
    if (output->status == COP_OK && failures > 0)
        output->status = cop_buffer_printf(
            &output->out, "  the checker's program failed on %.0f questions so far: ungraded\n",
            failures);
}

/* "1,4,16" */
static cop_status read_k(const char *text, cop_grade_job *job) {
    while (text && *text) {
        char *end;
        unsigned long k = strtoul(text, &end, 10);
        if (end == text || *text == '-' || k == 0 || k > COP_MAJORITY_SAMPLES_MAX ||
            (*end && *end != ',') || (*end == ',' && !end[1]) || job->n_k == COP_GRADE_K_MAX)
            return COP_FAIL(COP_ERR_USAGE,
                            "--k takes up to %d whole numbers from 1 to %d with commas between "
                            "them, not \"%.40s\"",
                            COP_GRADE_K_MAX, COP_MAJORITY_SAMPLES_MAX, text);
        job->k[job->n_k++] = (uint32_t)k;
        text = *end ? end + 1 : end;
    }
    return COP_OK;
}

static cop_status run(const grade_line *line, const cop_operands *operands) {
    grade_output output = {.json = line->json};
    cop_grade_job job = {.inputs = (const char *const *)operands->items,
                         .n_inputs = (uint32_t)operands->count,
                         .set = line->set,
                         .grader = {.rule = line->checker,
                                    .timeout_ms = line->timeout_ms,
                                    .skip_failures = strcmp(line->failure, "ungraded") == 0},
                         .dialect = line->dialect,
                         .answer_after = line->answer_after,
                         .from = strcmp(line->from, "text") == 0 ? COP_GRADE_FROM_TEXT
                                                                 : COP_GRADE_FROM_ANSWER,
                         .tie = strcmp(line->tie, "share") == 0  ? COP_TIE_SHARE
                                : strcmp(line->tie, "none") == 0 ? COP_TIE_NONE
                                                                 : COP_TIE_FIRST,
                         .few = strcmp(line->few, "npr") == 0 ? COP_FEW_NPR : COP_FEW_LEFT_OUT,
                         .replicates = line->replicates,
                         .seed = line->seed,
                         .partial = line->partial,
                         .answer = line->answers ? hear_answer : NULL,
                         .summary = hear_summary,
                         .context = &output};
    cop_status status = line->answer_after && !*line->answer_after
                            ? COP_FAIL(COP_ERR_USAGE, "--answer-after is empty: leave it out")
                            : read_k(line->k, &job);
    if (status == COP_OK)
        status = cop_job_grade(&job);
    if (status == COP_OK)
        status = output.status;
    if (status == COP_OK && line->answers)
        status = cop__file_replace(line->answers, output.answers.data ? output.answers.data : "",
                                   output.answers.bytes);
    if (status == COP_OK)
        status = cop_command_output(&output.out);
    cop_buffer_release(&output.out);
    cop_buffer_release(&output.answers);
    return status;
}

int cop_command_grade(int argc, char **argv) {
    grade_line line = {.from = "answer",
                       .tie = "first",
                       .few = "left-out",
                       .failure = "stop",
                       .timeout_ms = 10000,
                       .replicates = 2000,
                       .seed = 1};
    const cop_option options[] = {
        {"checker", COP_OPTION_TEXT, &line.checker, "RULE",
         "exact | boxed | choice | countdown | equivalence:\"COMMAND\"", .required = true},
        {"set", COP_OPTION_TEXT, &line.set, "FILE",
         "the data set: JSON lines {id, prompt, answer}; a result folder holds its own"},
        {"from", COP_OPTION_TEXT, &line.from, NULL,
         "where lines have both: grade the \"answer\", or find one in the \"text\" (answer)",
         .choices = "answer|text"},
        {"answer-after", COP_OPTION_TEXT, &line.answer_after, "TEXT",
         "in texts, look only behind the last TEXT"},
        {"dialect", COP_OPTION_TEXT, &line.dialect, "NAME",
         "say which texts have well-formed blocks by this dialect"},
        {"k", COP_OPTION_TEXT, &line.k, "1,4,..",
         "k of pass@k and maj@k (1 and the fewest samples of a problem)"},
        {"tie", COP_OPTION_TEXT, &line.tie, NULL,
         "who wins equal votes: the first said, all in shares, nobody (first)",
         .choices = "first|share|none"},
        {"few", COP_OPTION_TEXT, &line.few, NULL,
         "pass@k of a problem with fewer than k samples (left-out)", .choices = "left-out|npr"},
        {"replicates", COP_OPTION_U32, &line.replicates, "N",
         "of the bootstrap, clustered by problem (2000)", .min = 1, .max = 1000000},
        {"seed", COP_OPTION_U64, &line.seed, "N", "of the bootstrap and of drawn votes (1)",
         .max = INT64_MAX},
        {"timeout-ms", COP_OPTION_U32, &line.timeout_ms, "MS",
         "what the checker's program may take for one line (10000)", .min = 1, .max = 86400000},
        {"on-failure", COP_OPTION_TEXT, &line.failure, NULL,
         "when that program fails: stop, or count the answer as ungraded and go on (stop)",
         .choices = "stop|ungraded"},
        {"partial", COP_OPTION_FLAG, &line.partial, NULL,
         "leave out problems without a prediction, and say how many"},
        {"answers", COP_OPTION_TEXT, &line.answers, "FILE",
         "write each graded answer, a line each"},
        {"json", COP_OPTION_FLAG, &line.json, NULL, "print a line of JSON a method"},
    };
    const cop_command_line command = {
        "grade",
        "PREDICTIONS.jsonl|DIR .. --checker RULE [--set FILE] [options]",
        "Grades answers: files of JSON lines {id, sample?, answer or text}, each a method, or\n"
        "result folders. What cannot be judged is ungraded, which is neither right nor wrong.\n"
        "Shares are in percent, means over problems; a star marks the Pareto front of accuracy\n"
        "against that cost. bench/recipes/math_verify_lines.py is a program for equivalence.",
        options,
        sizeof options / sizeof options[0],
        "INPUT",
        1,
        64};
    cop_operands operands;
    cop_status status = cop_options_parse(&command, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK)
        status = run(&line, &operands);
    return status == COP_OK ? 0 : cop_command_fail("grade", status);
}
