#include "backend/choice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *cop_backend_choice_name(const cop_backend_choice *choice) {
    return choice->name ? choice->name : "cpu";
}

static cop_status refuse_on_cpu(const cop_backend_choice *choice) {
    if (choice->device)
        return COP_FAIL(COP_ERR_USAGE, "device %u: backend cpu is one device, number 0",
                        choice->device);
    if (choice->eager)
        return COP_FAIL(COP_ERR_USAGE, "eager: backend cpu captures no graph, so there is nothing "
                                       "to leave out; name another backend, or drop it");
    if (choice->time_every)
        return COP_FAIL(COP_ERR_USAGE,
                        "time_every %u: backend cpu times every step; name another "
                        "backend, or drop it",
                        choice->time_every);
    return COP_OK;
}

cop_status cop_backend_choice_find(const cop_backend_choice *choice, const cop_backend_ops **out) {
    COP_TRY(cop_backend_find(cop_backend_choice_name(choice), out));
    if (*out == &cop_backend_cpu)
        COP_TRY(refuse_on_cpu(choice));
    if (choice->profile_last && !(*out)->profile)
        return COP_FAIL(COP_ERR_USAGE,
                        "profile-steps %u-%u: backend %s has no profiler to start; name another "
                        "backend, or drop it",
                        choice->profile_first, choice->profile_last, (*out)->name);
    return COP_OK;
}

/* Moves *at behind the number. */
static bool take_number(const char **at, uint32_t *out) {
    char *end;
    if (**at < '0' || **at > '9') /* strtoull takes blanks and signs */
        return false;
    errno = 0;
    const unsigned long long number = strtoull(*at, &end, 10);
    if (errno || number == 0 || number > UINT32_MAX)
        return false;
    *out = (uint32_t)number;
    *at = end;
    return true;
}

cop_status cop_profile_steps_parse(const char *text, uint32_t *first, uint32_t *last) {
    const char *at = text;
    if (take_number(&at, first) && *at++ == '-' && take_number(&at, last) && !*at &&
        *first <= *last)
        return COP_OK;
    *first = *last = 0;
    return COP_FAIL(COP_ERR_USAGE,
                    "profile-steps \"%.40s\": give the first step and the last as A-B, counted "
                    "from 1, A no larger than B",
                    text);
}

cop_status cop_profile_before(cop_profile *profile, const cop_backend_ops *ops,
                              cop_backend *backend, uint64_t step) {
    if (!profile->last || step != profile->first || profile->on || !ops->profile)
        return COP_OK;
    COP_TRY(ops->profile(backend, true));
    profile->on = true;
    return COP_OK;
}

cop_status cop_profile_after(cop_profile *profile, const cop_backend_ops *ops, cop_backend *backend,
                             uint64_t step) {
    if (!profile->on || step < profile->last)
        return COP_OK;
    profile->on = false;
    return ops->profile(backend, false);
}
