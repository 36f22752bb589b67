/* command_parse: what it takes is within the line and fit to be run; the same
 * line, written in upper case and with blanks at its end, says the same. */
#include "../core/command.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static bool
is_within(struct slice s, const char *line, size_t n)
{
    return s.len == 0 || (s.at >= line && s.at + s.len <= line + n);
}

static void
check_fields(const struct command *c, const char *line, size_t n)
{
    must(is_within(c->keyword, line, n) && is_within(c->args, line, n));
    must(is_within(c->name, line, n) && is_within(c->secret, line, n));
    must(c->verb == verb_find(c->keyword.at, c->keyword.len));
    must(c->keyword.len > 0 && !memchr(c->keyword.at, ' ', c->keyword.len));
    must(!memchr(line, '\0', n));
}

static bool
needs_number(enum verb verb)
{
    return verb == VERB_RETR || verb == VERB_DELE || verb == VERB_TOP;
}

static void
check_arguments(const struct command *c)
{
    bool login = c->verb == VERB_USER || c->verb == VERB_APOP;
    bool secret = c->verb == VERB_PASS || c->verb == VERB_APOP;
    bool maybe = c->verb == VERB_AUTH || c->verb == VERB_LANG;

    must(maybe ? (c->name.at != NULL) == (c->name.len > 0) : login == (c->name.len > 0));
    must(maybe ? (c->secret.at != NULL) == (c->secret.len > 0) : secret == (c->secret.len > 0));
    must(c->verb != VERB_AUTH || c->name.at || !c->secret.at);
    must(!needs_number(c->verb) || c->number > 0);
    must(!c->name.at || !memchr(c->name.at, ' ', c->name.len));
}

/* PASS's blanks belong to the password; any other line may have some more. */
static void
check_blanks(const struct command *c, const char *line, size_t n)
{
    struct command again;
    const char *why;
    char *longer = malloc(n + 2);

    memcpy(longer, line, n);
    memcpy(longer + n, " \t", 2);
    must(command_parse(&again, longer, n + 1, &why) == COMMAND_OK);
    must(again.verb == c->verb && again.number == c->number && again.lines == c->lines);
    must(again.secret.len == c->secret.len + (c->verb == VERB_PASS));
    must(again.args.len == c->args.len + (c->verb == VERB_PASS));
    free(longer);
}

/* What is shown fits, and of a line that is not understood nothing is. */
static void
check_shown(const struct command *c, bool bare)
{
    char text[COMMAND_SHOWN];

    command_show(c, bare, text);
    must(strlen(text) < COMMAND_SHOWN);
    must(!strchr(text, ' ') || (c->good && !bare));
    must(c->verb != VERB_PASS || strcmp(text, "PASS") == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct command c;
    const char *why = NULL;
    char *line = malloc(n ? n : 1); /* of exactly this size, so that no octet behind it is read unseen */

    if (n)
        memcpy(line, data, n);
    if (command_parse(&c, line, n, &why) == COMMAND_BAD) {
        must(why && *why);
    } else {
        check_fields(&c, line, n);
        check_arguments(&c);
        check_blanks(&c, line, n);
    }
    check_shown(&c, n % 2);
    free(line);
    return 0;
}
