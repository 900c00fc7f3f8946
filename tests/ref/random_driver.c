#include "ref/random_driver.h"

#include <string.h>

static uint32_t draw(const random_driver *d, uint64_t path, uint32_t position, uint32_t what,
                     uint32_t bound) {
    return cop_rng_below((cop_rng_key){d->key ^ 0x7472656573u, path, position}, what, bound);
}

enum { JOIN_STITCH, JOIN_STITCH_NEXT, JOIN_REPREFILL, JOIN_REUSE, JOIN_KINDS };

static uint32_t join_kind(const random_driver *d) {
    return draw(d, 0, 0, 99, JOIN_KINDS);
}

static random_branch *open_branch(random_driver *d, cop_engine *engine, cop_branch branch,
                                  uint64_t path, uint32_t depth) {
    uint32_t id = d->n_free ? d->free[--d->n_free] : d->n_branches++;
    random_branch *b = &d->branches[id];
    b->branch = branch;
    b->path = path;
    b->depth = depth;
    b->runs = true;
    b->digest = b->rows = 0;
    b->said = b->n_header = b->n_ids = b->n_children = b->blocks = 0;
    b->limit = 1 + draw(d, path, 0, 1, depth ? 16 : 30);
    if (draw(d, path, 0, 2, 16) == 0)
        b->limit += 80; /* now and then one that outgrows a leaf and a chunk */
    cop_engine_set_data(engine, branch, id);
    return b;
}

static cop_status random_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    random_driver *d = (random_driver *)driver;
    cop_branch root, mains[4];
    COP_TRY(cop_engine_root(engine, problem, &root));
    cop_engine_set_data(engine, root, UINT32_MAX);
    uint32_t wide = draw(d, 1, 0, 0, 4);
    d->n_prompt = 1 + draw(d, 1, 0, 1, wide == 0 ? 300 : 70);
    d->coverage->long_prompts += d->n_prompt > 128;
    d->n_prompt += d->n_shared;
    for (uint32_t i = 0; i < d->n_prompt; i++)
        d->prompt[i] = i < d->n_shared
                           ? (int32_t)cop_rng_below((cop_rng_key){d->shared_key, 2, i}, 0, d->vocab)
                           : (int32_t)draw(d, 2, i, 0, d->vocab);
    COP_TRY(cop_engine_feed(engine, root, d->prompt, d->n_prompt, COP_FEED_PROMPT));
    uint32_t n = 1 + draw(d, 1, 0, 2, 3);
    COP_TRY(cop_engine_fork(engine, root, n, mains));
    for (uint32_t i = 0; i < n; i++)
        open_branch(d, engine, mains[i], cop_rng_fold(3, i), 0)->parent = UINT32_MAX;
    d->coverage->trees++;
    return COP_OK;
}

static void fill_request(const random_driver *d, const random_branch *b, uint32_t said,
                         cop_sample_request *request) {
    request->temperature = 1;
    request->top_p = draw(d, b->path, said, 3, 2) ? 1 : 0.9f;
    /* What is fed is the sample: where another token is forced, a step that ran ahead was wrong. */
    const uint32_t forced = draw(d, b->path, said, 4, 2 * d->vocab);
    if (forced < d->vocab)
        request->forced = (int32_t)forced;
}

static void random_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                           cop_sample_request *request) {
    random_driver *d = (random_driver *)driver;
    const random_branch *b = &d->branches[cop_engine_branch(engine, branch).data];
    fill_request(d, b, b->said, request);
}

static bool random_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                                 cop_sample_request *request) {
    random_driver *d = (random_driver *)driver;
    const random_branch *b = &d->branches[cop_engine_branch(engine, branch).data];
    fill_request(d, b, b->said + 1, request);
    return true;
}

static void add_digest(random_driver *d, random_branch *b, uint64_t h, uint64_t rows) {
    d->digest += h;
    d->rows += rows;
    for (;; b = &d->branches[b->parent]) {
        b->digest += h;
        b->rows += rows;
        if (b->parent == UINT32_MAX)
            return;
    }
}

static void digest_sample(random_driver *d, random_branch *b, const cop_sample *s) {
    uint64_t h = cop_rng_fold(b->path, b->said);
    uint32_t bits;
    h = cop_rng_fold(h, (uint64_t)s->token);
    memcpy(&bits, &s->logprob, 4);
    h = cop_rng_fold(h, bits);
    memcpy(&bits, &s->forced_logprob, 4);
    h = cop_rng_fold(h, bits);
    memcpy(&bits, &s->logsumexp, 4);
    h = cop_rng_fold(h, bits);
    for (uint32_t i = 0; i < s->n_top; i++) {
        memcpy(&bits, &s->top_logprob[i], 4);
        h = cop_rng_fold(h, (uint64_t)bits << 32 | (uint32_t)s->top_token[i]);
    }
    add_digest(d, b, h, 1);
}

static cop_status fork_here(random_driver *d, cop_engine *engine, random_branch *b, uint32_t n) {
    cop_branch children[4];
    b->runs = false;
    b->n_children = n;
    uint64_t block = cop_rng_fold(b->path, 1000 + b->blocks++);
    COP_TRY(cop_engine_fork(engine, b->branch, n, children));
    d->coverage->forks++;
    for (uint32_t i = 0; i < n; i++) {
        random_branch *child =
            open_branch(d, engine, children[i], cop_rng_fold(block, i), b->depth + 1);
        child->parent = (uint32_t)(b - d->branches);
        b->child[i] = (uint32_t)(child - d->branches);
        child->n_header = child->n_ids = draw(d, child->path, 0, 5, 4);
        for (uint32_t k = 0; k < child->n_ids; k++)
            child->ids[k] = (int32_t)draw(d, child->path, k, 6, d->vocab);
        *(child->n_ids ? &d->coverage->headers : &d->coverage->no_headers) += 1;
        COP_TRY(cop_engine_feed(engine, child->branch, child->ids, child->n_ids, COP_FEED_HEADER));
    }
    return COP_OK;
}

static cop_status end_here(const random_driver *d, cop_engine *engine, random_branch *b) {
    const uint32_t kind = join_kind(d);
    const bool first = cop_engine_branch(engine, b->branch).index == 0;
    b->runs = false;
    if (b->depth == 0 || kind == JOIN_REPREFILL || (kind == JOIN_REUSE && !first))
        return cop_engine_end_text(engine, b->branch);
    return cop_engine_end(engine, b->branch, COP_END_DONE);
}

static cop_status random_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                               const cop_sample *sample) {
    random_driver *d = (random_driver *)driver;
    random_branch *b = &d->branches[cop_engine_branch(engine, branch).data];
    digest_sample(d, b, sample);
    cop_engine_generated(engine, branch, 1);
    uint32_t chance = draw(d, b->path, ++b->said, 7, 100);
    if (b->depth > 0 && chance == 0) {
        d->coverage->pruned++;
        b->runs = false;
        return cop_engine_end(engine, branch, COP_END_PRUNED);
    }
    b->ids[b->n_ids++] = sample->token;
    COP_TRY(cop_engine_feed(engine, branch, b->ids + b->n_ids - 1, 1, COP_FEED_DECODE));
    d->coverage->long_segments += b->said == 70;
    if (b->said >= b->limit || b->n_ids > RANDOM_TOKENS_MAX - 200)
        return end_here(d, engine, b);
    /* At most 3 samples x 2 blocks x 3 paths, then one block of 2 in each, twice: 129 branches. */
    uint32_t n = b->depth ? 2 : 2 + draw(d, b->path, b->said, 8, 2);
    bool may = b->depth == 0 ? b->blocks < 2 : b->depth < 3 && b->blocks < 1;
    return chance > 90 && may ? fork_here(d, engine, b, n) : COP_OK;
}

/* Text of the children that lived, behind the parent's own. */
static uint32_t gather(random_driver *d, cop_engine *engine, random_branch *b, bool skip_first) {
    uint32_t from = b->n_ids;
    for (uint32_t i = skip_first; i < b->n_children; i++) {
        const random_branch *child = &d->branches[b->child[i]];
        cop_branch id = cop_engine_child(engine, b->branch, i);
        if (cop_engine_branch(engine, id).end != COP_END_DONE)
            continue;
        uint32_t n = child->n_ids;
        if (n > RANDOM_TOKENS_MAX - 60 - b->n_ids)
            n = RANDOM_TOKENS_MAX - 60 - b->n_ids;
        memcpy(b->ids + b->n_ids, child->ids, n * sizeof *b->ids);
        b->n_ids += n;
    }
    return from;
}

static cop_status random_joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    random_driver *d = (random_driver *)driver;
    uint32_t id = cop_engine_branch(engine, parent).data;
    if (id == UINT32_MAX)
        return cop_engine_end(engine, parent, COP_END_DONE);
    random_branch *b = &d->branches[id];
    uint32_t kind = join_kind(d), done = 0;
    for (uint32_t i = 0; i < b->n_children; i++)
        done += cop_engine_branch(engine, cop_engine_child(engine, parent, i)).end == COP_END_DONE;
    d->coverage->nested_joins += b->depth > 0;
    d->coverage->all_pruned += done == 0;
    if (kind == JOIN_STITCH || kind == JOIN_STITCH_NEXT) {
        COP_TRY(cop_engine_join_stitch(engine, parent, kind == JOIN_STITCH));
        *(kind == JOIN_STITCH ? &d->coverage->equal_starts : &d->coverage->stitches) += 1;
    } else {
        cop_branch first = cop_engine_child(engine, parent, 0);
        bool reuse = kind == JOIN_REUSE && cop_engine_branch(engine, first).end == COP_END_DONE;
        uint32_t from = gather(d, engine, b, reuse);
        COP_TRY(cop_engine_join_text(engine, parent, reuse));
        COP_TRY(cop_engine_feed(engine, parent, b->ids + from, b->n_ids - from, COP_FEED_AGAIN));
        *(reuse ? &d->coverage->reuses : &d->coverage->reprefills) += 1;
    }
    b->runs = true;
    uint32_t n = 1 + draw(d, b->path, b->said, 9, 3), from = b->n_ids;
    for (uint32_t i = 0; i < n; i++)
        b->ids[b->n_ids++] = (int32_t)draw(d, b->path, b->said, 10 + i, d->vocab);
    return cop_engine_feed(engine, parent, b->ids + from, n, COP_FEED_JOIN);
}

/* Ends the path that has said least, if any runs. */
static cop_status random_shed(cop_driver *driver, cop_engine *engine, uint32_t problem,
                              bool *shed) {
    random_driver *d = (random_driver *)driver;
    random_branch *least = NULL;
    (void)problem;
    for (uint32_t i = 0; i < d->n_branches; i++) {
        random_branch *b = &d->branches[i];
        if (b->depth > 0 && b->runs && (!least || b->said < least->said))
            least = b;
    }
    *shed = least != NULL;
    if (!least)
        return COP_OK;
    least->runs = false;
    return cop_engine_end(engine, least->branch, COP_END_PRUNED);
}

enum { RECYCLED = -2 };

static bool stands_below(const random_driver *d, uint32_t id, uint32_t above) {
    while (id != above && id < d->n_branches)
        id = d->branches[id].parent;
    return id == above;
}

/* Records of what stood below are free for others. */
static bool random_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask) {
    random_driver *d = (random_driver *)driver;
    const uint32_t id = cop_engine_branch(engine, branch).data;
    random_branch *b = &d->branches[id == UINT32_MAX ? 0 : id];
    uint32_t below[RANDOM_BRANCHES_MAX], n = 0;
    if (ask)
        return true;
    if (id == UINT32_MAX) { /* the root */
        d->n_branches = d->n_free = 0;
        d->digest = d->rows = 0;
        d->restarts++;
        return true;
    }
    for (uint32_t i = 0; i < d->n_branches; i++)
        if (i != id && stands_below(d, i, id))
            below[n++] = i;
    for (uint32_t i = 0; i < n; i++) {
        d->branches[below[i]].runs = false;
        d->branches[below[i]].parent = (uint32_t)RECYCLED;
        d->free[d->n_free++] = below[i];
    }
    add_digest(d, b, 0 - b->digest, 0 - b->rows);
    b->runs = true;
    b->said = b->n_children = b->blocks = 0;
    b->n_ids = b->n_header;
    d->restarts++;
    return cop_engine_feed(engine, branch, b->ids, b->n_header, COP_FEED_HEADER) == COP_OK;
}

void random_driver_init(random_driver *driver, uint64_t key, uint32_t vocab,
                        random_coverage *coverage) {
    driver->driver = (cop_driver){.problem_key = key,
                                  .start = random_start,
                                  .request = random_request,
                                  .request_ahead = random_request_ahead,
                                  .shed = random_shed,
                                  .restart = random_restart,
                                  .token = random_token,
                                  .joined = random_joined};
    driver->key = key;
    driver->vocab = vocab;
    driver->n_branches = driver->n_free = driver->n_shared = 0;
    driver->digest = driver->rows = driver->restarts = 0;
    driver->coverage = coverage;
}

uint64_t random_driver_tokens(const random_driver *driver) {
    uint64_t digest = 0;
    for (uint32_t i = 0; i < driver->n_branches; i++) {
        uint64_t branch = driver->branches[i].path;
        for (uint32_t k = 0; k < driver->branches[i].n_ids; k++)
            branch = cop_rng_fold(branch, (uint64_t)driver->branches[i].ids[k]);
        digest += branch;
    }
    return digest;
}
