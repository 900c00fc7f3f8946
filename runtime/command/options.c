#include "command/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const cop_command_line *line) {
    printf("usage: coppice %s %s\n\n%s\n", line->verb, line->usage, line->about);
    if (line->n_options)
        printf("\n");
    for (size_t i = 0; i < line->n_options; i++) {
        const cop_option *option = &line->options[i];
        const char *value = option->choices ? option->choices : option->value;
        char left[96];
        snprintf(left, sizeof left, "--%s%s%s", option->name, value ? " " : "", value ? value : "");
        printf("  %-28s%s%s%s\n", left,
               strlen(left) >= 28 ? "\n                              " : "", option->help,
               option->required ? " (required)" : "");
    }
}

static cop_status parse_whole(const cop_option *option, const char *text) {
    uint64_t limit = option->kind == COP_OPTION_U32 ? UINT32_MAX : UINT64_MAX;
    uint64_t max = option->max && option->max < limit ? option->max : limit;
    char *end = NULL;
    errno = 0;
    /* strtoull takes a sign and leading blanks: neither is a whole number here. */
    unsigned long long value = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || *end)
        return COP_FAIL(COP_ERR_USAGE, "--%s takes a whole number, not \"%s\"", option->name, text);
    if (errno == ERANGE || value < option->min || value > max)
        return COP_FAIL(COP_ERR_USAGE, "--%s %s is out of range: it goes from %llu to %llu",
                        option->name, text, (unsigned long long)option->min,
                        (unsigned long long)max);
    if (option->kind == COP_OPTION_U32)
        *(uint32_t *)option->out = (uint32_t)value;
    else
        *(uint64_t *)option->out = value;
    return COP_OK;
}

static cop_status parse_real(const cop_option *option, const char *text) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return COP_FAIL(COP_ERR_USAGE, "--%s takes a number, not \"%s\"", option->name, text);
    bool bounded = option->low != 0 || option->high != 0;
    if (bounded && (value < option->low || value > option->high))
        return COP_FAIL(COP_ERR_USAGE, "--%s %s is out of range: it goes from %g to %g",
                        option->name, text, option->low, option->high);
    *(double *)option->out = value;
    return COP_OK;
}

static bool is_choice(const char *choices, const char *text) {
    size_t bytes = strlen(text);
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        size_t length = strcspn(at, "|");
        if (length == bytes && memcmp(at, text, bytes) == 0)
            return true;
    }
    return false;
}

static cop_status set_value(const cop_option *option, const char *text) {
    switch (option->kind) {
    case COP_OPTION_U32:
    case COP_OPTION_U64:
        return parse_whole(option, text);
    case COP_OPTION_F64:
        return parse_real(option, text);
    case COP_OPTION_TEXT:
        if (option->choices && !is_choice(option->choices, text))
            return COP_FAIL(COP_ERR_USAGE, "--%s takes %s, not \"%s\"", option->name,
                            option->choices, text);
        *(const char **)option->out = text;
        return COP_OK;
    case COP_OPTION_FLAG:
        break;
    }
    return COP_FAIL(COP_ERR_INTERNAL, "--%s has no kind", option->name);
}

/* One option at argv[*at]; moves *at to the last argument that it used. */
static cop_status parse_one(const cop_command_line *line, int argc, char **argv, int *at,
                            uint64_t *seen) {
    const char *name = argv[*at] + 2;
    size_t name_bytes = strcspn(name, "=");
    const char *value = name[name_bytes] == '=' ? name + name_bytes + 1 : NULL;
    size_t i = 0;
    while (i < line->n_options && (strlen(line->options[i].name) != name_bytes ||
                                   memcmp(line->options[i].name, name, name_bytes) != 0))
        i++;
    if (i == line->n_options)
        return COP_FAIL(COP_ERR_USAGE, "unknown option --%.*s; see coppice %s --help",
                        (int)name_bytes, name, line->verb);
    const cop_option *option = &line->options[i];
    if (*seen >> i & 1)
        return COP_FAIL(COP_ERR_USAGE, "--%s is given twice", option->name);
    *seen |= UINT64_C(1) << i;
    if (option->given)
        *option->given = true;
    if (option->kind == COP_OPTION_FLAG) {
        if (value)
            return COP_FAIL(COP_ERR_USAGE, "--%s takes no value", option->name);
        *(bool *)option->out = true;
        return COP_OK;
    }
    if (!value) {
        if (*at + 1 >= argc)
            return COP_FAIL(COP_ERR_USAGE, "--%s needs a value (%s)", option->name, option->value);
        value = argv[++*at];
    }
    return set_value(option, value);
}

static cop_status check_complete(const cop_command_line *line, uint64_t seen, size_t operands) {
    for (size_t i = 0; i < line->n_options; i++) {
        if (line->options[i].required && !(seen >> i & 1))
            return COP_FAIL(COP_ERR_USAGE, "--%s %s is missing; see coppice %s --help",
                            line->options[i].name, line->options[i].value, line->verb);
    }
    if (operands < line->operands_min)
        return COP_FAIL(COP_ERR_USAGE, "%s is missing; see coppice %s --help", line->operand,
                        line->verb);
    return COP_OK;
}

cop_status cop_options_parse(const cop_command_line *line, int argc, char **argv,
                             cop_operands *out) {
    *out = (cop_operands){.items = argv + 1};
    if (line->n_options > 64)
        return COP_FAIL(COP_ERR_INTERNAL, "%s has more than 64 options", line->verb);
    uint64_t seen = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help(line);
            out->help = true;
            return COP_OK;
        }
    }
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && strncmp(argv[i], "--", 2) == 0) {
            COP_TRY(parse_one(line, argc, argv, &i, &seen));
        } else if (!options_end && argv[i][0] == '-' && argv[i][1]) {
            return COP_FAIL(COP_ERR_USAGE, "unknown option %s; see coppice %s --help", argv[i],
                            line->verb);
        } else {
            if (!line->operand || out->count >= line->operands_max)
                return COP_FAIL(COP_ERR_USAGE,
                                "\"%s\" is one argument too many; see coppice %s --help", argv[i],
                                line->verb);
            out->items[out->count++] = argv[i];
        }
    }
    return check_complete(line, seen, out->count);
}

int cop_command_fail(const char *verb, cop_status status) {
    const char *message = cop_status_message();
    fprintf(stderr, "coppice: %s: ", verb);
    for (const char *at = *message ? message : cop_status_text(status); *at; at++)
        fputc((unsigned char)*at < ' ' ? ' ' : *at, stderr);
    fputc('\n', stderr);
    return cop_status_exit_code(status);
}

cop_status cop_command_output(const cop_buffer *output) {
    size_t written = output->bytes ? fwrite(output->data, 1, output->bytes, stdout) : 0;
    if (written != output->bytes || fflush(stdout) != 0)
        return COP_FAIL(COP_ERR_IO, "cannot write to stdout: %s", strerror(errno));
    return COP_OK;
}
