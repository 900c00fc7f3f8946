/* Tags that a dialect leaves out: an item without a closing tag, a plan and a block without opening
 * ones (see reason/dialect.h), read strictly, leniently and in forks. */
#include "parser_events.h"

static const cop_dialect *multiverse, *countdown;
static cop_dialect_file *files[2];

#define TRY2 "T9 3 2<try> 14 - 2<try> 3 + 4<fork>"
#define THR1 "<thr> 14 - 2 12<no><end>"
#define THR2 "<thr> 3 + 4 7<ok><end>"

static void test_an_item_implies_its_block_and_its_plan(void) {
    static const char text[] = TRY2 THR1 THR2 "<join>so<try>1: a<fork><thr>1: a<end><join><ok>";
    static const struct {
        cop_element element;
        bool closing;
        uint32_t depth, items, paths, n_open;
    } expected[] = {
        {COP_EL_ITEM, false, 1, 1, 0, 3}, {COP_EL_ITEM, false, 1, 2, 0, 3},
        {COP_EL_PLAN, true, 1, 2, 0, 1},  {COP_EL_PATH, false, 1, 2, 1, 2},
        {COP_EL_PATH, true, 1, 2, 1, 1},  {COP_EL_PATH, false, 1, 2, 2, 2},
        {COP_EL_PATH, true, 1, 2, 2, 1},  {COP_EL_BLOCK, true, 0, 0, 0, 0},
        {COP_EL_ITEM, false, 1, 1, 0, 3}, {COP_EL_PLAN, true, 1, 1, 0, 1},
        {COP_EL_PATH, false, 1, 1, 1, 2}, {COP_EL_PATH, true, 1, 1, 1, 1},
        {COP_EL_BLOCK, true, 0, 0, 0, 0},
    };
    for (int strict = 0; strict < 2; strict++) {
        cop_parser parser;
        size_t at = 0, n = 0;
        cop_parser_init(&parser, countdown, strict);
        while (at < sizeof text - 1) {
            size_t used;
            bool found;
            cop_tag_event e;
            CHECK_OK(cop_parser_feed(&parser, text + at, sizeof text - 1 - at, &used, &found, &e));
            at += used;
            if (!found)
                continue;
            CHECK(n < sizeof expected / sizeof expected[0]);
            CHECK_EQ(e.element, expected[n].element);
            CHECK_EQ(e.closing, expected[n].closing);
            CHECK_EQ(e.depth, expected[n].depth);
            CHECK_EQ(e.items, expected[n].items);
            CHECK_EQ(e.paths, expected[n].paths);
            CHECK_EQ(parser.n_open, expected[n].n_open);
            CHECK_EQ(e.end, at);
            const cop_tag *tag = &(e.closing ? countdown->close : countdown->open)[e.element];
            CHECK_EQ(e.tag_bytes, tag->bytes);
            CHECK(memcmp(text + at - e.tag_bytes, tag->text, tag->bytes) == 0);
            n++;
        }
        CHECK_EQ(n, sizeof expected / sizeof expected[0]);
        CHECK_EQ(parser.ill_formed, 0);
        CHECK_OK(cop_parser_end(&parser));
    }
}

/* Three pieces, cut at every two places; what cannot stand is among them in lenient mode. */
static void test_implied_tags_that_are_cut_anywhere(void) {
    static const char *const texts[] = {"a<<try><try>b<fork><thr>x<end><thr>y<end><join><try",
                                        "<fork><try>a<end><try><thr>b<fork><thr><try>x<end><join>"};
    static events whole, cut;
    for (int i = 0; i < 2; i++) {
        size_t bytes = strlen(texts[i]);
        cop_parser one, many;
        whole.count = 0;
        cop_parser_init(&one, countdown, i == 0);
        CHECK_OK(parser_feed(&one, texts[i], bytes, &whole));
        CHECK_EQ(one.ill_formed, i ? 4 : 0);
        for (size_t a = 0; a <= bytes; a++) {
            for (size_t b = a; b <= bytes; b++) {
                cut.count = 0;
                cop_parser_init(&many, countdown, i == 0);
                CHECK_OK(parser_feed(&many, texts[i], a, &cut));
                CHECK_OK(parser_feed(&many, texts[i] + a, b - a, &cut));
                CHECK_OK(parser_feed(&many, texts[i] + b, bytes - b, &cut));
                parser_check_same(&whole, &cut);
                parser_check_same_state(&one, &many);
                CHECK_EQ(many.ill_formed, one.ill_formed);
            }
        }
    }
}

static bool left_out(const cop_dialect *d, const cop_tag_event *event) {
    return (event->closing ? d->close : d->open)[event->element].bytes == 0;
}

static void write_both(cop_buffer *full, const char *a, cop_buffer *brief, const char *b) {
    CHECK_OK(cop_buffer_append(full, a, strlen(a)));
    CHECK_OK(cop_buffer_append(brief, b, strlen(b)));
}

/* A block with paths, nested ones in some; `full` has every tag, `brief` those that `d` has. */
static void write_block(transcript *random, const cop_dialect *whole, const cop_dialect *d,
                        uint32_t depth, cop_buffer *full, cop_buffer *brief) {
    uint32_t n = 1 + transcript_random(random, 3);
    write_both(full, whole->open[COP_EL_BLOCK].text, brief, d->open[COP_EL_BLOCK].text);
    write_both(full, whole->open[COP_EL_PLAN].text, brief, d->open[COP_EL_PLAN].text);
    for (uint32_t i = 0; i < n; i++) {
        write_both(full, whole->open[COP_EL_ITEM].text, brief, d->open[COP_EL_ITEM].text);
        char number[16];
        snprintf(number, sizeof number, "%u: <", i + 1);
        write_both(full, number, brief, number);
        write_both(full, whole->close[COP_EL_ITEM].text, brief, d->close[COP_EL_ITEM].text);
    }
    write_both(full, whole->close[COP_EL_PLAN].text, brief, d->close[COP_EL_PLAN].text);
    for (uint32_t i = 0; i < n; i++) {
        write_both(full, whole->open[COP_EL_PATH].text, brief, d->open[COP_EL_PATH].text);
        if (depth < 4 && transcript_random(random, 3) == 0)
            write_block(random, whole, d, depth + 1, full, brief);
        write_both(full, whole->close[COP_EL_PATH].text, brief, d->close[COP_EL_PATH].text);
    }
    write_both(full, whole->close[COP_EL_BLOCK].text, brief, d->close[COP_EL_BLOCK].text);
}

static void test_implied_tags_are_those_that_are_left_out(void) {
    static events full, brief;
    uint32_t dropped = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        transcript random = {.state = seed};
        cop_dialect d = *multiverse;
        cop_tag none = {"", 0};
        if (seed & 1)
            d.close[COP_EL_ITEM] = none;
        if (seed & 2 || seed & 4)
            d.open[COP_EL_PLAN] = none;
        if (seed & 4)
            d.open[COP_EL_BLOCK] = none;
        cop_buffer a = {0}, b = {0};
        for (uint32_t blocks = 1 + seed % 3; blocks > 0; blocks--)
            write_block(&random, multiverse, &d, 1, &a, &b);
        full.count = brief.count = 0;
        CHECK_OK(parser_parse(multiverse, true, a.data, &full));
        CHECK_OK(parser_parse(&d, true, b.data, &brief));
        size_t kept = 0;
        for (size_t i = 0; i < full.count; i++) {
            if (left_out(&d, &full.list[i])) {
                dropped++;
                continue;
            }
            CHECK(kept < brief.count);
            CHECK(parser_same_tag(&full.list[i], &brief.list[kept++]));
        }
        CHECK_EQ(kept, brief.count);
        cop_buffer_release(&a);
        cop_buffer_release(&b);
    }
    CHECK(dropped > 2000);
}

static void test_strict_mode_refuses_what_implied_tags_cannot_mean(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a<fork>", "byte 1: <fork> closes nothing: nothing is open; remove it, or add its <try>"},
        {"a<join>", "byte 1: <join> closes nothing: nothing is open; remove it, or add its <try>"},
        {"<thr>", "byte 0: <thr> cannot stand here: nothing is open"},
        {"<try>a<thr>", "byte 6: <thr> cannot stand here: <try> (line 1, byte 0) is open"},
        {"<try>a<end>", "byte 6: <end> closes nothing: <try> (line 1, byte 0) is open"},
        {"<try>a<join>", "byte 6: <join> closes nothing: <try> (line 1, byte 0) is open"},
        {"<try>a<fork><join>", "byte 12: the <try> of line 1 has no <thr>"},
        {"<try>a<fork><fork>", "byte 12: <fork> closes nothing: <try> (line 1, byte 0) is open"},
        {"<try>a<fork><try>", "byte 12: <try> after the <fork> of its block: move it before that"},
        {"<try>a<fork><thr><end><try>", "byte 22: <try> after the <fork> of its block"},
        {"<try>a<fork><thr><try>", "byte 17: <try> inside a path: the dialect "
                                   "'countdown-reprefill' does not nest blocks; <thr> (line 1, "
                                   "byte 12) is open"},
        {"<try>a<fork><thr><join>", "byte 17: <join> closes nothing: <thr> (line 1, byte 12)"},
        {TRY2 THR1 "<join>", "the <try> of line 1 lists 2 <try> and has 1 <thr>"},
        {"<try>a<fork><thr><end><thr>", "<thr> without an <try>: the <try> of line 1 lists 1 and"},
        {"\n<try>2: a", "line 2, byte 7: <try> is numbered 2 and is number 1"},
        {"<try>1: a<try>1: b", "<try> is numbered 1 and is number 2"},
        {"<try>a<try>b", "line 1, byte 6: <try> is never closed; add its <fork>"},
        {"<try>a<fork>", "line 1, byte 0: <try> is never closed; add its <join>"},
        {"<try>a<fork><thr>", "line 1, byte 12: <thr> is never closed; add its <end>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_STATUS(parser_parse(countdown, true, cases[i].text, NULL), COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].message);
        CHECK_OK(parser_parse(countdown, false, cases[i].text, NULL));
    }
    cop_dialect d = *countdown;
    d.nested = true;
    CHECK_STATUS(parser_parse(&d, true, "<try>a<fork><thr><try>", NULL), COP_ERR_FORMAT);
    CHECK_MESSAGE("byte 17: <try> opens depth 2, and at most 1 is allowed");
    d.max_depth = 0;
    CHECK_OK(
        parser_parse(&d, true, "<try>a<fork><thr><try>b<fork><thr><end><join><end><join>", NULL));
}

static void test_lenient_mode_passes_over_what_implied_tags_cannot_mean(void) {
    static const char *const tags[] = {"<try>", "<fork>", "<thr>", "<end>", "<join>"};
    static events whole, cut;
    uint64_t taken = 0, passed = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        transcript t = {.dialect = countdown, .state = seed};
        cop_dialect d = *countdown;
        if (seed % 2)
            d.nested = true, d.max_depth = 0;
        for (int i = 0; i < 60; i++) {
            transcript_put(&t, tags[transcript_random(&t, 5)]);
            transcript_text(&t, 1);
        }
        cop_parser one, many;
        whole.count = cut.count = 0;
        cop_parser_init(&one, &d, false);
        CHECK_OK(parser_feed(&one, t.text.data, t.text.bytes, &whole));
        CHECK_EQ(whole.count + one.ill_formed, 60);
        cop_parser_init(&many, &d, false);
        parser_feed_cut(&many, t.text.data, t.text.bytes, &t, &cut);
        parser_check_same(&whole, &cut);
        parser_check_same_state(&one, &many);
        CHECK_EQ(one.ill_formed, many.ill_formed);
        for (size_t i = 0; i < whole.count; i++)
            CHECK(whole.list[i].paths <= whole.list[i].items);
        taken += whole.count;
        passed += one.ill_formed;
        cop_buffer_release(&t.text);
    }
    CHECK(taken > 1000 && passed > 1000);
}

/* As a runtime with re-prefill leaves it: each path is headed by its item's text. */
static void write_countdown(transcript *t, uint32_t depth) {
    char items[4][32];
    uint32_t n = 1 + transcript_random(t, 4);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(items[i], sizeof items[i], " %u < %u", transcript_random(t, 20), i);
        CHECK_OK(cop_buffer_printf(&t->text, "<try>%s", items[i]));
    }
    transcript_put(t, "<fork>");
    for (uint32_t i = 0; i < n; i++) {
        CHECK_OK(cop_buffer_printf(&t->text, "<thr>%s", items[i]));
        transcript_text(t, 3);
        if (t->dialect->nested && depth < 4 && transcript_random(t, 3) == 0)
            write_countdown(t, depth + 1);
        transcript_put(t, "<end>");
    }
    transcript_put(t, "<join>");
    transcript_text(t, 3);
    t->blocks++;
}

static void test_forks_of_implied_blocks_equal_the_flattened_text(void) {
    uint32_t blocks = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        cop_dialect d = *countdown;
        d.nested = seed % 2;
        d.max_depth = 0;
        transcript t = {.dialect = &d, .state = seed};
        transcript_text(&t, 3);
        for (uint32_t n = 1 + transcript_random(&t, 3); n > 0; n--)
            write_countdown(&t, 1);
        parser_check_live(&t);
        blocks += t.blocks;
        cop_buffer_release(&t.text);
    }
    CHECK(blocks > 400);
}

static void test_a_fork_of_an_implied_block_stands_behind_its_item(void) {
    static const char before[] = "<try>a<try>1: b<fork><thr>a<end><thr>";
    for (int strict = 0; strict < 2; strict++) {
        cop_parser parent, flat;
        cop_parser_init(&parent, countdown, strict);
        CHECK_OK(parser_feed(&parent, "<try>a<try>b<fork>", 18, NULL));
        CHECK_STATUS(cop_parser_end(&parent), strict ? COP_ERR_FORMAT : COP_OK);
        cop_parser child = cop_parser_fork(&parent, 1);
        cop_parser_init(&flat, countdown, false);
        CHECK_OK(parser_feed(&flat, before, sizeof before - 1, NULL));
        parser_check_same_state(&flat, &child);
        CHECK_EQ(child.ill_formed, 0);
        CHECK_EQ(child.strict, strict);
        CHECK_EQ(child.fed, 18 + 5);
        /* A number that the item began with is not read on in the child's own text. */
        CHECK_OK(parser_feed(&child, "9: b<end>", 9, NULL));
        cop_parser_join(&parent, 2);
        CHECK_EQ(parent.n_open, 0);
        CHECK_EQ(parent.ill_formed, 0);
        CHECK_OK(parser_feed(&parent, "<try>1: again<fork>", 19, NULL));
        CHECK_EQ(parent.items[0], 1);
    }
}

int main(void) {
    multiverse = transcript_dialect("multiverse", &files[0]);
    countdown = transcript_dialect("countdown-reprefill", &files[1]);
    RUN(test_an_item_implies_its_block_and_its_plan);
    RUN(test_implied_tags_that_are_cut_anywhere);
    RUN(test_implied_tags_are_those_that_are_left_out);
    RUN(test_strict_mode_refuses_what_implied_tags_cannot_mean);
    RUN(test_lenient_mode_passes_over_what_implied_tags_cannot_mean);
    RUN(test_forks_of_implied_blocks_equal_the_flattened_text);
    RUN(test_a_fork_of_an_implied_block_stands_behind_its_item);
    for (int i = 0; i < 2; i++)
        cop_dialect_close(files[i]);
    return check_report();
}
