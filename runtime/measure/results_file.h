/* Files of a result folder: read whole, or written so that a reader never sees half of one (a
 * temporary file beside it, flushed to disk, then renamed). Messages name the file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"
#include "base/status.h"

enum { COP_FILE_PATH_BYTES = 4096 };

/* "folder/name"; COP_ERR_IO when that is too long. */
cop_status cop__path_join(const char *folder, const char *name, char path[COP_FILE_PATH_BYTES]);

cop_status cop__folder_make(const char *folder); /* with its parents; fine when it exists */

/* Appends the file's bytes to `out`; `missing` (may be NULL: then it is an error) tells that there
 * is no such file. */
cop_status cop__file_read(const char *path, cop_buffer *out, bool *missing);

cop_status cop__file_write(int fd, const char *path, const void *data, size_t bytes);
cop_status cop__file_replace(const char *path, const void *data, size_t bytes);
