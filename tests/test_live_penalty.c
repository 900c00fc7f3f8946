/* Repetition penalties of a dialect's stages, seen in what is said. A script's "~" lets the branch
 * choose among letters whose logits lie so near each other that a penalised one falls behind every
 * other one: a branch whose penalty is on says "abcd..", one whose penalty is off says "aaaa". */
#include "live_world.h"
#include "ref/penalty_batches.h"

static cop_logit_bias letters[26];
static void (*inner_request)(cop_driver *, const cop_engine *, cop_branch, cop_sample_request *);
static bool may_restart[2], may_run_ahead; /* the sample, a path of it */

static void request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                    cop_sample_request *out) {
    inner_request(driver, engine, branch, out);
    for (int i = 0; i < 26; i++)
        letters[i] = (cop_logit_bias){'a' + i, 100000.0f - 50.0f * (float)i};
    if (out->n_bias == 1 && out->bias->token == '~')
        out->bias = letters, out->n_bias = 26;
    cop_sample_request ahead = *out;
    const bool path = cop_engine_branch(engine, branch).depth > 1;
    may_restart[path] = driver->restart(driver, (cop_engine *)engine, branch, true);
    may_run_ahead = driver->request_ahead(driver, engine, branch, &ahead);
}

static live_text decode(const world *w, cop_script *script, uint32_t n) {
    cop_metrics m;
    cop_live_options options = {
        .script = script, .n_script = n, .max_tokens = 4000, .max_branches = 60};
    cop_live *live = live_world_create(w, &options);
    inner_request = cop_live_driver(live)->request;
    cop_live_driver(live)->request = request;
    live_world_step(w, live, &m);
    CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_END);
    CHECK_EQ(cop_live_sample_read(live, 0).ill_formed_tags, 0);
    live_text text = live_world_read(live);
    cop_live_destroy(live);
    return text;
}

static world open_npr(bool shared) {
    live_world_tags = true;
    world w = live_world_open("npr", 200, 4096);
    live_world_tags = false;
    CHECK(cop_dialect_of(w.dialect)->penalty_shared);
    ((cop_dialect *)cop_dialect_of(w.dialect))->penalty_shared = shared;
    return w;
}

#define SAY(path, text) live_world_say_tags(&w, path, text)
#define COUNT(script) (uint32_t)(sizeof script / sizeof script[0])
#define PLANS(a, b) "<guideline><plan>" a ":</plan><plan>" b ":</plan></guideline>"
#define END "</step>\nX"

static void check_says(const world *w, cop_script *script, uint32_t n, const char *expected) {
    live_text simulated;
    penalty_batches_run(w->tokenizer, script, n, simulated.text, sizeof simulated.text);
    CHECK_TEXT(simulated.text, expected);
    CHECK_TEXT(decode(w, script, n).text, expected);
    live_world_free(script, n);
}

/* repetition_penalty.py:52-57, schedule_batch.py:1506-1509: a step counts what it has sampled
 * itself, neither prompt nor header nor what it inherits. scheduler.py:936,1613: the main thread
 * has no penalty, before and after. */
static void test_steps_do_not_repeat_themselves(void) {
    world w = open_npr(true);
    cop_script script[] = {SAY("", "~~abc" PLANS("1", "2") "X~~~</takeaway>~~$"),
                           SAY("1", "~~~~" END), SAY("2", "b~~a~~" END)};
    check_says(&w, script, COUNT(script),
               "aaabc" PLANS("1", "2") "\n<step>\n1:abcd</step>\n<step>\n2:bacade</step>\n"
                                       "<takeaway>\naaa</takeaway>aa");
    CHECK(may_restart[0] && !may_restart[1]);
    CHECK(!may_run_ahead);
    live_world_close(&w);
}

/* scheduler.py:1613: the inner join takes the penalty away; orchestrator.py:57-81: for step 3,
 * which still runs, only when the next request leaves its batch: step 2, which has said 19 tokens
 * then. */
static void test_an_inner_join_ends_the_penalty_of_steps_that_run(void) {
    world w = open_npr(true);
    cop_script script[] = {
        SAY("",
            "<guideline><plan>1:</plan><plan>2:</plan><plan>3:</plan></guideline>X~~</takeaway>$"),
        SAY("1", "<guideline><plan>1.1:</plan></guideline>X~~~~</takeaway>~~~~" END),
        SAY("1.1", "~~" END), SAY("2", "~~~~~~~~~~~~~~~~" END),
        SAY("3", "~~~~~~~~~~~~~~~~~~~~~~" END)};
    check_says(&w, script, COUNT(script),
               "<guideline><plan>1:</plan><plan>2:</plan><plan>3:</plan></guideline>\n<step>\n1:"
               "<guideline><plan>1.1:</plan></guideline>\n<step>\n1.1:ab</step>\n<takeaway>\n"
               "aaaa</takeaway>aaaa</step>\n<step>\n2:abcdefghijklmnop</step>\n<step>\n3:"
               "abcdefghijklmnopqrsaaa</step>\n<takeaway>\naa</takeaway>");
    live_world_close(&w);
}

/* ---- random answers ---- */

typedef struct forest {
    cop_script scripts[60];
    char paths[60][32];
    uint32_t n, draws;
    uint64_t seed;
} forest;

static uint32_t draw(forest *f, uint32_t below) {
    return (uint32_t)(cop_rng_uniform((cop_rng_key){.seed = f->seed, .stream = 3}, f->draws++) *
                      below);
}

static void grow_free(forest *f, cop_buffer *text) {
    for (uint32_t i = 1 + draw(f, 9); i > 0; i--)
        CHECK_OK(cop_buffer_printf(text, draw(f, 8) ? "~" : "c"));
}

static void grow(const world *w, forest *f, const char *path, uint32_t depth);

/* A block of the thread `path`, whose paths are numbered anew in each. */
static void grow_block(const world *w, forest *f, const char *path, uint32_t depth,
                       cop_buffer *text) {
    uint32_t n = 1 + draw(f, 3);
    CHECK_OK(cop_buffer_printf(text, "<guideline>"));
    for (uint32_t i = 1; i <= n; i++)
        CHECK_OK(cop_buffer_printf(text, "<plan>%s%s%u:</plan>", path, path[0] ? "." : "", i));
    CHECK_OK(cop_buffer_printf(text, "</guideline>X"));
    for (uint32_t i = 1; i <= n; i++) {
        char child[32];
        snprintf(child, sizeof child, "%.20s%s%u", path, path[0] ? "." : "", i);
        grow(w, f, child, depth + 1);
    }
    grow_free(f, text);
    CHECK_OK(cop_buffer_printf(text, "</takeaway>"));
}

static void grow(const world *w, forest *f, const char *path, uint32_t depth) {
    cop_buffer text = {0};
    uint32_t at = f->n++;
    grow_free(f, &text);
    if (depth == 0 || (depth < 3 && draw(f, 2)))
        grow_block(w, f, path, depth, &text);
    grow_free(f, &text);
    CHECK_OK(cop_buffer_printf(&text, depth ? END : "$"));
    snprintf(f->paths[at], sizeof f->paths[at], "%s", path);
    f->scripts[at] = live_world_say_tags(w, f->paths[at], text.data);
    cop_buffer_release(&text);
}

/* Every token of random nested answers is what the engine's own batches give. */
static void test_random_answers_equal_the_batches(void) {
    world w = open_npr(true);
    penalty_batches_seen all = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        static forest f;
        live_text expected;
        f = (forest){.seed = seed};
        grow(&w, &f, "", 0);
        penalty_batches_seen seen =
            penalty_batches_run(w.tokenizer, f.scripts, f.n, expected.text, sizeof expected.text);
        CHECK_TEXT(decode(&w, f.scripts, f.n).text, expected.text);
        live_world_free(f.scripts, f.n);
        all.torn_down += seen.torn_down;
        all.renewed += seen.renewed;
        all.split_merges += seen.split_merges;
        all.kept += seen.kept;
    }
    printf("penalty torn down %u, renewed %u, split and merged %u, kept over a join %u\n",
           all.torn_down, all.renewed, all.split_merges, all.kept);
    CHECK(all.torn_down > 20 && all.renewed > 5 && all.split_merges > 5 && all.kept > 20);
    live_world_close(&w);
}

/* Two inner joins in one step leave no row that counts: when step 1 forks again, step 2 is
 * penalised too, from its last token on. */
static void test_a_fork_begins_the_penalty_for_all(void) {
    world w = open_npr(true);
    cop_script script[] = {
        SAY("", PLANS("1", "2") "X</takeaway>$"),
        SAY("1", "<guideline><plan>1.1:</plan></guideline>X~</takeaway>"
                 "<guideline><plan>1.1:</plan></guideline>X</takeaway>" END),
        SAY("1.1", "~~~" END),
        SAY("2", "<guideline><plan>2.1:</plan></guideline>X~~~~~~~~~~~~~~</takeaway>" END),
        SAY("2.1", "~~~" END)};
    check_says(
        &w, script, COUNT(script),
        PLANS("1", "2") "\n<step>\n1:<guideline><plan>1.1:</plan></guideline>\n<step>\n1.1:"
                        "abc</step>\n<takeaway>\na</takeaway><guideline><plan>1.1:</plan>"
                        "</guideline>\n<step>\n1.1:abc</step>\n<takeaway>\n</takeaway>"
                        "</step>\n<step>\n2:<guideline><plan>2.1:</plan></guideline>\n"
                        "<step>\n2.1:abc</step>\n<takeaway>\naaaaaaaaaaabcd</takeaway></step>\n"
                        "<takeaway>\n</takeaway>");
    live_world_close(&w);
}

/* By stage, and each branch for itself: no join changes what the others count. */
static void test_a_stage_has_its_own_penalty(void) {
    world w = open_npr(false);
    cop_dialect *d = (cop_dialect *)cop_dialect_of(w.dialect);
    for (int all = 0; all < 2; all++) {
        d->sampling[COP_STAGE_MAIN].penalty = all ? 1.02f : 0;
        d->sampling[COP_STAGE_JOIN].penalty = all ? 1.02f : 0;
        cop_script script[] = {
            SAY("", "~~" PLANS("1", "2") "X~~</takeaway>~~$"),
            SAY("1", "~~<guideline><plan>1.1:</plan></guideline>X~~</takeaway>~~" END),
            SAY("1.1", "~~" END), SAY("2", "~~~~~~~~~~~~~~~~~~~~~~~~" END)};
        char expected[512];
        snprintf(
            expected, sizeof expected,
            "%s" PLANS("1",
                       "2") "\n<step>\n1:ab<guideline><plan>1.1:</plan></guideline>\n"
                            "<step>\n1.1:ab</step>\n<takeaway>\n%s</takeaway>%s</step>\n<step>\n2:"
                            "abcdefghijklmnopqrstuvwx</step>\n<takeaway>\n%s</takeaway>%s",
            all ? "ab" : "aa", all ? "ab" : "aa", all ? "cd" : "bc", all ? "ab" : "aa",
            all ? "cd" : "aa");
        CHECK_TEXT(decode(&w, script, COUNT(script)).text, expected);
        CHECK(may_restart[0] && may_restart[1]);
        CHECK(!may_run_ahead);
        live_world_free(script, COUNT(script));
    }
    live_world_close(&w);
}

int main(void) {
    RUN(test_steps_do_not_repeat_themselves);
    RUN(test_an_inner_join_ends_the_penalty_of_steps_that_run);
    RUN(test_a_fork_begins_the_penalty_for_all);
    RUN(test_random_answers_equal_the_batches);
    RUN(test_a_stage_has_its_own_penalty);
    return check_report();
}
