#include "reason/parser.h"

#include "parser_events.h"

static const cop_dialect *multiverse, *threadweaver;
static cop_dialect_file *files[2];

#define PLAN2                                                                                      \
    "<Parallel>\n<Goal>\n<Outline>\n1: a\n</Outline>\n<Outline>\n2: b\n</Outline>\n</Goal>"
#define PATH1 "\n<Path>\n1: x\n</Path>"
#define PATH2 "\n<Path>\n2: y\n</Path>"

static void test_a_tag_is_found_at_its_last_byte(void) {
    const char *text = "<Think>\nso " PLAN2 PATH1 PATH2 "\n<Conclusion>z</Conclusion></Parallel>";
    static events found;
    found.count = 0;
    cop_parser parser;
    cop_parser_init(&parser, multiverse, true);
    CHECK_OK(parser_feed(&parser, text, strlen(text), &found));
    static const struct {
        cop_element element;
        bool closing;
        uint32_t depth, items, paths;
    } expected[] = {
        {COP_EL_ROOT, false, 0, 0, 0}, {COP_EL_BLOCK, false, 1, 0, 0},
        {COP_EL_PLAN, false, 1, 0, 0}, {COP_EL_ITEM, false, 1, 1, 0},
        {COP_EL_ITEM, true, 1, 1, 0},  {COP_EL_ITEM, false, 1, 2, 0},
        {COP_EL_ITEM, true, 1, 2, 0},  {COP_EL_PLAN, true, 1, 2, 0},
        {COP_EL_PATH, false, 1, 2, 1}, {COP_EL_PATH, true, 1, 2, 1},
        {COP_EL_PATH, false, 1, 2, 2}, {COP_EL_PATH, true, 1, 2, 2},
        {COP_EL_JOIN, false, 1, 2, 2}, {COP_EL_JOIN, true, 1, 2, 2},
        {COP_EL_BLOCK, true, 0, 0, 0},
    };
    CHECK_EQ(found.count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < found.count; i++) {
        const cop_tag_event *e = &found.list[i];
        const cop_tag *tag =
            e->closing ? &multiverse->close[e->element] : &multiverse->open[e->element];
        CHECK_EQ(e->element, expected[i].element);
        CHECK_EQ(e->closing, expected[i].closing);
        CHECK_EQ(e->depth, expected[i].depth);
        CHECK_EQ(e->items, expected[i].items);
        CHECK_EQ(e->paths, expected[i].paths);
        CHECK_EQ(e->tag_bytes, tag->bytes);
        CHECK(memcmp(text + e->end - e->tag_bytes, tag->text, tag->bytes) == 0);
    }
    CHECK_EQ(parser.fed, strlen(text));
    CHECK_STATUS(cop_parser_end(&parser), COP_ERR_FORMAT);
    CHECK_MESSAGE("line 1, byte 0: <Think> is never closed; add its </Think>");
}

static void test_every_cutting_gives_the_same_events(void) {
    static events whole, cut;
    for (uint64_t seed = 0; seed < 300; seed++) {
        transcript t = transcript_make(seed % 3 ? multiverse : threadweaver, seed, seed % 2);
        bool strict = seed % 5 != 0;
        cop_parser one, many;
        whole.count = 0;
        cop_parser_init(&one, t.dialect, strict);
        CHECK_OK(parser_feed(&one, t.text.data, t.text.bytes, &whole));
        CHECK_OK(cop_parser_end(&one));
        CHECK_EQ(one.ill_formed, 0);
        for (int i = 0; i < 3; i++) {
            cut.count = 0;
            cop_parser_init(&many, t.dialect, strict);
            if (i == 0) /* byte by byte */
                for (size_t at = 0; at < t.text.bytes; at++)
                    CHECK_OK(parser_feed(&many, t.text.data + at, 1, &cut));
            else
                parser_feed_cut(&many, t.text.data, t.text.bytes, &t, &cut);
            parser_check_same(&whole, &cut);
            parser_check_same_state(&one, &many);
            CHECK_EQ(one.fed, many.fed);
            CHECK_EQ(one.line, many.line);
        }
        cop_buffer_release(&t.text);
    }
}

static void test_every_two_pieces_give_the_same_events(void) {
    static const char text[] = "<Think><<Think>" PLAN2 "<Path" PATH1 PATH2 "<</Parallel></Think>";
    static events whole, cut;
    whole.count = 0;
    CHECK_OK(parser_parse(multiverse, false, text, &whole));
    for (size_t at = 0; at < sizeof text; at++) {
        cop_parser parser;
        cut.count = 0;
        cop_parser_init(&parser, multiverse, false);
        CHECK_OK(parser_feed(&parser, text, at, &cut));
        CHECK_OK(parser_feed(&parser, text + at, sizeof text - 1 - at, &cut));
        parser_check_same(&whole, &cut);
    }
}

/* Tags in any order: lenient mode takes or counts each one that a plain search finds. */
static void test_lenient_mode_passes_over_what_cannot_stand(void) {
    static events whole, cut;
    uint64_t taken = 0, passed = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        transcript t = {.dialect = multiverse, .state = seed};
        for (int i = 0; i < 60; i++) {
            int e = (int)transcript_random(&t, COP_EL_COUNT);
            transcript_tag(&t,
                           transcript_random(&t, 2) ? multiverse->open[e] : multiverse->close[e]);
            transcript_text(&t, 1);
        }
        uint64_t tags = 0;
        for (int e = 0; e < 2 * COP_EL_COUNT; e++) {
            const char *tag = e % 2 ? multiverse->close[e / 2].text : multiverse->open[e / 2].text;
            for (const char *at = t.text.data; (at = strstr(at, tag)); at++)
                tags++;
        }
        cop_parser one, many;
        whole.count = cut.count = 0;
        cop_parser_init(&one, multiverse, false);
        CHECK_OK(parser_feed(&one, t.text.data, t.text.bytes, &whole));
        CHECK_EQ(tags, 60);
        CHECK_EQ(whole.count + one.ill_formed, tags);
        cop_parser_init(&many, multiverse, false);
        parser_feed_cut(&many, t.text.data, t.text.bytes, &t, &cut);
        parser_check_same(&whole, &cut);
        CHECK_EQ(one.ill_formed, many.ill_formed);
        CHECK_OK(cop_parser_end(&one));
        taken += whole.count;
        passed += one.ill_formed;
        cop_buffer_release(&t.text);
    }
    CHECK(taken > 1000 && passed > 1000);
}

static cop_dialect with_tags(const char *path, const char *item) {
    cop_dialect d = *multiverse;
    d.open[COP_EL_PATH] = (cop_tag){path, (uint32_t)strlen(path)};
    d.open[COP_EL_ITEM] = (cop_tag){item, (uint32_t)strlen(item)};
    return d;
}

static void test_tags_that_begin_or_end_alike(void) {
    static events found;
    cop_dialect d = with_tags("<Paths>", "<Path>");
    const char *text = "<Parallel><Goal><Path></Outline></Goal><Paths></Path></Parallel>";
    found.count = 0;
    CHECK_OK(parser_parse(&d, true, text, &found));
    CHECK_EQ(found.count, 8);
    CHECK_EQ(found.list[2].element, COP_EL_ITEM);
    CHECK_EQ(found.list[5].element, COP_EL_PATH);

    /* Found at the byte that completes it: a tag that begins another one wins. */
    d = with_tags("<Pat", "<Path>");
    found.count = 0;
    CHECK_OK(parser_parse(&d, false, "<Parallel><Goal><Path>", &found));
    CHECK_EQ(found.count, 2);

    /* Of two that end at the same byte the longer one is meant. */
    d = with_tags("x<Path>", "<Path>");
    text = "<Parallel><Goal><Path></Outline></Goal>x<Path></Path></Parallel>";
    found.count = 0;
    CHECK_OK(parser_parse(&d, true, text, &found));
    CHECK_EQ(found.list[5].element, COP_EL_PATH);
    CHECK_EQ(found.list[5].tag_bytes, 7);
}

static void test_strict_mode_says_what_where_and_what_to_do(void) {
    static const struct {
        const char *text, *message;
        bool weaver;
    } cases[] = {
        {"<Think>\n<Parallel>", "line 2, byte 8: <Parallel> is never closed; add its </Parallel>"},
        {"a</Path>", "line 1, byte 1: </Path> closes nothing: nothing is open"},
        {"<Think>\n</Goal>", "line 2, byte 8: </Goal> closes nothing: <Think> (line 1, byte 0) is"},
        {PLAN2 PATH1 PATH2 "\n<Path>3", "line 16, byte 118: <Path> without an <Outline>: the "
                                        "<Parallel> of line 1 lists 2 and this "
                                        "is path 3; add the missing <Outline>"},
        {PLAN2 PATH1 "\n</Parallel>", "lists 2 <Outline> and has 1 <Path>"},
        {PLAN2 PATH1 "\n<Conclusion>", "<Conclusion> after 1 paths of 2 listed"},
        {"<Parallel><Path>", "<Path> without an <Outline>: the <Parallel> of line 1 lists 0"},
        {"<Parallel></Parallel>", "the <Parallel> of line 1 has no <Path>"},
        {PLAN2 PATH1 PATH2 "<Conclusion></Conclusion><Conclusion>", "has had a conclusion"},
        {PLAN2 PATH1 PATH2 "<Goal>", "<Goal> cannot stand here: its block has had a plan"},
        {"<Parallel><Outline>", "<Outline> stands outside the block's <Goal>"},
        {"<Parallel><Goal><Parallel>", "<Parallel> cannot stand here: <Goal> (line 1, byte 10)"},
        {"<Think></Think><Think>", "<Think> after an earlier one"},
        {PLAN2 PATH1 PATH2 "</Parallel><Think>", "<Think> after a block"},
        {"<Path>", "line 1, byte 0: <Path> cannot stand here: nothing is open"},
        {PLAN2 "\n<Path>\n2: x", "line 11, byte 86: <Path> is numbered 2 and is number 1"},
        {PLAN2 PATH1 "\n<Path>\n2.1: x", "<Path> is numbered 1 and is number 2"},
        {"<Parallel><Goal><Outline>3:", "<Outline> is numbered 3 and is number 1"},
        {"<Parallel><Outlines><Outline>1:</Outline></Outlines><Thread>1:\n<Parallel>",
         "line 2, byte 63: <Parallel> inside a path: the dialect 'threadweaver' does not nest",
         true},
        {"<Parallel>\n<Goal>", "<Parallel> is never closed", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_STATUS(
            parser_parse(cases[i].weaver ? threadweaver : multiverse, true, cases[i].text, NULL),
            COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].message);
        CHECK_OK(
            parser_parse(cases[i].weaver ? threadweaver : multiverse, false, cases[i].text, NULL));
    }
}

static void test_numbers_that_are_none_and_that_restart(void) {
    CHECK_OK(parser_parse(multiverse, true,
                          PLAN2 "<Path>7 apples: x</Path><Path>x 9: y</Path></Parallel>", NULL));
    CHECK_OK(parser_parse(multiverse, true,
                          PLAN2 "<Path> 1.1: x</Path><Path>4.2: y</Path></Parallel>", NULL));
    CHECK_OK(parser_parse(multiverse, true, PLAN2 "<Path>:3: x</Path><Path>3.: y</Path></Parallel>",
                          NULL));
}

static void test_limits_of_a_dialect(void) {
    cop_dialect d = *multiverse;
    d.max_paths = 1;
    CHECK_STATUS(parser_parse(&d, true, PLAN2 PATH1 PATH2, NULL), COP_ERR_FORMAT);
    CHECK_MESSAGE("<Path> is path 2, and the dialect 'multiverse' allows 1");
    d = *multiverse;
    d.max_depth = 1;
    CHECK_STATUS(parser_parse(&d, true, PLAN2 "<Path>" PLAN2, NULL), COP_ERR_FORMAT);
    CHECK_MESSAGE("<Parallel> opens depth 2, and at most 1 is allowed");
    cop_parser parser;
    for (int strict = 0; strict < 2; strict++) {
        cop_parser_init(&parser, multiverse, strict);
        static const char deeper[] = "<Parallel><Goal><Outline></Outline></Goal><Path>";
        for (int i = 0; i < COP_PARSER_DEPTH_MAX; i++)
            CHECK_OK(parser_feed(&parser, deeper, sizeof deeper - 1, NULL));
        CHECK_EQ(parser.depth, COP_PARSER_DEPTH_MAX);
        CHECK_STATUS(parser_feed(&parser, deeper, sizeof deeper - 1, NULL),
                     strict ? COP_ERR_FORMAT : COP_OK);
        CHECK_EQ(parser.depth, COP_PARSER_DEPTH_MAX);
    }
    CHECK_MESSAGE("<Parallel> opens depth 33, and at most 32 is allowed");
}

static void test_forks_and_joins_equal_the_flattened_text(void) {
    uint32_t blocks = 0, deepest = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        transcript t = transcript_make(seed % 3 ? multiverse : threadweaver, seed, true);
        parser_check_live(&t);
        blocks += t.blocks;
        deepest = t.depth > deepest ? t.depth : deepest;
        cop_buffer_release(&t.text);
    }
    CHECK(blocks > 200 && deepest >= 3);
}

/* A strict child must not read the rest of its header's number into its own text. */
static void test_a_fork_stands_behind_its_header(void) {
    cop_parser parent, flat;
    for (int strict = 0; strict < 2; strict++) {
        cop_parser_init(&parent, multiverse, strict);
        CHECK_OK(parser_feed(&parent, PLAN2, strlen(PLAN2), NULL));
        cop_parser child = cop_parser_fork(&parent, 1);
        cop_parser_init(&flat, multiverse, strict);
        CHECK_OK(parser_feed(&flat, PLAN2 PATH1 "\n<Path>\n2:", strlen(PLAN2 PATH1 "\n<Path>\n2:"),
                             NULL));
        parser_check_same_state(&flat, &child);
        CHECK_EQ(child.fed, parent.fed + strlen("\n<Path>\n2:"));
        CHECK_OK(parser_feed(&child, " 5: eggs</Path>", 15, NULL));
        CHECK_EQ(child.strict, strict);
    }
    cop_parser nothing;
    cop_parser_init(&nothing, multiverse, false);
    cop_parser child = cop_parser_fork(&nothing, 0);
    CHECK_EQ(child.n_open, 0);
}

static void test_a_branch_prompt_numbers_its_path(void) {
    const uint32_t path[] = {2, 1, 12};
    char out[64];
    size_t bytes;
    CHECK_OK(cop_dialect_branch_prompt(multiverse, path, 1, "", 0, out, sizeof out, &bytes));
    CHECK_TEXT(out, "\n<Path>\n2:");
    CHECK_OK(cop_dialect_branch_prompt(multiverse, path, 3, "", 0, out, sizeof out, &bytes));
    CHECK_TEXT(out, "\n<Path>\n2.1.12:");
    CHECK_OK(cop_dialect_branch_prompt(multiverse, path, 3, "", 0, out, 16, &bytes));
    for (size_t room = 0; room < 16; room++)
        CHECK_STATUS(cop_dialect_branch_prompt(multiverse, path, 3, "", 0, out, room, &bytes),
                     COP_ERR_NO_ROOM);
    cop_dialect d = *multiverse;
    d.branch_prompt = "{n} of <Path>{n}";
    CHECK_OK(cop_dialect_branch_prompt(&d, path, 2, "", 0, out, sizeof out, &bytes));
    CHECK_TEXT(out, "2.1 of <Path>2.1");
}

static void test_nothing_is_allocated(void) {
    transcript t = transcript_make(multiverse, 7, true);
    uint64_t before = cop_memory_count();
    cop_parser parser;
    cop_parser_init(&parser, multiverse, true);
    CHECK_OK(parser_feed(&parser, t.text.data, t.text.bytes, NULL));
    CHECK_EQ(cop_memory_count(), before);
    cop_buffer_release(&t.text);
}

int main(void) {
    multiverse = transcript_dialect("multiverse", &files[0]);
    threadweaver = transcript_dialect("threadweaver", &files[1]);
    RUN(test_a_tag_is_found_at_its_last_byte);
    RUN(test_every_cutting_gives_the_same_events);
    RUN(test_every_two_pieces_give_the_same_events);
    RUN(test_lenient_mode_passes_over_what_cannot_stand);
    RUN(test_tags_that_begin_or_end_alike);
    RUN(test_strict_mode_says_what_where_and_what_to_do);
    RUN(test_numbers_that_are_none_and_that_restart);
    RUN(test_limits_of_a_dialect);
    RUN(test_forks_and_joins_equal_the_flattened_text);
    RUN(test_a_fork_stands_behind_its_header);
    RUN(test_a_branch_prompt_numbers_its_path);
    RUN(test_nothing_is_allocated);
    for (int i = 0; i < 2; i++)
        cop_dialect_close(files[i]);
    return check_report();
}
