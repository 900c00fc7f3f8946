#if defined(__AVX2__)
#include "backend/cpu/ops.h"

extern const cop_cpu_ops cop__cpu_ops_avx2;
#define COP_OPS_TABLE cop__cpu_ops_avx2
#include "backend/cpu/ops_body.h"
#endif
