/* Bytes of any kind as a JSON string. */
#include "config/json.h"

/* Bytes of the UTF-8 sequence that begins here; 0: none does. */
static size_t sequence_at(const char *text, size_t bytes) {
    const uint8_t lead = (uint8_t)text[0];
    const size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || n > bytes)
        return 0;
    json_t *one = json_stringn(text, n);
    json_decref(one);
    return one ? n : 0;
}

static cop_status append_one(cop_buffer *out, const char *text, size_t bytes, size_t *used) {
    const uint8_t c = (uint8_t)text[0];
    *used = 1;
    if (c == '"' || c == '\\')
        return cop_buffer_printf(out, "\\%c", c);
    if (c < 0x20)
        return cop_buffer_printf(out, "\\u%04x", c);
    if (c < 0x80)
        return cop_buffer_append(out, text, 1);
    const size_t n = sequence_at(text, bytes);
    *used = n ? n : 1;
    return cop_buffer_append(out, n ? text : "\xef\xbf\xbd", n ? n : 3);
}

cop_status cop_json_append_string(cop_buffer *out, const char *text, size_t bytes) {
    COP_TRY(cop_buffer_append(out, "\"", 1));
    for (size_t i = 0, used = 0; i < bytes; i += used)
        COP_TRY(append_one(out, text + i, bytes - i, &used));
    return cop_buffer_append(out, "\"", 1);
}
