/* Every paper's measure of a reasoning tree: by hand on small ones, and equal to brute force over
 * every token of random ones, with blocks that nest, forks that are joined late or never, spawned
 * contexts, and every way of joining. */
#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "measure/metrics_reasoning.h"
#include "ref/metrics_naive.h"

/* ---- by hand ---- */

/* Prompt 10; 5 tokens, two paths of 2 forced + 3 and + 7, all computed again, 1 forced, 4 tokens.
 */
static void test_a_block_by_hand(void) {
    cop_trace trace;
    cop_trace_figures f;
    CHECK_OK(cop_trace_create(3, 32, &trace));
    cop_trace_tokens(&trace, 0, COP_ROLE_PROMPT, 10);
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 4);
    cop_trace_tokens(&trace, 0, COP_ROLE_TAG, 1);
    uint32_t one = cop_trace_fork(&trace, 0, false), two = cop_trace_fork(&trace, 0, false);
    cop_trace_tokens(&trace, one, COP_ROLE_FORCED, 2);
    cop_trace_tokens(&trace, two, COP_ROLE_FORCED, 2);
    cop_trace_tokens(&trace, one, COP_ROLE_SAID, 3);
    cop_trace_tokens(&trace, two, COP_ROLE_SAID, 7);
    cop_trace_end(&trace, one, false);
    cop_trace_end(&trace, two, false);
    cop_trace_join(&trace, 0, one, 0);
    cop_trace_join(&trace, 0, two, 0);
    cop_trace_tokens(&trace, 0, COP_ROLE_AGAIN, 14);
    cop_trace_tokens(&trace, 0, COP_ROLE_FORCED, 1);
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 4);
    cop_trace_end(&trace, 0, true);
    CHECK(cop_trace_measure(&trace, true, &f));
    CHECK_EQ(f.total, 19);
    CHECK_EQ(f.longest_generated, 5 + 7 + 4);
    CHECK_EQ(f.longest_text, 4 + 7 + 4);
    CHECK_EQ(f.longest_thread, 5 + 9 + 1 + 4);
    CHECK_EQ(f.critical_path, 10 + 5 + 9 + 14 + 1 + 4);
    CHECK_EQ(f.position_critical, 10 + 19);
    CHECK_EQ(f.longest_sequence, 10 + 5 + 14 + 1 + 4);
    CHECK_EQ(f.longest_sequence_bos_eos, 34);
    CHECK_EQ(f.longest_branch, 9);
    CHECK_EQ(f.in_branches, 10);
    CHECK(f.concurrency == 10.0 / 16);
    CHECK(cop_trace_measure(&trace, false, &f) && f.longest_sequence_bos_eos == 35);
    cop_trace_release(&trace);
}

/* An organizer that goes on: fork at 3, own 5, wait for a worker of 9, then 2: 3 + 9 + 2. */
static void test_a_late_join_by_hand(void) {
    cop_trace trace;
    cop_trace_figures f;
    CHECK_OK(cop_trace_create(2, 32, &trace));
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 3);
    uint32_t worker = cop_trace_fork(&trace, 0, true);
    cop_trace_tokens(&trace, worker, COP_ROLE_PROMPT, 20);
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 5);
    cop_trace_tokens(&trace, worker, COP_ROLE_SAID, 9);
    cop_trace_end(&trace, worker, true);
    cop_trace_join(&trace, 0, worker, 0);
    cop_trace_tokens(&trace, 0, COP_ROLE_FORCED, 4);
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 2);
    CHECK(cop_trace_measure(&trace, true, &f)); /* the root need not have ended */
    CHECK_EQ(f.longest_generated, 14);
    CHECK_EQ(f.critical_path, 3 + 20 + 9 + 4 + 2);
    CHECK_EQ(f.longest_sequence, 29); /* the worker's own context */
    CHECK(f.concurrency == 9.0 / 14);
    CHECK_EQ(f.longest_branch, 10);
    cop_trace_release(&trace);
}

static void test_a_trace_that_makes_no_sense_has_no_figures(void) {
    cop_trace trace;
    cop_trace_figures f;
    CHECK_OK(cop_trace_create(2, 4, &trace));
    CHECK(cop_trace_measure(&trace, true, &f) && f.total == 0 && isnan(f.concurrency));
    uint32_t child = cop_trace_fork(&trace, 0, false);
    cop_trace_join(&trace, 0, child, 0); /* it has not ended */
    CHECK(!cop_trace_measure(&trace, true, &f));
    cop_trace_reset(&trace);
    cop_trace_end(&trace, 0, false);
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 1); /* after its end */
    CHECK(!cop_trace_measure(&trace, true, &f));
    cop_trace_reset(&trace);
    CHECK(cop_trace_fork(&trace, 0, false) == 1 && !trace.overflow);
    CHECK(cop_trace_fork(&trace, 0, false) == UINT32_MAX && trace.overflow);
    CHECK(!cop_trace_measure(&trace, true, &f));
    cop_trace_reset(&trace);
    for (int i = 0; i < 5; i++)
        cop_trace_tokens(&trace, 0, i % 2 ? COP_ROLE_SAID : COP_ROLE_TAG, 1);
    CHECK(trace.overflow);
    cop_trace_reset(&trace);
    for (int i = 0; i < 1000; i++)
        cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 1);
    cop_trace_tokens(&trace, 0, COP_ROLE_SAID, 0);
    CHECK_EQ(trace.n_events, 1);
    cop_trace_tokens(&trace, 7, COP_ROLE_SAID, 1); /* nobody */
    CHECK(trace.overflow);
    cop_trace_release(&trace);
}

/* ---- random trees ---- */

enum { BRANCHES = 24, EVENTS = 1200, OPS = 64 };

typedef enum join_way { HOLD, AGAIN, REPLY } join_way;

typedef struct op {
    char kind; /* as naive_event */
    char role;
    int n, other;
    join_way way;
} op;

typedef struct plan { /* what a branch will do */
    op ops[OPS];
    int n_ops, at, done; /* done: tokens of the op at `at` that were said */
    int parent, depth;
    bool opened, ended, eos;
    int held, first; /* tokens that it holds, and with how many it began */
} plan;

typedef struct tree {
    plan plans[BRANCHES];
    int n;
    naive_event events[EVENTS];
    int n_events;
    uint64_t seed;
    uint32_t draw;
} tree;

static struct {
    uint32_t nested, spawned, late, never, again, held, reply, probe, idle_root, unjoined_longer;
} covered;

static uint32_t below(tree *t, uint32_t bound) {
    return cop_rng_below((cop_rng_key){t->seed, 9, 0}, t->draw++, bound);
}

static void add_op(plan *p, op what) {
    if (p->n_ops < OPS)
        p->ops[p->n_ops++] = what;
}

static void add_tokens(tree *t, plan *p) {
    static const char roles[] = "sssgfr";
    char role = roles[below(t, sizeof roles - 1)];
    covered.probe += role == 'r';
    add_op(p, (op){.kind = 't', .role = role, .n = 1 + (int)below(t, 6)});
}

static int make_branch(tree *t, int parent, int depth);

static int add_fork(tree *t, int self, bool spawn) {
    int child = make_branch(t, self, t->plans[self].depth + 1);
    if (child >= 0)
        add_op(&t->plans[self], (op){.kind = spawn ? 's' : 'f', .other = child});
    return child;
}

static void add_join(tree *t, int self, int child, join_way way) {
    if (child < 0)
        return;
    add_op(&t->plans[self], (op){.kind = 'j', .other = child, .way = way});
    covered.again += way == AGAIN;
    covered.held += way == HOLD;
    covered.reply += way == REPLY;
    if (way == REPLY)
        add_op(&t->plans[self], (op){.kind = 't', .role = 'f', .n = 1 + (int)below(t, 3)});
}

static void add_block(tree *t, int self) {
    int children[4], n = 1 + (int)below(t, 4);
    join_way way = (join_way)below(t, 3);
    for (int i = 0; i < n; i++)
        children[i] = add_fork(t, self, way == REPLY);
    covered.spawned += way == REPLY;
    for (int i = 0; i < n; i++)
        add_join(t, self, children[i], way);
    covered.nested += t->plans[self].depth > 0;
}

/* Forks are put into the plan before their joins; children are made, with their own plans, on the
 * way. */
static int make_branch(tree *t, int parent, int depth) {
    if (t->n == BRANCHES || depth > 3)
        return -1;
    int self = t->n++;
    t->plans[self] = (plan){.parent = parent, .depth = depth};
    int outstanding[BRANCHES], n_out = 0;
    uint32_t parts = 1 + below(t, depth ? 3 : 6);
    for (uint32_t i = 0; i < parts; i++) {
        add_tokens(t, &t->plans[self]);
        uint32_t what = below(t, 4);
        if (what == 0)
            add_block(t, self);
        if (what == 1 && n_out < BRANCHES) {
            int child = add_fork(t, self, below(t, 2));
            if (child >= 0)
                outstanding[n_out++] = child;
        }
        if (what == 2 && n_out > 0) {
            add_join(t, self, outstanding[--n_out], HOLD);
            covered.late++;
        }
    }
    while (n_out > 0) {
        bool join = below(t, 3);
        covered.never += !join;
        if (join)
            add_join(t, self, outstanding[--n_out], REPLY);
        else
            n_out--;
    }
    t->plans[self].eos = below(t, 2);
    return self;
}

static void note(tree *t, naive_event event) {
    CHECK(t->n_events < EVENTS);
    t->events[t->n_events++] = event;
}

static cop_token_role role_of(char role) {
    return role == 'p'   ? COP_ROLE_PROMPT
           : role == 's' ? COP_ROLE_SAID
           : role == 'g' ? COP_ROLE_TAG
           : role == 'f' ? COP_ROLE_FORCED
           : role == 'a' ? COP_ROLE_AGAIN
                         : COP_ROLE_PROBE;
}

static void say(tree *t, cop_trace *trace, int branch, char role, int n) {
    for (int i = 0; i < n; i++)
        note(t, (naive_event){'t', role, branch, branch});
    cop_trace_tokens(trace, (uint32_t)branch, role_of(role), (uint32_t)n);
    t->plans[branch].held += role == 'r' ? 0 : n;
}

/* Numbers are given in the order of the forks as they happen. */
static void open_child(tree *t, cop_trace *trace, int self, const op *what, int *number) {
    plan *child = &t->plans[what->other];
    number[what->other] = (int)cop_trace_fork(trace, (uint32_t)number[self], what->kind == 's');
    note(t, (naive_event){what->kind, 0, self, what->other});
    child->opened = true;
    child->held = child->first = what->kind == 's' ? 0 : t->plans[self].held;
}

/* One thing of a branch: a few tokens, or a step in the tree; false when it must wait. */
static bool advance(tree *t, cop_trace *trace, int self, int *number) {
    plan *p = &t->plans[self];
    if (p->at == p->n_ops) {
        p->ended = true;
        note(t, (naive_event){'e', p->eos ? 'e' : 0, self, self});
        cop_trace_end(trace, (uint32_t)number[self], p->eos);
        return true;
    }
    const op *what = &p->ops[p->at];
    if (what->kind == 't') {
        int n = 1 + (int)below(t, (uint32_t)(what->n - p->done));
        for (int i = 0; i < n; i++)
            note(t, (naive_event){'t', what->role, self, self});
        cop_trace_tokens(trace, (uint32_t)number[self], role_of(what->role), (uint32_t)n);
        p->held += what->role == 'r' ? 0 : n;
        p->done += n;
        if (p->done < what->n)
            return true;
        p->done = 0;
    } else if (what->kind == 'j') {
        const plan *child = &t->plans[what->other];
        if (!child->ended)
            return false;
        int suffix = child->held - child->first;
        int held = what->way == HOLD ? suffix : 0;
        note(t, (naive_event){'j', what->way == HOLD ? 'h' : 0, self, what->other});
        cop_trace_join(trace, (uint32_t)number[self], (uint32_t)number[what->other],
                       (uint32_t)held);
        p->held += held;
        if (what->way == AGAIN) {
            for (int i = 0; i < suffix; i++)
                note(t, (naive_event){'t', 'a', self, self});
            cop_trace_tokens(trace, (uint32_t)number[self], COP_ROLE_AGAIN, (uint32_t)suffix);
            p->held += suffix;
        }
    } else {
        open_child(t, trace, self, what, number);
    }
    p->at++;
    return true;
}

/* Runs every branch in random turns, as a batch of them would. Returns whether it fitted. */
static bool run_tree(tree *t, cop_trace *trace) {
    int number[BRANCHES] = {0};
    t->plans[0].opened = true;
    say(t, trace, 0, 'p', (int)below(t, 9));
    for (bool going = true; going;) {
        going = false;
        for (int i = 0; i < t->n; i++) {
            plan *p = &t->plans[i];
            if (!p->opened || p->ended)
                continue;
            going = true;
            if (t->n_events > EVENTS - 400)
                return false;
            if (below(t, 3) > 0)
                advance(t, trace, i, number);
        }
    }
    return true;
}

static void compare(const cop_trace_figures *f, const naive_figures *naive) {
    CHECK_EQ(f->total, naive->total);
    CHECK_EQ(f->longest_thread, naive->longest_thread);
    CHECK_EQ(f->critical_path, naive->critical_path);
    CHECK_EQ(f->longest_generated, naive->longest_generated);
    CHECK_EQ(f->longest_text, naive->longest_text);
    CHECK_EQ(f->position_critical, naive->position_critical);
    CHECK_EQ(f->longest_sequence, naive->longest_sequence);
    CHECK_EQ(f->longest_sequence_bos_eos, naive->longest_sequence_bos_eos);
    CHECK_EQ(f->longest_branch, naive->longest_branch);
    CHECK_EQ(f->in_branches, naive->in_branches);
    CHECK(f->concurrency == naive->concurrency ||
          (isnan(f->concurrency) && isnan(naive->concurrency)));
}

static void test_random_trees_equal_brute_force(void) {
    uint32_t trees = check_effort(1500, 150), measured = 0, most = 0;
    tree *t = calloc(1, sizeof *t);
    cop_trace trace;
    CHECK_OK(cop_trace_create(BRANCHES, EVENTS, &trace));
    for (uint32_t i = 0; measured < trees; i++) {
        cop_trace_figures f;
        naive_figures naive;
        memset(t, 0, sizeof *t);
        t->seed = 1000 + i;
        make_branch(t, -1, 0);
        cop_trace_reset(&trace);
        if (!run_tree(t, &trace))
            continue;
        bool has_bos = below(t, 2);
        CHECK(cop_trace_measure(&trace, has_bos, &f));
        naive_measure(t->events, t->n_events, t->n, has_bos, &naive);
        compare(&f, &naive);
        uint64_t before = f.critical_path;
        CHECK(cop_trace_measure(&trace, has_bos, &f) && f.critical_path == before);
        covered.idle_root += f.total > 0 && f.longest_generated == 0;
        covered.unjoined_longer += f.longest_branch > f.longest_generated;
        most = (uint32_t)t->n > most ? (uint32_t)t->n : most;
        measured++;
    }
    printf("  %u trees, up to %u branches; nested %u, spawned %u, late %u, never joined %u, again "
           "%u, held %u, replies %u, probes %u, unjoined and longer %u\n",
           measured, most, covered.nested, covered.spawned, covered.late, covered.never,
           covered.again, covered.held, covered.reply, covered.probe, covered.unjoined_longer);
    CHECK(most >= 12 && covered.nested > 20 && covered.spawned > 20 && covered.late > 20 &&
          covered.never > 20 && covered.again > 20 && covered.held > 20 && covered.reply > 20 &&
          covered.probe > 20 && covered.unjoined_longer > 2);
    cop_trace_release(&trace);
    free(t);
}

/* ---- marked sequences ---- */

static void measure_text(const char *tokens, cop_marked_figures *out) {
    static const char kinds[] = "xPpTt.";
    uint8_t marks[512];
    size_t n = strlen(tokens);
    for (size_t i = 0; i < n; i++)
        marks[i] = (uint8_t)(strchr(kinds, tokens[i]) - kinds);
    cop_marked_measure(marks, n, out);
}

static void test_threadweaver_counts_by_hand(void) {
    cop_marked_figures f;
    measure_text("xxPxxTxxtTxxxxtxpxx", &f); /* S 2+1+1+2, outside threads 2+1, tags 4, 2 and 4 */
    CHECK_EQ(f.total, 19);
    CHECK_EQ(f.longest_code, 6 + 3 + 4 + 4);
    CHECK_EQ(f.longest_text, 6 + 3 + 6);
    CHECK_EQ(f.in_blocks, 3 + 4 + 6);
    CHECK_EQ(f.blocks, 1);
    CHECK_EQ(f.threads, 2);
    measure_text("PTxPTxtx", &f); /* inside a thread all is text; its end is the text's end */
    CHECK_EQ(f.longest_code, 8);
    CHECK_EQ(f.threads, 1);
    measure_text("tpTxt", &f); /* outside a block too */
    CHECK_EQ(f.longest_code, 5);
    CHECK_EQ(f.in_blocks, 0);
    measure_text("", &f);
    CHECK_EQ(f.total + f.longest_code, 0);
    measure_text("..P.Tx..tT.t..p", &f); /* tags of several tokens; threads of 1 and of none */
    CHECK_EQ(f.longest_code, 3 + (2 + 3 + 1 + 2) + 1 + 3);
    CHECK_EQ(f.longest_text, 3 + (1 + 2 + 3) + 3);
}

static void test_random_marks_equal_brute_force(void) {
    uint32_t blocks = 0, many = 0;
    for (uint32_t i = 0; i < check_effort(20000, 2000); i++) {
        static const char kinds[] = "xxxPpTTtt.";
        char tokens[64];
        cop_rng_key key = {5, 5, i};
        size_t n = cop_rng_below(key, 0, 60);
        for (size_t k = 0; k < n; k++)
            tokens[k] = kinds[cop_rng_below(key, 1 + (uint32_t)k, sizeof kinds - 1)];
        tokens[n] = '\0';
        cop_marked_figures f;
        naive_marked naive;
        measure_text(tokens, &f);
        naive_measure_marked(tokens, &naive);
        CHECK_EQ(f.total, naive.total);
        CHECK_EQ(f.longest_code, naive.longest_code);
        CHECK_EQ(f.longest_text, naive.longest_text);
        CHECK_EQ(f.in_blocks, naive.in_blocks);
        CHECK_EQ(f.blocks, naive.blocks);
        CHECK_EQ(f.threads, naive.threads);
        blocks += f.blocks > 0;
        many += f.threads > 2;
    }
    CHECK(blocks > 500 && many > 100);
}

/* Words of known parts: outside, and for each block its paths. */
static void test_words_traversed(void) {
    const cop_word_tags tags = {"<Parallel>", "</Parallel>", "<Path>", "</Path>"};
    for (uint32_t i = 0; i < check_effort(2000, 200); i++) {
        cop_rng_key key = {6, 6, i};
        char text[4096] = "";
        uint32_t draw = 0, all = 0, traversed = 0, blocks = cop_rng_below(key, draw++, 4);
        for (uint32_t b = 0; b <= blocks; b++) {
            uint32_t outside = cop_rng_below(key, draw++, 5), longest = 0;
            for (uint32_t k = 0; k < outside; k++)
                strcat(text, " word\n");
            all += outside;
            traversed += outside;
            if (b == blocks)
                break;
            strcat(text, "<Parallel>");
            for (uint32_t p = cop_rng_below(key, draw++, 4); p > 0; p--) {
                uint32_t words = cop_rng_below(key, draw++, 6);
                strcat(text, "<Path>");
                for (uint32_t k = 0; k < words; k++)
                    strcat(text, k ? " w" : "w");
                strcat(text, "</Path>\n");
                all += words;
                longest = words > longest ? words : longest;
            }
            strcat(text, "</Parallel>");
            traversed += longest;
        }
        double gain = cop_efficiency_gain_words(text, strlen(text), &tags);
        CHECK(all ? fabs(gain - (double)(all - traversed) / all) < 1e-12 : isnan(gain));
    }
    static const char open[] = "a b <Parallel><Path>c d</Path><Path>e f g"; /* cut off */
    CHECK(fabs(cop_efficiency_gain_words(open, strlen(open), &tags) - 2.0 / 7) < 1e-12);
    const cop_word_tags none = {"", "", "", ""};
    CHECK(cop_efficiency_gain_words("a b", 3, &none) == 0);
}

static void test_speedups_are_means_of_ratios(void) {
    const double base[] = {100, 300, NAN, 5}, own[] = {50, 100, 1, 0};
    uint32_t used;
    CHECK(cop_speedup_baseline(base, own, 4, &used) == 2.5 && used == 2);
    CHECK(isnan(cop_speedup_baseline(base + 2, own + 2, 2, &used)) && used == 0);
}

int main(void) {
    RUN(test_a_block_by_hand);
    RUN(test_a_late_join_by_hand);
    RUN(test_a_trace_that_makes_no_sense_has_no_figures);
    RUN(test_random_trees_equal_brute_force);
    RUN(test_threadweaver_counts_by_hand);
    RUN(test_random_marks_equal_brute_force);
    RUN(test_words_traversed);
    RUN(test_speedups_are_means_of_ratios);
    return check_report();
}
