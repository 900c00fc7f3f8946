/* What the controller driver's own files share. Nothing else includes this.
 *
 * driver_controller.c    its life, what is read from it, rounds
 * controller_call.c      one call: its prompt, its tokens, its end
 * controller_pressure.c  what the driver does for a KV pool that is full
 */
#pragma once

#include "base/memory.h"
#include "reason/driver_controller.h"

enum {
    COP__CALL_TOKEN_BYTES = 16, /* room for text, a token; a call that needs more ends */
    COP__CALL_SPARE_BYTES = 1024,
    COP__PROMPT_TOKEN_BYTES = 8, /* of the longest prompt that can be encoded, a position */
};
#define COP__CALL_NONE UINT32_MAX

typedef struct cop__call {
    cop_decision run;
    uint32_t number, round, index; /* of all calls; of its round, from 0 */
    char path[12], name[24];       /* "1"; "2.1" */
    uint32_t branch;               /* the rule's */
    uint32_t n_prompt, n_said, limit;
    uint32_t n_told;           /* tokens that the rule knows, */
    uint32_t n_heard, n_muted; /* and a listener: one that begins anew says them once more */
    double logprob_sum;
    cop_stop stop;
    const int32_t *ids; /* in its place while it runs, then in the log */
    const char *text;
    size_t bytes;
} cop__call;

typedef struct cop__place { /* where a call runs */
    cop_branch branch;
    uint32_t call;   /* COP__CALL_NONE: nobody runs here */
    int32_t *prompt; /* [max_positions] */
    int32_t *ids;    /* [max_tokens] */
    char *text;      /* [text_bytes] */
    cop_logit_bias bias[2];
} cop__place;

struct cop_controller {
    cop_driver driver;
    cop_controller_options options;
    cop_arena *arena;
    cop_encoder *encoder;
    cop_token_ids scratch;
    char *prompt_text; /* [prompt_bytes] of the one that is encoded */
    size_t prompt_bytes, text_bytes;
    cop_branch root;
    cop_branch *branches;                         /* [max_at_once] scratch of a spawn */
    cop__place *places;                           /* [max_at_once] */
    cop__call *calls;                             /* [max_calls] */
    uint32_t n_calls, max_calls, next, n_running; /* next: the first that has not begun */
    uint32_t n_rounds, open_round;
    /* What the calls that ended have said, one after another. */
    int32_t *log_ids;
    char *log_text;
    size_t n_log_ids, max_log_ids, log_bytes, max_log_bytes;
    uint64_t generated;
    bool over; /* no further call */
    cop_stop stop;
    cop_status error;
    char message[512];
};

/* The rule cannot go on, or a prompt cannot be run: that is the problem's end. What is no problem's
 * own fault is returned. */
cop_status cop__controller_spoil(cop_controller *c, cop_status status);
/* Asks the rule; its RUNs stand in line afterwards. */
cop_status cop__controller_decide(cop_controller *c);
/* The branch of a call that is over ends, and what was waiting for it begins. */
cop_status cop__controller_go_on(cop_controller *c, cop_engine *engine, cop__place *place,
                                 const cop__call *ended);
void cop__controller_hear(const cop_controller *c, cop_live_event_kind kind, const cop__call *call);

/* controller_call.c */
/* The next call's prompt, in ids; the rule hears that it was opened. */
cop_status cop__call_prepare(cop_controller *c, cop__place *place);
cop_status cop__call_begin(cop_controller *c, cop_engine *engine, cop__place *place);
/* What it was fed right after its spawn. */
cop_status cop__call_feed(cop_controller *c, cop_engine *engine, cop__place *place);
/* It has ended: what it said is kept, and its rule hears of it. */
cop_status cop__call_close(cop_controller *c, cop__place *place, cop_stop stop);
void cop__call_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                       cop_sample_request *request);
bool cop__call_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                             cop_sample_request *request);
cop_status cop__call_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                           const cop_sample *sampled);

/* controller_pressure.c */
cop_status cop__controller_shed(cop_driver *driver, cop_engine *engine, uint32_t problem,
                                bool *shed);
bool cop__controller_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask);
