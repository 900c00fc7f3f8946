#include "backend/arith.h"

#include <string.h>

static const char *const names[COP_ARITH_COUNT] = {"f32", "bf16", "native-f32", "native-a8"};

const char *cop_arith_name(cop_arith arith) {
    return names[arith];
}

cop_status cop_arith_parse(const char *name, cop_arith *out) {
    for (int i = 0; i < COP_ARITH_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (cop_arith)i;
            return COP_OK;
        }
    }
    if (strcmp(name, "native") == 0) {
        *out = COP_ARITH_NATIVE_A8;
        return COP_OK;
    }
    return COP_FAIL(COP_ERR_USAGE,
                    "arithmetic \"%s\" is unknown: use f32, bf16, native-f32 or native-a8", name);
}
