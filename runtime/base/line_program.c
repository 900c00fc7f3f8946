#include "base/line_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

extern char **environ;

enum { COMMAND_BYTES = 128, GRACE_MS = 500, CHUNK_BYTES = 65536 };

struct cop_line_program {
    pid_t pid; /* 0: not running */
    int in, out;
    uint32_t timeout_ms;
    char command[COMMAND_BYTES]; /* for messages */
    cop_buffer read;             /* what came out and was not taken */
};

static void close_end(int *end) {
    if (*end >= 0)
        close(*end);
    *end = -1;
}

static void copy_command(const char *command, char out[COMMAND_BYTES]) {
    size_t used = 0;
    for (; command[used] && used + 1 < COMMAND_BYTES; used++)
        out[used] = command[used] < 0x20 || command[used] > 0x7e ? '?' : command[used];
    out[used] = '\0';
}

/* A socket where the program reads: writing to one that has gone is an error there, and no signal
 * that the whole process would have to ignore. */
static cop_status open_ends(int in[2], int out[2]) {
    in[0] = in[1] = out[0] = out[1] = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return COP_FAIL(COP_ERR_IO, "no pipe to a program can be made: %s", strerror(errno));
    return COP_OK;
}

static int spawn_shell(cop_line_program *program, const char *command, int in, int out) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char *const arguments[] = {"sh", "-c", (char *)command, NULL};
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int failed =
        posix_spawn_file_actions_adddup2(&actions, in, 0) ||
        posix_spawn_file_actions_adddup2(&actions, out, 1) ||
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF) ||
        posix_spawnattr_setsigdefault(&attributes, &defaults);
    failed = failed
                 ? ENOMEM
                 : posix_spawn(&program->pid, "/bin/sh", &actions, &attributes, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

cop_status cop_line_program_start(const char *command, uint32_t timeout_ms,
                                  cop_line_program **out) {
    *out = NULL;
    if (!command[0] || timeout_ms == 0)
        return COP_FAIL(COP_ERR_USAGE, "a program needs a command and a timeout above 0");
    cop_line_program *program = cop_calloc(1, sizeof *program);
    if (!program)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to start a program");
    program->timeout_ms = timeout_ms;
    program->in = program->out = -1;
    copy_command(command, program->command);
    int in[2], output[2];
    cop_status status = open_ends(in, output);
    if (status == COP_OK) {
        int failed = spawn_shell(program, command, in[1], output[1]);
        if (failed) {
            program->pid = 0;
            status = COP_FAIL(COP_ERR_IO, "the program \"%s\" cannot be started: %s",
                              program->command, strerror(failed));
        }
    }
    if (status == COP_OK) /* so that usual answers are read without taking memory */
        status = cop_grow(&program->read.data, &program->read.capacity, 4 * CHUNK_BYTES, 1);
    close_end(&in[1]);
    close_end(&output[1]);
    program->in = in[0];
    program->out = output[0];
    if (status != COP_OK) {
        cop_line_program_stop(program);
        return status;
    }
    *out = program;
    return COP_OK;
}

/* Whether the program has ended by itself, at the latest after `wait_ms`; it is not reaped yet, so
 * its number, and its group's, are nobody else's. */
static bool has_ended(const cop_line_program *program, uint32_t wait_ms) {
    for (uint32_t waited = 0;; waited += 2) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)program->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == program->pid)
            return true;
        if (waited >= wait_ms)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

/* The whole group goes: what the shell started too. Returns how the shell ended. */
static int end_program(cop_line_program *program, uint32_t wait_ms, bool *by_itself) {
    int how = 0;
    close_end(&program->in);
    *by_itself = program->pid && has_ended(program, wait_ms);
    if (program->pid) {
        kill(-program->pid, SIGKILL);
        while (waitpid(program->pid, &how, 0) < 0 && errno == EINTR)
            continue;
    }
    program->pid = 0;
    close_end(&program->out);
    return how;
}

void cop_line_program_stop(cop_line_program *program) {
    if (!program)
        return;
    bool by_itself;
    end_program(program, GRACE_MS, &by_itself);
    cop_buffer_release(&program->read);
    cop_free(program);
}

bool cop_line_program_is_stopped(const cop_line_program *program) {
    return program->in < 0;
}

static cop_status fail_ended(cop_line_program *program) {
    bool by_itself;
    int how = end_program(program, GRACE_MS, &by_itself);
    char text[64];
    if (!by_itself)
        snprintf(text, sizeof text, "closed its input or output");
    else if (WIFSIGNALED(how))
        snprintf(text, sizeof text, "ended by signal %d", WTERMSIG(how));
    else
        snprintf(text, sizeof text, "ended with exit code %d", WEXITSTATUS(how));
    return COP_FAIL(COP_ERR_IO,
                    "the program \"%s\" %s before it answered; run it by hand with a line of input",
                    program->command, text);
}

static cop_status fail_late(cop_line_program *program) {
    bool by_itself;
    end_program(program, 0, &by_itself);
    return COP_FAIL(COP_ERR_IO,
                    "the program \"%s\" gave no line within %u ms: it must answer each line with "
                    "one and flush its output; or allow it more time",
                    program->command, program->timeout_ms);
}

static cop_status fail_format(cop_line_program *program, const char *what) {
    bool by_itself;
    end_program(program, 0, &by_itself);
    return COP_FAIL(COP_ERR_FORMAT, "the program \"%s\" %s", program->command, what);
}

/* A line that was read whole, taken off what came out. */
static cop_status take_line(cop_line_program *program, cop_buffer *reply, bool *taken) {
    cop_buffer *read = &program->read;
    const char *newline = read->bytes ? memchr(read->data, '\n', read->bytes) : NULL;
    *taken = newline != NULL;
    if (!newline)
        return COP_OK;
    size_t bytes = (size_t)(newline - read->data);
    reply->bytes = 0;
    COP_TRY(cop_buffer_append(reply, read->data, bytes));
    read->bytes -= bytes + 1;
    memmove(read->data, newline + 1, read->bytes);
    return COP_OK;
}

static cop_status read_some(cop_line_program *program) {
    char chunk[CHUNK_BYTES];
    ssize_t got = read(program->out, chunk, sizeof chunk);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? COP_OK : fail_ended(program);
    if (got == 0)
        return fail_ended(program);
    if (program->read.bytes + (size_t)got > COP_LINE_PROGRAM_BYTES_MAX)
        return fail_format(program, "wrote more than a mebibyte without the end of a line");
    return cop_buffer_append(&program->read, chunk, (size_t)got);
}

/* What is left of a line is sent while output is read: a program that writes before it has read all
 * would otherwise wait for us as we wait for it. */
static cop_status send_some(cop_line_program *program, const char *line, size_t bytes,
                            size_t *sent) {
    const char *from = *sent < bytes ? line + *sent : "\n";
    size_t left = *sent < bytes ? bytes - *sent : 1;
    ssize_t put = send(program->in, from, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0)
        return errno == EINTR || errno == EAGAIN ? COP_OK : fail_ended(program);
    *sent += (size_t)put;
    return COP_OK;
}

cop_status cop_line_program_ask(cop_line_program *program, const char *line, size_t bytes,
                                cop_buffer *reply) {
    if (cop_line_program_is_stopped(program))
        return COP_FAIL(COP_ERR_IO, "the program \"%s\" was stopped after it had failed",
                        program->command);
    if (memchr(line, '\n', bytes))
        return COP_FAIL(COP_ERR_INTERNAL, "a question to a program holds a newline");
    if (program->read.bytes > 0)
        return fail_format(program, "wrote more than one line to a question: nobody can say which "
                                    "answer is which");
    uint64_t until = cop_clock_ns() + (uint64_t)program->timeout_ms * 1000000;
    size_t sent = 0;
    for (bool taken = false;;) {
        if (sent == bytes + 1)
            COP_TRY(take_line(program, reply, &taken));
        if (taken)
            return COP_OK;
        uint64_t now = cop_clock_ns();
        if (now >= until)
            return fail_late(program);
        struct pollfd ends[] = {{.fd = program->out, .events = POLLIN},
                                {.fd = sent <= bytes ? program->in : -1, .events = POLLOUT}};
        if (poll(ends, 2, (int)((until - now) / 1000000 + 1)) < 0 && errno != EINTR)
            return COP_FAIL(COP_ERR_IO, "waiting for a program: %s", strerror(errno));
        if (ends[1].revents)
            COP_TRY(send_some(program, line, bytes, &sent));
        if (ends[0].revents)
            COP_TRY(read_some(program));
    }
}
