/* A timeline: one track a branch, read back from a cell's Chrome trace, drawn by report_track.c. */
#include "measure/report_track.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/report_parts.h"
#include "measure/results_file.h"
#include "measure/results_lines.h"

static double number_at(const json_t *object, const char *path) {
    const json_t *value = cop__json_at(object, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static cop__track *track_of(cop__trace *trace, double tid) {
    for (uint32_t i = 0; i < trace->n_tracks; i++)
        if (trace->tracks[i].tid == tid)
            return &trace->tracks[i];
    return NULL;
}

static cop__flow *flow_of(cop__trace *trace, double id) {
    for (uint32_t i = trace->n_flows; i-- > 0;)
        if (trace->flows[i].id == id)
            return &trace->flows[i];
    if (trace->n_flows == COP_FLOWS_MAX)
        return NULL;
    trace->flows[trace->n_flows] = (cop__flow){.id = id, .from_tid = NAN, .to_tid = NAN};
    return &trace->flows[trace->n_flows++];
}

static void take_branch(cop__trace *trace, const json_t *event, double ts, double dur) {
    const json_t *args = json_object_get(event, "args");
    const char *name = json_string_value(json_object_get(event, "name"));
    const char *end = json_string_value(json_object_get(args, "end"));
    if (trace->n_tracks == COP_TRACKS_MAX) {
        trace->tracks_left_out++;
        return;
    }
    cop__track *track = &trace->tracks[trace->n_tracks++];
    *track = (cop__track){.tid = number_at(event, "tid"),
                          .parent = number_at(args, "parent_track"),
                          .begin = ts,
                          .end = ts + dur,
                          .tokens = number_at(args, "tokens"),
                          .label = name ? name : "?"};
    track->how = !end                            ? COP_TRACK_DONE
                 : strcmp(end, "pruned") == 0    ? COP_TRACK_PRUNED
                 : strcmp(end, "cancelled") == 0 ? COP_TRACK_CANCELLED
                 : strcmp(end, "failed") == 0    ? COP_TRACK_FAILED
                                                 : COP_TRACK_DONE;
}

static void take_event(cop__trace *trace, const json_t *event) {
    const char *phase = json_string_value(json_object_get(event, "ph"));
    const char *kind = json_string_value(json_object_get(event, "cat"));
    double ts = number_at(event, "ts"), dur = number_at(event, "dur");
    if (!phase || !(ts >= 0) || ts > 1e15)
        return;
    trace->end = fmax(trace->end, ts + (dur >= 0 ? dur : 0));
    if (strcmp(phase, "X") == 0 && kind && dur >= 0 && dur < 1e15) {
        if (strcmp(kind, "branch") == 0)
            take_branch(trace, event, ts, dur);
        else if (strcmp(kind, "wait") == 0 && trace->n_waits < COP_WAITS_MAX)
            trace->waits[trace->n_waits++] = (cop__wait){number_at(event, "tid"), ts, ts + dur};
    } else if (strcmp(phase, "s") == 0 || strcmp(phase, "f") == 0) {
        cop__flow *flow = flow_of(trace, number_at(event, "id"));
        if (!flow)
            return;
        flow->join = kind && strcmp(kind, "join") == 0;
        *(*phase == 's' ? &flow->from_tid : &flow->to_tid) = number_at(event, "tid");
        *(*phase == 's' ? &flow->from : &flow->to) = ts;
    } else if (strcmp(phase, "C") == 0) {
        double pages = number_at(event, "args.pages");
        if (pages >= 0 && trace->n_pages < COP_PAGES_MAX) {
            trace->pages_peak = fmax(trace->pages_peak, pages);
            trace->pages[trace->n_pages++] = (cop__point){ts, pages};
        }
    }
}

/* Children stand under their parent, in the order in which they began: depth first. A parent has a
 * lower track number than its children, so the walk ends whatever the file says. */
static void order_tracks(cop__trace *trace) {
    uint32_t next = 0, stack[COP_TRACKS_MAX];
    for (uint32_t i = 0; i < trace->n_tracks; i++) {
        cop__track *track = &trace->tracks[i];
        const cop__track *parent = track_of(trace, track->parent);
        track->up = parent && parent->tid < track->tid ? (int)(parent - trace->tracks) : -1;
        track->row = -1;
    }
    for (uint32_t root = 0; root < trace->n_tracks; root++) {
        if (trace->tracks[root].up >= 0)
            continue;
        uint32_t depth = 0;
        stack[depth++] = root;
        while (depth > 0) {
            uint32_t at = stack[--depth];
            trace->tracks[at].row = (int)next++;
            /* Pushed last to first, so that the first comes out first. Each is pushed once. */
            for (uint32_t i = trace->n_tracks; i-- > 0;)
                if (trace->tracks[i].up == (int)at)
                    stack[depth++] = i;
        }
    }
    /* Whatever a damaged file left without a row is not drawn. */
    for (uint32_t i = 0; i < trace->n_tracks; i++)
        if (trace->tracks[i].row < 0)
            trace->tracks[i].row = (int)next++;
}

static bool take_trace(const json_t *root, cop__trace *trace) {
    const json_t *events = json_object_get(root, "traceEvents");
    for (size_t i = 0; i < json_array_size(events); i++)
        take_event(trace, json_array_get(events, i));
    trace->lost = number_at(root, "otherData.lost_events");
    order_tracks(trace);
    return trace->n_tracks > 0 && trace->end > 0;
}

/* NULL when the cell has no trace that can be read: a report does not depend on one. */
static cop__trace *load_trace(const cop__report *report, const cop__cell *cell) {
    char name[96], path[COP_FILE_PATH_BYTES];
    if (cop__cell_check(cell->key) != COP_OK)
        return NULL;
    snprintf(name, sizeof name, "trace-%.64s.json", cell->key);
    if (cop__path_join(report->folder, name, path) != COP_OK)
        return NULL;
    cop_buffer data = {0};
    bool missing = false;
    cop__trace *trace = NULL;
    json_t *root = NULL;
    if (cop__file_read(path, &data, &missing) == COP_OK && !missing && data.bytes)
        root = json_loadb(data.data, data.bytes, 0, NULL);
    if (root)
        trace = cop_calloc(1, sizeof *trace);
    if (trace) {
        trace->root = root;
        trace->cell = cell;
        if (!take_trace(root, trace)) {
            cop_free(trace);
            trace = NULL;
        }
    }
    if (!trace)
        json_decref(root);
    cop_buffer_release(&data);
    return trace;
}

static void put_problem(cop__html *html, const cop__report *report, const cop__section *section,
                        uint32_t problem) {
    cop__trace *traces[COP_METHODS_MAX] = {0};
    double end = 0;
    uint32_t n = 0;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(section, problem, m);
        traces[m] = cell ? load_trace(report, cell) : NULL;
        if (traces[m]) {
            end = fmax(end, traces[m]->end);
            n++;
        }
    }
    if (n) {
        cop__html_put(html, "<h3>Timeline: problem ");
        cop__html_text_cut(html, section->problems[problem], 60);
        cop__html_put(html, n > 1 ? ", one time scale for all methods</h3>\n" : "</h3>\n");
    }
    for (uint32_t m = 0; m < section->n_methods; m++) {
        if (!traces[m])
            continue;
        cop__track_draw(html, traces[m], end);
        json_decref(traces[m]->root);
        cop_free(traces[m]);
    }
}

/* The problem with the most branches of those not chosen yet. */
static uint32_t richest(const cop__section *section, const bool *chosen) {
    uint32_t best = UINT32_MAX;
    double most = -1;
    for (uint32_t p = 0; p < section->n_problems; p++) {
        double branches = 0;
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            if (cell && cell->value[COP_FIG_BRANCHES] > branches)
                branches = cell->value[COP_FIG_BRANCHES];
        }
        if (!chosen[p] && branches > most) {
            most = branches;
            best = p;
        }
    }
    return best;
}

void cop__report_timelines(cop__html *html, const cop__report *report, const cop__section *section,
                           uint32_t max_problems) {
    bool chosen[COP_PROBLEMS_MAX] = {false};
    size_t before = html->out.bytes;
    cop__html_put(html, "<ul class=\"legend\"><li><svg width=\"26\" height=\"12\" "
                        "style=\"width:26px\"><title>decoding</title><rect "
                        "class=\"bar\" x=\"1\" y=\"1\" width=\"24\" height=\"10\"/></svg> decoding"
                        "</li><li><svg width=\"26\" height=\"12\" style=\"width:26px"
                        "\"><title>waiting</title><rect class=\"wait\" x=\"1\" "
                        "y=\"1\" width=\"24\" height=\"10\"/></svg> waiting for children</li>"
                        "<li><svg width=\"26\" height=\"12\" style=\"width:26px\">"
                        "<title>pruned</title><rect class=\"lost\" x=\"1\" y=\"1\" width=\"18\" "
                        "height=\"10\"/><path class=\"cross\" d=\"M15 2l8 8m0-8l-8 8\"/></svg> "
                        "pruned (cross), cancelled or failed</li><li><svg width=\"26\" "
                        "height=\"12\" style=\"width:26px\"><title>fork</title>"
                        "<path class=\"forkline\" d=\"M1 6H24\" marker-end=\"url(#fork)\"/></svg> "
                        "fork</li><li><svg width=\"26\" height=\"12\" style=\"width:26px"
                        "\"><title>join</title><path class=\"joinline\" "
                        "d=\"M1 6H24\" marker-end=\"url(#join)\"/></svg> join (dashed while the "
                        "finished child waits for its siblings)</li></ul>\n");
    size_t legend_end = html->out.bytes;
    for (uint32_t i = 0; i < max_problems && i < section->n_problems; i++) {
        uint32_t problem = richest(section, chosen);
        chosen[problem] = true;
        put_problem(html, report, section, problem);
    }
    /* No trace was found: take the legend back. */
    if (html->status == COP_OK && html->out.bytes == legend_end) {
        html->out.bytes = before;
        html->out.data[before] = '\0';
        cop__html_put(html, "<p class=\"small soft\">No trace lies beside these results, so there "
                            "is no timeline.</p>\n");
    } else {
        cop__html_put(html, "<p class=\"small soft\">The whole traces are the files "
                            "<code>trace-&lt;cell&gt;.json</code> beside this report; Perfetto and "
                            "chrome://tracing open them.</p>\n");
    }
}
