/* Rules as data: every preset, and files that are wrong. */
#include <dirent.h>
#include <unistd.h>

#include "check.h"
#include "reason/rules/deepconf.h"
#include "reason/rules/rule_config.h"

static const cop_rule_limits roomy = {.max_branches = 1024, .max_tokens = 4096};
static const cop_rule_context context = {.hidden = 4, .input = "Why?"};

static void test_every_preset(void) {
    DIR *folder = opendir("configs/rules");
    CHECK(folder != NULL);
    uint32_t made = 0, scored = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[256];
        char *dot;
        snprintf(name, sizeof name, "%s", entry->d_name);
        if (name[0] == '.' || !(dot = strstr(name, ".json")))
            continue;
        *dot = '\0';
        cop_rule_config *config = NULL;
        cop_rule *rule = NULL;
        CHECK_OK(cop_rule_config_load_named(".", name, &config));
        CHECK_TEXT(cop_rule_config_name(config), name);
        CHECK(strlen(cop_rule_config_source(config)) > 20);
        cop_status status = cop_rule_config_create(config, &roomy, &context, &rule);
        if (strcmp(cop_rule_config_kind(config), "step") == 0) { /* its scorer is the user's */
            CHECK_EQ(status, COP_ERR_IO);
            CHECK_MESSAGE("configs/rules/step.safetensors");
            scored++;
        } else {
            CHECK_OK(status);
            const cop_decision *d;
            uint32_t n;
            CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
            CHECK_EQ(n, cop_rule_needs_of(rule).runs_prompts ? n : 0);
            CHECK(n > 0 || !cop_rule_needs_of(rule).runs_prompts);
            made++;
        }
        cop_rule_destroy(rule);
        cop_rule_config_close(config);
    }
    closedir(folder);
    CHECK(made >= 25 && scored == 2);
}

/* What a preset says is what its rule does. */
static void test_presets_are_read(void) {
    cop_rule_config *config;
    cop_rule *rule;
    CHECK_OK(cop_rule_config_load_named(".", "deepconf-low", &config));
    CHECK_OK(cop_rule_config_create(config, &roomy, &context, &rule));
    CHECK_EQ(cop_rule_may_open(rule), 16);
    CHECK(cop_rule_needs_of(rule).top_logprobs);
    cop_rule_destroy(rule);
    cop_rule_limits few = {.max_branches = 200, .max_tokens = 10};
    CHECK_STATUS(cop_rule_config_create(config, &few, &context, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("deepconf-low");
    CHECK_MESSAGE("a budget of 256 branches; 200 can run");
    cop_rule_config_close(config);
    static const struct {
        const char *name;
        bool at_start, ignores_end;
    } probing[] = {{"certaindex-mid", true, false},
                   {"certaindex-server", false, true},
                   {"certaindex-server-mended", false, false}};
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(cop_rule_config_load_named(".", probing[i].name, &config));
        CHECK_OK(cop_rule_config_create(config, &roomy, &context, &rule));
        cop_rule_needs needs = cop_rule_needs_of(rule);
        CHECK(needs.probes && needs.probes_at_start == probing[i].at_start &&
              needs.ignores_end == probing[i].ignores_end);
        cop_rule_destroy(rule);
        cop_rule_config_close(config);
    }
}

static cop_status load_text(const char *text, cop_rule_config **out) {
    char path[] = "/tmp/coppice-rule-XXXXXX.json";
    int file = mkstemps(path, 5);
    CHECK(file >= 0);
    CHECK(write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
    cop_status status = cop_rule_config_load_named(".", path, out);
    unlink(path);
    return status;
}

#define RULE(kind, keys) "{\"name\":\"x\",\"source\":\"y\",\"rule\":\"" kind "\"" keys "}"

static void test_wrong_files_are_named(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {RULE("deepconf", ",\"mode\":\"online\",\"vote\":\"majority\""), "keep_percent"},
        {RULE("deepconf", ",\"mode\":\"offline\",\"vote\":\"majority\",\"warmup\":3"),
         "contradict it"},
        {RULE("deepconf", ",\"mode\":\"online\",\"vote\":\"most\",\"keep_percent\":9"), "vote"},
        {RULE("deepconf", ",\"mode\":\"offline\",\"vote\":\"mean\",\"windw\":3"), "windw"},
        {RULE("deepconf", ",\"mode\":\"offline\",\"mode\":\"offline\",\"vote\":\"mean\""), "mode"},
        {RULE("dynasor", ",\"mode\":\"client\",\"k\":2,\"chunk\":0"), "chunk"},
        {RULE("dynasor", ",\"mode\":\"client\",\"k\":2,\"chunk\":8"), "probe"},
        {RULE("dynasor", ",\"mode\":\"client\",\"k\":2,\"chunk\":8,\"probe\":{\"text\":\"a\","
                         "\"boxed\":false}"),
         "boxed"},
        {RULE("dynasor", ",\"mode\":\"client\",\"k\":2,\"chunk\":8,\"probe\":{\"text\":\"a\","
                         "\"every\":3}"),
         "every"},
        {RULE("certaindex", ",\"measure\":\"entropy\",\"threshold\":-1"), "threshold"},
        {RULE("parallel-probe", ",\"patience\":1"), "prune_patience"},
        {RULE("step", ",\"pruned_votes\":true"), "scorer"},
        {RULE("policy", ""), "losers"},
        {RULE("policy", ",\"losers\":\"keep\""), "losers"},
        {RULE("set", ",\"rules\":[]"), "0 rules"},
        {RULE("set", ",\"rules\":[{\"rule\":\"set\",\"rules\":[]}]"), "a set within a set"},
        {RULE("set", ",\"rules\":[{\"rule\":\"policy\",\"losers\":\"drop\",\"x\":1}]"), "x"},
        {RULE("magic", ""), "magic"},
        {"{\"name\":\"x\",\"rule\":\"sequential\"}", "source"},
        {RULE("self-consistency", ""), "n"},
        {RULE("best-of-n", ",\"n\":2,\"scorer\":{\"kind\":\"mean-logprob\",\"window\":3}"),
         "window"},
        {RULE("best-of-n", ",\"n\":2,\"scorer\":{\"kind\":\"command\",\"command\":\"x\"}"),
         "on_failure"},
        {RULE("skeleton", ",\"outline_prompt\":\"{request}\""), "point_prompt"},
        {RULE("thoughts", ",\"search\":\"bfs\",\"generate_prompt\":\"a\",\"evaluate_prompt\":\"b\","
                          "\"n_generate\":1,\"n_evaluate\":1,\"n_select\":1,"
                          "\"values\":{\"sure\":\"1\"}"),
         "not a number"},
        {RULE("mcts", ",\"generate_prompt\":\"a\",\"evaluate_prompt\":\"b\""), "iterations"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_rule_config *config = NULL;
        cop_status status = load_text(cases[i].text, &config);
        if (status != COP_ERR_CONFIG)
            fprintf(stderr, "%s\n", cases[i].text);
        CHECK_EQ(status, COP_ERR_CONFIG);
        CHECK_MESSAGE(cases[i].message);
        CHECK(!config);
    }
}

static void test_contradictions_within_a_set_free_everything(void) {
    cop_rule_config *config;
    cop_rule *rule = NULL;
    CHECK_OK(load_text(
        RULE("set", ",\"rules\":[{\"rule\":\"policy\",\"losers\":\"drop\",\"quorum\":2},"
                    "{\"rule\":\"policy\",\"losers\":\"drop\",\"quorum\":2,\"quorum_ratio\":0.5}]"),
        &config));
    CHECK_STATUS(cop_rule_config_create(config, &roomy, &context, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("contradict");
    cop_rule_config_close(config);
    CHECK_OK(load_text(RULE("set", ",\"rules\":[{\"rule\":\"sequential\"},{\"rule\":\"skeleton\","
                                   "\"outline_prompt\":\"{request}\",\"point_prompt\":\"{point}\","
                                   "\"no_points_fails\":true}]"),
                       &config));
    CHECK_STATUS(cop_rule_config_create(config, &roomy, &context, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("opens branches itself");
    cop_rule_config_close(config);
}

static void test_unknown_names_list_the_known(void) {
    cop_rule_config *config;
    CHECK_STATUS(cop_rule_config_load_named(".", "deepconf", &config), COP_ERR_CONFIG);
    CHECK_MESSAGE("deepconf-high");
    CHECK_STATUS(cop_rule_config_load_named(".", "../x", &config), COP_ERR_CONFIG);
    CHECK_STATUS(cop_rule_config_load_named("/nowhere", "x", &config), COP_ERR_IO);
    CHECK_STATUS(cop_rule_config_load_named(".", "/nowhere/x.json", &config), COP_ERR_IO);
}

int main(void) {
    RUN(test_every_preset);
    RUN(test_presets_are_read);
    RUN(test_wrong_files_are_named);
    RUN(test_contradictions_within_a_set_free_everything);
    RUN(test_unknown_names_list_the_known);
    return check_report();
}
