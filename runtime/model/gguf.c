#include "model/gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/sha256.h"

static cop_status create(const char *source, cop_gguf **out) {
    size_t bytes = strlen(source) + 1;
    cop_gguf *gguf = cop_calloc(1, sizeof *gguf);
    char *copy = cop_calloc(bytes, 1);
    if (!gguf || !copy) {
        cop_free(gguf);
        cop_free(copy);
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory to open it", source);
    }
    gguf->source = memcpy(copy, source, bytes);
    gguf->descriptor = -1;
    *out = gguf;
    return COP_OK;
}

void cop_gguf_close(cop_gguf *gguf) {
    if (!gguf)
        return;
    for (size_t i = 0; gguf->keys && i < gguf->n_keys; i++)
        cop_free(gguf->keys[i].table);
    if (gguf->descriptor >= 0) {
        if (gguf->data)
            munmap((void *)(uintptr_t)gguf->data, gguf->bytes);
        close(gguf->descriptor);
    }
    cop_free(gguf->keys);
    cop_free(gguf->keys_sorted);
    cop_free(gguf->tensors);
    cop_free(gguf->tensors_sorted);
    cop_free(gguf->source);
    cop_free(gguf);
}

static cop_status map(cop_gguf *gguf) {
    /* O_NONBLOCK: opening a pipe must fail below, not wait for a writer. */
    gguf->descriptor = open(gguf->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (gguf->descriptor < 0 || fstat(gguf->descriptor, &info) != 0)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", gguf->source, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return COP_FAIL(COP_ERR_IO, "%s: is not a regular file; give a GGUF file", gguf->source);
    if (info.st_size == 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s: is empty; fetch it again", gguf->source);
    size_t bytes = (size_t)info.st_size;
    void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, gguf->descriptor, 0);
    if (data == MAP_FAILED)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be mapped: %s", gguf->source, strerror(errno));
    gguf->data = data;
    gguf->bytes = bytes;
    return COP_OK;
}

cop_status cop_gguf_open(const char *path, cop_gguf **out) {
    cop_gguf *gguf = NULL;
    *out = NULL;
    COP_TRY(create(path, &gguf));
    cop_status status = map(gguf);
    if (status == COP_OK)
        status = cop__gguf_parse(gguf);
    if (status == COP_OK)
        *out = gguf;
    else
        cop_gguf_close(gguf);
    return status;
}

cop_status cop_gguf_open_memory(const void *data, size_t bytes, cop_gguf **out) {
    cop_gguf *gguf = NULL;
    *out = NULL;
    if ((uintptr_t)data % COP__GGUF_ALIGNMENT_MIN != 0)
        return COP_FAIL(COP_ERR_USAGE, "a GGUF in memory must be aligned to %d bytes",
                        COP__GGUF_ALIGNMENT_MIN);
    COP_TRY(create("GGUF in memory", &gguf));
    gguf->data = data;
    gguf->bytes = bytes;
    cop_status status = cop__gguf_parse(gguf);
    if (status == COP_OK)
        *out = gguf;
    else
        cop_gguf_close(gguf);
    return status;
}

cop_status cop_gguf_check_size(const cop_gguf *gguf) {
    struct stat info;
    if (gguf->descriptor < 0)
        return COP_OK;
    if (fstat(gguf->descriptor, &info) != 0)
        return COP_FAIL(COP_ERR_IO, "%s: its size cannot be read: %s", gguf->source,
                        strerror(errno));
    if ((uint64_t)info.st_size < gguf->bytes)
        return COP_FAIL(COP_ERR_IO,
                        "%s: has shrunk from %" PRIu64 " to %" PRIu64
                        " bytes while in use; restore it and start again",
                        gguf->source, gguf->bytes, (uint64_t)info.st_size);
    return COP_OK;
}

cop_status cop_gguf_sha256(const cop_gguf *gguf, char hex[65]) {
    if (gguf->descriptor >= 0)
        return cop_sha256_of_descriptor(gguf->descriptor, gguf->source, hex);
    cop_sha256_of(gguf->data, gguf->bytes, hex);
    return COP_OK;
}

const char *cop_gguf_source(const cop_gguf *gguf) {
    return gguf->source;
}

uint64_t cop_gguf_bytes(const cop_gguf *gguf) {
    return gguf->bytes;
}

static const char *kind_of(const cop__gguf_key *key) {
    if (key->array)
        return "an array";
    switch (key->type) {
    case COP__GGUF_TEXT:
        return "a text";
    case COP__GGUF_BOOL:
        return "a boolean";
    case COP__GGUF_F32:
    case COP__GGUF_F64:
        return "a float";
    default:
        return "an integer";
    }
}

static cop_status wrong_kind(const cop_gguf *gguf, const cop__gguf_key *key, const char *want) {
    return COP_FAIL(COP_ERR_FORMAT, "%s: key '%s' is %s; %s was expected", gguf->source,
                    cop__gguf_show(key->name).text, kind_of(key), want);
}

static cop_status find(const cop_gguf *gguf, const char *name, const cop__gguf_key **out) {
    ptrdiff_t index = cop__gguf_find_key(gguf, name);
    if (index < 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s: key '%s' is missing", gguf->source, name);
    *out = &gguf->keys[index];
    return COP_OK;
}

bool cop_gguf_has(const cop_gguf *gguf, const char *key) {
    return cop__gguf_find_key(gguf, key) >= 0;
}

size_t cop_gguf_key_count(const cop_gguf *gguf) {
    return gguf->n_keys;
}

cop_text cop_gguf_key_name(const cop_gguf *gguf, size_t index) {
    return gguf->keys[index].name;
}

cop_status cop_gguf_u64(const cop_gguf *gguf, const char *key, uint64_t *out) {
    const cop__gguf_key *found = NULL;
    COP_TRY(find(gguf, key, &found));
    int64_t number = 0;
    uint32_t bytes = 0;
    if (!found->array) {
        switch (found->type) {
        case COP__GGUF_I8:
            number = (int8_t)found->data[0];
            /* fall through */
        case COP__GGUF_U8:
            bytes = 1;
            break;
        case COP__GGUF_I16:
            number = (int16_t)cop__gguf_load(found->data, 2);
            /* fall through */
        case COP__GGUF_U16:
            bytes = 2;
            break;
        case COP__GGUF_I32:
            number = (int32_t)cop__gguf_load(found->data, 4);
            /* fall through */
        case COP__GGUF_U32:
            bytes = 4;
            break;
        case COP__GGUF_I64:
            number = (int64_t)cop__gguf_load(found->data, 8);
            /* fall through */
        case COP__GGUF_U64:
            bytes = 8;
            break;
        default:
            break;
        }
    }
    if (bytes == 0)
        return wrong_kind(gguf, found, "an integer");
    if (number < 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s: key '%s' is %" PRId64 "; it must not be negative",
                        gguf->source, key, number);
    *out = cop__gguf_load(found->data, bytes);
    return COP_OK;
}

cop_status cop_gguf_f64(const cop_gguf *gguf, const char *key, double *out) {
    const cop__gguf_key *found = NULL;
    COP_TRY(find(gguf, key, &found));
    if (!found->array && found->type == COP__GGUF_F32) {
        float value;
        memcpy(&value, found->data, sizeof value);
        *out = (double)value;
        return COP_OK;
    }
    if (found->array || found->type != COP__GGUF_F64)
        return wrong_kind(gguf, found, "a float");
    memcpy(out, found->data, sizeof *out);
    return COP_OK;
}

cop_status cop_gguf_bool(const cop_gguf *gguf, const char *key, bool *out) {
    const cop__gguf_key *found = NULL;
    COP_TRY(find(gguf, key, &found));
    if (found->array || found->type != COP__GGUF_BOOL)
        return wrong_kind(gguf, found, "a boolean");
    *out = found->data[0] != 0;
    return COP_OK;
}

cop_status cop_gguf_text(const cop_gguf *gguf, const char *key, cop_text *out) {
    const cop__gguf_key *found = NULL;
    COP_TRY(find(gguf, key, &found));
    if (found->array || found->type != COP__GGUF_TEXT)
        return wrong_kind(gguf, found, "a text");
    *out = (cop_text){(const char *)found->data, found->count};
    return COP_OK;
}

cop_status cop_gguf_text_array(const cop_gguf *gguf, const char *key, const cop_text **out,
                               size_t *count) {
    const cop__gguf_key *found = NULL;
    COP_TRY(find(gguf, key, &found));
    if (!found->array || found->type != COP__GGUF_TEXT)
        return wrong_kind(gguf, found, "an array of texts");
    *out = found->table;
    *count = found->count;
    return COP_OK;
}

cop_status cop_gguf_i32_array(const cop_gguf *gguf, const char *key, const int32_t **out,
                              size_t *count) {
    const cop__gguf_key *found = NULL;
    COP_TRY(find(gguf, key, &found));
    if (!found->array || (found->type != COP__GGUF_I32 && found->type != COP__GGUF_U32))
        return wrong_kind(gguf, found, "an array of 32-bit integers");
    *out = found->table ? found->table : (const int32_t *)(const void *)found->data;
    *count = found->count;
    return COP_OK;
}

size_t cop_gguf_tensor_count(const cop_gguf *gguf) {
    return gguf->n_tensors;
}

cop_text cop_gguf_tensor_name(const cop_gguf *gguf, size_t index) {
    return gguf->tensors[index].name;
}

const cop_tensor *cop_gguf_tensor_at(const cop_gguf *gguf, size_t index) {
    return &gguf->tensors[index].tensor;
}

const cop_tensor *cop_gguf_tensor(const cop_gguf *gguf, const char *name) {
    ptrdiff_t index = cop__gguf_find_tensor(gguf, name);
    return index < 0 ? NULL : &gguf->tensors[index].tensor;
}
