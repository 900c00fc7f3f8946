/* A dialect: one system's grammar, join rule and position rule, as data
 * (configs/dialects/NAME.json).
 *
 * A dialect names up to six kinds of element; each has an opening and a closing tag (ordinary text,
 * possibly several tokens, possibly straddling tokens). A block holds a plan of items and one path
 * an item, then perhaps a conclusion:
 *
 *   multiverse         block <Parallel>  plan <Goal>      item <Outline>  path <Path>
 *                      join <Conclusion>
 *   threadweaver       block <Parallel>  plan <Outlines>  item <Outline>  path <Thread>
 *   countdown-message  block    .. <join>  plan .. <fork>  item <try> ..   path <thr> .. <end>
 *
 * Tags may be implied, as in the last row: an item without a closing tag ends where the next item
 * or the plan's end stands; a plan or a block without an opening tag begins with its first item.
 *
 * Live, the parent forks when the plan closes; each child is given `branch_prompt`, with {n}
 * replaced by its number ("2", nested "2.1") and {item} by its item's text, ends when its path
 * closes, and the parent goes on with `join_prompt`. Recorded text is cut at the same tags. No code
 * knows a system's name.
 *
 * configs/dialects/README.md says what each key means and how to add a system, schema.json the same
 * for editors. The words are those that the field's systems need; where this runtime cannot do what
 * a word says, the file must say "supported": false, and is then described but never run.
 *
 * Unknown keys are errors. Immutable once loaded.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"
#include "reason/dialect_rules.h"

typedef struct cop_dialect_file cop_dialect_file; /* owns a dialect's strings */

/* A dialect that can be run: one that is not supported is ERR_CONFIG with its reasons. */
cop_status cop_dialect_load(const char *path, cop_dialect_file **out);
/* By name: configs/dialects/<name>.json below the folder `root`; an unknown name lists the known.
 */
cop_status cop_dialect_load_named(const char *root, const char *name, cop_dialect_file **out);
/* As a user names it: a file ("x.json", or any path), or a name below cop_root_folder. */
cop_status cop_dialect_open(const char *name, cop_dialect_file **out);
/* The same, supported or not: to be described. */
cop_status cop_dialect_describe(const char *name, cop_dialect_file **out);
uint32_t cop_dialect_reason_count(const cop_dialect_file *file); /* 0: supported */
const char *cop_dialect_reason(const cop_dialect_file *file, uint32_t i);
const json_t *cop_dialect_json(const cop_dialect_file *file); /* borrowed */
/* ERR_CONFIG if configs/dialects knows `name` and does not support it; any other name is fine. */
cop_status cop_dialect_check_name(const char *name);
void cop_dialect_close(cop_dialect_file *file);
const cop_dialect *cop_dialect_of(const cop_dialect_file *file);
/* The keys of an object of a dialect's file, NULL at their end: "" the file itself, "tags",
 * "tags.*" any element, "trigger", "stage_sampling.*", .. NULL: there is no such object. */
const char *const *cop_dialect_keys(const char *object);
const char *cop_element_name(cop_element element);  /* "root", "block", "plan", .. */
const char *cop_join_rule_name(cop_join_rule rule); /* "none", "reprefill", "stitch", "message" */

/* A dialect whose messages a program makes needs one, and no other takes one: ERR_USAGE, with the
 * command that its file names. `given`: whether the user gave one. */
cop_status cop_dialect_check_program(const cop_dialect *dialect, bool given);

/* `prompt` or `spawn_prompt` with {problem} and {k} replaced, appended to `out`. paths = 0: the
 * dialect's ask_paths. */
cop_status cop_dialect_fill(const cop_dialect *dialect, const char *pattern, const char *problem,
                            size_t bytes, uint32_t paths, cop_buffer *out);

/* Whether paths begin with a context of their own: `spawn_prompt`. */
bool cop_dialect_spawns(const cop_dialect *dialect);

/* How many times its budget a run's branches may hold together: 1 where they share it and a
 * program adds no texts; else as many as a block has paths, or 8 where that is open, and the
 * parent. */
uint32_t cop_dialect_calls(const cop_dialect *dialect);

/* Where what begins at `begin` of the text ends before a tag at `tag`: the newline before a tag is
 * taken with it. */
size_t cop_dialect_text_end(const char *text, size_t begin, size_t tag);

/* `pattern` with {n} replaced by `number` and {item} by `item`; else as the next. */
cop_status cop_dialect_header(const char *pattern, const char *number, size_t number_bytes,
                              const char *item, size_t item_bytes, char *out, size_t capacity,
                              size_t *bytes);

/* branch_prompt with {n} and {item} replaced: `path` holds the numbers from the outermost block,
 * from 1 ("2.1"), `item` the text of the path's item. Writes at most `capacity` bytes and a NUL;
 * *bytes counts them without it; ERR_NO_ROOM when they do not fit. */
cop_status cop_dialect_branch_prompt(const cop_dialect *dialect, const uint32_t *path,
                                     uint32_t n_path, const char *item, size_t item_bytes,
                                     char *out, size_t capacity, size_t *bytes);

/* The next placeholder of branch_prompt at or after `text`; bytes = 0: none. */
typedef struct cop_mark {
    const char *at;
    uint32_t bytes;
    bool number; /* {n}, else {item} */
} cop_mark;
cop_mark cop_dialect_mark(const char *text);
