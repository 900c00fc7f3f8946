#include <string.h>

#include "model/tokenizer_internal.h"

/* The well-formed sequences of the Unicode standard, table 3-7: the number of bytes that a lead
 * byte announces, and the range of the second byte. 0 bytes: never a lead. */
typedef struct lead {
    uint8_t bytes, second_min, second_max;
} lead;

static lead lead_of(uint8_t byte) {
    if (byte < 0x80)
        return (lead){1, 0, 0};
    if (byte < 0xC2 || byte > 0xF4)
        return (lead){0, 0, 0};
    if (byte < 0xE0)
        return (lead){2, 0x80, 0xBF};
    if (byte < 0xF0)
        return (lead){3, byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF};
    return (lead){4, byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF};
}

static bool continues(const uint8_t *held, uint8_t n_held, uint8_t byte) {
    if (n_held > 1)
        return byte >= 0x80 && byte <= 0xBF;
    lead first = lead_of(held[0]);
    return byte >= first.second_min && byte <= first.second_max;
}

size_t cop__utf8_character(const char *text, size_t bytes) {
    const uint8_t *at = (const uint8_t *)text;
    if (bytes == 0)
        return 0;
    size_t need = lead_of(at[0]).bytes;
    if (need > bytes)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if (!continues(at, (uint8_t)i, at[i]))
            return 0;
    }
    return need;
}

uint32_t cop__utf8_code(const char *text, size_t bytes) {
    const uint8_t *at = (const uint8_t *)text;
    uint32_t code = bytes == 1 ? at[0] : at[0] & (0xFFu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++)
        code = code << 6 | (at[i] & 0x3Fu);
    return code;
}

static size_t put_replacement(char *out) {
    memcpy(out, "\xEF\xBF\xBD", 3);
    return 3;
}

size_t cop_utf8_stream_push(cop_utf8_stream *stream, const char *data, size_t bytes, bool flush,
                            char *out) {
    size_t written = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)data[i];
        /* A character that cannot go on is one U+FFFD for all of its bytes so far, and the byte
         * that broke it begins anew (Unicode 15, section 3.9, "maximal subparts"). */
        if (stream->n_held > 0 && !continues(stream->held, stream->n_held, byte)) {
            written += put_replacement(out + written);
            stream->n_held = 0;
        }
        if (stream->n_held == 0 && lead_of(byte).bytes == 0) {
            written += put_replacement(out + written);
            continue;
        }
        stream->held[stream->n_held++] = byte;
        if (stream->n_held == lead_of(stream->held[0]).bytes) {
            memcpy(out + written, stream->held, stream->n_held);
            written += stream->n_held;
            stream->n_held = 0;
        }
    }
    if (flush && stream->n_held > 0) {
        written += put_replacement(out + written);
        stream->n_held = 0;
    }
    return written;
}
