#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"

enum { NAME_BYTES_MAX = 32 };

typedef const cop_backend_ops *(*module_entry)(uint32_t abi);

static const char *const products_names[] = {"default", "invariant", "fast"};

const char *cop_products_mode_name(cop_products_mode mode) {
    return products_names[mode];
}

cop_status cop_products_mode_parse(const char *name, cop_products_mode *out) {
    for (int i = 0; i <= COP_PRODUCTS_FAST; i++) {
        if (strcmp(name, products_names[i]) == 0) {
            *out = (cop_products_mode)i;
            return COP_OK;
        }
    }
    return COP_FAIL(COP_ERR_USAGE, "products \"%.40s\": use default, invariant or fast", name);
}

const char *cop_backend_clock(const cop_backend_ops *ops) {
    static const char suffix[] = "_emulated";
    const size_t bytes = strlen(ops->name), tail = sizeof suffix - 1;
    if (bytes >= tail && strcmp(ops->name + bytes - tail, suffix) == 0)
        return "emulated";
    return ops->virtual_clock ? "virtual" : "wall";
}

static cop_status check_name(const char *name) {
    const size_t bytes = strlen(name);
    if (bytes == 0 || bytes > NAME_BYTES_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != bytes)
        return COP_FAIL(COP_ERR_USAGE,
                        "backend \"%.40s\": a name has 1 to %d lower-case letters, digits and _",
                        name, NAME_BYTES_MAX);
    return COP_OK;
}

/* The folder of the running command, or of the test that stands for it. */
static cop_status module_path(const char *name, char *path, size_t capacity) {
    char command[PATH_MAX];
    const ssize_t bytes = readlink("/proc/self/exe", command, sizeof command - 1);
    if (bytes <= 0)
        return COP_FAIL(COP_ERR_IO, "/proc/self/exe cannot be read, so the folder of backend "
                                    "modules is not known: is /proc mounted?");
    command[bytes] = '\0';
    char *slash = strrchr(command, '/');
    *(slash ? slash : command) = '\0';
    if (snprintf(path, capacity, "%s/libcoppice_%s.so", command, name) >= (int)capacity)
        return COP_FAIL(COP_ERR_IO, "the path of the command is longer than %zu bytes", capacity);
    return COP_OK;
}

cop_status cop_backend_find(const char *name, const cop_backend_ops **out) {
    if (strcmp(name, "cpu") == 0) {
        *out = &cop_backend_cpu;
        return COP_OK;
    }
    COP_TRY(check_name(name));
    char path[PATH_MAX + 64];
    COP_TRY(module_path(name, path, sizeof path));
    if (access(path, F_OK) != 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "there is no backend \"%s\" here: cpu is built in, and the module %s does "
                        "not exist; %s, or use backend cpu",
                        name, path,
                        strcmp(name, "cuda") == 0
                            ? "configure and build where the CUDA toolkit's nvcc is on PATH"
                            : "build that module and put it beside the command");
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "backend module %s cannot be opened: %s", path,
                        dlerror());
    void *symbol = dlsym(module, "cop_backend_module");
    module_entry entry;
    memcpy(&entry, &symbol, sizeof entry);
    const cop_backend_ops *ops = symbol ? entry(COP_BACKEND_ABI) : NULL;
    if (!ops) {
        dlclose(module);
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        symbol ? "backend module %s was built for another version of the command "
                                 "(its interface is not number %d): build both from one checkout"
                               : "%s is no backend module: it does not export cop_backend_module "
                                 "(interface number %d)",
                        path, COP_BACKEND_ABI);
    }
    if (strcmp(ops->name, name) != 0) { /* a stand-in must not pass for what it stands in for */
        cop_status status = COP_FAIL(COP_ERR_UNSUPPORTED,
                                     "backend module %s calls itself \"%.40s\": give the file its "
                                     "own name",
                                     path, ops->name);
        dlclose(module);
        return status;
    }
    *out = ops; /* the module stays open until the process ends: its table is in use */
    return COP_OK;
}
