/* The GGUF loader, and the model and tokenizer that are made from what it accepts, on any bytes.
 * Seeds: tests/fuzz/corpus/gguf/, written by test_model --write-seeds. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool condition) {
    if (!condition)
        abort();
}

/* Every byte that an accepted file hands out is read, so that the sanitizer sees them all. */
static void read_all(const cop_gguf *gguf) {
    volatile uint64_t sum = 0;
    for (size_t i = 0; i < cop_gguf_key_count(gguf); i++) {
        cop_text name = cop_gguf_key_name(gguf, i), text;
        const cop_text *texts;
        const int32_t *numbers;
        char key[256];
        size_t count;
        uint64_t u64;
        double f64;
        bool flag;
        if (name.bytes >= sizeof key)
            continue;
        memcpy(key, name.data, name.bytes);
        key[name.bytes] = '\0';
        must(cop_gguf_has(gguf, key));
        if (cop_gguf_u64(gguf, key, &u64) == COP_OK)
            sum += u64;
        if (cop_gguf_f64(gguf, key, &f64) == COP_OK)
            sum += f64 > 0;
        if (cop_gguf_bool(gguf, key, &flag) == COP_OK)
            sum += flag;
        if (cop_gguf_text(gguf, key, &text) == COP_OK)
            for (size_t b = 0; b < text.bytes; b++)
                sum += (uint8_t)text.data[b];
        if (cop_gguf_text_array(gguf, key, &texts, &count) == COP_OK)
            for (size_t t = 0; t < count; t++)
                for (size_t b = 0; b < texts[t].bytes; b++)
                    sum += (uint8_t)texts[t].data[b];
        if (cop_gguf_i32_array(gguf, key, &numbers, &count) == COP_OK)
            for (size_t n = 0; n < count; n++)
                sum += (uint32_t)numbers[n];
    }
    for (size_t i = 0; i < cop_gguf_tensor_count(gguf); i++) {
        const cop_tensor *tensor = cop_gguf_tensor_at(gguf, i);
        sum += cop_dtype_count_nonfinite(tensor->type, tensor->data, tensor->rows * tensor->cols);
        must(tensor->rows > 0 && tensor->cols > 0 && tensor->bytes <= cop_gguf_bytes(gguf));
    }
    (void)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    cop_gguf *gguf;
    cop_model *model;
    uint8_t *copy = malloc(bytes ? bytes : 1); /* aligned, and with nothing behind its end */
    memcpy(copy, data, bytes);
    if (cop_gguf_open_memory(copy, bytes, &gguf) == COP_OK) {
        read_all(gguf);
        if (cop__model_open_gguf(gguf, "fuzz", &model) == COP_OK) {
            uint64_t values;
            char first[COP_WEIGHT_NAME_BYTES];
            must(cop_model_count_nonfinite(model, &values, first) == COP_OK);
            must(cop_model_weight_bytes(model) <= bytes);
            cop_model_close(model);
        } else {
            must(!model && cop_status_message()[0]);
        }
    } else {
        must(!gguf && cop_status_message()[0]);
    }
    free(copy);
    return 0;
}
