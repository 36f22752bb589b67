/* session: the first octet chooses what the server offers; each line that
 * follows is a client's, and every octet pair that a need asks for decides its
 * outcome.  Replies are well-formed, needs fit the state, totals are true. */
#include "../core/session.h"

#include "../core/base64.h"
#include "../core/digest.h"
#include "../core/reply.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

struct input {
    const uint8_t *at, *end;
};

static uint8_t
choose(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

/* The next line, in memory of its own and just that size. */
static char *
next_line(struct input *in, size_t *len)
{
    size_t left = (size_t)(in->end - in->at);
    const uint8_t *lf = left ? memchr(in->at, '\n', left) : NULL;
    char *line;

    *len = lf ? (size_t)(lf - in->at) : left;
    line = malloc(*len ? *len : 1);
    if (*len)
        memcpy(line, in->at, *len);
    in->at = lf ? lf + 1 : in->end;
    return line;
}

static void
set_sizes(struct session *s, struct input *in)
{
    size_t from = s->number ? (size_t)s->number : 1, to = s->number ? from : s->maildrop.count;

    for (size_t number = from; number <= to; number++)
        maildrop_set_octets(&s->maildrop, number, choose(in));
}

static void
set_uids(struct session *s, struct input *in)
{
    size_t from = s->number ? (size_t)s->number : 1, to = s->number ? from : s->maildrop.count;

    for (size_t number = from; number <= to; number++) {
        char uid[2] = {(char)choose(in), 'u'};

        maildrop_set_uid(&s->maildrop, number, uid, 2);
    }
}

/* Of any octets, and any length up to 255; sometimes longer than a reply. */
static enum need
ask_more(struct session *s, struct input *in, struct buf *out)
{
    size_t n = choose(in), left = (size_t)(in->end - in->at);
    enum need need;

    n = n < left ? n : left;
    need = session_challenge(s, (const char *)in->at, n, out);
    must(need == NEED_CLOSE || s->asking);
    must(need == NEED_CLOSE || (out->len == 4 + BASE64_TEXT(n) && memcmp(out->data, "+ ", 2) == 0));
    must(s->round <= SESSION_ROUNDS_MAX + 1);
    in->at += n;
    return need;
}

/* What the caller does once the secret was used. */
static void
wipe(const struct session *s)
{
    if (s->command.secret.at)
        digest_wipe((void *)(uintptr_t)s->command.secret.at, s->command.secret.len);
}

static enum need
log_in(struct session *s, struct input *in, struct buf *out)
{
    uint8_t how = choose(in);

    wipe(s);
    if (s->kind == LOGIN_SASL && how % 4 == 3)
        return ask_more(s, in, out);
    must(s->kind != LOGIN_SASL || session_set_name(s, "ann", 3));

    if (how % 4 == 0)
        return session_refused(s, how & 4 ? "AUTH" : NULL, "no", 2, how & 8, NULL, out);
    must(maildrop_open(&s->maildrop, how % MESSAGES_MAX, how & 64 ? choose(in) : MAILDROP_UNKNOWN));
    return session_opened(s, out);
}

static enum need
send_message(struct session *s, struct input *in, struct buf *out)
{
    must(maildrop_has(&s->maildrop, s->number));
    if (choose(in) % 4 == 0)
        return session_answer(s, false, "SYS/TEMP", "gone", 4, NULL, out);
    must(session_sending(s, out) == NEED_MESSAGE);
    return session_done(s);
}

static enum need
own_command(struct session *s, struct input *in, struct buf *out)
{
    char text[3] = {(char)choose(in), (char)choose(in), '\n'};

    if (text[0] == 'u')
        return session_unknown(s, out);
    return session_answer(s, text[0] & 1, text[1] & 1 ? "X" : NULL, text, sizeof text, NULL, out);
}

/* Its lines are the caller's; here it sends them as they are. */
static enum need
tell_capa(struct session *s, struct buf *out)
{
    session_capa(s, out);
    buf_clear(out);
    buf_puts(out, "+OK\r\n.\r\n");
    return session_done(s);
}

/* Meets one need. */
static enum need
meet(struct session *s, enum need need, struct input *in, struct buf *out)
{
    bool transaction = s->state == SESSION_TRANSACTION;

    switch (need) {
    case NEED_LOGIN:
        must(s->state == SESSION_AUTHORIZATION && !s->asking);
        must(s->kind == LOGIN_SASL ? s->mechanism[0] && s->name.len == 0
                                   : s->name.len > 0 && s->command.secret.len > 0);
        return log_in(s, in, out);
    case NEED_OCTETS:
        must(transaction && s->number <= s->maildrop.count);
        if (choose(in) % 8)
            set_sizes(s, in);
        return session_resume(s, out);
    case NEED_UIDS:
        must(transaction && s->number <= s->maildrop.count);
        if (choose(in) % 8)
            set_uids(s, in);
        return session_resume(s, out);
    case NEED_MESSAGE:
        must(transaction);
        return send_message(s, in, out);
    case NEED_MORE:
        must(transaction);
        return session_more(s, choose(in), out);
    case NEED_CAPA:
        must(s->config->capa_hook);
        return tell_capa(s, out);
    case NEED_COMMAND:
        return own_command(s, in, out);
    case NEED_TLS:
        must(s->stls && !s->tls && s->state == SESSION_AUTHORIZATION);
        s->cert = choose(in) & 1;
        session_secured(s);
        return NEED_LINE;
    case NEED_UPDATE:
        must(s->state == SESSION_UPDATE && out->len == 0);
        return session_updated(s, choose(in) & 1 ? "some messages were not removed" : NULL, out);
    default:
        abort();
    }
}

static void
check_status_line(const char *reply, size_t len)
{
    must(len <= REPLY_MAX);
    must((len >= 3 && memcmp(reply, "+OK", 3) == 0) || (len >= 4 && memcmp(reply, "-ERR", 4) == 0));
    for (size_t i = 0; i + 2 < len; i++)
        must((unsigned char)reply[i] >= 0x20 && reply[i] != 0x7f);
}

/* One status line; then nothing, or lines up to a lone dot. */
static void
check_reply(const struct buf *out)
{
    const char *at = out->data, *end = at + out->len;
    bool first = true, dot = false;

    must(!out->failed && out->len > 0);
    if (*at == '+' && at[1] == ' ')
        return; /* a challenge: checked when it was made */
    for (const char *lf; at < end; at = lf + 1, first = false) {
        lf = memchr(at, '\n', (size_t)(end - at));
        must(!dot && lf && lf > at && lf[-1] == '\r');
        if (first)
            check_status_line(at, (size_t)(lf + 1 - at));
        dot = !first && lf - at == 2 && *at == '.';
        must(first || dot || *at != '.' || at[1] == '.');
        must(lf + 1 < end || first || dot);
    }
}

static void
check_totals(const struct maildrop *m)
{
    size_t kept = 0, sized = 0, identified = 0;
    uint64_t octets = 0;

    for (size_t number = 1; number <= m->count; number++) {
        size_t len;
        bool has = maildrop_has(m, number), is_sized = maildrop_octets(m, number) != MAILDROP_UNKNOWN;

        kept += has;
        sized += is_sized;
        identified += maildrop_uid(m, number, &len) != NULL;
        octets += has && is_sized ? maildrop_octets(m, number) : 0;
    }
    must(kept == m->kept && sized == m->sized && identified == m->identified);
    must(sized < m->count || octets == m->kept_octets);
    must((maildrop_next_marked(m, 0) != 0) == (kept < m->count));
}

static bool
is_auth(const char *line, size_t len)
{
    return len > 4 && line[4] == ' ' && verb_find(line, 4) == VERB_AUTH;
}

/* A line that belongs to a login holds nothing of it once it was served: not
 * from where an answer begins, or what is behind AUTH's mechanism. */
static void
check_wiped(const char *line, size_t len, size_t from)
{
    while (from && from < len && line[from] != ' ' && line[from])
        from++;
    for (size_t i = from; i < len; i++)
        must(line[i] == '\0' || strchr(" \t*=", line[i]));
}

/* One line, up to the next need for one.  False: the session has ended. */
static bool
step(struct session *s, struct input *in)
{
    struct buf out = {0};
    bool answer = s->asking;
    size_t len;
    char *line = next_line(in, &len);
    bool login = answer || is_auth(line, len);
    bool too_long = len > session_line_max(s, line, len, 60);
    enum need need = too_long ? session_too_long(s, &out) : session_line(s, line, len, &out);

    must(!answer || need == NEED_LOGIN || !s->asking);

    for (int i = 0; need != NEED_LINE && need != NEED_CLOSE; i++) {
        must(i < 100);
        need = meet(s, need, in, &out);
    }
    check_reply(&out);
    check_totals(&s->maildrop);
    if (login && !too_long)
        check_wiped(line, len, answer ? 0 : 5);
    must(!s->lang[0] || strcmp(s->lang, "en") == 0 || strcmp(s->lang, "de-CH") == 0);
    must(need == NEED_CLOSE || s->state != SESSION_UPDATE);
    buf_clear(&out);
    free(line);
    return need == NEED_LINE;
}

static const struct session_mechanism mechanisms[] = {{.name = "X"},
                                                      {.name = "PLAIN", .plain = true},
                                                      {.name = "Y-PLUS", .tls = true},
                                                      {.name = "Z", .cert = true}};

/* Longer than a reply, of odd octets and places. */
static const struct text texts[] = {
    {{"no such message", 15}, {"%1%2%%9\xc3\xa4\r\n", 11}},
    {{"%1 messages (%2 octets)", 23}, {"%2 %1 %1", 8}},
    {{"unknown command", 15}, {"", 0}},
    {{"%1; too many bad commands, closing the connection", 49}, {"%1%1%1%1%1%1%1%1%1", 18}},
};

static const struct language languages[] = {
    {.tag = "de-CH", .name = "D", .texts = texts, .count = sizeof texts / sizeof texts[0]}};

/* What came with TLS, SASL and languages. */
static void
add_logins(struct session_config *config)
{
    config->mechanisms = mechanisms;
    config->mechanism_count = sizeof mechanisms / sizeof mechanisms[0];
    config->languages = languages;
    config->language_count = 1;
}

static void
choose_transport(struct session *s, uint8_t choice)
{
    s->stls = choice & 1;
    s->tls = choice & 2;
    s->cert = (choice & 6) == 6;
    s->no_plain = choice & 8;
}

static struct session_config
config_of(uint8_t choice)
{
    return (struct session_config){
        .off = choice & 1 ? VERB_BIT(VERB_TOP) | VERB_BIT(VERB_DELE) : 0,
        .own = choice & 2 ? VERB_BIT(VERB_STAT) | VERB_BIT(VERB_DELE) : 0,
        .commands = choice & 4,
        .capa_hook = choice & 8,
        .capa = choice & 16 ? "SASL PLAIN\n.X\n" : NULL,
        .max_failures = choice & 32 ? 2 : 0,
        .max_bad_commands = choice & 64 ? 3 : 0,
    };
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input in = {data, data + n};
    uint8_t choice = choose(&in);
    struct session_config config = config_of(choice);
    struct session s;
    struct buf out = {0};

    if (choice & 128)
        add_logins(&config);
    session_init(&s, &config);
    if (choice & 128)
        choose_transport(&s, choose(&in));
    must(session_greet(&s, choose(&in) & 1 ? "<1.2@example>" : NULL, &out) == NEED_LINE);
    check_reply(&out);
    buf_clear(&out);
    while (in.at < in.end && step(&s, &in))
        ;
    session_clear(&s);
    return 0;
}
