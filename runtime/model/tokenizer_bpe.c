#include <string.h>

#include "model/tokenizer_internal.h"

/* Sennrich et al. 2016 with merges by rank: of all neighbouring pairs that merge, the one of lowest
 * rank, leftmost first. A heap of candidates over a linked list makes it O(n log n); candidates
 * whose symbols have changed since are recognised when they come up. */

cop_status cop__ids_push(cop_token_ids *ids, int32_t id) {
    COP_TRY(cop_grow(&ids->data, &ids->capacity, ids->count + 1, sizeof *ids->data));
    ids->data[ids->count++] = id;
    return COP_OK;
}

static bool comes_first(const cop__candidate *a, const cop__candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static cop_status heap_push(cop__encode_work *work, cop__candidate candidate) {
    COP_TRY(cop_grow(&work->heap, &work->heap_capacity, work->heap_count + 1, sizeof *work->heap));
    size_t at = work->heap_count++;
    while (at > 0 && comes_first(&candidate, &work->heap[(at - 1) / 2])) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = candidate;
    return COP_OK;
}

static cop__candidate heap_pop(cop__encode_work *work) {
    cop__candidate top = work->heap[0], last = work->heap[--work->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < work->heap_count; at = child) {
        if (child + 1 < work->heap_count && comes_first(&work->heap[child + 1], &work->heap[child]))
            child++;
        if (!comes_first(&work->heap[child], &last))
            break;
        work->heap[at] = work->heap[child];
    }
    work->heap[at] = last;
    return top;
}

static cop_status consider(const cop_tokenizer *tokenizer, cop__encode_work *work, int32_t left) {
    int32_t right = left < 0 ? -1 : work->symbols[left].next;
    if (right < 0)
        return COP_OK;
    int32_t left_id = work->symbols[left].id, right_id = work->symbols[right].id;
    const cop__merge *merge = cop__merge_find(&tokenizer->merges, left_id, right_id);
    if (!merge)
        return COP_OK;
    return heap_push(work, (cop__candidate){merge->rank, left, left_id, right_id, merge->merged});
}

/* One symbol a byte; a byte that has no token is an error, or left out when the caller asked. */
static cop_status split_bytes(const cop_tokenizer *tokenizer, cop__encode_work *work,
                              const char *piece, size_t bytes, size_t offset, int32_t *count) {
    COP_TRY(cop_grow(&work->symbols, &work->symbol_capacity, bytes, sizeof *work->symbols));
    int32_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = tokenizer->byte_token[(uint8_t)piece[i]];
        if (id < 0 && work->drop_unknown)
            continue;
        if (id < 0)
            return COP_FAIL(COP_ERR_FORMAT,
                            "the text cannot be encoded: byte 0x%02X at offset %zu has no token in "
                            "the vocabulary",
                            (uint8_t)piece[i], offset + i);
        work->symbols[n] = (cop__symbol){.id = id, .previous = n - 1, .next = n + 1};
        n++;
    }
    if (n > 0)
        work->symbols[n - 1].next = -1;
    *count = n;
    return COP_OK;
}

static cop_status merge_all(const cop_tokenizer *tokenizer, cop__encode_work *work, int32_t count) {
    work->heap_count = 0;
    for (int32_t i = 0; i + 1 < count; i++)
        COP_TRY(consider(tokenizer, work, i));
    while (work->heap_count > 0) {
        cop__candidate top = heap_pop(work);
        cop__symbol *left = &work->symbols[top.left];
        if (left->id != top.left_id || left->next < 0 ||
            work->symbols[left->next].id != top.right_id)
            continue;
        cop__symbol *right = &work->symbols[left->next];
        left->id = top.merged;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            work->symbols[left->next].previous = top.left;
        COP_TRY(consider(tokenizer, work, left->previous));
        COP_TRY(consider(tokenizer, work, top.left));
    }
    return COP_OK;
}

/* The piece as one token, -1 when it is none. */
static cop_status find_whole(const cop_tokenizer *tokenizer, cop__encode_work *work,
                             const char *piece, size_t bytes, int32_t *id) {
    COP_TRY(cop_grow(&work->piece_text, &work->piece_capacity, 2 * bytes, 1));
    size_t length = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)piece[i];
        memcpy(work->piece_text + length, tokenizer->byte_text[byte],
               tokenizer->byte_text_bytes[byte]);
        length += tokenizer->byte_text_bytes[byte];
    }
    *id = cop__text_find(tokenizer, work->piece_text, length);
    return COP_OK;
}

cop_status cop__bpe_encode(const cop_tokenizer *tokenizer, cop__encode_work *work,
                           const char *piece, size_t bytes, size_t offset, cop_token_ids *ids) {
    if (cop__pre_takes_whole(tokenizer->pre)) {
        int32_t whole = -1;
        COP_TRY(find_whole(tokenizer, work, piece, bytes, &whole));
        if (whole >= 0)
            return cop__ids_push(ids, whole);
    }
    int32_t count = 0;
    COP_TRY(split_bytes(tokenizer, work, piece, bytes, offset, &count));
    COP_TRY(merge_all(tokenizer, work, count));
    for (int32_t i = count > 0 ? 0 : -1; i >= 0; i = work->symbols[i].next)
        COP_TRY(cop__ids_push(ids, work->symbols[i].id));
    return COP_OK;
}
