/* Gathering the 32 lanes of a warp; used by sync.cc and matrix.cc. */
#pragma once

#include "emulate/world.h"

/* Gives `run` the arguments of all lanes once all have come to this place. On return it has run. */
void emu_collective(void (*run)(emu_warp *warp), const char *what, void *argument, const char *file,
                    int line);
