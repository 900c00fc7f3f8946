/* The verbs of the `coppice` command.
 *
 * Each verb is one function in cmd_<verb>.c: argv[0] is the verb itself, argv[1..] what follows it.
 * It returns the exit code of the process: 0, or the code of the status that stopped it
 * (cop_status_exit_code), after one line on stderr: "coppice: <verb>: <message>". Results go to
 * stdout, whole or not at all; progress and errors go to stderr. Verbs run on the main thread, one
 * in a process, and free what they took: the sanitizers watch.
 *
 * What the verbs share (options, errors, output) lies in options.h and jsonl.h.
 */
#pragma once

int cop_command_info(int argc, char **argv);
int cop_command_tokenize(int argc, char **argv);
int cop_command_score(int argc, char **argv);
int cop_command_run(int argc, char **argv);
int cop_command_import(int argc, char **argv);
int cop_command_replay(int argc, char **argv);
int cop_command_joins(int argc, char **argv);
int cop_command_bench(int argc, char **argv);
int cop_command_report(int argc, char **argv);
int cop_command_grade(int argc, char **argv);
