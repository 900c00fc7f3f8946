#include "model/gguf_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Reads forward; `at` never passes `bytes`. */
typedef struct reader {
    cop_gguf *gguf;
    uint64_t at;
    uint64_t table_bytes; /* allocated for arrays so far */
    uint64_t texts;       /* in all arrays so far */
} reader;

uint64_t cop__gguf_load(const uint8_t *from, uint32_t bytes) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

cop__gguf_shown cop__gguf_show(cop_text name) {
    cop__gguf_shown shown = {{0}};
    size_t bytes = name.bytes < sizeof shown.text - 4 ? name.bytes : sizeof shown.text - 4;
    for (size_t i = 0; i < bytes; i++)
        shown.text[i] = name.data[i] >= 0x20 && name.data[i] < 0x7f ? name.data[i] : '?';
    if (bytes < name.bytes)
        memcpy(shown.text + bytes, "...", 4);
    return shown;
}

static cop_status take(reader *r, uint64_t bytes, const char *what, const uint8_t **out) {
    uint64_t left = r->gguf->bytes - r->at;
    if (bytes > left)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: %s at byte %" PRIu64 " needs %" PRIu64
                        " bytes and the file has %" PRIu64
                        " left: it is truncated or damaged; fetch it again",
                        r->gguf->source, what, r->at, bytes, left);
    *out = r->gguf->data + r->at;
    r->at += bytes;
    return COP_OK;
}

static cop_status take_u32(reader *r, const char *what, uint32_t *out) {
    const uint8_t *data = NULL;
    COP_TRY(take(r, 4, what, &data));
    *out = (uint32_t)cop__gguf_load(data, 4);
    return COP_OK;
}

static cop_status take_u64(reader *r, const char *what, uint64_t *out) {
    const uint8_t *data = NULL;
    COP_TRY(take(r, 8, what, &data));
    *out = cop__gguf_load(data, 8);
    return COP_OK;
}

static cop_status take_text(reader *r, const char *what, cop_text *out) {
    uint64_t bytes = 0;
    const uint8_t *data = NULL;
    COP_TRY(take_u64(r, what, &bytes));
    COP_TRY(take(r, bytes, what, &data));
    *out = (cop_text){(const char *)data, bytes};
    return COP_OK;
}

/* A name is short, not empty, and has no NUL, so that it can be looked up as a C string. */
static cop_status take_name(reader *r, const char *what, uint64_t bytes_max, cop_text *out) {
    uint64_t at = r->at;
    COP_TRY(take_text(r, what, out));
    if (out->bytes == 0 || out->bytes > bytes_max)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: %s at byte %" PRIu64 " has %zu bytes; the format has 1 to %" PRIu64,
                        r->gguf->source, what, at, out->bytes, bytes_max);
    if (memchr(out->data, 0, out->bytes))
        return COP_FAIL(COP_ERR_FORMAT, "%s: %s at byte %" PRIu64 ", '%s', holds a NUL byte",
                        r->gguf->source, what, at, cop__gguf_show(*out).text);
    return COP_OK;
}

/* 0 for texts, arrays and types that do not exist. */
static uint32_t type_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static cop_status check_magic(reader *r, uint64_t *n_tensors, uint64_t *n_keys) {
    const char *source = r->gguf->source;
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    COP_TRY(take(r, 4, "the magic number", &magic));
    if (memcmp(magic, "FUGG", 4) == 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: the magic number is byte-swapped: a big-endian GGUF; convert it to "
                        "little endian",
                        source);
    if (memcmp(magic, "GGUF", 4) != 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: starts with bytes %02x %02x %02x %02x, not with \"GGUF\": not a GGUF "
                        "file",
                        source, magic[0], magic[1], magic[2], magic[3]);
    COP_TRY(take_u32(r, "the version", &version));
    if (version != 0 && (version & 0xffffu) == 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: version 0x%08x at byte 4 is byte-swapped: a big-endian GGUF; convert "
                        "it to little endian",
                        source, version);
    if (version != 2 && version != 3)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: GGUF version %u; versions 2 and 3 are read: convert the file again",
                        source, version);
    COP_TRY(take_u64(r, "the count of tensors", n_tensors));
    COP_TRY(take_u64(r, "the count of keys", n_keys));
    if (*n_tensors > COP__GGUF_TENSORS_MAX)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: the count of tensors at byte 8 is %" PRId64 "; 0 to %d are accepted",
                        source, (int64_t)*n_tensors, COP__GGUF_TENSORS_MAX);
    if (*n_keys > COP__GGUF_KEYS_MAX)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: the count of keys at byte 16 is %" PRId64 "; 0 to %d are accepted",
                        source, (int64_t)*n_keys, COP__GGUF_KEYS_MAX);
    return COP_OK;
}

static cop_status table_create(reader *r, cop__gguf_key *key, size_t item_bytes) {
    cop_gguf *gguf = r->gguf;
    uint64_t bytes = key->count * item_bytes; /* count <= the file's bytes, so no wrap */
    uint64_t room = gguf->bytes + COP__GGUF_TABLE_SLACK_BYTES - r->table_bytes;
    if (bytes > room)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: key '%s': an array of %" PRIu64 " items needs a table larger than the "
                        "file; no real vocabulary does",
                        gguf->source, cop__gguf_show(key->name).text, key->count);
    key->table = cop_calloc(key->count, item_bytes);
    if (!key->table)
        return COP_FAIL(COP_ERR_NO_MEMORY,
                        "%s: key '%s': no memory for a table of %" PRIu64 " bytes", gguf->source,
                        cop__gguf_show(key->name).text, bytes);
    r->table_bytes += bytes;
    return COP_OK;
}

static cop_status take_text_array(reader *r, cop__gguf_key *key) {
    const char *source = r->gguf->source;
    if (key->count > (r->gguf->bytes - r->at) / 8) /* each takes at least its length's bytes */
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: key '%s': an array of %" PRIu64 " texts at byte %" PRIu64
                        " passes the end of the file: it is truncated or damaged; fetch it again",
                        source, cop__gguf_show(key->name).text, key->count, r->at);
    if (key->count > COP__GGUF_TEXTS_MAX - r->texts)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: key '%s': an array of %" PRIu64
                        " texts passes the limit of %d in one file",
                        source, cop__gguf_show(key->name).text, key->count, COP__GGUF_TEXTS_MAX);
    COP_TRY(table_create(r, key, sizeof(cop_text)));
    r->texts += key->count;
    cop_text *texts = key->table;
    for (uint64_t i = 0; i < key->count; i++)
        COP_TRY(take_text(r, "a text of an array", &texts[i]));
    return COP_OK;
}

static cop_status take_array(reader *r, cop__gguf_key *key) {
    uint32_t type = 0;
    COP_TRY(take_u32(r, "an array's type", &type));
    COP_TRY(take_u64(r, "an array's count", &key->count));
    key->array = true;
    key->type = (cop__gguf_type)type;
    if (type == COP__GGUF_TEXT)
        return take_text_array(r, key);
    uint32_t bytes = type_bytes(type);
    if (bytes == 0)
        return COP_FAIL(type == COP__GGUF_ARRAY ? COP_ERR_UNSUPPORTED : COP_ERR_FORMAT,
                        "%s: key '%s': an array of %s (type %u) at byte %" PRIu64
                        "; arrays of numbers, booleans and texts are read",
                        r->gguf->source, cop__gguf_show(key->name).text,
                        type == COP__GGUF_ARRAY ? "arrays" : "an unknown type", type, r->at);
    if (key->count > (r->gguf->bytes - r->at) / bytes)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: key '%s': an array of %" PRIu64 " items of %u bytes at byte %" PRIu64
                        " passes the end of the file: it is truncated or damaged; fetch it again",
                        r->gguf->source, cop__gguf_show(key->name).text, key->count, bytes, r->at);
    COP_TRY(take(r, key->count * bytes, "an array", &key->data));
    /* 32-bit integers are handed out as a C array, which must be aligned. */
    if ((type == COP__GGUF_I32 || type == COP__GGUF_U32) && key->count > 0 &&
        (uintptr_t)key->data % sizeof(int32_t) != 0) {
        COP_TRY(table_create(r, key, sizeof(int32_t)));
        memcpy(key->table, key->data, key->count * sizeof(int32_t));
    }
    return COP_OK;
}

static cop_status take_key(reader *r, cop__gguf_key *key) {
    COP_TRY(take_name(r, "a key's name", COP__GGUF_KEY_BYTES_MAX, &key->name));
    uint32_t type = 0;
    COP_TRY(take_u32(r, "a value's type", &type));
    if (type == COP__GGUF_ARRAY)
        return take_array(r, key);
    key->type = (cop__gguf_type)type;
    key->count = 1;
    if (type == COP__GGUF_TEXT) {
        cop_text text = {0};
        COP_TRY(take_text(r, "a text value", &text));
        key->data = (const uint8_t *)text.data;
        key->count = text.bytes;
        return COP_OK;
    }
    uint32_t bytes = type_bytes(type);
    if (bytes == 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: key '%s': value type %u at byte %" PRIu64
                        " does not exist (0 to 12 do)",
                        r->gguf->source, cop__gguf_show(key->name).text, type, r->at - 4);
    COP_TRY(take(r, bytes, "a value", &key->data));
    if (type == COP__GGUF_BOOL && key->data[0] > 1)
        return COP_FAIL(COP_ERR_FORMAT, "%s: key '%s': a boolean is %u; it must be 0 or 1",
                        r->gguf->source, cop__gguf_show(key->name).text, key->data[0]);
    return COP_OK;
}

static const char *ggml_type_name(uint32_t type) {
    static const char *const names[] = {
        "F32",     "F16",    "Q4_0",    "Q4_1",  "Q4_2",   "Q4_3",  "Q5_0",  "Q5_1",
        "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
        "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
        "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16"};
    return type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

/* Fills rows, cols, type and bytes; the data's place is checked once all tensors are known. */
static cop_status shape_tensor(const char *source, cop__gguf_tensor *entry, uint32_t type,
                               const uint64_t dims[4], uint32_t n_dims) {
    cop__gguf_shown shown = cop__gguf_show(entry->name);
    uint64_t rows = 1, block_row, bytes;
    bool wraps = false;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (dims[i] == 0 || dims[i] > INT64_MAX)
            return COP_FAIL(COP_ERR_FORMAT,
                            "%s: tensor '%s': dimension %u is %" PRId64 "; it must be 1 or more",
                            source, shown.text, i, (int64_t)dims[i]);
        if (i > 0)
            wraps |= __builtin_mul_overflow(rows, dims[i], &rows);
    }
    if (!cop_dtype_known(type))
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: tensor '%s': values of type %s (%u); F32, F16, BF16, Q8_0, Q4_0 and "
                        "Q4_1 are read",
                        source, shown.text, ggml_type_name(type), type);
    uint64_t values = cop_dtype_block_values((cop_dtype)type);
    if (dims[0] % values != 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: tensor '%s': rows of %" PRIu64 " %s values; they "
                        "come in blocks of %" PRIu64,
                        source, shown.text, dims[0], cop_dtype_name((cop_dtype)type), values);
    wraps |= __builtin_mul_overflow(dims[0] / values,
                                    (uint64_t)cop_dtype_block_bytes((cop_dtype)type), &block_row);
    wraps |= __builtin_mul_overflow(rows, block_row, &bytes);
    if (wraps)
        return COP_FAIL(COP_ERR_FORMAT, "%s: tensor '%s': its size in bytes passes 2^64", source,
                        shown.text);
    entry->tensor = (cop_tensor){(cop_dtype)type, rows, dims[0], NULL, bytes};
    return COP_OK;
}

static cop_status take_tensor(reader *r, cop__gguf_tensor *entry) {
    COP_TRY(take_name(r, "a tensor's name", COP__GGUF_NAME_BYTES_MAX, &entry->name));
    uint32_t n_dims = 0, type = 0;
    uint64_t dims[4] = {0};
    COP_TRY(take_u32(r, "a tensor's count of dimensions", &n_dims));
    if (n_dims < 1 || n_dims > 4)
        return COP_FAIL(COP_ERR_FORMAT, "%s: tensor '%s': %u dimensions; the format has 1 to 4",
                        r->gguf->source, cop__gguf_show(entry->name).text, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        COP_TRY(take_u64(r, "a tensor's dimension", &dims[i]));
    COP_TRY(take_u32(r, "a tensor's type", &type));
    COP_TRY(take_u64(r, "a tensor's offset", &entry->offset));
    return shape_tensor(r->gguf->source, entry, type, dims, n_dims);
}

static int compare_names(cop_text a, cop_text b) {
    int order = memcmp(a.data, b.data, a.bytes < b.bytes ? a.bytes : b.bytes);
    return order ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static int compare_keys(const void *a, const void *b, void *gguf) {
    const cop__gguf_key *keys = ((cop_gguf *)gguf)->keys;
    return compare_names(keys[*(const uint32_t *)a].name, keys[*(const uint32_t *)b].name);
}

static int compare_tensors(const void *a, const void *b, void *gguf) {
    const cop__gguf_tensor *tensors = ((cop_gguf *)gguf)->tensors;
    return compare_names(tensors[*(const uint32_t *)a].name, tensors[*(const uint32_t *)b].name);
}

static int compare_offsets(const void *a, const void *b, void *gguf) {
    const cop__gguf_tensor *tensors = ((cop_gguf *)gguf)->tensors;
    uint64_t x = tensors[*(const uint32_t *)a].offset, y = tensors[*(const uint32_t *)b].offset;
    return (x > y) - (x < y);
}

ptrdiff_t cop__gguf_find_key(const cop_gguf *gguf, const char *name) {
    cop_text want = {name, strlen(name)};
    for (size_t low = 0, high = gguf->n_keys; low < high;) {
        size_t middle = low + (high - low) / 2;
        uint32_t index = gguf->keys_sorted[middle];
        int order = compare_names(want, gguf->keys[index].name);
        if (order == 0)
            return (ptrdiff_t)index;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

ptrdiff_t cop__gguf_find_tensor(const cop_gguf *gguf, const char *name) {
    cop_text want = {name, strlen(name)};
    for (size_t low = 0, high = gguf->n_tensors; low < high;) {
        size_t middle = low + (high - low) / 2;
        uint32_t index = gguf->tensors_sorted[middle];
        int order = compare_names(want, gguf->tensors[index].name);
        if (order == 0)
            return (ptrdiff_t)index;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

static cop_status take_keys(reader *r, uint64_t n_keys) {
    cop_gguf *gguf = r->gguf;
    /* Counts are believed only as far as the file could hold that many of the smallest entries. */
    if (n_keys > (gguf->bytes - r->at) / (8 + 1 + 4 + 1))
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: %" PRIu64 " keys cannot fit into its %" PRIu64
                        " bytes: it is truncated or damaged; fetch it again",
                        gguf->source, n_keys, gguf->bytes);
    gguf->keys = cop_calloc(n_keys, sizeof *gguf->keys);
    gguf->keys_sorted = cop_calloc(n_keys, sizeof *gguf->keys_sorted);
    if (!gguf->keys || !gguf->keys_sorted)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for %" PRIu64 " keys", gguf->source,
                        n_keys);
    gguf->n_keys = n_keys;
    for (uint32_t i = 0; i < n_keys; i++) {
        gguf->keys_sorted[i] = i;
        COP_TRY(take_key(r, &gguf->keys[i]));
    }
    qsort_r(gguf->keys_sorted, n_keys, sizeof *gguf->keys_sorted, compare_keys, gguf);
    for (uint64_t i = 1; i < n_keys; i++) {
        cop_text name = gguf->keys[gguf->keys_sorted[i]].name;
        if (compare_names(gguf->keys[gguf->keys_sorted[i - 1]].name, name) == 0)
            return COP_FAIL(COP_ERR_FORMAT, "%s: key '%s' stands there twice", gguf->source,
                            cop__gguf_show(name).text);
    }
    return COP_OK;
}

static cop_status find_alignment(cop_gguf *gguf) {
    ptrdiff_t index = cop__gguf_find_key(gguf, "general.alignment");
    gguf->alignment = COP__GGUF_ALIGNMENT_DEFAULT;
    if (index < 0)
        return COP_OK;
    COP_TRY(cop_gguf_u64(gguf, "general.alignment", &gguf->alignment));
    if (gguf->alignment < COP__GGUF_ALIGNMENT_MIN || gguf->alignment > COP__GGUF_ALIGNMENT_MAX ||
        (gguf->alignment & (gguf->alignment - 1)) != 0)
        return COP_FAIL(
            COP_ERR_FORMAT,
            "%s: key 'general.alignment' is %" PRIu64 "; a power of two from %d to %d is accepted",
            gguf->source, gguf->alignment, COP__GGUF_ALIGNMENT_MIN, COP__GGUF_ALIGNMENT_MAX);
    return COP_OK;
}

static cop_status take_tensors(reader *r, uint64_t n_tensors) {
    cop_gguf *gguf = r->gguf;
    if (n_tensors > (gguf->bytes - r->at) / (8 + 1 + 4 + 8 + 4 + 8))
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: %" PRIu64 " tensors cannot fit into its %" PRIu64
                        " bytes: it is truncated or damaged; fetch it again",
                        gguf->source, n_tensors, gguf->bytes);
    gguf->tensors = cop_calloc(n_tensors, sizeof *gguf->tensors);
    gguf->tensors_sorted = cop_calloc(n_tensors, sizeof *gguf->tensors_sorted);
    if (!gguf->tensors || !gguf->tensors_sorted)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for %" PRIu64 " tensors", gguf->source,
                        n_tensors);
    gguf->n_tensors = n_tensors;
    for (uint32_t i = 0; i < n_tensors; i++) {
        gguf->tensors_sorted[i] = i;
        COP_TRY(take_tensor(r, &gguf->tensors[i]));
    }
    qsort_r(gguf->tensors_sorted, n_tensors, sizeof *gguf->tensors_sorted, compare_tensors, gguf);
    for (uint64_t i = 1; i < n_tensors; i++) {
        cop_text name = gguf->tensors[gguf->tensors_sorted[i]].name;
        if (compare_names(gguf->tensors[gguf->tensors_sorted[i - 1]].name, name) == 0)
            return COP_FAIL(COP_ERR_FORMAT, "%s: tensor '%s' stands there twice", gguf->source,
                            cop__gguf_show(name).text);
    }
    return COP_OK;
}

/* Each tensor begins where the one before it ends, rounded up to the alignment: no hole, no
 * overlap. Sorted by offset, since the format does not promise the order. */
static cop_status place_tensors(cop_gguf *gguf, uint64_t header_bytes, uint32_t *by_offset) {
    uint64_t start = (header_bytes + gguf->alignment - 1) & ~(gguf->alignment - 1);
    uint64_t room = start < gguf->bytes ? gguf->bytes - start : 0, expected = 0;
    for (uint32_t i = 0; i < gguf->n_tensors; i++)
        by_offset[i] = i;
    qsort_r(by_offset, gguf->n_tensors, sizeof *by_offset, compare_offsets, gguf);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        cop__gguf_tensor *entry = &gguf->tensors[by_offset[i]];
        cop__gguf_shown shown = cop__gguf_show(entry->name);
        if (entry->offset % gguf->alignment != 0)
            return COP_FAIL(COP_ERR_FORMAT,
                            "%s: tensor '%s': offset %" PRIu64 " is not a multiple of the "
                            "alignment, %" PRIu64,
                            gguf->source, shown.text, entry->offset, gguf->alignment);
        if (entry->offset > room || entry->tensor.bytes > room - entry->offset)
            return COP_FAIL(COP_ERR_FORMAT,
                            "%s: tensor '%s': %" PRIu64 " bytes at offset %" PRIu64
                            " of a data section of %" PRIu64
                            ": it is truncated or damaged; fetch it again",
                            gguf->source, shown.text, entry->tensor.bytes, entry->offset, room);
        if (entry->offset != expected)
            return COP_FAIL(COP_ERR_FORMAT,
                            "%s: tensor '%s': offset %" PRIu64 " %s; %" PRIu64 " was expected",
                            gguf->source, shown.text, entry->offset,
                            entry->offset < expected ? "overlaps the tensor before it"
                                                     : "leaves a hole before it",
                            expected);
        entry->tensor.data = gguf->data + start + entry->offset;
        expected =
            (entry->offset + entry->tensor.bytes + gguf->alignment - 1) & ~(gguf->alignment - 1);
    }
    return COP_OK;
}

cop_status cop__gguf_parse(cop_gguf *gguf) {
    reader r = {.gguf = gguf};
    uint64_t n_tensors = 0, n_keys = 0;
    COP_TRY(check_magic(&r, &n_tensors, &n_keys));
    COP_TRY(take_keys(&r, n_keys));
    COP_TRY(find_alignment(gguf));
    COP_TRY(take_tensors(&r, n_tensors));
    uint32_t *by_offset = cop_calloc(gguf->n_tensors, sizeof *by_offset);
    if (!by_offset)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for %zu tensors", gguf->source,
                        gguf->n_tensors);
    cop_status status = place_tensors(gguf, r.at, by_offset);
    cop_free(by_offset);
    return status;
}
