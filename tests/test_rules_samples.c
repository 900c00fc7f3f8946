/* Controllers that draw samples, against tests/ref/rules/samples.py; scorers by MLP and by a
 * command that answers, dies, hangs or says nonsense. */
#include <math.h>

#include "reason/rules/samples.h"
#include "rules_trace.h"

enum { SAMPLES_MAX = 8 };

static const cop_rule_limits limits = {.max_branches = SAMPLES_MAX, .max_tokens = 64};

static void speak(rules_random *r, cop_rule *rule, uint32_t id) {
    static const char *const answers[] = {"", "1", "2", "2", "3"};
    double logprob[8];
    uint32_t length = rules_below(r, 8);
    for (uint32_t t = 0; t < length; t++)
        logprob[t] = -(double)rules_below(r, 16) / 8;
    for (uint32_t t = 0; t < length; t++) {
        float top = -(float)rules_below(r, 32) / 8;
        CHECK_OK(cop_rule_token_add(
            rule,
            &(cop_rule_token){
                .branch = id, .text = "", .logprob = logprob[t], .top_logprob = &top, .n_top = 1}));
    }
    const char *answer = RULES_PICK(r, answers);
    bool own = rules_below(r, 5) != 0;
    CHECK_OK(cop_rule_end(rule, id, own ? COP_RULE_END_OWN : COP_RULE_END_CUT, answer,
                          own ? strlen(answer) : 0));
}

static void trace(rules_random *r, rules_line *line) {
    uint32_t kind = rules_below(r, 4);
    cop_samples_options o = {.kind = kind == 0   ? COP_SAMPLES_SEQUENTIAL
                                     : kind == 1 ? COP_SAMPLES_SELF_CONSISTENCY
                                                 : COP_SAMPLES_BEST_OF,
                             .scorer =
                                 kind == 3 ? COP_SCORER_GROUP_CONFIDENCE : COP_SCORER_MEAN_LOGPROB};
    o.n = kind == 0 ? 1 : 1 + rules_below(r, 8);
    o.window = 1 + rules_below(r, 5);
    cop_rule *rule;
    CHECK_OK(cop_samples_create(&limits, &o, &rule));
    uint64_t before = cop_memory_count();
    for (uint32_t i = 0; i < o.n; i++) {
        uint32_t id;
        CHECK_EQ(cop_rule_may_open(rule), o.n - i);
        CHECK_OK(cop_rule_open(rule, 0, &id));
        speak(r, rule, id);
    }
    CHECK_EQ(cop_rule_may_open(rule), 0);
    for (uint32_t i = 0; i < o.n; i++) {
        double score = cop_rule_score(rule, i);
        if (isnan(score))
            rules_put(line, "none");
        else
            rules_put(line, "%016" PRIx64, rules_bits(score + 0.0));
    }
    const char *text;
    size_t bytes;
    bool found = cop_rule_answer(rule, &text, &bytes);
    rules_put(line, "=%.*s", found ? (int)bytes : 4, found ? text : "none");
    CHECK_EQ(cop_memory_count(), before);
    cop_rule_destroy(rule);
}

static void test_a_thousand_traces(void) {
    rules_check_fixture("samples", 8, trace);
}

static cop_status run_command(const char *command, cop_scorer_failure on_failure, uint32_t n,
                              cop_rule **rule) {
    /* Only one that hangs is worth waiting for. */
    uint32_t timeout_ms = strstr(command, "sleep") ? 200 : 30000;
    cop_samples_options o = {.kind = COP_SAMPLES_BEST_OF,
                             .n = n,
                             .scorer = COP_SCORER_COMMAND,
                             .command = {command, timeout_ms, on_failure}};
    COP_TRY(cop_samples_create(&limits, &o, rule));
    static const char *const texts[] = {"so\n\"1\" \\", "\xff 2", "3"};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id;
        COP_TRY(cop_rule_open(*rule, 0, &id));
        COP_TRY(cop_rule_token_add(
            *rule, &(cop_rule_token){.branch = id, .text = texts[i], .bytes = strlen(texts[i])}));
        const char answer[] = {(char)('1' + i)};
        COP_TRY(cop_rule_end(*rule, id, COP_RULE_END_OWN, answer, 1));
    }
    return COP_OK;
}

static void test_a_command_that_answers(void) {
    cop_rule *rule = NULL;
    const char *text;
    size_t bytes;
    /* As a number or as an object; the second sample's is the larger. */
    CHECK_OK(run_command("for a in 0.5 '{\"score\": 7}' -1; do read line; echo \"$a\"; done",
                         COP_SCORER_ENDS_RUN, 3, &rule));
    CHECK(cop_rule_answer(rule, &text, &bytes) && text[0] == '2');
    CHECK(cop_rule_score(rule, 0) == 0.5 && cop_rule_score(rule, 2) == -1);
    cop_rule_destroy(rule);
    /* It is given valid JSON whatever the text was. */
    CHECK_OK(
        run_command("read -r a; [ \"$a\" = '{\"branch\": 0, \"tokens\": 1, \"answer\": \"1\", "
                    "\"text\": \"so\\u000a\\\"1\\\" \\\\\"}' ] && echo 1; read -r a; [ \"$a\" = "
                    "'{\"branch\": 1, \"tokens\": 1, \"answer\": \"2\", \"text\": \"\xef\xbf\xbd "
                    "2\"}' ] && echo 2",
                    COP_SCORER_ENDS_RUN, 2, &rule));
    CHECK(cop_rule_score(rule, 1) == 2);
    cop_rule_destroy(rule);
}

static void test_commands_that_fail(void) {
    static const struct {
        const char *command;
        cop_status status;
        const char *message;
    } cases[] = {
        {"exit 3", COP_ERR_IO, "asked about branch 0"},
        {"read a; echo 1; exit 0", COP_ERR_IO, "asked about branch 1"},
        {"sleep 60", COP_ERR_IO, "asked about branch 0"},
        {"read a; echo good", COP_ERR_FORMAT, "the scorer answered \"good\""},
        {"read a; echo '{\"score\": \"1\"}'", COP_ERR_FORMAT, "a number or"},
        {"read a; echo", COP_ERR_FORMAT, "a number or"},
        {"read a; echo NaN", COP_ERR_FORMAT, "a number or"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_rule *rule = NULL;
        cop_status status = run_command(cases[i].command, COP_SCORER_ENDS_RUN, 3, &rule);
        CHECK(status != COP_OK && cop_status_exit_code(status) == 2);
        if (cases[i].status == COP_ERR_FORMAT)
            CHECK_EQ(status, COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].message);
        cop_rule_destroy(rule);
        /* The other way, the run goes on and nothing is chosen by a score that is not there. */
        rule = NULL;
        CHECK_OK(run_command(cases[i].command, COP_SCORER_GOES_ON, 3, &rule));
        CHECK(isnan(cop_rule_score(rule, 2)));
        const char *text;
        size_t bytes;
        CHECK_EQ(cop_rule_answer(rule, &text, &bytes), i == 1);
        cop_rule_destroy(rule);
    }
}

static void test_contradictions_are_named(void) {
    cop_rule *rule = NULL;
    cop_samples_options o = {.kind = COP_SAMPLES_SEQUENTIAL, .n = 2};
    CHECK_STATUS(cop_samples_create(&limits, &o, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("contradict");
    o = (cop_samples_options){.kind = COP_SAMPLES_BEST_OF, .n = 9};
    CHECK_STATUS(cop_samples_create(&limits, &o, &rule), COP_ERR_CONFIG);
    o = (cop_samples_options){
        .kind = COP_SAMPLES_BEST_OF, .n = 2, .scorer = COP_SCORER_GROUP_CONFIDENCE};
    CHECK_STATUS(cop_samples_create(&limits, &o, &rule), COP_ERR_CONFIG);
    o.scorer = COP_SCORER_MLP;
    CHECK_STATUS(cop_samples_create(&limits, &o, &rule), COP_ERR_CONFIG);
    o.scorer = COP_SCORER_COMMAND;
    CHECK_STATUS(cop_samples_create(&limits, &o, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("needs a command");
    o.command = (cop_scorer_command_options){"cat", 0, COP_SCORER_ENDS_RUN};
    CHECK_STATUS(cop_samples_create(&limits, &o, &rule), COP_ERR_CONFIG);
    CHECK(!rule);
}

static void test_long_texts_are_named(void) {
    cop_samples_options o = {.kind = COP_SAMPLES_BEST_OF,
                             .n = 1,
                             .scorer = COP_SCORER_COMMAND,
                             .command = {"cat", 1000, COP_SCORER_ENDS_RUN},
                             .max_text_bytes = 4};
    cop_rule *rule;
    uint32_t id;
    CHECK_OK(cop_samples_create(&limits, &o, &rule));
    CHECK_OK(cop_rule_open(rule, 0, &id));
    CHECK_OK(
        cop_rule_token_add(rule, &(cop_rule_token){.branch = id, .text = "12345", .bytes = 5}));
    CHECK_STATUS(cop_rule_end(rule, id, COP_RULE_END_OWN, "1", 1), COP_ERR_NO_ROOM);
    cop_rule_destroy(rule);
}

int main(void) {
    RUN(test_a_thousand_traces);
    RUN(test_a_command_that_answers);
    RUN(test_commands_that_fail);
    RUN(test_contradictions_are_named);
    RUN(test_long_texts_are_named);
    return check_report();
}
