/* Dialects that send text to their engine: every call encodes the whole text again, so that a tag's
 * end and what the runtime adds behind it may become one token that nobody said. The KV is kept as
 * far as the new ids agree with those that it holds. */
#include <string.h>

#include "reason/live_internal.h"

/* The prompt's text, and room behind it for all that a call can hold. */
cop_status cop__live_retext_reset(cop_live *live) {
    const cop_live_options *o = &live->options;
    size_t prompt = 0, whole;
    for (uint32_t i = 0; i < o->n_prompt; i++)
        prompt += cop_tokenizer_bytes(o->tokenizer, o->prompt[i]).bytes;
    whole = prompt + live->max_bytes + COP_LIVE_HEADER_BYTES;
    COP_TRY(cop_grow(&live->prompt_text.data, &live->prompt_text.capacity, whole + 1, 1));
    live->prompt_text.bytes = 0;
    for (uint32_t i = 0; i < o->n_prompt; i++) {
        cop_text text = cop_tokenizer_bytes(o->tokenizer, o->prompt[i]);
        memcpy(live->prompt_text.data + live->prompt_text.bytes, text.data, text.bytes);
        live->prompt_text.bytes += text.bytes;
    }
    if (whole > live->encode_bytes) {
        cop_encoder_destroy(live->encoder);
        live->encoder = NULL;
        live->encode_bytes = whole;
        COP_TRY(cop_encoder_create(o->tokenizer, whole, &live->encoder));
        COP_TRY(cop_grow(&live->scratch.data, &live->scratch.capacity, 2 * whole,
                         sizeof *live->scratch.data));
    }
    return cop_grow(&live->again.data, &live->again.capacity, 2 * whole, sizeof *live->again.data);
}

/* Encodes prompt, the parent's text and `more` into `again`. */
static cop_status encode_call(cop_live *live, const cop_live_record *parent, const char *more,
                              size_t bytes) {
    char *text = live->prompt_text.data;
    size_t at = live->prompt_text.bytes;
    memcpy(text + at, parent->text, parent->bytes);
    at += parent->bytes;
    memcpy(text + at, more, bytes);
    live->again.count = 0;
    return cop_encoder_encode(live->encoder, text, at + bytes, (cop_encode_options){.no_bos = true},
                              &live->again);
}

cop_status cop__live_retext_encode(cop_live *live, const cop_live_record *record) {
    return encode_call(live, record, "", 0);
}

/* How many of the parent's first `n` ids the call begins with. ERR_UNSUPPORTED where it has not
 * even the prompt as it was given. */
static cop_status agree(const cop_live *live, const cop_live_record *parent, uint32_t n,
                        uint32_t *same) {
    const cop_live_options *o = &live->options;
    size_t count = live->again.count;
    if (count < o->n_prompt ||
        memcmp(live->again.data, o->prompt, o->n_prompt * sizeof *o->prompt) != 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "dialect %s encodes the whole text at every call, and then this prompt's "
                        "tokens are others than the given ones: end the prompt where a token ends",
                        o->dialect->name);
    *same = 0;
    while (*same < n && o->n_prompt + *same < count &&
           live->again.data[o->n_prompt + *same] == parent->ids[*same])
        ++*same;
    return COP_OK;
}

static cop_status encode_header(cop_live *live, const cop_live_record *parent, uint32_t index) {
    char header[COP_LIVE_HEADER_BYTES];
    size_t bytes;
    COP_TRY(cop__live_header(live, parent, index, live->options.dialect->branch_prompt, header,
                             &bytes));
    return encode_call(live, parent, header, bytes);
}

cop_status cop__live_retext_fork(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    uint32_t keep = parent->kept_ids;
    for (uint32_t i = 0; i < parent->n_children; i++) {
        uint32_t same;
        COP_TRY(encode_header(live, parent, i));
        COP_TRY(agree(live, parent, keep, &same));
        keep = same < keep ? same : keep;
    }
    COP_TRY(cop_engine_retract(engine, parent->branch, parent->kept_ids - keep));
    parent->kept_ids = keep;
    return COP_OK;
}

cop_status cop__live_retext_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                                 const cop_live_record *parent) {
    uint32_t index = (uint32_t)(record - live->records) - parent->first_child;
    COP_TRY(encode_header(live, parent, index));
    uint32_t from = live->options.n_prompt + parent->kept_ids;
    uint32_t n = (uint32_t)live->again.count - from;
    if (n > COP_LIVE_CALL_IDS)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "dialect %s encodes the whole text at every call, and %u tokens of it "
                        "become others; at most %d are followed",
                        live->options.dialect->name, n, COP_LIVE_CALL_IDS);
    memcpy(record->call, live->again.data + from, n * sizeof *record->call);
    cop__live_expect(live, engine, record, n);
    return cop_engine_feed(engine, record->branch, record->call, n, COP_FEED_HEADER);
}

cop_status cop__live_retext_join(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    uint32_t same, n_prompt = live->options.n_prompt;
    COP_TRY(encode_call(live, parent, "", 0));
    COP_TRY(agree(live, parent, parent->kept_ids, &same));
    uint32_t n = (uint32_t)live->again.count - n_prompt;
    if (same < parent->kept_ids || n > parent->max_ids)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "dialect %s encodes the whole text at every call, and what stands before "
                        "the block becomes other tokens after it",
                        live->options.dialect->name);
    memcpy(parent->ids, live->again.data + n_prompt, n * sizeof *parent->ids);
    parent->n_ids = parent->turn_ids = n;
    cop__live_expect(live, engine, parent, n - same);
    uint32_t more = n - same, join = live->n_join < more ? live->n_join : more;
    COP_TRY(
        cop_engine_feed(engine, parent->branch, parent->ids + same, more - join, COP_FEED_AGAIN));
    parent->kept_ids = n;
    return cop_engine_feed(engine, parent->branch, parent->ids + n - join, join, COP_FEED_JOIN);
}
