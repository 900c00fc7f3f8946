#include "command/command.h"

#include <stdio.h>

#include "command/options.h"
#include "measure/report.h"

int cop_command_report(int argc, char **argv) {
    const char *out = NULL;
    const cop_option options[] = {
        {"out", COP_OPTION_TEXT, &out, "FILE", "where to write it (DIR/report.html)"},
    };
    const cop_command_line line = {
        "report",
        "DIR [--out FILE.html]",
        "Writes one self-contained HTML page from a result folder: what was measured on what,\n"
        "tables, where the time went, KV bytes, and a timeline with one track a branch. The page\n"
        "loads nothing from a network and runs no scripts. Prints the page's path.",
        options,
        sizeof options / sizeof options[0],
        "DIR",
        1,
        1};
    cop_operands operands;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status != COP_OK)
        return cop_command_fail("report", status);
    if (operands.help)
        return 0;
    cop_buffer path = {0}, said = {0};
    status = out ? cop_buffer_printf(&path, "%s", out)
                 : cop_buffer_printf(&path, "%s/report.html", operands.items[0]);
    if (status == COP_OK)
        status = cop_report_write(operands.items[0], path.data);
    if (status == COP_OK)
        status = cop_buffer_printf(&said, "%s\n", path.data);
    if (status == COP_OK)
        status = cop_command_output(&said);
    cop_buffer_release(&path);
    cop_buffer_release(&said);
    return status == COP_OK ? 0 : cop_command_fail("report", status);
}
