/* Status codes and the message that explains a failure.
 *
 * Every function that can fail returns cop_status. The one that detects the failure sets the
 * thread-local message with COP_FAIL, once: what was wrong, where (file, key, offset), what to do.
 * Callers relay the status with COP_TRY while they own nothing, otherwise with one `goto done`.
 * The library never prints and never exits: the command does.
 */
#pragma once

/* X(name, exit code of the command, short text) */
#define COP_STATUS_MAP(X)                                                                          \
    X(OK, 0, "ok")                                                                                 \
    X(ERR_USAGE, 2, "wrong usage")                                                                 \
    X(ERR_CONFIG, 2, "bad configuration")                                                          \
    X(ERR_IO, 2, "cannot read or write")                                                           \
    X(ERR_FORMAT, 2, "malformed file")                                                             \
    X(ERR_UNSUPPORTED, 2, "not supported")                                                         \
    X(ERR_CONTEXT, 2, "longer than the model's context")                                           \
    X(ERR_NO_PAGES, 2, "KV pool full")                                                             \
    X(ERR_NO_ROOM, 2, "a declared capacity is exhausted")                                          \
    X(ERR_NO_MEMORY, 2, "out of memory")                                                           \
    X(ERR_NONFINITE, 2, "a value is not finite")                                                   \
    X(ERR_DEVICE, 2, "the device failed")                                                          \
    X(ERR_MISMATCH, 2, "two things that must agree do not")                                        \
    X(ERR_INTERRUPTED, 130, "interrupted")                                                         \
    X(ERR_INTERNAL, 3, "internal error")

typedef enum cop_status {
#define COP_STATUS_ENUM(name, exit_code, text) COP_##name,
    COP_STATUS_MAP(COP_STATUS_ENUM)
#undef COP_STATUS_ENUM
} cop_status;

const char *cop_status_name(cop_status status); /* "ERR_CONFIG" */
const char *cop_status_text(cop_status status); /* "bad configuration" */
int cop_status_exit_code(cop_status status);

/* The message of the last failure on this thread; "" when there was none. */
const char *cop_status_message(void);

/* Sets the message and returns `status`. Use through COP_FAIL. */
cop_status cop_status_fail(cop_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* Puts "context: " in front of the current message (a file name, a line number). */
cop_status cop_status_prefix(cop_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* The value is spelled out so that the compiler sees that it is not COP_OK. */
#define COP_FAIL(status, ...) (cop_status_fail((status), __VA_ARGS__), (status))

#define COP_TRY(expression)                                                                        \
    do {                                                                                           \
        cop_status cop_try_status = (expression);                                                  \
        if (cop_try_status != COP_OK)                                                              \
            return cop_try_status;                                                                 \
    } while (0)
