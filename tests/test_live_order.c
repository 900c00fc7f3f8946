/* Every preset under real decoding of what no system would write: tags in any order, blocks that
 * are cut at any token, ends of text anywhere. Whatever happens, the text is that of the ids,
 * nothing is left in the pool, and what is refused is counted. */
#include "live_world.h"

static const char *const presets[] = {"countdown-message",     "countdown-reprefill",
                                      "countdown-stitch",      "multiverse",
                                      "multiverse-engine",     "npr",
                                      "npr-corrected",         "parallel-r1",
                                      "parallel-r1-corrected", "threadweaver",
                                      "threadweaver-eval",     "threadweaver-rl",
                                      "threadweaver-rl-recipe"};
enum { PRESETS = sizeof presets / sizeof presets[0] };

static uint64_t state;
static uint32_t draw(uint32_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % bound;
}

static world open_preset(const char *name) {
    live_world_tags = true;
    world w = live_world_open(name, 200, 4096);
    live_world_tags = false;
    cop_dialect *d = (cop_dialect *)cop_dialect_of(w.dialect);
    if (d->fork_margin > 100) /* more than the budgets here */
        d->fork_margin = d->margin = 0;
    return w;
}

/* The bytes of a sample's ids are its text, an end of text apart. */
static void check_whole(const world *w, const cop_live *live) {
    cop_live_sample sample = cop_live_sample_read(live, 0);
    size_t at = 0;
    CHECK(sample.stop != COP_STOP_NONE);
    for (uint32_t i = 0; i < sample.n_ids; i++) {
        cop_text text = cop_tokenizer_bytes(w->tokenizer, sample.ids[i]);
        if (i + 1 == sample.n_ids && cop_tokenizer_is_end(w->tokenizer, sample.ids[i]))
            break;
        CHECK(at + text.bytes <= sample.bytes);
        CHECK(memcmp(sample.text + at, text.data, text.bytes) == 0);
        at += text.bytes;
    }
    CHECK_EQ(at, sample.bytes);
    for (uint32_t i = 0; i < cop_live_path_count(live); i++)
        CHECK(cop_live_path_read(live, i).stop != COP_STOP_NONE);
}

/* ---- one block, cut at every token ---- */

static void put_tag(cop_buffer *out, cop_tag tag) {
    CHECK_OK(cop_buffer_append(out, tag.text, tag.bytes));
}

/* A block of `items`, as the dialect has it, up to where its paths open. */
static void put_plan(const cop_dialect *d, uint32_t items, cop_buffer *out) {
    put_tag(out, d->open[COP_EL_BLOCK]);
    put_tag(out, d->open[COP_EL_PLAN]);
    for (uint32_t i = 0; i < items && d->open[COP_EL_ITEM].bytes; i++) {
        put_tag(out, d->open[COP_EL_ITEM]);
        CHECK_OK(cop_buffer_printf(out, "%u: a", i + 1));
        put_tag(out, d->close[COP_EL_ITEM]);
    }
    put_tag(out, d->close[COP_EL_PLAN]);
}

static void test_a_block_is_cut_at_every_token(void) {
    for (int p = 0; p < PRESETS; p++) {
        world w = open_preset(presets[p]);
        const cop_dialect *d = cop_dialect_of(w.dialect);
        uint32_t forks = 0, whole = 0, step = 160 / check_effort(160, 20);
        for (uint32_t most = 1; most < 160; most += step) {
            cop_buffer plan = {0}, path = {0};
            put_plan(d, 2, &plan);
            CHECK_OK(cop_buffer_printf(&plan, "so%s%s.$", d->close[COP_EL_JOIN].text,
                                       d->close[COP_EL_BLOCK].text));
            CHECK_OK(cop_buffer_printf(&path, " b%sX", d->close[COP_EL_PATH].text));
            cop_metrics m;
            cop_script script[] = {live_world_say_tags(&w, "", plan.data),
                                   live_world_say_tags(&w, "1", path.data),
                                   live_world_say_tags(&w, "2", "never$")};
            cop_live_options options = {.script = script, .n_script = 3, .max_tokens = most};
            cop_live *live = live_world_run(&w, &options, &m);
            check_whole(&w, live);
            forks += m.forks;
            whole += cop_live_sample_read(live, 0).stop != COP_STOP_LENGTH;
            cop_live_destroy(live);
            cop_buffer_release(&plan);
            cop_buffer_release(&path);
        }
        CHECK(forks > 0 && whole > 0);
        live_world_close(&w);
    }
}

/* ---- zero plans, too many, and forks inside forks ---- */

static void test_plans_of_any_size(void) {
    for (int p = 0; p < PRESETS; p++) {
        world w = open_preset(presets[p]);
        const cop_dialect *d = cop_dialect_of(w.dialect);
        if (d->paths_from == COP_PATHS_FIXED) {
            live_world_close(&w);
            continue;
        }
        for (uint32_t items = 0; items < 24; items += 1 + items) {
            cop_buffer plan = {0};
            cop_metrics m;
            put_plan(d, items, &plan);
            CHECK_OK(cop_buffer_printf(&plan, "on$"));
            cop_script script[] = {live_world_say_tags(&w, "", plan.data)};
            cop_live_options options = {
                .script = script, .n_script = 1, .max_tokens = 600, .max_branches = 12};
            cop_live *live = live_world_run(&w, &options, &m);
            cop_live_sample sample = cop_live_sample_read(live, 0);
            bool fits = items > 0 && items <= 11 && (!d->max_paths || items <= d->max_paths);
            check_whole(&w, live);
            /* An implied block without items never began, so its plan's end closes nothing. */
            bool begun = items > 0 || d->open[COP_EL_BLOCK].bytes || d->open[COP_EL_PLAN].bytes;
            CHECK_EQ(m.forks, fits);
            CHECK_EQ(sample.forks_refused, !fits && begun);
            if (!fits && begun) {
                cop_refusal how = d->refused;
                if (items == 0 && d->zero_set)
                    how = d->on_zero_items;
                else if (d->max_paths && items > d->max_paths && d->many_set)
                    how = d->on_too_many;
                CHECK_EQ(sample.stop,
                         how == COP_REFUSAL_DECODES_ON ? COP_STOP_END : COP_STOP_REFUSED);
            }
            cop_live_destroy(live);
            cop_buffer_release(&plan);
        }
        live_world_close(&w);
    }
}

static void test_a_fork_inside_a_fork(void) {
    for (int p = 0; p < PRESETS; p++) {
        world w = open_preset(presets[p]);
        const cop_dialect *d = cop_dialect_of(w.dialect);
        cop_buffer plan = {0}, inner = {0};
        cop_metrics m;
        put_plan(d, 2, &plan);
        CHECK_OK(cop_buffer_append(&inner, plan.data, plan.bytes));
        CHECK_OK(cop_buffer_printf(&plan, "X$$"));
        CHECK_OK(cop_buffer_printf(&inner, "X%s%s", d->close[COP_EL_PATH].text,
                                   d->close[COP_EL_PATH].text));
        char leaf[80];
        snprintf(leaf, sizeof leaf, "y%sX", d->close[COP_EL_PATH].text);
        cop_script script[] = {
            live_world_say_tags(&w, "", plan.data), live_world_say_tags(&w, "1", inner.data),
            live_world_say_tags(&w, "2", leaf), live_world_say_tags(&w, "1.1", leaf),
            live_world_say_tags(&w, "1.2", leaf)};
        cop_live_options options = {.script = script, .n_script = 5, .max_tokens = 600};
        cop_live *live = live_world_run(&w, &options, &m);
        check_whole(&w, live);
        CHECK_EQ(m.forks, d->nested ? 2 : 1);
        cop_live_destroy(live);
        cop_buffer_release(&plan);
        cop_buffer_release(&inner);
        live_world_close(&w);
    }
}

/* ---- anything ---- */

static void put_anything(const cop_dialect *d, uint32_t pieces, cop_buffer *out) {
    for (uint32_t i = 0; i < pieces; i++) {
        uint32_t what = draw(20);
        if (what < 2 * COP_EL_COUNT)
            put_tag(out, what & 1 ? d->close[what / 2] : d->open[what / 2]);
        else if (what < 16)
            put_plan(d, draw(4), out);
        else if (what < 19)
            CHECK_OK(cop_buffer_printf(out, "%u: x\n", draw(3)));
        else
            CHECK_OK(cop_buffer_printf(out, "$"));
    }
    CHECK_OK(cop_buffer_printf(out, "."));
}

static void test_tags_in_any_order(void) {
    static const char *const names[] = {"", "1", "2", "3", "1.1", "1.2", "2.1"};
    enum { NAMES = sizeof names / sizeof names[0] };
    for (int p = 0; p < PRESETS; p++) {
        world w = open_preset(presets[p]);
        const cop_dialect *d = cop_dialect_of(w.dialect);
        uint64_t forks = 0, joins = 0, odd = 0, stops[16] = {0};
        uint32_t rounds = check_effort(80, 40);
        for (uint32_t round = 0; round < rounds; round++) {
            cop_buffer text[NAMES] = {{0}};
            cop_script script[NAMES];
            cop_metrics m;
            state = round * 131 + (uint64_t)p;
            for (int i = 0; i < NAMES; i++) {
                put_anything(d, 4 + draw(i ? 8 : 24), &text[i]);
                script[i] = live_world_say_tags(&w, names[i], text[i].data);
            }
            cop_live_options options = {.script = script,
                                        .n_script = NAMES,
                                        .max_tokens = 40 + draw(360),
                                        .max_branches = 4 + draw(30)};
            cop_live *live = live_world_run(&w, &options, &m);
            cop_live_sample sample = cop_live_sample_read(live, 0);
            check_whole(&w, live);
            forks += m.forks;
            joins += m.joins;
            odd += sample.ill_formed_tags + sample.forks_refused;
            stops[sample.stop]++;
            cop_live_destroy(live);
            for (int i = 0; i < NAMES; i++)
                cop_buffer_release(&text[i]);
        }
        CHECK(forks > 0 && joins > 0 && odd > 0 &&
              stops[COP_STOP_END] + stops[COP_STOP_LENGTH] > 0);
        live_world_close(&w);
    }
}

int main(void) {
    RUN(test_a_block_is_cut_at_every_token);
    RUN(test_plans_of_any_size);
    RUN(test_a_fork_inside_a_fork);
    RUN(test_tags_in_any_order);
    return check_report();
}
