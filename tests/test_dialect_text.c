/* Each preset on recorded text: what is prompt, what the runtime gives and what was generated; and
 * a dialect made from its page alone, decoded and imported. */
#include <unistd.h>

#include "dialect_edit.h"
#include "live_world.h"
#include "reason/trajectory.h"

static void append(live_text *out, const char *text, size_t bytes) {
    size_t used = strlen(out->text);
    CHECK(used + bytes < sizeof out->text);
    memcpy(out->text + used, text, bytes);
    out->text[used + bytes] = '\0';
}

/* All text in order: [given to a path] and {given at a join}, ( a block's paths | one after another
 * ).
 */
static void show(const cop_stream *stream, live_text *out) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        const char *marks = piece->forced == COP_FORCED_BRANCH ? "[]"
                            : piece->forced == COP_FORCED_JOIN ? "{}"
                                                               : NULL;
        if (marks)
            append(out, marks, 1);
        if (!piece->block)
            append(out, piece->text, piece->bytes);
        if (marks)
            append(out, marks + 1, 1);
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++) {
            append(out, p ? "|" : "(", 1);
            show(&piece->block->paths[p], out);
        }
        if (piece->block)
            append(out, ")", 1);
    }
}

static cop_status import(const cop_dialect *dialect, const char *text, cop_trajectories **set) {
    CHECK_OK(cop_trajectories_create(set));
    return cop_trajectory_parse(dialect, "t", "t.txt", text, strlen(text), *set);
}

static void check_text(const cop_dialect *dialect, const char *text, const char *expected) {
    cop_trajectories *set;
    live_text shown = {""};
    CHECK_OK(import(dialect, text, &set));
    show(&set->list[0].stream, &shown);
    CHECK_TEXT(shown.text, expected);
    cop_trajectories_destroy(set);
}

#define APR_TEXT                                                                                   \
    "Moving to Node #0\nCurrent State: 62:[5, 50, 79, 27], Operations: []\n<Sub Searches>\n"       \
    "<No Solution in Sub Search 0 at level 1 at Node #0,0>\n<Goal Reached in Sub Search 1 at "     \
    "level 1 at Node #0,1>\nMoving to Node #0,1\n62,62 equal: Goal Reached\n<End Sub Searches>\n"
#define SPRINT_TEXT                                                                                \
    "<Plan_1>\n<prompt_1.1>a</prompt_1.1>\n</Plan_1>\n\n<Execution_1>\n<execution_1.1>\nb\n"       \
    "</execution_1.1>\n</Execution_1>\n\n<Final_answer>\nc\n</Final_answer>\n</think>"

static const struct {
    const char *name, *text, *expected; /* the text begins with its root, or has no prompt */
} texts[] = {
    {"sequential", "so be it", "so be it"},
    {"multiverse",
     "<Think>a<Parallel>\n<Goal>\n<Outline>\n1: p</Outline>\n<Outline>2: "
     "q</Outline></Goal>\n<Path>\n1: x"
     "</Path>\n<Path>\n2: y</Path>\n<Conclusion>\nz</Conclusion></Parallel></Think>",
     "<Think>a<Parallel>\n<Goal>\n<Outline>\n1: p</Outline>\n<Outline>2: "
     "q</Outline></Goal>([\n<Path>\n1:] x"
     "</Path>|[\n<Path>\n2:] y</Path>){\n<Conclusion>\n}z</Conclusion></Parallel></Think>"},
    /* The newline before the first path is the parent's, the one behind a path is its own. */
    {"multiverse-engine",
     "<Think><Parallel><Goal><Outline>1: p</Outline><Outline>2: q</Outline></Goal>\n<Path>\n1: x"
     "</Path>\n<Path>\n2: y</Path>\n<Conclusion>\nz</Conclusion></Parallel></Think>",
     "<Think><Parallel><Goal><Outline>1: p</Outline><Outline>2: "
     "q</Outline></Goal>[\n]([<Path>\n1:] x"
     "</Path>\n|[<Path>\n2:] y</Path>\n){<Conclusion>\n}z</Conclusion></Parallel></Think>"},
    {"npr",
     "<guideline><plan>1: p</plan><plan>2: q</plan></guideline>\n<step>\n1: x</step>\n<step>\n2: "
     "y</step>\n<takeaway>\nz</takeaway>done",
     "<guideline><plan>1: p</plan><plan>2: q</plan></guideline>[\n]([<step>\n1:] "
     "x</step>\n|[<step>\n2:] y</step>\n){<takeaway>\n}z</takeaway>done"},
    {"npr-corrected",
     "<guideline><plan>1: p</plan><plan>2: q</plan></guideline>\n<step>\n1: x</step><step>\n2: "
     "y</step>\n"
     "<takeaway>\nz</takeaway>\n\n<guideline><plan>1: p</plan></guideline>\n<step>\n1: "
     "x</step>\n<takeaway>"
     "\nz</takeaway>done",
     "<guideline><plan>1: p</plan><plan>2: q</plan></guideline>[\n]([<step>\n1:] "
     "x</step>|[<step>\n2:] y"
     "</step>){\n<takeaway>\n}z</takeaway>\n\n<guideline><plan>1: "
     "p</plan></guideline>[\n]([<step>\n1:] x"
     "</step>){\n<takeaway>\n}z</takeaway>done"},
    {"parallel-r1",
     "a<Parallel><Path>x</Path><Path>y</Path></Parallel>\n<Summary>z</Summary>b<Parallel><Path>x</"
     "Path>"
     "</Parallel> <Summary>z</Summary>",
     "<Parallel>([<Path>]x</Path>|[<Path>]y</Path>){</Parallel>\n<Summary>}z</"
     "Summary>b<Parallel>([<Path>]x"
     "</Path>)</Parallel> <Summary>z</Summary>"},
    {"parallel-r1-corrected", "<Parallel><Path>x</Path></Parallel>\n<Summary>z</Summary>",
     "<Parallel>([<Path>]x</Path>){</Parallel>\n<Summary>}z</Summary>"},
    {"threadweaver",
     "<think><Parallel>\n<Outlines>\n<Outline>1: p</Outline><Outline>2: "
     "q</Outline></Outlines>\n<Thread>\n1: x"
     "</Thread>\n<Thread>\n2: y</Thread>\n</Parallel></think>",
     "<think><Parallel>\n<Outlines>\n<Outline>1: p</Outline><Outline>2: "
     "q</Outline></Outlines>([\n<Thread>\n1:]"
     " x</Thread>|[\n<Thread>\n2:] y</Thread>)\n</Parallel></think>"},
    /* <Parallel> is ordinary text; a later header has no newline in the joined text. */
    {"threadweaver-eval",
     "<think><Parallel>\n<Outlines>\n<Outline>1: p</Outline><Outline>2: "
     "q</Outline></Outlines>\n<Thread>\n1: x"
     "</Thread><Thread>\n2: y</Thread>\n</Parallel></think>",
     "<think><Parallel>\n<Outlines>\n<Outline>1: p</Outline><Outline>2: "
     "q</Outline></Outlines>([\n<Thread>\n1:]"
     " x</Thread>|[<Thread>\n2:] y</Thread>){\n}</Parallel></think>"},
    {"threadweaver-rl-recipe",
     "<think><Outlines><Outline>1: p</Outline><Outline>2: q</Outline></Outlines>\n<Thread>\n1: "
     "x\n</Thread>"
     "<Thread>\n2: y\n</Thread>\n</Parallel></think>",
     "<think><Outlines><Outline>1: p</Outline><Outline>2: q</Outline></Outlines>([\n<Thread>\n1:] "
     "x\n</Thread>"
     "|[<Thread>\n2:] y\n</Thread>){\n}</Parallel></think>"},
    /* Numbers are the original's own, and the second of equal ones has no thread. */
    {"threadweaver-rl-recipe",
     "<think><Outlines><Outline>3.1: "
     "p</Outline><Outline>7:q</Outline><Outline>3.1:r</Outline></Outlines>"
     "\n<Thread>\n3.1: x</Thread><Thread>\n7: y</Thread>\n</Parallel></think>",
     "<think><Outlines><Outline>3.1: "
     "p</Outline><Outline>7:q</Outline><Outline>3.1:r</Outline></Outlines>"
     "([\n<Thread>\n3.1:] x</Thread>|[<Thread>\n7:] y</Thread>){\n}</Parallel></think>"},
    {"threadweaver-rl",
     "<think><Outlines><Outline>1: p</Outline></Outlines>\n<Thread>\n1: x</Thread>\n<Conclusion>\nz"
     "</Conclusion></Parallel></think>",
     "<think><Outlines><Outline>1: p</Outline></Outlines>([\n<Thread>\n1:] "
     "x</Thread>){\n<Conclusion>\n}z"
     "</Conclusion></Parallel></think>"},
    /* Steps stand in the order in which they ended; each worker's are one path. */
    {"hogwild",
     "P**Alice [1]:** Hi, I'm Alice. Here's how we can go.\n\n**Bob [1]:** Hi, I'm Bob. Yes!\n\n"
     "**Alice [2]:** Quick check: am I doing redundant work? (yes/no): no.\n\n\n\n### Work in "
     "progress (others)\n\n**Alice [3]:** so<...>\n\n**Bob [2]:** we<...>\n\n\n\nWait, given "
     "the limited time, I have to give an answer right now. Considering all my previous attempts, "
     "I have to conclude that the final answer is \\boxed{5}",
     "([**Alice [1]:** Hi, I'm Alice. Here's how we can] go.\n\n[**Alice [2]:** Quick check: am I "
     "doing redundant work? (yes/no): ]no.\n\n[**Alice [3]:** ]so|[**Bob [1]:** Hi, I'm Bob.] "
     "Yes!\n\n[**Bob [2]:** ]we){\n\nWait, given the limited time, I have to give an answer "
     "right now. Considering all my previous attempts, I have to conclude that the final answer is "
     "\\boxed{}5}"},
    /* What a program put together is one stretch: no tag says what its threads said. */
    {"apr", APR_TEXT, APR_TEXT},
    {"apr-corrected", APR_TEXT, APR_TEXT},
    {"sprint", SPRINT_TEXT, SPRINT_TEXT},
    {"sprint-corrected", SPRINT_TEXT, SPRINT_TEXT},
    {"countdown-sequential", "18 - 4", "18 - 4"},
    {"countdown-stitch", "<try>a<try>b<fork><thr>ax<end><thr>by<end><join>z",
     "<try>a<try>b<fork>([<thr>a]x<end>|[<thr>b]y<end>){<join>}z"},
    {"countdown-reprefill", "<try>a<fork><thr>ax<end><join>z",
     "<try>a<fork>([<thr>a]x<end>){<join>}z"},
    {"countdown-message", "<try>a<fork><thr>ax<end><join>z",
     "<try>a<fork>([<thr>a]x<end>){<join>}z"},
};
enum { TEXTS = sizeof texts / sizeof texts[0] };

static void test_each_preset_cuts_its_text(void) {
    for (size_t i = 0; i < TEXTS; i++) {
        cop_dialect_file *file;
        CHECK_OK(cop_dialect_load_named(".", texts[i].name, &file));
        check_text(cop_dialect_of(file), texts[i].text, texts[i].expected);
        cop_dialect_close(file);
    }
}

/* A preset that runs and has no text here, or one whose text says nothing, is found by its folder.
 */
static void test_no_preset_is_without_a_text(void) {
    FILE *list = popen("ls configs/dialects/*.json", "r");
    char path[256];
    uint32_t found = 0;
    CHECK(list != NULL);
    while (fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = '\0';
        cop_dialect_file *file;
        if (strstr(path, "schema.json"))
            continue;
        CHECK_OK(cop_dialect_describe(path, &file));
        bool known = cop_dialect_reason_count(file) > 0;
        if (!known && cop_dialect_of(file)->join == COP_JOIN_ASYNC) { /* it says so, by name */
            cop_trajectories *set;
            CHECK_STATUS(import(cop_dialect_of(file), "a text", &set), COP_ERR_UNSUPPORTED);
            CHECK_MESSAGE(cop_dialect_of(file)->name);
            CHECK_MESSAGE("does not say where its parent stood");
            cop_trajectories_destroy(set);
            known = true;
        }
        for (size_t i = 0; i < TEXTS; i++)
            known |= strcmp(texts[i].name, cop_dialect_of(file)->name) == 0;
        if (!known)
            fprintf(stderr, "%s runs and has no text in this test\n", path);
        CHECK(known);
        found++;
        cop_dialect_close(file);
    }
    pclose(list);
    CHECK(found > TEXTS);
}

static void test_text_that_a_system_would_not_write_is_refused(void) {
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"npr-corrected", "<guideline><plan>1: p</plan></guideline><takeaway>z</takeaway>",
         "each listed one needs its <step>"},
        {"npr-corrected",
         "<guideline><plan>1: p</plan></guideline><step>1: x</step><step>2: "
         "y</step><takeaway>z</takeaway>",
         "<step> without an <plan>"},
        {"npr-corrected", "<guideline><plan>1: p</plan></guideline><step>1: x</step>",
         "is never closed"},
        {"npr-corrected", "<step>1: x</step>", "<step> cannot stand here"},
        {"parallel-r1", "<Parallel></Parallel><Summary></Summary>", "has no <Path>"},
        {"parallel-r1", "<Summary></Summary>", "<Summary> cannot stand here"},
        {"parallel-r1", "<Parallel><Path>x</Path><Summary>z</Summary></Parallel>", "<Summary> "},
        {"parallel-r1", "<Parallel><Path>x<Parallel></Path></Parallel>", "does not nest blocks"},
        {"threadweaver-rl",
         "<think><Outlines><Outline>1: p</Outline></Outlines></Parallel></think>",
         "has no <Thread>"},
        {"threadweaver-rl",
         "<think><Outlines><Outline>1: p</Outline></Outlines><Thread>1: x</Thread></think>",
         "</think> closes nothing"},
        {"multiverse-engine", "<Think><Parallel><Path>x</Path></Parallel></Think>",
         "<Path> without an <Outline>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_dialect_file *file;
        cop_trajectories *set;
        CHECK_OK(cop_dialect_load_named(".", cases[i].name, &file));
        CHECK_STATUS(import(cop_dialect_of(file), cases[i].text, &set), COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].message);
        CHECK_EQ(set->count, 0);
        cop_trajectories_destroy(set);
        cop_dialect_close(file);
    }
}

/* ---- the page ---- */

/* The page's worked example, as it stands there. */
static void write_example(const char *path) {
    static char page[65536];
    FILE *file = fopen("configs/dialects/README.md", "rb");
    CHECK(file != NULL);
    size_t bytes = fread(page, 1, sizeof page - 1, file);
    fclose(file);
    CHECK(bytes < sizeof page - 1);
    const char *begin = strstr(page, "```json\n");
    CHECK(begin != NULL);
    begin += strlen("```json\n");
    const char *end = strstr(begin, "```");
    CHECK(end != NULL);
    uint32_t lines = 0;
    for (const char *c = begin; c < end; c++)
        lines += *c == '\n';
    CHECK(lines <= 22); /* twenty, and the braces */
    file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQ(fwrite(begin, 1, (size_t)(end - begin), file), end - begin);
    fclose(file);
}

#define PLAN(points) "a<draft-plan>" points "</draft-plan>"

static void test_a_dialect_made_from_the_page_alone(void) {
    char path[] = "/tmp/coppice-drafts-XXXXXX.json";
    int fd = mkstemps(path, 5);
    CHECK(fd >= 0);
    close(fd);
    write_example(path);
    world w = live_world_open("sequential", 64, 4096);
    cop_dialect_close(w.dialect);
    CHECK_OK(cop_dialect_open(path, &w.dialect));
    unlink(path);
    const cop_dialect *d = cop_dialect_of(w.dialect);
    CHECK_TEXT(d->name, "drafts");

    cop_metrics m;
    cop_script script[] = {
        live_world_say(
            &w, "",
            PLAN("<point>7 s</point><point>2 l</point><point>7 s</point>") "so</verdict>b$"),
        live_world_say(&w, "1", " x</draft>"), live_world_say(&w, "2", " yy and more")};
    cop_live *live = live_world_run(&w, &(cop_live_options){.script = script, .n_script = 3}, &m);
    /* Half of two is one: the first to finish ends the block, and the other's text stays. */
    static const char said[] = PLAN(
        "<point>7 s</point><point>2 l</point><point>7 s</point>") "\n<draft>7> "
                                                                  "x</draft>\n<draft>2> yy and "
                                                                  "m</draft>\n<verdict>so</"
                                                                  "verdict>b";
    CHECK_TEXT(live_world_read(live).text, said);
    CHECK_EQ(cop_live_sample_read(live, 0).paths_cancelled, 1);
    CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_END);
    cop_live_destroy(live);

    cop_script none[] = {live_world_say(&w, "", PLAN("") "never")};
    live = live_world_run(&w, &(cop_live_options){.script = none, .n_script = 1}, &m);
    CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_REFUSED);
    cop_live_destroy(live);

    check_text(
        d,
        PLAN("<point>1 s</point><point>2 l</point>") "\n<draft>1> x</draft>\n<draft>2> y"
                                                     "</draft>\n<verdict>so</verdict>b",
        "<draft-plan><point>1 s</point><point>2 l</point></draft-plan>([\n<draft>1>] x</draft>|"
        "[\n<draft>2>] y</draft>){\n<verdict>}so</verdict>b");
    live_world_close(&w);
}

/* Items that nothing closes, at the beginning of a line; a conclusion that nothing closes. */
static const char relay_file[] =
    "{\"name\": \"relay\", \"source\": \"a test\", \"join\": \"reprefill\", \"tags\": {"
    "\"plan\": {\"open\": \"[[plan]]\", \"close\": \"[[go]]\"}, \"item\": {\"open\": \"\\n* \"}, "
    "\"path\": {\"open\": \"[[worker\", \"close\": \"[[over]]\"}, "
    "\"block\": {\"close\": \"[[sum]]\"}}, \"path_end\": \"joins\", \"max_paths\": 3, "
    "\"branch_prompt\": \"\\n[[worker {n}]] {item}\\n\", \"join_prompt\": \"\\n[[sum]]\\n\"}";

static void test_a_list_of_lines_is_a_plan(void) {
    world w = live_world_open("sequential", 64, 4096);
    cop_dialect_close(w.dialect);
    CHECK_OK(load_edited(relay_file, "", "", &w.dialect));
    const cop_dialect *d = cop_dialect_of(w.dialect);

    cop_metrics m;
    cop_script script[] = {
        live_world_say(&w, "", "\n* no task\n[[plan]]\n* 2 * 3\n* b\n[[go]]\n* x$"),
        live_world_say(&w, "1", "is\n* 6[[over]]"), live_world_say(&w, "2", "y[[over]]")};
    cop_live *live = live_world_run(&w, &(cop_live_options){.script = script, .n_script = 3}, &m);
    static const char said[] = "\n* no task\n[[plan]]\n* 2 * 3\n* b\n[[go]]\n[[worker 1]] 2 * 3\n"
                               "is\n* 6[[over]]\n[[worker 2]] b\ny[[over]]\n[[sum]]\n";
    CHECK(strncmp(live_world_read(live).text, said, sizeof said - 1) == 0);
    CHECK_EQ(cop_live_sample_read(live, 0).ill_formed_tags, 0);
    CHECK_EQ(cop_live_path_count(live), 2);
    cop_live_destroy(live);

    check_text(
        d,
        "\n* no task\n[[plan]]\n* 2 * 3\n* b\n[[go]]\n[[worker 1]] 2 * 3\nis\n* 6\n[[over]]\n"
        "[[worker 2]] b\ny[[over]]\n[[sum]]\nso",
        "\n[[plan]]\n* 2 * 3\n* b\n[[go]]([\n[[worker 1]] 2 * 3\n]is\n* 6\n[[over]]|"
        "[\n[[worker 2]] b\n]y[[over]]){\n[[sum]]\n}so");
    cop_trajectories *set;
    CHECK_STATUS(import(d, "[[plan]]\n* a\n[[go]]\n[[worker 1]] a[[plan]][[over]]", &set),
                 COP_ERR_FORMAT);
    CHECK_MESSAGE("[[plan]] inside a path");
    cop_trajectories_destroy(set);
    live_world_close(&w);
}

int main(void) {
    RUN(test_each_preset_cuts_its_text);
    RUN(test_no_preset_is_without_a_text);
    RUN(test_text_that_a_system_would_not_write_is_refused);
    RUN(test_a_dialect_made_from_the_page_alone);
    RUN(test_a_list_of_lines_is_a_plan);
    return check_report();
}
