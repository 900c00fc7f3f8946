#include "measure/report_html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void cop__html_put(cop__html *html, const char *markup) {
    if (html->status == COP_OK)
        html->status = cop_buffer_append(&html->out, markup, strlen(markup));
}

void cop__html_printf(cop__html *html, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    int bytes = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (html->status == COP_OK && (bytes < 0 || (size_t)bytes >= sizeof text))
        html->status = COP_FAIL(COP_ERR_INTERNAL, "a piece of the report is too long: %s", format);
    cop__html_put(html, text);
}

size_t cop__text_width(const char *text) {
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

void cop__html_text_cut(cop__html *html, const char *text, size_t max) {
    size_t width = cop__text_width(text), shown = 0;
    for (; *text; text++) {
        if (((unsigned char)*text & 0xC0) != 0x80 && width > max && ++shown >= max) {
            cop__html_put(html, "…");
            return;
        }
        char one[2] = {*text, '\0'};
        /* Control characters are no HTML; U+FFFD stands for them. */
        const char *escaped =
            *text == '&'    ? "&amp;"
            : *text == '<'  ? "&lt;"
            : *text == '>'  ? "&gt;"
            : *text == '"'  ? "&quot;"
            : *text == '\'' ? "&#39;"
            : ((unsigned char)*text < 0x20 && !strchr("\t\n\r", *text)) || *text == 0x7F
                ? "\xEF\xBF\xBD"
                : one;
        cop__html_put(html, escaped);
    }
}

void cop__html_text(cop__html *html, const char *text) {
    cop__html_text_cut(html, text, SIZE_MAX);
}

/* Digits with commas between groups of three. */
static void group_digits(double value, int decimals, char text[COP_NUMBER_BYTES]) {
    char plain[COP_NUMBER_BYTES];
    if (fabs(value) >= 1e15) {
        snprintf(text, COP_NUMBER_BYTES, "%.3e", value);
        return;
    }
    snprintf(plain, sizeof plain, "%.*f", decimals, fabs(value));
    size_t digits = strcspn(plain, "."), used = 0;
    if (value < 0 && strspn(plain, "0.") != strlen(plain))
        used += (size_t)snprintf(text, COP_NUMBER_BYTES, "\xE2\x88\x92"); /* minus sign */
    for (size_t i = 0; plain[i]; i++) {
        if (i > 0 && i < digits && (digits - i) % 3 == 0)
            text[used++] = ',';
        text[used++] = plain[i];
    }
    text[used] = '\0';
}

static int decimals_of(double value) {
    double size = fabs(value);
    return size == 0 || size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
}

const char *cop__number(double value, cop__unit unit, char text[COP_NUMBER_BYTES]) {
    static const char *const scales[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    const char *suffix = "";
    int scale = 0;
    if (!isfinite(value)) {
        snprintf(text, COP_NUMBER_BYTES, "–");
        return text;
    }
    switch (unit) {
    case COP_UNIT_COUNT:
        group_digits(value, value == rint(value) ? 0 : decimals_of(value) > 1 ? 2 : 1, text);
        break;
    case COP_UNIT_MS:
        group_digits(value, decimals_of(value), text);
        suffix = " ms";
        break;
    case COP_UNIT_US:
        group_digits(value, decimals_of(value), text);
        suffix = " µs";
        break;
    case COP_UNIT_SECONDS:
        group_digits(value / 1e3, value >= 1e5 ? 1 : value >= 1e4 ? 2 : 3, text);
        suffix = " s";
        break;
    case COP_UNIT_BYTES:
        for (; fabs(value) >= 1000 && scale < 5; scale++)
            value /= 1000;
        group_digits(value, scale == 0 ? 0 : value >= 100 ? 0 : value >= 10 ? 1 : 2, text);
        snprintf(text + strlen(text), 8, " %s", scales[scale]);
        break;
    case COP_UNIT_RATIO:
        group_digits(value, value < 10 ? 3 : 2, text);
        suffix = " ×";
        break;
    case COP_UNIT_SHARE:
        group_digits(value * 100, fabs(value) < 0.1 ? 2 : 1, text);
        suffix = " %";
        break;
    case COP_UNIT_RATE:
        group_digits(value, 1, text);
        suffix = " tok/s";
        break;
    case COP_UNIT_GBPS:
        group_digits(value, 2, text);
        suffix = " GB/s";
        break;
    case COP_UNIT_SMALL:
        snprintf(text, COP_NUMBER_BYTES, "%s%.3g", value < 0 ? "\xE2\x88\x92" : "", fabs(value));
        break;
    }
    snprintf(text + strlen(text), 16, "%s", suffix);
    return text;
}

const char *cop__tick(double value, cop__unit unit, char text[COP_NUMBER_BYTES]) {
    cop__number(value, unit, text);
    char *space = strchr(text, ' '), *point = strchr(text, '.');
    if (value == 0)
        return strcpy(text, "0");
    if (!space || !point || point > space)
        return text;
    char *end = space; /* zeros behind the point say nothing on an axis */
    while (end[-1] == '0')
        end--;
    end -= end[-1] == '.';
    memmove(end, space, strlen(space) + 1);
    return text;
}

cop__unit cop__time_unit(double max_ms) {
    return max_ms >= 2000 ? COP_UNIT_SECONDS : COP_UNIT_MS;
}

void cop__html_cell(cop__html *html, double value, cop__unit unit) {
    char text[COP_NUMBER_BYTES];
    cop__html_printf(html, "<td class=\"n%s\">%s</td>", isfinite(value) ? "" : " na",
                     cop__number(value, unit, text));
}

void cop__html_heading(cop__html *html, const char *title, cop__figure figure) {
    const cop__figure_info *info = cop__figure_info_of(figure);
    cop__html_printf(html, "<th class=\"n\"><a href=\"#%s\" title=\"%s: %s\">%s</a></th>",
                     info->name, info->name, info->text, title);
}

double cop__tick_step(double max, int wanted) {
    if (!(max > 0) || !isfinite(max))
        return 1;
    double raw = max / wanted, power = pow(10, floor(log10(raw))), lead = raw / power;
    return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

/* Colours: Okabe and Ito's palette, which stays apart for colour-blind readers. */
static const char style[] =
    ":root{--bg:#fff;--fg:#1c2024;--soft:#5b6570;--line:#d5dae0;--panel:#f5f7f9;--accent:#0b5cad;"
    "--warn-bg:#fff4e0;--warn-line:#e69f00;--live:#4a8fc7;--live-line:#2b6ca3;--wait:#9aa5b1;"
    "--prune:#d55e00;--join:#8a6bb0;--fork:#3d4650;--kv:#009e73;"
    "--prefill:#56b4e9;--decode:#0072b2;--straggler:#e69f00;--forkterm:#009e73;--jointerm:#d55e00;"
    "--sampling:#cc79a7;--host:#8c8c8c;--remainder:#c9ced4;--on-dark:#fff;--on-light:#16191d}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e7eb;--soft:#9aa5b1;"
    "--line:#343b43;--panel:#1c2126;--accent:#7db7f0;--warn-bg:#33280f;--live:#3f7fb5;"
    "--live-line:#79b4e6;--wait:#77828e;--prune:#f0803c;--join:#b498d8;--fork:#b8c0c9;--kv:#2bc397;"
    "--decode:#3a94d0;--remainder:#4a525b}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif}"
    "main{max-width:1120px;margin:0 auto;padding:28px 24px 64px}"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:40px 0 8px;padding-top:14px;"
    "border-top:1px solid var(--line)}h3{font-size:15px;margin:24px 0 6px}"
    "p{margin:8px 0;max-width:86ch}a{color:var(--accent);text-decoration:none}"
    "a:hover{text-decoration:underline}.soft{color:var(--soft)}.small{font-size:13px}"
    "code{font:0.92em ui-monospace,\"DejaVu Sans Mono\",monospace}"
    ".lead{font-size:16px}.warn{background:var(--warn-bg);border-left:4px solid var(--warn-line);"
    "padding:8px 14px;margin:12px 0;max-width:none}"
    ".scroll{overflow-x:auto;margin:10px 0}table{border-collapse:collapse;font-size:13px;"
    "min-width:60%}th,td{padding:4px 8px;text-align:left;vertical-align:top;"
    "border-bottom:1px solid var(--line)}thead th{border-bottom:1.5px solid var(--fg);"
    "vertical-align:bottom;font-weight:600;white-space:nowrap}.wide{min-width:150px}td{overflow-"
    "wrap:anywhere}tfoot td,tfoot th{border-top:1.5px solid var(--fg);"
    "border-bottom:none;font-weight:600}th a{color:inherit;text-decoration:underline dotted "
    "var(--soft);text-underline-offset:3px}.n{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}.na{color:var(--soft)}.edge{border-left:1px solid "
    "var(--line)}tr:target,dt:target{background:var(--warn-bg)}"
    "caption{text-align:left;color:var(--soft);font-size:13px;padding-bottom:4px}"
    "svg{display:block;width:100%;height:auto;margin:6px 0}svg text{fill:var(--fg);"
    "font:12px system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif}"
    "svg text.soft{fill:var(--soft);font-size:11px}svg text.end{text-anchor:end}"
    "svg text.mid{text-anchor:middle}.axis{stroke:var(--fg);stroke-width:1}"
    ".grid{stroke:var(--line);stroke-width:1}.legend{display:flex;flex-wrap:wrap;gap:4px 18px;"
    "font-size:13px;margin:8px 0;padding:0;list-style:none}.legend svg{flex:none;margin:0 6px 0 "
    "0}.legend li{display:flex;"
    "align-items:center}.legend i{display:inline-block;"
    "width:14px;height:11px;margin-right:6px;border-radius:2px;vertical-align:-1px}"
    "details{margin:10px 0}summary{cursor:pointer;color:var(--accent)}"
    ".t0{fill:var(--prefill);background:var(--prefill)}.t1{fill:var(--decode);background:"
    "var(--decode)}.t2{fill:var(--straggler);background:var(--straggler)}"
    ".t3{fill:var(--forkterm);background:var(--forkterm)}.t4{fill:var(--jointerm);background:"
    "var(--jointerm)}.t5{fill:var(--sampling);background:var(--sampling)}"
    ".t6{fill:var(--host);background:var(--host)}.t7{fill:var(--remainder);background:"
    "var(--remainder)}.solo{fill:var(--soft);background:var(--soft)}"
    ".tax{fill:url(#hatch);background:repeating-linear-gradient(45deg,var(--prune) 0 2px,"
    "transparent 2px 5px)}svg text.in1{fill:var(--on-dark)}svg text.in0{fill:var(--on-light)}"
    ".kmin{fill:var(--kv);background:var(--kv)}.kfirst{fill:var(--prefill);background:"
    "var(--prefill)}.kload{fill:var(--decode);background:var(--decode)}"
    ".bar{fill:var(--live);stroke:var(--live-line);stroke-width:1}"
    ".wait{fill:var(--bg);stroke:var(--wait);stroke-width:1}"
    ".lost{fill:var(--prune);fill-opacity:.28;stroke:var(--prune);stroke-width:1}"
    ".cross{stroke:var(--prune);stroke-width:2;fill:none}"
    ".forkline{stroke:var(--fork);stroke-width:1;fill:none}"
    ".joinline{stroke:var(--join);stroke-width:1;fill:none;stroke-dasharray:3 2}"
    ".curve{fill:var(--kv);fill-opacity:.22;stroke:var(--kv);stroke-width:1.3}"
    "dt{font-weight:600;margin-top:8px}dd{margin:0 0 0 18px}"
    "@media print{details{display:block}main{max-width:none}}";

void cop__html_begin(cop__html *html, const char *title) {
    cop__html_put(html, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                        "<title>");
    cop__html_text(html, title);
    cop__html_put(html, "</title>\n<style>");
    cop__html_put(html, style);
    /* Shared by all plots: arrow heads and the hatching of the modelled tax. */
    cop__html_put(
        html,
        "</style></head><body>\n<svg width=\"0\" height=\"0\" style=\"position:absolute\" "
        "aria-hidden=\"true\"><title>shared symbols</title><defs>"
        "<marker id=\"fork\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" "
        "markerHeight=\"6\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"var(--fork)\"/>"
        "</marker><marker id=\"join\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" "
        "markerHeight=\"6\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"var(--join)\"/>"
        "</marker><pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" "
        "patternTransform=\"rotate(45)\"><line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"5\" "
        "stroke=\"var(--prune)\" stroke-width=\"2.5\"/></pattern></defs></svg>\n<main>\n");
}

void cop__html_end(cop__html *html) {
    cop__html_put(html, "</main></body></html>\n");
}
