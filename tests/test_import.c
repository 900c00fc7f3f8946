/* `coppice import` as a user meets it: the binary named by $COPPICE is run, its exit code, both
 * outputs and the files it leaves are checked. */
#include <dirent.h>
#include <jansson.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "transcripts.h"

static const char *binary;
static char folder[64]; /* of this run; everything is made in it */
static char output[16384], errors[16384];

static void slurp(const char *path, char *text, size_t bytes) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    text[fread(text, 1, bytes - 1, file)] = '\0';
    fclose(file);
}

/* Runs "import " + the arguments, in which "@" stands for the folder; returns the exit code. */
static int import(const char *arguments) {
    char command[2048];
    int used = snprintf(command, sizeof command, "'%s' import ", binary);
    for (const char *c = arguments; *c; c++)
        used += snprintf(command + used, sizeof command - (size_t)used, *c == '@' ? "%s" : "%.1s",
                         *c == '@' ? folder : c);
    snprintf(command + used, sizeof command - (size_t)used, " >%s/stdout 2>%s/stderr", folder,
             folder);
    int status = system(command);
    CHECK(WIFEXITED(status));
    char path[128];
    snprintf(path, sizeof path, "%s/stdout", folder);
    slurp(path, output, sizeof output);
    snprintf(path, sizeof path, "%s/stderr", folder);
    slurp(path, errors, sizeof errors);
    return WEXITSTATUS(status);
}

static void put(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
}

static bool exists(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static json_t *line_of(const char *name, int number) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    json_t *json = NULL;
    for (int i = 0; i <= number; i++) {
        json_decref(json);
        json = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL);
    }
    fclose(file);
    CHECK(json != NULL);
    return json;
}

static json_int_t number_of(const json_t *json, const char *key) {
    const json_t *value = json_object_get(json, key);
    CHECK(json_is_integer(value));
    return json_integer_value(value);
}

/* The run failed with exit code 2, one line that holds `message`, and no output of any kind. */
static void check_refused(const char *arguments, const char *message) {
    int code = import(arguments);
    if (code != 2 || !strstr(errors, message))
        fprintf(stderr, "import %s: exit code %d, stderr: %s", arguments, code, errors);
    CHECK_EQ(code, 2);
    CHECK(strstr(errors, message) != NULL);
    CHECK(strncmp(errors, "coppice: import: ", 17) == 0);
    CHECK(strchr(errors, '\n') == errors + strlen(errors) - 1);
    CHECK_TEXT(output, "");
    CHECK(!exists("t.jsonl"));
}

static const char good[] =
    "Q\n<Think>\n<Parallel>\n<Goal>\n<Outline>\n1: a\n</Outline>\n<Outline>\n"
    "2: b\n</Outline>\n</Goal>\n<Path>\n1: x\n</Path>\n<Path>\n2: y\n</Path>"
    "\n<Conclusion>\nz\n</Conclusion>\n</Parallel>\n</Think>\n";

static void remove_out(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/t.jsonl", folder);
    unlink(path);
}

/* Nothing but what a test made or asked for lies in the folder: no temporary file is left. */
static void check_clean(void) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));)
        CHECK(strstr(entry->d_name, ".tmp") == NULL);
    closedir(dir);
}

static void test_one_line_a_transcript_and_a_table(void) {
    put("good.xml", good);
    put("plain.txt", "nothing in parallel");
    CHECK_EQ(import("multiverse @/good.xml @/plain.txt --out @/t.jsonl"), 0);
    CHECK_TEXT(errors, "");
    CHECK(strstr(output, "id ") == output);
    CHECK(strstr(output, "\ngood         1        2        1          -\n") != NULL);
    CHECK(strstr(output, "\ntotal        1        2        1          -\n") != NULL);
    json_t *first = line_of("t.jsonl", 0), *second = line_of("t.jsonl", 1);
    CHECK_TEXT(json_string_value(json_object_get(first, "id")), "good");
    CHECK_TEXT(json_string_value(json_object_get(first, "source")), "good.xml");
    CHECK_TEXT(json_string_value(json_object_get(first, "dialect")), "multiverse");
    CHECK_EQ(number_of(first, "blocks"), 1);
    CHECK_EQ(number_of(first, "paths"), 2);
    CHECK_EQ(number_of(first, "depth"), 1);
    CHECK(json_object_get(first, "tokens") == NULL);
    CHECK_EQ(number_of(second, "blocks") + number_of(second, "depth"), 0);
    json_decref(first);
    json_decref(second);
    remove_out();
    check_clean();
}

static void test_an_output_is_replaced_only_with_force(void) {
    put("good.xml", good);
    put("t2.jsonl", "precious\n");
    CHECK_EQ(import("multiverse @/good.xml --out @/t2.jsonl"), 2);
    CHECK(strstr(errors, "--force") != NULL);
    char path[128], text[16];
    snprintf(path, sizeof path, "%s/t2.jsonl", folder);
    slurp(path, text, sizeof text);
    CHECK_TEXT(text, "precious\n");
    CHECK_EQ(import("multiverse @/good.xml --out @/t2.jsonl --force"), 0);
    json_decref(line_of("t2.jsonl", 0));
    CHECK_EQ(import("multiverse @/good.xml --out @/good.xml --force"), 2);
    CHECK(strstr(errors, "is an input as well") != NULL);
    CHECK_EQ(import("multiverse @/good.xml --out @ --force"), 2);
    CHECK(strstr(errors, "not a regular file") != NULL);
    unlink(path);
    check_clean();
}

static void test_one_bad_file_and_nothing_is_written(void) {
    put("good.xml", good);
    put("empty.xml", "");
    put("open.xml", "<Think>\nso\n<Parallel>\n");
    put("stray.xml", "<Think>\n</Path>\n</Think>");
    put("lone.xml", "<Think>\n<Parallel>\n<Path>\n1: x\n</Path>\n</Parallel>\n</Think>");
    put("bytes.xml", "<Think>caf\xe9</Think>");
    check_refused("multiverse @/good.xml @/open.xml --out @/t.jsonl",
                  "/open.xml: line 3, byte 11: <Parallel> is never closed");
    check_refused("multiverse @/good.xml @/stray.xml --out @/t.jsonl",
                  "/stray.xml: line 2, byte 8: </Path> closes nothing");
    check_refused("multiverse @/lone.xml @/good.xml --out @/t.jsonl",
                  "/lone.xml: line 3, byte 19: <Path> without an <Outline>");
    check_refused("multiverse @/empty.xml --out @/t.jsonl", "/empty.xml: the transcript is empty");
    check_refused("multiverse @/bytes.xml --out @/t.jsonl",
                  "/bytes.xml: line 1, byte 10: 0xe9 is not valid UTF-8");
    check_refused("multiverse @/none.xml --out @/t.jsonl", "/none.xml: cannot be opened");
    check_refused("multiverse @ --out @/t.jsonl", "cannot be read");
    check_refused("multiverse @/good.xml @/good.xml --out @/t.jsonl", "named 'good' is there");
    check_refused("multiverse @/good.xml --out @/nowhere/t.jsonl", "/nowhere/t.jsonl: cannot be");
    check_refused("multivers @/good.xml --out @/t.jsonl", "hogwild, multiverse-engine, ");
    check_refused("@/none.json @/good.xml --out @/t.jsonl", "/none.json: cannot be opened");
    check_refused("multiverse --out @/t.jsonl", "");
    check_refused("multiverse @/good.xml", "--out");
    check_refused("multiverse @/good.xml --out @/t.jsonl --ids", "--ids needs --model");
    check_refused("multiverse @/good.xml --out @/t.jsonl --counts-only", "--counts-only needs");
    check_refused("multiverse @/good.xml --out @/t.jsonl --model @/good.xml", "good.xml");
    check_clean();
}

static void test_a_dialect_by_its_path_from_any_folder(void) {
    char here[1024], arguments[2048];
    put("good.xml", good);
    CHECK(getcwd(here, sizeof here) != NULL);
    snprintf(arguments, sizeof arguments,
             "'%s/configs/dialects/multiverse.json' @/good.xml --out @/t.jsonl", here);
    CHECK_EQ(import(arguments), 0);
    remove_out();
    CHECK_EQ(setenv("COPPICE_ROOT", here, 1), 0);
    CHECK_EQ(chdir("/"), 0);
    CHECK_EQ(import("multiverse @/good.xml --out @/t.jsonl"), 0);
    remove_out();
    CHECK_EQ(setenv("COPPICE_ROOT", "/nowhere", 1), 0);
    check_refused("multiverse @/good.xml --out @/t.jsonl", "COPPICE_ROOT is '/nowhere'");
    CHECK_EQ(chdir(here), 0);
    CHECK_EQ(unsetenv("COPPICE_ROOT"), 0);
}

static void test_help_is_enough(void) {
    CHECK_EQ(import("--help"), 0);
    static const char *const words[] = {
        "usage: coppice import", "multiverse", "--out", "--model", "--force", "--counts-only"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        CHECK(strstr(output, words[i]) != NULL);
}

static void test_a_model_counts_the_tokens(void) {
    const char *model = getenv("COPPICE_MODEL");
    model = model ? model : "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(model, R_OK) != 0)
        SKIP("no model; fetch it with bench/quickstart.sh");
    char arguments[2048];
    put("good.xml", good);
    snprintf(arguments, sizeof arguments,
             "multiverse @/good.xml --out @/t.jsonl --ids --model '%s'", model);
    CHECK_EQ(import(arguments), 0);
    json_t *json = line_of("t.jsonl", 0);
    json_int_t tokens = number_of(json, "tokens"), sum = 1; /* the prompt is one token */
    const json_t *stream = json_object_get(json, "stream");
    for (size_t i = 0; i < json_array_size(stream); i++) {
        const json_t *piece = json_array_get(stream, i), *block = json_object_get(piece, "block");
        for (size_t p = 0; p < json_array_size(block); p++)
            for (size_t k = 0; k < json_array_size(json_array_get(block, p)); k++)
                sum += number_of(json_array_get(json_array_get(block, p), k), "n");
        if (!block) {
            CHECK_EQ(number_of(piece, "n"), json_array_size(json_object_get(piece, "ids")));
            sum += number_of(piece, "n");
        }
    }
    CHECK_EQ(sum, tokens);
    json_decref(json);
    remove_out();
    snprintf(arguments, sizeof arguments,
             "multiverse @/good.xml --out @/t.jsonl --counts-only --model '%s'", model);
    CHECK_EQ(import(arguments), 0);
    json = line_of("t.jsonl", 0);
    CHECK_EQ(number_of(json, "tokens"), tokens);
    CHECK(json_object_get(json_array_get(json_object_get(json, "stream"), 0), "text") == NULL);
    json_decref(json);
    remove_out();
}

static void test_the_recorded_transcripts(void) {
    char path[512], arguments[2048];
    if (!transcript_path_of("5", path, sizeof path))
        SKIP("no transcripts; set COPPICE_TRANSCRIPTS to their folder");
    snprintf(arguments, sizeof arguments, "multiverse %.*s*.xml --out @/t.jsonl",
             (int)(strrchr(path, '/') - path + 1), path);
    CHECK_EQ(import(arguments), 0);
    CHECK(strstr(output, "\ntotal      115      275        2          -\n") != NULL);
    remove_out();
}

/* ---- what a server answered ---- */

#define ANSWER                                                                                     \
    "<Think>\\n<Parallel>\\n<Goal>\\n<Outline>\\n1: a</Outline></Goal>\\n<Path>\\n1: x</Path>\\n"  \
    "<Conclusion>\\nz</Conclusion></Parallel></Think>so"

static void check_line(int number, const char *id, int blocks) {
    json_t *line = line_of("t.jsonl", number);
    CHECK_TEXT(json_string_value(json_object_get(line, "id")), id);
    CHECK_EQ(number_of(line, "blocks"), blocks);
    json_decref(line);
}

static void test_a_servers_answers_are_imported(void) {
    static const char *const one[] = {
        /* completions, chat, chat whose reasoning the server took out of its tags, SGLang's own */
        "{\"id\": \"c\", \"choices\": [{\"index\": 0, \"text\": \"" ANSWER
        "\", \"finish_reason\": \"stop\"}]}",
        "{\"choices\": [{\"message\": {\"role\": \"assistant\", \"content\": \"" ANSWER "\"}}]}",
        "{\"choices\": [{\"message\": {\"reasoning_content\": \"<Parallel><Goal><Outline>1: "
        "a</Outline>"
        "</Goal><Path>1: x</Path></Parallel>\", \"content\": \"so\"}}]}",
        "{\"text\": \"" ANSWER "\", \"meta_info\": {\"id\": \"x\"}}",
        "{\"custom_id\": \"r\", \"response\": {\"body\": {\"choices\": [{\"text\": \"" ANSWER
        "\"}]}}}"};
    const size_t n = sizeof one / sizeof one[0];
    char lines[4096] = "";
    for (size_t i = 0; i < n; i++) {
        put("answer.json", one[i]);
        CHECK_EQ(import("multiverse @/answer.json --out @/t.jsonl"), 0);
        check_line(0, "answer", 1);
        json_t *line = line_of("t.jsonl", 0);
        CHECK_EQ(number_of(line, "paths"), 1);
        json_decref(line);
        remove_out();
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\n", one[i]);
    }
    put("answers.jsonl", lines);
    CHECK_EQ(import("multiverse @/answers.jsonl --out @/t.jsonl"), 0);
    for (size_t i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "answers-%zu", i + 1);
        check_line((int)i, id, 1);
    }
    remove_out();
    put("many.json", "[{\"choices\": [{\"text\": \"a\"}, {\"text\": \"" ANSWER
                     "\"}]}, {\"text\": \"b\", \"meta_info\": {}}]");
    CHECK_EQ(import("multiverse @/many.json --out @/t.jsonl"), 0);
    check_line(0, "many-1-0", 0);
    check_line(1, "many-1-1", 1);
    check_line(2, "many-2", 0);
    remove_out();
    /* The name decides, unless --format does. */
    CHECK_EQ(import("sequential @/answer.json --format text --out @/t.jsonl"), 0);
    json_t *line = line_of("t.jsonl", 0);
    const json_t *piece = json_array_get(json_object_get(line, "stream"), 0);
    CHECK_TEXT(json_string_value(json_object_get(piece, "text")), one[n - 1]);
    json_decref(line);
    remove_out();
    put("answer.txt", one[0]);
    CHECK_EQ(import("multiverse @/answer.txt --format response --out @/t.jsonl"), 0);
    check_line(0, "answer", 1);
    remove_out();
}

static void test_answers_without_a_text_are_refused(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "bad.json: is empty"},
        {"{}", "bad.json: holds no text of an answer"},
        {"[]", "bad.json: holds no text of an answer"},
        {"[3]", "bad.json: holds no text of an answer"},
        {"{\"choices\": []}", "holds no text of an answer"},
        {"{\"choices\": [{\"message\": {\"content\": null}}]}", "holds no text of an answer"},
        {"{\"choices\": [{\"text\": 5}]}", "holds no text of an answer"},
        {"{\"text\": \"a\"}\n{\"text\": ", "bad.json:2: "},
        {"{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n", "bad.json:2: "},
        {"{\"text\": \"a\"}\n{\"object\": \"error\", \"message\": \"x\"}\n",
         "bad.json:2: holds no"},
        {"{\"text\": \"<Think>\"}", "bad.json: line 1, byte 0: <Think> is never closed"},
        {"[{\"text\": \"a\"}, {\"text\": \"</Path>\"}]",
         "answer 2: line 1, byte 0: </Path> closes"},
        {"{\"text\": \"a\\u0000b\"}", "is a NUL"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("bad.json", cases[i].text);
        check_refused("multiverse @/bad.json --out @/t.jsonl", cases[i].message);
    }
    check_refused("multiverse @/bad.json --format xml --out @/t.jsonl", "text|response");
    check_refused("pasta @/answer.json --out @/t.jsonl", "dialect pasta is not supported: ");
}

int main(void) {
    binary = getenv("COPPICE");
    if (!binary || !binary[0]) {
        printf("skipped: COPPICE does not name the command's binary\n");
        return 0;
    }
    strcpy(folder, "/tmp/coppice-import-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    RUN(test_one_line_a_transcript_and_a_table);
    RUN(test_an_output_is_replaced_only_with_force);
    RUN(test_one_bad_file_and_nothing_is_written);
    RUN(test_a_dialect_by_its_path_from_any_folder);
    RUN(test_help_is_enough);
    RUN(test_a_model_counts_the_tokens);
    RUN(test_a_servers_answers_are_imported);
    RUN(test_answers_without_a_text_are_refused);
    RUN(test_the_recorded_transcripts);
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK_EQ(system(command), 0);
    return check_report();
}
