#include "command.h"

#include <stdio.h>
#include <string.h>

/* No keyword that a site may have is longer. */
#define KEYWORD_SHOWN 40

/* Takes the arguments apart; false: they are not what the verb wants. */
typedef bool take_arguments(struct command *c, struct slice rest);

static take_arguments take_none, take_name, take_secret, take_apop, take_maybe_number, take_number, take_top,
    take_auth, take_maybe_word;

static const struct {
    const char *name;
    take_arguments *take;
    const char *usage;
} verbs[VERB_COUNT] = {
    [VERB_USER] = {"USER", take_name, "syntax: USER name"},
    [VERB_PASS] = {"PASS", take_secret, "syntax: PASS password"},
    [VERB_APOP] = {"APOP", take_apop, "syntax: APOP name digest"},
    [VERB_STAT] = {"STAT", take_none, "STAT takes no arguments"},
    [VERB_LIST] = {"LIST", take_maybe_number, "syntax: LIST or LIST number"},
    [VERB_RETR] = {"RETR", take_number, "syntax: RETR number"},
    [VERB_DELE] = {"DELE", take_number, "syntax: DELE number"},
    [VERB_NOOP] = {"NOOP", take_none, "NOOP takes no arguments"},
    [VERB_RSET] = {"RSET", take_none, "RSET takes no arguments"},
    [VERB_TOP] = {"TOP", take_top, "syntax: TOP number lines"},
    [VERB_UIDL] = {"UIDL", take_maybe_number, "syntax: UIDL or UIDL number"},
    [VERB_QUIT] = {"QUIT", take_none, "QUIT takes no arguments"},
    [VERB_CAPA] = {"CAPA", take_none, "CAPA takes no arguments"},
    [VERB_AUTH] = {"AUTH", take_auth, "syntax: AUTH, AUTH mechanism or AUTH mechanism initial-response"},
    [VERB_STLS] = {"STLS", take_none, "STLS takes no arguments"},
    [VERB_UTF8] = {"UTF8", take_none, "UTF8 takes no arguments"},
    [VERB_LANG] = {"LANG", take_maybe_word, "syntax: LANG or LANG tag"},
};

const char *
verb_name(enum verb verb)
{
    return verb < VERB_COUNT ? verbs[verb].name : NULL;
}

/* ASCII only: the program's locale has no say in a protocol. */
static char
upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool
is_word(const char *word, const char *keyword, size_t len)
{
    size_t i = 0;

    while (i < len && word[i] && upper(keyword[i]) == word[i])
        i++;
    return i == len && word[i] == '\0';
}

enum verb
verb_find(const char *keyword, size_t len)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (is_word(verbs[i].name, keyword, len))
            return (enum verb)i;
    return VERB_OTHER;
}

/* What stands before the first space; *rest becomes what stands behind it.
 * False: there is no space, and *rest is empty. */
static bool
cut_word(struct slice *word, struct slice *rest)
{
    const char *space = rest->len ? memchr(rest->at, ' ', rest->len) : NULL;

    *word = *rest;
    if (!space) {
        rest->at += rest->len;
        rest->len = 0;
        return false;
    }
    word->len = (size_t)(space - word->at);
    rest->len -= word->len + 1;
    rest->at = space + 1;
    return true;
}

static struct slice
without_blanks_at_end(struct slice s)
{
    while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Digits only.  One that is too big for any message saturates. */
static bool
to_number(struct slice s, uint64_t *number)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned char)s.at[i] - (unsigned)'0';

        if (digit > 9)
            return false;
        n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : 10 * n + digit;
    }
    *number = n;
    return s.len > 0;
}

/* A word that is the last one, and not empty. */
static bool
take_last(struct slice *word, struct slice rest)
{
    return !cut_word(word, &rest) && word->len > 0;
}

static bool
take_none(struct command *c, struct slice rest)
{
    (void)c;
    return rest.len == 0;
}

static bool
take_name(struct command *c, struct slice rest)
{
    return take_last(&c->name, rest);
}

/* RFC 1939, section 7: spaces in the argument are part of the password. */
static bool
take_secret(struct command *c, struct slice rest)
{
    c->secret = rest;
    return rest.len > 0;
}

static bool
take_apop(struct command *c, struct slice rest)
{
    return cut_word(&c->name, &rest) && c->name.len > 0 && take_last(&c->secret, rest);
}

static bool
take_number(struct command *c, struct slice rest)
{
    return to_number(rest, &c->number);
}

static bool
take_maybe_number(struct command *c, struct slice rest)
{
    return rest.len == 0 || take_number(c, rest);
}

static bool
take_top(struct command *c, struct slice rest)
{
    struct slice number;

    return cut_word(&number, &rest) && to_number(number, &c->number) && to_number(rest, &c->lines);
}

/* RFC 5034, section 4: nothing, a mechanism, or a mechanism and a response. */
static bool
take_auth(struct command *c, struct slice rest)
{
    if (rest.len == 0)
        return true;
    if (!cut_word(&c->name, &rest))
        return c->name.len > 0;
    return c->name.len > 0 && take_last(&c->secret, rest);
}

static bool
take_maybe_word(struct command *c, struct slice rest)
{
    return rest.len == 0 || take_name(c, rest);
}

static enum command_status
bad(const char *reason, const char **why)
{
    *why = reason;
    return COMMAND_BAD;
}

/* Whether number 0 was asked for, which elsewhere stands for "none given". */
static bool
is_message_zero(const struct command *c)
{
    take_arguments *take = verbs[c->verb].take;
    bool numbered = take == take_maybe_number || take == take_number || take == take_top;

    return numbered && c->args.len && c->number == 0;
}

static enum command_status
check(struct command *c, const char **why)
{
    if (c->keyword.len == 0)
        return bad("a command is missing", why);
    if (memchr(c->keyword.at, '\0', c->keyword.len) || memchr(c->args.at, '\0', c->args.len))
        return bad("NUL octets are not allowed", why);
    if (c->verb == VERB_OTHER)
        return COMMAND_OK;
    if (!verbs[c->verb].take(c, c->args))
        return bad(verbs[c->verb].usage, why);
    return is_message_zero(c) ? bad("no such message", why) : COMMAND_OK;
}

enum command_status
command_parse(struct command *c, const char *line, size_t len, const char **why)
{
    struct slice rest = {len ? line : "", len};

    *c = (struct command){0};
    cut_word(&c->keyword, &rest);
    c->verb = verb_find(c->keyword.at, c->keyword.len);
    c->args = c->verb == VERB_PASS ? rest : without_blanks_at_end(rest);
    c->good = check(c, why) == COMMAND_OK;
    return c->good ? COMMAND_OK : COMMAND_BAD;
}

/* What a client wrote in upper case, cut like a keyword that could be one. */
static void
show_keyword(struct slice keyword, char *text)
{
    size_t n = keyword.len < KEYWORD_SHOWN ? keyword.len : KEYWORD_SHOWN;

    for (size_t i = 0; i < n; i++)
        text[i] = upper(keyword.at[i]);
    text[n] = '\0';
}

/* " number" behind a text; returns its end. */
static char *
show_number(char *end, uint64_t number)
{
    *end++ = ' ';
    end += slice_decimal(end, number);
    *end = '\0';
    return end;
}

/* Of the arguments a name comes first, where there is one; then all is said. */
void
command_show(const struct command *c, bool bare, char text[COMMAND_SHOWN])
{
    const char *verb = verb_name(c->verb);
    char *end;

    if (!verb) {
        show_keyword(c->keyword, text);
        return;
    }
    end = stpcpy(text, verb);
    if (bare || !c->good || c->verb == VERB_AUTH || (!c->name.at && !c->number))
        return;
    if (c->name.at) {
        snprintf(end, (size_t)(text + COMMAND_SHOWN - end), " %.*s", (int)c->name.len, c->name.at);
        return;
    }
    end = show_number(end, c->number);
    if (c->verb == VERB_TOP)
        show_number(end, c->lines);
}
