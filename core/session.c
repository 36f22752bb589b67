#include "phases.h"

#include "digest.h"

#include <string.h>

#define IN(state) (1u << (state))
#define IN_AUTHORIZATION IN(SESSION_AUTHORIZATION)
#define IN_TRANSACTION IN(SESSION_TRANSACTION)

static run_command run_quit;

static const struct {
    unsigned states;
    run_command *run;
} commands[VERB_COUNT] = {
    [VERB_USER] = {IN_AUTHORIZATION, phase_run_user},
    [VERB_PASS] = {IN_AUTHORIZATION, phase_run_pass},
    [VERB_APOP] = {IN_AUTHORIZATION, phase_run_apop},
    [VERB_STAT] = {IN_TRANSACTION, phase_run_stat},
    [VERB_LIST] = {IN_TRANSACTION, phase_run_list},
    [VERB_RETR] = {IN_TRANSACTION, phase_run_retr},
    [VERB_DELE] = {IN_TRANSACTION, phase_run_dele},
    [VERB_NOOP] = {IN_TRANSACTION, phase_run_noop},
    [VERB_RSET] = {IN_TRANSACTION, phase_run_rset},
    [VERB_TOP] = {IN_TRANSACTION, phase_run_top},
    [VERB_UIDL] = {IN_TRANSACTION, phase_run_uidl},
    [VERB_QUIT] = {IN_AUTHORIZATION | IN_TRANSACTION, run_quit},
    [VERB_CAPA] = {IN_AUTHORIZATION | IN_TRANSACTION, phase_run_capa},
    [VERB_AUTH] = {IN_AUTHORIZATION, phase_run_auth},
    [VERB_STLS] = {IN_AUTHORIZATION, phase_run_stls},
    [VERB_UTF8] = {IN_AUTHORIZATION, phase_run_utf8},
    [VERB_LANG] = {IN_AUTHORIZATION | IN_TRANSACTION, phase_run_lang},
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

const char *
session_lang(const struct session *s)
{
    return s->lang[0] ? s->lang : LANGUAGE_DEFAULT;
}

enum need
session_unknown(struct session *s, struct buf *out)
{
    return phase_bad(s, "unknown command", out);
}

enum need
session_too_long(struct session *s, struct buf *out)
{
    if (s->state == SESSION_UPDATE)
        return NEED_CLOSE;
    return phase_bad(s, "the line is too long", out);
}

enum need
session_greet(struct session *s, const char *stamp, struct buf *out)
{
    s->apop = stamp != NULL;
    return s->apop ? say_fact(out, "POP3 server ready %s", stamp) : say_fact(out, "POP3 server ready");
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
        return phase_bad(s, s->state == SESSION_AUTHORIZATION ? "log in first" : "already logged in", out);
    if (s->command.verb == VERB_PASS && !s->named)
        return phase_bad(s, "say USER and your name directly before PASS", out);
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
    if (s->command.verb != VERB_OTHER && !phase_has_verb(s, s->command.verb))
        return session_unknown(s, out);
    if (is_own(s, status))
        return NEED_COMMAND;
    if (status == COMMAND_BAD)
        return phase_bad(s, why, out);
    return s->command.verb == VERB_OTHER ? session_unknown(s, out) : check_and_run(s, out);
}

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
        return phase_answer(s, line, len, out);
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
    bool may = s->state == SESSION_AUTHORIZATION && phase_has_verb(s, VERB_AUTH);
    bool is_auth = may && n > 4 && line[4] == ' ' && verb_find(line, 4) == VERB_AUTH;

    return (s->asking || is_auth) && limit < SESSION_ANSWER_MAX ? SESSION_ANSWER_MAX : limit;
}

/* No command asks twice: if it would, what it asked for was not set. */
enum need
session_resume(struct session *s, struct buf *out)
{
    enum need need = run(s, out);

    if (need != NEED_OCTETS && need != NEED_UIDS)
        return need;
    return say_temporary(s, "the maildrop cannot be read", out);
}

enum need
session_answer(struct session *s, bool is_ok, const char *code, const char *text, size_t len, unsigned *fault,
               struct buf *out)
{
    unsigned found = say_text(s, is_ok, code, text, len, out);

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

/* RFC 1939, section 6: UPDATE follows TRANSACTION only. */
static enum need
run_quit(struct session *s, struct buf *out)
{
    if (s->state == SESSION_TRANSACTION) {
        phase_enter(s, SESSION_UPDATE);
        return NEED_UPDATE;
    }
    say_ok(s, "bye", out);
    return NEED_CLOSE;
}

enum need
session_updated(struct session *s, const char *text, struct buf *out)
{
    if (text)
        say_temporary(s, text, out);
    else
        say_ok(s, "bye", out);
    return NEED_CLOSE;
}
