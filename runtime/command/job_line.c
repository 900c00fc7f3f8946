#include "command/job_line.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

cop_status cop_device_line_read(const cop_device_line *line, cop_backend_choice *choice) {
    if (line->backend)
        choice->name = line->backend;
    if (line->products)
        COP_TRY(cop_products_mode_parse(line->products, &choice->products));
    if (line->device_given)
        choice->device = line->device;
    if (line->eager)
        choice->eager = true;
    if (line->time_every_given)
        choice->time_every = line->time_every;
    if (line->profile_steps)
        COP_TRY(cop_profile_steps_parse(line->profile_steps, &choice->profile_first,
                                        &choice->profile_last));
    return COP_OK;
}

cop_status cop_pool_line_read(const cop_pool_line *line, cop_job_options *options) {
    if (line->kv_policy)
        COP_TRY(cop_pressure_parse(line->kv_policy, &options->kv_policy));
    if (line->prefix && !line->prefix_block)
        return COP_FAIL(COP_ERR_USAGE, "--prefix %s needs the size of a block: give --prefix-block",
                        line->prefix);
    if (line->prefix_block) {
        options->prefix_block = line->prefix_block;
        options->prefix_warm = line->prefix && strcmp(line->prefix, "warm") == 0;
    }
    return COP_OK;
}

cop_status cop_job_line_read(const cop_job_line *line, cop_job_options *out) {
    cop_job_options_default(out);
    COP_TRY(cop_device_line_read(&line->on, &out->on));
    COP_TRY(cop_pool_line_read(&line->pool, out));
    out->model = line->model;
    out->random = line->random;
    out->isa = line->isa;
    out->n_threads = line->threads;
    out->page_tokens = line->page_tokens;
    out->n_pages = line->pages;
    out->chunk_tokens = line->chunk_tokens;
    out->seed = line->seed;
    out->allow_extrapolation = line->allow_extrapolation;
    out->interrupt = cop_interrupt_flag();
    if (line->page_tokens != 16 && line->page_tokens != 32 && line->page_tokens != 64)
        return COP_FAIL(COP_ERR_USAGE, "--page-tokens %u: use 16, 32 or 64", line->page_tokens);
    if (line->chunk_tokens % COP_LEAF_TOKENS)
        return COP_FAIL(COP_ERR_USAGE, "--chunk-tokens %u is no multiple of %d", line->chunk_tokens,
                        COP_LEAF_TOKENS);
    out->arith = cop_job_arith_default(&out->on);
    return line->compute ? cop_arith_parse(line->compute, &out->arith) : COP_OK;
}

/* A signal handler can reach nothing but an object of static storage. */
static atomic_bool interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    atomic_store(&interrupted, true);
}

const atomic_bool *cop_interrupt_flag(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    return &interrupted;
}

void cop_progress_line(void *context, uint32_t done, uint32_t total, const char *what) {
    (void)context;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K[%u/%u] %s", done + 1, total, what);
}

void cop_progress_clear(void) {
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

void cop_results_say_note(void *context, const char *note) {
    (void)context;
    if (note && note[0])
        fprintf(stderr, "coppice: %s\n", note);
}

static void print_header(void) {
    printf("%-10s %-16s %8s %8s %8s %7s %9s %8s %8s %9s %9s %9s %6s\n", "problem", "method",
           "tokens", "longest", "again", "steps", "wall s", "tok/s", "join ms", "KV first",
           "KV load", "KV min", "pages");
}

static const char *text_of(const json_t *record, const char *key) {
    const char *text = json_string_value(json_object_get(record, key));
    return text ? text : "-";
}

static void print_json(const json_t *record, const cop_metrics *m) {
    json_t *line = json_copy((json_t *)record);
    json_object_set_new(line, "metrics", cop_metrics_to_json(m));
    char *text = json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (text)
        puts(text);
    free(text);
    json_decref(line);
}

/* A time that was not measured says so in its row. */
static const char *clock_of(const json_t *record) {
    const char *clock = text_of(record, "clock");
    return strcmp(clock, "wall") == 0 || strcmp(clock, "-") == 0 ? "" : clock;
}

static const char *gigabytes(char text[16], uint64_t bytes, bool known) {
    if (known)
        snprintf(text, 16, "%.2fGB", (double)bytes / 1e9);
    return known ? text : "-";
}

static void print_run(const json_t *record, const cop_metrics *m) {
    double seconds = (double)m->wall_ns / 1e9;
    const bool counts = cop_metrics_counts_loads(m);
    char first[16], load[16], min[16];
    printf("%-10.10s %-16s %8llu %8llu %8llu %7llu %9.3f %8.1f %8.1f %9s %9s %9s %6llu"
           "%s%s\n",
           text_of(record, "problem"), text_of(record, "method"),
           (unsigned long long)(m->tokens_total + m->tokens_forced),
           (unsigned long long)m->tokens_longest_thread, (unsigned long long)m->tokens_reprefilled,
           (unsigned long long)m->steps_forward, seconds, (double)m->tokens_total / seconds,
           (double)m->term_ns[COP_TERM_JOIN] / 1e6, gigabytes(first, m->kv_first_bytes, counts),
           gigabytes(load, m->kv_load_bytes, counts), gigabytes(min, m->kv_min_bytes, true),
           (unsigned long long)m->kv_pages_peak, *clock_of(record) ? "  " : "", clock_of(record));
}

static double number_of(const json_t *record, const char *key) {
    return json_number_value(json_object_get(record, key));
}

static void print_problems_header(bool below) {
    printf("%s%-12s %-26s %7s %8s %-18s %7s %8s %8s %10s %9s\n", below ? "\n" : "", "set", "method",
           "at once", "accuracy", "95 % interval", "wrong", "tokens", "longest", "latency ms",
           "wall s");
}

static void print_problems(const json_t *record, const cop_metrics *m) {
    const json_t *accuracy = json_object_get(record, "accuracy");
    char share[16] = "ungraded", interval[32] = "", wrong[16] = "-";
    if (json_is_number(json_object_get(accuracy, "share"))) {
        snprintf(share, sizeof share, "%.3f", number_of(accuracy, "share"));
        snprintf(interval, sizeof interval, "[%.3f .. %.3f]", number_of(accuracy, "low"),
                 number_of(accuracy, "high"));
        snprintf(wrong, sizeof wrong, "%.3f", number_of(record, "wrong_claims"));
    }
    printf("%-12.12s %-26.26s %7lld %8s %-18s %7s %8.1f %8.1f %10.2f %9.3f%s%s\n",
           text_of(record, "set"), text_of(record, "method"),
           (long long)json_integer_value(json_object_get(record, "at_once")), share, interval,
           wrong, number_of(record, "tokens_mean"), number_of(record, "longest_mean"),
           number_of(json_object_get(record, "latency_ms"), "mean"), (double)m->wall_ns / 1e9,
           *clock_of(record) ? "  " : "", clock_of(record));
}

void cop_table_row(void *context, const json_t *record, const cop_metrics *m) {
    cop_table *table = context;
    cop_progress_clear();
    if (table->quiet)
        return;
    bool problems = strcmp(text_of(record, "group"), "problems") == 0;
    if (table->json) {
        print_json(record, m);
    } else if (problems) {
        if (!table->problems_begun)
            print_problems_header(table->begun);
        table->problems_begun = true;
        print_problems(record, m);
    } else {
        if (!table->begun)
            print_header();
        table->begun = true;
        print_run(record, m);
    }
    fflush(stdout);
}
