/* Where the data that ships with the command lies: the folder configs/. */
#pragma once

#include "base/status.h"

enum { COP_PATH_BYTES = 4096 };

/* $COPPICE_CONFIGS, or configs/ two folders above the executable (build/release/coppice), or
 * ./configs: the first that exists. ERR_IO names what was tried. */
cop_status cop_configs_folder(char out[COP_PATH_BYTES]);

/* `path` as it is when absolute, otherwise relative to the folder that holds `beside`. */
cop_status cop_path_beside(const char *beside, const char *path, char out[COP_PATH_BYTES]);
