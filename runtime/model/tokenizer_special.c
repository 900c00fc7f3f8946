#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

static int compare_text(const void *a, const void *b) {
    const cop_text *left = &((const cop__special *)a)->text;
    const cop_text *right = &((const cop__special *)b)->text;
    size_t bytes = left->bytes < right->bytes ? left->bytes : right->bytes;
    int order = memcmp(left->data, right->data, bytes);
    return order ? order : (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

void cop__special_sort(cop__special_set *set) {
    if (set->count > 1)
        qsort(set->items, set->count, sizeof *set->items, compare_text);
    for (uint32_t i = 0; i < set->count; i++)
        set->starts[(uint8_t)set->items[i].text.data[0]] = true;
}

/* The first item of [low, high), which share `depth` bytes, whose next byte is `byte` or more. An
 * item that ends at `depth` comes before all others. */
static uint32_t lower_bound(const cop__special_set *set, uint32_t low, uint32_t high, size_t depth,
                            unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const cop_text *text = &set->items[middle].text;
        if (text->bytes <= depth || (uint8_t)text->data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest special token that begins at text[0]: the range of items that agree with the text
 * narrows byte by byte, and its first item is the one that ends here, if any does. */
static const cop__special *longest_at(const cop__special_set *set, const char *text, size_t bytes) {
    const cop__special *best = NULL;
    uint32_t low = 0, high = set->count;
    for (size_t depth = 0; depth < bytes && low < high; depth++) {
        unsigned byte = (uint8_t)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
        if (low < high && set->items[low].text.bytes == depth + 1)
            best = &set->items[low];
    }
    return best;
}

const cop__special *cop__special_find(const cop__special_set *set, const char *text, size_t bytes) {
    const cop__special *found = longest_at(set, text, bytes);
    return found && found->text.bytes == bytes ? found : NULL;
}

const cop__special *cop__special_next(const cop__special_set *set, const char *text, size_t bytes,
                                      size_t *at) {
    for (; set->count && *at < bytes; ++*at) {
        if (!set->starts[(uint8_t)text[*at]])
            continue;
        const cop__special *found = longest_at(set, text + *at, bytes - *at);
        if (found)
            return found;
    }
    *at = bytes;
    return NULL;
}
