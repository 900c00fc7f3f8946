#include "model/chat.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "config/json.h"
#include "config/paths.h"

static cop_status text_at(const cop_json *root, const char *key, const char **out) {
    json_t *value = json_object_get(root->value, key);
    if (!json_is_string(value))
        return cop_json_fail(root, key, "a text is needed (it may be empty)");
    *out = json_string_value(value);
    return COP_OK;
}

static cop_status fits(const cop_json *root, const cop_tokenizer *tokenizer, bool *out) {
    cop_json needs;
    COP_TRY(cop_json_array(root, "needs", COP_JSON_REQUIRED, &needs));
    *out = true;
    for (size_t i = 0; i < cop_json_count(&needs); i++) {
        cop_json item = cop_json_at(&needs, i);
        const char *text;
        COP_TRY(cop_json_text(&item, NULL, COP_JSON_REQUIRED, &text));
        if (cop_tokenizer_find_special(tokenizer, text, strlen(text)) < 0)
            *out = false;
    }
    return COP_OK;
}

static cop_status frame(const cop_json *root, cop_buffer *before, cop_buffer *after) {
    const char *system_open = "", *system_close = "", *system = "";
    const char *user_open = "", *user_close = "", *assistant_open = "";
    COP_TRY(COP_JSON_ONLY(root, "name", "source", "needs", "system_open", "system_close", "system",
                          "user_open", "user_close", "assistant_open"));
    COP_TRY(text_at(root, "system_open", &system_open));
    COP_TRY(text_at(root, "system_close", &system_close));
    COP_TRY(text_at(root, "system", &system));
    COP_TRY(text_at(root, "user_open", &user_open));
    COP_TRY(text_at(root, "user_close", &user_close));
    COP_TRY(text_at(root, "assistant_open", &assistant_open));
    if (system[0])
        COP_TRY(cop_buffer_printf(before, "%s%s%s", system_open, system, system_close));
    COP_TRY(cop_buffer_printf(before, "%s", user_open));
    return cop_buffer_printf(after, "%s%s", user_close, assistant_open);
}

cop_status cop_chat_frame(const char *root, const cop_tokenizer *tokenizer, cop_buffer *before,
                          cop_buffer *after) {
    char pattern[COP_PATH_BYTES];
    snprintf(pattern, sizeof pattern, "%.4000s/configs/chat/*.json", root);
    glob_t files = {0};
    if (glob(pattern, 0, NULL, &files) != 0) {
        globfree(&files);
        return COP_FAIL(COP_ERR_IO, "no chat format lies in %s", pattern);
    }
    cop_status status = COP_OK;
    bool done = false;
    for (size_t i = 0; i < files.gl_pathc && status == COP_OK && !done; i++) {
        cop_json file;
        status = cop_json_load(files.gl_pathv[i], &file);
        if (status == COP_OK)
            status = fits(&file, tokenizer, &done);
        if (status == COP_OK && done)
            status = frame(&file, before, after);
        cop_json_release(&file);
    }
    globfree(&files);
    if (status == COP_OK && !done)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "the model's tokenizer has the special tokens of no chat format in %s",
                        pattern);
    return status;
}

cop_status cop_chat_apply(const char *root, const cop_tokenizer *tokenizer, const char *message,
                          size_t bytes, cop_buffer *out) {
    cop_buffer after = {0};
    cop_status status = cop_chat_frame(root, tokenizer, out, &after);
    if (status == COP_OK)
        status = cop_buffer_append(out, message, bytes);
    if (status == COP_OK)
        status = cop_buffer_append(out, after.data, after.bytes);
    cop_buffer_release(&after);
    return status;
}
