#include "conn.h"

#include "digest.h"
#include "log.h"
#include "proxyproto.h"
#include "say.h"
#include "reply.h"
#include "tls.h"
#include "tlssite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may come in before a login: some hundred commands, no flood. */
#define BEFORE_LOGIN_MAX 65536

static void conn_run(struct conn *c);

void
conn_log(const struct conn *c, int level, const char *text, const char *key, const char *value)
{
    char id[24], peer[NET_TEXT];

    snprintf(id, sizeof id, "%lld", (long long)c->id);
    net_address_text(&c->peer, peer);
    log_event((enum log_level)level, text, "conn", id, "peer", peer, key ? key : "user", key ? value : NULL,
              NULL);
}

void
conn_log_faults(const struct conn *c, unsigned faults)
{
    static const char *const texts[] = {
        "control octets in a script's reply were replaced",
        "a script's reply was longer than 512 octets and was cut",
        "a script's response code is not of RFC 2449's grammar and was left out",
    };

    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (faults & (1u << i))
            conn_log(c, LOG_WARNING, texts[i], "step", steps_name(c));
}

/* A handshake is a millisecond of computing. */
void
conn_wake(struct conn *c)
{
    if (c->running)
        return;
    if (secure_shakes(c))
        turn_queue_long(&c->turn, c->host->loop);
    else
        turn_queue(&c->turn, c->host->loop);
}

/* Replies */

struct buf *
conn_reply(struct conn *c)
{
    c->host->scratch.len = 0;
    c->host->scratch.failed = false;
    return &c->host->scratch;
}

void
conn_say(struct conn *c, enum need need)
{
    struct buf *reply = &c->host->scratch;

    c->need = need;
    if (c->gone)
        return;
    if (reply->failed || !outq_add(&c->out, reply->data, reply->len))
        conn_gone(c, "out of memory");
}

/* More of a message is about to come: what does not fill a batch may wait. */
static bool
has_more_to_say(const struct conn *c)
{
    return c->next == send_pieces && c->turn.link;
}

/* The first line of a message's reply waits for the first of its octets: until
 * then it can become another. */
static bool
has_nothing_to_send(const struct conn *c)
{
    return c->out.pending == c->untaken;
}

bool
conn_flush(struct conn *c)
{
    if (has_nothing_to_send(c) || c->gone)
        return true;
    switch (outq_flush(&c->out, &c->stream, c->untaken, has_more_to_say(c), &c->host->spare)) {
    case STREAM_OK:
        if (c->blocked_at > 0)
            c->active = loop_now();
        c->blocked_at = 0;
        c->stuck = false;
        return true;
    case STREAM_AGAIN:
        c->stuck = true;
        return false;
    default:
        conn_gone(c, errno == EPIPE || errno == ECONNRESET ? "the client left" : strerror(errno));
        return true;
    }
}

/* Reading */

static bool
read_proxy(struct conn *c)
{
    struct proxyproto header;
    char *bytes = c->in.data + c->in.start;
    size_t n = c->in.end - c->in.start, used = 0;

    switch (n ? proxyproto_parse(&header, bytes, n, &used) : PROXYPROTO_MORE) {
    case PROXYPROTO_MORE:
        if (c->eof)
            conn_gone(c, "the client left before its PROXY header");
        return c->eof;
    case PROXYPROTO_DONE:
        c->in.start += used;
        if (!header.local)
            net_address_set(&c->peer, header.v6, header.address, header.port);
        c->next = steps_begin;
        return true;
    case PROXYPROTO_BAD:
        break;
    }
    conn_log(c, LOG_WARNING,
             "no PROXY header came first; connections to this listener must come through the proxy", NULL,
             NULL);
    conn_gone(c, "no PROXY header");
    return true;
}

/* next: everything was said.  The last reply waits for the end, to leave with it. */
static bool
finish(struct conn *c)
{
    c->stream.ends = true;
    if (!conn_flush(c))
        return false;
    if (c->gone)
        return true;
    stream_finish(&c->stream);
    conn_gone(c, c->session.state == SESSION_UPDATE ? "quit" : c->eof ? "the client left" : "closed");
    return true;
}

/* A close that was asked for, or that the storage forces. */
static bool
say_close(struct conn *c)
{
    static const char lost[] = "the lock on the maildrop was lost; nothing was deleted";
    const struct session *s = &c->session;
    struct buf *reply = conn_reply(c), *text = c->close_text;

    if (c->lost)
        say_text(s, false, "SYS/TEMP", lost, sizeof lost - 1, reply);
    else if (c->untold)
        say_text(s, false, "SYS/TEMP", CONN_NEUTRAL, sizeof CONN_NEUTRAL - 1, reply);
    else if (text && text->len)
        conn_log_faults(c, say_text(s, false, NULL, text->data, text->len, reply));
    conn_say(c, NEED_CLOSE);
    return true;
}

static bool
no_line(struct conn *c)
{
    if (!c->eof)
        return false;
    /* What was cut off by the end of the input is never run; what was said
     * before is still delivered. */
    c->need = NEED_CLOSE;
    return true;
}

/* What belongs to a login by AUTH may be longer than other lines. */
static void
limit_line(struct conn *c)
{
    size_t n;
    const char *line = linebuf_peek(&c->in, &n);

    linebuf_limit(&c->in, session_line_max(&c->session, line, n, c->host->limits.line_limit));
}

/* What is unknown here may be a secret that came in the wrong place. */
static void
note_command(struct conn *c)
{
    const struct command *command = &c->session.command;
    bool own = c->need == NEED_COMMAND;

    if (command->verb == VERB_OTHER && !own)
        snprintf(c->command, sizeof c->command, "unknown");
    else if (command->verb == VERB_AUTH && c->need == NEED_LOGIN)
        snprintf(c->command, sizeof c->command, "AUTH %s", session_logon(&c->session));
    else
        command_show(command, own, c->command);
}

static void
take_line(struct conn *c, char *line, size_t len)
{
    bool is_answer = c->session.asking;

    c->active = loop_now();
    conn_say(c, session_line(&c->session, line, len, conn_reply(c)));
    if (!is_answer)
        note_command(c);
}

static bool
read_line(struct conn *c)
{
    char *line;
    size_t len;

    if (c->close_asked || c->lost)
        return say_close(c);
    limit_line(c);
    switch (linebuf_next(&c->in, &line, &len)) {
    case LINEBUF_NONE:
        return no_line(c);
    case LINEBUF_TOO_LONG:
        conn_say(c, session_too_long(&c->session, conn_reply(c)));
        break;
    case LINEBUF_READY:
        take_line(c, line, len);
        break;
    }
    return true;
}

static bool
say_more(struct conn *c)
{
    if (c->spent >= CONN_PIECE) { /* others first */
        turn_queue(&c->turn, c->host->loop);
        return false;
    }
    conn_say(c, session_more(&c->session, CONN_PIECE / 2, conn_reply(c)));
    c->spent += CONN_PIECE / 2;
    return true;
}

bool
conn_serve(struct conn *c)
{
    switch (c->need) {
    case NEED_LINE:
        return read_line(c);
    case NEED_MORE:
        return say_more(c);
    case NEED_CLOSE:
        return finish(c);
    case NEED_TLS:
        c->next = secure_stls;
        return true;
    default:
        return steps_serve(c);
    }
}

static bool
wants_line(const struct conn *c)
{
    return !c->task && c->next == conn_serve && c->need == NEED_LINE;
}

static bool
wants_input(const struct conn *c)
{
    if (secure_shakes(c))
        return !c->turn.link && !tls_wants_write(c->stream.tls);
    return !c->eof && !c->turn.link && c->out.pending < CONN_HIGH_WATER &&
           (wants_line(c) || c->next == read_proxy);
}

static void
take_input(struct conn *c)
{
    char *to = c->host->piece; /* the others' too: a connection holds what came, and no more */
    size_t room = linebuf_wants(&c->in), got;
    enum stream_status status;
    bool held;

    status = stream_read(&c->stream, to, room < CONN_PIECE ? room : CONN_PIECE, &got);
    held = linebuf_add(&c->in, to, got);
    if (got > 0 && to[got - 1] != '\n')
        stream_hurry(&c->stream);
    digest_wipe(to, got);
    c->eof = status == STREAM_EOF;
    if (!held || status == STREAM_ERROR)
        conn_gone(c, held ? strerror(errno) : "out of memory");
    else if (c->session.state == SESSION_AUTHORIZATION && c->stream.bytes_in > BEFORE_LOGIN_MAX)
        conn_gone(c, "too many octets before login");
    else
        conn_run(c);
}

static void
watch_for(struct conn *c, int events)
{
    struct ev_loop *ev = c->host->loop->ev;

    if (c->io.active && c->io.events == events)
        return;
    ev_io_stop(ev, &c->io);
    ev_io_modify(&c->io, events);
    if (events)
        ev_io_start(ev, &c->io);
}

/* What shakes hands may wait for many others to have their turn: it would be told of
 * in each iteration until then. */
static void
wait_for_turn(struct conn *c)
{
    conn_wake(c);
    watch_for(c, 0);
}

static void
on_io(struct ev_loop *ev, ev_io *io, int events)
{
    struct conn *c = io->data;

    (void)ev;
    c->spent = 0;
    if (secure_shakes(c))
        wait_for_turn(c);
    else if (events & EV_WRITE) /* what is to be read waits */
        conn_run(c);
    else
        take_input(c);
}

/* TLS may hold octets that the descriptor tells nothing of. */
static void
on_turn(void *owner)
{
    struct conn *c = owner;

    c->spent = 0;
    if (!c->gone && stream_has_more(&c->stream) && wants_input(c) && !secure_shakes(c))
        take_input(c);
    else
        conn_run(c);
}

static void
watch(struct conn *c)
{
    bool reads = wants_input(c);
    bool writes = c->stuck || (secure_shakes(c) && tls_wants_write(c->stream.tls));

    time_note_blocked(c);
    watch_for(c, (reads ? EV_READ : 0) | (writes ? EV_WRITE : 0));
    if (reads)
        linebuf_rest(&c->in);
    if (reads && !secure_shakes(c) && stream_has_more(&c->stream))
        conn_wake(c);
    time_watch(c);
}

/* Life */

/* Whatever was to come next: it may have been chosen after the end had come, by
 * somebody whose log line made a script end the connection. */
static void
wind_up_if_gone(struct conn *c)
{
    if (!c->gone || c->winding)
        return;
    c->winding = true;
    c->next = steps_wind_up;
}

static bool
step(struct conn *c)
{
    if (c->task)
        return false;
    if (c->step && !c->settled && !c->gone)
        conn_gone(c, "out of memory");
    if (!c->gone && c->out.pending >= CONN_HIGH_WATER && !conn_flush(c))
        return false;
    wind_up_if_gone(c);
    return c->next(c);
}

/* NULL: out of memory; then the client is not told. */
static struct buf *
make_close_text(const char *text, size_t len)
{
    struct buf *made = calloc(1, sizeof *made);

    if (made)
        buf_add(made, text, len);
    return made;
}

static void
free_close_text(struct conn *c)
{
    if (c->close_text)
        buf_clear(c->close_text);
    free(c->close_text);
}

static void
conn_free(struct conn *c)
{
    struct conn_host *host = c->host;

    alarm_stop(&c->alarm);
    steps_stop_renewing(c);
    turn_cancel(&c->turn, host->loop);
    session_clear(&c->session);
    linebuf_clear(&c->in);
    outq_clear(&c->out);
    free_close_text(c);
    stream_clear(&c->stream);
    tlssite_drop(c->site);
    host->gone(host->owner, c);
    free(c);
}

static void
conn_run(struct conn *c)
{
    if (c->running)
        return;
    c->running = true;
    c->stuck = false;
    while (!c->dead && step(c))
        ;
    /* Not again if it just refused: were all of it taken now, nothing would wake
     * what has stopped because of the refusal. */
    if (!c->stuck)
        conn_flush(c); /* replies to all that was pipelined leave together */
    while (!c->dead && c->gone && step(c))
        ; /* the flush found that the client is gone */
    c->running = false;
    if (c->dead)
        conn_free(c);
    else if (!c->gone)
        watch(c);
}

void
conn_gone(struct conn *c, const char *why)
{
    struct ev_loop *ev = c->host->loop->ev;

    if (c->gone)
        return;
    c->gone = why;
    ev_io_stop(ev, &c->io);
    alarm_stop(&c->alarm);
    steps_stop_renewing(c);
    outq_clear(&c->out);
    stream_close(&c->stream);
    conn_wake(c);
}

void
conn_ask_close(struct conn *c, const char *text, size_t len)
{
    c->close_asked = true;
    if (!c->close_text && len)
        c->close_text = make_close_text(text, len);
    conn_wake(c);
}

void
conn_end(struct conn *c, bool tell)
{
    c->ending = true;
    c->untold = c->untold || tell;
    conn_ask_close(c, "", 0);
}

void
conn_close(struct conn *c, const char *text, size_t len)
{
    if (c->session.state == SESSION_UPDATE)
        return; /* it closes by itself */
    if (wants_line(c))
        conn_ask_close(c, text, len);
    else
        conn_gone(c, "closed by the server");
}

void
conn_drop(struct conn *c)
{
    conn_gone(c, "the program ends");
    task_drop(c->task);
    task_drop(c->renewing);
    if (c->source)
        source_free(c->source); /* or Lua's collector does */
    conn_free(c);
}

struct conn *
conn_new(struct conn_host *host, lua_Integer id, int fd, const struct net_address *peer,
         const struct conn_entry *entry)
{
    struct conn *c = calloc(1, sizeof *c);
    struct stream stream;

    stream_open(&stream, fd);
    if (!c) {
        stream_close(&stream);
        return NULL;
    }
    c->host = host;
    c->id = id;
    c->peer = *peer;
    c->stream = stream;
    c->site = entry->site ? tlssite_hold(entry->site) : NULL;
    c->implicit = entry->implicit;
    c->mock = entry->mock;
    c->next = entry->proxied ? read_proxy : steps_begin;
    c->turn = (struct turn){.run = on_turn, .owner = c};
    c->since = c->active = loop_now();
    session_init(&c->session, &host->config);
    linebuf_init(&c->in, host->limits.line_limit);
    ev_io_init(&c->io, on_io, fd, EV_READ);
    c->io.data = c;
    alarm_init(&c->alarm, host->loop, time_is_up, c);
    if (!c->mock)
        conn_wake(c);
    return c;
}
