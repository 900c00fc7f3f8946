/* A problem set that was solved live: what it was, how right each method is, how each ran, and the
 * problems on which methods differ. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/report_parts.h"

void cop__report_set_heading(cop__html *html, const char *title, cop__set_figure figure) {
    const cop__figure_info *info = cop__set_figure_info(figure);
    cop__html_printf(html, "<th class=\"n\"><a href=\"#set.%s\" title=\"%s: %s\">%s</a></th>",
                     info->name, info->name, info->text, title);
}

uint32_t cop__report_set_run(const cop__section *section) {
    uint32_t best = 0;
    for (uint32_t p = 1; p < section->n_problems; p++) {
        bool common = cop__section_is_common(section, p);
        bool best_common = cop__section_is_common(section, best);
        uint32_t at_once = cop__section_at_once(section, p);
        /* A count that no line gives is 0, and so stands behind all others. */
        if (common != best_common ? common : at_once - 1 < cop__section_at_once(section, best) - 1)
            best = p;
    }
    return best;
}

static const cop__cell *any_cell(const cop__section *section) {
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++)
            if (cop__section_cell(section, p, m))
                return cop__section_cell(section, p, m);
    return NULL;
}

static double number_at(const json_t *object, const char *path) {
    return cop__json_measure(cop__json_at(object, path));
}

static void put_repeats(cop__html *html, const cop__section *section) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            least = cell && cell->repeats < least ? cell->repeats : least;
            most = cell && cell->repeats > most ? cell->repeats : most;
        }
    if (most <= 1)
        cop__html_put(html, " Each run was made once, so nothing is known about the spread of its "
                            "times.");
    else if (least == most)
        cop__html_printf(html, " Each figure is the mean of %u repeats.", most);
    else
        cop__html_printf(html, " Figures are means of %u to %u repeats.", least, most);
}

void cop__report_set_words(cop__html *html, const cop__report *report,
                           const cop__section *section) {
    const cop__cell *cell = any_cell(section);
    char text[COP_NUMBER_BYTES];
    cop__html_put(html, "<h2>Problems solved live: ");
    cop__html_text_cut(html, cop__json_text_at(report, cell->line, "set", cell->problem), 60);
    cop__html_put(html, "</h2>\n<p class=\"soft small\">");
    cop__html_text_cut(html, section->setting, 200);
    cop__html_printf(html,
                     "</p>\n<p>Every method answers the same <b>%s</b> problems with the same "
                     "weights, and an answer is checked",
                     cop__number(number_at(cell->line, "problems"), COP_UNIT_COUNT, text));
    const char *checker = cop__json_text_at(report, cell->line, "checker", "");
    if (*checker) {
        cop__html_put(html, " by <b>");
        cop__html_text_cut(html, checker, 40);
        cop__html_put(html, "</b>");
    }
    cop__html_put(html, ". ");
    if (section->control >= 0) {
        cop__html_put(html, "<b>");
        cop__html_text_cut(html, section->methods[section->control], 40);
        cop__html_put(html, "</b> decodes one sequence and never forks; the others are set "
                            "against it.");
    }
    put_repeats(html, section);
    cop__html_put(html, "</p>\n");
    if (section->left_out)
        cop__html_printf(html,
                         "<p class=\"warn\">%u result lines are left out: a report shows at most "
                         "%d runs and %d methods in one section.</p>\n",
                         section->left_out, COP_PROBLEMS_MAX, COP_METHODS_MAX);
}

/* "97.2 % to 99.9 %". */
static void put_interval(cop__html *html, const cop__cell *cell) {
    char low[COP_NUMBER_BYTES], high[COP_NUMBER_BYTES];
    double from = cell ? cell->set_value[COP_SET_LOW] : NAN;
    double to = cell ? cell->set_value[COP_SET_HIGH] : NAN;
    if (!isfinite(from) || !isfinite(to)) {
        cop__html_put(html, "<td class=\"n na\">–</td>");
        return;
    }
    cop__number(from, COP_UNIT_SHARE, low);
    low[strcspn(low, " ")] = '\0';
    cop__html_printf(html, "<td class=\"n\">%s to %s</td>", low,
                     cop__number(to, COP_UNIT_SHARE, high));
}

static double set_value(const cop__cell *cell, cop__set_figure figure) {
    return cell ? cell->set_value[figure] : NAN;
}

static void put_method(cop__html *html, const cop__section *section, uint32_t m) {
    cop__html_put(html, "<tr><th>");
    cop__html_text_cut(html, section->methods[m], 40);
    cop__html_put(html, (int)m == section->control
                            ? "<br><span class=\"soft small\">(control)</span></th>"
                            : "</th>");
}

static const struct {
    cop__set_figure figure;
    const char *title;
} plain[] = {{COP_SET_WRONG_CLAIMS, "wrong<br>claims"},
             {COP_SET_WELL_FORMED, "well-<br>formed"},
             {COP_SET_FORKED, "forked"},
             {COP_SET_PATHS, "paths"},
             {COP_SET_TOKENS, "generated<br>tokens"},
             {COP_SET_TOKENS_PRUNED, "pruned<br>tokens"},
             {COP_SET_LONGEST, "longest<br>path"},
             {COP_SET_LONGEST_MAX, "largest"}};
enum { N_PLAIN = sizeof plain / sizeof plain[0] };

static void put_answer_row(cop__html *html, const cop__section *run, uint32_t m, cop__unit time) {
    const cop__cell *cell = cop__section_cell(run, 0, m);
    const cop__cell *control =
        run->control < 0 ? NULL : cop__section_cell(run, 0, (uint32_t)run->control);
    double longest = set_value(cell, COP_SET_LONGEST);
    put_method(html, run, m);
    cop__html_cell(html, set_value(cell, COP_SET_ACCURACY), COP_UNIT_SHARE);
    put_interval(html, cell);
    for (int i = 0; i < N_PLAIN; i++)
        cop__html_cell(html, set_value(cell, plain[i].figure),
                       cop__set_figure_info(plain[i].figure)->unit);
    cop__html_cell(html, longest / set_value(control, COP_SET_LONGEST), COP_UNIT_RATIO);
    cop__html_cell(html, set_value(cell, COP_SET_LATENCY), time);
    cop__html_put(html, "</tr>\n");
}

/* What a reader would otherwise take for wrong answers. */
static void put_ungraded(cop__html *html, const cop__section *run) {
    bool any = false;
    for (uint32_t m = 0; m < run->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(run, 0, m);
        double ungraded = cell ? number_at(cell->line, "accuracy.ungraded") : NAN;
        if (!(ungraded > 0))
            continue;
        cop__html_put(html, any ? "; <b>"
                                : "<p class=\"warn\">Not every answer could be graded; "
                                  "what could not counts as neither right nor wrong: "
                                  "<b>");
        cop__html_text_cut(html, run->methods[m], 40);
        cop__html_printf(html, "</b> %.0f of %.0f", ungraded, number_at(cell->line, "problems"));
        any = true;
    }
    cop__html_put(html, any ? ".</p>\n" : "");
}

void cop__report_set_answers(cop__html *html, const cop__report *report, const cop__section *run) {
    const cop__cell *cell = any_cell(run);
    double most = 0;
    for (uint32_t m = 0; m < run->n_methods; m++)
        most = fmax(most, set_value(cop__section_cell(run, 0, m), COP_SET_LATENCY));
    cop__html_put(html, "<div class=\"scroll\"><table><caption>");
    if (cell->at_once)
        cop__html_printf(html, "With %u problem%s at once. ", cell->at_once,
                         cell->at_once == 1 ? "" : "s");
    cop__html_put(html, "Means over all problems; interval of the accuracy: ");
    cop__html_text_cut(html, cop__json_text_at(report, cell->line, "accuracy.interval", "–"), 60);
    cop__html_put(html,
                  ". Headings link to their definitions.</caption><thead><tr><th>method</th>");
    cop__report_set_heading(html, "accuracy", COP_SET_ACCURACY);
    cop__report_set_heading(html, "interval", COP_SET_LOW);
    for (int i = 0; i < N_PLAIN; i++)
        cop__report_set_heading(html, plain[i].title, plain[i].figure);
    cop__report_set_heading(html, "longest path,<br>to control", COP_SET_LONGEST);
    cop__report_set_heading(html, "latency", COP_SET_LATENCY);
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t m = 0; m < run->n_methods; m++)
        put_answer_row(html, run, m, cop__time_unit(most));
    cop__html_put(html, "</tbody></table></div>\n");
    put_ungraded(html, run);
}

/* Any JSON as text, without the quotes that stand around an object. */
static void put_json(cop__html *html, const json_t *value) {
    const char *text = json_string_value(value);
    char *dump = NULL;
    if (!text && value && !json_is_null(value))
        text = dump = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    cop__html_put(html, text ? "<td>" : "<td class=\"na\">");
    for (const char *at = text ? text : "–"; *at; at++) {
        /* {"quorum": 1} reads better as quorum: 1; names of a record hold neither. */
        char one[2] = {*at, '\0'};
        if (!dump || !strchr("{}\"", *at))
            cop__html_text(html, one);
    }
    cop__html_put(html, "</td>");
    free(dump);
}

void cop__report_set_methods(cop__html *html, const cop__section *run) {
    static const struct {
        const char *key, *title;
    } columns[] = {{"dialect", "dialect"},          {"join", "join"},
                   {"ask_paths", "paths<br>asked"}, {"max_blocks", "blocks<br>at most"},
                   {"temperature", "temperature"},  {"max_tokens", "tokens<br>at most"},
                   {"prune", "prune rule"},         {"join_policy", "join policy"},
                   {"stops", "how problems ended"}};
    enum { N_COLUMNS = sizeof columns / sizeof columns[0] };
    cop__html_put(html, "<details><summary>How each method ran</summary><div class=\"scroll\">"
                        "<table><thead><tr><th>method</th>");
    for (int i = 0; i < N_COLUMNS; i++)
        cop__html_printf(html, "<th>%s</th>", columns[i].title);
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t m = 0; m < run->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(run, 0, m);
        put_method(html, run, m);
        for (int i = 0; i < N_COLUMNS; i++)
            put_json(html, cell ? json_object_get(cell->line, columns[i].key) : NULL);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div></details>\n");
}

/* The text of a problem's id, which may be a number; "" for anything else. */
static const char *id_text(const json_t *id, char text[COP_NUMBER_BYTES]) {
    if (json_is_string(id))
        return json_string_value(id);
    if (!json_is_integer(id))
        return "";
    snprintf(text, COP_NUMBER_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    return text;
}

/* Maps ids to their place in a line's columns: methods may list problems in another order. NULL
 * without columns or memory. */
static json_t *places_of(const cop__cell *cell) {
    const json_t *ids = cell ? cop__json_at(cell->line, "each.id") : NULL;
    json_t *places = json_is_array(ids) ? json_object() : NULL;
    char text[COP_NUMBER_BYTES];
    for (size_t i = 0; places && i < json_array_size(ids); i++)
        json_object_set_new(places, id_text(json_array_get(ids, i), text),
                            json_integer((json_int_t)i));
    return places;
}

static const char *grade_of(const cop__cell *cell, const json_t *places, const char *id,
                            size_t *place) {
    const json_t *at = json_object_get(places, id);
    *place = at ? (size_t)json_integer_value(at) : 0;
    return at ? json_string_value(json_array_get(cop__json_at(cell->line, "each.grade"), *place))
              : NULL;
}

enum { DIFFERING_MAX = 10 };

typedef struct differing {
    const char *id[DIFFERING_MAX];
    uint32_t score[DIFFERING_MAX];
    uint32_t n, all; /* all: problems on which any two methods differ */
} differing;

/* Keeps the list in the order of its scores, equal ones in the order of the set. */
static void keep_differing(differing *list, const char *id, uint32_t score) {
    uint32_t at = list->n;
    list->all++;
    while (at > 0 && list->score[at - 1] < score)
        at--;
    if (at == DIFFERING_MAX)
        return;
    list->n += list->n < DIFFERING_MAX;
    for (uint32_t i = list->n - 1; i > at; i--) {
        list->id[i] = list->id[i - 1];
        list->score[i] = list->score[i - 1];
    }
    list->id[at] = id;
    list->score[at] = score;
}

/* A problem's score is the number of pairs of methods of which one is right and the other not. */
static void find_differing(const cop__report *report, const cop__section *run,
                           json_t *const *places, differing *list) {
    uint32_t base = 0;
    while (base < run->n_methods && !places[base])
        base++;
    const json_t *ids = base < run->n_methods
                            ? cop__json_at(cop__section_cell(run, 0, base)->line, "each.id")
                            : NULL;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        char text[COP_NUMBER_BYTES];
        const char *id = id_text(json_array_get(ids, i), text);
        uint32_t right = 0, other = 0;
        for (uint32_t m = 0; m < run->n_methods; m++) {
            size_t place;
            const char *grade = grade_of(cop__section_cell(run, 0, m), places[m], id, &place);
            right += grade && strcmp(grade, "right") == 0;
            other += grade && strcmp(grade, "right") != 0 && strcmp(grade, "ungraded") != 0;
        }
        if (right && other && *id)
            keep_differing(list, id == text ? cop_arena_strndup(report->arena, id, strlen(id)) : id,
                           right * other);
    }
}

static void put_grade(cop__html *html, const cop__cell *cell, const json_t *places,
                      const char *id) {
    size_t place;
    const char *grade = grade_of(cell, places, id, &place);
    char text[COP_NUMBER_BYTES];
    if (!grade) {
        cop__html_put(html, "<td class=\"na\">–</td>");
        return;
    }
    const json_t *longest = json_array_get(cop__json_at(cell->line, "each.longest"), place);
    bool right = strcmp(grade, "right") == 0;
    cop__html_put(html, right ? "<td><b>" : "<td>");
    cop__html_text_cut(html, grade, 20);
    cop__html_put(html, right ? "</b>" : "");
    if (json_is_number(longest))
        cop__html_printf(html, " <span class=\"soft\">%s</span>",
                         cop__number(json_number_value(longest), COP_UNIT_COUNT, text));
    cop__html_put(html, "</td>");
}

static void put_differing(cop__html *html, const cop__section *run, json_t *const *places,
                          const differing *list) {
    char text[COP_NUMBER_BYTES];
    cop__html_printf(html,
                     "<details><summary>Problems on which methods differ most: %u of %s"
                     "</summary><div class=\"scroll\"><table><caption>Each method's grade, and the "
                     "tokens of its longest path.</caption><thead><tr><th>problem</th>",
                     list->n, cop__number(list->all, COP_UNIT_COUNT, text));
    for (uint32_t m = 0; m < run->n_methods; m++) {
        cop__html_put(html, "<th>");
        cop__html_text_cut(html, run->methods[m], 28);
        cop__html_put(html, "</th>");
    }
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t i = 0; i < list->n; i++) {
        cop__html_put(html, "<tr><th>");
        cop__html_text_cut(html, list->id[i] ? list->id[i] : "–", 40);
        cop__html_put(html, "</th>");
        for (uint32_t m = 0; m < run->n_methods; m++)
            put_grade(html, cop__section_cell(run, 0, m), places[m], list->id[i]);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div></details>\n");
}

void cop__report_set_differing(cop__html *html, const cop__report *report,
                               const cop__section *run) {
    json_t *places[COP_METHODS_MAX] = {0};
    differing list = {0};
    for (uint32_t m = 0; m < run->n_methods; m++)
        places[m] = places_of(cop__section_cell(run, 0, m));
    find_differing(report, run, places, &list);
    if (list.n)
        put_differing(html, run, places, &list);
    for (uint32_t m = 0; m < run->n_methods; m++)
        json_decref(places[m]);
}

void cop__report_set_definitions(cop__html *html) {
    cop__html_put(html, "<h3>Figures of problem sets</h3>\n<div class=\"scroll\"><table><thead><tr>"
                        "<th>name</th><th>definition</th></tr></thead><tbody>\n");
    for (int f = 0; f < COP_SET_FIGURES; f++) {
        const cop__figure_info *info = cop__set_figure_info((cop__set_figure)f);
        cop__html_printf(html, "<tr id=\"set.%s\"><td><code>%s</code></td><td>%s</td></tr>\n",
                         info->name, info->name, info->text);
    }
    cop__html_put(html, "</tbody></table></div>\n");
}
