/* What the driver does for a KV pool that is full: a call that can be given up, and one that begins
 * anew. A call that gives way keeps its tokens; its root holds none, and never has to. */
#include "reason/controller_internal.h"

/* One that has said nothing yet is as good as any. */
static double score(const cop__call *call) {
    return call->n_said > 0 ? call->logprob_sum / call->n_said : 0;
}

cop_status cop__controller_shed(cop_driver *driver, cop_engine *engine, uint32_t problem,
                                bool *shed) {
    cop_controller *c = (cop_controller *)driver;
    cop__place *lowest = NULL;
    (void)problem;
    *shed = false;
    for (uint32_t i = 0; i < c->options.max_at_once && c->n_running > 1; i++) {
        cop__place *place = &c->places[i];
        if (place->call != COP__CALL_NONE &&
            (!lowest || score(&c->calls[place->call]) <= score(&c->calls[lowest->call])))
            lowest = place;
    }
    if (!lowest)
        return COP_OK;
    *shed = true;
    const cop__call *call = &c->calls[lowest->call];
    COP_TRY(cop__controller_spoil(c, cop__call_close(c, lowest, COP_STOP_CANCELLED)));
    COP_TRY(cop__controller_decide(c));
    return cop__controller_go_on(c, engine, lowest, call);
}

bool cop__controller_restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask) {
    cop_controller *c = (cop_controller *)driver;
    const uint32_t number = cop_engine_branch(engine, branch).data;
    if (number == UINT32_MAX || ask)
        return number != UINT32_MAX;
    cop__place *place = &c->places[number];
    cop__call *call = &c->calls[place->call];
    c->generated -= call->n_said;
    call->n_muted = call->n_heard > call->n_muted ? call->n_heard : call->n_muted;
    call->n_said = call->n_heard = 0;
    call->bytes = 0;
    call->logprob_sum = 0;
    return cop__call_feed(c, engine, place) == COP_OK;
}
