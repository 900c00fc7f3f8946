/* The safetensors reader on any bytes: what it accepts is read whole. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    cop_safetensors *file;
    uint8_t *copy = malloc(bytes ? bytes : 1); /* with nothing behind its end */
    memcpy(copy, data, bytes);
    if (cop_safetensors_open_memory(copy, bytes, &file) == COP_OK) {
        uint64_t sum = 0;
        for (size_t i = 0; i < cop_safetensors_count(file); i++) {
            const cop_safetensors_tensor *tensor = cop_safetensors_at(file, i);
            for (uint64_t b = 0; b < tensor->bytes; b++)
                sum += tensor->data[b];
            float *values = malloc(tensor->bytes * 4 + 4);
            if (cop_safetensors_read(file, tensor, values) == COP_OK && tensor->values > 0)
                sum += values[tensor->values - 1] > 0;
            free(values);
        }
        if (sum == UINT64_MAX) /* what was read counts for something */
            abort();
        cop_safetensors_close(file);
    } else if (!cop_status_message()[0]) {
        abort();
    }
    free(copy);
    return 0;
}
