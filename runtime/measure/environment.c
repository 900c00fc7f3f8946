#define PCRE2_CODE_UNIT_WIDTH 8
#include "measure/environment.h"

#include <ctype.h>
#include <omp.h>
#include <pcre2.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

#if defined(__has_include)
#if __has_include("coppice_build.h")
#include "coppice_build.h"
#endif
#endif
#ifndef COPPICE_COMMIT
#define COPPICE_COMMIT "unknown"
#endif
#ifndef COPPICE_DIRTY
#define COPPICE_DIRTY -1
#endif
#ifndef COPPICE_BUILD_TYPE
#define COPPICE_BUILD_TYPE "unknown"
#endif
#ifndef COPPICE_FLAGS
#define COPPICE_FLAGS "unknown"
#endif

enum { LINE_BYTES = 8192 };

/* The first line of a small file of the kernel's, without blanks at its ends; false: none. */
static bool read_line(const char *path, char *line, size_t bytes) {
    FILE *file = fopen(path, "re");
    bool found = file && fgets(line, (int)bytes, file);
    if (file)
        fclose(file);
    if (!found)
        return false;
    size_t length = strcspn(line, "\n");
    while (length && isspace((unsigned char)line[length - 1]))
        length--;
    line[length] = '\0';
    return length > 0;
}

/* The value of the first "key : value" line. */
static bool read_field(const char *path, const char *key, char *value, size_t bytes) {
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    char line[LINE_BYTES];
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        size_t key_bytes = strlen(key);
        if (!colon || strncmp(line, key, key_bytes) != 0 ||
            strspn(line + key_bytes, " \t") != (size_t)(colon - line) - key_bytes)
            continue;
        const char *start = colon + 1 + strspn(colon + 1, " \t");
        snprintf(value, bytes, "%.*s", (int)strcspn(start, "\n"), start);
        found = true;
    }
    fclose(file);
    return found;
}

static void set_text(json_t *object, const char *key, const char *value) {
    /* json_string refuses what is not UTF-8; then the member is left out. */
    json_t *text = json_string(value);
    if (text)
        json_object_set_new(object, key, text);
}

static json_t *build_json(void) {
    json_t *object = json_object();
    set_text(object, "version", COP_VERSION);
    set_text(object, "commit", COPPICE_COMMIT);
    if (COPPICE_DIRTY >= 0)
        json_object_set_new(object, "dirty", json_boolean(COPPICE_DIRTY));
    set_text(object, "build_type", COPPICE_BUILD_TYPE);
    set_text(object, "flags", COPPICE_FLAGS);
#ifdef __clang__
    set_text(object, "compiler", __VERSION__);
#else
    set_text(object, "compiler", "GCC " __VERSION__);
#endif
#ifdef __SANITIZE_ADDRESS__
    json_object_set_new(object, "sanitized", json_true());
#endif
    return object;
}

static void add_caches(json_t *cpu) {
    json_t *caches = json_object();
    for (int i = 0; i < 8; i++) {
        char path[128], level[16], type[32], size[32], name[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!read_line(path, level, sizeof level))
            break;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        bool known = read_line(path, type, sizeof type);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (!known || !read_line(path, size, sizeof size))
            continue;
        const char *kind = strcmp(type, "Data") == 0          ? "d"
                           : strcmp(type, "Instruction") == 0 ? "i"
                                                              : "";
        snprintf(name, sizeof name, "L%s%s", level, kind);
        set_text(caches, name, size);
    }
    json_object_set_new(cpu, "caches", caches);
}

/* Of the kernel's hundred flags, those that decide which code can run. */
static void add_features(json_t *cpu) {
    static const char *const wanted[] = {
        "sse4_2",   "avx",      "f16c",     "fma",         "avx2",        "avx512f",     "avx512bw",
        "avx512vl", "avx512dq", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8",
        "amx_bf16", "asimd",    "asimddp",  "sve",         "i8mm",        "bf16"};
    char flags[LINE_BYTES];
    if (!read_field("/proc/cpuinfo", "flags", flags, sizeof flags) &&
        !read_field("/proc/cpuinfo", "Features", flags, sizeof flags))
        return;
    json_t *features = json_array();
    char *save = NULL;
    for (char *flag = strtok_r(flags, " ", &save); flag; flag = strtok_r(NULL, " ", &save)) {
        if (strcmp(flag, "hypervisor") == 0)
            json_object_set_new(cpu, "virtualised", json_true());
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
            if (strcmp(flag, wanted[i]) == 0)
                json_array_append_new(features, json_string(flag));
    }
    json_object_set_new(cpu, "features", features);
}

static json_t *cpu_json(void) {
    json_t *cpu = json_object();
    char text[LINE_BYTES];
    if (read_field("/proc/cpuinfo", "model name", text, sizeof text))
        set_text(cpu, "model", text);
    json_object_set_new(cpu, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        json_object_set_new(cpu, "threads", json_integer(CPU_COUNT(&allowed)));
    add_caches(cpu);
    add_features(cpu);
    if (read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text, sizeof text))
        set_text(cpu, "governor", text);
    return cpu;
}

static json_t *memory_json(void) {
    json_t *memory = json_object();
    char text[256];
    if (read_field("/proc/meminfo", "MemTotal", text, sizeof text))
        json_object_set_new(memory, "total_bytes", json_integer(strtoll(text, NULL, 10) * 1024));
    /* "max" when there is no limit. */
    if (read_line("/sys/fs/cgroup/memory.max", text, sizeof text) && isdigit((unsigned char)*text))
        json_object_set_new(memory, "limit_bytes", json_integer(strtoll(text, NULL, 10)));
    if (read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text)) {
        char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;
        if (close) {
            *close = '\0';
            set_text(memory, "huge_pages", open + 1);
        }
    }
    return memory;
}

static json_t *system_json(void) {
    json_t *system = json_object();
    struct utsname name; /* nodename stays out of results */
    if (uname(&name) == 0) {
        char kernel[sizeof name.sysname + sizeof name.release + 2];
        snprintf(kernel, sizeof kernel, "%s %s", name.sysname, name.release);
        set_text(system, "kernel", kernel);
        set_text(system, "machine", name.machine);
    }
#ifdef __GLIBC__
    set_text(system, "glibc", gnu_get_libc_version());
#endif
    double load = 0;
    if (getloadavg(&load, 1) == 1)
        json_object_set_new(system, "load_1m", json_real(load));
    return system;
}

static json_t *libraries_json(void) {
    json_t *libraries = json_object();
    char pcre[64] = "";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof pcre &&
        pcre2_config(PCRE2_CONFIG_VERSION, pcre) > 0)
        set_text(libraries, "pcre2", pcre);
    set_text(libraries, "jansson", JANSSON_VERSION);
    return libraries;
}

static json_t *openmp_json(void) {
    static const char *const names[] = {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES",
                                        "OMP_WAIT_POLICY"};
    json_t *openmp = json_object();
    json_object_set_new(openmp, "version", json_integer(_OPENMP));
    json_object_set_new(openmp, "threads", json_integer(omp_get_max_threads()));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value)
            set_text(openmp, names[i], value);
    }
    return openmp;
}

cop_status cop_environment_read(json_t **out) {
    json_t *root = json_object();
    int failed = json_object_set_new(root, "coppice", build_json());
    failed |= json_object_set_new(root, "cpu", cpu_json());
    failed |= json_object_set_new(root, "memory", memory_json());
    failed |= json_object_set_new(root, "system", system_json());
    failed |= json_object_set_new(root, "libraries", libraries_json());
    failed |= json_object_set_new(root, "openmp", openmp_json());
    if (failed) {
        json_decref(root);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the description of the environment");
    }
    *out = root;
    return COP_OK;
}
