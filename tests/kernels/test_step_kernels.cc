/* Rows, append and tables of step.h on the emulated device: bits against the cpu backend's
 * operations, bytes against cost.h. */
#include <sys/mman.h>

#include "step_world.h"

/* ---- rows ---- */

static found check_embed(uint32_t rows, uint32_t hidden, bool one_bad) {
    random_words random(rows * 31 + hidden);
    const uint32_t vocab = 37;
    const std::vector<uint16_t> table = random_bf16(random, (size_t)vocab * hidden, 2.0f);
    std::vector<int32_t> token(rows);
    std::vector<uint32_t> segment(rows);
    for (uint32_t r = 0; r < rows; r++)
        token[r] = (int32_t)random.below(vocab), segment[r] = r;
    if (one_bad)
        token[rows / 2] = rows % 2 ? -1 : (int32_t)vocab;
    buffer<uint16_t> embedding(table, "embedding"), x((size_t)rows * hidden, "x", EMU_OUTPUT);
    buffer<int32_t> tokens(token, "token");
    buffer<uint32_t> segments(segment, "segment"), failed(rows, "failed", EMU_OUTPUT),
        broken(rows, "broken", EMU_OUTPUT);
    failed.zero(), broken.zero();
    cop_embed_args args = {};
    args.embedding = embedding.p, args.token = tokens.p, args.row_segment = segments.p;
    args.x = x.p, args.row_failed = failed.p, args.segment_failed = broken.p;
    args.n_rows = rows, args.hidden = hidden, args.vocab = vocab;
    emu_reset_counts();
    EXPECT(cop_launch_embed(&args, nullptr) == 0);
    for (uint32_t r = 0; r < rows; r++) {
        const bool bad = one_bad && r == rows / 2;
        EXPECT(failed.p[r] == bad && broken.p[r] == bad);
        for (uint32_t i = 0; i < hidden; i++)
            EXPECT(x.p[(size_t)r * hidden + i] == (bad ? 0 : table[(size_t)token[r] * hidden + i]));
    }
    if (!one_bad)
        EXPECT(BYTES_ARE(cop_cost_embed(&args), "embedding", "x", "token", "segment"));
    return "";
}

static found check_norm(uint32_t rows, uint32_t hidden, bool add) {
    random_words random(rows * 131 + hidden + add);
    const std::vector<uint16_t> x0 = random_bf16(random, (size_t)rows * hidden, 4.0f);
    const std::vector<uint16_t> d0 = random_bf16(random, (size_t)rows * hidden, 0.5f);
    const std::vector<float> w0 = random_f32(random, hidden, 2.0f);
    buffer<uint16_t> x(x0, "x", EMU_OUTPUT), delta(d0, "delta"),
        out((size_t)rows * hidden, "out", EMU_OUTPUT);
    buffer<float> weight(w0, "weight");
    cop_norm_args args = {};
    args.x = x.p, args.delta = add ? delta.p : nullptr, args.weight = weight.p, args.out = out.p;
    args.eps = 1e-5f, args.n_rows = rows, args.hidden = hidden;
    emu_reset_counts();
    EXPECT(cop_launch_norm(&args, nullptr) == 0);
    EXPECT(BYTES_ARE(cop_cost_norm(&args), "x", "delta", "out", "weight"));
    std::vector<float> want_x = widened(x0.data(), x0.size()), want(x0.size());
    const std::vector<float> deltas = widened(d0.data(), d0.size());
    for (size_t r = 0; r < rows; r++) {
        if (add)
            ops()->add(&want_x[r * hidden], &deltas[r * hidden], hidden, true);
        ops()->norm(&want_x[r * hidden], w0.data(), hidden, 1e-5f, true, &want[r * hidden]);
    }
    EXPECT(x.same(rounded(want_x)));
    EXPECT(out.same(rounded(want)));
    return "";
}

/* Not finite in one row: that row shows it, the others are untouched. */
static found check_norm_bad_row(uint16_t bad) {
    const uint32_t rows = 3, hidden = 64;
    random_words random(5);
    std::vector<uint16_t> x0 = random_bf16(random, rows * hidden, 1.0f);
    const std::vector<float> w0 = random_f32(random, hidden, 1.0f);
    x0[hidden + 17] = bad;
    buffer<uint16_t> x(x0, "x", EMU_OUTPUT), out(rows * hidden, "out", EMU_OUTPUT);
    buffer<float> weight(w0, "weight");
    cop_norm_args args = {};
    args.x = x.p, args.weight = weight.p, args.out = out.p, args.eps = 1e-5f;
    args.n_rows = rows, args.hidden = hidden;
    EXPECT(cop_launch_norm(&args, nullptr) == 0);
    for (uint32_t r = 0; r < rows; r++) {
        std::vector<float> row = widened(&x0[r * hidden], hidden), want(hidden);
        ops()->norm(row.data(), w0.data(), hidden, 1e-5f, true, want.data());
        for (uint32_t i = 0; i < hidden; i++) {
            const float got = cop_f32_from_bf16(out.p[r * hidden + i]);
            EXPECT(std::isnan(want[i]) ? std::isnan(got) : got == want[i]);
        }
    }
    return "";
}

static found check_activate(uint32_t rows, uint32_t ffn, float scale) {
    random_words random(rows * 7 + ffn);
    std::vector<uint16_t> in = random_bf16(random, (size_t)rows * 2 * ffn, scale);
    in[0] = 0xff80, in[1] = 0x7f80, in[2] = 0x8000; /* -inf: 0 x -inf; inf; -0 */
    buffer<uint16_t> gate_up(in, "gate_up"), out((size_t)rows * ffn, "out", EMU_OUTPUT);
    cop_activate_args args = {gate_up.p, out.p, rows, ffn};
    emu_reset_counts();
    EXPECT(cop_launch_activate(&args, nullptr) == 0);
    EXPECT(BYTES_ARE(cop_cost_activate(&args), "gate_up", "out"));
    const std::vector<float> wide = widened(in.data(), in.size());
    for (size_t r = 0; r < rows; r++) {
        std::vector<float> want(ffn);
        ops()->silu_mul(&wide[r * 2 * ffn], &wide[r * 2 * ffn + ffn], ffn, true, want.data());
        for (size_t i = 0; i < ffn; i++) {
            const float got = cop_f32_from_bf16(out.p[r * ffn + i]);
            EXPECT(std::isnan(want[i]) ? std::isnan(got) : memcmp(&got, &want[i], sizeof got) == 0);
        }
    }
    return "";
}

/* ---- append ---- */

struct append_case {
    uint32_t rows, heads, kv_heads, d, page_tokens;
    bool wide, bias, normed;
    uint32_t rope;
    uint32_t bad; /* 0: no row is bad; 1: NaN in K; 2: inf in V; 3: inf in Q; 4: failed before */
};

/* What the cpu backend makes of the row's Q, K and V. */
static std::vector<float> append_reference(const append_case &c, std::vector<float> row,
                                           const std::vector<float> &bias,
                                           const std::vector<float> &norms, const float *cosine,
                                           const float *sine) {
    cop_cpu_heads heads = {};
    heads.n_heads = c.heads, heads.n_kv_heads = c.kv_heads, heads.head_dim = c.d;
    heads.bias = c.bias ? bias.data() : nullptr, heads.eps = 1e-6f;
    heads.q_norm = c.normed ? &norms[0] : nullptr, heads.k_norm = c.normed ? &norms[c.d] : nullptr;
    heads.rope_halves = c.rope == COP_ROPE_HALVES, heads.round = !c.wide;
    cop_cpu_heads_run(ops(), &heads, cosine, sine, row.data());
    ops()->round(row.data(), (uint32_t)row.size());
    return row;
}

static found check_append(const append_case &c) {
    random_words random(c.d * 1000 + c.page_tokens + c.rows + c.rope);
    const uint32_t d = c.d, width = (c.heads + 2 * c.kv_heads) * d, positions = 64;
    const uint32_t pages_each = 3, n_pages = c.rows * pages_each, bad_row = c.rows / 2;
    std::vector<float> in = random_f32(random, (size_t)c.rows * width, 3.0f);
    if (!c.wide)
        in = widened(rounded(in).data(), in.size());
    if (c.bad >= 1 && c.bad <= 3) {
        const uint32_t at = c.bad == 3 ? 5 : c.bad == 1 ? c.heads * d + 3 : width - 1;
        in[(size_t)bad_row * width + at] = c.bad == 1 ? NAN : INFINITY;
    }
    const std::vector<float> bias = random_f32(random, width, 1.0f);
    const std::vector<float> norms = random_f32(random, 2 * d, 2.0f);
    const std::vector<float> cosines = random_f32(random, (size_t)positions * d / 2, 1.0f);
    const std::vector<float> sines = random_f32(random, (size_t)positions * d / 2, 1.0f);
    std::vector<cop_segment> segment(c.rows);
    std::vector<uint32_t> pages(n_pages + 1), row_segment(c.rows), row_offset(c.rows);
    std::vector<int32_t> position(c.rows);
    for (uint32_t i = 0; i <= n_pages; i++)
        pages[i] = i < n_pages ? n_pages - 1 - i : 0;
    for (uint32_t r = 0; r < c.rows; r++) {
        const uint32_t tokens = 1 + random.below(pages_each * c.page_tokens);
        row_segment[r] = c.rows - 1 - r;
        segment[c.rows - 1 - r] = {r * pages_each, tokens};
        row_offset[r] = r % 2 ? tokens - 1 : COP_AT_END;
        position[r] = (int32_t)random.below(positions);
    }
    segment[row_segment[0]].tokens = c.page_tokens; /* the last token of a page */
    if (c.rows > 1)
        row_offset[1] = 0;
    buffer<float> wide_in(in, "qkv"), bias_in(bias, "bias"), norm_in(norms, "norms"),
        cosine(cosines, "angles"), sine(sines, "angles");
    buffer<uint16_t> narrow_in(rounded(in), "qkv"),
        query((size_t)c.rows * c.heads * d, "query", EMU_OUTPUT),
        pool((size_t)n_pages * 2 * c.kv_heads * c.page_tokens * d, "pool", EMU_OUTPUT);
    buffer<cop_segment> segments(segment, "tables");
    buffer<uint32_t> table(pages, "tables"), rs(row_segment, "tables"), ro(row_offset, "tables"),
        failed(c.rows, "failed", EMU_OUTPUT), broken(c.rows, "broken", EMU_OUTPUT);
    buffer<int32_t> where(position, "tables");
    failed.zero(), broken.zero();
    if (c.bad == 4)
        failed.p[bad_row] = 1;
    std::vector<uint16_t> want_pool(pool.n, 0xffff), want_query(query.n, 0);
    cop_append_args args = {};
    args.qkv = c.wide ? (const void *)wide_in.p : narrow_in.p;
    args.query = query.p, args.pool = pool.p, args.segments = segments.p;
    args.page_table = table.p, args.row_segment = rs.p, args.row_offset = ro.p;
    args.position = where.p, args.cosine = cosine.p, args.sine = sine.p;
    args.bias = c.bias ? bias_in.p : nullptr;
    args.q_norm = c.normed ? norm_in.p : nullptr, args.k_norm = c.normed ? norm_in.p + d : nullptr;
    args.row_failed = failed.p, args.segment_failed = broken.p, args.eps = 1e-6f;
    args.n_rows = c.rows, args.n_heads = c.heads, args.n_kv_heads = c.kv_heads;
    args.head_dim = d, args.page_tokens = c.page_tokens, args.rope = c.rope;
    args.qkv_f32 = c.wide;
    emu_reset_counts();
    EXPECT(cop_launch_append(&args, nullptr) == 0);
    if (!c.bad)
        EXPECT(BYTES_ARE(cop_cost_append(&args), "qkv", "bias", "norms", "angles", "query", "pool",
                         "tables", "failed", "broken"));
    for (uint32_t r = 0; r < c.rows; r++) {
        const bool bad = c.bad && r == bad_row;
        EXPECT(failed.p[r] == bad);
        EXPECT(broken.p[row_segment[r]] == bad);
        std::vector<float> row = append_reference(
            c, std::vector<float>(&in[(size_t)r * width], &in[(size_t)r * width] + width), bias,
            norms, &cosines[(size_t)position[r] * d / 2], &sines[(size_t)position[r] * d / 2]);
        if (bad)
            row.assign(width, 0.0f);
        const std::vector<uint16_t> bits = rounded(row);
        memcpy(&want_query[(size_t)r * c.heads * d], bits.data(), (size_t)c.heads * d * 2);
        const uint32_t offset =
            row_offset[r] == COP_AT_END ? segment[row_segment[r]].tokens - 1 : row_offset[r];
        const uint32_t page =
            pages[segment[row_segment[r]].page_table_offset + offset / c.page_tokens];
        for (uint32_t h = 0; h < 2 * c.kv_heads; h++)
            memcpy(&want_pool[((size_t)(page * 2 * c.kv_heads + h) * c.page_tokens +
                               offset % c.page_tokens) *
                              d],
                   &bits[(size_t)(c.heads + h) * d], d * 2);
    }
    EXPECT(query.same(want_query));
    EXPECT(pool.same(want_pool));
    return "";
}

/* A pool of which only what is touched has memory: pages whose element offsets pass 2^31 and 2^32,
 * and a position past 2^16. */
static found check_append_far(uint32_t page) {
    const uint32_t d = 128, page_tokens = 64, kv_heads = 8, position = 70000;
    const size_t page_elements = 2 * kv_heads * page_tokens * d,
                 bytes = (page + 1ull) * page_elements * 2;
    uint16_t *pool = (uint16_t *)mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED)
        return "no address space";
    random_words random(page);
    const append_case c = {1, 1, kv_heads, d, page_tokens, false, false, false, COP_ROPE_NEIGHBOURS,
                           0};
    const std::vector<uint16_t> in = random_bf16(random, (1 + 2 * kv_heads) * d, 1.0f);
    const size_t at = (size_t)position * d / 2;
    std::vector<float> angles(at + d / 2, NAN);
    for (uint32_t i = 0; i < d / 2; i++)
        angles[at + i] = random.value(1.0f);
    found result = [&]() -> found {
        EXPECT(emu_register(pool, bytes, "far pool", EMU_OUTPUT));
        buffer<uint16_t> qkv(in, "qkv"), query(d, "query", EMU_OUTPUT);
        buffer<cop_segment> segment(std::vector<cop_segment>{{0, 1}}, "tables");
        buffer<uint32_t> table(std::vector<uint32_t>{page, page}, "tables"),
            zero(std::vector<uint32_t>{0}, "tables"), failed(1, "failed", EMU_OUTPUT),
            broken(1, "broken", EMU_OUTPUT);
        buffer<int32_t> where(std::vector<int32_t>{(int32_t)position}, "tables");
        buffer<float> cosine(angles, "angles"), sine(angles, "angles");
        failed.zero(), broken.zero();
        cop_append_args args = {};
        args.qkv = qkv.p, args.query = query.p, args.pool = pool, args.segments = segment.p;
        args.page_table = table.p, args.row_segment = zero.p, args.row_offset = zero.p;
        args.position = where.p, args.cosine = cosine.p, args.sine = sine.p;
        args.row_failed = failed.p, args.segment_failed = broken.p;
        args.n_rows = 1, args.n_heads = 1, args.n_kv_heads = kv_heads, args.head_dim = d;
        args.page_tokens = page_tokens;
        EXPECT(cop_launch_append(&args, nullptr) == 0);
        EXPECT(failed.p[0] == 0);
        const std::vector<uint16_t> want = rounded(
            append_reference(c, widened(in.data(), in.size()), {}, {}, &angles[at], &angles[at]));
        for (uint32_t h = 0; h < 2 * kv_heads; h++)
            EXPECT(memcmp(pool + page * page_elements + (size_t)h * page_tokens * d,
                          &want[(1 + h) * d], d * 2) == 0);
        return "";
    }();
    emu_unregister(pool);
    munmap(pool, bytes);
    return result;
}

/* ---- tables ---- */

static int32_t order_forced(uint32_t r) { /* a token, nothing, places in a script */
    return 3 - (int32_t)r;
}

static found check_advance(uint32_t rows, uint32_t tickets) {
    std::vector<cop_segment> segment(rows + 3);
    std::vector<uint32_t> row_segment(rows);
    std::vector<int32_t> at(rows);
    std::vector<cop_open_segment> opened;
    for (uint32_t i = 0; i < rows + 3; i++)
        segment[i] = {i, 100 + i};
    std::vector<cop_sample_order> order(rows);
    cop_advance_moves moves = {};
    for (uint32_t r = 0; r < rows; r++) {
        row_segment[r] = r + 2, at[r] = (int32_t)r * 5;
        order[r] = {};
        order[r].position = 0xffffffffu - r % 2, order[r].forced = order_forced(r);
        if (r % 4 == 3)
            continue;
        const bool filler = r % 8 == 6;
        const int32_t of = r % 3 ? (int32_t)(rows - 1 - r) : -1;
        opened.push_back({r + 2, filler ? 0 : 1 + r % 3, r % 2 ? -1 : (int32_t)r, of});
        if (filler)
            continue;
        moves.segments++, moves.positions += r % 2 == 0, moves.orders += of >= 0;
        moves.scripts += of >= 0 && order_forced((uint32_t)of) <= COP_FORCED_SCRIPT;
    }
    buffer<cop_segment> segments(segment, "segments", EMU_OUTPUT);
    buffer<cop_open_segment> open(opened, "open");
    buffer<int32_t> position(at, "position", EMU_OUTPUT);
    buffer<uint32_t> ticket(tickets, "ticket", EMU_OUTPUT), failed(rows, "failed", EMU_OUTPUT),
        broken(rows + 3, "broken", EMU_OUTPUT), rs(row_segment, "rs");
    cop_advance_args args = {};
    buffer<cop_sample_order> orders(order, "orders", EMU_OUTPUT);
    args.segments = segments.p, args.open = open.p, args.position = position.p;
    args.orders = orders.p;
    args.tickets = ticket.p, args.row_failed = failed.p, args.segment_failed = broken.p;
    args.row_segment = rs.p, args.n_open = (uint32_t)opened.size(), args.n_tickets = tickets;
    args.n_rows = rows;
    emu_reset_counts();
    EXPECT(cop_launch_advance(&args, nullptr) == 0);
    EXPECT(BYTES_ARE(cop_cost_advance(&args, &moves), "segments", "open", "position", "ticket",
                     "failed", "broken", "rs", "orders"));
    for (const cop_open_segment &o : opened) {
        segment[o.segment].tokens += o.tokens;
        if (o.row >= 0)
            at[(size_t)o.row] += (int32_t)o.tokens;
        if (o.order < 0)
            continue;
        cop_sample_order &moved = order[(size_t)o.order];
        moved.position += o.tokens;
        moved.forced -= moved.forced <= COP_FORCED_SCRIPT ? (int32_t)o.tokens : 0;
    }
    EXPECT(memcmp(orders.p, order.data(), rows * sizeof order[0]) == 0);
    EXPECT(segments.same(segment));
    EXPECT(position.same(at));
    EXPECT(ticket.same(std::vector<uint32_t>(tickets, 0)));
    EXPECT(failed.same(std::vector<uint32_t>(rows, 0)));
    for (uint32_t i = 0; i < rows + 3; i++)
        EXPECT(broken.p[i] == (i >= 2 && i < rows + 2 ? 0 : 0xffffffffu));
    return "";
}

static found check_patch(bool with_bad) {
    random_words random(3);
    buffer<uint32_t> a(1000, "table", EMU_OUTPUT), b(70, "table", EMU_OUTPUT),
        bad(1, "bad", EMU_OUTPUT);
    std::vector<uint32_t> want_a(1000, 0xffffffffu), want_b(70, 0xffffffffu), words;
    std::vector<cop_patch_record> records;
    for (uint32_t i = 0; i < 9; i++) {
        const uint32_t n = i == 0 ? 100 : i == 1 ? 1 : 33 - i;
        const cop_patch_record r = {i % 2, i / 2 * (i % 2 ? 14u : 120u), i % 2 && n > 14 ? 14 : n,
                                    (uint32_t)words.size()};
        for (uint32_t w = 0; w < r.n_words; w++) {
            words.push_back(random.below(1u << 31));
            (i % 2 ? want_b : want_a)[r.index + w] = words.back();
        }
        records.push_back(r);
    }
    if (with_bad) {
        records.push_back({1, 60, 11, 0}); /* a word past its table */
        records.push_back({5, 0, 1, 0});
        records.push_back({0, 0xffffffffu, 2, 0});
        records.push_back({0, 0, 2, (uint32_t)words.size() - 1});
    }
    buffer<cop_patch_record> rec(records, "records");
    buffer<uint32_t> payload(words, "words");
    bad.zero();
    cop_patch_args args = {};
    args.tables[0] = {a.p, 1000}, args.tables[1] = {b.p, 70}, args.n_tables = 2;
    args.records = rec.p, args.words = payload.p, args.bad = bad.p;
    args.n_records = (uint32_t)records.size(), args.n_words = (uint32_t)words.size();
    emu_reset_counts();
    EXPECT(cop_launch_patch(&args, nullptr) == 0);
    EXPECT(BYTES_ARE(cop_cost_patch(&args, words.size()), "table", "records", "words"));
    EXPECT(a.same(want_a));
    EXPECT(b.same(want_b));
    EXPECT(bad.p[0] == (with_bad ? records.size() : 0));
    return "";
}

static found check_copy(uint32_t d, uint32_t page_tokens) {
    const uint32_t kv_heads = 3, layers = 2, n_pages = 5;
    const size_t tile = (size_t)page_tokens * d, page = 2 * kv_heads * tile, layer = n_pages * page;
    random_words random(d);
    std::vector<uint16_t> want = random_bf16(random, layers * layer, 9.0f);
    const std::vector<cop_page_copy> list = {{0, 3, page_tokens}, {1, 4, 1}, {0, 2, 0}};
    buffer<uint16_t> pool(want, "pool", EMU_OUTPUT);
    buffer<cop_page_copy> copies(list, "copies");
    cop_copy_pages_args args = {pool.p, layer, copies.p, 3, layers, kv_heads, d, page_tokens};
    emu_reset_counts();
    EXPECT(cop_launch_copy_pages(&args, nullptr) == 0);
    EXPECT(BYTES_ARE(cop_cost_copy_pages(&args, page_tokens + 1), "pool", "copies"));
    for (uint32_t l = 0; l < layers; l++)
        for (const cop_page_copy &c : list)
            for (uint32_t h = 0; h < 2 * kv_heads; h++)
                memcpy(&want[l * layer + c.to * page + h * tile],
                       &want[l * layer + c.from * page + h * tile], (size_t)c.tokens * d * 2);
    EXPECT(pool.same(want));
    return "";
}

static found check_copy_far() {
    const uint32_t d = 128, page_tokens = 64, kv_heads = 8, page = 1u << 15; /* 2^32 elements */
    const size_t page_elements = 2 * kv_heads * page_tokens * d,
                 bytes = (page + 1ull) * page_elements * 2;
    uint16_t *pool = (uint16_t *)mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED)
        return "no address space";
    found result = [&]() -> found {
        EXPECT(emu_register(pool, bytes, "far pool", EMU_OUTPUT));
        pool[page_elements + 5] = 77;
        buffer<cop_page_copy> copies(std::vector<cop_page_copy>{{1, page, 1}}, "copies");
        cop_copy_pages_args args = {pool, 0, copies.p, 1, 1, kv_heads, d, page_tokens};
        EXPECT(cop_launch_copy_pages(&args, nullptr) == 0);
        EXPECT(pool[page * page_elements + 5] == 77);
        return "";
    }();
    emu_unregister(pool);
    munmap(pool, bytes);
    return result;
}

/* ---- all checks, small enough to run under every schedule and mutant ---- */

static found check_all_rows() {
    TRY(check_embed(3, 264, false));
    TRY(check_embed(5, 64, true));
    TRY(check_norm(2, 2112, true));
    TRY(check_norm(3, 64, false));
    TRY(check_norm_bad_row(0x7f80));
    TRY(check_activate(2, 264, 6.0f));
    return "";
}

static found check_all_append() {
    TRY(check_append({3, 4, 2, 64, 16, false, false, false, COP_ROPE_NEIGHBOURS, 0}));
    TRY(check_append({3, 3, 1, 96, 32, true, true, true, COP_ROPE_HALVES, 0}));
    TRY(check_append({3, 2, 1, 64, 16, false, false, false, COP_ROPE_HALVES, 2}));
    TRY(check_append({2, 2, 1, 64, 16, false, true, false, COP_ROPE_HALVES, 0}));
    TRY(check_append({2, 4, 2, 64, 16, false, false, true, COP_ROPE_HALVES, 0}));
    return "";
}

static found check_all_tables() {
    TRY(check_advance(9, 30));
    TRY(check_patch(true));
    TRY(check_copy(64, 16));
    return "";
}

static found check_far() {
    TRY(check_append_far(1u << 15));
    return check_copy_far();
}

/* ---- tests ---- */

static void test_rows_under_every_schedule() {
    every_schedule(check_all_rows);
}
static void test_append_under_every_schedule() {
    every_schedule(check_all_append);
}
static void test_tables_under_every_schedule() {
    every_schedule(check_all_tables);
}
static void test_row_shapes() {
    const uint32_t hidden[] = {8, 16, 576, 2560, 4096};
    for (uint32_t h : hidden) {
        expect_none(check_embed(1, h, false));
        expect_none(check_norm(1, h, true));
        expect_none(check_norm(4, h, false));
        expect_none(check_activate(1, h, 40.0f));
    }
    expect_none(check_embed(1000, 64, true));
    expect_none(check_norm(1000, 64, true));
    expect_none(check_activate(1000, 64, 8.0f));
    expect_none(check_activate(1, 2056, 200.0f));
    expect_none(check_norm_bad_row(0x7fc0));
    expect_none(check_norm_bad_row(0xff80));
}

static void test_append_shapes() {
    const uint32_t dims[] = {64, 96, 128, 256}, pages[] = {16, 32, 64};
    for (uint32_t d : dims)
        for (uint32_t page : pages)
            for (uint32_t rope = 0; rope < 2; rope++) {
                const bool wide = (d / 32 + page / 16) % 2 != 0, normed = rope == page / 32 % 2;
                expect_none(check_append({3, 3, 1, d, page, wide, page != 32, normed, rope, 0}));
            }
    expect_none(check_append({1, 64, 8, 128, 16, false, false, true, COP_ROPE_HALVES, 0}));
    expect_none(check_append({1000, 1, 1, 64, 16, false, false, false, COP_ROPE_NEIGHBOURS, 0}));
}

/* What a family has, with the heads of a published model of it, bf16 and f32. */
static void test_append_families() {
    for (uint32_t wide = 0; wide < 2; wide++) {
        const bool f32 = wide != 0;
        const append_case families[] = {
            {4, 9, 3, 64, 32, f32, false, false, COP_ROPE_NEIGHBOURS, 0}, /* SmolLM2-135M */
            {4, 14, 2, 64, 32, f32, true, false, COP_ROPE_HALVES, 0},     /* Qwen2.5-0.5B */
            {4, 28, 4, 128, 16, f32, true, false, COP_ROPE_HALVES, 0},    /* Qwen2.5-7B */
            {4, 16, 8, 128, 16, f32, false, true, COP_ROPE_HALVES, 0},    /* Qwen3-0.6B */
            {4, 32, 8, 128, 64, f32, false, true, COP_ROPE_HALVES, 0},    /* Qwen3-8B */
        };
        for (append_case c : families) {
            expect_none(check_append(c));
            c.bad = 1 + wide;
            expect_none(check_append(c));
        }
    }
    /* All eight combinations, with heads narrower than a vector of threads. */
    for (uint32_t i = 0; i < 8; i++)
        expect_none(check_append({3, 6, 2, 32, 16, false, (i & 1) != 0, (i & 2) != 0, i >> 2, 0}));
}

static void test_append_bad_rows() {
    for (uint32_t bad = 1; bad <= 4; bad++)
        for (uint32_t normed = 0; normed < 2; normed++) {
            expect_none(check_append(
                {5, 2, 2, 64, 16, bad % 2 == 0, false, normed != 0, COP_ROPE_NEIGHBOURS, bad}));
        }
}

static void test_offsets_past_32_bits() {
    const uint32_t pages[] = {1u << 14, (1u << 14) + 1, 1u << 15, (1u << 16) + 3};
    for (uint32_t page : pages) /* 2^17 elements each */
        expect_none(check_append_far(page));
    expect_none(check_copy_far());
}

static void test_table_shapes() {
    expect_none(check_advance(1, 1));
    expect_none(check_advance(1000, 80));
    expect_none(check_patch(false));
    const uint32_t dims[] = {64, 96, 128, 256}, pages[] = {16, 32, 64};
    for (uint32_t d : dims)
        for (uint32_t page : pages)
            expect_none(check_copy(d, page));
}

static void test_arguments_are_refused() {
    cop_norm_args norm = {};
    norm.n_rows = 1, norm.hidden = 12;
    CHECK_EQ(cop_launch_norm(&norm, nullptr), 1);
    norm.n_rows = 0, norm.hidden = 16;
    CHECK_EQ(cop_launch_norm(&norm, nullptr), 0);
    cop_append_args append = {};
    append.n_rows = 1, append.n_heads = 1, append.n_kv_heads = 1, append.page_tokens = 16;
    append.head_dim = 72;
    CHECK_EQ(cop_launch_append(&append, nullptr), 1);
    cop_product_args product = {};
    product.n_rows = 65, product.inputs = 8, product.outputs = 1;
    CHECK_EQ(cop_launch_product(&product, nullptr), 1);
    cop_sample_args sample = {};
    sample.vocab = (1u << 22) + 1, sample.n_orders = 1;
    CHECK_EQ(cop_launch_sample(&sample, nullptr), 1);
    CHECK_EQ(emu_launches(nullptr), 0);
}

static void test_every_mutant_is_caught() {
    CHECK_EQ(hunt("embed_", check_all_rows), 1);
    CHECK_EQ(hunt("norm_", check_all_rows), 4);
    CHECK_EQ(hunt("activate_", check_all_rows), 1);
    CHECK_EQ(hunt("append_32_", check_far), 1);
    CHECK_EQ(hunt("append_bias_", check_all_append), 2);
    CHECK_EQ(hunt("append_head_", check_all_append), 2);
    CHECK_EQ(hunt("append_halves_", check_all_append), 1);
    CHECK_EQ(hunt("append_no", check_all_append), 1);
    CHECK_EQ(hunt("append_p", check_all_append), 2);
    CHECK_EQ(hunt("append_flag", check_all_append), 1);
    CHECK_EQ(hunt("append_wrong", check_all_append), 1);
    CHECK_EQ(hunt("advance_", check_all_tables), 5);
    CHECK_EQ(hunt("patch_", check_all_tables), 2);
    CHECK_EQ(hunt("copy_tail", check_all_tables), 1);
    CHECK_EQ(hunt("copy_32_", check_far), 1);
}

int main() {
    RUN(test_arguments_are_refused);
    RUN(test_rows_under_every_schedule);
    RUN(test_append_under_every_schedule);
    RUN(test_tables_under_every_schedule);
    RUN(test_row_shapes);
    RUN(test_append_shapes);
    RUN(test_append_families);
    RUN(test_append_bad_rows);
    RUN(test_offsets_past_32_bits);
    RUN(test_table_shapes);
    RUN(test_every_mutant_is_caught);
    return check_report();
}
