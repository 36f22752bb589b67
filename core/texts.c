#include "texts.h"

#include <string.h>

/* In the order in which a session meets them.  What a script says is its own;
 * it is looked up all the same. */
static const char *const known[] = {
    /* any time */
    "unknown command",
    "a command is missing",
    "NUL octets are not allowed",
    "the line is too long",
    "log in first",
    "already logged in",
    "%1; too many bad commands, closing the connection",
    "%1; too many failed logins, closing the connection",
    "capabilities follow",
    "bye",
    "languages follow",
    "language changed",
    "there is no such language here; LANG lists those there are",
    "the server had a problem with this; try again later",
    /* how a command is written */
    "syntax: USER name",
    "syntax: PASS password",
    "syntax: APOP name digest",
    "syntax: LIST or LIST number",
    "syntax: RETR number",
    "syntax: DELE number",
    "syntax: TOP number lines",
    "syntax: UIDL or UIDL number",
    "syntax: AUTH, AUTH mechanism or AUTH mechanism initial-response",
    "syntax: LANG or LANG tag",
    "STAT takes no arguments",
    "NOOP takes no arguments",
    "RSET takes no arguments",
    "QUIT takes no arguments",
    "CAPA takes no arguments",
    "STLS takes no arguments",
    "UTF8 takes no arguments",
    /* AUTHORIZATION */
    "now the password",
    "say USER and your name directly before PASS",
    "passwords are not taken over a connection without encryption; say STLS first",
    "passwords are not taken over a connection without encryption; use APOP, or connect from the server "
    "itself "
    "or through a TLS proxy (plain_login)",
    "names and passwords must be UTF-8 after UTF8",
    "UTF-8 is taken",
    "begin TLS",
    "TLS is not offered here",
    "this connection is encrypted already",
    "mechanisms follow",
    "there is no such mechanism here; AUTH lists those there are",
    "this mechanism needs encryption; say STLS first",
    "this mechanism needs encryption, and TLS is not offered here",
    "this mechanism needs a client certificate",
    "this is not base64; the login is cancelled",
    "the login is cancelled, as asked for",
    "this login takes too many steps",
    "nobody may act as somebody else",
    "this channel binding is not available here",
    "channel binding is offered here; somebody has changed what the client was told",
    "the channel binding is not that of this connection",
    "the nonce is not that of this exchange",
    "wrong user name or password",
    "another session has this maildrop; try again later",
    "this user has too many sessions open",
    "this maildrop was open a moment ago; try again later",
    "this command is for before the login",
    /* TRANSACTION */
    "%1 messages",
    "%1 messages (%2 octets)",
    "%1 octets",
    "message %1 marked",
    "no such message",
    "this message is not there any more",
    "messages cannot be deleted here",
    "the maildrop cannot be read",
    "the lock on the maildrop was lost; nothing was deleted",
    "some deleted messages not removed",
};

#define KNOWN_COUNT (sizeof known / sizeof known[0])

const char *
texts_known(size_t i)
{
    return i < KNOWN_COUNT ? known[i] : NULL;
}

struct slice
texts_slice(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool
language_is(const char *tag, struct slice other)
{
    size_t i = 0;

    while (i < other.len && tag[i] && lower(tag[i]) == lower(other.at[i]))
        i++;
    return i == other.len && tag[i] == '\0';
}

/* Takes off the last subtag, and before it one of a single letter, which says
 * nothing alone (RFC 4647, section 3.4).  False: it was the only one. */
static bool
shorten(struct slice *range)
{
    while (range->len && range->at[range->len - 1] != '-')
        range->len--;
    if (range->len == 0)
        return false;
    range->len--;
    if (range->len > 1 && range->at[range->len - 2] == '-')
        range->len -= 2;
    return true;
}

const struct language *
language_find(const struct language *all, size_t n, struct slice range)
{
    do {
        for (size_t i = 0; i < n; i++)
            if (language_is(all[i].tag, range))
                return &all[i];
    } while (shorten(&range));
    return NULL;
}

struct slice
language_text(const struct language *l, struct slice english)
{
    for (size_t i = 0; l && i < l->count; i++) {
        struct slice key = l->texts[i].english;

        if (key.len == english.len && key.len && memcmp(key.at, english.at, key.len) == 0)
            return l->texts[i].local;
    }
    return english;
}

/* Whether a value's place begins here; *value becomes which, from 0. */
static bool
is_place(const char *at, const char *end, size_t n, size_t *value)
{
    if (*at != '%' || at + 1 == end || at[1] < '1' || at[1] > '9')
        return false;
    *value = (size_t)(at[1] - '1');
    return *value < n;
}

/* Appends as much of s as there is room for. */
static size_t
put(char *out, size_t room, size_t used, struct slice s)
{
    size_t n = s.len < room - used ? s.len : room - used;

    if (n)
        memcpy(out + used, s.at, n);
    return used + n;
}

/* How much of a text goes before the next '%'; one at the start stands for itself. */
static size_t
plain_part(const char *at, const char *end)
{
    const char *next = memchr(at + 1, '%', (size_t)(end - at) - 1);

    return (size_t)((next ? next : end) - at);
}

size_t
texts_fill(char *out, size_t room, struct slice text, const struct slice *values, size_t n)
{
    const char *at = text.at, *end = at + text.len;
    size_t used = 0, value;

    while (at < end) {
        bool place = is_place(at, end, n, &value);
        size_t len = place ? 2 : plain_part(at, end);

        used = put(out, room, used, place ? values[value] : (struct slice){at, len});
        at += len;
    }
    return used;
}

/* How many octets the sequence has that begins with this one, and the least
 * and greatest octet that may come second; 0: nothing begins so. */
static size_t
sequence(unsigned char first, unsigned char *least, unsigned char *most)
{
    *least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80; /* shorter forms are for less */
    *most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;  /* no surrogates, at most U+10FFFF */
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

static bool
is_sequence(const unsigned char *at, size_t left, size_t *len)
{
    unsigned char least, most;

    *len = sequence(at[0], &least, &most);
    if (*len == 0 || *len > left)
        return false;
    if (*len > 1 && (at[1] < least || at[1] > most))
        return false;
    for (size_t i = 2; i < *len; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return false;
    return true;
}

bool
texts_utf8(const char *octets, size_t n)
{
    const unsigned char *at = (const unsigned char *)octets;
    size_t len;

    for (; n; at += len, n -= len)
        if (!is_sequence(at, n, &len))
            return false;
    return true;
}
