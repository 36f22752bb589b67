/*
 * terminal - a line from standard input that nobody should read along.
 *
 * For the program's commands, before any loop runs: it blocks.
 */
#ifndef POPD_TERMINAL_H
#define POPD_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

/* Whether standard input is a terminal. */
bool terminal_is_there(void);

/* Reads a line of standard input, without its end (LF or CRLF).  From a
 * terminal without echo, behind the prompt on standard error; a signal that
 * comes meanwhile acts once the echo is on again.  *n is how many octets were
 * written to line[0..room), which the caller wipes.  False: *why has the
 * reason: the input ended, the line is too long, or the system's; then nothing
 * is left in line. */
bool terminal_read_secret(const char *prompt, char *line, size_t room, size_t *n, const char **why);

#endif
