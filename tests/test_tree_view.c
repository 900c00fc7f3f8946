/* The tree in the terminal, fed with hand-made events and with a run that the Countdown model's
 * evaluator recorded (bench/countdown/fixtures/message.jsonl). */
#include <jansson.h>

#include "check.h"

#include "model/gguf.h"
#include "reason/tree_view.h"

static cop_tree_view *open_view(uint32_t width, uint32_t height, bool colour, const char *title) {
    cop_tree_view *view = NULL;
    CHECK_OK(cop_tree_view_create(&(cop_tree_view_options){width, height, colour, title}, &view));
    return view;
}

static void say_bytes(cop_tree_view *view, const char *path, const char *text, size_t bytes,
                      bool forced) {
    cop_tree_view_event(
        view,
        &(cop_live_event){
            .kind = COP_LIVE_TEXT, .path = path, .text = text, .bytes = bytes, .forced = forced});
}

static void say(cop_tree_view *view, const char *path, const char *text) {
    say_bytes(view, path, text, strlen(text), false);
}

static void give(cop_tree_view *view, const char *path, const char *text) {
    say_bytes(view, path, text, strlen(text), true);
}

static void open_path(cop_tree_view *view, const char *path, uint32_t block) {
    cop_tree_view_event(view,
                        &(cop_live_event){.kind = COP_LIVE_FORK, .path = path, .block = block});
}

static void end_path(cop_tree_view *view, const char *path, cop_stop stop, bool success) {
    cop_tree_view_event(
        view,
        &(cop_live_event){.kind = COP_LIVE_END, .path = path, .stop = stop, .success = success});
}

static void join(cop_tree_view *view, const char *path) {
    cop_tree_view_event(view, &(cop_live_event){.kind = COP_LIVE_JOIN, .path = path});
}

static void stop_sample(cop_tree_view *view, uint32_t sample, cop_stop stop) {
    cop_tree_view_event(
        view, &(cop_live_event){.kind = COP_LIVE_STOP, .sample = sample, .path = "", .stop = stop});
}

/* One frame as text (free with free); checks that a second one is the same. */
static char *frame(cop_tree_view *view, bool all, uint32_t *rows) {
    cop_buffer one = {0}, two = {0};
    uint32_t again;
    CHECK_OK(cop_tree_view_frame(view, all, &one, rows));
    CHECK_OK(cop_tree_view_frame(view, all, &two, &again));
    CHECK_EQ(*rows, again);
    CHECK_TEXT(two.data, one.data);
    uint32_t newlines = 0;
    for (const char *at = one.data; *at; at++)
        newlines += *at == '\n';
    CHECK_EQ(newlines, *rows);
    CHECK(one.bytes > 0 && one.data[one.bytes - 1] == '\n');
    char *text = strdup(one.data);
    CHECK(text != NULL);
    cop_buffer_release(&one);
    cop_buffer_release(&two);
    return text;
}

static void check_frame(cop_tree_view *view, bool all, const char *want) {
    uint32_t rows;
    char *text = frame(view, all, &rows);
    CHECK_TEXT(text, want);
    free(text);
}

/* The oracle's width of a character, for the few that the tests draw: CJK and emoji are two. */
static uint32_t columns_of_code(uint32_t code) {
    if (code >= 0x300 && code < 0x370)
        return 0;
    return (code >= 0x2E80 && code < 0xA4D0) || (code >= 0x1F000 && code < 0x20000) ? 2 : 1;
}

/* Every row is well-formed, holds no control but its colours, ends plain and fits the width. */
static void check_rows(const char *text, uint32_t width, bool colour) {
    const uint8_t *at = (const uint8_t *)text;
    uint32_t columns = 0;
    bool plain = true;
    while (*at) {
        uint32_t n = *at < 0x80 ? 1 : *at < 0xC2 ? 0 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;
        CHECK(n > 0);
        uint32_t code = n == 1 ? *at : *at & (0xFFu >> (n + 1));
        for (uint32_t i = 1; i < n; i++) {
            CHECK((at[i] & 0xC0) == 0x80);
            code = code << 6 | (at[i] & 0x3Fu);
        }
        at += n;
        if (code == '\n') {
            CHECK(plain);
            columns = 0;
        } else if (code == 033) {
            CHECK(colour && *at == '[');
            size_t bytes = strspn((const char *)at + 1, "0123456789;");
            CHECK(at[1 + bytes] == 'm');
            plain = bytes == 1 && at[1] == '0';
            at += bytes + 2;
        } else {
            CHECK(code >= 0x20 && (code < 0x7F || code > 0x9F));
            columns += columns_of_code(code);
            CHECK(columns <= width);
        }
    }
}

static void test_rows_of_a_small_tree(void) {
    cop_tree_view *view = open_view(40, 20, false, "T75 14 13\n9 2");
    check_frame(view, false,
                "T75 14 13 9 2                     tokens\n"
                "└ running                              0\n");
    say(view, "", "<try> 14 + 13");
    say(view, "", "<fork>");
    open_path(view, "1", 0);
    open_path(view, "2", 0);
    give(view, "1", "<thr> 14 + 13");
    give(view, "2", "<thr> 9 + 2");
    say(view, "1", " 27");
    say(view, "2", " 11");
    say(view, "1", " 9");
    end_path(view, "1", COP_STOP_END, false);
    check_frame(view, false,
                "T75 14 13 9 2                     tokens\n"
                "├ <try> 14 + 13<fork>                  2\n"
                "│ ├ 1 • <thr> 14 + 13  27 9            2\n"
                "│ └ 2 › <thr> 9 + 2    11              1\n"
                "└ running · 1 • 1 ›                    5\n");
    cop_tree_view_destroy(view);
}

/* A recorded run of the message join as the events of the run: threads take turns, token by token.
 */
typedef struct recording {
    cop_gguf *gguf;
    cop_tokenizer *tokenizer;
    json_t *run;
    uint32_t texts; /* generated tokens of it */
} recording;

static void open_recording(recording *r) {
    *r = (recording){0};
    CHECK_OK(cop_gguf_open("bench/countdown/countdown.gguf", &r->gguf));
    CHECK_OK(cop_tokenizer_create(r->gguf, &r->tokenizer));
    FILE *file = fopen("bench/countdown/fixtures/message.jsonl", "r");
    CHECK(file != NULL);
    r->run = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL);
    CHECK(r->run != NULL);
    fclose(file);
}

static void close_recording(recording *r) {
    json_decref(r->run);
    cop_tokenizer_destroy(r->tokenizer);
    cop_gguf_close(r->gguf);
}

/* Token i of a list of ids; false past its end. */
static bool say_id(recording *r, cop_tree_view *view, const char *path, const json_t *ids, size_t i,
                   bool forced) {
    if (i >= json_array_size(ids))
        return false;
    cop_text text =
        cop_tokenizer_bytes(r->tokenizer, (int32_t)json_integer_value(json_array_get(ids, i)));
    say_bytes(view, path, text.data, text.bytes, forced);
    r->texts += !forced;
    return true;
}

static bool holds_ok(recording *r, const json_t *ids) {
    int32_t ok = cop_tokenizer_find_special(r->tokenizer, "<ok>", 4);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        if (json_integer_value(json_array_get(ids, i)) == ok)
            return true;
    }
    return false;
}

static void play_block(recording *r, cop_tree_view *view, const json_t *threads, uint32_t block) {
    const json_t *prompt = json_object_get(r->run, "prompt");
    char name[24];
    for (size_t t = 0; t < json_array_size(threads); t++) {
        snprintf(name, sizeof name, "%zu", t + 1);
        open_path(view, name, block);
        give(view, name, "<sub>");
        for (size_t i = 2; say_id(r, view, name, prompt, i, true);) /* past the form's two tags */
            i++;
        give(view, name, "<thr>");
        const json_t *proposal = json_array_get(json_array_get(threads, t), 0);
        for (size_t i = 0; say_id(r, view, name, proposal, i, true);)
            i++;
    }
    bool running = true;
    for (size_t i = 0; running; i++) {
        running = false;
        for (size_t t = 0; t < json_array_size(threads); t++) {
            const json_t *ids = json_array_get(json_array_get(threads, t), 1);
            snprintf(name, sizeof name, "%zu", t + 1);
            running |= say_id(r, view, name, ids, i, false);
            if (i + 1 == json_array_size(ids))
                end_path(view, name, COP_STOP_END, holds_ok(r, ids));
        }
    }
}

static void play(recording *r, cop_tree_view *view) {
    const json_t *turns = json_object_get(r->run, "turns");
    const json_t *threads = json_object_get(r->run, "threads");
    for (size_t t = 0; t < json_array_size(turns); t++) {
        const json_t *turn = json_array_get(turns, t);
        for (size_t i = 0; say_id(r, view, "", json_array_get(turn, 0), i, false);)
            i++;
        if (t < json_array_size(threads)) {
            play_block(r, view, json_array_get(threads, t), (uint32_t)t);
            for (size_t i = 0; say_id(r, view, "", json_array_get(turn, 1), i, true);)
                i++;
            join(view, "");
        }
    }
    stop_sample(view, 0, COP_STOP_END);
}

/* Row `index` of a frame, without its newline. */
static void row_of(const char *text, uint32_t index, char *row, size_t bytes) {
    while (index-- > 0) {
        text = strchr(text, '\n');
        CHECK(text != NULL);
        text++;
    }
    snprintf(row, bytes, "%.*s", (int)strcspn(text, "\n"), text);
}

static void test_recorded_run_is_drawn_whole(void) {
    recording r;
    open_recording(&r);
    cop_tree_view *view = open_view(80, 24, false, "T33 18 15 9 8");
    play(&r, view);
    CHECK_EQ(r.texts, 415); /* counted in the file: 21 + 71 + 91 + 67 + 72 + 82 + 11 */
    check_frame(
        view, false,
        "T33 18 15 9 8                                                             tokens\n"
        "├ <try> 18 + 15<try> 18 - 15<try> 18 + 9<try> 18 - 9<try> 18 / 9<fork>        21\n"
        "│ ├ 1 ✓ …<thr> 18 + 15  33T33 33 9 8 33 … <ok> 18 + 15 9 - 8 33 * 1<end>      71\n"
        "│ ├ 2 ✓ …<thr> 18 - 15  3T33 9 8 3 9 8 … <ok> 18 - 15 8 * 3 24 + 9<end>       91\n"
        "│ ├ 3 ✗ …<thr> 18 + 9   27T33 27 15 8 … 7 27 34 20 . . * . / .<no><end>       67\n"
        "│ ├ 4 ✗ …<thr> 18 - 9   9T33 15 9 8 15 … * 72 15 87 57 . . / .<no><end>       72\n"
        "│ └ 5 ✗ …<thr> 18 / 9   2T33 15 8 2 15 … . . / 4 15 19 11 60 .<no><end>       82\n"
        "├ <ok> 18 + 15 9 - 8 33 … <no><no><join><ok> 18 + 15 9 - 8 33 * 1<eos>        11\n"
        "└ end · 2 ✓ 3 ✗ · 5 paths in 1 block                                         415\n");
    cop_tree_view_destroy(view);
    for (uint32_t width = 40; width < 260; width += width < 90 ? 1 : 37) {
        for (int colour = 0; colour < 2; colour++) {
            view = open_view(width, 24, colour, "T33 18 15 9 8");
            play(&r, view);
            uint32_t rows;
            char *text = frame(view, true, &rows);
            CHECK_EQ(rows, 9);
            check_rows(text, width, colour);
            CHECK((strchr(text, 033) != NULL) == colour);
            CHECK(strstr(text, "415") != NULL);
            free(text);
            cop_tree_view_destroy(view);
        }
    }
    close_recording(&r);
}

static void test_second_block_has_rows_of_its_own(void) {
    cop_tree_view *view = open_view(40, 20, false, "p");
    say(view, "", "a");
    open_path(view, "1", 0);
    say(view, "1", "first");
    end_path(view, "1", COP_STOP_END, true);
    give(view, "", "<join>");
    join(view, "");
    say(view, "", " b");
    open_path(view, "1", 1);
    say(view, "1", "second");
    end_path(view, "1", COP_STOP_CANCELLED, false);
    open_path(view, "1", 2); /* with nothing said in between */
    say(view, "1", "third");
    end_path(view, "1", COP_STOP_END, false);
    stop_sample(view, 0, COP_STOP_LENGTH);
    check_frame(view, false,
                "p                                 tokens\n"
                "├ a                                    1\n"
                "│ └ 1 ✓ first                          1\n"
                "├ <join> b                             1\n"
                "│ └ 1 ○ second  cancelled              1\n"
                "├                                      0\n"
                "│ └ 1 ✗ third                          1\n"
                "└ length · 1 ✓ 1 ✗ 1 ○                 5\n");
    cop_tree_view_destroy(view);
}

static void test_nested_paths_stand_below_their_parent(void) {
    cop_tree_view *view = open_view(48, 20, false, "p");
    say(view, "", "root");
    open_path(view, "1", 0);
    open_path(view, "2", 0);
    say(view, "2", "two");
    open_path(view, "2.1", 1);
    say(view, "1", "one"); /* its row stands above, whenever it speaks */
    open_path(view, "2.2", 1);
    say(view, "2.2", "deep");
    end_path(view, "2.1", COP_STOP_END, false);
    end_path(view, "2.2", COP_STOP_END, false);
    join(view, "2");
    say(view, "2", "more");
    open_path(view, "3", 0); /* late, and still a sibling of the first two */
    end_path(view, "1", COP_STOP_CONFIDENCE, false);
    end_path(view, "2", COP_STOP_END, false);
    check_frame(view, false,
                "p                                         tokens\n"
                "├ root                                         1\n"
                "│ ├ 1 ○ one  confidence                        1\n"
                "│ ├ 2   two                                    1\n"
                "│ │ ├ 2.1 •                                    0\n"
                "│ │ └ 2.2 • deep                               1\n"
                "│ ├ 2 • more                                   1\n"
                "│ └ 3 ›                                        0\n"
                "└ running · 3 • 1 ○ 1 ›                        5\n");
    cop_tree_view_destroy(view);
}

static void test_a_path_goes_on_between_its_siblings(void) {
    cop_tree_view *view = open_view(48, 20, false, "p");
    say(view, "", "root");
    open_path(view, "1", 0);
    open_path(view, "2", 0);
    open_path(view, "1.1", 1);
    say(view, "1", "after");
    open_path(view, "3", 0);
    check_frame(view, false,
                "p                                         tokens\n"
                "├ root                                         1\n"
                "│ ├ 1                                          0\n"
                "│ │ └ 1.1 ›                                    0\n"
                "│ ├ 1 › after                                  1\n"
                "│ ├ 2 ›                                        0\n"
                "│ └ 3 ›                                        0\n"
                "└ running · 4 › · 4 paths in 2 blocks          2\n");
    cop_tree_view_destroy(view);
}

static void test_samples_are_numbered_when_there_are_several(void) {
    cop_tree_view *view = open_view(40, 20, false, "p");
    for (uint32_t sample = 9; sample < 11; sample++)
        cop_tree_view_event(
            view,
            &(cop_live_event){
                .kind = COP_LIVE_TEXT, .sample = sample, .path = "", .text = "x y", .bytes = 3});
    stop_sample(view, 10, COP_STOP_CANCELLED);
    check_frame(view, false,
                "p                                 tokens\n"
                "├  #9 › x y                            1\n"
                "├ #10 ○ x y                            1\n"
                "└ running · 1 of 2 samples over        2\n");
    stop_sample(view, 9, COP_STOP_END);
    uint32_t rows;
    char *text = frame(view, false, &rows);
    CHECK(strstr(text, "└ done · 2 of 2 samples over ") != NULL);
    free(text);
    cop_tree_view_destroy(view);
}

/* A character may be split over events; what is no text is replaced. */
static void test_hostile_bytes_are_replaced(void) {
    cop_tree_view *view = open_view(60, 20, false, "a\033[2Jb\r\n\xFF");
    say_bytes(view, "", "\xE6\xBC", 2, false); /* 漢, in two parts */
    say_bytes(view, "", "\xA2!", 2, false);
    say_bytes(view, "", "\033]0;x\a \n\n\t\v y\0z", 15, false);
    say_bytes(view, "",
              "\xC2\x9B"
              "31m \xE2\x80\xAE<\xE2\x80\x8B>\xE2\x80\xA8.",
              18, false);
    say_bytes(view, "", "\xC0\xAF\xED\xA0\x80|\xF0\x9F", 8, false);
    stop_sample(view, 0, COP_STOP_END); /* 😀 will never be whole */
    uint32_t rows;
    char *text = frame(view, true, &rows), row[256];
    check_rows(text, 60, false);
    row_of(text, 0, row, sizeof row);
    CHECK(strncmp(row, "a\uFFFD[2Jb \uFFFD  ", 14) == 0);
    row_of(text, 1, row, sizeof row);
    char *end = strstr(row, "   ");
    CHECK(end != NULL);
    *end = 0;
    CHECK_TEXT(row, "├ 漢!\uFFFD]0;x\uFFFD y\uFFFDz\uFFFD31m \uFFFD<> .\uFFFD\uFFFD\uFFFD\uFFFD"
                    "\uFFFD|\uFFFD");
    free(text);
    cop_tree_view_destroy(view);
}

/* Pieces of text at random, cut at random bytes, in a tree that grows at random: no row is ever
 * too wide or holds what it must not. */
static void test_random_text_never_leaves_its_row(void) {
    static const char *const pieces[] = {"漢字",     "😀",       "é",          "e\u0301", "\xFF",
                                         "\xE2\x82", "\033[1m", "<tag>",      " word",   "<",
                                         ">",        "\n",      "1234567890", " + 2"};
    uint64_t state = 42;
    for (uint32_t round = 0; round < check_effort(60, 15); round++) {
        uint32_t width = 40 + round;
        cop_tree_view *view = open_view(width, 4 + round % 30, round % 2,
                                        "漢字漢字漢字漢字漢字漢字"
                                        "漢字漢字漢字漢字漢字");
        char path[64] = "";
        for (uint32_t step = 0; step < 400; step++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uint32_t r = (uint32_t)(state >> 33);
            if (r % 23 == 0 && strlen(path) < 40) {
                snprintf(path + strlen(path), 8, "%s%u", path[0] ? "." : "", r / 23 % 12 + 1);
                open_path(view, path, step);
            } else if (r % 29 == 0 && path[0]) {
                end_path(view, path, (cop_stop)(1 + r / 29 % 4), r % 2);
                char *dot = strrchr(path, '.');
                *(dot ? dot : path) = 0;
                join(view, path);
            } else {
                const char *piece = pieces[r % (sizeof pieces / sizeof pieces[0])];
                size_t from = r / 64 % strlen(piece);
                say_bytes(view, path, piece + from, strlen(piece) - from, r % 7 == 0);
            }
            if (step % 16 == 0 || step == 399) {
                uint32_t rows;
                char *text = frame(view, step == 399, &rows);
                check_rows(text, width, round % 2);
                CHECK(step == 399 || rows <= 4 + round % 30);
                free(text);
            }
        }
        cop_tree_view_destroy(view);
    }
}

static void test_three_hundred_paths_scroll(void) {
    enum { PATHS = 300 };
    cop_tree_view *view = open_view(60, 10, false, "many");
    char name[24], row[256];
    say(view, "", "plan");
    for (uint32_t i = 1; i <= PATHS; i++) {
        snprintf(name, sizeof name, "%u", i);
        open_path(view, name, 0);
        give(view, name, "<thr>");
        say(view, name, name);
    }
    uint32_t rows;
    char *text = frame(view, false, &rows);
    CHECK_EQ(rows, 10);
    check_rows(text, 60, false);
    row_of(text, 1, row, sizeof row);
    CHECK_TEXT(row, "│ … 294 rows above");
    row_of(text, 2, row, sizeof row);
    CHECK(strncmp(row, "│ ├ 294 › <thr>  294 ", strlen("│ ├ 294 › <thr>  294 ")) == 0);
    row_of(text, 8, row, sizeof row);
    CHECK(strncmp(row, "│ └ 300 › <thr>  300 ", strlen("│ └ 300 › <thr>  300 ")) == 0);
    free(text);
    text = frame(view, true, &rows);
    CHECK_EQ(rows, PATHS + 3);
    CHECK(strstr(text, "above") == NULL);
    row_of(text, 2, row, sizeof row);
    CHECK(strncmp(row, "│ ├   1 › ", strlen("│ ├   1 › ")) == 0);
    free(text);
    cop_tree_view_destroy(view);
}

static void test_deep_nesting_keeps_the_innermost_levels(void) {
    enum { DEPTH = 500 };
    cop_tree_view *view = open_view(48, 20, false, "deep");
    char path[2 * DEPTH + 1] = "";
    for (uint32_t i = 0; i < DEPTH; i++) {
        memcpy(path + strlen(path), i ? ".1" : "1", i ? 3 : 2);
        open_path(view, path, i);
        say(view, path, "t");
    }
    give(view, path, " 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字");
    uint32_t rows;
    char *text = frame(view, true, &rows), row[256];
    CHECK_EQ(rows, DEPTH + 3);
    check_rows(text, 48, false);
    row_of(text, DEPTH + 1, row, sizeof row);
    CHECK_TEXT(row, "…           └ ….1.1.1.1 › t … 字漢字漢字       1");
    free(text);
    cop_tree_view_destroy(view);
    for (uint32_t width = 40; width < 60; width++) { /* a header may need more than there is */
        view = open_view(width, 20, false, "deep");
        path[0] = 0;
        for (uint32_t i = 0; i < 30; i++) {
            memcpy(path + strlen(path), i ? ".1" : "1", i ? 3 : 2);
            open_path(view, path, i);
        }
        give(view, path,
             "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字");
        say(view, path, "t");
        text = frame(view, true, &rows);
        check_rows(text, width, false);
        row_of(text, 31, row, sizeof row);
        CHECK_TEXT(row + strlen(row) - 8, "       1");
        free(text);
        cop_tree_view_destroy(view);
    }
}

/* A row takes as long to draw whatever was said: its middle is never looked at. */
static void test_long_text_shows_head_and_tail(void) {
    cop_tree_view *view = open_view(60, 10, false, "long");
    open_path(view, "1", 0);
    for (uint32_t i = 0; i < 100000; i++)
        say(view, "1", " word");
    say(view, "1", " end.");
    char row[256];
    uint32_t rows;
    char *text = frame(view, false, &rows);
    row_of(text, 2, row, sizeof row);
    CHECK_TEXT(row, "│ └ 1 › word word … word word word word word end.     100001");
    free(text);
    cop_tree_view_destroy(view);
    view = open_view(40, 10, false, "unbroken");
    for (uint32_t i = 0; i < 100; i++)
        say(view, "", i % 10 ? "-" : "+");
    say(view, "", "=");
    check_frame(view, false,
                "unbroken                          tokens\n"
                "├ +-------- … -------+---------=     101\n"
                "└ running                            101\n");
    cop_tree_view_destroy(view);
}

static void test_misuse_is_named(void) {
    cop_tree_view *view = NULL;
    CHECK_STATUS(cop_tree_view_create(&(cop_tree_view_options){39, 10, false, "x"}, &view),
                 COP_ERR_CONFIG);
    CHECK_STATUS(cop_tree_view_create(&(cop_tree_view_options){80, 3, false, "x"}, &view),
                 COP_ERR_CONFIG);
    CHECK(view == NULL);
    cop_tree_view_destroy(NULL);
    view = open_view(40, 10, true, NULL);
    say(view, "2.1", "never opened");
    say(view, "", "the first failure stays");
    cop_buffer out = {0};
    uint32_t rows;
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(cop_tree_view_frame(view, true, &out, &rows), COP_ERR_INTERNAL);
        CHECK_MESSAGE("path \"2.1\" of sample 0");
        CHECK_EQ(rows, 0);
    }
    cop_buffer_release(&out);
    cop_tree_view_destroy(view);
}

int main(void) {
    RUN(test_rows_of_a_small_tree);
    RUN(test_recorded_run_is_drawn_whole);
    RUN(test_second_block_has_rows_of_its_own);
    RUN(test_nested_paths_stand_below_their_parent);
    RUN(test_a_path_goes_on_between_its_siblings);
    RUN(test_samples_are_numbered_when_there_are_several);
    RUN(test_hostile_bytes_are_replaced);
    RUN(test_random_text_never_leaves_its_row);
    RUN(test_three_hundred_paths_scroll);
    RUN(test_deep_nesting_keeps_the_innermost_levels);
    RUN(test_long_text_shows_head_and_tail);
    RUN(test_misuse_is_named);
    return check_report();
}
