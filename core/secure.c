/* How a connection becomes a TLS one: at its start, or by STLS. */
#include "conn.h"

#include "log.h"
#include "tls.h"
#include "tlssite.h"

#include <stdio.h>
#include <string.h>

static bool shake(struct conn *c);

bool
secure_shakes(const struct conn *c)
{
    return c->next == shake;
}

/* One line in the log, and the end; the client gets the alert that says why. */
static bool
fail(struct conn *c)
{
    char why[TLS_WHY];

    tls_why(c->stream.tls, why);
    conn_log(c, LOG_WARNING, "a TLS handshake failed", "reason", why);
    stream_finish(&c->stream);
    conn_gone(c, "the TLS handshake failed");
    return true;
}

static bool
finish(struct conn *c)
{
    c->shaking_at = 0;
    c->active = loop_now();
    c->session.cert = tls_has_client(c->stream.tls);
    session_secured(&c->session);
    c->next = c->secured;
    return true;
}

static bool
shake(struct conn *c)
{
    switch (tls_handshake(c->stream.tls)) {
    case STREAM_OK:
        return finish(c);
    case STREAM_AGAIN:
        return false;
    default:
        return fail(c);
    }
}

/* The client speaks first; what it has said already gets a turn like what it says later. */
static bool
wait_for_hello(struct conn *c)
{
    c->next = shake;
    if (tls_has_more(c->stream.tls))
        turn_queue_long(&c->turn, c->host->loop);
    return false;
}

void
secure_begin(struct conn *c, bool (*then)(struct conn *))
{
    c->stream.tls = tls_new(c->site, c->stream.fd);
    if (!c->stream.tls || !tls_unread(c->stream.tls, c->in.data + c->in.start, c->in.end - c->in.start)) {
        conn_gone(c, "out of memory");
        return;
    }
    linebuf_drop(&c->in);
    linebuf_rest(&c->in);
    c->shaking_at = loop_now();
    c->secured = then;
    c->next = wait_for_hello;
}

/* RFC 2595, section 4: nothing that came in the clear outlives the handshake. */
static void
drop_plaintext(struct conn *c)
{
    size_t n = linebuf_drop(&c->in);
    char octets[24];

    if (n == 0)
        return;
    snprintf(octets, sizeof octets, "%zu", n);
    conn_log(c, LOG_WARNING, "what came in the clear behind STLS was dropped: somebody may have put it there",
             "octets", octets);
}

bool
secure_stls(struct conn *c)
{
    if (!conn_flush(c))
        return false;
    if (!c->gone)
        drop_plaintext(c);
    if (c->gone) /* the flush found that, or the log's function has ended it */
        return true;
    c->need = NEED_LINE;
    secure_begin(c, conn_serve);
    return true;
}
