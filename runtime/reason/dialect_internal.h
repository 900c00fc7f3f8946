/* What the dialect's own files share. Nothing else includes this.
 *
 * dialect.c        the file's life: by path, by name, refused where it is not supported
 * dialect_load.c   its keys, each read once
 * dialect_more.c   the keys that only some systems need
 * dialect_async.c  the keys of parents that go on beside their paths
 * dialect_program.c the keys of those whose messages a program makes, and what they cannot mean
 * dialect_shared.c paths that see each other: their keys, and what these cannot mean
 * dialect_check.c  what cannot be meant, and what this runtime cannot do
 * dialect_text.c   prompts and headers filled in
 */
#pragma once

#include "config/json.h"
#include "reason/dialect.h"

enum { COP_DIALECT_TEXT_MAX = 512, COP_DIALECT_REASONS_MAX = 16 };

struct cop_dialect_file {
    cop_json root; /* the strings of `dialect` borrow from it */
    cop_dialect dialect;
    bool unsupported;
    const char *reasons[COP_DIALECT_REASONS_MAX];
    uint32_t n_reasons;
};

extern const char *const cop__dialect_elements[COP_EL_COUNT + 1];

cop_status cop__dialect_load(cop_dialect_file *file);
cop_status cop__dialect_load_more(const cop_json *root, cop_dialect *dialect);
cop_status cop__dialect_load_async(const cop_json *root, cop_dialect *dialect);
cop_status cop__dialect_check_async(const cop_json *root, const cop_dialect *dialect);
cop_status cop__dialect_load_program(const cop_json *root, cop_dialect *dialect);
cop_status cop__dialect_check_program(const cop_json *root, const cop_dialect *dialect);
/* A list of at most `max` texts, each of which may be a tag. */
cop_status cop__dialect_texts(const cop_json *object, const char *key, cop_tag *texts, uint32_t max,
                              uint32_t *n);
/* A tag, "" where an optional one is missing; without a newline. */
cop_status cop__dialect_tag(const cop_json *object, const char *key, cop_json_presence presence,
                            cop_tag *tag);
/* Unlike cop_json_text, "" is a value here: a dialect may insert nothing. *out stays where the key
 * is missing. */
cop_status cop__dialect_text(const cop_json *object, const char *key, const char **out);
/* An expression; NULL where an optional one is missing. */
cop_status cop__dialect_pattern(const cop_json *object, const char *key, cop_json_presence presence,
                                cop_pattern **out);
cop_status cop__dialect_load_shared(const cop_json *root, cop_dialect *dialect);
cop_status cop__dialect_check_shared(const cop_json *root, const cop_dialect *dialect);
cop_status cop__dialect_check(const cop_json *root, const cop_dialect *dialect);
/* The first key that asks for what this runtime does not do; NULL: there is none. */
const char *cop__dialect_lacks(const cop_json *root, const cop_dialect *dialect);
