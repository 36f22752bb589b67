/* AUTHORIZATION: who comes in, and what is agreed on before: USER PASS APOP AUTH
 * STLS UTF8, and in both states LANG and CAPA. */
#include "phases.h"

#include "base64.h"
#include "digest.h"
#include "reply.h"

#include <stdio.h>
#include <string.h>

/* Logging in */

const char *
session_logon(const struct session *s)
{
    return s->kind == LOGIN_SASL ? s->mechanism : s->kind == LOGIN_APOP ? "apop" : "user";
}

bool
session_set_name(struct session *s, const char *name, size_t len)
{
    s->name.len = 0;
    buf_add(&s->name, name, len);
    return !s->name.failed;
}

/* Takes over the name that wants to enter. */
static void
set_name(struct session *s, enum login_kind kind, struct buf *out)
{
    s->kind = kind;
    if (!session_set_name(s, s->command.name.at, s->command.name.len))
        out->failed = true;
}

/* RFC 6856, section 2.2: in UTF8 mode names and passwords are UTF-8.  Before
 * it they are octets, for clients that know nothing of it. */
static bool
is_text(const struct session *s, struct slice octets)
{
    return !s->utf8 || texts_utf8(octets.at, octets.len);
}

static enum need
no_text(const struct session *s, struct buf *out)
{
    return say_err(s, "names and passwords must be UTF-8 after UTF8", out);
}

static enum need
no_plain(const struct session *s, struct buf *out)
{
    if (phase_takes_stls(s))
        return say_err(s, "passwords are not taken over a connection without encryption; say STLS first",
                       out);
    return say_err(
        s,
        "passwords are not taken over a connection without encryption; use APOP, or connect from the "
        "server itself or through a TLS proxy (plain_login)",
        out);
}

/* The same whether there is such a user or not. */
enum need
phase_run_user(struct session *s, struct buf *out)
{
    if (!phase_takes_plain(s))
        return no_plain(s, out);
    if (!is_text(s, s->command.name))
        return no_text(s, out);
    set_name(s, LOGIN_USER, out);
    s->named = true;
    return say_ok(s, "now the password", out);
}

enum need
phase_run_pass(struct session *s, struct buf *out)
{
    return is_text(s, s->command.secret) ? NEED_LOGIN : no_text(s, out);
}

enum need
phase_run_apop(struct session *s, struct buf *out)
{
    if (!is_text(s, s->command.name))
        return no_text(s, out);
    set_name(s, LOGIN_APOP, out);
    return NEED_LOGIN;
}

/* AUTH (RFC 5034) */

static bool
is_offered(const struct session *s, const struct session_mechanism *m)
{
    return (phase_takes_plain(s) || !m->plain) && (s->tls || !m->tls) && (s->cert || !m->cert);
}

static enum need
list_mechanisms(const struct session *s, struct buf *out)
{
    say_ok(s, "mechanisms follow", out);
    for (size_t i = 0; i < s->config->mechanism_count; i++) {
        const struct session_mechanism *m = &s->config->mechanisms[i];

        if (is_offered(s, m))
            reply_line(out, m->name, strlen(m->name));
    }
    reply_end(out);
    return NEED_LINE;
}

static const struct session_mechanism *
find_mechanism(const struct session *s, struct slice name)
{
    for (size_t i = 0; i < s->config->mechanism_count; i++)
        if (language_is(s->config->mechanisms[i].name, name))
            return &s->config->mechanisms[i];
    return NULL;
}

static enum need
not_offered(const struct session *s, const struct session_mechanism *m, struct buf *out)
{
    if (!m)
        return say_err(s, "there is no such mechanism here; AUTH lists those there are", out);
    if (s->tls || (!m->tls && phase_takes_plain(s)))
        return say_err(s, "this mechanism needs a client certificate", out);
    return say_err(s,
                   phase_takes_stls(s) ? "this mechanism needs encryption; say STLS first"
                                       : "this mechanism needs encryption, and TLS is not offered here",
                   out);
}

/* Decodes a response where it stands, and wipes what it leaves of the text:
 * that is the secret's, too. */
static bool
decode(struct slice *response)
{
    char *text = (char *)(uintptr_t)response->at; /* of a line that is ours to write */
    size_t len = response->len;
    bool good = base64_decode(text, len, text, &response->len);

    digest_wipe(text + response->len, len - response->len);
    return good;
}

/* RFC 5034, section 4: "=" stands for an initial response of no octets. */
static bool
decode_initial(struct slice *response)
{
    if (response->len == 1 && *response->at == '=')
        response->len = 0;
    return decode(response);
}

static enum need
begin_exchange(struct session *s, const struct session_mechanism *m)
{
    s->kind = LOGIN_SASL;
    s->name.len = 0;
    memcpy(s->mechanism, m->name, sizeof s->mechanism);
    s->first = true;
    s->round = 0;
    return NEED_LOGIN;
}

enum need
phase_run_auth(struct session *s, struct buf *out)
{
    struct slice *response = &s->command.secret;
    const struct session_mechanism *m;

    if (!s->command.name.at)
        return list_mechanisms(s, out);
    m = find_mechanism(s, s->command.name);
    if (!m || !is_offered(s, m))
        return not_offered(s, m, out);
    if (response->at && !decode_initial(response))
        return phase_bad(s, "this is not base64; the login is cancelled", out);
    return begin_exchange(s, m);
}

/* Not counted as a failed login: nobody was refused. */
static enum need
cancel(struct session *s, struct buf *out)
{
    return say_err(s, "the login is cancelled, as asked for", out);
}

enum need
phase_answer(struct session *s, char *line, size_t len, struct buf *out)
{
    s->asking = false;
    s->first = false;
    s->command.secret = (struct slice){line, len};
    if (len == 1 && *line == '*')
        return cancel(s, out);
    if (decode(&s->command.secret))
        return NEED_LOGIN;
    digest_wipe(line, len);
    s->command.secret = (struct slice){0};
    return phase_bad(s, "this is not base64; the login is cancelled", out);
}

/* No limit on its length: RFC 5034, section 4. */
static void
add_base64(struct buf *out, const char *octets, size_t n)
{
    char *text = n ? buf_reserve(out, BASE64_TEXT(n)) : NULL;

    if (!text)
        return;
    base64_encode(octets, n, text);
    out->len += BASE64_TEXT(n);
}

enum need
session_challenge(struct session *s, const char *octets, size_t n, struct buf *out)
{
    s->command.secret = (struct slice){0};
    if (s->round++ == SESSION_ROUNDS_MAX) {
        say_err(s, "this login takes too many steps", out);
        return NEED_CLOSE;
    }
    s->asking = true;
    buf_puts(out, "+ ");
    add_base64(out, octets, n);
    buf_puts(out, "\r\n");
    return NEED_LINE;
}

/* STLS (RFC 2595) */

enum need
phase_run_stls(struct session *s, struct buf *out)
{
    if (s->tls)
        return say_err(s, "this connection is encrypted already", out);
    if (!s->stls)
        return say_err(s, "TLS is not offered here", out);
    say_ok(s, "begin TLS", out);
    return NEED_TLS;
}

/* The counts of failures stay: they are not what the client said. */
void
session_secured(struct session *s)
{
    s->tls = true;
    s->named = s->utf8 = s->asking = false;
    s->name.len = 0;
    s->lang[0] = '\0';
}

/* UTF8 and LANG (RFC 6856) */

/* What changes is what names and passwords may be.  Messages do not: RFC 6856
 * lets a server refuse or rewrite one with 8-bit header fields for a client
 * that did not say UTF8; a refused one could never be fetched by such clients,
 * a rewritten one would be another message (sizes, signatures).  They get what
 * is stored, as they do from servers without UTF8. */
enum need
phase_run_utf8(struct session *s, struct buf *out)
{
    s->utf8 = true;
    return say_ok(s, "UTF-8 is taken", out);
}

static void
language_line(const char *tag, const char *name, struct buf *out)
{
    char line[REPLY_MAX];
    int n = snprintf(line, sizeof line, "%s %s", tag, name);

    reply_line(out, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static bool
is_site_language(const struct session *s, const char *tag)
{
    for (size_t i = 0; i < s->config->language_count; i++)
        if (language_is(tag, texts_slice(s->config->languages[i].tag)))
            return true;
    return false;
}

static enum need
list_languages(const struct session *s, struct buf *out)
{
    say_ok(s, "languages follow", out);
    if (!is_site_language(s, "en"))
        language_line("en", "English", out);
    for (size_t i = 0; i < s->config->language_count; i++)
        language_line(s->config->languages[i].tag, s->config->languages[i].name, out);
    language_line(LANGUAGE_DEFAULT, "English", out);
    reply_end(out);
    return NEED_LINE;
}

/* RFC 6856, section 3.1: the reply begins with the tag of the language that it
 * is in. */
static enum need
tell_language(const struct session *s, bool is_ok, const char *english, struct buf *out)
{
    char words[SAY_WORDS];
    struct slice values[2] = {texts_slice(session_lang(s)), say_words(s, english)};
    size_t n = texts_fill(words, sizeof words, texts_slice("%1 %2"), values, 2);

    reply_text(out, is_ok, NULL, 0, words, n);
    return NEED_LINE;
}

static enum need
set_language(struct session *s, const char *tag, struct buf *out)
{
    snprintf(s->lang, sizeof s->lang, "%s", tag);
    return tell_language(s, true, "language changed", out);
}

enum need
phase_run_lang(struct session *s, struct buf *out)
{
    static const struct language built_in = {.tag = "en"};
    struct slice range = s->command.name;
    const struct language *l;

    if (!range.at)
        return list_languages(s, out);
    if (language_is("*", range) || language_is(LANGUAGE_DEFAULT, range))
        return set_language(s, "", out);
    l = language_find(s->config->languages, s->config->language_count, range);
    if (!l)
        l = language_find(&built_in, 1, range);
    if (l)
        return set_language(s, l->tag, out);
    return tell_language(s, false, "there is no such language here; LANG lists those there are", out);
}

enum need
session_opened(struct session *s, struct buf *out)
{
    s->command.secret = (struct slice){0};
    phase_enter(s, SESSION_TRANSACTION);
    return phase_entered(s, out);
}

enum need
session_refused(struct session *s, const char *code, const char *text, size_t len, bool counts,
                unsigned *fault, struct buf *out)
{
    bool close = counts && phase_is_reached(s->failures + 1, s->config->max_failures);
    char words[SAY_WORDS];
    struct slice said = say_translated(s, (struct slice){text, len});
    unsigned found;

    s->command.secret = (struct slice){0};
    s->failures += counts;
    if (close)
        said = say_fill(s, "%1; too many failed logins, closing the connection", &said, 1, words);
    found = say_line(false, code, said, out);
    if (fault)
        *fault = found;
    return close ? NEED_CLOSE : NEED_LINE;
}

static void
tell(const struct session *s, enum verb verb, struct buf *lines)
{
    if (phase_has_verb(s, verb)) {
        buf_puts(lines, verb_name(verb));
        buf_puts(lines, "\n");
    }
}

/* RFC 2449, section 6.3; what is offered over this connection.  A site that
 * runs AUTH itself tells what it takes by its command's own line. */
static void
tell_sasl(const struct session *s, struct buf *lines)
{
    bool any = false, ours = phase_has_verb(s, VERB_AUTH) && !(s->config->own & VERB_BIT(VERB_AUTH));

    for (size_t i = 0; ours && i < s->config->mechanism_count; i++) {
        const struct session_mechanism *m = &s->config->mechanisms[i];

        if (!is_offered(s, m))
            continue;
        buf_puts(lines, any ? " " : "SASL ");
        buf_puts(lines, m->name);
        any = true;
    }
    if (any)
        buf_puts(lines, "\n");
}

/* RFC 2449, section 5: the same before and after the login, but for STLS,
 * which is told where it would be accepted (RFC 2595, section 4).  What the
 * UTF8 line says with USER is that names and passwords may be UTF-8. */
void
session_capa(const struct session *s, struct buf *lines)
{
    tell(s, VERB_TOP, lines);
    if (phase_has_verb(s, VERB_PASS) && phase_takes_plain(s))
        tell(s, VERB_USER, lines);
    tell_sasl(s, lines);
    if (phase_takes_stls(s))
        tell(s, VERB_STLS, lines);
    tell(s, VERB_UIDL, lines);
    if (phase_has_verb(s, VERB_UTF8))
        buf_puts(lines, "UTF8 USER\n");
    tell(s, VERB_LANG, lines);
    buf_puts(lines, "RESP-CODES\nAUTH-RESP-CODE\nPIPELINING\n");
    if (s->config->capa)
        buf_puts(lines, s->config->capa);
    buf_puts(lines, "IMPLEMENTATION popd-lua\n");
}

static void
reply_lines(struct buf *out, const char *lines, size_t len)
{
    const char *end = lines + len, *lf;

    for (; lines < end && (lf = memchr(lines, '\n', (size_t)(end - lines))); lines = lf + 1)
        reply_line(out, lines, (size_t)(lf - lines));
}

enum need
phase_run_capa(struct session *s, struct buf *out)
{
    struct buf lines = {0};

    if (s->config->capa_hook)
        return NEED_CAPA;
    say_ok(s, "capabilities follow", out);
    session_capa(s, &lines);
    if (lines.failed)
        out->failed = true;
    else
        reply_lines(out, lines.data, lines.len);
    reply_end(out);
    buf_clear(&lines);
    return NEED_LINE;
}
