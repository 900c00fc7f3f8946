/* 1,024 branches and more at once, over eight levels, random ones pruned and blocks joined, in a
 * pool of 60 percent of what they need: queue and recompute lose nothing and say the same tokens,
 * prune-lowest completes. */
#include "ref/wide_runs.h"

static void test_a_wide_tree_in_a_small_pool(void) {
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    wide_check(&(wide_runs){.model = model, .backend = "cpu", .arith = COP_ARITH_F32, .words = 5});
    cop_model_close(model);
}

int main(void) {
    RUN(test_a_wide_tree_in_a_small_pool);
    return check_report();
}
