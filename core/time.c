/* How long a client may take: for its login, its next command, a handshake, a reply. */
#include "conn.h"

#include "log.h"

/* What a client must take of a reply within write_timeout to go on: some tens
 * of octets a second, so that a trickle holds no lock for ever. */
#define TAKE_LEAST 4096

static double
sooner(double due, double from, double seconds)
{
    return seconds > 0 && (due == 0 || from + seconds < due) ? from + seconds : due;
}

/* When the client's time is up, as things stand; 0: never. */
static double
due(const struct conn *c)
{
    const struct conn_limits *limits = &c->host->limits;
    double at = 0;

    if (c->session.state == SESSION_AUTHORIZATION)
        at = sooner(at, c->since, limits->login_timeout);
    else if (!c->task && c->blocked_at == 0)
        at = sooner(at, c->active, limits->idle_timeout);
    if (c->shaking_at > 0)
        at = sooner(at, c->shaking_at, limits->handshake_timeout);
    if (c->blocked_at > 0)
        at = sooner(at, c->blocked_at, limits->write_timeout);
    return at;
}

void
time_watch(struct conn *c)
{
    double at = due(c), now;

    if (at == 0 || (c->alarm.link && c->alarm.due <= at))
        return; /* it rings too early at most, and is set again then */
    now = loop_now();
    alarm_set(&c->alarm, at > now ? at - now : 0);
}

void
time_is_up(void *owner)
{
    struct conn *c = owner;
    double at = due(c);

    if (at == 0 || at > loop_now() + 1e-6) {
        time_watch(c);
        return;
    }
    if (c->shaking_at > 0)
        conn_log(c, LOG_WARNING, "a TLS handshake failed", "reason", "it took too long");
    conn_gone(c, c->blocked_at > 0                           ? "the client does not take its reply"
                 : c->shaking_at > 0                         ? "no TLS handshake in time"
                 : c->session.state == SESSION_AUTHORIZATION ? "no login in time"
                                                             : "idle");
}

void
time_note_blocked(struct conn *c)
{
    if (!c->stuck)
        return;
    if (c->blocked_at > 0 && c->stream.bytes_out - c->blocked_mark < TAKE_LEAST)
        return;
    c->blocked_at = loop_now();
    c->blocked_mark = c->stream.bytes_out;
}
