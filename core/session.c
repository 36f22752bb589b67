#include "session.h"

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
    run_top, run_uidl, run_quit, run_capa;

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

/* Appends "+OK text", printed. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static enum need
ok(struct buf *out, const char *format, ...)
{
    char text[REPLY_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reply_ok(out, text);
    return NEED_LINE;
}

static enum need
err(struct buf *out, const char *text)
{
    reply_err(out, NULL, text);
    return NEED_LINE;
}

/* -ERR, and the reason why the connection ends with it. */
static enum need
err_and_close(struct buf *out, const char *text, const char *reason)
{
    char line[REPLY_MAX];

    snprintf(line, sizeof line, "%s; %s, closing the connection", text, reason);
    reply_err(out, NULL, line);
    return NEED_CLOSE;
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
    s->named = false;
    if (is_reached(++s->bad, s->config->max_bad_commands))
        return err_and_close(out, why, "too many bad commands");
    return err(out, why);
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
    return s->apop ? ok(out, "POP3 server ready %s", stamp) : ok(out, "POP3 server ready");
}

static bool
has_verb(const struct session *s, enum verb verb)
{
    return !(s->config->off & VERB_BIT(verb)) && (verb != VERB_APOP || s->apop);
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

enum need
session_line(struct session *s, char *line, size_t len, struct buf *out)
{
    const char *why = NULL;
    enum command_status status;

    if (s->state == SESSION_UPDATE)
        return NEED_CLOSE;
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

/* Takes over the name that wants to enter. */
static void
set_name(struct session *s, enum login_kind kind, struct buf *out)
{
    s->kind = kind;
    s->name.len = 0;
    buf_add(&s->name, s->command.name.at, s->command.name.len);
    if (s->name.failed)
        out->failed = true;
}

/* The same whether there is such a user or not. */
static enum need
run_user(struct session *s, struct buf *out)
{
    if (s->no_plain)
        return err(out,
                   "passwords are not taken over a connection without encryption; use APOP, or connect from "
                   "the server itself or through a TLS proxy (plain_login)");
    set_name(s, LOGIN_USER, out);
    s->named = true;
    return ok(out, "now the password");
}

static enum need
run_pass(struct session *s, struct buf *out)
{
    (void)s, (void)out;
    return NEED_LOGIN;
}

static enum need
run_apop(struct session *s, struct buf *out)
{
    set_name(s, LOGIN_APOP, out);
    return NEED_LOGIN;
}

static enum need
ok_messages(const struct session *s, struct buf *out)
{
    const struct maildrop *m = &s->maildrop;

    if (m->kept_octets == MAILDROP_UNKNOWN)
        return ok(out, "%zu messages", m->kept);
    return ok(out, "%zu messages (%" PRIu64 " octets)", m->kept, m->kept_octets);
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
    struct buf words = {0};
    unsigned found;

    s->command.secret = (struct slice){0};
    s->failures += counts;
    buf_add(&words, text, len);
    if (close)
        buf_puts(&words, "; too many failed logins, closing the connection");
    found = reply_text(out, false, code, code ? strlen(code) : 0, words.data, words.len);
    out->failed |= words.failed;
    buf_clear(&words);
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
    reply_err(out, "SYS/TEMP", "the maildrop cannot be read");
    return NEED_LINE;
}

static enum need
no_such_message(struct buf *out)
{
    return err(out, "no such message");
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
    return ok(out, "%zu %" PRIu64, s->maildrop.kept, s->maildrop.kept_octets);
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
        return no_such_message(out);
    if (!is_sized(s))
        return ask(s, NEED_OCTETS, number);
    return ok(out, "%" PRIu64 " %" PRIu64, number, maildrop_octets(&s->maildrop, (size_t)number));
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
        return no_such_message(out);
    uid = maildrop_uid(&s->maildrop, (size_t)number, &len);
    if (!uid)
        return ask(s, NEED_UIDS, number);
    return ok(out, "%" PRIu64 " %.*s", number, (int)len, uid);
}

static enum need
run_uidl(struct session *s, struct buf *out)
{
    if (s->command.number)
        return uidl_one(s, out);
    if (s->maildrop.identified < s->maildrop.count)
        return ask(s, NEED_UIDS, 0);
    ok(out, "%s", "");
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
        return no_such_message(out);
    return ask(s, is_sized(s) ? NEED_MESSAGE : NEED_OCTETS, s->command.number);
}

/* Its size is not told, so it need not be known. */
static enum need
run_top(struct session *s, struct buf *out)
{
    if (!is_there(s))
        return no_such_message(out);
    return ask(s, NEED_MESSAGE, s->command.number);
}

enum need
session_sending(struct session *s, struct buf *out)
{
    if (s->command.verb == VERB_RETR)
        ok(out, "%" PRIu64 " octets", maildrop_octets(&s->maildrop, (size_t)s->number));
    else
        ok(out, "%s", "");
    return NEED_MESSAGE;
}

/* Where the total is told, it has to stay right: then the size is needed. */
static enum need
run_dele(struct session *s, struct buf *out)
{
    uint64_t number = s->command.number;

    if (s->no_dele)
        return err(out, "messages cannot be deleted here");
    if (!is_there(s))
        return no_such_message(out);
    if (s->maildrop.kept_octets != MAILDROP_UNKNOWN && !is_sized(s))
        return ask(s, NEED_OCTETS, number);
    maildrop_mark(&s->maildrop, number);
    return ok(out, "message %" PRIu64 " marked", number);
}

static enum need
run_noop(struct session *s, struct buf *out)
{
    (void)s;
    return ok(out, "%s", "");
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
    ok(out, "bye");
    return NEED_CLOSE;
}

enum need
session_updated(struct session *s, const char *text, struct buf *out)
{
    (void)s;
    if (text)
        reply_err(out, "SYS/TEMP", text);
    else
        ok(out, "bye");
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

/* RFC 2449, section 5: the same before and after the login. */
void
session_capa(const struct session *s, struct buf *lines)
{
    tell(s, VERB_TOP, lines);
    if (has_verb(s, VERB_PASS) && !s->no_plain)
        tell(s, VERB_USER, lines);
    tell(s, VERB_UIDL, lines);
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
    ok(out, "capabilities follow");
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
    unsigned found = reply_text(out, is_ok, code, code ? strlen(code) : 0, text, len);

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
