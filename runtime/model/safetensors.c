#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "model/safetensors_internal.h"

static cop_status create(const char *source, cop_safetensors **out) {
    size_t bytes = strlen(source) + 1;
    cop_safetensors *file = cop_calloc(1, sizeof *file);
    char *copy = cop_calloc(bytes, 1);
    if (!file || !copy) {
        cop_free(file);
        cop_free(copy);
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory to open it", source);
    }
    file->source = memcpy(copy, source, bytes);
    file->descriptor = -1;
    *out = file;
    return COP_OK;
}

void cop_safetensors_close(cop_safetensors *file) {
    if (!file)
        return;
    if (file->descriptor >= 0) {
        if (file->data)
            munmap((void *)(uintptr_t)file->data, file->bytes);
        close(file->descriptor);
    }
    cop_free(file->tensors);
    cop_free(file->source);
    cop_free(file);
}

static cop_status map(cop_safetensors *file) {
    /* O_NONBLOCK: opening a pipe must fail below, not wait for a writer. */
    file->descriptor = open(file->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (file->descriptor < 0 || fstat(file->descriptor, &info) != 0)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", file->source, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return COP_FAIL(COP_ERR_IO, "%s: is not a regular file; give a safetensors file",
                        file->source);
    if (info.st_size == 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s: is empty; fetch it again", file->source);
    size_t bytes = (size_t)info.st_size;
    void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file->descriptor, 0);
    if (data == MAP_FAILED)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be mapped: %s", file->source, strerror(errno));
    file->data = data;
    file->bytes = bytes;
    return COP_OK;
}

cop_status cop_safetensors_open(const char *path, cop_safetensors **out) {
    cop_safetensors *file = NULL;
    *out = NULL;
    COP_TRY(create(path, &file));
    cop_status status = map(file);
    if (status == COP_OK)
        status = cop__safetensors_parse(file);
    if (status == COP_OK)
        *out = file;
    else
        cop_safetensors_close(file);
    return status;
}

cop_status cop_safetensors_open_memory(const void *data, size_t bytes, cop_safetensors **out) {
    cop_safetensors *file = NULL;
    *out = NULL;
    COP_TRY(create("safetensors in memory", &file));
    file->data = data;
    file->bytes = bytes;
    cop_status status = cop__safetensors_parse(file);
    if (status == COP_OK)
        *out = file;
    else
        cop_safetensors_close(file);
    return status;
}

cop_status cop_safetensors_check_size(const cop_safetensors *file) {
    struct stat info;
    if (file->descriptor < 0)
        return COP_OK;
    if (fstat(file->descriptor, &info) != 0)
        return COP_FAIL(COP_ERR_IO, "%s: its size cannot be read: %s", file->source,
                        strerror(errno));
    if ((uint64_t)info.st_size < file->bytes)
        return COP_FAIL(COP_ERR_IO,
                        "%s: has shrunk from %" PRIu64 " to %" PRIu64
                        " bytes while in use; restore it and start again",
                        file->source, file->bytes, (uint64_t)info.st_size);
    return COP_OK;
}

const char *cop_safetensors_source(const cop_safetensors *file) {
    return file->source;
}

size_t cop_safetensors_count(const cop_safetensors *file) {
    return file->n_tensors;
}

const cop_safetensors_tensor *cop_safetensors_at(const cop_safetensors *file, size_t index) {
    return &file->tensors[index];
}

const cop_safetensors_tensor *cop_safetensors_find(const cop_safetensors *file, const char *name) {
    size_t low = 0, high = file->n_tensors, bytes = strlen(name);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const cop_safetensors_tensor *t = &file->tensors[middle];
        size_t least = t->name.bytes < bytes ? t->name.bytes : bytes;
        int order = least ? memcmp(t->name.data, name, least) : 0;
        if (order == 0 && t->name.bytes == bytes)
            return t;
        if (order < 0 || (order == 0 && t->name.bytes < bytes))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const char *cop_safetensors_type_name(cop_safetensors_type type) {
    static const char *const names[] = {
#define TYPE_NAME(name, bytes) #name,
        COP_SAFETENSORS_TYPES(TYPE_NAME)
#undef TYPE_NAME
    };
    return names[type];
}

cop_status cop_safetensors_read(const cop_safetensors *file, const cop_safetensors_tensor *tensor,
                                float *out) {
    enum { PART = 1024 };
    uint8_t part[PART * 4] __attribute__((aligned(16))); /* the file's bytes need not be */
    cop_dtype type = tensor->type == COP_ST_F32   ? COP_F32
                     : tensor->type == COP_ST_F16 ? COP_F16
                                                  : COP_BF16;
    if (tensor->type != COP_ST_F32 && tensor->type != COP_ST_F16 && tensor->type != COP_ST_BF16)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: tensor '%.*s' is %s; F32, F16 and BF16 can be read: convert it",
                        file->source, (int)tensor->name.bytes, tensor->name.data,
                        cop_safetensors_type_name(tensor->type));
    COP_TRY(cop_safetensors_check_size(file));
    uint64_t width = cop_dtype_block_bytes(type);
    for (uint64_t at = 0; at < tensor->values; at += PART) {
        uint64_t n = tensor->values - at < PART ? tensor->values - at : PART;
        memcpy(part, tensor->data + at * width, n * width);
        cop_dtype_widen(type, part, n, out + at);
    }
    return COP_OK;
}
