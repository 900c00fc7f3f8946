#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];

static const struct {
    const char *name;
    const char *text;
    int exit_code;
} table[] = {
#define COP_STATUS_ROW(name, exit_code, text) {#name, text, exit_code},
    COP_STATUS_MAP(COP_STATUS_ROW)
#undef COP_STATUS_ROW
};

static unsigned row_of(cop_status status) {
    unsigned row = (unsigned)status;
    return row < sizeof table / sizeof table[0] ? row : COP_ERR_INTERNAL;
}

const char *cop_status_name(cop_status status) {
    return table[row_of(status)].name;
}

const char *cop_status_text(cop_status status) {
    return table[row_of(status)].text;
}

int cop_status_exit_code(cop_status status) {
    return table[row_of(status)].exit_code;
}

const char *cop_status_message(void) {
    return message;
}

cop_status cop_status_fail(cop_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return status;
}

cop_status cop_status_prefix(cop_status status, const char *format, ...) {
    char head[MESSAGE_BYTES / 2], rest[MESSAGE_BYTES];
    memcpy(rest, message, sizeof rest);
    va_list args;
    va_start(args, format);
    vsnprintf(head, sizeof head, format, args);
    va_end(args);
    return cop_status_fail(status, "%s: %s", head, rest);
}
