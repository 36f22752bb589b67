#include "session.h"

#include "base64.h"
#include "digest.h"
#include "reply.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define IN(state) (1u << (state))
#define IN_AUTHORIZATION IN(SESSION_AUTHORIZATION)
#define IN_TRANSACTION IN(SESSION_TRANSACTION)

typedef enum need run_command(struct session *s, struct buf *out);

static run_command run_user, run_pass, run_apop, run_stat, run_list, run_retr, run_dele, run_noop, run_rset,
    run_top, run_uidl, run_quit, run_capa, run_auth, run_stls, run_utf8, run_lang;

static const struct {
    unsigned states;
    run_command *run;
} commands[VERB_COUNT] = {
    [VERB_USER] = {IN_AUTHORIZATION, run_user},
    [VERB_PASS] = {IN_AUTHORIZATION, run_pass},
    [VERB_APOP] = {IN_AUTHORIZATION, run_apop},
    [VERB_STAT] = {IN_TRANSACTION, run_stat},
    [VERB_LIST] = {IN_TRANSACTION, run_list},
    [VERB_RETR] = {IN_TRANSACTION, run_retr},
    [VERB_DELE] = {IN_TRANSACTION, run_dele},
    [VERB_NOOP] = {IN_TRANSACTION, run_noop},
    [VERB_RSET] = {IN_TRANSACTION, run_rset},
    [VERB_TOP] = {IN_TRANSACTION, run_top},
    [VERB_UIDL] = {IN_TRANSACTION, run_uidl},
    [VERB_QUIT] = {IN_AUTHORIZATION | IN_TRANSACTION, run_quit},
    [VERB_CAPA] = {IN_AUTHORIZATION | IN_TRANSACTION, run_capa},
    [VERB_AUTH] = {IN_AUTHORIZATION, run_auth},
    [VERB_STLS] = {IN_AUTHORIZATION, run_stls},
    [VERB_UTF8] = {IN_AUTHORIZATION, run_utf8},
    [VERB_LANG] = {IN_AUTHORIZATION | IN_TRANSACTION, run_lang},
};

void
session_init(struct session *s, const struct session_config *config)
{
    *s = (struct session){.config = config};
}

void
session_clear(struct session *s)
{
    buf_clear(&s->name);
    maildrop_clear(&s->maildrop);
    s->command = (struct command){0};
}

/* The one place where the state changes (RFC 1939, section 3). */
static void
enter(struct session *s, enum session_state state)
{
    s->state = state;
    s->named = false;
}

/* Replies */

const char *
session_lang(const struct session *s)
{
    return s->lang[0] ? s->lang : LANGUAGE_DEFAULT;
}

/* Looked up at each reply: the config may have changed since LANG. */
static struct slice
translate(const struct session *s, struct slice english)
{
    const struct session_config *config = s->config;
    const struct language *l = NULL;

    if (s->lang[0])
        l = language_find(config->languages, config->language_count, texts_slice(s->lang));
    return language_text(l, english);
}

static struct slice
text_of(const struct session *s, const char *english)
{
    return translate(s, texts_slice(english));
}

static unsigned
say(bool is_ok, const char *code, struct slice text, struct buf *out)
{
    return reply_text(out, is_ok, code, code ? strlen(code) : 0, text.at, text.len);
}

unsigned
session_say(const struct session *s, bool is_ok, const char *code, const char *text, size_t len,
            struct buf *out)
{
    return say(is_ok, code, translate(s, (struct slice){text, len}), out);
}

/* Fills a text's places, after the translation; `words` has REPLY_WORDS. */
#define REPLY_WORDS (2 * REPLY_MAX) /* more than is told, so that the cut is made where it is made well */

static struct slice
fill(const struct session *s, const char *english, const struct slice *values, size_t n, char *words)
{
    return (struct slice){words, texts_fill(words, REPLY_WORDS, text_of(s, english), values, n)};
}

static enum need
ok(const struct session *s, const char *english, struct buf *out)
{
    say(true, NULL, text_of(s, english), out);
    return NEED_LINE;
}

static enum need
err(const struct session *s, const char *english, struct buf *out)
{
    say(false, NULL, text_of(s, english), out);
    return NEED_LINE;
}

static enum need
err_temporary(const struct session *s, const char *english, struct buf *out)
{
    say(false, "SYS/TEMP", text_of(s, english), out);
    return NEED_LINE;
}

/* +OK with numbers in the places of the text. */
static enum need
ok_numbers(const struct session *s, const char *english, uint64_t first, uint64_t second, struct buf *out)
{
    char words[REPLY_WORDS], a[24], b[24];
    struct slice values[2];

    snprintf(a, sizeof a, "%" PRIu64, first);
    snprintf(b, sizeof b, "%" PRIu64, second);
    values[0] = texts_slice(a);
    values[1] = texts_slice(b);
    say(true, NULL, fill(s, english, values, 2, words), out);
    return NEED_LINE;
}

/* What programs read: the same in every language. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static enum need
ok_fact(struct buf *out, const char *format, ...)
{
    char text[REPLY_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reply_ok(out, text);
    return NEED_LINE;
}

static bool
is_reached(unsigned count, unsigned max)
{
    return max && count >= max;
}

/* A command that cannot be run as it stands. */
static enum need
bad(struct session *s, const char *why, struct buf *out)
{
    char words[REPLY_WORDS];
    struct slice reason;

    s->named = false;
    s->asking = false;
    if (!is_reached(++s->bad, s->config->max_bad_commands))
        return err(s, why, out);
    reason = text_of(s, why);
    say(false, NULL, fill(s, "%1; too many bad commands, closing the connection", &reason, 1, words), out);
    return NEED_CLOSE;
}

enum need
session_unknown(struct session *s, struct buf *out)
{
    return bad(s, "unknown command", out);
}

enum need
session_too_long(struct session *s, struct buf *out)
{
    if (s->state == SESSION_UPDATE)
        return NEED_CLOSE;
    return bad(s, "the line is too long", out);
}

enum need
session_greet(struct session *s, const char *stamp, struct buf *out)
{
    s->apop = stamp != NULL;
    return s->apop ? ok_fact(out, "POP3 server ready %s", stamp) : ok_fact(out, "POP3 server ready");
}

static bool
has_verb(const struct session *s, enum verb verb)
{
    if (s->config->off & VERB_BIT(verb))
        return false;
    if (s->config->own & VERB_BIT(verb))
        return true; /* whatever the core itself could do */
    return verb == VERB_APOP ? s->apop : verb != VERB_AUTH || s->config->mechanism_count > 0;
}

/* Whether STLS would be accepted now (RFC 2595, section 4). */
static bool
takes_stls(const struct session *s)
{
    return s->stls && !s->tls && s->state == SESSION_AUTHORIZATION && has_verb(s, VERB_STLS);
}

/* Whether a password may come as it is. */
static bool
takes_plain(const struct session *s)
{
    return s->tls || !s->no_plain;
}

/* Whether the site runs it.  What it takes as arguments is its own affair. */
static bool
is_own(const struct session *s, enum command_status status)
{
    const struct command *c = &s->command;

    if (c->verb == VERB_OTHER)
        return s->config->commands && status == COMMAND_OK;
    return (s->config->own & VERB_BIT(c->verb)) && !memchr(c->args.at, '\0', c->args.len);
}

static enum need
run(struct session *s, struct buf *out)
{
    return commands[s->command.verb].run(s, out);
}

static enum need
check_and_run(struct session *s, struct buf *out)
{
    if (!(commands[s->command.verb].states & IN(s->state)))
        return bad(s, s->state == SESSION_AUTHORIZATION ? "log in first" : "already logged in", out);
    if (s->command.verb == VERB_PASS && !s->named)
        return bad(s, "say USER and your name directly before PASS", out);
    s->bad = 0;
    s->named = false;
    return run(s, out);
}

static enum need
serve_line(struct session *s, char *line, size_t len, struct buf *out)
{
    const char *why = NULL;
    enum command_status status;

    status = command_parse(&s->command, line, len, &why);
    /* RFC 1939, section 7: PASS is only for the line directly behind USER. */
    s->named = s->named && s->command.verb == VERB_PASS;
    if (s->command.verb != VERB_OTHER && !has_verb(s, s->command.verb))
        return session_unknown(s, out);
    if (is_own(s, status))
        return NEED_COMMAND;
    if (status == COMMAND_BAD)
        return bad(s, why, out);
    return s->command.verb == VERB_OTHER ? session_unknown(s, out) : check_and_run(s, out);
}

static enum need take_answer(struct session *s, char *line, size_t len, struct buf *out);

/* Whether the caller is to use this line's secret: then it wipes it. */
static bool
is_for_caller(enum need need)
{
    return need == NEED_LOGIN || need == NEED_COMMAND;
}

enum need
session_line(struct session *s, char *line, size_t len, struct buf *out)
{
    enum need need;

    if (s->state == SESSION_UPDATE)
        return NEED_CLOSE;
    if (s->asking)
        return take_answer(s, line, len, out);
    need = serve_line(s, line, len, out);
    if ((s->command.verb == VERB_AUTH || s->command.verb == VERB_PASS) && !is_for_caller(need)) {
        digest_wipe(line, len);
        s->command = (struct command){.verb = s->command.verb};
    }
    return need;
}

size_t
session_line_max(const struct session *s, const char *line, size_t n, size_t limit)
{
    bool may = s->state == SESSION_AUTHORIZATION && has_verb(s, VERB_AUTH);
    bool is_auth = may && n > 4 && line[4] == ' ' && verb_find(line, 4) == VERB_AUTH;

    return (s->asking || is_auth) && limit < SESSION_ANSWER_MAX ? SESSION_ANSWER_MAX : limit;
}

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
    return err(s, "names and passwords must be UTF-8 after UTF8", out);
}

static enum need
no_plain(const struct session *s, struct buf *out)
{
    if (takes_stls(s))
        return err(s, "passwords are not taken over a connection without encryption; say STLS first", out);
    return err(s,
               "passwords are not taken over a connection without encryption; use APOP, or connect from the "
               "server itself or through a TLS proxy (plain_login)",
               out);
}

/* The same whether there is such a user or not. */
static enum need
run_user(struct session *s, struct buf *out)
{
    if (!takes_plain(s))
        return no_plain(s, out);
    if (!is_text(s, s->command.name))
        return no_text(s, out);
    set_name(s, LOGIN_USER, out);
    s->named = true;
    return ok(s, "now the password", out);
}

static enum need
run_pass(struct session *s, struct buf *out)
{
    return is_text(s, s->command.secret) ? NEED_LOGIN : no_text(s, out);
}

static enum need
run_apop(struct session *s, struct buf *out)
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
    return (takes_plain(s) || !m->plain) && (s->tls || !m->tls) && (s->cert || !m->cert);
}

static enum need
list_mechanisms(const struct session *s, struct buf *out)
{
    ok(s, "mechanisms follow", out);
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
        return err(s, "there is no such mechanism here; AUTH lists those there are", out);
    if (s->tls || (!m->tls && takes_plain(s)))
        return err(s, "this mechanism needs a client certificate", out);
    return err(s,
               takes_stls(s) ? "this mechanism needs encryption; say STLS first"
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

static enum need
run_auth(struct session *s, struct buf *out)
{
    struct slice *response = &s->command.secret;
    const struct session_mechanism *m;

    if (!s->command.name.at)
        return list_mechanisms(s, out);
    m = find_mechanism(s, s->command.name);
    if (!m || !is_offered(s, m))
        return not_offered(s, m, out);
    if (response->at && !decode_initial(response))
        return bad(s, "this is not base64; the login is cancelled", out);
    return begin_exchange(s, m);
}

/* Not counted as a failed login: nobody was refused. */
static enum need
cancel(struct session *s, struct buf *out)
{
    return err(s, "the login is cancelled, as asked for", out);
}

static enum need
take_answer(struct session *s, char *line, size_t len, struct buf *out)
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
    return bad(s, "this is not base64; the login is cancelled", out);
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
        err(s, "this login takes too many steps", out);
        return NEED_CLOSE;
    }
    s->asking = true;
    buf_puts(out, "+ ");
    add_base64(out, octets, n);
    buf_puts(out, "\r\n");
    return NEED_LINE;
}

/* STLS (RFC 2595) */

static enum need
run_stls(struct session *s, struct buf *out)
{
    if (s->tls)
        return err(s, "this connection is encrypted already", out);
    if (!s->stls)
        return err(s, "TLS is not offered here", out);
    ok(s, "begin TLS", out);
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
static enum need
run_utf8(struct session *s, struct buf *out)
{
    s->utf8 = true;
    return ok(s, "UTF-8 is taken", out);
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
    ok(s, "languages follow", out);
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
    char words[REPLY_WORDS];
    struct slice values[2] = {texts_slice(session_lang(s)), text_of(s, english)};
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

static enum need
run_lang(struct session *s, struct buf *out)
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

/* The maildrop */

static enum need
ok_messages(const struct session *s, struct buf *out)
{
    const struct maildrop *m = &s->maildrop;

    if (m->kept_octets == MAILDROP_UNKNOWN)
        return ok_numbers(s, "%1 messages", m->kept, 0, out);
    return ok_numbers(s, "%1 messages (%2 octets)", m->kept, m->kept_octets, out);
}

enum need
session_opened(struct session *s, struct buf *out)
{
    s->command.secret = (struct slice){0};
    enter(s, SESSION_TRANSACTION);
    return ok_messages(s, out);
}

enum need
session_refused(struct session *s, const char *code, const char *text, size_t len, bool counts,
                unsigned *fault, struct buf *out)
{
    bool close = counts && is_reached(s->failures + 1, s->config->max_failures);
    char words[REPLY_WORDS];
    struct slice said = translate(s, (struct slice){text, len});
    unsigned found;

    s->command.secret = (struct slice){0};
    s->failures += counts;
    if (close)
        said = fill(s, "%1; too many failed logins, closing the connection", &said, 1, words);
    found = say(false, code, said, out);
    if (fault)
        *fault = found;
    return close ? NEED_CLOSE : NEED_LINE;
}

/* number 0: of all messages. */
static enum need
ask(struct session *s, enum need need, uint64_t number)
{
    s->number = number;
    return need;
}

/* No command asks twice: if it would, what it asked for was not set. */
enum need
session_resume(struct session *s, struct buf *out)
{
    enum need need = run(s, out);

    if (need != NEED_OCTETS && need != NEED_UIDS)
        return need;
    return err_temporary(s, "the maildrop cannot be read", out);
}

static enum need
no_such_message(const struct session *s, struct buf *out)
{
    return err(s, "no such message", out);
}

static bool
is_there(const struct session *s)
{
    return maildrop_has(&s->maildrop, s->command.number);
}

static bool
is_sized(const struct session *s)
{
    return maildrop_octets(&s->maildrop, (size_t)s->command.number) != MAILDROP_UNKNOWN;
}

static enum need
run_stat(struct session *s, struct buf *out)
{
    if (s->maildrop.kept_octets == MAILDROP_UNKNOWN)
        return ask(s, NEED_OCTETS, 0);
    return ok_fact(out, "%zu %" PRIu64, s->maildrop.kept, s->maildrop.kept_octets);
}

static enum need
start_items(struct session *s)
{
    s->cursor = 0;
    return NEED_MORE;
}

static enum need
list_one(struct session *s, struct buf *out)
{
    uint64_t number = s->command.number;

    if (!is_there(s))
        return no_such_message(s, out);
    if (!is_sized(s))
        return ask(s, NEED_OCTETS, number);
    return ok_fact(out, "%" PRIu64 " %" PRIu64, number, maildrop_octets(&s->maildrop, (size_t)number));
}

static enum need
run_list(struct session *s, struct buf *out)
{
    if (s->command.number)
        return list_one(s, out);
    if (s->maildrop.sized < s->maildrop.count)
        return ask(s, NEED_OCTETS, 0);
    ok_messages(s, out);
    return start_items(s);
}

static enum need
uidl_one(struct session *s, struct buf *out)
{
    uint64_t number = s->command.number;
    const char *uid;
    size_t len;

    if (!is_there(s))
        return no_such_message(s, out);
    uid = maildrop_uid(&s->maildrop, (size_t)number, &len);
    if (!uid)
        return ask(s, NEED_UIDS, number);
    return ok_fact(out, "%" PRIu64 " %.*s", number, (int)len, uid);
}

static enum need
run_uidl(struct session *s, struct buf *out)
{
    if (s->command.number)
        return uidl_one(s, out);
    if (s->maildrop.identified < s->maildrop.count)
        return ask(s, NEED_UIDS, 0);
    ok(s, "", out);
    return start_items(s);
}

static void
list_item(const struct maildrop *m, size_t number, struct buf *out)
{
    char octets[24];
    int len = snprintf(octets, sizeof octets, "%" PRIu64, maildrop_octets(m, number));

    reply_item(out, number, octets, (size_t)len);
}

static void
uidl_item(const struct maildrop *m, size_t number, struct buf *out)
{
    size_t len;
    const char *uid = maildrop_uid(m, number, &len);

    if (uid)
        reply_item(out, number, uid, len);
}

enum need
session_more(struct session *s, size_t room, struct buf *out)
{
    void (*item)(const struct maildrop *, size_t, struct buf *) =
        s->command.verb == VERB_LIST ? list_item : uidl_item;
    size_t start = out->len;

    while (s->cursor < s->maildrop.count) {
        if (maildrop_has(&s->maildrop, ++s->cursor))
            item(&s->maildrop, (size_t)s->cursor, out);
        if (out->len - start >= room)
            return NEED_MORE;
    }
    reply_end(out);
    return NEED_LINE;
}

static enum need
run_retr(struct session *s, struct buf *out)
{
    if (!is_there(s))
        return no_such_message(s, out);
    return ask(s, is_sized(s) ? NEED_MESSAGE : NEED_OCTETS, s->command.number);
}

/* Its size is not told, so it need not be known. */
static enum need
run_top(struct session *s, struct buf *out)
{
    if (!is_there(s))
        return no_such_message(s, out);
    return ask(s, NEED_MESSAGE, s->command.number);
}

enum need
session_sending(struct session *s, struct buf *out)
{
    if (s->command.verb == VERB_RETR)
        ok_numbers(s, "%1 octets", maildrop_octets(&s->maildrop, (size_t)s->number), 0, out);
    else
        ok(s, "", out);
    return NEED_MESSAGE;
}

/* Where the total is told, it has to stay right: then the size is needed. */
static enum need
run_dele(struct session *s, struct buf *out)
{
    uint64_t number = s->command.number;

    if (s->no_dele)
        return err(s, "messages cannot be deleted here", out);
    if (!is_there(s))
        return no_such_message(s, out);
    if (s->maildrop.kept_octets != MAILDROP_UNKNOWN && !is_sized(s))
        return ask(s, NEED_OCTETS, number);
    maildrop_mark(&s->maildrop, number);
    return ok_numbers(s, "message %1 marked", number, 0, out);
}

static enum need
run_noop(struct session *s, struct buf *out)
{
    return ok(s, "", out);
}

static enum need
run_rset(struct session *s, struct buf *out)
{
    maildrop_reset(&s->maildrop);
    return ok_messages(s, out);
}

/* RFC 1939, section 6: UPDATE follows TRANSACTION only. */
static enum need
run_quit(struct session *s, struct buf *out)
{
    if (s->state == SESSION_TRANSACTION) {
        enter(s, SESSION_UPDATE);
        return NEED_UPDATE;
    }
    ok(s, "bye", out);
    return NEED_CLOSE;
}

enum need
session_updated(struct session *s, const char *text, struct buf *out)
{
    if (text)
        err_temporary(s, text, out);
    else
        ok(s, "bye", out);
    return NEED_CLOSE;
}

static void
tell(const struct session *s, enum verb verb, struct buf *lines)
{
    if (has_verb(s, verb)) {
        buf_puts(lines, verb_name(verb));
        buf_puts(lines, "\n");
    }
}

/* RFC 2449, section 6.3; what is offered over this connection.  A site that
 * runs AUTH itself tells what it takes by its command's own line. */
static void
tell_sasl(const struct session *s, struct buf *lines)
{
    bool any = false, ours = has_verb(s, VERB_AUTH) && !(s->config->own & VERB_BIT(VERB_AUTH));

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
    if (has_verb(s, VERB_PASS) && takes_plain(s))
        tell(s, VERB_USER, lines);
    tell_sasl(s, lines);
    if (takes_stls(s))
        tell(s, VERB_STLS, lines);
    tell(s, VERB_UIDL, lines);
    if (has_verb(s, VERB_UTF8))
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

static enum need
run_capa(struct session *s, struct buf *out)
{
    struct buf lines = {0};

    if (s->config->capa_hook)
        return NEED_CAPA;
    ok(s, "capabilities follow", out);
    session_capa(s, &lines);
    if (lines.failed)
        out->failed = true;
    else
        reply_lines(out, lines.data, lines.len);
    reply_end(out);
    buf_clear(&lines);
    return NEED_LINE;
}

enum need
session_answer(struct session *s, bool is_ok, const char *code, const char *text, size_t len, unsigned *fault,
               struct buf *out)
{
    unsigned found = session_say(s, is_ok, code, text, len, out);

    if (fault)
        *fault = found;
    return session_done(s);
}

enum need
session_done(struct session *s)
{
    s->bad = 0;
    return NEED_LINE;
}
