/* Shape files, described GPUs, and what the plans cost: against a second implementation of the
 * model (ref/tree_model.py, whose figures stand in ref/fixtures/tree_model.tsv) and against the
 * figures that the design promises. */
#include "check.h"

#include <math.h>

#include "job/plan_compare.h"
#include "job/shape_plan.h"
#include "measure/gpu_figures.h"
#include "measure/tree_shapes.h"

static const char *const published = "configs/shapes/tree_shapes.json";

static cop_status parse(const char *text, cop_shape_file **out) {
    return cop_shape_file_parse(text, strlen(text), "test", out);
}

#define HEADS "\"source\": \"s\", \"head_dim\": 64, \"heads\": [[4, 2]]"
#define LEVELS(nodes, tokens)                                                                      \
    "{\"shapes\": [{" HEADS ", \"nodes_per_level\": " nodes ", \"tokens_per_node\": " tokens "}]}"
#define NODES(parents, tokens)                                                                     \
    "{\"shapes\": [{" HEADS ", \"parents\": " parents ", \"tokens\": " tokens "}]}"

static void test_bad_shapes_are_named(void) {
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"shapes\": [], \"x\": 1}", "x"},
        {"{\"shapes\": []}", "is empty"},
        {"{\"about\": \"none\"}", "shapes"},
        {"{\"shapes\": [{" HEADS "}]}", "needs either nodes_per_level"},
        {"{\"shapes\": [{" HEADS ", \"nodes_per_level\": [1], \"tokens_per_node\": [1], "
         "\"tokens\": [1]}]}",
         "needs either nodes_per_level"},
        {"{\"shapes\": [{" HEADS ", \"nodes_per_level\": [1], \"tokens_per_node\": [1], "
         "\"branch\": 1}]}",
         "branch"},
        {"{\"shapes\": [{" HEADS ", \"nodes_per_level\": [2], \"tokens_per_node\": [9], "
         "\"branches\": 3}]}",
         "says 3, the tree has 2"},
        {"{\"shapes\": [{" HEADS ", \"nodes_per_level\": [1, 2], \"tokens_per_node\": [9, 9], "
         "\"sharing\": 2.0}]}",
         "says 2.00, the tree has 1.33"},
        {LEVELS("[-1]", "[5]"), "nodes_per_level[0]"},
        {LEVELS("[1]", "[-5]"), "tokens_per_node[0]"},
        {LEVELS("[1.5]", "[5]"), "nodes_per_level[0]"},
        {LEVELS("[0]", "[5]"), "nodes_per_level[0]"},
        {LEVELS("[1]", "[99999999999]"), "tokens_per_node[0]"},
        {LEVELS("[1]", "[1e30]"), "tokens_per_node[0]"},
        {LEVELS("[4000000000]", "[5]"), "nodes_per_level[0]"},
        {LEVELS("[131072, 131072]", "[5, 5]"), "more than 131072 nodes"},
        {LEVELS("[131072]", "[16777216]"), "KV tokens; at most"},
        {LEVELS("[1, 2]", "[5]"), "has 1 levels, nodes_per_level has 2"},
        {LEVELS("[4, 2]", "[5, 5]"), "fewer than the 4 above"},
        {LEVELS("[]", "[]"), "holds 0 numbers"},
        {NODES("[0]", "[5]"), "has a cycle above node 0"},
        {NODES("[-1, 2, 3, 1]", "[5, 5, 5, 5]"), "has a cycle above node 1"},
        {NODES("[1, 0, 1]", "[5, 5, 5]"), "has a cycle above node 0"},
        {NODES("[-1, 2]", "[5, 5]"), "parents[1]"},
        {NODES("[-1, -2]", "[5, 5]"), "parents[1]"},
        {NODES("[-1]", "[5, 5]"), "names 1 nodes, tokens has 2"},
        {"{\"shapes\": [{\"source\": \"s\", \"head_dim\": 80, \"heads\": [[4, 2]], "
         "\"nodes_per_level\": [1], \"tokens_per_node\": [1]}]}",
         "head size that no kernel has"},
        {"{\"shapes\": [{\"source\": \"s\", \"head_dim\": 64, \"heads\": [[5, 2]], "
         "\"nodes_per_level\": [1], \"tokens_per_node\": [1]}]}",
         "not a multiple"},
        {"{\"shapes\": [{\"source\": \"s\", \"head_dim\": 64, \"heads\": [[4, 0]], "
         "\"nodes_per_level\": [1], \"tokens_per_node\": [1]}]}",
         "heads[0][1]"},
        {"{\"shapes\": [{\"source\": \"s\", \"head_dim\": 64, \"heads\": [4], "
         "\"nodes_per_level\": [1], \"tokens_per_node\": [1]}]}",
         "[query heads, KV heads]"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cop_shape_file *file;
        const cop_status status = parse(bad[i].text, &file);
        if (status != COP_ERR_CONFIG || file || !strstr(cop_status_message(), bad[i].message)) {
            fprintf(stderr, "%s\n gave %s: %s\n not \"%s\"\n", bad[i].text, cop_status_name(status),
                    cop_status_message(), bad[i].message);
            exit(1);
        }
        CHECK_EQ(cop_status_exit_code(status), 2);
    }
    cop_shape_file *file;
    CHECK_STATUS(cop_shape_file_load("/nonexistent.json", &file), COP_ERR_IO);
    CHECK_STATUS(parse("{", &file), COP_ERR_CONFIG);
}

static void test_a_tree_node_by_node(void) {
    cop_shape_file *file;
    CHECK_OK(parse(NODES("[3, -1, 3, 1, -1]", "[7, 100, 0, 64, 5]"), &file));
    const cop_tree_shape *shape = cop_shape_file_shape(file, 0);
    static const uint32_t parent[] = {COP_COST_ROOT, COP_COST_ROOT, 0, 2, 2};
    static const uint32_t tokens[] = {100, 5, 64, 7, 0}, rows[] = {2, 1, 2, 1, 1};
    CHECK_EQ(shape->tree.n_nodes, 5);
    CHECK_EQ(shape->tree.n_levels, 3);
    CHECK_EQ(shape->tree.n_rows, 3);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(shape->tree.parent[i], parent[i]);
        CHECK_EQ(shape->tree.tokens[i], tokens[i]);
        CHECK_EQ(shape->tree.rows[i], rows[i]);
    }
    CHECK_EQ(shape->unique_tokens, 176);
    CHECK_EQ(shape->unshared_tokens, 100 * 2 + 5 + 64 * 2 + 7);
    cop_tree_shape small;
    CHECK_OK(cop_tree_shape_shrink(file, shape, 8, &small));
    CHECK_EQ(small.tree.tokens[0], 13);
    CHECK_EQ(small.tree.tokens[3], 1);
    CHECK_EQ(small.tree.tokens[4], 0);
    cop_shape_file_destroy(file);
}

/* A chain of as many levels as are accepted, listed children first, and one level more. */
static void test_deep_trees_end_at_a_limit(void) {
    for (uint32_t levels = COP_SHAPE_LEVELS_MAX; levels <= COP_SHAPE_LEVELS_MAX + 1; levels++) {
        char text[4096];
        int n = snprintf(text, sizeof text, "{\"shapes\": [{" HEADS ", \"parents\": [");
        for (uint32_t i = 0; i < levels; i++)
            n += snprintf(text + n, sizeof text - (size_t)n, "%d%s",
                          i + 1 < levels ? (int)i + 1 : -1, i + 1 < levels ? ", " : "]");
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"tokens\": [");
        for (uint32_t i = 0; i < levels; i++)
            n += snprintf(text + n, sizeof text - (size_t)n, "1%s", i + 1 < levels ? ", " : "]}]}");
        cop_shape_file *file;
        if (levels == COP_SHAPE_LEVELS_MAX) {
            CHECK_OK(parse(text, &file));
            CHECK_EQ(cop_shape_file_shape(file, 0)->tree.n_levels, levels);
            cop_shape_file_destroy(file);
        } else {
            CHECK_STATUS(parse(text, &file), COP_ERR_CONFIG);
            CHECK_MESSAGE("levels deep");
        }
    }
}

static void test_published_shapes_load(void) {
    cop_shape_file *file;
    CHECK_OK(cop_shape_file_load(published, &file));
    CHECK_EQ(cop_shape_file_count(file), 38);
    CHECK_EQ(cop_shape_file_mix_count(file), 5);
    const cop_shape_mix *mix = cop_shape_file_mix(file, 1);
    CHECK_EQ(mix->n_parts, 2);
    CHECK_EQ(mix->parts[1].kv_tokens, 5000);
    CHECK_EQ(mix->parts[1].query_rows, 3);
    CHECK_EQ(cop_shape_file_mix(file, 4)->parts[1].kv_tokens, 45118);
    cop_shape_file_destroy(file);
}

static void test_described_gpus_load(void) {
    static const char *const names[] = {"h100", "h200", "a100", "rtx4090", "rtx5090", "b200"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[64];
        cop_gpu_figures gpu;
        snprintf(path, sizeof path, "configs/gpus/%s.json", names[i]);
        CHECK_OK(cop_gpu_figures_load(path, &gpu));
        CHECK(gpu.model.resident_blocks == gpu.processors * gpu.blocks_per_processor);
        CHECK(gpu.model.l2_bytes_per_s > gpu.model.dram_bytes_per_s);
        CHECK(gpu.model.resident_blocks * gpu.model.block_bytes_per_s > gpu.dram_bytes_per_s);
    }
    cop_gpu_figures gpu;
    CHECK_STATUS(cop_gpu_figures_load(published, &gpu), COP_ERR_CONFIG);
}

static void check_close(double is, double expected, double tolerance, const char *what,
                        uint32_t shape) {
    if (!(fabs(is - expected) <= tolerance * expected)) {
        fprintf(stderr, "shape %u: %s is %.17g, not %.17g\n", shape, what, is, expected);
        exit(1);
    }
}

/* The other plans and the bound: to the last bits but summation order. The walk: the tables cut at
 * leaves where the paper model cuts at tokens, which moves the mean by less than 1 %. */
static void test_costs_are_those_of_the_second_implementation(void) {
    cop_shape_file *file;
    cop_gpu_figures gpu;
    CHECK_OK(cop_shape_file_load(published, &file));
    CHECK_OK(cop_gpu_figures_load("configs/gpus/h100.json", &gpu));
    FILE *fixture = fopen("tests/ref/fixtures/tree_model.tsv", "r");
    CHECK(fixture);
    cop_plan_means sums = {0};
    double walk_model = 0, best_model = 0;
    uint32_t cases = 0;
    for (uint32_t s = 0; s < cop_shape_file_count(file); s++) {
        const cop_tree_shape *shape = cop_shape_file_shape(file, s);
        cop_plan_compare compared[COP_SHAPE_HEAD_PAIRS_MAX];
        CHECK_OK(cop_plan_compare_shape(shape, &gpu.model, 2, false, compared));
        for (uint32_t h = 0; h < shape->n_heads; h++) {
            const cop_plan_compare *c = &compared[h];
            CHECK_EQ(c->walk.cost.launches, 1);
            CHECK_EQ(c->walk.cost.bytes.kv_first_bytes, c->minimum_bytes);
            CHECK(c->walk.cost.bytes.kv_load_bytes >= c->minimum_bytes);
            CHECK_EQ(c->levels.launches, 2 * shape->tree.n_levels - 1);
            CHECK_EQ(c->walk.cost.bytes.flops, c->unshared.bytes.flops);
            CHECK_EQ(c->segment.bytes.flops, c->unshared.bytes.flops);
        }
        for (uint32_t h = 0; h < shape->n_heads && h < 2; h++) {
            const cop_plan_compare *c = &compared[h];
            uint32_t index, query, kv;
            double is[6];
            CHECK_EQ(fscanf(fixture, "%u %u %u %lf %lf %lf %lf %lf %lf", &index, &query, &kv,
                            &is[0], &is[1], &is[2], &is[3], &is[4], &is[5]),
                     9);
            CHECK(index == s && query == c->heads.n_heads && kv == c->heads.n_kv_heads);
            check_close(c->bound_s, is[0], 1e-12, "bound", s);
            check_close(c->unshared.seconds, is[1], 1e-12, "unshared", s);
            check_close(c->segment.seconds, is[2], 1e-12, "segment", s);
            check_close(c->levels.seconds, is[3], 1e-12, "levels", s);
            cop_plan_means_add(&sums, c, 10e-6);
            walk_model += is[0] >= 10e-6 ? log(is[4] / is[0]) : 0;
            best_model += is[0] >= 10e-6 ? log(is[5] / is[0]) : 0;
            cases += is[0] >= 10e-6;
        }
    }
    fclose(fixture);
    cop_shape_file_destroy(file);
    const cop_plan_means means = cop_plan_means_read(&sums);
    printf("  %u cases: unshared %.2f, levels %.2f, segment %.2f, walk %.3f, best rule %.3f, best "
           "against the others at most %.3f\n",
           means.cases, means.unshared, means.levels, means.segment, means.walk, means.walk_best,
           means.worst_against_others);
    CHECK_EQ(means.cases, 44);
    CHECK_EQ(cases, 44);
    CHECK_EQ(lround(means.unshared * 100), 926);
    CHECK_EQ(lround(means.levels * 100), 185);
    CHECK_EQ(lround(means.segment * 100), 139);
    CHECK_EQ(lround(means.walk * 100), 111);
    CHECK_EQ(lround(means.walk_best * 100), 109);
    check_close(means.walk, exp(walk_model / cases), 0.01, "mean of the walk", 0);
    check_close(means.walk_best, exp(best_model / cases), 0.01, "mean of the best walk", 0);
    CHECK(means.walk <= 1.15);
    CHECK(means.walk_best <= 1.12);
    CHECK(means.worst_against_others <= 1.10);
}

/* By hand: 2 roots of 100 tokens, of which one has 3 children of 10; one KV head, d = 64, G = 2. */
static void test_costs_by_hand(void) {
    cop_shape_file *file;
    CHECK_OK(parse("{\"shapes\": [{\"source\": \"s\", \"head_dim\": 64, \"heads\": [[2, 1]], "
                   "\"parents\": [-1, -1, 0, 0, 0], \"tokens\": [100, 100, 10, 10, 10]}]}",
                   &file));
    const cop_tree_shape *shape = cop_shape_file_shape(file, 0);
    const cop_gpu_model gpu = {.dram_bytes_per_s = 1e9,
                               .l2_bytes_per_s = 2e9,
                               .block_bytes_per_s = 1e9,
                               .item_s = 1e-6,
                               .launch_s = 1e-3,
                               .resident_blocks = 2};
    cop_plan_compare c;
    CHECK_OK(cop_plan_compare_shape(shape, &gpu, 2, false, &c));
    CHECK_EQ(c.minimum_bytes, 230 * 256);
    CHECK_EQ(c.unshared.bytes.kv_load_bytes, (3 * 110 + 100) * 256);
    CHECK_EQ(c.unshared.bytes.partial_bytes, 0);
    CHECK_EQ(c.segment.bytes.kv_load_bytes, 230 * 256);
    CHECK_EQ(c.segment.bytes.items, 5);
    /* three rows with two parts, one with a single part, which writes none */
    CHECK_EQ(c.segment.bytes.partial_bytes, 6 * 2 * 2 * (4 * 64 + 8));
    CHECK_EQ(c.segment.bytes.query_bytes, 7 * 2 * 64 * 2);
    CHECK_EQ(c.segment.bytes.output_bytes, 4 * 2 * 64 * 2);
    CHECK_EQ(c.levels.launches, 3);
    CHECK_EQ(c.walk.cost.bytes.partial_bytes, 0);
    CHECK_EQ(c.walk.cost.bytes.flops, 4 * 64 * 2 * (3 * 110 + 100));
    /* two blocks: 100 then 10 and 10; 100 then 10 */
    check_close(c.segment.seconds, fmax(120 * 256e-9 + 3e-6, (230 * 256 + 6336 + 2816) / 1e9),
                1e-12, "segment", 0);
    check_close(c.levels.seconds, c.segment.seconds + 2e-3, 1e-12, "levels", 0);
    cop_shape_file_destroy(file);
}

int main(void) {
    RUN(test_bad_shapes_are_named);
    RUN(test_a_tree_node_by_node);
    RUN(test_deep_trees_end_at_a_limit);
    RUN(test_published_shapes_load);
    RUN(test_described_gpus_load);
    RUN(test_costs_by_hand);
    RUN(test_costs_are_those_of_the_second_implementation);
    return check_report();
}
