#include "config/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

cop_status cop_configs_folder(char out[COP_PATH_BYTES]) {
    const char *named = getenv("COPPICE_CONFIGS");
    if (named) {
        if ((size_t)snprintf(out, COP_PATH_BYTES, "%s", named) >= COP_PATH_BYTES || !is_folder(out))
            return COP_FAIL(COP_ERR_IO, "COPPICE_CONFIGS names %s, which is no folder", named);
        return COP_OK;
    }
    char exe[COP_PATH_BYTES - 64];
    ssize_t bytes = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (bytes > 0) {
        exe[bytes] = '\0';
        char *slash = strrchr(exe, '/');
        if (slash)
            *slash = '\0';
        snprintf(out, COP_PATH_BYTES, "%s/../../configs", exe);
        if (is_folder(out))
            return COP_OK;
    }
    snprintf(out, COP_PATH_BYTES, "configs");
    if (is_folder(out))
        return COP_OK;
    return COP_FAIL(COP_ERR_IO, "the folder configs/ was found neither two folders above the "
                                "command nor here: set COPPICE_CONFIGS to it");
}

cop_status cop_path_beside(const char *beside, const char *path, char out[COP_PATH_BYTES]) {
    const char *slash = strrchr(beside, '/');
    int folder = path[0] == '/' || !slash ? 0 : (int)(slash - beside) + 1;
    int bytes = snprintf(out, COP_PATH_BYTES, "%.*s%s", folder, beside, path);
    if (bytes < 0 || bytes >= COP_PATH_BYTES)
        return COP_FAIL(COP_ERR_USAGE, "the path %s is too long", path);
    return COP_OK;
}
