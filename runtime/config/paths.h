/* Where the data that ships with the command lies, and paths inside configs. */
#pragma once

#include "base/status.h"

enum { COP_PATH_BYTES = 4096 };

/* The folder that holds configs/, from any working directory: $COPPICE_ROOT if it is set; else the
 * nearest folder above the executable that holds configs/dialects, which is the checkout for
 * build/<preset>/coppice; else the working directory. */
cop_status cop_root_folder(char root[COP_PATH_BYTES]);

/* `path` as it is when absolute, otherwise relative to the folder that holds `beside`. */
cop_status cop_path_beside(const char *beside, const char *path, char out[COP_PATH_BYTES]);
