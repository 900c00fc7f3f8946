#include "reason/trajectory.h"

#include <unistd.h>

#include "check.h"
#include "model/gguf.h"
#include "transcripts.h"

static const cop_dialect *multiverse, *threadweaver, *sequential, *countdown;
static cop_dialect_file *files[4];

/* "|" between pieces, "B:" and "J:" before forced ones, "[..;..]" around a block's paths. */
static void render(const cop_stream *stream, cop_buffer *out) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        static const char *const marks[] = {"", "B:", "J:"};
        CHECK_OK(cop_buffer_printf(out, "%s%s", i ? "|" : "", marks[piece->forced]));
        if (!piece->block)
            CHECK_OK(cop_buffer_append(out, piece->text, piece->bytes));
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++) {
            CHECK_OK(cop_buffer_printf(out, p ? ";" : "["));
            render(&piece->block->paths[p], out);
        }
        if (piece->block)
            CHECK_OK(cop_buffer_printf(out, "]"));
    }
}

static void check_pieces(const cop_dialect *dialect, const char *text, const char *prompt,
                         const char *stream) {
    cop_buffer out = {0};
    cop_trajectories *set = transcript_parse(dialect, text, strlen(text));
    transcript_check(&set->list[0], text, strlen(text));
    render(&set->list[0].prompt, &out);
    CHECK_TEXT(out.data ? out.data : "", prompt);
    cop_buffer_release(&out);
    render(&set->list[0].stream, &out);
    CHECK_TEXT(out.data ? out.data : "", stream);
    cop_buffer_release(&out);
    cop_trajectories_destroy(set);
}

static void test_pieces_are_cut_at_tags_and_forced_where_a_runtime_would(void) {
    check_pieces(
        multiverse,
        "Q?\n<Think>\nso\n<Parallel>\n<Goal>\n<Outline>\n1: a\n</Outline>\n</Goal>\n<Path>\n"
        "1: x\n</Path>\n<Conclusion>\nz\n</Conclusion>\n</Parallel>\nend</Think>.",
        "Q?",
        "\n<Think>|\nso|\n<Parallel>|\n<Goal>|\n<Outline>|\n1: a|\n</Outline>|\n</Goal>|"
        "[B:\n<Path>\n1:| x|\n</Path>]|J:\n<Conclusion>\n|z|\n</Conclusion>|\n</Parallel>|"
        "\nend|</Think>|.");
    check_pieces(
        threadweaver,
        "Q\n<think>\n<Parallel>\n<Outlines>\n<Outline>1: a</Outline>\n<Outline>\n2: "
        "b</Outline>\n</Outlines>\n<Thread>\n1: x\n</Thread>\n<Thread>\n2: y\n</Thread>\n"
        "</Parallel>\n</think>\nA",
        "Q",
        "\n<think>|\n<Parallel>|\n<Outlines>|\n<Outline>|1: a|</Outline>|\n<Outline>|\n2: b|"
        "</Outline>|\n</Outlines>|[B:\n<Thread>\n1:| x|\n</Thread>;B:\n<Thread>\n2:| y|\n"
        "</Thread>]|\n</Parallel>|\n</think>|\nA");
    check_pieces(sequential, "no <Path> here", "", "no <Path> here");
}

#define ITEMS2 "<Parallel><Goal><Outline>a</Outline><Outline>b</Outline></Goal>"
#define ITEMS2_PIECES "<Parallel>|<Goal>|<Outline>|a|</Outline>|<Outline>|b|</Outline>|</Goal>"

static void test_a_record_that_differs_from_the_prompts_forces_tags_alone(void) {
    check_pieces(multiverse,
                 ITEMS2
                 "\n<Path>\n1 : x</Path>\n\n<Path>\n2:</Path>\n\n<Conclusion>\nz</Conclusion>"
                 "</Parallel>",
                 "",
                 ITEMS2_PIECES "|[B:\n<Path>|\n1 : x|</Path>|\n;B:\n<Path>\n2:|</Path>]|\n|J:\n"
                               "<Conclusion>|\nz|</Conclusion>|</Parallel>");
    /* Without a root, what stands before the first block is the prompt; the prompt before a root
     * may speak of tags; a record need not have a conclusion. */
    check_pieces(multiverse, "Why?\n" ITEMS2 "<Path>1:</Path> <Path>2:</Path></Parallel>", "Why?",
                 "\n" ITEMS2_PIECES "|[B:<Path>|1:|</Path>| ;B:<Path>|2:|</Path>]|</Parallel>");
    check_pieces(multiverse, "Use </Path>.<Think>\n</Think>", "Use </Path>.", "<Think>|\n</Think>");
    /* A conclusion without text: the join's newline is the join's. */
    check_pieces(
        multiverse,
        ITEMS2 "\n<Path>\n1:</Path>\n<Path>\n2:</Path>\n<Conclusion>\n</Conclusion></Parallel>", "",
        ITEMS2_PIECES "|[B:\n<Path>\n1:|</Path>;B:\n<Path>\n2:|</Path>]|J:\n<Conclusion>\n|"
                      "</Conclusion>|</Parallel>");
}

static void test_a_join_that_inserts_text_without_a_tag(void) {
    cop_dialect d = *threadweaver;
    d.join_prompt = "\nDone:";
    check_pieces(
        &d,
        "<Parallel><Outlines><Outline>a</Outline></Outlines>\n<Thread>\n1:</Thread>\nDone: "
        "z</Parallel>",
        "",
        "<Parallel>|<Outlines>|<Outline>|a|</Outline>|</Outlines>|[B:\n<Thread>\n1:|"
        "</Thread>]|J:\nDone:| z|</Parallel>");
    /* A prompt that would end inside a tag is not taken. */
    d.join_prompt = "\n</Par";
    check_pieces(&d,
                 "<Parallel><Outlines><Outline>a</Outline></Outlines>\n<Thread>\n1:</Thread>\n"
                 "</Parallel>",
                 "",
                 "<Parallel>|<Outlines>|<Outline>|a|</Outline>|</Outlines>|[B:\n<Thread>\n1:|"
                 "</Thread>]|\n</Parallel>");
}

static void test_nested_paths_are_numbered_from_the_outermost(void) {
    check_pieces(multiverse,
                 ITEMS2 "\n<Path>\n1:</Path>\n<Path>\n2: " ITEMS2 "\n<Path>\n2.1:</Path>\n<Path>\n"
                        "2:</Path></Parallel></Path></Parallel>",
                 "",
                 ITEMS2_PIECES "|[B:\n<Path>\n1:|</Path>;B:\n<Path>\n2:| |" ITEMS2_PIECES
                               "|[B:\n<Path>\n2.1:|</Path>;B:\n<Path>|\n2:|</Path>]|</Parallel>|"
                               "</Path>]|</Parallel>");
}

/* ---- implied tags, and headers that hold their item's text ---- */

#define TRY2 "<try> 14 - 2<try> 3 + 4<fork>"
#define TRY2_PIECES "<try>| 14 - 2|<try>| 3 + 4|<fork>"
#define HEAD "<tw><k2>T75 14 3 2"

static void test_a_path_is_headed_by_its_items_text(void) {
    check_pieces(countdown,
                 HEAD TRY2 "<thr> 14 - 2 12<no><end><thr> 3 + 4 7<ok><end><join><ok> 3 + 4<eos>",
                 HEAD,
                 TRY2_PIECES "|[B:<thr> 14 - 2| 12<no>|<end>;B:<thr> 3 + 4| 7<ok>|<end>]|J:<join>|"
                             "<ok> 3 + 4<eos>");
    /* A second block's items are its own; an empty one leaves the tag. */
    check_pieces(countdown,
                 "Q<try>a<fork><thr>ax<end><join><try><try>b<fork><thr>ax<end><thr>b<end><join>",
                 "Q",
                 "<try>|a|<fork>|[B:<thr>a|x|<end>]|J:<join>|<try>|<try>|b|<fork>|[B:<thr>|ax|"
                 "<end>;B:<thr>b|<end>]|J:<join>");
    cop_dialect d = *countdown;
    d.nested = true;
    d.max_depth = 0;
    d.branch_prompt = "<thr>{n}={item}:";
    check_pieces(&d,
                 "<try>a<fork><thr>1=a:<try>b<try>c<fork><thr>1.1=b:x<end><thr>1.2=c:<end>"
                 "<join><end><join>z",
                 "",
                 "<try>|a|<fork>|[B:<thr>1=a:|<try>|b|<try>|c|<fork>|[B:<thr>1.1=b:|x|<end>;"
                 "B:<thr>1.2=c:|<end>]|J:<join>|<end>]|J:<join>|z");
}

static void test_a_record_whose_items_and_headers_differ(void) {
    /* The tag alone is forced; what an item begins with is not enough, nor another one's text. */
    check_pieces(countdown, TRY2 "<thr> 14 -<end><thr> 14 - 2 x<end><join>", "",
                 TRY2_PIECES "|[B:<thr>| 14 -|<end>;B:<thr>| 14 - 2 x|<end>]|J:<join>");
    /* A newline before a tag goes with the tag, and the join's text then differs. */
    check_pieces(countdown, "Q\n<try>a\n<fork>\n<thr>a\n<end>\n<join>\n", "Q",
                 "\n<try>|a|\n<fork>|[B:\n<thr>|a|\n<end>]|\n<join>|\n");
    /* Text between paths stays with the earlier one; before the join it is no path's. */
    check_pieces(countdown, TRY2 "<thr> 14 - 2<end> and <thr> 3 + 4<end> so<join>", "",
                 TRY2_PIECES "|[B:<thr> 14 - 2|<end>| and ;B:<thr> 3 + 4|<end>]| so|<join>");
    /* A join's text may open the join and close the block in one. */
    cop_dialect d = *multiverse;
    d.join_prompt = "\n<Conclusion>.</Conclusion>\n</Parallel>";
    check_pieces(&d,
                 ITEMS2 "\n<Path>\n1:</Path>\n<Path>\n2:</Path>\n<Conclusion>.</Conclusion>\n"
                        "</Parallel>z",
                 "",
                 ITEMS2_PIECES "|[B:\n<Path>\n1:|</Path>;B:\n<Path>\n2:|</Path>]|J:\n<Conclusion>."
                               "</Conclusion>\n</Parallel>|z");
    /* An item longer than a live header may be. */
    cop_buffer text = {0};
    char item[2000];
    memset(item, 'i', sizeof item - 1);
    item[sizeof item - 1] = '\0';
    CHECK_OK(cop_buffer_printf(&text, "<try>%s<fork><thr>%s<end><join>", item, item));
    cop_trajectories *set = transcript_parse(countdown, text.data, text.bytes);
    const cop_piece *header = &set->list[0].stream.pieces[3].block->paths[0].pieces[0];
    CHECK_EQ(header->forced, COP_FORCED_BRANCH);
    CHECK_EQ(header->bytes, strlen("<thr>") + strlen(item));
    cop_trajectories_destroy(set);
    cop_buffer_release(&text);
}

/* Blocks as a runtime leaves them, with the pieces that they must come back as. */
static void write_countdown(transcript *t, uint32_t depth, cop_buffer *pieces) {
    char items[4][32];
    uint32_t n = 1 + transcript_random(t, 4);
    t->level++;
    t->depth = t->level > t->depth ? t->level : t->depth;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(items[i], sizeof items[i], " %u <", transcript_random(t, 20));
        CHECK_OK(cop_buffer_printf(&t->text, "<try>%s", items[i]));
        CHECK_OK(cop_buffer_printf(pieces, "<try>|%s|", items[i]));
    }
    transcript_put(t, "<fork>");
    CHECK_OK(cop_buffer_printf(pieces, "<fork>|"));
    for (uint32_t i = 0; i < n; i++) {
        CHECK_OK(cop_buffer_printf(&t->text, "<thr>%s=", items[i]));
        CHECK_OK(cop_buffer_printf(pieces, "%cB:<thr>%s|=|", i ? ';' : '[', items[i]));
        if (t->dialect->nested && depth < 3 && transcript_random(t, 3) == 0)
            write_countdown(t, depth + 1, pieces);
        transcript_put(t, "<end>");
        CHECK_OK(cop_buffer_printf(pieces, "<end>"));
    }
    transcript_put(t, "<join>.");
    CHECK_OK(cop_buffer_printf(pieces, "]|J:<join>|.|"));
    t->level--;
    t->blocks++;
    t->paths += n;
}

static void test_random_countdown_records_come_back_byte_for_byte(void) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        cop_dialect d = *countdown;
        d.nested = seed % 2;
        d.max_depth = 0;
        transcript t = {.dialect = &d, .state = seed};
        cop_buffer pieces = {0}, found = {0};
        transcript_put(&t, "T9\n");
        for (uint32_t n = 1 + transcript_random(&t, 3); n > 0; n--)
            write_countdown(&t, 1, &pieces);
        pieces.data[pieces.bytes - 1] = '\0'; /* its last "|" parts nothing */
        cop_trajectories *set = transcript_parse(&d, t.text.data, t.text.bytes);
        transcript_check(&set->list[0], t.text.data, t.text.bytes);
        CHECK_EQ(set->list[0].blocks, t.blocks);
        CHECK_EQ(set->list[0].paths, t.paths);
        CHECK_EQ(set->list[0].depth, t.depth);
        render(&set->list[0].stream, &found);
        CHECK_TEXT(found.data + 1, pieces.data); /* the newline is the first tag's */
        cop_trajectories_destroy(set);
        cop_buffer_release(&t.text);
        cop_buffer_release(&pieces);
        cop_buffer_release(&found);
    }
}

static void test_bad_countdown_records_say_where(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {HEAD "\n" TRY2 "<thr> 14 - 2<end><join>", "line 2, byte 65: the <try> of line 2 lists 2"},
        {HEAD TRY2, "byte 18: <try> is never closed; add its <join>"},
        {HEAD "<try>a", "byte 18: <try> is never closed; add its <fork>"},
        /* A message join's record holds no paths: they ran in contexts of their own. */
        {"<apr><k2>T9 1" TRY2 "<no><ok> 9<join>", "has no <thr>"},
        {TRY2 "<thr> 14 - 2<end><thr> 3 + 4<try>", "does not nest blocks"},
    };
    cop_trajectories *set;
    CHECK_OK(cop_trajectories_create(&set));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_STATUS(
            cop_trajectory_parse(countdown, "b", "b", cases[i].text, strlen(cases[i].text), set),
            COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].message);
        CHECK_EQ(set->count, 0);
    }
    cop_trajectories_destroy(set);
}

typedef struct forced_counts {
    uint32_t branch, join, headers, joins; /* forced pieces; those that are the whole prompt */
} forced_counts;

static void count_forced(const cop_dialect *d, const cop_stream *stream, uint32_t *numbers,
                         uint32_t level, forced_counts *out) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        char prompt[256];
        CHECK_OK(cop_dialect_branch_prompt(d, numbers, level, "", 0, prompt, sizeof prompt,
                                           &(size_t){0}));
        CHECK_EQ(piece->forced == COP_FORCED_BRANCH, level > 0 && i == 0);
        out->branch += piece->forced == COP_FORCED_BRANCH;
        out->join += piece->forced == COP_FORCED_JOIN;
        out->headers += piece->forced == COP_FORCED_BRANCH && piece->bytes == strlen(prompt) &&
                        memcmp(piece->text, prompt, piece->bytes) == 0;
        out->joins += piece->forced == COP_FORCED_JOIN && piece->bytes == strlen(d->join_prompt) &&
                      memcmp(piece->text, d->join_prompt, piece->bytes) == 0;
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++) {
            numbers[level] = p + 1;
            count_forced(d, &piece->block->paths[p], numbers, level + 1, out);
        }
    }
}

static void test_random_transcripts_come_back_byte_for_byte(void) {
    uint32_t deepest = 0, blocks = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        bool exact = seed % 2;
        transcript t = transcript_make(seed % 3 ? multiverse : threadweaver, seed, exact);
        cop_trajectories *set = transcript_parse(t.dialect, t.text.data, t.text.bytes);
        const cop_trajectory *tree = &set->list[0];
        uint32_t numbers[COP_PARSER_DEPTH_MAX];
        forced_counts forced = {0};
        transcript_check(tree, t.text.data, t.text.bytes);
        CHECK_EQ(tree->blocks, t.blocks);
        CHECK_EQ(tree->paths, t.paths);
        CHECK_EQ(tree->depth, t.depth);
        count_forced(t.dialect, &tree->stream, numbers, 0, &forced);
        CHECK_EQ(forced.branch, t.paths);
        if (exact) {
            CHECK_EQ(forced.headers, t.paths);
            CHECK_EQ(forced.join, t.dialect->join_prompt[0] ? t.blocks : 0);
            CHECK_EQ(forced.joins, forced.join);
        }
        deepest = t.depth > deepest ? t.depth : deepest;
        blocks += t.blocks;
        cop_trajectories_destroy(set);
        cop_buffer_release(&t.text);
    }
    CHECK(deepest == 4 && blocks > 400);
}

/* Independent of the parser: counts by searching, depth by a running sum. */
static uint32_t search(const char *text, const char *tag) {
    uint32_t n = 0;
    for (const char *at = text; (at = strstr(at, tag)); at++)
        n++;
    return n;
}

static uint32_t search_depth(const char *text) {
    uint32_t open = 0, depth = 0;
    for (const char *at = text; (at = strchr(at, '<')); at++) {
        open += strncmp(at, "<Parallel>", 10) == 0;
        open -= strncmp(at, "</Parallel>", 11) == 0;
        depth = open > depth ? open : depth;
    }
    return depth;
}

static void test_the_recorded_transcripts(void) {
    char path[512];
    uint32_t blocks = 0, paths = 0;
    if (!transcript_path_of("5", path, sizeof path))
        SKIP("no transcripts; set COPPICE_TRANSCRIPTS to their folder");
    for (int i = 0; i < TRANSCRIPT_RECORDED; i++) {
        cop_buffer text = {0};
        CHECK(transcript_path_of(transcript_recorded[i], path, sizeof path));
        transcript_read(path, &text);
        cop_trajectories *set = transcript_parse(multiverse, text.data, text.bytes);
        const cop_trajectory *t = &set->list[0];
        uint32_t numbers[COP_PARSER_DEPTH_MAX];
        forced_counts forced = {0};
        transcript_check(t, text.data, text.bytes);
        CHECK_EQ(t->blocks, search(text.data, "<Parallel>"));
        CHECK_EQ(t->paths, search(text.data, "<Path>"));
        CHECK_EQ(t->depth, search_depth(text.data));
        CHECK_EQ(t->prompt.n_pieces, 0);
        count_forced(multiverse, &t->stream, numbers, 0, &forced);
        CHECK_EQ(forced.headers, t->paths);
        CHECK_EQ(forced.branch, t->paths);
        CHECK_EQ(forced.joins, t->blocks);
        CHECK_EQ(forced.join, t->blocks);
        blocks += t->blocks;
        paths += t->paths;
        cop_trajectories_destroy(set);
        cop_buffer_release(&text);
    }
    CHECK_EQ(blocks, 115);
    CHECK_EQ(paths, 275);
}

static void test_bad_transcripts_leave_the_set_as_it_was(void) {
    static const struct {
        const char *text;
        size_t bytes;
        const char *message;
    } cases[] = {
        {"", 0, "is empty"},
        {" \n\t", 3, "is empty"},
        {"ok\nfine\xff", 8, "line 2, byte 7: 0xff is not valid UTF-8"},
        {"a\xed\xa0\x80", 4, "byte 1: 0xed is not valid"},
        {"a\xc0\x80", 3, "byte 1: 0xc0"},
        {"a\xf4\x90\x80\x80", 5, "byte 1: 0xf4"},
        {"a\xe2\x82", 3, "byte 1: 0xe2"},
        {"a\xe0\x80\x80", 4, "byte 1: 0xe0"},
        {"a\xf0\x80\x80\x80", 5, "byte 1: 0xf0"},
        {"ab\0c", 4, "byte 2: 0x00 is a NUL"},
        {"Q\nQ\n<Think>\n</Goal>", 19,
         "line 4, byte 12: </Goal> closes nothing: <Think> (line 3, "},
        {"<Think>", 7, "line 1, byte 0: <Think> is never closed"},
    };
    cop_trajectories *set = transcript_parse(multiverse, "fine", 4);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_STATUS(cop_trajectory_parse(multiverse, "b", "b", cases[i].text, cases[i].bytes, set),
                     COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].message);
        CHECK_EQ(set->count, 1);
    }
    CHECK_STATUS(cop_trajectory_parse(multiverse, "t", "x", "fine", 4, set), COP_ERR_FORMAT);
    CHECK_MESSAGE("named 't' is there already");
    CHECK_STATUS(cop_trajectory_parse(multiverse, "\xff", "x", "fine", 4, set), COP_ERR_FORMAT);
    CHECK_MESSAGE("UTF-8");
    for (char id[8] = "n0"; id[1] < '9'; id[1]++)
        CHECK_OK(cop_trajectory_parse(multiverse, id, id, "fine", 4, set));
    CHECK_EQ(set->count, 10);
    CHECK_TEXT(set->list[0].id, "t");
    CHECK_TEXT(set->list[9].id, "n8");
    cop_trajectories_destroy(set);
    cop_trajectories_destroy(NULL);
}

static void test_counts_draw_ids_that_depend_on_nothing_else(void) {
    cop_trajectories *one = transcript_reread(TRANSCRIPT_HEAD TRANSCRIPT_TREE),
                     *two = transcript_reread(TRANSCRIPT_HEAD TRANSCRIPT_TREE);
    CHECK_EQ(one->list[0].n_tokens, 10);
    CHECK_OK(cop_trajectories_tokenize(one, NULL, 1000, 7));
    CHECK_OK(cop_trajectories_tokenize(two, NULL, 1000, 7));
    const cop_trajectory *a = &one->list[0], *b = &two->list[0];
    CHECK_EQ(a->origin, COP_TOKENS_COUNTS);
    CHECK_TEXT(cop_token_origin_text(a->origin), "token counts only");
    CHECK_EQ(a->n_tokens, 10);
    uint32_t different = 0;
    CHECK_OK(cop_trajectories_tokenize(two, NULL, 1000, 7)); /* again: the same */
    for (uint32_t p = 0; p < 2; p++) {
        const cop_piece *x = &a->stream.pieces[1].block->paths[p].pieces[0];
        const cop_piece *y = &b->stream.pieces[1].block->paths[p].pieces[0];
        CHECK_EQ(x->n, 2 + p);
        CHECK(memcmp(x->ids, y->ids, x->n * sizeof *x->ids) == 0);
        for (uint32_t i = 0; i < x->n; i++)
            CHECK(x->ids[i] >= 0 && x->ids[i] < 1000);
    }
    CHECK_OK(cop_trajectories_tokenize(two, NULL, 1000, 8));
    for (uint32_t i = 0; i < 4; i++)
        different += a->stream.pieces[2].ids[i] != b->stream.pieces[2].ids[i];
    CHECK(different >= 3);
    json_t *json = cop_trajectory_to_json(a, (cop_trajectory_write_options){.ids = true});
    CHECK(json && !json_object_get(json_array_get(json_object_get(json, "stream"), 0), "ids"));
    json_decref(json);
    CHECK_STATUS(cop_trajectories_tokenize(one, NULL, 0, 7), COP_ERR_CONFIG);
    cop_trajectories_destroy(one);
    cop_trajectories_destroy(two);
}

static void test_each_piece_and_each_trajectory_draws_its_own_ids(void) {
    static const char tail[] = "\"dialect\":\"d\",\"blocks\":0,\"paths\":0,\"depth\":0,"
                               "\"stream\":[{\"n\":8},{\"n\":8}]}";
    cop_buffer text = {0};
    for (char id = 'a'; id <= 'b'; id++)
        CHECK_OK(cop_buffer_printf(&text, "{\"v\":1,\"id\":\"%c\",%s\n", id, tail));
    cop_trajectories *set = transcript_reread(text.data);
    cop_buffer_release(&text);
    CHECK_EQ(set->count, 2);
    CHECK_OK(cop_trajectories_tokenize(set, NULL, 49152, 0));
    const cop_piece *a = set->list[0].stream.pieces, *b = set->list[1].stream.pieces;
    CHECK(memcmp(a[0].ids, a[1].ids, 8 * sizeof *a[0].ids) != 0);
    CHECK(memcmp(a[0].ids, b[0].ids, 8 * sizeof *a[0].ids) != 0);
    cop_trajectories_destroy(set);
}

static void test_recorded_ids_are_kept_and_checked(void) {
    cop_trajectories *set = transcript_reread(
        TRANSCRIPT_HEAD
        "\"blocks\":0,\"paths\":0,\"depth\":0,\"stream\":[{\"ids\":[5,999]},{\"ids\":[]}]}");
    CHECK_EQ(set->list[0].origin, COP_TOKENS_RECORDED);
    CHECK_OK(cop_trajectories_tokenize(set, NULL, 1000, 0));
    CHECK_EQ(set->list[0].stream.pieces[0].ids[1], 999);
    CHECK_EQ(set->list[0].n_tokens, 2);
    CHECK_STATUS(cop_trajectories_tokenize(set, NULL, 999, 0), COP_ERR_MISMATCH);
    CHECK_MESSAGE("trajectory 'a'");
    CHECK_MESSAGE("id 999");
    cop_trajectories_destroy(set);
}

static void test_without_a_tokenizer_each_pretoken_counts(void) {
    static const struct {
        const char *text;
        uint32_t count;
    } cases[] = {
        {"Hello world", 2},
        {"it's 12 o'clock!", 7},
        {"a  b", 3},
        {"x = 1;\n\n  y", 6},
        {"\xc3\xa9t\xc3\xa9 12\xc2\xb2 \xe2\x88\x9e", 3},
        {"we'll they've I'd", 6},
        {"\n", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_trajectories *set = transcript_parse(sequential, "x", 1);
        cop_piece *piece = &set->list[0].stream.pieces[0];
        piece->text = cases[i].text;
        piece->bytes = strlen(cases[i].text);
        CHECK_OK(cop_trajectories_tokenize(set, NULL, 50, 0));
        CHECK_EQ(set->list[0].origin, COP_TOKENS_PRETOKENS);
        CHECK_EQ(piece->n, cases[i].count);
        CHECK_EQ(set->list[0].n_tokens, cases[i].count);
        /* A pre-token count is nobody's tokenizer's: it is not written. */
        char *text = transcript_dump(&set->list[0], (cop_trajectory_write_options){0});
        CHECK(strstr(text, "\"tokens\"") == NULL && strstr(text, "\"n\"") == NULL);
        free(text);
        cop_trajectories_destroy(set);
    }
}

static void check_model(const cop_tokenizer *tokenizer) {
    cop_trajectories *own, *counted;
    uint32_t vocab = cop_tokenizer_vocab(tokenizer);
    CHECK_OK(cop_trajectories_read("configs/trajectories/own.jsonl", &own));
    CHECK_OK(cop_trajectories_tokenize(own, tokenizer, vocab, 0));
    CHECK_EQ(own->list[0].origin, COP_TOKENS_TEXT);
    char *text = transcript_dump(&own->list[0], (cop_trajectory_write_options){.ids = true});
    cop_trajectories *again = transcript_reread(text);
    CHECK_EQ(again->list[0].origin, COP_TOKENS_RECORDED);
    CHECK_EQ(again->list[0].n_tokens, own->list[0].n_tokens);
    char *second = transcript_dump(&again->list[0], (cop_trajectory_write_options){.ids = true});
    CHECK_TEXT(second, text);
    free(text);
    free(second);
    cop_trajectories_destroy(again);
    CHECK_STATUS(cop_trajectories_tokenize(own, tokenizer, 100, 0), COP_ERR_MISMATCH);
    cop_trajectories_destroy(own);

    /* Among the first 20 ids 17 are special: placeholders keep to the others. */
    counted = transcript_reread(TRANSCRIPT_HEAD TRANSCRIPT_TREE);
    CHECK_OK(cop_trajectories_tokenize(counted, tokenizer, 20, 3));
    CHECK_EQ(counted->list[0].origin, COP_TOKENS_COUNTS);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(!cop_tokenizer_is_special(tokenizer, counted->list[0].stream.pieces[2].ids[i]));
    cop_trajectories_destroy(counted);
    counted = transcript_reread(TRANSCRIPT_HEAD TRANSCRIPT_TREE);
    CHECK_STATUS(cop_trajectories_tokenize(counted, tokenizer, 1, 3), COP_ERR_FORMAT);
    CHECK_MESSAGE("has no ordinary one");
    cop_trajectories_destroy(counted);
}

static void check_counts(const cop_tokenizer *tokenizer) {
    char path[512];
    cop_trajectories *counts, *set;
    if (!transcript_path_of("5", path, sizeof path))
        SKIP("no transcripts; set COPPICE_TRANSCRIPTS to their folder");
    CHECK_OK(cop_trajectories_read("configs/trajectories/multiverse-counts.jsonl", &counts));
    CHECK_OK(cop_trajectories_create(&set));
    for (uint32_t i = 0; i < counts->count; i++) {
        cop_buffer text = {0};
        CHECK(transcript_path_of(counts->list[i].id, path, sizeof path));
        transcript_read(path, &text);
        CHECK_OK(cop_trajectory_parse(multiverse, counts->list[i].id, counts->list[i].source,
                                      text.data, text.bytes, set));
        cop_buffer_release(&text);
    }
    CHECK_OK(cop_trajectories_tokenize(set, tokenizer, cop_tokenizer_vocab(tokenizer), 0));
    for (uint32_t i = 0; i < counts->count; i++) {
        set->list[i].tokenizer = counts->list[i].tokenizer;
        char *a =
            transcript_dump(&set->list[i], (cop_trajectory_write_options){.counts_only = true});
        char *b =
            transcript_dump(&counts->list[i], (cop_trajectory_write_options){.counts_only = true});
        CHECK_TEXT(a, b);
        free(a);
        free(b);
    }
    cop_trajectories_destroy(counts);
    cop_trajectories_destroy(set);
}

static void test_a_models_tokenizer(void) {
    const char *path = getenv("COPPICE_MODEL");
    path = path ? path : "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(path, R_OK) != 0)
        SKIP("no model; fetch it with bench/quickstart.sh");
    cop_gguf *gguf;
    cop_tokenizer *tokenizer;
    CHECK_OK(cop_gguf_open(path, &gguf));
    CHECK_OK(cop_tokenizer_create(gguf, &tokenizer));
    check_model(tokenizer);
    check_counts(tokenizer);
    cop_tokenizer_destroy(tokenizer);
    cop_gguf_close(gguf);
}

int main(void) {
    multiverse = transcript_dialect("multiverse", &files[0]);
    threadweaver = transcript_dialect("threadweaver", &files[1]);
    sequential = transcript_dialect("sequential", &files[2]);
    countdown = transcript_dialect("countdown-reprefill", &files[3]);
    RUN(test_pieces_are_cut_at_tags_and_forced_where_a_runtime_would);
    RUN(test_a_record_that_differs_from_the_prompts_forces_tags_alone);
    RUN(test_a_join_that_inserts_text_without_a_tag);
    RUN(test_nested_paths_are_numbered_from_the_outermost);
    RUN(test_a_path_is_headed_by_its_items_text);
    RUN(test_a_record_whose_items_and_headers_differ);
    RUN(test_random_countdown_records_come_back_byte_for_byte);
    RUN(test_bad_countdown_records_say_where);
    RUN(test_random_transcripts_come_back_byte_for_byte);
    RUN(test_the_recorded_transcripts);
    RUN(test_bad_transcripts_leave_the_set_as_it_was);
    RUN(test_counts_draw_ids_that_depend_on_nothing_else);
    RUN(test_each_piece_and_each_trajectory_draws_its_own_ids);
    RUN(test_recorded_ids_are_kept_and_checked);
    RUN(test_without_a_tokenizer_each_pretoken_counts);
    RUN(test_a_models_tokenizer);
    for (int i = 0; i < 4; i++)
        cop_dialect_close(files[i]);
    return check_report();
}
