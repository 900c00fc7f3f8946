/* What a probe's answer says, as Dynasor reads it (hao-ai-lab/Dynasor@0d2f1b9, core/cot.py and
 * core/entropy.py). Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The length of the text up to the first closing brace that no opening one precedes: what stands in
 * a box that the prompt has opened. 0, an empty answer, when there is none. */
size_t cop_probe_boxed(const char *text, size_t bytes);
/* No hesitation word is a substring of the lower-cased text: "no" is found in "know". */
bool cop_probe_certain(const char *text, size_t bytes);
