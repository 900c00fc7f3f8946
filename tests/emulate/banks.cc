/* Shared-memory bank conflicts by the rule of 32 banks of 4 bytes.
 *
 * Fibers reach an access one by one, so the requests of a warp are put together again: the i-th
 * access of each lane from one place of the source, since the lanes last met, is one request. A
 * request of 8-byte accesses is served by half warps, of 16-byte ones by quarter warps; each such
 * phase takes as many cycles as the bank that is asked for most different words. */
#include "emulate/world.h"

#include <algorithm>

static uint32_t phase_cycles(const uint32_t *at, uint32_t lanes, uint32_t bytes) {
    uint32_t words[EMU_WARP * 4], n = 0;
    for (uint32_t lane = 0; lane < EMU_WARP; lane++)
        for (uint32_t b = 0; lanes >> lane & 1 && b < (bytes + 3) / 4; b++)
            words[n++] = at[lane] / 4 + b;
    std::sort(words, words + n);
    n = static_cast<uint32_t>(std::unique(words, words + n) - words);
    uint32_t asked[32] = {}, most = 0;
    for (uint32_t i = 0; i < n; i++)
        most = std::max(most, ++asked[words[i] % 32]);
    return most;
}

void emu_bank_request(emu_world &world, const uint32_t *at, uint32_t lanes, uint32_t bytes,
                      const emu_site &site) {
    const uint32_t phases = bytes <= 4 ? 1 : bytes / 4, width = EMU_WARP / phases;
    uint64_t extra = 0;
    world.banks.requests++;
    for (uint32_t i = 0; i < phases; i++) {
        const uint32_t part = lanes & (width == 32 ? ~0u : ((1u << width) - 1) << i * width);
        if (!part)
            continue;
        const uint32_t cycles = phase_cycles(at, part, bytes);
        world.banks.phases++;
        world.banks.cycles += cycles;
        extra += cycles - 1;
    }
    if (!extra)
        return;
    auto place =
        world.bank_sites.emplace(std::make_pair(std::string(site.file), site.line), 0).first;
    place->second += extra;
    if (place->second > world.banks.worst_extra) {
        world.banks.worst_extra = place->second;
        world.banks.worst_file = place->first.first.c_str();
        world.banks.worst_line = site.line;
    }
}

void emu_bank_access(emu_fiber *fiber, const void *p, uint32_t bytes, const char *file, int line) {
    emu_warp &warp = fiber->owner->warps[fiber->thread / EMU_WARP];
    const emu_site site = {file, line};
    const uint32_t lane = fiber->thread % EMU_WARP;
    auto found = std::find_if(warp.banks.begin(), warp.banks.end(), [&](const emu_bank_site &s) {
        return s.bytes == bytes && s.site == site;
    });
    if (found == warp.banks.end()) {
        warp.banks.push_back({site, bytes, {}, {}});
        found = warp.banks.end() - 1;
    }
    const uint32_t i = found->occurrence[lane]++;
    if (i >= found->requests.size())
        found->requests.resize(i + 1);
    found->requests[i].lanes |= 1u << lane;
    found->requests[i].at[lane] =
        static_cast<uint32_t>(static_cast<const unsigned char *>(p) - fiber->shared);
}

void emu_bank_flush(emu_warp *warp) {
    emu_world &world = emu_here();
    for (const emu_bank_site &s : warp->banks)
        for (const emu_bank_site::request &request : s.requests)
            emu_bank_request(world, request.at, request.lanes, s.bytes, s.site);
    warp->banks.clear();
}
