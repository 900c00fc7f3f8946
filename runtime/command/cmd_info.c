/* What this build, this machine and a model are: one JSON object, printed as such or as text. */
#include "command/command.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "command/info_dialect.h"
#include "command/options.h"
#include "measure/ceilings.h"
#include "measure/environment.h"
#include "model/model.h"

static const char about[] =
    "Tells what this build and this machine are: version, commit, flags, backends with their\n"
    "devices or with what they lack, instruction sets, processor, memory. With a model:\n"
    "its shape, tensors, tokenizer, KV bytes a token, hash and how many weights are not finite.\n"
    "--measure reads the machine's ceilings (under 3 s): read bandwidth and FMA peak, which "
    "shares\n"
    "in results are shares of.";

enum { SPECIALS_SHOWN = 12, SHORT_BYTES = 32, PROBE_BYTES = 4096 };

static void set_text(json_t *object, const char *key, const char *text, size_t bytes) {
    json_t *value = json_stringn(text, bytes);
    if (value) /* text that is not UTF-8 is left out */
        json_object_set_new(object, key, value);
}

/* Lines of text as one, "; " between them. */
static void set_line(json_t *object, const char *key, const char *text, size_t bytes) {
    char line[2 * PROBE_BYTES];
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\n')
            line[n++] = ';';
        line[n++] = text[i] == '\n' ? ' ' : text[i];
    }
    set_text(object, key, line, n);
}

/* A backend that cannot run here is no failure: what is missing, and how to get it, is what was
 * asked for. */
static json_t *backend_json(const char *name) {
    const cop_backend_ops *ops = NULL;
    char text[PROBE_BYTES] = "";
    bool available = cop_backend_find(name, &ops) == COP_OK;
    if (!available)
        snprintf(text, sizeof text, "%s", cop_status_message());
    else if (ops->probe)
        available = ops->probe(text, sizeof text);
    size_t bytes = strnlen(text, sizeof text - 1);
    while (bytes && text[bytes - 1] == '\n')
        bytes--;
    json_t *one = json_pack("{s:b}", "available", (int)available);
    if (ops)
        json_object_set_new(one, "clock", json_string(cop_backend_clock(ops)));
    if (bytes && available)
        set_text(one, "devices", text, bytes);
    else if (bytes)
        set_line(one, "why", text, bytes);
    return one;
}

static json_t *backends_json(const char *also) {
    static const char *const names[] = {"cpu", "cuda", "sim"};
    json_t *backends = json_object();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        json_object_set_new(backends, names[i], backend_json(names[i]));
    if (also && !json_object_get(backends, also))
        json_object_set_new(backends, also, backend_json(also));
    return backends;
}

static json_t *isas_json(void) {
    json_t *isas = json_array();
    for (int isa = COP_ISA_PORTABLE; isa <= COP_ISA_AVX512; isa++)
        if (cop_isa_available((cop_isa)isa))
            json_array_append_new(isas, json_string(cop_isa_name((cop_isa)isa)));
    if (cop_isa_has_vnni())
        json_array_append_new(isas, json_string("avx512 with vnni"));
    return isas;
}

static void count_tensor(json_t *types, const cop_tensor *tensor) {
    if (!tensor) /* the family has none */
        return;
    const char *name = cop_dtype_name(tensor->type);
    json_t *type = json_object_get(types, name);
    if (!type) {
        type = json_pack("{s:i, s:i}", "tensors", 0, "bytes", 0);
        json_object_set_new(types, name, type);
    }
    json_t *tensors = json_object_get(type, "tensors"), *bytes = json_object_get(type, "bytes");
    json_integer_set(tensors, json_integer_value(tensors) + 1);
    json_integer_set(bytes, json_integer_value(bytes) + (json_int_t)tensor->bytes);
}

static json_t *tensors_json(const cop_model *model) {
    const cop_model_shape *shape = cop_model_shape_of(model);
    json_t *types = json_object();
    count_tensor(types, cop_model_tensor(model, COP_W_EMBED, 0));
    count_tensor(types, cop_model_tensor(model, COP_W_NORM_FINAL, 0));
    if (!shape->tied)
        count_tensor(types, cop_model_tensor(model, COP_W_OUTPUT, 0));
    for (uint32_t layer = 0; layer < shape->n_layers; layer++)
        for (int weight = COP_W_NORM_ATTN; weight < COP_W_COUNT; weight++)
            count_tensor(types, cop_model_tensor(model, (cop_weight)weight, layer));
    return types;
}

static json_t *shape_json(const cop_model_shape *s) {
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:b, s:b, s:s}", "family",
        cop_model_family_name(s->family), "n_layers", (json_int_t)s->n_layers, "hidden",
        (json_int_t)s->hidden, "n_heads", (json_int_t)s->n_heads, "n_kv_heads",
        (json_int_t)s->n_kv_heads, "head_dim", (json_int_t)s->head_dim, "ffn", (json_int_t)s->ffn,
        "vocab", (json_int_t)s->vocab, "context", (json_int_t)s->context, "rope_theta",
        s->rope_theta, "rms_eps", s->rms_eps, "tied", (int)s->tied, "qkv_bias", (int)s->qkv_bias,
        "head_norms", (int)s->head_norms, "rope_pairs", s->rope_halves ? "halves" : "neighbours");
}

/* K and V of all layers, in the element type of the arithmetic's pool. */
static json_t *kv_json(const cop_model_shape *s) {
    json_t *kv = json_object();
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        json_int_t element = arith == COP_ARITH_F32 ? 4 : 2;
        json_int_t bytes =
            2 * element * (json_int_t)s->n_layers * (json_int_t)s->n_kv_heads * s->head_dim;
        json_object_set_new(kv, cop_arith_name((cop_arith)arith), json_integer(bytes));
    }
    return kv;
}

static void add_token(json_t *list, const cop_tokenizer *tokenizer, int32_t id) {
    cop_text text = cop_tokenizer_bytes(tokenizer, id);
    json_t *token = json_pack("{s:i}", "id", (int)id);
    set_text(token, "text", text.data, text.bytes);
    json_object_set_new(token, "ends", json_boolean(cop_tokenizer_is_end(tokenizer, id)));
    json_array_append_new(list, token);
}

static json_t *tokenizer_json(const cop_model *model, const char *path) {
    const cop_tokenizer *tokenizer = cop_model_tokenizer(model);
    if (!tokenizer)
        return json_null();
    json_t *object = json_object(), *specials = json_array();
    cop_gguf *gguf = NULL;
    if (path && cop_gguf_open(path, &gguf) == COP_OK) {
        cop_text text;
        if (cop_gguf_text(gguf, "tokenizer.ggml.model", &text) == COP_OK)
            set_text(object, "kind", text.data, text.bytes);
        if (cop_gguf_text(gguf, "tokenizer.ggml.pre", &text) == COP_OK)
            set_text(object, "pre", text.data, text.bytes);
    }
    cop_gguf_close(gguf);
    json_int_t count = 0;
    uint32_t vocab = cop_tokenizer_vocab(tokenizer);
    for (uint32_t id = 0; id < vocab; id++) {
        if (!cop_tokenizer_is_special(tokenizer, (int32_t)id))
            continue;
        if (count++ < SPECIALS_SHOWN || cop_tokenizer_is_end(tokenizer, (int32_t)id))
            add_token(specials, tokenizer, (int32_t)id);
    }
    json_object_set_new(object, "vocab", json_integer(vocab));
    json_object_set_new(object, "bos", json_integer(cop_tokenizer_bos(tokenizer)));
    json_object_set_new(object, "eos", json_integer(cop_tokenizer_eos(tokenizer)));
    json_object_set_new(object, "special_tokens", json_integer(count));
    json_object_set_new(object, "specials", specials);
    return object;
}

static cop_status model_json(cop_model *model, const char *path, json_t **out) {
    char hash[65], first[COP_WEIGHT_NAME_BYTES];
    uint64_t nonfinite = 0;
    COP_TRY(cop_model_sha256(model, hash));
    COP_TRY(cop_model_count_nonfinite(model, &nonfinite, first));
    const cop_model_shape *shape = cop_model_shape_of(model);
    *out =
        json_pack("{s:s, s:b, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "name", cop_model_name(model),
                  "random_weights", (int)cop_model_is_random(model), "sha256", hash, "weight_bytes",
                  (json_int_t)cop_model_weight_bytes(model), "weights_not_finite",
                  (json_int_t)nonfinite, "shape", shape_json(shape), "tensors", tensors_json(model),
                  "kv_bytes_per_token", kv_json(shape), "tokenizer", tokenizer_json(model, path));
    if (!*out)
        return COP_FAIL(COP_ERR_FORMAT, "the model's name is not UTF-8");
    if (nonfinite)
        set_text(*out, "first_not_finite", first, strlen(first));
    return COP_OK;
}

static cop_status collect(const char *model_path, const char *random, const char *backend,
                          bool measure, json_t *info) {
    json_t *environment = NULL, *described = NULL;
    COP_TRY(cop_environment_read(&environment));
    json_object_update(info, environment);
    json_decref(environment);
    json_object_set_new(info, "backends", backends_json(backend));
    json_object_set_new(info, "isa", isas_json());
    if (measure) {
        double gbps = 0, gflops = 0;
        COP_TRY(cop_ceilings_measure(0, &gbps, &gflops));
        json_object_set_new(info, "ceilings",
                            json_pack("{s:f, s:f}", "read_gbps", gbps, "fma_gflops", gflops));
    }
    if (!model_path && !random)
        return COP_OK;
    cop_model *model = NULL;
    COP_TRY(model_path ? cop_model_open(model_path, &model)
                       : cop_model_open_random(random, &model));
    cop_status status = model_json(model, model_path, &described);
    if (status == COP_OK)
        json_object_set_new(info, "model", described);
    cop_model_close(model);
    return status;
}

/* "key: value" with nested objects below, indented; arrays of texts on one line. */
/* It begins or ends with a space or a newline, which quotes make visible. */
static bool has_edges(const json_t *text) {
    const char *first = json_string_value(text);
    const size_t bytes = json_string_length(text);
    return bytes > 0 &&
           (isspace((unsigned char)first[0]) || isspace((unsigned char)first[bytes - 1]));
}

static cop_status put_value(cop_buffer *out, const char *key, const json_t *value, int depth) {
    COP_TRY(cop_buffer_printf(out, "%*s%s:", 2 * depth, "", key));
    if (json_is_object(value)) {
        const char *member;
        json_t *child;
        COP_TRY(cop_buffer_printf(out, "\n"));
        json_object_foreach((json_t *)value, member, child) {
            COP_TRY(put_value(out, member, child, depth + 1));
        }
        return COP_OK;
    }
    if (json_is_array(value)) {
        const json_t *head = json_array_get(value, 0); /* sentences stand each on a line */
        bool lines = json_is_object(head) || json_string_length(head) > SHORT_BYTES;
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *item = json_array_get(value, i);
            char *text = json_is_string(item) ? NULL : json_dumps(item, JSON_ENCODE_ANY);
            cop_status status =
                cop_buffer_printf(out, lines ? "\n%*s%s" : "%*s%s", lines ? 2 * depth + 2 : 1, "",
                                  text ? text : json_string_value(item));
            free(text);
            COP_TRY(status);
        }
        return cop_buffer_printf(out, "\n");
    }
    if (json_is_string(value) && !has_edges(value)) {
        const char *line = json_string_value(value);
        if (!strchr(line, '\n'))
            return cop_buffer_printf(out, " %s\n", line);
        COP_TRY(cop_buffer_printf(out, "\n"));
        for (size_t bytes; *line; line += bytes + (line[bytes] == '\n')) {
            bytes = strcspn(line, "\n");
            COP_TRY(cop_buffer_printf(out, "%*s%.*s\n", 2 * depth + 2, "", (int)bytes, line));
        }
        return COP_OK;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    cop_status status = cop_buffer_printf(out, " %s\n", text ? text : "?");
    free(text);
    return status;
}

static cop_status print(const json_t *info, bool json) {
    cop_buffer out = {0};
    cop_status status = COP_OK;
    if (json) {
        char *text = json_dumps(info, JSON_INDENT(2));
        status = text ? cop_buffer_printf(&out, "%s\n", text)
                      : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the description");
        free(text);
    } else {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)info, key, value) {
            if (status == COP_OK)
                status = put_value(&out, key, value, 0);
        }
    }
    if (status == COP_OK)
        status = cop_command_output(&out);
    cop_buffer_release(&out);
    return status;
}

int cop_command_info(int argc, char **argv) {
    const char *model = NULL, *random = NULL, *backend = NULL;
    const char *dialect = NULL;
    bool json = false, measure = false, dialects = false;
    const cop_option options[] = {
        {"model", COP_OPTION_TEXT, &model, "FILE", "describe this GGUF model too"},
        {"random", COP_OPTION_TEXT, &random, "SHAPE.json", "or random weights of this shape"},
        {"backend", COP_OPTION_TEXT, &backend, "NAME", "look for this backend module as well"},
        {"measure", COP_OPTION_FLAG, &measure, NULL, "measure read bandwidth and FMA peak"},
        {"dialect", COP_OPTION_TEXT, &dialect, "NAME",
         "this dialect instead, supported or not: a name in configs/dialects/, or a file"},
        {"dialects", COP_OPTION_FLAG, &dialects, NULL, "or a table of all, in Markdown"},
        {"json", COP_OPTION_FLAG, &json, NULL, "print one JSON object"},
    };
    const cop_command_line line = {"info",
                                   "[--model FILE | --random SHAPE.json] [--backend NAME] "
                                   "[--measure] [--json]\n"
                                   "   or: coppice info --dialect NAME [--json] | --dialects",
                                   about, options, sizeof options / sizeof options[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK && model && random)
        status = COP_FAIL(COP_ERR_USAGE, "--model and --random exclude each other");
    if (status == COP_OK && (dialect || dialects) &&
        (model || random || backend || measure || (dialects && (dialect || json))))
        status = COP_FAIL(COP_ERR_USAGE, "--dialect and --dialects stand alone");
    if (status == COP_OK && dialects) {
        cop_buffer table = {0};
        status = cop_info_dialects(&table);
        if (status == COP_OK)
            status = cop_command_output(&table);
        cop_buffer_release(&table);
        return status == COP_OK ? 0 : cop_command_fail("info", status);
    }
    json_t *info = NULL;
    if (status == COP_OK && dialect)
        status = cop_info_dialect(dialect, &info);
    else if (status == COP_OK)
        info = json_object();
    if (status == COP_OK && !dialect)
        status = collect(model, random, backend, measure, info);
    if (status == COP_OK)
        status = print(info, json);
    json_decref(info);
    return status == COP_OK ? 0 : cop_command_fail("info", status);
}
