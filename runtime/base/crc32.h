/* CRC-32 (ISO 3309, the one of zip and PNG: polynomial 0xEDB88320, reflected): finds torn and
 * edited lines, not malice. Start with 0; a result may be passed on to continue over more bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t cop_crc32(uint32_t crc, const void *data, size_t bytes);
