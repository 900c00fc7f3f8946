#include "backend/cpu/isa.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { ISA_COUNT = COP_ISA_AVX512 + 1 };

static const char *const names[ISA_COUNT] = {"portable", "avx2", "avx512"};

const char *cop_isa_name(cop_isa isa) {
    return names[isa];
}

#if defined(__x86_64__)
static bool has_f16c(void) { /* not every compiler's __builtin_cpu_supports knows the name */
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool cop_isa_available(cop_isa isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    switch (isa) {
    case COP_ISA_PORTABLE:
        return true;
    case COP_ISA_AVX2:
        return avx2;
    case COP_ISA_AVX512:
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    }
    return false;
#else
    return isa == COP_ISA_PORTABLE;
#endif
}

bool cop_isa_has_vnni(void) {
#if defined(__x86_64__)
    return cop_isa_available(COP_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

static cop_status choose_named(const char *name, const char *origin, cop_isa *out) {
    for (int i = 0; i < ISA_COUNT; i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        if (!cop_isa_available((cop_isa)i))
            return COP_FAIL(COP_ERR_UNSUPPORTED,
                            "%s asks for instruction set \"%s\", which this machine does not have: "
                            "leave it out to use the best one",
                            origin, name);
        *out = (cop_isa)i;
        return COP_OK;
    }
    return COP_FAIL(COP_ERR_USAGE,
                    "%s names instruction set \"%s\", which is unknown: use portable, avx2 or "
                    "avx512",
                    origin, name);
}

cop_status cop_isa_choose(const char *name, cop_isa *out) {
    if (name)
        return choose_named(name, "the option isa", out);
    const char *forced = getenv("COPPICE_ISA");
    if (forced && *forced)
        return choose_named(forced, "the environment variable COPPICE_ISA", out);
    *out = COP_ISA_PORTABLE;
    for (int i = 0; i < ISA_COUNT; i++)
        if (cop_isa_available((cop_isa)i))
            *out = (cop_isa)i;
    return COP_OK;
}
