/* Which instruction set the cpu backend runs on, chosen when it is created. The declared
 * arithmetics give the same bits on all of them (backend/arith.h). */
#pragma once

#include <stdbool.h>

#include "base/status.h"

typedef enum cop_isa {
    COP_ISA_PORTABLE,
    COP_ISA_AVX2,   /* AVX2, FMA, F16C */
    COP_ISA_AVX512, /* F, BW, VL, DQ */
} cop_isa;

const char *cop_isa_name(cop_isa isa);                     /* "portable", "avx2", "avx512" */
bool cop_isa_available(cop_isa isa);                       /* this machine can run it */
bool cop_isa_has_vnni(void);                               /* AVX512-VNNI as well */
cop_status cop_isa_choose(const char *name, cop_isa *out); /* NULL: the best one */
