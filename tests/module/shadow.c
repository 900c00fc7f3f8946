/* A stand-in for a device's module, for tests of what the command does with one: cpu's arithmetic
 * under a name of its own, with made-up counts. It notes what it was asked for in the file that
 * COPPICE_SHADOW_LOG names, and says that it cannot run where COPPICE_SHADOW_FAILS is set.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"

enum { UPLOAD_BYTES = 64, LAUNCHES = 10, IDLE_NS = 2000 };

/* cpu's backend is what is handed out, so what is ours stands here: a command has one at a time. */
static cop_backend_ops table;
static cop_backend_options asked;
static uint64_t steps;
static char description[160];

static void note(const char *what) {
    const char *path = getenv("COPPICE_SHADOW_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log)
        return;
    fprintf(log, "%s at step %llu\n", what, (unsigned long long)steps);
    fclose(log);
}

static cop_status create(const cop_model *model, const cop_backend_options *options,
                         cop_backend **out) {
    if (getenv("COPPICE_SHADOW_FAILS"))
        return COP_FAIL(COP_ERR_UNSUPPORTED, "there is no light here, so there is no shadow");
    asked = *options;
    steps = 0;
    cop_backend_options inner = *options;
    inner.products = COP_PRODUCTS_INVARIANT;
    COP_TRY(cop_backend_cpu.create(model, &inner, out));
    char line[160];
    snprintf(line, sizeof line, "create: device %u, products %s, eager %d, time_every %u",
             asked.device, cop_products_mode_name(asked.products), asked.eager, asked.time_every);
    note(line);
    snprintf(description, sizeof description, "shadow %u of a cpu", asked.device);
    return COP_OK;
}

static void destroy(cop_backend *backend) {
    note("destroy");
    cop_backend_cpu.destroy(backend);
}

static const char *describe(const cop_backend *backend) {
    (void)backend;
    return description;
}

static cop_products_mode products(const cop_backend *backend) {
    (void)backend;
    return asked.products == COP_PRODUCTS_DEFAULT ? COP_PRODUCTS_FAST : asked.products;
}

static cop_status step_end(cop_backend *backend) {
    steps++;
    return cop_backend_cpu.step_end(backend);
}

static void counters(const cop_backend *backend, cop_backend_counters *out) {
    cop_backend_cpu.counters(backend, out);
    out->timed_steps = asked.time_every ? steps / asked.time_every : 0;
    out->upload_bytes = UPLOAD_BYTES * steps;
    out->upload_steps = steps;
    out->waits = steps;
    out->launches = asked.eager ? LAUNCHES * steps : 0;
    out->graph_launches = asked.eager ? 0 : steps;
    out->captures = asked.eager ? 0 : 1;
    out->device_idle_ns = IDLE_NS * steps;
}

static cop_status profile(cop_backend *backend, bool on) {
    (void)backend;
    note(on ? "profile on" : "profile off");
    return COP_OK;
}

static bool probe(char *text, size_t capacity) {
    const bool fails = getenv("COPPICE_SHADOW_FAILS") != NULL;
    snprintf(text, capacity, "%s",
             fails ? "a shadow needs light\nthere is none here: switch it on\n"
                   : "device 0: a shadow\ndevice 1: another\n");
    return !fails;
}

const cop_backend_ops *cop_backend_module(uint32_t abi);

const cop_backend_ops *cop_backend_module(uint32_t abi) {
    if (abi != COP_BACKEND_ABI)
        return NULL;
    table = cop_backend_cpu;
    table.name = "shadow_emulated";
    table.create = create;
    table.destroy = destroy;
    table.describe = describe;
    table.products = products;
    table.step_end = step_end;
    table.counters = counters;
    table.profile = profile;
    table.probe = probe;
    return &table;
}
