#include "command/command.h"

#include <stdio.h>

#include "command/jsonl.h"
#include "command/options.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

typedef struct tokenize_options {
    const char *model, *input;
    bool decode, no_special, strict;
} tokenize_options;

static const char about[] =
    "Turns text into token ids, one JSON object a line:\n"
    "  {\"text\": \"Hi\"}  ->  {\"ids\": [26843]}         and back with --decode.\n"
    "The text of special tokens (<|im_end|>) is parsed as special tokens. Nothing is added, no "
    "BOS,\n"
    "unless the model's metadata says so. Other keys of a line are ignored. Output appears only\n"
    "when every line is good; a bad one is named as FILE:LINE, exit code 2.\n"
    "A byte that no token of the vocabulary stands for is left out, as the tokenizers library\n"
    "does, and the lines that lost one are counted on stderr; with --strict it is an error.\n"
    "With --decode, bytes that are not UTF-8 come out as U+FFFD.";

/* A line that loses bytes is counted: nobody should have to find out by comparing. */
static cop_status encode_line(const cop_tokenizer *tokenizer, const tokenize_options *options,
                              const json_t *line, cop_token_ids *ids, size_t *lossy,
                              cop_buffer *out) {
    const char *text;
    size_t bytes;
    COP_TRY(cop_jsonl_text(line, &text, &bytes));
    cop_encode_options how = {.plain = options->no_special};
    ids->count = 0;
    cop_status status = cop_tokenizer_encode(tokenizer, text, bytes, how, ids);
    if (status == COP_ERR_FORMAT && !options->strict) {
        how.drop_unknown = true;
        status = cop_tokenizer_encode(tokenizer, text, bytes, how, ids);
        *lossy += status == COP_OK;
    }
    COP_TRY(status);
    COP_TRY(cop_buffer_printf(out, "{\"ids\": ["));
    for (size_t i = 0; i < ids->count; i++)
        COP_TRY(cop_buffer_printf(out, i ? ", %d" : "%d", ids->data[i]));
    return cop_buffer_printf(out, "]}\n");
}

static cop_status decode_line(const cop_tokenizer *tokenizer, const json_t *line,
                              cop_token_ids *ids, cop_buffer *text, cop_buffer *out) {
    COP_TRY(cop_jsonl_ids(line, cop_tokenizer_vocab(tokenizer), ids));
    cop_utf8_stream stream = {0};
    text->bytes = 0;
    for (size_t i = 0; i <= ids->count; i++) {
        bool flush = i == ids->count;
        cop_text piece = flush ? (cop_text){"", 0} : cop_tokenizer_bytes(tokenizer, ids->data[i]);
        COP_TRY(cop_grow(&text->data, &text->capacity,
                         text->bytes + 3 * piece.bytes + COP_UTF8_SLACK, 1));
        text->bytes +=
            cop_utf8_stream_push(&stream, piece.data, piece.bytes, flush, text->data + text->bytes);
    }
    json_t *object = json_pack("{s:o}", "text", json_stringn(text->data, text->bytes));
    char *printed = object ? json_dumps(object, 0) : NULL;
    json_decref(object);
    if (!printed)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to print %zu bytes of text", text->bytes);
    cop_status status = cop_buffer_printf(out, "%s\n", printed);
    free(printed);
    return status;
}

static cop_status translate(const cop_tokenizer *tokenizer, const tokenize_options *options,
                            cop_jsonl *input, size_t *lossy, cop_buffer *out) {
    cop_token_ids ids = {0};
    cop_buffer text = {0};
    json_t *line = NULL;
    cop_status status;
    while ((status = cop_jsonl_next(input, &line)) == COP_OK && line) {
        status = options->decode ? decode_line(tokenizer, line, &ids, &text, out)
                                 : encode_line(tokenizer, options, line, &ids, lossy, out);
        json_decref(line);
        if (status != COP_OK) {
            status = cop_jsonl_fail(input, status);
            break;
        }
    }
    cop_token_ids_release(&ids);
    cop_buffer_release(&text);
    return status;
}

static cop_status tokenize(const tokenize_options *options, cop_buffer *out) {
    cop_gguf *gguf = NULL;
    cop_tokenizer *tokenizer = NULL;
    cop_jsonl input = {0};
    size_t lossy = 0;
    cop_status status = cop_gguf_open(options->model, &gguf);
    if (status != COP_OK)
        goto done;
    status = cop_tokenizer_create(gguf, &tokenizer);
    if (status != COP_OK) {
        status = cop_status_prefix(status, "%s", options->model);
        goto done;
    }
    status = cop_jsonl_open(options->input, &input);
    if (status != COP_OK)
        goto done;
    status = translate(tokenizer, options, &input, &lossy, out);
    if (status == COP_OK && lossy)
        fprintf(stderr,
                "coppice: tokenize: warning: %zu lines hold bytes that no token stands for; they "
                "were left out\n",
                lossy);
done:
    cop_jsonl_close(&input);
    cop_tokenizer_destroy(tokenizer);
    cop_gguf_close(gguf);
    return status;
}

int cop_command_tokenize(int argc, char **argv) {
    tokenize_options options = {0};
    const cop_option list[] = {
        {"model", COP_OPTION_TEXT, &options.model, "FILE", "a GGUF model", .required = true},
        {"input", COP_OPTION_TEXT, &options.input, "FILE", "JSON lines; - is stdin",
         .required = true},
        {"decode", COP_OPTION_FLAG, &options.decode, NULL, "{\"ids\"} in, {\"text\"} out"},
        {"no-special", COP_OPTION_FLAG, &options.no_special, NULL,
         "text of special tokens is ordinary text"},
        {"strict", COP_OPTION_FLAG, &options.strict, NULL,
         "a byte that no token stands for is an error"},
    };
    const cop_command_line line = {
        .verb = "tokenize",
        .usage = "--model FILE --input FILE [--decode] [--no-special] [--strict]",
        .about = about,
        .options = list,
        .n_options = sizeof list / sizeof list[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status != COP_OK)
        return cop_command_fail("tokenize", status);
    if (operands.help)
        return 0;
    cop_buffer out = {0};
    status = tokenize(&options, &out);
    if (status == COP_OK)
        status = cop_command_output(&out);
    cop_buffer_release(&out);
    return status == COP_OK ? 0 : cop_command_fail("tokenize", status);
}
