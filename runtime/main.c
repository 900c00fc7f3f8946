/* The `coppice` command: finds the verb and hands over. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "measure/environment.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} verbs[] = {
    {"run", cop_command_run, "decode one prompt, with forks, joins and pruning"},
    {"bench", cop_command_bench, "run a sweep of problems and methods from a config"},
    {"replay", cop_command_replay, "force recorded reasoning trees under a join rule"},
    {"joins", cop_command_joins, "compare the ways to join on one trajectory, row by row"},
    {"grade", cop_command_grade, "check answers; accuracy, pass@k, maj@k, the Pareto front"},
    {"report", cop_command_report, "write one HTML page from a result folder"},
    {"import", cop_command_import, "turn a system's transcripts into trajectories"},
    {"tokenize", cop_command_tokenize, "text to token ids, or back"},
    {"score", cop_command_score, "likelihood and logits of given texts or ids"},
    {"info", cop_command_info, "this build, this machine, a model; measured ceilings"},
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(FILE *file) {
    fprintf(file, "usage: coppice VERB [options]\n"
                  "\n"
                  "Runs reasoning that forks into parallel branches, prunes some and joins the\n"
                  "rest, on one set of weights and one trajectory, and measures it.\n"
                  "\n"
                  "verbs:\n");
    for (int i = 0; i < N_VERBS; i++)
        fprintf(file, "  %-10s %s\n", verbs[i].name, verbs[i].text);
    fprintf(file,
            "\n"
            "coppice VERB --help tells a verb's options; coppice --version the version.\n"
            "\n"
            "To begin with:\n"
            "  coppice run --model M.gguf --prompt \"Why is the sky blue?\" --chat\n"
            "  coppice bench configs/sweeps/quickstart.json --out results/mine\n"
            "  coppice report results/mine\n"
            "\n"
            "Results go to stdout, errors and progress to stderr. Exit codes: 0 done, 2 wrong\n"
            "usage or input (one line says what, where and what to do), 3 internal error,\n"
            "130 interrupted.\n");
}

static int fail_with_verbs(const char *problem, const char *verb) {
    fprintf(stderr, "coppice: %s", problem);
    for (int i = 0; verb[i] && i < 60; i++) /* one line, whatever was typed */
        fputc((unsigned char)verb[i] < ' ' ? ' ' : verb[i], stderr);
    fprintf(stderr, "%s; verbs are", *verb ? "\"" : "");
    for (int i = 0; i < N_VERBS; i++)
        fprintf(stderr, "%s %s", i ? "," : "", verbs[i].name);
    fprintf(stderr, "; coppice --help says more\n");
    return 2;
}

/* GNU's OpenMP lets a thread that waits at a barrier spin for milliseconds before it sleeps. On a
 * machine with anything else to do, that keeps the thread it waits for from running: decoding was
 * measured 15 times slower beside one busy process. Its environment is read before main, so the
 * command starts itself once more with a short spin, unless the user has set a policy. */
static void shorten_spin(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
        return;
    if (setenv("GOMP_SPINCOUNT", "10000", 1) == 0)
        execv("/proc/self/exe", argv); /* where that cannot be, things merely stay as they were */
}

/* Output that did not reach its reader is a failure, whatever the verb thought. */
static int close_output(const char *verb, int code) {
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == 0) {
        fprintf(stderr, "coppice: %s: cannot write to stdout\n", verb);
        return 2;
    }
    return code;
}

int main(int argc, char **argv) {
    shorten_spin(argv);
    /* A reader that goes away (head) gives an error on write, which the verb reports and cleans up
     * after, instead of a silent death in the middle of a result folder. */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return fail_with_verbs("a verb is missing", "");
    const char *verb = argv[1];
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0) {
        print_help(stdout);
        return fflush(stdout) == 0 ? 0 : 2;
    }
    if (strcmp(verb, "--version") == 0) {
        printf("coppice %s\n", COP_VERSION);
        return fflush(stdout) == 0 ? 0 : 2;
    }
    for (int i = 0; i < N_VERBS; i++)
        if (strcmp(verb, verbs[i].name) == 0)
            return close_output(verb, verbs[i].run(argc - 1, argv + 1));
    return fail_with_verbs("there is no verb \"", verb);
}
