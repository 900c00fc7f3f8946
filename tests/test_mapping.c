#include "base/mapping.h"

#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
static bool guarded(const void *at) {
    return __asan_address_is_poisoned(at);
}
#else
static bool guarded(const void *at) {
    (void)at;
    return true;
}
#endif

static void test_it_is_aligned_zero_and_whole(void) {
    static const size_t sizes[] = {1, 64, 4095, 2 << 20, (2 << 20) + 8, 9 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cop_mapping m;
        CHECK(cop_mapping_create(sizes[i], &m));
        CHECK_EQ(m.bytes, sizes[i]);
        CHECK_EQ((uintptr_t)m.start % (2 << 20), 0);
        unsigned char *bytes = m.start;
        for (size_t k = 0; k < sizes[i]; k++) {
            CHECK(bytes[k] == 0);
            bytes[k] = 1;
        }
        CHECK(guarded(bytes - 1) && guarded(bytes + sizes[i]) && guarded(bytes + sizes[i] + 55));
        cop_mapping_destroy(&m);
        CHECK(m.start == NULL);
        cop_mapping_destroy(&m);
    }
}

static void test_what_cannot_be_had(void) {
    static const size_t sizes[] = {SIZE_MAX, PTRDIFF_MAX, (size_t)1 << 62};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cop_mapping m = {.start = &m, .whole = &m};
        CHECK(!cop_mapping_create(sizes[i], &m));
        CHECK(m.start == NULL && m.whole == NULL);
        cop_mapping_destroy(&m);
    }
}

int main(void) {
    RUN(test_it_is_aligned_zero_and_whole);
    RUN(test_what_cannot_be_had);
    return check_report();
}
