/* Trajectories as JSONL: written, read back, and refused where they contradict themselves. */
#include <unistd.h>

#include "check.h"
#include "reason/trajectory.h"
#include "transcripts.h"

static const cop_dialect *multiverse, *threadweaver;
static cop_dialect_file *files[2];

static void test_what_is_written_reads_back_the_same(void) {
    for (uint64_t seed = 0; seed < 60; seed++) {
        transcript t = transcript_make(multiverse, seed, seed % 2);
        cop_trajectories *set = transcript_parse(multiverse, t.text.data, t.text.bytes);
        char *first = transcript_dump(&set->list[0], (cop_trajectory_write_options){0});
        cop_trajectories *again = transcript_reread(first);
        char *second = transcript_dump(&again->list[0], (cop_trajectory_write_options){0});
        CHECK_TEXT(second, first);
        CHECK(again->list[0].has_text);
        CHECK_EQ(again->list[0].origin, COP_TOKENS_NONE);
        transcript_check(&again->list[0], t.text.data, t.text.bytes);
        CHECK(cop_trajectory_to_json(&set->list[0], (cop_trajectory_write_options){true, false}) ==
              NULL);
        free(first);
        free(second);
        cop_trajectories_destroy(set);
        cop_trajectories_destroy(again);
        cop_buffer_release(&t.text);
    }
}

static void test_a_file_that_contradicts_itself_is_refused(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "holds no trajectory"},
        {"\n \n", "holds no trajectory"},
        {"[]", ":1: must hold an object"},
        {"{\"v\":1", ":1: line 1"},
        {"{\"v\":2,\"id\":\"a\"}", "\"v\" is 2"},
        {TRANSCRIPT_HEAD "\"extra\":1," TRANSCRIPT_TREE, "extra"},
        {TRANSCRIPT_HEAD "\"blocks\":2,\"paths\":0,\"depth\":0,\"stream\":[{\"n\":1}]}",
         "\"blocks\" is 2"},
        {TRANSCRIPT_HEAD "\"blocks\":0,\"paths\":1,\"depth\":0,\"stream\":[{\"n\":1}]}",
         "\"paths\" is 1"},
        {TRANSCRIPT_HEAD "\"blocks\":0,\"paths\":0,\"depth\":1,\"stream\":[{\"n\":1}]}",
         "\"depth\" is 1"},
        {TRANSCRIPT_HEAD
         "\"blocks\":0,\"paths\":0,\"depth\":0,\"tokens\":2,\"stream\":[{\"n\":1}]}",
         "\"tokens\" is 2 and the pieces have 1"},
        {TRANSCRIPT_HEAD "\"blocks\":0,\"paths\":0,\"depth\":0,\"stream\":[]}", "holds no piece"},
        {TRANSCRIPT_HEAD "\"blocks\":0,\"paths\":0,\"depth\":0,\"stream\":[{\"n\":0}]}",
         "holds no token"},
        {TRANSCRIPT_HEAD "\"blocks\":0,\"paths\":0,\"depth\":0,\"stream\":[{\"forced\":\"join\"}]}",
         "without \"text\", \"ids\" or \"n\""},
        {TRANSCRIPT_HEAD "\"stream\":[{\"n\":1,\"forced\":\"join\"}]}", "\"join\" with no block"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"n\":1,\"forced\":\"branch\"}]}",
         "only a path's first piece"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"n\":1,\"forced\":\"no\"}]}", "branch, join"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"n\":1},{\"text\":\"x\"}]}", "\"text\" in 1 of 2 pieces"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"n\":3,\"ids\":[1,2]}]}", "is 3 and \"ids\" holds 2"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"ids\":[1,-2]}]}", "ids[1]"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"n\":16777217}]}", "16777216"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"block\":[]}]}", "has 0 paths"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"block\":[[]]}]}", "path without pieces"},
        {TRANSCRIPT_HEAD "\"stream\":[{\"block\":[[{\"n\":1}]],\"n\":2}]}", "stream[0].n"},
        {TRANSCRIPT_HEAD "\"prompt\":[{\"block\":[[{\"n\":1}]]}],\"stream\":[{\"n\":1}]}",
         "holds a block"},
        {TRANSCRIPT_HEAD TRANSCRIPT_TREE "\n" TRANSCRIPT_HEAD TRANSCRIPT_TREE,
         ":2: a trajectory named 'a'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[64];
        cop_trajectories *set;
        transcript_write(cases[i].text, path);
        cop_status status = cop_trajectories_read(path, &set);
        CHECK(status == COP_ERR_CONFIG || status == COP_ERR_FORMAT);
        CHECK(set == NULL);
        CHECK_MESSAGE(path);
        CHECK_MESSAGE(cases[i].message);
        unlink(path);
    }
    cop_trajectories *set;
    CHECK_STATUS(cop_trajectories_read("/nowhere/t.jsonl", &set), COP_ERR_IO);
    CHECK_STATUS(cop_trajectories_read("/tmp", &set), COP_ERR_IO);
}

static void test_nesting_deeper_than_the_limit_is_refused(void) {
    cop_buffer text = {0};
    char path[64];
    cop_trajectories *set;
    CHECK_OK(cop_buffer_printf(&text, TRANSCRIPT_HEAD
                               "\"blocks\":33,\"paths\":33,\"depth\":33,\"stream\":["));
    for (int i = 0; i < 33; i++)
        CHECK_OK(cop_buffer_printf(&text, "{\"block\":[["));
    CHECK_OK(cop_buffer_printf(&text, "{\"n\":1}"));
    for (int i = 0; i < 33; i++)
        CHECK_OK(cop_buffer_printf(&text, "]]}"));
    CHECK_OK(cop_buffer_printf(&text, "]}"));
    transcript_write(text.data, path);
    CHECK_STATUS(cop_trajectories_read(path, &set), COP_ERR_CONFIG);
    CHECK_MESSAGE("nested deeper than 32");
    unlink(path);
    cop_buffer_release(&text);
}

static void test_own_trajectories_are_what_their_transcripts_give(void) {
    static const char *const names[] = {"mv-bridge", "mv-divisors", "mv-knights", "mv-remainder",
                                        "tw-dice",   "tw-schedule", "tw-triangle"};
    cop_trajectories *own;
    CHECK_OK(cop_trajectories_read("configs/trajectories/own.jsonl", &own));
    CHECK_EQ(own->count, sizeof names / sizeof names[0]);
    uint32_t nested = 0;
    for (uint32_t i = 0; i < own->count; i++) {
        char path[128], source[64];
        cop_buffer text = {0};
        snprintf(source, sizeof source, "%s.xml", names[i]);
        snprintf(path, sizeof path, "configs/trajectories/own/%s", source);
        transcript_read(path, &text);
        transcript_check(&own->list[i], text.data, text.bytes);
        cop_trajectories *set;
        CHECK_OK(cop_trajectories_create(&set));
        CHECK_OK(cop_trajectory_parse(names[i][0] == 'm' ? multiverse : threadweaver, names[i],
                                      source, text.data, text.bytes, set));
        char *a = transcript_dump(&own->list[i], (cop_trajectory_write_options){0});
        char *b = transcript_dump(&set->list[0], (cop_trajectory_write_options){0});
        CHECK_TEXT(a, b);
        CHECK_EQ(own->list[i].prompt.n_pieces, 1);
        nested += own->list[i].depth == 2;
        free(a);
        free(b);
        cop_trajectories_destroy(set);
        cop_buffer_release(&text);
    }
    CHECK_EQ(nested, 3);
    CHECK_OK(cop_trajectories_tokenize(own, NULL, 49152, 0));
    for (uint32_t i = 0; i < own->count; i++)
        CHECK(own->list[i].n_tokens >= 300 && own->list[i].n_tokens <= 1500);
    cop_trajectories_destroy(own);
}

static void test_the_committed_counts(void) {
    cop_trajectories *set;
    uint64_t tokens = 0;
    uint32_t blocks = 0, paths = 0;
    CHECK_OK(cop_trajectories_read("configs/trajectories/multiverse-counts.jsonl", &set));
    CHECK_EQ(set->count, TRANSCRIPT_RECORDED);
    for (uint32_t i = 0; i < set->count; i++) {
        CHECK(!set->list[i].has_text);
        CHECK(set->list[i].tokenizer != NULL);
        tokens += set->list[i].n_tokens;
        blocks += set->list[i].blocks;
        paths += set->list[i].paths;
    }
    CHECK_EQ(tokens, 158015);
    CHECK_EQ(blocks, 115);
    CHECK_EQ(paths, 275);
    CHECK_OK(cop_trajectories_tokenize(set, NULL, 49152, 1));
    cop_trajectories_destroy(set);
}

int main(void) {
    multiverse = transcript_dialect("multiverse", &files[0]);
    threadweaver = transcript_dialect("threadweaver", &files[1]);
    RUN(test_what_is_written_reads_back_the_same);
    RUN(test_a_file_that_contradicts_itself_is_refused);
    RUN(test_nesting_deeper_than_the_limit_is_refused);
    RUN(test_own_trajectories_are_what_their_transcripts_give);
    RUN(test_the_committed_counts);
    cop_dialect_close(files[0]);
    cop_dialect_close(files[1]);
    return check_report();
}
