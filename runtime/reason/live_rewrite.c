/* Text of a branch that becomes another one: it is encoded again behind the prompt, whose own
 * tokens stay. Of the KV what the new tokens begin with is kept, the rest is computed again. */
#include <string.h>

#include "reason/live_internal.h"

cop_status cop__live_rewrite_encode(cop_live *live, cop_message_text text, bool bos) {
    live->scratch.count = 0;
    return cop_encoder_encode(live->encoder, text.data ? text.data : "", text.bytes,
                              (cop_encode_options){.no_bos = !bos}, &live->scratch);
}

uint32_t cop__live_ids_fed(const cop_engine *engine, const cop_live_record *record) {
    return cop_engine_branch(engine, record->branch).next_position - record->origin;
}

bool cop__live_rewrite_fits(const cop_live *live, const cop_engine *engine,
                            const cop_live_record *record, uint32_t ids, size_t n, size_t bytes) {
    return bytes <= live->encode_bytes && bytes + COP_LIVE_SPARE_BYTES < record->max_bytes &&
           n + ids + COP_LIVE_SPARE_IDS < record->max_ids &&
           (uint64_t)record->origin + ids + n < cop_engine_max_positions(engine);
}

void cop__live_cut_ids(const cop_live *live, cop_live_record *record, uint32_t n) {
    while (record->n_ids > n)
        record->bytes -=
            cop_tokenizer_bytes(live->options.tokenizer, record->ids[--record->n_ids]).bytes;
}

cop_status cop__live_take_scratch(cop_live *live, cop_live_record *record, uint32_t base,
                                  uint32_t *same) {
    uint32_t n = (uint32_t)live->scratch.count, i = 0;
    while (i < n && base + i < record->n_ids && record->ids[base + i] == live->scratch.data[i])
        i++;
    cop__live_cut_ids(live, record, base + i);
    *same = base + i;
    return cop__live_append(live, record, live->scratch.data + i, n - i, COP_LIVE_GIVEN);
}

cop_status cop__live_go_on(cop_live *live, cop_engine *engine, cop_live_record *record,
                           uint32_t same) {
    uint32_t n = record->n_ids, fed = cop__live_ids_fed(engine, record),
             kept = same < fed ? same : fed;
    if (kept == n && n > 0)
        kept = n - 1; /* it needs a row to sample from */
    COP_TRY(cop_engine_rewind(engine, record->branch, record->origin + kept));
    kept = cop__live_ids_fed(engine, record);
    record->call_begin = record->bytes;
    record->call_said = record->n_said;
    cop__live_expect(live, engine, record, n - kept);
    uint32_t again = same > kept ? same - kept : 0;
    COP_TRY(cop_engine_feed(engine, record->branch, record->ids + kept, again, COP_FEED_AGAIN));
    kept += again;
    return cop_engine_feed(engine, record->branch, record->ids + kept, n - kept, COP_FEED_JOIN);
}

cop_status cop__live_go_on_behind(cop_live *live, cop_engine *engine, cop_live_record *record,
                                  uint32_t base, cop_message_text text, bool *fits) {
    uint32_t same;
    *fits = cop__live_rewrite_fits(live, engine, record, base, 0, text.bytes);
    if (!*fits)
        return COP_OK;
    COP_TRY(cop__live_rewrite_encode(live, text, false));
    *fits = cop__live_rewrite_fits(live, engine, record, base, live->scratch.count, text.bytes);
    if (!*fits)
        return COP_OK;
    COP_TRY(cop__live_take_scratch(live, record, base, &same));
    return cop__live_go_on(live, engine, record, same);
}

cop_status cop__live_cut_text(cop_live *live, cop_live_record *record, size_t at) {
    char left[COP_LIVE_SPARE_BYTES];
    while (record->bytes > at) {
        size_t bytes =
            cop_tokenizer_bytes(live->options.tokenizer, record->ids[record->n_ids - 1]).bytes;
        size_t begin = record->bytes - bytes, n = begin < at ? at - begin : 0;
        if (n > sizeof left)
            return COP_FAIL(COP_ERR_NO_ROOM, "a token of %zu bytes is cut", bytes);
        memcpy(left, record->text + begin, n);
        cop__live_cut_ids(live, record, record->n_ids - 1);
        if (n == 0)
            continue;
        COP_TRY(cop__live_rewrite_encode(live, (cop_message_text){left, n}, false));
        return cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                                COP_LIVE_QUIET);
    }
    return COP_OK;
}
