/* What the tests of step.h's kernels share: device buffers, random values, counted bytes against
 * predicted ones, schedules and the hunt for mutants.
 *
 * Every check returns what it found instead of ending the program ("" when all is well), so that
 * the same checks run again with each mutant switched on, and must then find something. */
#pragma once

#include <cmath>
#include <string>
#include <vector>

extern "C" {
#include "backend/cpu/ops.h"
#include "base/rng.h"
#include "kernels/cost.h"
#include "kernels/step.h"
#include "kv/fold_reference.h"
#include "model/sampler.h"
}
#include "check.h"
#include "emulate/emulate.h"

typedef std::string found; /* "" when all is well */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return std::string(__func__) + ":" + std::to_string(__LINE__) + ": " #condition " " +  \
                   emu_report()->text;                                                             \
    } while (0)
#define TRY(expression)                                                                            \
    do {                                                                                           \
        const found inner = (expression);                                                          \
        if (!inner.empty())                                                                        \
            return inner;                                                                          \
    } while (0)

struct random_words {
    uint64_t state;
    explicit random_words(uint64_t seed) : state(cop_rng_fold(7, seed)) {}
    uint32_t below(uint32_t bound) {
        state = cop_rng_fold(state, 1);
        return static_cast<uint32_t>((state >> 32) * bound >> 32);
    }
    float value(float scale) {
        return (static_cast<float>(below(1u << 20)) / (1u << 19) - 1.0f) * scale;
    }
    float normal() {
        float sum = 0;
        for (int i = 0; i < 6; i++)
            sum += value(1.0f);
        return sum;
    }
};

/* A device buffer for one check. */
template <typename T> struct buffer {
    T *p;
    size_t n;
    buffer(size_t count, const char *name, emu_kind kind)
        : p(static_cast<T *>(emu_alloc(count * sizeof(T), name, kind))), n(count) {}
    buffer(const std::vector<T> &from, const char *name, emu_kind kind = EMU_INPUT)
        : buffer(from.size(), name, kind) {
        memcpy(p, from.data(), n * sizeof(T));
    }
    ~buffer() {
        emu_free(p);
    }
    buffer(const buffer &) = delete;
    void zero() {
        memset(p, 0, n * sizeof(T));
    }
    bool same(const std::vector<T> &other) const {
        return other.size() == n && memcmp(p, other.data(), n * sizeof(T)) == 0;
    }
};

static inline std::vector<uint16_t> random_bf16(random_words &random, size_t n, float scale) {
    std::vector<uint16_t> v(n);
    for (uint16_t &x : v)
        x = cop_bf16_from_f32(random.value(scale));
    return v;
}
static inline std::vector<float> random_f32(random_words &random, size_t n, float scale) {
    std::vector<float> v(n);
    for (float &x : v)
        x = random.value(scale);
    return v;
}
static inline std::vector<float> widened(const uint16_t *p, size_t n) {
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++)
        v[i] = cop_f32_from_bf16(p[i]);
    return v;
}
static inline std::vector<uint16_t> rounded(const std::vector<float> &v) {
    std::vector<uint16_t> out(v.size());
    for (size_t i = 0; i < v.size(); i++)
        out[i] = cop_bf16_from_f32(v[i]);
    return out;
}

static bool hunting; /* mutants: what is found is not worth a line */

static inline bool bytes_are(const char *const *names, size_t n, cop_launch_cost cost) {
    uint64_t loads = 0, stores = 0;
    for (size_t i = 0; i < n; i++) {
        emu_buffer_counts counts;
        if (!emu_counts(names[i], &counts))
            return false;
        loads += counts.load_bytes;
        stores += counts.store_bytes;
    }
    const bool equal = loads == cost.load_bytes && stores == cost.store_bytes;
    if (!equal && !hunting)
        fprintf(stderr, "bytes: loads %llu, predicted %llu; stores %llu, predicted %llu\n",
                (unsigned long long)loads, (unsigned long long)cost.load_bytes,
                (unsigned long long)stores, (unsigned long long)cost.store_bytes);
    return equal;
}
#define BYTES_ARE(cost, ...)                                                                       \
    [&] {                                                                                          \
        const char *const names[] = {__VA_ARGS__};                                                 \
        return bytes_are(names, sizeof names / sizeof *names, cost);                               \
    }()

static inline const cop_cpu_ops *ops() {
    return cop_cpu_ops_for(COP_ISA_PORTABLE);
}

static inline void expect_none(const found &f) {
    if (!f.empty()) {
        fprintf(stderr, "%s\n", f.c_str());
        exit(1);
    }
}

/* The last ones may also switch at every access, between a block's stores too. */
static inline void vary(uint32_t i) {
    emu_set_options(nullptr);
    emu_vary(i);
    emu_options options = emu_get_options();
    options.switch_at_access = i + 3 >= EMU_VARIATIONS;
    options.check_uninitialised = i < 2;
    emu_set_options(&options);
}

static inline void every_schedule(found (*check)()) {
    for (uint32_t i = 0; i < EMU_VARIATIONS; i++) {
        vary(i);
        expect_none(check());
    }
    emu_set_options(nullptr);
}

/* Every mutant whose name begins with the prefix must be found by the check under some schedule;
 * returns how many there are. */
static inline uint32_t hunt(const char *prefix, found (*check)()) {
    uint32_t tried = 0;
    hunting = true;
    for (uint32_t m = 0; m < emu_mutants(); m++) {
        const char *name = emu_mutant_name(m);
        if (strncmp(name, prefix, strlen(prefix)) != 0)
            continue;
        CHECK(emu_mutant_select(name));
        found what;
        for (uint32_t i = 0; i < EMU_VARIATIONS && what.empty(); i++) {
            vary(i);
            what = check();
        }
        if (what.empty()) {
            fprintf(stderr, "mutant %s survives: %s\n", name, emu_mutant_text(m));
            exit(1);
        }
        tried++;
    }
    emu_mutant_select(nullptr);
    emu_set_options(nullptr);
    hunting = false;
    return tried;
}
