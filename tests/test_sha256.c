#include "base/sha256.h"

#include <unistd.h>

#include "check.h"

static void test_standard_vectors(void) { /* FIPS 180-4's examples and the empty message */
    static const struct {
        const char *text, *hex;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrl"
         "m"
         "nopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char hex[COP_SHA256_HEX_BYTES];
        cop_sha256_of(rows[i].text, strlen(rows[i].text), hex);
        CHECK_TEXT(hex, rows[i].hex);
    }
}

static void test_a_million_a_in_uneven_pieces(void) {
    char piece[1000], hex[COP_SHA256_HEX_BYTES];
    memset(piece, 'a', sizeof piece);
    cop_sha256 sha;
    cop_sha256_begin(&sha);
    for (size_t left = 1000000, n = 1; left > 0; n = n % 997 + 1) {
        size_t part = n < left ? n : left;
        cop_sha256_add(&sha, piece, part);
        left -= part;
    }
    cop_sha256_finish(&sha, hex);
    CHECK_TEXT(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Every length around two blocks, whole and byte by byte. */
static void test_pieces_do_not_matter(void) {
    uint8_t data[130];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 37);
    for (size_t n = 0; n <= sizeof data; n++) {
        char whole[COP_SHA256_HEX_BYTES], parts[COP_SHA256_HEX_BYTES];
        cop_sha256_of(data, n, whole);
        cop_sha256 sha;
        cop_sha256_begin(&sha);
        for (size_t i = 0; i < n; i++)
            cop_sha256_add(&sha, data + i, 1);
        cop_sha256_finish(&sha, parts);
        CHECK_TEXT(whole, parts);
    }
}

static void test_files(void) {
    char path[] = "/tmp/test_sha256_XXXXXX", hex[COP_SHA256_HEX_BYTES];
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && write(descriptor, "abc", 3) == 3);
    CHECK_OK(cop_sha256_of_file(path, hex));
    CHECK_TEXT(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    /* From the start, wherever the descriptor stands. */
    CHECK_OK(cop_sha256_of_descriptor(descriptor, path, hex));
    CHECK_TEXT(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    close(descriptor);
    unlink(path);
    CHECK_STATUS(cop_sha256_of_file(path, hex), COP_ERR_IO);
    CHECK_MESSAGE(path);
    CHECK_STATUS(cop_sha256_of_file("/tmp", hex), COP_ERR_IO);
}

int main(void) {
    RUN(test_standard_vectors);
    RUN(test_a_million_a_in_uneven_pieces);
    RUN(test_pieces_do_not_matter);
    RUN(test_files);
    return check_report();
}
