/* Stand-in for the types of data that CUDA's libraries share: see cuda_runtime_api.h. */
#pragma once

#include "cuda_runtime_api.h"

typedef enum cudaDataType_t { CUDA_DATA_TYPES(CUDA_DECLARE_VALUE) } cudaDataType;
