/* Methods that draw several samples of each problem: on one prefix, side by side, in the waves that
 * their rule asks for. The problem's answer is the rule's, or, of a rule that only prunes, the
 * majority's; every sample is graded as well. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "job/job_problems.h"

uint32_t cop__problem_n_samples(const cop__problem_cell *cell) {
    return cell->method->n_samples ? cell->method->n_samples : 1;
}

static cop__problem_sample *samples_of(const cop__problem_cell *cell, uint32_t problem) {
    return cell->samples + (size_t)problem * cop__problem_n_samples(cell);
}

cop_answer_text cop__problem_claim_in(const cop__problem_cell *cell, const char *text,
                                      size_t bytes) {
    const cop_tag *mark = &cell->prompts->dialect->answer_after;
    if (mark->bytes == 0)
        return cop_checker_claim(cell->checker, (cop_answer_text){text, bytes});
    cop_answer_text claimed = {0};
    const char *at = text, *end = text + bytes, *found;
    while ((found = memmem(at, (size_t)(end - at), mark->text, mark->bytes))) {
        at = found + mark->bytes;
        claimed = (cop_answer_text){at, (size_t)(end - at)};
    }
    return claimed;
}

/* A sample's own text at its end: nothing is claimed before. */
bool cop__problem_claim(void *context, const char *text, size_t bytes, const char **answer,
                        size_t *answer_bytes) {
    const cop_answer_text claimed = cop__problem_claim_in(context, text, bytes);
    *answer = claimed.text ? claimed.text : "";
    *answer_bytes = claimed.bytes;
    return claimed.text != NULL;
}

static cop_status keep_one(cop__problem_cell *cell, const cop_problem_entry *problem,
                           const cop_live_sample *sample, cop__problem_sample *out) {
    if (sample->n_ids > cell->max_ids - cell->n_ids)
        return COP_FAIL(COP_ERR_NO_ROOM, "problem %s: the outputs are longer than %zu tokens",
                        problem->id, cell->max_ids);
    const cop_answer_text claimed = cop__problem_claim_of(cell, sample);
    *out = (cop__problem_sample){
        .grade = cop_checker_grade(cell->checker, problem->prompt, problem->answer, claimed),
        .stop = sample->stop,
        .n_ids = sample->n_ids,
        .generated = sample->generated,
        .first_id = cell->n_ids,
        .text_bytes = sample->bytes,
        .answer_at = claimed.text ? (size_t)(claimed.text - sample->text) : 0,
        .answer_bytes = claimed.bytes,
        .claimed = claimed.text != NULL};
    if (sample->n_ids > 0)
        memcpy(cell->ids + cell->n_ids, sample->ids, sample->n_ids * sizeof *cell->ids);
    cell->n_ids += sample->n_ids;
    return COP_OK;
}

static void add_wave(cop__problem_outcome *o, const cop_problem_result *result, bool first) {
    if (first)
        *o = (cop__problem_outcome){.begin_ns = result->begin_ns,
                                    .well_formed = true,
                                    .lowest_confidence = NAN,
                                    .gain_words = NAN};
    o->end_ns = result->end_ns;
    o->longest += result->tokens_longest_thread; /* a wave begins when the one before has ended */
    o->tokens += result->tokens_total;
    o->seen_sum += result->seen_sum;
}

cop_status cop__problem_samples_keep(cop__problem_cell *cell, uint32_t problem,
                                     const cop_live *live, uint32_t first, uint32_t wave,
                                     const cop_problem_result *result) {
    cop__problem_outcome *o = &cell->outcomes[problem];
    add_wave(o, result, first == 0);
    for (uint32_t i = 0; i < wave; i++) {
        const cop_live_sample sample = cop_live_sample_read(live, i);
        COP_TRY(keep_one(cell, &cell->set->list[problem], &sample,
                         &samples_of(cell, problem)[first + i]));
        o->forks += sample.forks;
        o->paths += sample.paths;
        o->cancelled += sample.paths_cancelled +
                        (sample.stop == COP_STOP_CONFIDENCE || sample.stop == COP_STOP_CANCELLED);
        o->well_formed = o->well_formed && sample.ill_formed_tags + sample.forks_refused == 0;
        o->n_samples++;
    }
    return COP_OK;
}

/* Appends what each of the problem's samples claims, one after another; nothing for the others. */
static cop_status list_answers(cop__problem_cell *cell, uint32_t problem, cop_buffer *out) {
    const cop__problem_sample *list = samples_of(cell, problem);
    cop_buffer *text = &cell->sample_text;
    out->bytes = 0;
    for (uint32_t i = 0; i < cell->outcomes[problem].n_samples; i++) {
        if (!list[i].claimed)
            continue;
        COP_TRY(cop__problem_samples_text(cell, &list[i], cell->set->list[problem].id, text));
        COP_TRY(cop_buffer_append(out, text->data + list[i].answer_at, list[i].answer_bytes));
    }
    return COP_OK;
}

/* Of a rule that only prunes: the answer that most samples gave, of equals the first. */
static cop_status find_majority(cop__problem_cell *cell, uint32_t problem, cop_answer_text *out) {
    const cop__problem_sample *list = samples_of(cell, problem);
    const uint32_t n = cell->outcomes[problem].n_samples;
    cop_buffer *answers = &cell->sample_answers;
    uint32_t most = 0;
    COP_TRY(list_answers(cell, problem, answers));
    const char *at = answers->data ? answers->data : "";
    for (uint32_t i = 0; i < n; at += list[i].claimed ? list[i].answer_bytes : 0, i++) {
        const cop_answer_text one = {at, list[i].answer_bytes};
        const char *other = at;
        uint32_t votes = 0;
        for (uint32_t k = i; k < n && list[i].claimed; k++) {
            if (!list[k].claimed)
                continue;
            votes += cop_checker_same(cell->checker, one,
                                      (cop_answer_text){other, list[k].answer_bytes});
            other += list[k].answer_bytes;
        }
        if (votes > most) {
            most = votes;
            *out = one;
        }
    }
    return COP_OK;
}

cop_status cop__problem_samples_finish(cop__problem_cell *cell, uint32_t problem, cop_rule *rule) {
    cop__problem_outcome *o = &cell->outcomes[problem];
    const cop_problem_entry *entry = &cell->set->list[problem];
    cop_answer_text answer = {0};
    cop_status status = COP_OK;
    if (cop_rule_chooses(rule)) {
        if (!cop_rule_answer(rule, &answer.text, &answer.bytes))
            answer = (cop_answer_text){0};
    } else {
        status = find_majority(cell, problem, &answer);
    }
    o->claimed = answer.text != NULL;
    o->grade = cop_checker_grade(cell->checker, entry->prompt, entry->answer, answer);
    o->stop = o->claimed ? COP_STOP_END : COP_STOP_NONE;
    o->first_byte = cell->texts.bytes;
    o->text_bytes = o->answer_bytes = answer.bytes;
    if (status == COP_OK && answer.bytes)
        status = cop_buffer_append(&cell->texts, answer.text, answer.bytes);
    return status;
}

json_t *cop__problem_samples_record(const cop__problem_cell *cell) {
    uint64_t run = 0, graded = 0, right = 0, none = 0, passed = 0, gradable = 0;
    double mean = 0;
    for (uint32_t i = 0; i < cell->set->count; i++) {
        const uint32_t n = cell->outcomes[i].n_samples;
        uint32_t own = 0, own_graded = 0;
        for (uint32_t k = 0; k < n; k++) {
            const cop_grade grade = samples_of(cell, i)[k].grade;
            own += grade == COP_GRADE_RIGHT;
            own_graded += grade != COP_GRADE_UNGRADED;
            none += grade == COP_GRADE_NONE;
        }
        run += n;
        graded += own_graded;
        right += own;
        passed += own > 0;
        gradable += own_graded > 0;
        mean += own_graded ? (double)own / own_graded : 0;
    }
    json_t *out = json_pack("{s:i, s:I, s:I, s:I, s:I}", "each", (int)cop__problem_n_samples(cell),
                            "run", (json_int_t)run, "graded", (json_int_t)graded, "right",
                            (json_int_t)right, "none", (json_int_t)none);
    if (!out)
        return NULL;
    /* Means over problems, so that one with more samples counts no more. */
    json_object_set_new(out, "avg_at_n",
                        gradable ? json_real(mean / (double)gradable) : json_null());
    json_object_set_new(out, "pass_at_n",
                        gradable ? json_real((double)passed / (double)gradable) : json_null());
    if (!gradable)
        json_object_set_new(out, "avg_at_n_why", json_string("the checker could judge no problem"));
    return out;
}

cop_status cop__problem_samples_text(const cop__problem_cell *cell,
                                     const cop__problem_sample *sample, const char *id,
                                     cop_buffer *out) {
    const cop_tokenizer *tokenizer = cop_model_tokenizer(cell->job->model);
    out->bytes = 0;
    for (uint32_t k = 0; k < sample->n_ids; k++) {
        const int32_t token = cell->ids[sample->first_id + k];
        if (k + 1 == sample->n_ids && cop_tokenizer_is_end(tokenizer, token))
            break;
        const cop_text bytes = cop_tokenizer_bytes(tokenizer, token);
        COP_TRY(cop_buffer_append(out, bytes.data, bytes.bytes));
    }
    if (out->bytes != sample->text_bytes)
        return COP_FAIL(COP_ERR_INTERNAL, "problem %s: its ids are %zu bytes of text, not %zu", id,
                        out->bytes, sample->text_bytes);
    return COP_OK;
}
