/*
 * command - a line in, a checked command out (RFC 1939, section 3).
 *
 * Pure; changes nothing.  Keywords match in any case.  Arguments are separated
 * by one space each; blanks at the end of a line are passed over, except
 * PASS's, whose argument is the rest of its line.  AUTH's are those of RFC
 * 5034, section 4; what they stand for is not looked at here.  Numbers are digits only and
 * saturate.  A NUL octet is refused wherever it stands.
 */
#ifndef POPD_COMMAND_H
#define POPD_COMMAND_H

#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum verb {
    VERB_USER,
    VERB_PASS,
    VERB_APOP,
    VERB_STAT,
    VERB_LIST,
    VERB_RETR,
    VERB_DELE,
    VERB_NOOP,
    VERB_RSET,
    VERB_TOP,
    VERB_UIDL,
    VERB_QUIT,
    VERB_CAPA,
    VERB_AUTH,
    VERB_STLS,
    VERB_UTF8,
    VERB_LANG,
    VERB_OTHER /* no row of the table: a site's own command, or unknown */
};
#define VERB_COUNT VERB_OTHER

/* Its slices point into the line. */
struct command {
    enum verb verb;
    struct slice keyword; /* as the client wrote it */
    struct slice args;    /* all behind the keyword's space */
    struct slice name;    /* USER and APOP; AUTH: the mechanism; LANG: the tag */
    struct slice secret;  /* PASS: the password; APOP: the digest; AUTH: the initial response */
    uint64_t number;      /* the message's number; 0: none was given */
    uint64_t lines;       /* TOP */
    bool good;            /* its arguments are what the verb wants */
};

enum command_status {
    COMMAND_OK,
    COMMAND_BAD /* *why says what is wrong, as an -ERR's text */
};

/* Parses line[0..len), which has no line end.  On BAD, `verb` is still set
 * where the keyword is known.  A slice that was not given has a NULL `at`. */
enum command_status command_parse(struct command *c, const char *line, size_t len, const char **why);

/* The keyword in upper case, a static string; NULL for VERB_OTHER. */
const char *verb_name(enum verb verb);

/* How much of a command is shown. */
#define COMMAND_SHOWN 80

/* Writes the command as it may be shown, without what is or could be a secret:
 * "RETR 3", "USER joe", "PASS", "AUTH".  bare: the keyword only. */
void command_show(const struct command *c, bool bare, char text[COMMAND_SHOWN]);

/* The verb of a keyword in any case, or VERB_OTHER. */
enum verb verb_find(const char *keyword, size_t len);

#endif
