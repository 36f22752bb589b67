/* A message on its way: what its source gives, as POP3 has it, into the queue. */
#include "conn.h"

#include "log.h"

_Static_assert(SOURCE_SHORT < CONN_PIECE, "a short file comes in one piece, and shows whether it is longer");

static bool
fail_message(struct conn *c, const char *why)
{
    if (steps_take_back(c)) {
        conn_log(c, LOG_ERROR, "a message cannot be read", "error", why);
        return true;
    }
    conn_log(c, LOG_ERROR,
             "a message cannot be read to its end; the connection is cut so that it does not look whole",
             "error", why);
    conn_gone(c, "a message failed midway");
    return true;
}

/* Whether the source gave nothing for too long: a pull may wait for its time,
 * but many that give nothing may not wait for ever. */
static bool
is_silent(struct conn *c)
{
    double limit = c->host->limits.callback.seconds;

    if (c->silent_since == 0)
        c->silent_since = loop_now();
    return limit > 0 && loop_now() - c->silent_since > limit;
}

static bool
feed(struct conn *c, const char *bytes, size_t n)
{
    char *room = outq_room(&c->out, DOTSTUFF_MAX(n) + DOTSTUFF_END_MAX, &c->host->spare);

    if (!room)
        return fail_message(c, "out of memory");
    outq_wrote(&c->out, dotstuff_feed(&c->dots, bytes, n, room));
    c->untaken = n > 0 ? 0 : c->untaken;
    c->spent += n;
    c->silent_since = 0;
    c->active = loop_now(); /* whoever waits for a slow disk is not idle */
    return true;
}

static bool
end_message(struct conn *c)
{
    char *room = outq_room(&c->out, DOTSTUFF_END_MAX, &c->host->spare);

    if (!room)
        return fail_message(c, "out of memory");
    outq_wrote(&c->out, dotstuff_end(&c->dots, room));
    c->untaken = 0;
    c->next = steps_sent;
    return true;
}

static void
on_fetched(void *owner)
{
    conn_wake(owner);
}

bool
send_pieces(struct conn *c)
{
    const char *bytes, *why = NULL;
    size_t got = 0;

    if (c->spent >= CONN_PIECE) { /* others first */
        turn_queue(&c->turn, c->host->loop);
        return false;
    }
    if (c->dots.done)
        return end_message(c);
    switch (source_next(c->source, c->host->piece, CONN_PIECE, &bytes, &got, &why)) {
    case SOURCE_BYTES:
        return feed(c, bytes, got);
    case SOURCE_AWAY: /* the disk's time is not the others' */
        return !source_fetch(c->source, c->host->files, CONN_PIECE, on_fetched, c);
    case SOURCE_END:
        return end_message(c);
    case SOURCE_PULL:
        if (is_silent(c)) {
            conn_end(c, false);
            return fail_message(c, "its function gave nothing for the time of callback_timeout");
        }
        c->spent += CONN_PIECE / 64; /* a source of empty chunks is no reason to starve others */
        return steps_pull(c);
    case SOURCE_OTHER:
        return steps_message_anew(c);
    case SOURCE_FAILED:
        break;
    }
    return fail_message(c, why);
}
