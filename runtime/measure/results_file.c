#include "measure/results_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

cop_status cop__path_join(const char *folder, const char *name, char path[COP_FILE_PATH_BYTES]) {
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] == '/' ? "" : "/";
    int used = snprintf(path, COP_FILE_PATH_BYTES, "%s%s%s", folder, slash, name);
    if (length == 0 || used < 0 || used >= COP_FILE_PATH_BYTES)
        return COP_FAIL(COP_ERR_IO, "\"%.60s\" is no usable folder name", folder);
    return COP_OK;
}

cop_status cop__folder_make(const char *folder) {
    char path[COP_FILE_PATH_BYTES];
    COP_TRY(cop__path_join(folder, "", path)); /* always ends with a slash */
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return COP_FAIL(COP_ERR_IO, "cannot make the folder %s: %s", path, strerror(errno));
        *slash = '/';
    }
    struct stat info;
    if (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode))
        return COP_FAIL(COP_ERR_IO, "%s is not a folder", folder);
    return COP_OK;
}

cop_status cop__file_read(const char *path, cop_buffer *out, bool *missing) {
    if (missing)
        *missing = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && missing) {
        *missing = true;
        return COP_OK;
    }
    if (fd < 0)
        return COP_FAIL(COP_ERR_IO, "cannot read %s: %s", path, strerror(errno));
    char piece[65536];
    cop_status status = COP_OK;
    for (ssize_t n; status == COP_OK && (n = read(fd, piece, sizeof piece)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        status = n < 0 ? COP_FAIL(COP_ERR_IO, "cannot read %s: %s", path, strerror(errno))
                       : cop_buffer_append(out, piece, (size_t)n);
    }
    close(fd);
    return status;
}

cop_status cop__file_write(int fd, const char *path, const void *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return COP_FAIL(COP_ERR_IO, "cannot write %s: %s", path, strerror(errno));
        done += (size_t)n;
    }
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        return COP_FAIL(COP_ERR_IO, "cannot flush %s to disk: %s", path, strerror(errno));
    return COP_OK;
}

/* The new name is on disk only once its folder is. Some file systems cannot: then that is all. */
static void flush_folder_of(const char *path) {
    char folder[COP_FILE_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof folder)
        return;
    memcpy(folder, path, length);
    folder[length] = '\0';
    int fd = open(length ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

cop_status cop__file_replace(const char *path, const void *data, size_t bytes) {
    char temporary[COP_FILE_PATH_BYTES];
    int used = snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    if (used < 0 || (size_t)used >= sizeof temporary)
        return COP_FAIL(COP_ERR_IO, "the file name is too long: %.80s..", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return COP_FAIL(COP_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    cop_status status = cop__file_write(fd, path, data, bytes);
    if (close(fd) != 0 && status == COP_OK)
        status = COP_FAIL(COP_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    if (status == COP_OK && rename(temporary, path) != 0)
        status = COP_FAIL(COP_ERR_IO, "cannot name %s: %s", path, strerror(errno));
    if (status != COP_OK)
        unlink(temporary);
    else
        flush_folder_of(path);
    return status;
}
