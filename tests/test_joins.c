/* Every way to join against a dense masked model in double precision, on random trees; and what
 * must hold between the ways. */
#include <math.h>

#include "check.h"
#include "job/joins.h"
#include "model/model.h"
#include "ref/forward_double.h"
#include "ref/joins_naive.h"

/* f32 against double: logits of these models lie within 30 of 0 and come out of two layers. Two
 * ways to join lie thousands of times further apart. Seen: 1.3e-5, and 0.22 in bf16. */
#define TOLERANCE 1e-4
#define TOLERANCE_BF16 0.5

static const joins_naive_rule rules[] = {
    {.name = "reprefill", .again = true, .seen = true},
    {.name = "reprefill, equal starts", .again = true, .seen = true, .equal = true, .max = true},
    {.name = "reprefill, siblings masked", .again = true},
    {.name = "reprefill, masked, equal starts", .again = true, .equal = true, .max = true},
    {.name = "stitch", .keep = true, .max = true},
    {.name = "stitch, next position", .keep = true},
    {.name = "paths dropped"},
    {.name = "stitch, siblings reversed", .keep = true, .max = true, .reversed = true},
    {.name = "reprefill, siblings reversed", .again = true, .seen = true, .reversed = true},
    {.name = "reprefill, other arithmetic", .again = true, .seen = true},
};
enum { N_RULES = sizeof rules / sizeof rules[0] };

/* ---- random trees ---- */

/* Steele, Lea and Flood's SplitMix64. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

typedef struct tree {
    cop_buffer text;
    uint64_t drawn;
    uint32_t blocks, paths, depth, tokens, widest, vocab;
    bool one_path;
} tree;

static uint32_t draw(tree *t, uint32_t n) {
    return (uint32_t)(next_random(&t->drawn) % n);
}

static void put(tree *t, const char *text) {
    CHECK_OK(cop_buffer_append(&t->text, text, strlen(text)));
}

static void put_text(tree *t, uint32_t n, const char *forced) {
    CHECK_OK(cop_buffer_printf(&t->text, "{\"n\":%u,\"ids\":[", n));
    for (uint32_t i = 0; i < n; i++)
        CHECK_OK(cop_buffer_printf(&t->text, "%s%u", i ? "," : "", draw(t, t->vocab)));
    CHECK_OK(cop_buffer_printf(&t->text, "]%s}", forced));
    t->tokens += n;
}

static void put_stream(tree *t, uint32_t depth) {
    const uint32_t blocks = depth == 0 ? 1 + draw(t, 2) : depth < 3 && draw(t, 3) == 0;
    put_text(t, 1 + draw(t, 5), depth ? ",\"forced\":\"branch\"" : "");
    for (uint32_t b = 0; b < blocks; b++) {
        const uint32_t paths = t->one_path ? 1 : 1 + draw(t, 4);
        t->blocks++;
        t->paths += paths;
        t->depth = depth + 1 > t->depth ? depth + 1 : t->depth;
        t->widest = paths > t->widest ? paths : t->widest;
        put(t, ",{\"block\":[");
        for (uint32_t p = 0; p < paths; p++) {
            put(t, p ? ",[" : "[");
            put_stream(t, depth + 1);
            put(t, "]");
        }
        put(t, "]},");
        put_text(t, 1 + draw(t, 3), ",\"forced\":\"join\"");
        if (draw(t, 2)) {
            put(t, ",");
            put_text(t, 1 + draw(t, t->one_path ? 60 : 9), "");
        }
    }
}

static cop_trajectories *make_tree(tree *t, uint64_t seed, uint32_t vocab, bool one_path) {
    *t = (tree){.drawn = seed, .vocab = vocab, .one_path = one_path};
    cop_buffer line = {0};
    cop_trajectories *set = NULL;
    put_stream(t, 0);
    CHECK_OK(cop_buffer_printf(&line,
                               "{\"v\":1,\"id\":\"t\",\"dialect\":\"multiverse\",\"source\":\"s\","
                               "\"blocks\":%u,\"paths\":%u,\"depth\":%u,\"prompt\":[],\"stream\":[",
                               t->blocks, t->paths, t->depth));
    CHECK_OK(cop_buffer_append(&line, t->text.data, t->text.bytes));
    CHECK_OK(cop_buffer_printf(&line, "]}\n"));
    CHECK_OK(cop_trajectories_read_text(line.data, line.bytes, "random", &set));
    CHECK_OK(cop_trajectories_tokenize(set, NULL, vocab, 1));
    cop_buffer_release(&line);
    cop_buffer_release(&t->text);
    return set;
}

/* ---- the oracle ---- */

typedef struct oracle {
    uint32_t vocab, tokens, rows; /* rows: compared so far */
    double *logits[N_RULES + 1];  /* [entries, vocab] */
    joins_naive *worlds;          /* [N_RULES] */
    double worst[N_RULES + 1];
    joins_views *shared; /* of paths that see each other */
    uint32_t shared_rows;
    bool flat;
} oracle;

static void compare_row(void *context, uint32_t track, uint32_t token, const float *logits) {
    oracle *o = context;
    if (track == N_RULES) {
        const double *row = o->logits[N_RULES] + (size_t)o->shared->entry_of[token] * o->vocab;
        for (uint32_t i = 0; i < o->vocab; i++)
            o->worst[N_RULES] = fmax(o->worst[N_RULES], fabs(logits[i] - row[i]));
        o->shared_rows++;
        return;
    }
    const double *expected = o->logits[track] + (size_t)o->worlds[track].entry_of[token] * o->vocab;
    for (uint32_t i = 0; i < o->vocab; i++)
        o->worst[track] = fmax(o->worst[track], fabs(logits[i] - expected[i]));
    o->rows += track == 0;
}

/* false: too large for the oracle. */
static bool lay(oracle *o, const cop_model *model, const cop_trajectory *trajectory) {
    for (uint32_t r = 0; r < N_RULES; r++) {
        joins_naive *w = &o->worlds[r];
        joins_naive_lay(w, &rules[r], trajectory);
        if (w->full)
            return false;
        CHECK_EQ(w->n_tokens, trajectory->n_tokens);
        uint8_t *sees = malloc((size_t)w->n * w->n);
        o->logits[r] = malloc((size_t)w->n * o->vocab * sizeof(double));
        CHECK(sees && o->logits[r]);
        for (uint32_t i = 0; i < w->n; i++)
            memcpy(sees + (size_t)i * w->n, w->sees[i], w->n);
        forward_double_masked(model, w->id, w->position, sees, w->n, o->logits[r]);
        free(sees);
    }
    o->flat = trajectory->depth == 1;
    if (o->flat) {
        joins_views *v = o->shared;
        joins_naive_share(v, trajectory);
        CHECK(!v->full);
        int32_t *at = malloc((size_t)v->n * v->n * sizeof *at);
        o->logits[N_RULES] = malloc((size_t)v->n * o->vocab * sizeof(double));
        CHECK(at && o->logits[N_RULES]);
        for (uint32_t i = 0; i < v->n; i++)
            memcpy(at + (size_t)i * v->n, v->at[i], v->n * sizeof *at);
        forward_double_views(model, v->id, at, v->n, o->logits[N_RULES]);
        free(at);
    }
    return true;
}

static void release(oracle *o) {
    for (uint32_t r = 0; r <= N_RULES; r++) {
        free(o->logits[r]);
        o->logits[r] = NULL;
    }
}

static uint32_t contrast_of(const cop_joins_table *table, const char *name) {
    for (uint32_t c = 0; c < table->n_contrasts; c++)
        if (strcmp(table->contrasts[c].name, name) == 0)
            return c;
    fprintf(stderr, "no contrast %s\n", name);
    exit(1);
}

static cop_joins_summary summary_of(const cop_joins_table *table, const char *name) {
    cop_joins_summary s;
    CHECK_OK(cop_joins_summarise(table, contrast_of(table, name), &s));
    return s;
}

static void check_tracks(const cop_joins_table *table) {
    const bool shared = table->n_omitted == 1; /* and message, which no random tree has */
    CHECK_EQ(table->n_tracks, N_RULES + shared);
    for (uint32_t t = 0; t < N_RULES; t++)
        CHECK_TEXT(table->tracks[t].name, rules[t].name);
    if (shared)
        CHECK_TEXT(table->tracks[N_RULES].name, "shared");
}

static void run(const cop_model *model, cop_trajectories *set, const cop_joins_options *given,
                cop_joins_table *table) {
    cop_joins_options options = *given;
    options.other = COP_ARITH_BF16;
    options.n_threads = 1;
    CHECK_OK(cop_joins_run(model, &set->list[0], &options, table));
    check_tracks(table);
}

static void test_every_track_agrees_with_a_dense_masked_model(void) {
    static const char *const models[] = {"configs/models/tiny-2layer.json",
                                         "configs/models/tiny-qwen2.json",
                                         "configs/models/tiny-qwen3.json"};
    uint32_t nested = 0, wide = 0, twice = 0, long_rows = 0, apart[2] = {0}, compared = 0;
    uint32_t flat = 0;
    oracle o = {.worlds = malloc(N_RULES * sizeof *o.worlds), .shared = malloc(sizeof *o.shared)};
    CHECK(o.worlds && o.shared);
    for (uint32_t m = 0; m < 3; m++) {
        cop_model *model = NULL;
        CHECK_OK(cop_model_open_random(models[m], &model));
        o.vocab = cop_model_shape_of(model)->vocab;
        for (uint32_t i = 0; i < check_effort(8, 3); i++) {
            tree t;
            cop_trajectories *set = make_tree(&t, 1000 * m + i + 1, o.vocab, i % 4 == 3);
            cop_joins_table table;
            o.rows = 0;
            memset(o.worst, 0, sizeof o.worst);
            if (lay(&o, model, &set->list[0])) {
                run(model, set, &(cop_joins_options){.listener = compare_row, .context = &o},
                    &table);
                CHECK_EQ(o.rows, table.n_tokens);
                CHECK_EQ(table.joins, t.blocks);
                CHECK_EQ(o.flat, table.n_tracks == N_RULES + 1);
                flat += o.flat;
                for (uint32_t r = 0; r < table.n_tracks; r++) {
                    const double most = r + 1 == N_RULES ? TOLERANCE_BF16 : TOLERANCE;
                    if (!(o.worst[r] <= most)) {
                        fprintf(stderr, "%s, tree %u, %s: %g from the oracle\n", models[m], i,
                                table.tracks[r].name, o.worst[r]);
                        exit(1);
                    }
                }
                apart[0] += summary_of(&table, "positions").logit_diff_max > 1000 * TOLERANCE;
                apart[1] += summary_of(&table, "visibility").logit_diff_max > 100 * TOLERANCE;
                nested += t.depth > 1;
                wide += t.widest > 2;
                twice += t.blocks > 1;
                long_rows += t.one_path;
                compared += table.n_tokens;
                cop_joins_table_release(&table);
            }
            release(&o);
            cop_trajectories_destroy(set);
        }
        cop_model_close(model);
    }
    free(o.worlds);
    free(o.shared);
    printf("  %u rows; %u nested trees, %u wide, %u with several blocks, %u of one path; %u rows "
           "behind paths that saw each other, in %u trees\n",
           compared, nested, wide, twice, long_rows, o.shared_rows, flat);
    CHECK(o.shared_rows && flat && nested && wide && twice && apart[0] && apart[1]);
}

/* One path: the same positions, the same view, whatever the rule. */
static void test_one_path_is_the_same_under_every_rule(void) {
    static const char *const same[] = {
        "positions",           "visibility",    "positions+visibility", "stitch",
        "stitch-next",         "recomputation", "conclusion-position",  "band-stitch-order",
        "band-reprefill-order"}; /* shared: in any tree without a block in a path */
    cop_model *model = NULL;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    for (uint32_t i = 0; i < check_effort(12, 4); i++) {
        tree t;
        cop_trajectories *set = make_tree(&t, 5000 + i, 320, true);
        cop_joins_table table;
        run(model, set, &(cop_joins_options){0}, &table);
        for (uint32_t c = 0; c < sizeof same / sizeof same[0]; c++) {
            const cop_joins_summary s = summary_of(&table, same[c]);
            CHECK(s.tokens > 0 && s.logit_diff_max == 0 && s.kl_max == 0 && s.same_top_share == 1);
        }
        if (table.n_omitted ==
            1) { /* a path alone has nobody to see; its keys turn the other way */
            const cop_joins_summary s = summary_of(&table, "shared");
            CHECK(s.tokens > 0 && s.logit_diff_max <= TOLERANCE);
        }
        CHECK(summary_of(&table, "dropped").logit_diff_max > 0.01);
        cop_joins_table_release(&table);
        cop_trajectories_destroy(set);
    }
    cop_model_close(model);
}

static void test_what_must_hold_between_tracks(void) {
    cop_model *model = NULL;
    uint32_t moved = 0;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    for (uint32_t i = 0; i < check_effort(20, 6); i++) {
        tree t;
        cop_trajectories *set = make_tree(&t, 9000 + i, 320, false);
        cop_joins_table table;
        run(model, set, &(cop_joins_options){0}, &table);
        const cop_joins_summary order = summary_of(&table, "band-stitch-order");
        CHECK(order.logit_diff_max <= TOLERANCE && order.kl_max <= 1e-8);
        moved += order.logit_diff_max > 0;
        CHECK(summary_of(&table, "recomputation").logit_diff_max == 0);
        for (size_t k = 0; k < (size_t)table.n_tokens * table.n_contrasts; k++)
            if (k % table.n_contrasts + 1 < table.n_contrasts || table.n_omitted > 1)
                CHECK(table.rows[k].kl >= 0 && isfinite(table.rows[k].kl));
        for (uint32_t n = 0; n < table.n_tokens; n++)
            for (uint32_t k = 0; k < table.n_tracks; k++) {
                const double logprob = table.logprobs[(size_t)n * table.n_tracks + k];
                const bool none =
                    table.tokens[n].next < 0 || (k == N_RULES && table.tokens[n].depth > 0);
                CHECK(none ? isnan(logprob) : logprob < 0);
            }
        /* What joins computed again is counted where it ran, and stitch computes nothing. */
        const cop_joins_track *reprefill = &table.tracks[0], *stitch = &table.tracks[4];
        const uint64_t token_bytes = 2 * 2 * 2 * 16 * 4;
        CHECK_EQ(reprefill->kv_written, reprefill->tokens_recomputed * token_bytes);
        CHECK(reprefill->tokens_recomputed > 0 && reprefill->kv_read > 0);
        CHECK_EQ(reprefill->kv_seen, t.tokens * token_bytes);
        CHECK_EQ(stitch->tokens_recomputed + stitch->kv_written + stitch->kv_read, 0);
        CHECK_EQ(stitch->kv_seen, reprefill->kv_seen);
        cop_joins_table_release(&table);
        cop_trajectories_destroy(set);
    }
    CHECK(moved > 0); /* the order does reach the sums */
    cop_model_close(model);
}

static bool same_row(const cop_joins_row *a, const cop_joins_row *b) {
    return (isnan(a->kl) ? isnan(b->kl) : a->kl == b->kl && a->logit_diff == b->logit_diff) &&
           a->same_top == b->same_top;
}

static void test_only_so_many_tokens_after_a_join(void) {
    cop_model *model = NULL;
    tree t;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_trajectories *set = make_tree(&t, 4242, 320, true);
    cop_joins_table all, some;
    run(model, set, &(cop_joins_options){0}, &all);
    run(model, set, &(cop_joins_options){.after_max = 3}, &some);
    uint32_t k = 0;
    for (uint32_t i = 0; i < all.n_tokens; i++) {
        if (all.tokens[i].after > 3)
            continue;
        CHECK(memcmp(&all.tokens[i], &some.tokens[k], sizeof all.tokens[i]) == 0);
        for (uint32_t c = 0; c < all.n_contrasts; c++)
            CHECK(same_row(&all.rows[(size_t)i * all.n_contrasts + c],
                           &some.rows[(size_t)k * all.n_contrasts + c]));
        k++;
    }
    for (uint32_t i = 1; i < all.n_tokens; i++)
        if (all.tokens[i - 1].next >= 0) {
            CHECK_EQ(all.tokens[i].after, all.tokens[i - 1].after + 1);
            CHECK_EQ(all.tokens[i].id, all.tokens[i - 1].next);
            CHECK_EQ(all.tokens[i].join, all.tokens[i - 1].join);
        }
    CHECK_EQ(k, some.n_tokens);
    CHECK(k > 0 && k < all.n_tokens);
    cop_joins_table_release(&all);
    cop_joins_table_release(&some);
    cop_trajectories_destroy(set);
    cop_model_close(model);
}

static void test_divergence(void) {
    enum { VOCAB = 50 };
    uint64_t state = 77;
    for (uint32_t i = 0; i < check_effort(2000, 200); i++) {
        float a[VOCAB], b[VOCAB];
        double expected = 0;
        const double scale = pow(10, (double)(next_random(&state) % 7) - 5);
        for (uint32_t k = 0; k < VOCAB; k++) {
            a[k] = (float)((double)(next_random(&state) % 2000) / 100 - 10);
            b[k] = (float)(a[k] + scale * ((double)(next_random(&state) % 2000) / 1000 - 1));
        }
        const double la = cop_joins_logsumexp(a, VOCAB), lb = cop_joins_logsumexp(b, VOCAB);
        for (uint32_t k = 0; k < VOCAB; k++)
            expected += exp(a[k] - la) * ((a[k] - la) - (b[k] - lb));
        const cop_joins_row row = cop_joins_compare(a, la, b, lb, VOCAB);
        const cop_joins_row self = cop_joins_compare(a, la, a, la, VOCAB);
        CHECK(row.kl >= 0 && fabs(row.kl - expected) <= 1e-12 * (1 + expected));
        CHECK(self.kl == 0 && self.logit_diff == 0 && self.same_top);
    }
    /* Two tokens, by hand: p = (1/2, 1/2), q = (1/4, 3/4): (ln 2 + ln 2/3) / 2. */
    const float p[2] = {0, 0}, q[2] = {0, logf(3)};
    const double lp = cop_joins_logsumexp(p, 2), lq = cop_joins_logsumexp(q, 2);
    CHECK(fabs(cop_joins_compare(p, lp, q, lq, 2).kl - 0.5 * log(4.0 / 3)) < 1e-7);
    const float far[2] = {0, 3e4f}, near[2] = {3e4f, 0};
    const cop_joins_row row =
        cop_joins_compare(near, cop_joins_logsumexp(near, 2), far, cop_joins_logsumexp(far, 2), 2);
    CHECK(row.kl == 3e4 && row.logit_diff == 3e4 && !row.same_top);
}

/* ---- message ---- */

#define MESSAGE_BEFORE "<try>18 + 15<try>15 - 9<try>9 - 8<fork>"
#define MESSAGE_AFTER "18 + 15 9 - 8 33 * 1"

enum { MESSAGE_IDS = 256 };

/* What the model sees in the end, laid down by hand: one text, in which only the replies stand for
 * the paths. */
typedef struct message_text {
    int32_t ids[MESSAGE_IDS];
    uint32_t n, after; /* after: tokens behind the replies */
    const cop_model *model;
    uint32_t recorded, rows; /* recorded: tokens of the record in all */
    double worst;
} message_text;

static uint32_t add_text(message_text *m, const char *text) {
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(cop_model_tokenizer(m->model), text, strlen(text),
                                  (cop_encode_options){.no_bos = true}, &ids));
    CHECK(m->n + ids.count <= MESSAGE_IDS);
    memcpy(m->ids + m->n, ids.data, ids.count * sizeof *ids.data);
    m->n += (uint32_t)ids.count;
    const uint32_t count = (uint32_t)ids.count;
    cop_token_ids_release(&ids);
    return count;
}

static void compare_message(void *context, uint32_t track, uint32_t token, const float *logits) {
    message_text *m = context;
    const uint32_t vocab = cop_model_shape_of(m->model)->vocab;
    if (track != N_RULES) /* the track behind those of `rules` */
        return;
    double *expected = malloc(vocab * sizeof *expected);
    CHECK(expected);
    forward_double(m->model, m->ids, m->n - (m->recorded - token) + 1, expected);
    for (uint32_t i = 0; i < vocab; i++)
        m->worst = fmax(m->worst, fabs(logits[i] - expected[i]));
    m->rows++;
    free(expected);
}

static void test_a_message_is_all_that_is_seen_of_a_path(void) {
    /* A reply, none, and one that is cut before its closing tag. */
    static const char record[] =
        "<apr><k3>T33 18 15 9 8" MESSAGE_BEFORE "<thr>18 + 15 33 9 8<ok>18 + 15 9 - 8<end>"
        "<thr>15 - 9 6 18 8 24 18<end><thr>9 - 8 1<no><end><join>" MESSAGE_AFTER;
    cop_model *model = NULL;
    cop_dialect_file *file = NULL;
    cop_trajectories *set = NULL;
    CHECK_OK(cop_model_open("bench/countdown/countdown.gguf", &model));
    CHECK_OK(cop_dialect_open("countdown-message", &file));
    CHECK_OK(cop_trajectories_create(&set));
    CHECK_OK(cop_trajectory_parse(cop_dialect_of(file), "m", "m", record, sizeof record - 1, set));
    CHECK_OK(cop_trajectories_tokenize(set, cop_model_tokenizer(model),
                                       cop_model_shape_of(model)->vocab, 1));
    message_text m = {.model = model, .recorded = (uint32_t)set->list[0].n_tokens};
    add_text(&m, "<apr><k3>T33 18 15 9 8");
    add_text(&m, "<try>18 + 15");
    add_text(&m, "<try>15 - 9");
    add_text(&m, "<try>9 - 8");
    add_text(&m, "<fork>");
    const uint32_t replies =
        add_text(&m, "<ok>18 + 15 9 - 8") + add_text(&m, "<no>") + add_text(&m, "<no>");
    m.after = add_text(&m, "<join>") + add_text(&m, MESSAGE_AFTER);
    cop_joins_table table;
    const cop_joins_options options = {.other = COP_ARITH_BF16,
                                       .n_threads = 1,
                                       .dialect = cop_dialect_of(file),
                                       .listener = compare_message,
                                       .context = &m};
    CHECK_OK(cop_joins_run(model, &set->list[0], &options, &table));
    CHECK_EQ(table.n_tracks, N_RULES + 2);
    CHECK_TEXT(table.tracks[N_RULES].name, "message");
    CHECK_TEXT(table.tracks[N_RULES + 1].name, "shared");
    CHECK_EQ(table.n_omitted, 0);
    CHECK_EQ(m.rows, m.after);
    CHECK_EQ(table.n_tokens, m.after);
    CHECK_EQ(table.tracks[N_RULES].tokens_recomputed, replies);
    printf("  %u rows, %.2g from the oracle\n", m.rows, m.worst);
    CHECK(m.worst <= TOLERANCE);
    CHECK(summary_of(&table, "message").logit_diff_max > 1000 * TOLERANCE);
    cop_joins_table_release(&table);
    /* A dialect that says nothing of replies leaves the rule out, and says so. */
    CHECK_OK(
        cop_joins_run(model, &set->list[0], &(cop_joins_options){.other = COP_ARITH_BF16}, &table));
    CHECK_EQ(table.n_tracks, N_RULES + 1);
    CHECK(contrast_of(&table, "shared") + 1 == table.n_contrasts);
    CHECK(table.n_omitted == 1 && strstr(table.omitted[0], "message"));
    cop_joins_table_release(&table);
    cop_trajectories_destroy(set);
    cop_dialect_close(file);
    cop_model_close(model);
}

static void test_what_cannot_be_compared_is_refused(void) {
    static const char flat[] = "{\"v\":1,\"id\":\"f\",\"dialect\":\"multiverse\",\"source\":\"s\","
                               "\"blocks\":0,\"paths\":0,\"depth\":0,\"prompt\":[],"
                               "\"stream\":[{\"n\":2,\"ids\":[1,2]}]}\n";
    cop_model *model = NULL;
    cop_trajectories *set = NULL;
    cop_joins_table table;
    tree t;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    CHECK_OK(cop_trajectories_read_text(flat, sizeof flat - 1, "flat", &set));
    CHECK_OK(cop_trajectories_tokenize(set, NULL, 320, 1));
    CHECK_STATUS(
        cop_joins_run(model, &set->list[0], &(cop_joins_options){.other = COP_ARITH_BF16}, &table),
        COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("nothing is joined");
    cop_joins_table_release(&table);
    cop_trajectories_destroy(set);
    atomic_bool stop = true;
    set = make_tree(&t, 3, 320, false);
    CHECK_STATUS(cop_joins_run(model, &set->list[0],
                               &(cop_joins_options){.other = COP_ARITH_BF16, .interrupt = &stop},
                               &table),
                 COP_ERR_INTERRUPTED);
    cop_joins_table_release(&table);
    cop_trajectories_destroy(set);
    cop_model_close(model);
}

int main(void) {
    RUN(test_divergence);
    RUN(test_every_track_agrees_with_a_dense_masked_model);
    RUN(test_one_path_is_the_same_under_every_rule);
    RUN(test_what_must_hold_between_tracks);
    RUN(test_only_so_many_tokens_after_a_join);
    RUN(test_a_message_is_all_that_is_seen_of_a_path);
    RUN(test_what_cannot_be_compared_is_refused);
    return check_report();
}
