#include "config/paths.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool holds_configs(const char *folder) {
    char path[COP_PATH_BYTES + 32];
    struct stat info;
    snprintf(path, sizeof path, "%s/configs/dialects", folder);
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

cop_status cop_root_folder(char root[COP_PATH_BYTES]) {
    const char *set = getenv("COPPICE_ROOT");
    if (set && set[0]) {
        if (strlen(set) >= COP_PATH_BYTES || !holds_configs(set))
            return COP_FAIL(COP_ERR_CONFIG,
                            "COPPICE_ROOT is '%.256s', where there is no configs/dialects; set it "
                            "to a checkout of Coppice, or unset it",
                            set);
        strcpy(root, set);
        return COP_OK;
    }
    ssize_t bytes = readlink("/proc/self/exe", root, COP_PATH_BYTES - 1);
    root[bytes > 0 ? bytes : 0] = '\0';
    for (char *slash; (slash = strrchr(root, '/'));) {
        *slash = '\0';
        if (root[0] && holds_configs(root))
            return COP_OK;
    }
    strcpy(root, ".");
    if (holds_configs(root))
        return COP_OK;
    return COP_FAIL(COP_ERR_CONFIG,
                    "no configs/dialects above the executable or in the working directory; set "
                    "COPPICE_ROOT to a checkout of Coppice");
}

cop_status cop_path_beside(const char *beside, const char *path, char out[COP_PATH_BYTES]) {
    const char *slash = strrchr(beside, '/');
    int folder = path[0] == '/' || !slash ? 0 : (int)(slash - beside) + 1;
    int bytes = snprintf(out, COP_PATH_BYTES, "%.*s%s", folder, beside, path);
    if (bytes < 0 || bytes >= COP_PATH_BYTES)
        return COP_FAIL(COP_ERR_USAGE, "the path %s is too long", path);
    return COP_OK;
}
