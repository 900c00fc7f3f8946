#include <math.h>
#include <omp.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "check.h"
#include "model/model.h"

static const char tiny_path[] = "configs/models/tiny-2layer.json";
static const char smol_path[] = "configs/models/smollm2-135m.json";

/* The shape file with every edits[2i] replaced by edits[2i + 1], up to a NULL, opened. */
static cop_status open_edited(const char *shape, const char *const *edits, cop_model **model) {
    char text[4096] = "", path[] = "/tmp/test_model_random_XXXXXX";
    FILE *file = fopen(shape, "rb");
    CHECK(file && fread(text, 1, sizeof text / 2, file) > 0);
    fclose(file);
    for (; *edits; edits += 2) {
        char *at = strstr(text, edits[0]);
        CHECK(at);
        char *rest = strdup(at + strlen(edits[0]));
        CHECK(rest && (size_t)(at - text) + strlen(edits[1]) + strlen(rest) < sizeof text);
        sprintf(at, "%s%s", edits[1], rest);
        free(rest);
    }
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0);
    dprintf(descriptor, "%s", text);
    close(descriptor);
    cop_status status = cop_model_open_random(path, model);
    if (status != COP_OK)
        CHECK_MESSAGE("/tmp/test_model_random_");
    unlink(path);
    return status;
}

/* The tiny shape with `from` replaced by `to`, opened. */
static cop_status open_changed(const char *from, const char *to, cop_model **model) {
    const char *const edits[] = {from, to, NULL};
    return open_edited(tiny_path, edits, model);
}

/* All weights in the order of the roles. */
static void hash_weights(const cop_model *model, char hex[65]) {
    cop_sha256 sha;
    cop_sha256_begin(&sha);
    for (int w = 0; w < COP_W_COUNT; w++)
        for (uint32_t layer = 0;
             layer < (w < COP_W_NORM_ATTN ? 1 : cop_model_shape_of(model)->n_layers); layer++) {
            const cop_tensor *tensor = cop_model_tensor(model, (cop_weight)w, layer);
            if (tensor)
                cop_sha256_add(&sha, tensor->data, tensor->bytes);
        }
    cop_sha256_finish(&sha, hex);
}

static void test_the_tiny_shape(void) {
    cop_model *model;
    CHECK_OK(cop_model_open_random(tiny_path, &model));
    const cop_model_shape *s = cop_model_shape_of(model);
    CHECK(s->n_layers == 2 && s->hidden == 64 && s->n_heads == 4 && s->n_kv_heads == 2);
    CHECK(s->head_dim == 16 && s->ffn == 160 && s->vocab == 320 && s->context == 32768);
    CHECK(s->rope_theta == 10000 && s->rms_eps == 1e-5 && !s->tied);
    CHECK(cop_model_is_random(model) && !cop_model_tokenizer(model));
    CHECK_TEXT(cop_model_name(model), "tiny, two layers");
    CHECK_TEXT(cop_model_warning(model), "");
    CHECK_OK(cop_model_check(model));
    cop_model_close(model);
}

static void test_a_tied_output_is_the_embedding(void) {
    cop_model *model;
    for (int tied = 0; tied < 2; tied++) {
        CHECK_OK(
            open_changed("\"tied\": false", tied ? "\"tied\": true" : "\"tied\": false", &model));
        CHECK_EQ(cop_model_tensor(model, COP_W_OUTPUT, 0)->data ==
                     cop_model_tensor(model, COP_W_EMBED, 0)->data,
                 tied);
        cop_model_close(model);
    }
}

/* The same bytes on every machine: if this changes, every result on random weights does. */
static void test_weights_are_frozen(void) {
    static const struct {
        const char *dtype, *sha256;
    } rows[] = {
        {"F32", "bde95364a6c9a6c8647e573fcc81e30d636e7a853716743fb9a48fbf64a5bf00"},
        {"F16", "b7cf2cdc8b4271849b23bcda660c73474eb3b7db5e73b56b2e845d2e1b6542e1"},
        {"BF16", "4b220b032a754103acd3d83fc56ce854ca239f6e82d0364f4d984b21ac8ff590"},
        {"Q8_0", "af889ea741d468a8699dce85fbe5aaf95befdcaad09d8efd5298089bbd2e424d"},
        {"Q4_0", "a8de0d198fea5821734cf61889aa0b886d6ad24c6c3dbb426d746d5c3013001c"},
        {"Q4_1", "9087bbdd28a996950456f8ea2aa9310bc243f286b9d2e6ab536ec2d05a96e336"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char hex[65], to[32];
        cop_model *model;
        snprintf(to, sizeof to, "\"%s\"", rows[i].dtype);
        CHECK_OK(open_changed("\"Q4_1\"", to, &model));
        hash_weights(model, hex);
        CHECK_TEXT(hex, rows[i].sha256);
        cop_model_close(model);
    }
}

static void test_weights_of_other_families_are_frozen(void) {
    static const struct {
        const char *path, *dtype, *sha256;
    } rows[] = {
        {"configs/models/tiny-qwen2.json", "\"Q4_1\"",
         "b98d99725058e71bbd68bf7ff8bf125489908a1fe5ce1b9725b81b6302f91a03"},
        {"configs/models/tiny-qwen3.json", "\"Q8_0\"",
         "1c24ee95222df89897108adbf582f5ff6285b17960323b956c3cd5d6966cca99"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char hex[65];
        cop_model *model;
        const char *const edits[] = {rows[i].dtype, "\"F32\"", NULL};
        CHECK_OK(open_edited(rows[i].path, edits, &model));
        hash_weights(model, hex);
        CHECK_TEXT(hex, rows[i].sha256);
        cop_model_close(model);
    }
}

/* A family adds weights and another use of them: what two families share stays as it was. */
static void test_a_family_changes_no_other_weight(void) {
    static const char *const texts[] = {"\"family\": \"llama\", \"seed\"",
                                        "\"family\": \"qwen2\", \"seed\"",
                                        "\"family\": \"qwen3\", \"seed\""};
    cop_model *model, *other;
    char hex[3][65], plain[65];
    CHECK_OK(cop_model_open_random(tiny_path, &model));
    CHECK_OK(cop_model_sha256(model, plain));
    for (int f = 0; f < COP_FAMILY_COUNT; f++) {
        CHECK_OK(open_changed("\"seed\"", texts[f], &other));
        const cop_model_shape *s = cop_model_shape_of(other);
        CHECK(s->family == (cop_model_family)f && s->rope_halves == (f > 0));
        CHECK(s->qkv_bias == (f == 1) && s->head_norms == (f == 2));
        CHECK_OK(cop_model_sha256(other, hex[f]));
        int added = 0;
        for (int w = 0; w < COP_W_COUNT; w++) {
            const cop_tensor *a = cop_model_tensor(model, (cop_weight)w, 0);
            const cop_tensor *b = cop_model_tensor(other, (cop_weight)w, 0);
            CHECK(!a || (b && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0));
            added += !a && b;
        }
        CHECK_EQ(added, f == 1 ? 3 : f == 2 ? 2 : 0);
        cop_model_close(other);
    }
    CHECK_TEXT(hex[0], plain); /* the family that goes without saying */
    CHECK(strcmp(hex[1], plain) && strcmp(hex[2], plain) && strcmp(hex[1], hex[2]));
    cop_model_close(model);
}

static void test_threads_do_not_matter(void) {
    char one[65], more[65];
    cop_model *model;
    int before = omp_get_max_threads();
    for (int threads = 1; threads <= 3; threads += 2) {
        omp_set_num_threads(threads);
        CHECK_OK(open_changed("\"vocab\": 320", "\"vocab\": 32000", &model));
        hash_weights(model, threads == 1 ? one : more);
        cop_model_close(model);
    }
    omp_set_num_threads(before);
    CHECK_TEXT(one, more);
}

/* A larger ffn or another layer leaves the other tensors as they were. */
static void test_tensors_do_not_depend_on_each_other(void) {
    cop_model *model, *other;
    CHECK_OK(cop_model_open_random(tiny_path, &model));
    CHECK_OK(open_changed("\"ffn\": 160", "\"ffn\": 192", &other));
    const cop_tensor *a = cop_model_tensor(model, COP_W_K, 1);
    const cop_tensor *b = cop_model_tensor(other, COP_W_K, 1);
    CHECK(a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0);
    const cop_tensor *c = cop_model_tensor(model, COP_W_K, 0);
    CHECK(memcmp(a->data, c->data, a->bytes) != 0);
    const cop_tensor *v = cop_model_tensor(model, COP_W_V, 1);
    CHECK(memcmp(a->data, v->data, a->bytes) != 0);
    cop_model_close(other);
    cop_model_close(model);
}

static void test_the_hash_names_shape_and_seed(void) {
    static const char *const changes[][2] = {
        {"\"seed\": 1", "\"seed\": 2"},
        {"\"context\": 32768", "\"context\": 32767"},
        {"\"rope_theta\": 10000", "\"rope_theta\": 10000.5"},
        {"\"tied\": false", "\"tied\": true"},
        {"\"Q4_1\"", "\"Q4_0\""},
    };
    cop_model *model;
    char hex[6][65], same[65];
    CHECK_OK(cop_model_open_random(tiny_path, &model));
    CHECK_OK(cop_model_sha256(model, hex[5]));
    CHECK_OK(cop_model_sha256(model, same));
    CHECK_TEXT(hex[5], same);
    CHECK_EQ(strlen(same), 64);
    cop_model_close(model);
    for (int i = 0; i < 5; i++) {
        CHECK_OK(open_changed(changes[i][0], changes[i][1], &model));
        CHECK_OK(cop_model_sha256(model, hex[i]));
        cop_model_close(model);
        for (int k = 0; k < i; k++)
            CHECK(strcmp(hex[i], hex[k]) != 0);
        CHECK(strcmp(hex[i], hex[5]) != 0);
    }
    /* The name is only a name. */
    CHECK_OK(open_changed("tiny, two", "other", &model));
    CHECK_OK(cop_model_sha256(model, hex[0]));
    CHECK_TEXT(hex[0], hex[5]);
    cop_model_close(model);
}

static void moments(const cop_tensor *tensor, double *mean, double *deviation) {
    size_t count = (size_t)(tensor->rows * tensor->cols);
    float *values = malloc(count * sizeof *values);
    double sum = 0, squares = 0;
    cop_dtype_widen(tensor->type, tensor->data, count, values);
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i];
    *mean = sum / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += ((double)values[i] - *mean) * ((double)values[i] - *mean);
    *deviation = sqrt(squares / (double)count);
    free(values);
}

static void test_weights_have_their_scale(void) {
    cop_model *model;
    CHECK_OK(cop_model_open_random(tiny_path, &model));
    for (int w = 0; w <= COP_W_DOWN; w++) {
        const cop_tensor *tensor = cop_model_tensor(model, (cop_weight)w, 0);
        double mean, deviation, want = 1 / sqrt((double)tensor->cols);
        moments(tensor, &mean, &deviation);
        if (w == COP_W_NORM_FINAL || w == COP_W_NORM_ATTN || w == COP_W_NORM_FFN) {
            CHECK_EQ(tensor->type, COP_F32);
            CHECK(fabs(mean - 1) < 0.05 && deviation > 0.05 && deviation < 0.1);
            continue;
        }
        want *= w == COP_W_OUTPUT ? 3 : w == COP_W_O || w == COP_W_DOWN ? 0.5 : 1;
        CHECK(fabs(mean) < 0.05 * want);
        CHECK(fabs(deviation / want - 1) < 0.03);
        CHECK_EQ(tensor->type, w == COP_W_OUTPUT || w == COP_W_EMBED ? COP_Q8_0 : COP_Q4_1);
    }
    /* What a step reads: all but the embedding, which is not tied here. */
    uint64_t bytes = 0;
    for (int w = COP_W_NORM_FINAL; w <= COP_W_DOWN; w++)
        bytes += (w < COP_W_NORM_ATTN ? 1 : 2) * cop_model_tensor(model, (cop_weight)w, 0)->bytes;
    CHECK_EQ(cop_model_weight_bytes(model), bytes);
    cop_model_close(model);
}

/* Biases and head norms: F32, of the length of what they meet, large enough to be missed. */
static void test_vectors_have_their_scale(void) {
    static const struct {
        const char *path;
        cop_weight weight;
        uint32_t length;
        double mean, deviation;
    } rows[] = {
        {"configs/models/tiny-qwen2.json", COP_W_Q_BIAS, 128, 0, 0.5},
        {"configs/models/tiny-qwen2.json", COP_W_K_BIAS, 64, 0, 0.5},
        {"configs/models/tiny-qwen2.json", COP_W_V_BIAS, 64, 0, 0.5},
        {"configs/models/tiny-qwen3.json", COP_W_Q_NORM, 64, 1, 0.0722},
        {"configs/models/tiny-qwen3.json", COP_W_K_NORM, 64, 1, 0.0722},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cop_model *model;
        double mean, deviation;
        CHECK_OK(cop_model_open_random(rows[i].path, &model));
        const cop_tensor *tensor = cop_model_tensor(model, rows[i].weight, 1);
        CHECK(tensor->type == COP_F32 && tensor->rows == 1 && tensor->cols == rows[i].length);
        moments(tensor, &mean, &deviation);
        CHECK(fabs(mean - rows[i].mean) < 0.4 * rows[i].deviation);
        CHECK(fabs(deviation / rows[i].deviation - 1) < 0.2);
        const cop_tensor *first = cop_model_tensor(model, rows[i].weight, 0);
        CHECK(memcmp(first->data, tensor->data, tensor->bytes) != 0);
        cop_model_close(model);
    }
}

static void test_bad_shapes_are_refused(void) {
    static const struct {
        const char *from, *to;
        cop_status status;
        const char *message;
    } rows[] = {
        {"\"ffn\"", "\"fnn\"", COP_ERR_CONFIG, "\"fnn\" is not a known key"},
        {"\"ffn\": 160", "\"ffn\": 160, \"ffn\": 160", COP_ERR_CONFIG, "duplicate"},
        {"\"ffn\": 160,", "", COP_ERR_CONFIG, "\"ffn\" is missing"},
        {"\"ffn\": 160", "\"ffn\": 0", COP_ERR_CONFIG, "\"ffn\" is 0"},
        {"\"ffn\": 160", "\"ffn\": 1048577", COP_ERR_CONFIG, "\"ffn\" is 1048577"},
        {"\"ffn\": 160", "\"ffn\": 176", COP_ERR_CONFIG, "blk.0.ffn_down.weight has rows of 176"},
        {"\"n_layers\": 2", "\"n_layers\": 2.0", COP_ERR_CONFIG, "\"n_layers\" is a number with"},
        {"\"n_layers\": 2", "\"n_layers\": 0", COP_ERR_CONFIG, "\"n_layers\" is 0"},
        {"\"n_layers\": 2", "\"n_layers\": 1025", COP_ERR_CONFIG, "\"n_layers\" is 1025"},
        {"\"hidden\": 64", "\"hidden\": 0", COP_ERR_CONFIG, "\"hidden\" is 0"},
        {"\"hidden\": 64", "\"hidden\": 65537", COP_ERR_CONFIG, "\"hidden\" is 65537"},
        {"\"n_heads\": 4", "\"n_heads\": 0", COP_ERR_CONFIG, "\"n_heads\" is 0"},
        {"\"n_heads\": 4", "\"n_heads\": 5", COP_ERR_CONFIG, "5 attention heads do not divide"},
        {"\"n_kv_heads\": 2", "\"n_kv_heads\": 0", COP_ERR_CONFIG, "\"n_kv_heads\" is 0"},
        {"\"head_dim\": 16", "\"head_dim\": 24", COP_ERR_UNSUPPORTED, "a head dimension of 24"},
        {"\"head_dim\": 16", "\"head_dim\": 272", COP_ERR_CONFIG, "\"head_dim\" is 272"},
        {"\"vocab\": 320", "\"vocab\": 0", COP_ERR_CONFIG, "\"vocab\" is 0"},
        {"\"context\": 32768", "\"context\": 0", COP_ERR_CONFIG, "\"context\" is 0"},
        {"\"rope_theta\": 10000", "\"rope_theta\": 0.5", COP_ERR_CONFIG, "\"rope_theta\" is 0.5"},
        {"\"rms_eps\": 1e-5", "\"rms_eps\": 0", COP_ERR_CONFIG, "\"rms_eps\" is 0"},
        {"\"tied\": false", "\"tied\": 1", COP_ERR_CONFIG, "\"tied\" is an integer"},
        {"\"Q4_1\"", "\"Q4_K\"", COP_ERR_CONFIG, "\"dtype\" is 'Q4_K'; give one of: F32"},
        {"\"seed\": 1", "\"seed\": -1", COP_ERR_CONFIG, "\"seed\" is -1"},
        {"\"seed\": 1", "\"family\": \"gpt2\"", COP_ERR_CONFIG,
         "\"family\" is 'gpt2'; give one of: llama, qwen2, qwen3"},
        {"\"seed\": 1", "\"family\": 2", COP_ERR_CONFIG, "\"family\" is an integer"},
        {"\"seed\": 1", "\"qkv_bias\": true", COP_ERR_CONFIG, "\"qkv_bias\" is not a known key"},
        {"\"name\": \"tiny, two layers\"", "\"name\": \"\"", COP_ERR_CONFIG, "\"name\" is empty"},
    };
    cop_model *model;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK_STATUS(open_changed(rows[i].from, rows[i].to, &model), rows[i].status);
        CHECK_MESSAGE(rows[i].message);
        CHECK(!model);
    }
    CHECK_OK(open_changed(",\n  \"seed\": 1", "", &model)); /* the one key with a default */
    cop_model_close(model);
    char name[200] = "tiny, two layers"; /* longer than is kept */
    memset(name + strlen(name), 'y', sizeof name - 1 - strlen(name));
    CHECK_OK(open_changed("tiny, two layers", name, &model));
    CHECK_EQ(strlen(cop_model_name(model)), 127);
    cop_model_close(model);
    CHECK_STATUS(cop_model_open_random("/nonexistent.json", &model), COP_ERR_IO);
}

static void test_weights_larger_than_the_machine(void) {
    char path[] = "/tmp/test_model_random_XXXXXX";
    cop_model *model;
    int descriptor = mkstemp(path);
    dprintf(descriptor,
            "{\"name\": \"huge\", \"n_layers\": 1024, \"hidden\": 65536, \"n_heads\": 1024,"
            " \"n_kv_heads\": 1024, \"head_dim\": 256, \"ffn\": 1048576, \"vocab\": 4194304,"
            " \"context\": 1, \"rope_theta\": 1, \"rms_eps\": 0.1, \"tied\": false,"
            " \"dtype\": \"F32\"}");
    close(descriptor);
    CHECK_STATUS(cop_model_open_random(path, &model), COP_ERR_NO_MEMORY);
    CHECK_MESSAGE("do not fit into this machine");
    unlink(path);
}

/* The committed shape weighs what the published file does. */
static void test_smollm2_shape(void) {
    struct timespec begin, end;
    cop_model *model;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    CHECK_OK(cop_model_open_random(smol_path, &model));
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("  134.5 M weights made in %.2f s\n",
           (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9);
    const cop_model_shape *s = cop_model_shape_of(model);
    CHECK(s->n_layers == 30 && s->hidden == 576 && s->n_heads == 9 && s->n_kv_heads == 3);
    CHECK(s->head_dim == 64 && s->ffn == 1536 && s->vocab == 49152 && s->context == 8192);
    CHECK(s->rope_theta == 100000 && s->rms_eps == 1e-5 && s->tied);
    CHECK_EQ(cop_model_weight_bytes(model), 98362432 - 1785664);
    cop_model_close(model);
}

/* The committed shapes of published models have the parameters of Hugging Face's models of their
 * configurations (transformers 5.23, counted on the "meta" device). Made with one layer and 32
 * tokens, so that it takes no time; the rest is multiplication. */
static void test_published_shapes_have_their_parameters(void) {
    static const struct {
        const char *path, *layers_key;
        uint64_t layers, parameters;
    } rows[] = {
        {"configs/models/qwen2.5-0.5b.json", "\"n_layers\": 24", 24, 494032768},
        {"configs/models/qwen3-0.6b.json", "\"n_layers\": 28", 28, 596049920},
        {"configs/models/qwen3-8b.json", "\"n_layers\": 36", 36, 8190735360},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cop_model *model;
        const char *const edits[] = {rows[i].layers_key, "\"n_layers\": 1", "\"vocab\": 151936",
                                     "\"vocab\": 32", NULL};
        CHECK_OK(open_edited(rows[i].path, edits, &model));
        const cop_model_shape *s = cop_model_shape_of(model);
        uint64_t layer = 0, ends = s->hidden + 151936ull * s->hidden * (s->tied ? 1 : 2);
        for (int w = COP_W_NORM_ATTN; w < COP_W_COUNT; w++) {
            const cop_tensor *tensor = cop_model_tensor(model, (cop_weight)w, 0);
            layer += tensor ? tensor->rows * tensor->cols : 0;
        }
        CHECK_EQ(ends + rows[i].layers * layer, rows[i].parameters);
        CHECK(s->rope_theta == 1e6 && s->rms_eps == 1e-6);
        CHECK_EQ(s->context, i == 0 ? 32768 : 40960);
        cop_model_close(model);
    }
}

int main(void) {
    RUN(test_the_tiny_shape);
    RUN(test_a_tied_output_is_the_embedding);
    RUN(test_weights_are_frozen);
    RUN(test_weights_of_other_families_are_frozen);
    RUN(test_a_family_changes_no_other_weight);
    RUN(test_threads_do_not_matter);
    RUN(test_tensors_do_not_depend_on_each_other);
    RUN(test_the_hash_names_shape_and_seed);
    RUN(test_weights_have_their_scale);
    RUN(test_vectors_have_their_scale);
    RUN(test_bad_shapes_are_refused);
    RUN(test_weights_larger_than_the_machine);
    RUN(test_smollm2_shape);
    RUN(test_published_shapes_have_their_parameters);
    return check_report();
}
