#include "measure/results_manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "measure/environment.h"
#include "measure/results.h"
#include "measure/results_file.h"

/* Replaces the home folder by "~" where a path begins: at the start, or after what sets a path off
 * in a command line ("--model=/home/.."). */
static json_t *scrub_text(const json_t *text, const char *home) {
    size_t home_bytes = strlen(home);
    cop_buffer out = {0};
    cop_status status = cop_buffer_append(&out, "", 0);
    const char *start = json_string_value(text), *at = start;
    for (const char *hit; status == COP_OK && (hit = strstr(at, home));) {
        const char *after = hit + home_bytes;
        bool whole =
            (*after == '\0' || *after == '/') && (hit == start || strchr(" =:,;\"'(", hit[-1]));
        status = cop_buffer_append(&out, at, (size_t)(hit - at));
        if (status == COP_OK)
            status = cop_buffer_append(&out, whole ? "~" : hit, whole ? 1 : home_bytes);
        at = after;
    }
    if (status == COP_OK)
        status = cop_buffer_append(&out, at, strlen(at));
    json_t *scrubbed = status == COP_OK ? json_string(out.data ? out.data : "") : NULL;
    cop_buffer_release(&out);
    return scrubbed;
}

/* A deep copy; NULL when there is no memory. */
static json_t *scrub(const json_t *value, const char *home) {
    if (json_is_string(value) && home)
        return scrub_text(value, home);
    json_t *copy = NULL;
    if (json_is_array(value)) {
        copy = json_array();
        for (size_t i = 0; i < json_array_size(value); i++)
            if (json_array_append_new(copy, scrub(json_array_get(value, i), home)) != 0)
                goto fail;
    } else if (json_is_object(value)) {
        copy = json_object();
        const char *key;
        json_t *member;
        json_object_foreach((json_t *)value, key, member) {
            if (json_object_set_new(copy, key, scrub(member, home)) != 0)
                goto fail;
        }
    } else {
        copy = json_deep_copy(value);
    }
    return copy;
fail:
    json_decref(copy);
    return NULL;
}

cop_status cop__manifest_make(const json_t *given, json_t **out) {
    if (!json_is_object(given))
        return COP_FAIL(COP_ERR_INTERNAL, "a manifest must be an object");
    json_t *environment = NULL;
    COP_TRY(cop_environment_read(&environment));
    const char *home = getenv("HOME");
    char utc[COP_CLOCK_UTC_BYTES];
    cop_clock_utc(utc);
    json_t *manifest = json_object();
    json_t *scrubbed = scrub(given, home && strlen(home) > 1 ? home : NULL);
    int failed = json_object_set_new(manifest, "schema", json_integer(COP_RESULTS_SCHEMA));
    failed |= json_object_set_new(manifest, "started_utc", json_string(utc));
    failed |= !scrubbed || json_object_update_missing(manifest, scrubbed);
    failed |= json_object_set_new(manifest, "environment", environment);
    json_decref(scrubbed);
    if (failed) {
        json_decref(manifest);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the manifest");
    }
    *out = manifest;
    return COP_OK;
}

cop_status cop__manifest_read(const char *path, json_t **out) {
    cop_buffer text = {0};
    cop_status status = cop__file_read(path, &text, NULL);
    if (status == COP_OK) {
        json_error_t error;
        *out = json_loadb(text.data ? text.data : "", text.bytes, JSON_REJECT_DUPLICATES, &error);
        if (!*out)
            status = COP_FAIL(COP_ERR_FORMAT, "%s:%d:%d: %s", path, error.line, error.column,
                              error.text);
        else if (!json_is_object(*out))
            status = COP_FAIL(COP_ERR_FORMAT, "%s: a manifest must be an object", path);
    }
    if (status != COP_OK && *out) {
        json_decref(*out);
        *out = NULL;
    }
    cop_buffer_release(&text);
    return status;
}

cop_status cop__manifest_write(const char *path, const json_t *manifest) {
    char *text = json_dumps(manifest, JSON_INDENT(2));
    if (!text)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the manifest");
    size_t bytes = strlen(text);
    text[bytes] = '\n'; /* in the place of the NUL: the length is passed on */
    cop_status status = cop__file_replace(path, text, bytes + 1);
    free(text);
    return status;
}

/* Finds the first place where two values differ, depth first, and writes its path. */
static bool find_difference(const json_t *then, const json_t *now, char *path, size_t bytes,
                            const json_t **then_at, const json_t **now_at) {
    if (json_equal(then, now))
        return false;
    size_t used = strlen(path);
    *then_at = then;
    *now_at = now;
    if (json_is_object(then) && json_is_object(now)) {
        const json_t *sides[2] = {now, then};
        for (int side = 0; side < 2; side++) {
            const char *key;
            json_t *ignored;
            json_object_foreach((json_t *)sides[side], key, ignored) {
                snprintf(path + used, bytes - used, "%s%s", used ? "." : "", key);
                const json_t *a = json_object_get(then, key), *b = json_object_get(now, key);
                if (find_difference(a, b, path, bytes, then_at, now_at))
                    return true;
            }
        }
    } else if (json_is_array(then) && json_is_array(now) &&
               json_array_size(then) == json_array_size(now)) {
        for (size_t i = 0; i < json_array_size(then); i++) {
            snprintf(path + used, bytes - used, "[%zu]", i);
            if (find_difference(json_array_get(then, i), json_array_get(now, i), path, bytes,
                                then_at, now_at))
                return true;
        }
    }
    path[used] = '\0';
    *then_at = then;
    *now_at = now;
    return true;
}

/* What a run may be added to: the manifest without what changes from one start to the next. */
static json_t *comparable(const json_t *manifest) {
    static const char *const volatiles[] = {"command_line", "argv", "started_utc", "ceilings",
                                            "environment"};
    json_t *copy = json_copy((json_t *)manifest);
    const json_t *environment = json_object_get(manifest, "environment");
    for (size_t i = 0; i < sizeof volatiles / sizeof volatiles[0]; i++)
        json_object_del(copy, volatiles[i]);
    json_t *kept = json_object(), *cpu = json_object();
    json_object_set(kept, "coppice", json_object_get(environment, "coppice"));
    json_object_set(cpu, "model", json_object_get(json_object_get(environment, "cpu"), "model"));
    json_object_set_new(kept, "cpu", cpu);
    json_object_set_new(copy, "environment", kept);
    return copy;
}

cop_status cop__manifest_match(const char *path, const json_t *then, const json_t *now) {
    json_t *a = comparable(then), *b = comparable(now);
    char where[512] = "";
    const json_t *then_at = NULL, *now_at = NULL;
    cop_status status = COP_OK;
    if (find_difference(a, b, where, sizeof where, &then_at, &now_at)) {
        char *then_text =
            then_at ? json_dumps(then_at, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))
                    : NULL;
        char *now_text =
            now_at ? json_dumps(now_at, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))
                   : NULL;
        status = COP_FAIL(COP_ERR_MISMATCH,
                          "%s: \"%s\" is %.160s there and %.160s in this run: results of the two "
                          "do not belong in one folder; choose another one",
                          path, where, then_text ? then_text : "missing",
                          now_text ? now_text : "missing");
        free(then_text);
        free(now_text);
    }
    json_decref(a);
    json_decref(b);
    return status;
}
