/* SHA-256 (FIPS 180-4), for naming weights and files in results; not meant for secrets.
 *
 * A cop_sha256 is a plain value owned by its caller: begin, add any number of times, finish once.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { COP_SHA256_HEX_BYTES = 65 };

typedef struct cop_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} cop_sha256;

void cop_sha256_begin(cop_sha256 *sha);
void cop_sha256_add(cop_sha256 *sha, const void *data, size_t bytes);
void cop_sha256_finish(cop_sha256 *sha, char hex[COP_SHA256_HEX_BYTES]);

void cop_sha256_of(const void *data, size_t bytes, char hex[COP_SHA256_HEX_BYTES]);
/* Reads from an open file, from its start; ERR_IO names `path`. */
cop_status cop_sha256_of_descriptor(int descriptor, const char *path,
                                    char hex[COP_SHA256_HEX_BYTES]);
cop_status cop_sha256_of_file(const char *path, char hex[COP_SHA256_HEX_BYTES]);
