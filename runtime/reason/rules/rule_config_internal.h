/* What the loader's own files share: rule_config.c (files, names, prune rules and policies),
 * rule_config_controllers.c (controllers). */
#pragma once

#include "config/json.h"
#include "reason/rules/mlp.h"
#include "reason/rules/rule_config.h"
#include "reason/rules/rule_set.h"

struct cop_rule_config {
    cop_json root;
    const char *name, *source, *kind;
    uint32_t kind_index;
    cop_mlp *scorers[COP_RULE_SET_MAX]; /* that rules borrow */
    uint32_t n_scorers;
};

/* Reads the object and creates its rule; with `out` NULL the object is read alone, so that a file
 * is known to be well-formed when it is loaded. */
typedef cop_status cop__rule_reader(cop_rule_config *config, const cop_json *object,
                                    const cop_rule_limits *limits, const cop_rule_context *context,
                                    cop_rule **out);

cop__rule_reader cop__config_samples, cop__config_skeleton, cop__config_thoughts, cop__config_mcts;

#define COP__CONFIG_TOKENS (1u << 30)
#define COP__CONFIG_BYTES (1ull << 34)

/* Loads a scorer that stands beside the file; NULL while the object is only read. */
cop_status cop__config_scorer(cop_rule_config *config, const cop_json *object, const char *key,
                              uint32_t hidden, bool load, const cop_mlp **out);
/* Keys that every object may have, with those of its kind. */
#define COP__CONFIG_ONLY(object, ...) COP_JSON_ONLY((object), "name", "source", "rule", __VA_ARGS__)
