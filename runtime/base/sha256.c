#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

enum { READ_BYTES = 256 * 1024 };

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void compress(uint32_t state[8], const uint8_t block[64]) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
        uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void cop_sha256_begin(cop_sha256 *sha) {
    *sha = (cop_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                  0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void cop_sha256_add(cop_sha256 *sha, const void *data, size_t bytes) {
    const uint8_t *from = data;
    size_t held = sha->bytes % 64;
    sha->bytes += bytes;
    if (held > 0) {
        size_t part = bytes < 64 - held ? bytes : 64 - held;
        if (part > 0)
            memcpy(sha->block + held, from, part);
        from += part, bytes -= part;
        if (held + part < 64)
            return;
        compress(sha->state, sha->block);
    }
    for (; bytes >= 64; from += 64, bytes -= 64)
        compress(sha->state, from);
    if (bytes > 0)
        memcpy(sha->block, from, bytes);
}

void cop_sha256_finish(cop_sha256 *sha, char hex[COP_SHA256_HEX_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    uint64_t bits = sha->bytes * 8;
    uint8_t tail[72] = {0x80};
    size_t zeros =
        (119 - sha->bytes % 64) % 64; /* so that 0x80, these and the length end a block */
    for (int i = 0; i < 8; i++)
        tail[1 + zeros + i] = (uint8_t)(bits >> (56 - 8 * i));
    cop_sha256_add(sha, tail, 1 + zeros + 8);
    for (int i = 0; i < 64; i++)
        hex[i] = digits[sha->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = '\0';
}

void cop_sha256_of(const void *data, size_t bytes, char hex[COP_SHA256_HEX_BYTES]) {
    cop_sha256 sha;
    cop_sha256_begin(&sha);
    cop_sha256_add(&sha, data, bytes);
    cop_sha256_finish(&sha, hex);
}

cop_status cop_sha256_of_descriptor(int descriptor, const char *path,
                                    char hex[COP_SHA256_HEX_BYTES]) {
    uint8_t *buffer = cop_calloc(READ_BYTES, 1);
    if (!buffer)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory to read it for its hash", path);
    cop_sha256 sha;
    cop_sha256_begin(&sha);
    ssize_t got;
    do {
        got = pread(descriptor, buffer, READ_BYTES, (off_t)sha.bytes);
        if (got > 0)
            cop_sha256_add(&sha, buffer, (size_t)got);
    } while (got > 0 || (got < 0 && errno == EINTR));
    cop_free(buffer);
    if (got < 0)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be read for its hash: %s", path, strerror(errno));
    cop_sha256_finish(&sha, hex);
    return COP_OK;
}

cop_status cop_sha256_of_file(const char *path, char hex[COP_SHA256_HEX_BYTES]) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    cop_status status = cop_sha256_of_descriptor(descriptor, path, hex);
    close(descriptor);
    return status;
}
