#include "ref/wide_driver.h"

#include <string.h>

static uint32_t draw(const wide_driver *d, uint32_t id, uint32_t at, uint32_t what,
                     uint32_t bound) {
    return cop_rng_below((cop_rng_key){d->key ^ 0x77696465u, id, at}, what, bound);
}

static wide_branch *child_of(wide_driver *d, uint32_t id, uint32_t index) {
    const uint32_t sample = id / WIDE_OF_SAMPLE, place = id % WIDE_OF_SAMPLE;
    return &d->branches[sample * WIDE_OF_SAMPLE + 2 * place + 1 + index];
}

static uint32_t id_of(const wide_driver *d, const wide_branch *b) {
    return (uint32_t)(b - d->branches);
}

static void set_open(wide_driver *d, wide_branch *b, bool open) {
    d->n_open += open;
    d->n_open -= b->open;
    b->open = open;
    d->n_open_most = d->n_open > d->n_open_most ? d->n_open : d->n_open_most;
}

static void begin(wide_driver *d, cop_engine *engine, wide_branch *b, cop_branch branch,
                  uint32_t level) {
    set_open(d, b, true);
    b->branch = branch;
    b->level = level;
    b->said = b->n_ids = 0;
    b->runs = true;
    b->pruned = false;
    b->digest = 0;
    d->levels = level > d->levels ? level : d->levels;
    cop_engine_set_data(engine, branch, id_of(d, b));
    cop_engine_expect(engine, branch, d->words + 2);
}

static cop_status give(wide_driver *d, cop_engine *engine, wide_branch *b, uint32_t n,
                       cop_feed feed) {
    const uint32_t from = b->n_ids;
    for (uint32_t i = 0; i < n; i++, b->n_ids++)
        b->ids[b->n_ids] = (int32_t)draw(d, id_of(d, b), b->n_ids, 1, d->vocab);
    return cop_engine_feed(engine, b->branch, b->ids + from, n, feed);
}

static cop_status wide_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    wide_driver *d = (wide_driver *)driver;
    cop_branch root, samples[WIDE_SAMPLES];
    COP_TRY(cop_engine_root(engine, problem, &root));
    cop_engine_set_data(engine, root, UINT32_MAX);
    for (uint32_t i = 0; i < WIDE_PROMPT; i++)
        d->prompt[i] = (int32_t)draw(d, UINT32_MAX, i, 0, d->vocab);
    COP_TRY(cop_engine_feed(engine, root, d->prompt, WIDE_PROMPT, COP_FEED_PROMPT));
    COP_TRY(cop_engine_fork(engine, root, WIDE_SAMPLES, samples));
    for (uint32_t i = 0; i < WIDE_SAMPLES; i++)
        begin(d, engine, &d->branches[i * WIDE_OF_SAMPLE], samples[i], 0);
    return COP_OK;
}

static void wide_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                         cop_sample_request *request) {
    (void)driver, (void)engine, (void)branch;
    request->temperature = 1;
    request->top_p = 1;
}

static bool wide_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                               cop_sample_request *request) {
    wide_request(driver, engine, branch, request);
    return true;
}

/* What a branch and all below it come to. */
static void close_below(wide_driver *d, uint32_t id) {
    wide_branch *b = &d->branches[id];
    set_open(d, b, false);
    b->runs = false;
    if (b->level == WIDE_LEVELS)
        return;
    for (uint32_t i = 0; i < 2; i++)
        if (child_of(d, id, i)->open)
            close_below(d, id_of(d, child_of(d, id, i)));
}

static cop_status prune(wide_driver *d, cop_engine *engine, wide_branch *b) {
    close_below(d, id_of(d, b));
    b->pruned = true;
    d->pruned++;
    return cop_engine_end(engine, b->branch, COP_END_PRUNED);
}

static bool joins_by_text(const wide_driver *d, uint32_t parent) {
    return draw(d, parent, 0, 2, 2) == 0;
}

static cop_status end(wide_driver *d, cop_engine *engine, wide_branch *b) {
    const uint32_t id = id_of(d, b), place = id % WIDE_OF_SAMPLE;
    set_open(d, b, false);
    b->runs = false;
    if (b->level == 0 || joins_by_text(d, id - place + (place - 1) / 2))
        return cop_engine_end_text(engine, b->branch);
    return cop_engine_end(engine, b->branch, COP_END_DONE);
}

static cop_status split(wide_driver *d, cop_engine *engine, wide_branch *b) {
    cop_branch children[2];
    b->runs = false;
    COP_TRY(cop_engine_fork(engine, b->branch, 2, children));
    for (uint32_t i = 0; i < 2; i++)
        begin(d, engine, child_of(d, id_of(d, b), i), children[i], b->level + 1);
    for (uint32_t i = 0; i < 2; i++) {
        wide_branch *child = child_of(d, id_of(d, b), i);
        COP_TRY(give(d, engine, child, draw(d, id_of(d, child), 0, 3, 3), COP_FEED_HEADER));
    }
    return COP_OK;
}

static cop_status wide_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                             const cop_sample *sample) {
    wide_driver *d = (wide_driver *)driver;
    const uint32_t id = cop_engine_branch(engine, branch).data;
    wide_branch *b = &d->branches[id];
    uint32_t bits;
    memcpy(&bits, &sample->logprob, sizeof bits);
    b->digest = cop_rng_fold(b->digest, (uint64_t)bits << 32 | (uint32_t)sample->token);
    cop_engine_generated(engine, branch, 1);
    b->said++;
    if (b->level > WIDE_LEVELS - 3 && draw(d, id, b->said, 4, 40) == 0)
        return prune(d, engine, b);
    b->ids[b->n_ids++] = sample->token;
    COP_TRY(cop_engine_feed(engine, branch, b->ids + b->n_ids - 1, 1, COP_FEED_DECODE));
    /* Leaves stay for the longest, so that most of the tree stands at once. */
    const bool leaf = b->level == WIDE_LEVELS;
    const bool joined = b->level < WIDE_LEVELS && child_of(d, id, 0)->branch != COP_BRANCH_NONE;
    if (b->said < (leaf ? d->words : joined ? b->said : 1 + draw(d, id, 0, 5, d->words)))
        return COP_OK;
    return leaf || joined ? end(d, engine, b) : split(d, engine, b);
}

static cop_status wide_joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    wide_driver *d = (wide_driver *)driver;
    const uint32_t id = cop_engine_branch(engine, parent).data;
    if (id == UINT32_MAX)
        return cop_engine_end(engine, parent, COP_END_DONE);
    wide_branch *b = &d->branches[id];
    if (joins_by_text(d, id)) {
        d->texts++;
        COP_TRY(cop_engine_join_text(engine, parent, false));
        cop_engine_expect(engine, parent, 2 * WIDE_TOKENS + 3);
        for (uint32_t i = 0; i < 2; i++) {
            const wide_branch *child = child_of(d, id, i);
            if (!child->pruned)
                COP_TRY(cop_engine_feed(engine, parent, child->ids, child->n_ids, COP_FEED_AGAIN));
        }
    } else {
        d->stitches++;
        COP_TRY(cop_engine_join_stitch(engine, parent, draw(d, id, 0, 6, 2) == 0));
        cop_engine_expect(engine, parent, 3);
    }
    b->runs = true;
    return give(d, engine, b, 1, COP_FEED_JOIN);
}

/* Ends the last leaf that runs. */
static cop_status wide_shed(cop_driver *driver, cop_engine *engine, uint32_t problem, bool *shed) {
    wide_driver *d = (wide_driver *)driver;
    (void)problem;
    *shed = false;
    for (uint32_t i = WIDE_BRANCHES; i-- > 0 && !*shed;) {
        wide_branch *b = &d->branches[i];
        *shed = b->runs && b->level > 0;
        if (*shed)
            COP_TRY(prune(d, engine, b));
    }
    d->shed += *shed;
    return COP_OK;
}

/* What stands below is as if it had never been. */
static void forget_below(wide_driver *d, uint32_t id) {
    if (d->branches[id].level == WIDE_LEVELS)
        return;
    for (uint32_t i = 0; i < 2; i++) {
        wide_branch *child = child_of(d, id, i);
        if (child->branch == COP_BRANCH_NONE)
            continue;
        forget_below(d, id_of(d, child));
        set_open(d, child, false);
        child->branch = COP_BRANCH_NONE;
        child->runs = false;
    }
}

static bool wide_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask) {
    wide_driver *d = (wide_driver *)driver;
    const uint32_t id = cop_engine_branch(engine, branch).data;
    if (ask)
        return true;
    d->restarts++;
    if (id == UINT32_MAX) {
        for (uint32_t i = 0; i < WIDE_SAMPLES; i++)
            forget_below(d, i * WIDE_OF_SAMPLE);
        return true;
    }
    wide_branch *b = &d->branches[id];
    forget_below(d, id);
    begin(d, engine, b, branch, b->level);
    return b->level == 0 || give(d, engine, b, draw(d, id, 0, 3, 3), COP_FEED_HEADER) == COP_OK;
}

void wide_driver_init(wide_driver *driver, uint64_t key, uint32_t vocab, uint32_t words) {
    memset(driver, 0, sizeof *driver);
    driver->driver = (cop_driver){.problem_key = key,
                                  .prompt_tokens = WIDE_PROMPT,
                                  .start = wide_start,
                                  .request = wide_request,
                                  .request_ahead = wide_request_ahead,
                                  .token = wide_token,
                                  .joined = wide_joined,
                                  .shed = wide_shed,
                                  .restart = wide_restart};
    driver->key = key;
    driver->vocab = vocab;
    driver->words = words;
    for (uint32_t i = 0; i < WIDE_BRANCHES; i++)
        driver->branches[i].branch = COP_BRANCH_NONE;
}

uint64_t wide_driver_digest(const wide_driver *driver) {
    uint64_t digest = 0;
    for (uint32_t i = 0; i < WIDE_BRANCHES; i++) {
        const wide_branch *b = &driver->branches[i];
        if (b->branch != COP_BRANCH_NONE)
            digest = cop_rng_fold(cop_rng_fold(digest, b->digest), 2 * i + b->pruned);
    }
    return digest;
}
