#include "measure/report_data.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure/results.h"

static const cop__figure_info figures[] = {
#define COP_FIGURE_INFO(name, path, unit, text) {path, text, COP_UNIT_##unit},
    COP_FIGURE_MAP(COP_FIGURE_INFO)
#undef COP_FIGURE_INFO
};

const cop__figure_info *cop__figure_info_of(cop__figure figure) {
    return &figures[figure];
}

static const cop__figure_info set_figures[] = {
#define COP_SET_FIGURE_INFO(name, path, unit, text) {path, text, COP_UNIT_##unit},
    COP_SET_FIGURE_MAP(COP_SET_FIGURE_INFO)
#undef COP_SET_FIGURE_INFO
};

const cop__figure_info *cop__set_figure_info(cop__set_figure figure) {
    return &set_figures[figure];
}

const json_t *cop__json_at(const json_t *object, const char *path) {
    while (object && *path) {
        char key[64];
        size_t bytes = strcspn(path, ".");
        if (bytes >= sizeof key)
            return NULL;
        memcpy(key, path, bytes);
        key[bytes] = '\0';
        object = json_object_get(object, key);
        path += bytes + (path[bytes] == '.');
    }
    return object;
}

const char *cop__json_text_at(const cop__report *report, const json_t *object, const char *path,
                              const char *otherwise) {
    const json_t *value = cop__json_at(object, path);
    char number[32];
    if (json_is_string(value))
        return json_string_value(value);
    if (json_is_integer(value))
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(number, sizeof number, "%g", json_real_value(value));
    else
        return otherwise;
    const char *copy = cop_arena_strndup(report->arena, number, strlen(number));
    return copy ? copy : otherwise;
}

/* "model", as a name or as an object that has one; a switch that is on is its own name. */
static const char *name_at(const cop__report *report, const json_t *line, const char *key) {
    if (json_is_true(json_object_get(line, key)))
        return key;
    const char *text = cop__json_text_at(report, line, key, "");
    return *text ? text : cop__json_text_at(report, json_object_get(line, key), "name", "");
}

/* What must agree for two figures to stand in one table, in words; from the lines alone, since the
 * manifest is the same for all of them. */
static const char *setting_of(const cop__report *report, const json_t *line) {
    static const struct {
        const char *key, *after;
        int most; /* characters */
    } keys[] = {{"set", "", 64},
                {"problems", " problems", 16},
                {"set_sha256", " (SHA-256)", 8},
                {"model", "", 64},
                {"arithmetic", "", 64},
                {"compute", "", 64},
                {"backend", "", 64},
                {"device", "", 96},
                {"products", " products", 16},
                {"eager", "", 16},
                {"isa", "", 64},
                {"threads", " threads", 16},
                {"clock", "", 64},
                {"kv_policy", " when the KV pool is full", 16},
                {"prefix.state", " prefix store", 16},
                {"prefix.block", " tokens a block of it", 16}};
    char text[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *part = name_at(report, line, keys[i].key);
        if (!*part || used + 1 >= sizeof text)
            continue;
        int more = snprintf(text + used, sizeof text - used, "%s%.*s%s", used ? " · " : "",
                            keys[i].most, part, keys[i].after);
        used =
            more < 0 || used + (size_t)more >= sizeof text ? sizeof text - 1 : used + (size_t)more;
    }
    const char *copy = cop_arena_strndup(report->arena, text, strlen(text));
    return copy ? copy : "";
}

static cop__section *section_of(cop__report *report, const char *group, const char *setting) {
    for (size_t i = 0; i < report->n_sections; i++)
        if (strcmp(report->sections[i]->group, group) == 0 &&
            strcmp(report->sections[i]->setting, setting) == 0)
            return report->sections[i];
    cop__section *section = cop_arena_calloc(report->arena, 1, sizeof *section);
    cop__section **grown = cop_arena_calloc(report->arena, report->n_sections + 1, sizeof *grown);
    if (!section || !grown)
        return NULL;
    if (report->n_sections)
        memcpy(grown, report->sections, report->n_sections * sizeof *grown);
    section->group = group;
    section->setting = setting;
    section->control = -1;
    section->cells =
        cop_arena_calloc(report->arena, COP_METHODS_MAX * COP_PROBLEMS_MAX, sizeof *section->cells);
    if (!section->cells)
        return NULL;
    grown[report->n_sections++] = section;
    report->sections = grown;
    return section;
}

static uint32_t index_of(const char **names, uint32_t *count, uint32_t max, const char *name) {
    for (uint32_t i = 0; i < *count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    if (*count == max)
        return UINT32_MAX;
    names[*count] = name;
    return (*count)++;
}

double cop__json_measure(const json_t *value) {
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    return fabs(number) <= COP_MEASURE_MAX ? number : NAN;
}

/* A running mean; a figure that one of the repeats lacks is missing. */
static void add_value(double *mean, double number, uint32_t repeats) {
    *mean += (number - *mean) / repeats;
}

static void add_values(cop__cell *cell, const json_t *line) {
    const json_t *metrics = json_object_get(line, "metrics");
    cell->repeats++;
    for (int f = 0; f < COP_FIG_COUNT; f++) {
        const json_t *value = cop__json_at(metrics, figures[f].name);
        add_value(&cell->value[f], json_is_number(value) ? json_number_value(value) : NAN,
                  cell->repeats);
    }
    for (int f = 0; f < COP_SET_FIGURES; f++)
        add_value(&cell->set_value[f], cop__json_measure(cop__json_at(line, set_figures[f].name)),
                  cell->repeats);
    cell->invalid |= json_is_false(json_object_get(metrics, "valid"));
    cell->extrapolated |= json_is_true(json_object_get(line, "extrapolated"));
    cell->random |= json_is_true(cop__json_at(line, "model.random")) ||
                    json_is_true(json_object_get(line, "random")) ||
                    json_is_true(json_object_get(line, "random_weights"));
}

static uint32_t count_at(const json_t *line, const char *key) {
    json_int_t count = json_integer_value(json_object_get(line, key));
    return count > 0 && count <= UINT32_MAX ? (uint32_t)count : 0;
}

static cop_status add_line(cop__report *report, const json_t *line) {
    const char *group = cop__json_text_at(report, line, "group", "results");
    const char *method = cop__json_text_at(report, line, "method", "(no method)");
    const char *problem = cop__json_text_at(report, line, "problem", "(no problem)");
    cop__section *section = section_of(report, group, setting_of(report, line));
    if (!section)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the report of %s", report->folder);
    uint32_t m = index_of(section->methods, &section->n_methods, COP_METHODS_MAX, method);
    uint32_t p = index_of(section->problems, &section->n_problems, COP_PROBLEMS_MAX, problem);
    if (m == UINT32_MAX || p == UINT32_MAX) {
        section->left_out++;
        return COP_OK;
    }
    cop__cell **slot = &section->cells[p * COP_METHODS_MAX + m];
    if (!*slot) {
        *slot = cop_arena_calloc(report->arena, 1, sizeof **slot);
        if (!*slot)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the report of %s", report->folder);
        **slot = (cop__cell){.key = cop__json_text_at(report, line, "cell", ""),
                             .problem = problem,
                             .method = method,
                             .tokens_from = cop__json_text_at(report, line, "tokens_from", ""),
                             .at_once = count_at(line, "at_once"),
                             .line = line};
    }
    cop__repeat *repeat = cop_arena_calloc(report->arena, 1, sizeof *repeat);
    if (!repeat)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the report of %s", report->folder);
    repeat->line = line;
    *((*slot)->last ? &(*slot)->last->next : &(*slot)->first) = repeat;
    (*slot)->last = repeat;
    add_values(*slot, line);
    return COP_OK;
}

/* Does a method that solves problems never fork, by its dialect? */
static bool is_sequential(const cop__section *section, uint32_t method) {
    for (uint32_t p = 0; p < section->n_problems; p++) {
        const cop__cell *cell = cop__section_cell(section, p, method);
        const char *join = cell ? json_string_value(json_object_get(cell->line, "join")) : NULL;
        if (join)
            return strcmp(join, "none") == 0;
    }
    return false;
}

/* The control is what the others are set against: the same work in one sequence, or, where
 * problems are solved live, the method that does not fork. */
static void put_control_first(cop__section *section) {
    static const char *const controls[] = {"flattened", "serial", "sequential"};
    for (uint32_t m = 0; cop__section_is_set(section) && m < section->n_methods; m++)
        if (section->control < 0 && is_sequential(section, m))
            section->control = (int)m;
    for (size_t c = 0; c < sizeof controls / sizeof controls[0] && section->control < 0; c++)
        for (uint32_t m = 0; m < section->n_methods; m++)
            if (strcmp(section->methods[m], controls[c]) == 0)
                section->control = (int)m;
    if (section->control <= 0)
        return;
    uint32_t from = (uint32_t)section->control;
    const char *name = section->methods[from];
    memmove(section->methods + 1, section->methods, from * sizeof *section->methods);
    section->methods[0] = name;
    for (uint32_t p = 0; p < section->n_problems; p++) {
        cop__cell **row = &section->cells[p * COP_METHODS_MAX], *cell = row[from];
        memmove(row + 1, row, from * sizeof *row);
        row[0] = cell;
    }
    section->control = 0;
}

/* Lines of one section agree on it, as on the rest of their setting; what they do not say, the
 * manifest does. */
static void find_clock(const cop__report *report, cop__section *section) {
    const char *clock = cop__json_text_at(report, report->manifest, "config.clock", "wall");
    clock = cop__json_text_at(report, report->manifest, "clock", clock);
    const cop__cell *any = NULL;
    for (uint32_t i = 0; i < COP_METHODS_MAX * COP_PROBLEMS_MAX && !any; i++)
        any = section->cells[i];
    const char *said = any ? cop__json_text_at(report, any->line, "clock", "") : "";
    section->clock = *said ? said : clock;
}

/* A time that was not measured must be told from one that was wherever it stands, in a table, a
 * plot or a sentence: all of them name the method. */
static cop_status label_methods(const cop__report *report, cop__section *section) {
    if (cop__section_is_measured(section))
        return COP_OK;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        const size_t bytes = strlen(section->clock) + strlen(section->methods[m]) + 3;
        char *name = cop_arena_calloc(report->arena, bytes, 1);
        if (!name)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the report of %s", report->folder);
        snprintf(name, bytes, "%s: %s", section->clock, section->methods[m]);
        section->methods[m] = name;
        for (uint32_t p = 0; p < section->n_problems; p++) {
            cop__cell *cell = cop__section_cell(section, p, m);
            if (cell)
                cell->method = section->methods[m];
        }
    }
    return COP_OK;
}

static cop_status keep_line(void *context, const json_t *line) {
    cop__report *report = context;
    report->n_lines++;
    if (json_array_append(report->lines, (json_t *)line) != 0)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the lines of %s", report->folder);
    return add_line(report, line);
}

cop_status cop__report_load(const char *folder, cop__report *out) {
    *out = (cop__report){.folder = folder, .lines = json_array()};
    cop_status status = cop_arena_create(&out->arena);
    if (status == COP_OK)
        status = cop_results_read(folder, &out->manifest, keep_line, out);
    if (status == COP_OK && out->n_lines == 0)
        status = COP_FAIL(COP_ERR_FORMAT, "%s holds no whole result line yet", folder);
    for (size_t i = 0; status == COP_OK && i < out->n_sections; i++) {
        cop__section *section = out->sections[i];
        put_control_first(section);
        find_clock(out, section);
        status = label_methods(out, section);
        for (uint32_t p = 0; p < section->n_problems; p++)
            section->n_common += cop__section_is_common(section, p);
    }
    if (status != COP_OK)
        cop__report_release(out);
    return status;
}

void cop__report_release(cop__report *report) {
    json_decref(report->manifest);
    json_decref(report->lines);
    cop_arena_destroy(report->arena);
    *report = (cop__report){0};
}

bool cop__cell_has_placeholders(const cop__cell *cell) {
    return strstr(cell->tokens_from, "count") || strstr(cell->tokens_from, "placeholder");
}

cop__cell *cop__section_cell(const cop__section *section, uint32_t problem, uint32_t method) {
    return section->cells[problem * COP_METHODS_MAX + method];
}

bool cop__section_is_set(const cop__section *section) {
    return strcmp(section->group, "problems") == 0;
}

const char *cop__section_noun(const cop__section *section) {
    return cop__section_is_set(section) ? "run" : "problem";
}

cop__section cop__section_only(const cop__section *section, uint32_t problem) {
    cop__section only = *section;
    only.problems[0] = section->problems[problem];
    only.n_problems = 1;
    only.cells = section->cells + (size_t)problem * COP_METHODS_MAX;
    only.n_common = cop__section_is_common(&only, 0);
    only.left_out = 0;
    return only;
}

bool cop__section_is_common(const cop__section *section, uint32_t problem) {
    for (uint32_t m = 0; m < section->n_methods; m++)
        if (!cop__section_cell(section, problem, m))
            return false;
    return true;
}

bool cop__section_is_measured(const cop__section *section) {
    return strcmp(section->clock, "wall") == 0;
}

static bool has_any(const cop__section *section, int first, int last) {
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            for (int f = first; cell && f <= last; f++)
                if (cell->value[f] > 0)
                    return true;
        }
    return false;
}

bool cop__section_has_device(const cop__section *section) {
    return has_any(section, COP_FIG_DEVICE_FIRST, COP_FIG_DEVICE_LAST);
}

bool cop__section_has_pressure(const cop__section *section) {
    return has_any(section, COP_FIG_PARKED, COP_FIG_RECOMPUTED);
}

bool cop__section_has_prefixes(const cop__section *section) {
    return has_any(section, COP_FIG_PREFIX_LOOKUPS, COP_FIG_PREFIX_FILL_MS);
}

double cop__section_mean(const cop__section *section, uint32_t method, cop__figure figure) {
    double sum = 0;
    for (uint32_t p = 0; p < section->n_problems; p++)
        if (cop__section_is_common(section, p))
            sum += cop__section_cell(section, p, method)->value[figure];
    return section->n_common ? sum / section->n_common : NAN;
}

double cop__section_ratio(const cop__section *section, uint32_t method, cop__figure figure) {
    if (section->control < 0 || section->n_common == 0)
        return NAN;
    double sum = 0;
    for (uint32_t p = 0; p < section->n_problems; p++)
        if (cop__section_is_common(section, p))
            sum += cop__section_cell(section, p, method)->value[figure] /
                   cop__section_cell(section, p, (uint32_t)section->control)->value[figure];
    sum /= section->n_common;
    return isfinite(sum) ? sum : NAN;
}
