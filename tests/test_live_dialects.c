/* Each system's preset under real decoding: tokens, positions and joins as the places say that the
 * preset's file cites. Tags are control tokens, as in the models that were trained for them. */
#include "live_world.h"

typedef struct outcome {
    live_text text;
    cop_live_sample sample; /* its pointers are gone */
    cop_metrics metrics;
    live_text paths[40];
    uint32_t n_paths;
} outcome;

static outcome run(const world *w, cop_script *script, uint32_t n, cop_live_options options) {
    static outcome o;
    options.script = script;
    options.n_script = n;
    cop_live *live = live_world_run(w, &options, &o.metrics);
    o.text = live_world_read(live);
    o.sample = cop_live_sample_read(live, 0);
    o.n_paths = cop_live_path_count(live);
    for (uint32_t i = 0; i < o.n_paths && i < 40; i++)
        o.paths[i] = live_world_path(live, i);
    cop_live_destroy(live);
    return o;
}

static world open_tags(const char *dialect) {
    live_world_tags = true;
    world w = live_world_open(dialect, 200, 4096);
    live_world_tags = false;
    return w;
}

static uint32_t tokens_of(const world *w, const char *text) {
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(w->tokenizer, text, strlen(text),
                                  (cop_encode_options){.no_bos = true}, &ids));
    uint32_t n = (uint32_t)ids.count;
    cop_token_ids_release(&ids);
    return n;
}

#define SAY(path, text) live_world_say_tags(&w, path, text)
#define COUNT(script) (uint32_t)(sizeof script / sizeof script[0])

/* ---- ThreadWeaver ---- */

#define OUTLINES                                                                                   \
    "Hi<Parallel>\n<Outlines>\n<Outline>1: a</Outline>\n<Outline>2: b</Outline>\n</Outlines>"
#define THREADS "\n<Thread>\n1: one\n</Thread><Thread>\n2: two!\n</Thread>"

static void test_threadweaver_rl(void) {
    static const struct {
        const char *name, *join, *cut;
    } presets[] = {
        {"threadweaver-rl", "\n<Conclusion>\n", "\n<Conclusion>\n</Conclusion>\n</Parallel>"},
        {"threadweaver-rl-recipe", "\n", "\n</Parallel>"}};
    for (int i = 0; i < 2; i++) {
        world w = open_tags(presets[i].name);
        char expected[512];
        cop_script good[] = {SAY("", OUTLINES "x</Parallel>done$"), SAY("1", " one\n</Thread>"),
                             SAY("2", " two!\n</Thread>")};
        outcome o = run(&w, good, 3, (cop_live_options){0});
        snprintf(expected, sizeof expected, "%s%sx</Parallel>done", OUTLINES THREADS,
                 presets[i].join);
        CHECK_TEXT(o.text.text, expected);
        CHECK_EQ(o.sample.stop, COP_STOP_END);
        /* L232-244: decoded under a newline that the joined text does not have. */
        CHECK_TEXT(o.paths[0].text, "\n<Thread>\n1: one\n</Thread>");
        CHECK_TEXT(o.paths[1].text, "\n<Thread>\n2: two!\n</Thread>");
        CHECK_EQ(o.metrics.tokens_reprefilled, tokens_of(&w, THREADS));
        CHECK_EQ(o.sample.steps, 2);

        /* L261-297: a cut thread is closed, all are merged, and the run ends. */
        cop_script cut[] = {SAY("", OUTLINES "never"), SAY("1", " one$"),
                            SAY("2", " two!\n</Thread>")};
        o = run(&w, cut, 3, (cop_live_options){0});
        snprintf(expected, sizeof expected, "%s%s", OUTLINES THREADS, presets[i].cut);
        CHECK_TEXT(o.text.text, expected);
        CHECK_EQ(o.sample.stop, COP_STOP_PATH);
        CHECK_EQ(o.metrics.joins, 1);

        /* L220: the first of equal numbers stays. L188: no <Parallel> is asked for. */
        cop_script twice[] = {
            SAY("", "<Outlines><Outline>3.1 : a</Outline><Outline>2: b</Outline><Outline>3.1:c"
                    "</Outline></Outlines></Parallel>$"),
            SAY("1", "p</Thread>"), SAY("2", "q</Thread>")};
        o = run(&w, twice, 3, (cop_live_options){0});
        CHECK(strstr(o.text.text, "</Outlines>\n<Thread>\n3.1:p</Thread><Thread>\n2:q</Thread>"));
        CHECK_EQ(o.sample.paths, 2);

        /* L188-194: no number found is a step, and decoding goes on. */
        cop_script none[] = {SAY("", "</Outlines><Outlines></Outlines>on</Thread>$")};
        o = run(&w, none, 1, (cop_live_options){0});
        CHECK_TEXT(o.text.text, "</Outlines><Outlines></Outlines>on</Thread>");
        CHECK_EQ(o.sample.steps, 2);
        CHECK_EQ(o.sample.forks_refused, 2);
        CHECK_EQ(o.sample.stop, COP_STOP_END);
        live_world_close(&w);
    }
}

/* L124-136: 32 steps are 16 blocks, and the run stops behind the 16th one's forced text. */
static void test_threadweaver_rl_stops_after_sixteen_blocks(void) {
    world w = open_tags("threadweaver-rl-recipe");
    cop_buffer text = {0};
    for (int i = 0; i < 17; i++)
        CHECK_OK(cop_buffer_printf(&text, "<Outlines><Outline>1: a</Outline></Outlines>"));
    cop_script script[] = {SAY("", text.data), SAY("1", "x</Thread>")};
    outcome o = run(&w, script, 2, (cop_live_options){.max_branches = 40, .max_tokens = 1000});
    CHECK_EQ(o.sample.stop, COP_STOP_LIMIT);
    CHECK_EQ(o.sample.forks, 16);
    CHECK_EQ(o.sample.steps, 32);
    const char *end = "</Outlines>\n<Thread>\n1:x</Thread>\n";
    CHECK_TEXT(o.text.text + strlen(o.text.text) - strlen(end), end);
    cop_buffer_release(&text);
    live_world_close(&w);
}

/* L138-144, 403-410: the budget is looked at between steps; threads pass it and the text is cut. */
static void test_threadweaver_rl_cuts_its_response(void) {
    world w = open_tags("threadweaver-rl-recipe");
    uint32_t before = tokens_of(&w, OUTLINES), threads = tokens_of(&w, THREADS);
    for (uint32_t more = 1; more < threads + 3; more++) {
        cop_script script[] = {SAY("", OUTLINES "and so on$"), SAY("1", " one\n</Thread>"),
                               SAY("2", " two!\n</Thread>")};
        outcome o = run(&w, script, 3, (cop_live_options){.max_tokens = before + more});
        CHECK_EQ(o.sample.n_ids, before + more);
        CHECK_EQ(o.sample.stop, COP_STOP_LENGTH);
        /* Both threads ran to their ends, or alone to the whole budget. */
        CHECK_TEXT(o.paths[1].text, "\n<Thread>\n2: two!\n</Thread>");
        CHECK_EQ(strncmp(o.text.text, OUTLINES THREADS "\nand so on", strlen(o.text.text)), 0);
    }
    cop_script script[] = {SAY("", OUTLINES)};
    outcome o = run(&w, script, 1, (cop_live_options){.max_tokens = before});
    CHECK_EQ(o.sample.forks, 0); /* there is nothing left for a step */
    live_world_close(&w);
}

static void test_threadweaver_rl_wants_its_tags_as_tokens(void) {
    world w = live_world_open("threadweaver-rl", 64, 4096); /* without them */
    cop_live *live = NULL;
    cop_live_options options = {.dialect = cop_dialect_of(w.dialect),
                                .tokenizer = w.tokenizer,
                                .prompt = live_world_prompt,
                                .n_prompt = 4,
                                .n_samples = 1,
                                .max_tokens = 10,
                                .max_branches = 4};
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_CONFIG);
    CHECK_MESSAGE("needs '<Outlines>' to be one token");
    CHECK(live == NULL);
    live_world_close(&w);
}

static void test_threadweaver_eval(void) {
    world w = open_tags("threadweaver-eval");
    cop_script good[] = {SAY("", OUTLINES "</Parallel>done$"), SAY("1", " one\n</Thread>"),
                         SAY("2", " two!\n</Thread>")};
    outcome o = run(&w, good, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, OUTLINES THREADS "\n</Parallel>done");
    /* L637-659: closed without a newline, merged, and nothing is added. */
    cop_script cut[] = {SAY("", OUTLINES "never"), SAY("1", " one$"), SAY("2", " two!\n</Thread>")};
    o = run(&w, cut, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, OUTLINES "\n<Thread>\n1: one</Thread><Thread>\n2: two!\n</Thread>");
    CHECK_EQ(o.sample.stop, COP_STOP_PATH);
    /* L542-587: an end of text forks, if outlines were listed since the last join; else it ends. */
    cop_script end[] = {SAY("", "<Outlines><Outline>1: a</Outline>$then$"), SAY("1", "x</Thread>")};
    o = run(&w, end, 2, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "<Outlines><Outline>1: a</Outline>\n<Thread>\n1:x</Thread>\nthen");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    CHECK_EQ(o.sample.forks, 1);
    /* L596-633: both of equal numbers run, and the later to end stands in both places. */
    for (int late = 0; late < 2; late++) {
        cop_script twice[] = {
            SAY("", "<Outlines><Outline>7: a</Outline><Outline>7: b</Outline></Outlines>.$"),
            SAY("1", late ? "long and longer</Thread>" : "p</Thread>"),
            SAY("2", late ? "q</Thread>" : "long and longer</Thread>")};
        o = run(&w, twice, 3, (cop_live_options){0});
        CHECK(strstr(o.text.text, "</Outlines>\n<Thread>\n7:long and longer</Thread>"
                                  "<Thread>\n7:long and longer</Thread>\n."));
        CHECK_EQ(o.sample.paths, 2);
    }
    cop_script none[] = {SAY("", "</Outlines>never")};
    o = run(&w, none, 1, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "</Outlines>");
    CHECK_EQ(o.sample.stop, COP_STOP_REFUSED);
    live_world_close(&w);
}

/* L443: every call encodes the text anew, so tokens that nobody would write are gone from the next
 * one. The tokens {7} and {8} are whole tags, which the encoder writes byte by byte. */
static void test_threadweaver_eval_encodes_its_text_again(void) {
    static const char *const heads[] = {"<Outlines><Outline>1: a</Outline><Outline>2:</Outline>{8}",
                                        "<Outlines><Outline>1:{6}a</Outline><Outline>2:</Outline>"
                                        "</Outlines>"};
    for (int i = 0; i < 2; i++) {
        world w = live_world_open("threadweaver-eval", 64, 4096);
        cop_metrics m;
        cop_script script[] = {live_world_say(&w, "", heads[i]), live_world_say(&w, "1", " one{7}"),
                               live_world_say(&w, "2", " two{2}</Thread>")};
        cop_live_options options = {.script = script, .n_script = 3, .max_tokens = 200};
        cop_live *live = live_world_run(&w, &options, &m);
        cop_live_sample sample = cop_live_sample_read(live, 0);
        const char *whole =
            i ? "<Outlines><Outline>1:</Patha</Outline>" : "<Outlines><Outline>1: a";
        CHECK_EQ(strncmp(sample.text, whole, strlen(whole)), 0);
        static const char threads[] =
            "</Outlines>\n<Thread>\n1: one</Thread><Thread>\n2: two>\n<Path></Thread>\n";
        CHECK(memmem(sample.text, sample.bytes, threads, sizeof threads - 1) != NULL);
        CHECK_EQ(sample.stop, COP_STOP_LENGTH);
        /* 200 positions behind the prompt, one byte each: nothing of the old tokens is in the KV.
         */
        CHECK_EQ(sample.bytes, 200);
        live_world_check_text_join(&w, live, 20);
        cop_live_destroy(live);
        live_world_close(&w);
    }
}

/* ---- Multiverse ---- */

#define GOAL "<Parallel>\n<Goal>\n<Outline>\n1: a\n</Outline>\n<Outline>\n2: b</Outline>\n</Goal>"
#define PATHS "\n<Path>\n1: one</Path>\n<Path>\n2: two and more</Path>\n<Conclusion>\n"

static void test_multiverse_engine(void) {
    world w = open_tags("multiverse-engine");
    /* schedule_batch.py:696-715: one token is dropped behind </Goal>; behind </Path> one is kept
     * and one dropped. The paths share their first newline (scheduler.py:1526-1624). */
    cop_script good[] = {SAY("", GOAL "Xso</Conclusion></Parallel>end$"),
                         SAY("1", " one</Path>\nX"), SAY("2", " two and more</Path>\nX")};
    outcome o = run(&w, good, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, GOAL PATHS "so</Conclusion></Parallel>end");
    CHECK_EQ(o.metrics.tokens_dropped, 3);
    CHECK_EQ(o.metrics.tokens_reprefilled, 0);
    CHECK_EQ(o.metrics.joins, 1);
    CHECK_TEXT(o.paths[1].text, "<Path>\n2: two and more</Path>\n");

    /* scheduler.py:1578: what follows stands behind the longest path: its last newline is two
     * behind the goal's end, its header and its text. The budget ends at a position, one sooner. */
    uint32_t longest = tokens_of(&w, GOAL "\n<Path>\n2: two and more</Path>\n<Conclusion>\n");
    for (uint32_t more = 3; more <= 40; more += 37) {
        cop_script tail[] = {SAY("", GOAL "X"), SAY("1", " one</Path>\nX"),
                             SAY("2", " two and more</Path>\nX")};
        o = run(&w, tail, 3, (cop_live_options){.max_tokens = longest + more + 1});
        CHECK_EQ(o.sample.stop, COP_STOP_LENGTH);
        uint32_t joined = tokens_of(&w, GOAL PATHS);
        /* No fork is taken in the last 30 (1538-1552): then X is an ordinary token. */
        bool forked = tokens_of(&w, GOAL) + 30 < longest + more + 1;
        CHECK_EQ(o.sample.forks, forked);
        CHECK_EQ(o.sample.n_ids, forked ? joined + more : longest + more);
    }
    live_world_close(&w);
}

static void test_multiverse_engine_ends(void) {
    world w = open_tags("multiverse-engine");
    /* 720-730: joined as it stands. 1570-1605: lost. 709: ends the request. */
    cop_script end[] = {SAY("", GOAL "X.$"), SAY("1", " one$"), SAY("2", " two</Path>$")};
    outcome o = run(&w, end, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, GOAL "\n<Path>\n1: one<Path>\n2: two</Path><Conclusion>\n.");
    cop_script none[] = {SAY("", "<Parallel><Goal></Goal>never")};
    o = run(&w, none, 1, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "<Parallel><Goal></Goal>");
    CHECK_EQ(o.sample.stop, COP_STOP_REFUSED);
    CHECK(o.sample.answer == NULL);
    cop_script stray[] = {SAY("", "so</Path>never")};
    o = run(&w, stray, 1, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "so</Path>");
    CHECK_EQ(o.sample.stop, COP_STOP_PATH);
    /* A goal inside a path forks again; numbers are written as they stand. */
    cop_script nested[] = {
        SAY("", "<Goal><Outline>1: a</Outline></Goal>X.$"),
        SAY("1", "<Goal><Outline>1.1: b</Outline><Outline>1.2: c</Outline></Goal>X!</Path>\nX"),
        SAY("1.1", "p</Path>\nX"), SAY("1.2", "qq</Path>\nX")};
    o = run(&w, nested, 4, (cop_live_options){0});
    CHECK(strstr(o.text.text,
                 "</Goal>\n<Path>\n1.1:p</Path>\n<Path>\n1.2:qq</Path>\n<Conclusion>\n!"
                 "</Path>\n<Conclusion>\n."));
    CHECK_EQ(o.sample.forks, 2);
    live_world_close(&w);
}

/* ---- NPR, corrected ---- */

#define GUIDELINE "<guideline>\n<plan>1: a</plan>\n<plan>2: b</plan>\n</guideline>"

static void test_npr_corrected(void) {
    world w = open_tags("npr-corrected");
    cop_script good[] = {
        SAY("",
            GUIDELINE "s\n</takeaway>\n\n<guideline><plan>1: c</plan></guideline>t</takeaway>e$"),
        SAY("1", " x\n</step>"), SAY("2", " yy\n</step>")};
    outcome o = run(&w, good, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text,
               GUIDELINE "\n<step>\n1: x\n</step><step>\n2: yy\n</step>\n<takeaway>\ns\n</takeaway>"
                         "\n\n<guideline><plan>1: c</plan></guideline>\n<step>\n1: x\n</step>"
                         "\n<takeaway>\nt</takeaway>e");
    CHECK_EQ(o.sample.forks, 2);
    CHECK_EQ(o.sample.ill_formed_tags, 0);
    /* Six plans are text, and none at all is. */
    cop_script many[] = {SAY("", "<guideline><plan>1:</plan><plan>2:</plan><plan>3:</plan><plan>4:"
                                 "</plan><plan>5:</plan><plan>6:</plan></guideline>on$")};
    o = run(&w, many, 1, (cop_live_options){0});
    CHECK_EQ(o.sample.forks_refused, 1);
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    live_world_close(&w);
}

/* ---- NPR; its penalty: test_live_penalty ---- */

static void test_npr(void) {
    world w = open_tags("npr");
    const uint32_t most = 3000; /* fork_margin is 1024 */
    /* One token behind </guideline> is dropped, of two behind </step> one is kept. The steps share
     * their first newline. */
    cop_script good[] = {SAY("", GUIDELINE "Xs</takeaway>end$"), SAY("1", " x\n</step>\nX"),
                         SAY("2", " yy\n</step>\nX")};
    outcome o = run(&w, good, 3, (cop_live_options){.max_tokens = most});
    CHECK_TEXT(o.text.text,
               GUIDELINE "\n<step>\n1: x\n</step>\n<step>\n2: yy\n</step>\n<takeaway>\n"
                         "s</takeaway>end");
    CHECK_EQ(o.metrics.tokens_dropped, 3);
    CHECK_EQ(o.metrics.tokens_reprefilled, 0);
    CHECK_EQ(o.sample.ill_formed_tags, 0);
    /* schedule_batch.py:725-741: no plan, six, or none in a guideline of this turn end the request,
     */
    static const char six[] = "<guideline><plan>1:</plan><plan>2:</plan><plan>3:</plan>"
                              "<plan>4:</plan><plan>5:</plan><plan>6:</plan></guideline>";
    static const char *const ends[] = {"<guideline></guideline>", six,
                                       "<plan>1: a</plan></guideline>", "so</step>"};
    for (int i = 0; i < 4; i++) {
        char text[256];
        snprintf(text, sizeof text, "%snever", ends[i]);
        cop_script end[] = {SAY("", text)};
        o = run(&w, end, 1, (cop_live_options){.max_tokens = most});
        CHECK_TEXT(o.text.text, ends[i]);
        CHECK_EQ(o.sample.stop, i < 3 ? COP_STOP_REFUSED : COP_STOP_PATH);
        CHECK_EQ(o.sample.forks, 0);
        /* or the step that says it, which is joined as it stands. */
        snprintf(text, sizeof text, " %s%s", ends[i], i < 3 ? "never" : "\nX");
        cop_script step[] = {SAY("", GUIDELINE "Xs$"), SAY("1", text), SAY("2", "</step>\nX")};
        o = run(&w, step, 3, (cop_live_options){.max_tokens = most});
        char expected[512];
        snprintf(expected, sizeof expected,
                 GUIDELINE "\n<step>\n1: %s%s<step>\n2:</step>\n<takeaway>\ns", ends[i],
                 i < 3 ? "" : "\n");
        CHECK_TEXT(o.text.text, expected);
        CHECK_EQ(o.sample.stop, COP_STOP_END);
    }
    live_world_close(&w);
}

/* schedule_batch.py:687-697: a request's budget ends 128 sooner, and counts a step's own tokens
 * times the steps of its block; the token with which a step's ends is lost (scheduler.py:1594).
 * 1586: whether a fork is too late is a matter of positions. */
static void test_npr_budgets(void) {
    world w = open_tags("npr");
    uint32_t guideline = tokens_of(&w, GUIDELINE), header = tokens_of(&w, "<step>\n1:");
    char late[700];
    memset(late, 'y', 600);
    snprintf(late + 600, sizeof late - 600, "</step>\nX");
    for (uint32_t more = 0; more < 2; more++) {
        /* The budget is `more` past the first that allows the fork: X is in the count. */
        uint32_t most = guideline + 1024 + more;
        cop_script fork[] = {SAY("", GUIDELINE "X"), SAY("1", late), SAY("2", late)};
        outcome o = run(&w, fork, 3, (cop_live_options){.max_tokens = most});
        CHECK_EQ(o.sample.forks, more);
        if (!more) /* decoding went on, and X stays */
            CHECK_EQ(strncmp(o.text.text, GUIDELINE "X", strlen(GUIDELINE "X")), 0);
    }
    /* Each step has (most - 128 - guideline - newline - header) / 2 tokens, one of them lost. */
    uint32_t most = guideline + 1025, room = most - 128 - guideline - 1 - header;
    cop_script cut[] = {SAY("", GUIDELINE "X"), SAY("1", late), SAY("2", "</step>\nX")};
    outcome o = run(&w, cut, 3, (cop_live_options){.max_tokens = most});
    CHECK_EQ(strspn(o.paths[0].text + strlen("<step>\n1:"), "y"), (room + 1) / 2 - 1);
    CHECK_EQ(o.paths[0].text[strlen("<step>\n1:") + (room + 1) / 2 - 1], '\0');
    /* Two steps of 300 tokens lie side by side: a fork behind them has 300 positions more. */
    char side[400], twice[512];
    memset(side, 'y', 300);
    snprintf(side + 300, sizeof side - 300, "</step>\nX");
    snprintf(twice, sizeof twice, "%sX</takeaway>%sX", GUIDELINE, GUIDELINE);
    uint32_t behind = 2 * guideline + 1 + header + 302 + tokens_of(&w, "<takeaway>\n</takeaway>");
    for (uint32_t one = 0; one < 2; one++) {
        cop_script script[] = {SAY("", twice), SAY("1", side), SAY("2", side)};
        o = run(&w, script, 3, (cop_live_options){.max_tokens = behind + 1024 + one});
        CHECK_EQ(o.sample.forks, 1 + one);
    }
    live_world_close(&w);
}

/* ---- Parallel-R1 ---- */

static void test_parallel_r1(void) {
    world w = open_tags("parallel-r1");
    cop_script good[] = {SAY("", "a<Parallel>s</Summary>b$"), SAY("1", "one</Path>"),
                         SAY("2", "two!$")}; /* L349-354: an end of text becomes </Path> */
    outcome o = run(&w, good, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "a<Parallel><Path>one</Path><Path>two!</Path></Parallel>\n<Summary>s"
                            "</Summary>b");
    CHECK_EQ(o.sample.ill_formed_tags, 0);
    /* L400-423: the summary's end of text closes it, and decoding goes on. */
    cop_script end[] = {SAY("", "<Parallel>s$on<Parallel>t</Summary>b$"), SAY("1", "1</Path>"),
                        SAY("2", "2</Path>")};
    o = run(&w, end, 3, (cop_live_options){0});
#define BLOCK "<Parallel><Path>1</Path><Path>2</Path></Parallel>\n<Summary>"
    CHECK_TEXT(o.text.text, BLOCK "s</Summary>on" BLOCK "t</Summary>b");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    /* L277-279: nothing behind the fourth summary, whether its tag or an end of text closes it. */
    for (int i = 0; i < 2; i++) {
        cop_script four[] = {SAY("", i ? "<Parallel>a$<Parallel>b$<Parallel>c$<Parallel>d$never"
                                       : "<Parallel>a$<Parallel>b$<Parallel>c$<Parallel>d</Summary>"
                                         "never"),
                             SAY("1", "1</Path>"), SAY("2", "2</Path>")};
        o = run(&w, four, 3, (cop_live_options){0});
        CHECK_TEXT(o.text.text,
                   BLOCK "a</Summary>" BLOCK "b</Summary>" BLOCK "c</Summary>" BLOCK "d</Summary>");
        CHECK_EQ(o.sample.stop, COP_STOP_LIMIT);
    }
    /* A block inside a path, or inside a summary, is literal. */
    cop_script inside[] = {SAY("", "<Parallel>s<Parallel></Summary>$"),
                           SAY("1", "<Parallel>x</Path>"), SAY("2", "2</Path>")};
    o = run(&w, inside, 3, (cop_live_options){0});
    CHECK_EQ(o.sample.forks, 1);
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    live_world_close(&w);
}

/* L346: what is beyond the limit is cut once the path has ended. */
static void test_parallel_r1_cuts_paths_after_their_end(void) {
    world w = open_tags("parallel-r1");
    ((cop_dialect *)cop_dialect_of(w.dialect))->max_path_tokens = 4;
    cop_script script[] = {SAY("", "<Parallel>s$b$"), SAY("1", "one</Path>"),
                           SAY("2", "two is longer</Path>")};
    outcome o = run(&w, script, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "<Parallel><Path>one</Path><Path>two </Path></Parallel>\n<Summary>s"
                            "</Summary>b");
    CHECK_EQ(o.metrics.tokens_total,
             tokens_of(&w, "<Parallel>sbone</Path>two is longer</Path>") + 2);
    live_world_close(&w);
}

/* L336-337: paths are drawn at temperature 1, whatever the main thread's is. */
static void test_a_stage_is_sampled_in_its_own_way(void) {
    world w = open_tags("parallel-r1-corrected");
    cop_dialect *d = (cop_dialect *)cop_dialect_of(w.dialect);
    d->max_path_tokens = 30;
    for (int own = 0; own < 2; own++) {
        d->stage_set[COP_STAGE_PATH] = own;
        cop_metrics m;
        cop_script script[] = {SAY("", "<Parallel>")};
        cop_live_options options = {.script = script, .n_script = 1, .max_tokens = 80};
        cop_live *live = live_world_run(&w, &options, &m);
        cop_live_path a = cop_live_path_read(live, 0), b = cop_live_path_read(live, 1);
        CHECK(a.n_ids > 20 && b.n_ids > 20);
        bool same = memcmp(a.ids, b.ids, 20 * sizeof *a.ids) == 0;
        CHECK_EQ(same, !own); /* greedy paths under one header are one path */
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* ---- policies and budgets of a dialect ---- */

static void test_a_dialects_own_join_policy(void) {
    world w = open_tags("threadweaver");
    cop_dialect *d = (cop_dialect *)cop_dialect_of(w.dialect);
    static const double ratios[] = {0.1, 0.5, 0.67, 1.0};
    static const uint32_t finished[] = {1, 2, 3, 3};
    for (int i = 0; i < 4; i++) {
        for (int keep = 0; keep < 2; keep++) {
            d->quorum_ratio = ratios[i];
            d->join_policy.keep_partial = keep;
            cop_script script[] = {
                SAY("", "<Parallel><Outlines><Outline>1</Outline><Outline>2</Outline><Outline>3"
                        "</Outline></Outlines></Parallel>$"),
                SAY("1", "a and much more</Thread>"), SAY("2", "b</Thread>"),
                SAY("3", "c and more</Thread>")};
            outcome o = run(&w, script, 4, (cop_live_options){0});
            CHECK_EQ(o.sample.paths_cancelled, 3 - finished[i]);
            const char *one = strstr(o.text.text, "<Thread>\n1:");
            CHECK_EQ(one != NULL, keep || finished[i] == 3);
        }
    }
    /* The caller's goes before the dialect's. */
    d->quorum_ratio = 0.1;
    cop_script script[] = {
        SAY("", "<Parallel><Outlines><Outline>1</Outline><Outline>2</Outline></Outlines>"
                "</Parallel>$"),
        SAY("1", "a and more</Thread>"), SAY("2", "b</Thread>")};
    outcome o = run(&w, script, 3, (cop_live_options){.join_policy = {.quorum = 2}});
    CHECK_EQ(o.sample.paths_cancelled, 0);
    live_world_close(&w);
}

/* Who is charged: with the same text, the rules end the run at different tokens. */
static void test_budgets_charge_as_they_say(void) {
    world w = open_tags("multiverse");
    cop_dialect *d = (cop_dialect *)cop_dialect_of(w.dialect);
    uint32_t goal = tokens_of(&w, GOAL), header = tokens_of(&w, "\n<Path>\n1:"),
             join = tokens_of(&w, "\n<Conclusion>\n"), most = 150;
    static const cop_charge charges[] = {COP_CHARGE_GENERATED, COP_CHARGE_ALL_TOKENS,
                                         COP_CHARGE_POSITION, COP_CHARGE_OWN_TIMES_SIBLINGS};
    uint32_t p1 = tokens_of(&w, " one</Path>"), p2 = tokens_of(&w, " two and more</Path>");
    const uint32_t before[] = {goal + p1 + p2, goal + p1 + p2 + 2 * header + join,
                               goal + header + p2 + join, goal + 2 * header + p1 + p2 + join};
    for (int i = 0; i < 4; i++) {
        d->charge = charges[i];
        d->margin = 5;
        cop_script script[] = {SAY("", GOAL), SAY("1", " one</Path>"),
                               SAY("2", " two and more</Path>")};
        outcome o = run(&w, script, 3, (cop_live_options){.max_tokens = most});
        CHECK_EQ(o.sample.stop, COP_STOP_LENGTH);
        CHECK_EQ(o.sample.generated, goal + p1 + p2 + (most - 5 - before[i]));
    }
    /* Among siblings a path's own tokens count for each of them: 2 x own reaches it, and it joins.
     */
    cop_script script[] = {SAY("", GOAL), SAY("1", " one</Path>")};
    uint32_t room = goal + header + 2 * 30;
    outcome o = run(&w, script, 2, (cop_live_options){.max_tokens = room + 5});
    CHECK_EQ(o.metrics.joins, 1);
    CHECK_EQ(tokens_of(&w, o.paths[1].text), header + 30 + 1); /* and its tag */
    live_world_close(&w);
}

int main(void) {
    RUN(test_threadweaver_rl);
    RUN(test_threadweaver_rl_stops_after_sixteen_blocks);
    RUN(test_threadweaver_rl_cuts_its_response);
    RUN(test_threadweaver_rl_wants_its_tags_as_tokens);
    RUN(test_threadweaver_eval);
    RUN(test_threadweaver_eval_encodes_its_text_again);
    RUN(test_multiverse_engine);
    RUN(test_multiverse_engine_ends);
    RUN(test_npr_corrected);
    RUN(test_npr);
    RUN(test_npr_budgets);
    RUN(test_parallel_r1);
    RUN(test_parallel_r1_cuts_paths_after_their_end);
    RUN(test_a_stage_is_sampled_in_its_own_way);
    RUN(test_a_dialects_own_join_policy);
    RUN(test_budgets_charge_as_they_say);
    return check_report();
}
