/* The wide tree of test_engine_wide over the emulated CUDA backend: a small pool takes nothing away
 * there either, and all is as on the cpu in a roomy one. Fewer words a branch, never fewer branches
 * than 1,024 at once. */
#include "cuda_emulation/cuda_emulation.h"
#include "ref/wide_runs.h"
#include "small_model.h"

const cop_backend_ops *cop_backend_module(uint32_t abi); /* of the backend under test */
cop_status __real_cop_backend_find(const char *name, const cop_backend_ops **out);
cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out);

cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out) {
    if (strcmp(name, "cuda") != 0)
        return __real_cop_backend_find(name, out);
    *out = cop_backend_module(COP_BACKEND_ABI);
    return COP_OK;
}

static void test_a_wide_tree_in_a_small_pool(void) {
    static const small_model tiny = {1, 64, 1, 1, 64, 64, 128, true, "BF16", NULL};
    cemu_reset(&(cemu_options){.order = CEMU_EAGER, .processors = 1});
    cop_model *model = small_model_open(&tiny);
    wide_check(&(wide_runs){.model = model,
                            .backend = "cuda",
                            .arith = COP_ARITH_BF16,
                            .products = COP_PRODUCTS_FAST,
                            .n_samples = 3,
                            .words = 1,
                            .n_policies = check_effort(3, 1)});
    cop_model_close(model);
    for (uint32_t i = 0; i < 4 && cemu_fault_text(i, NULL); i++)
        fprintf(stderr, "%s\n", cemu_fault_text(i, NULL));
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
    CHECK_TEXT(cemu_leaks(), "");
}

int main(void) {
    RUN(test_a_wide_tree_in_a_small_pool);
    return check_report();
}
