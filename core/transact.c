/* TRANSACTION: the commands about the maildrop. */
#include "phases.h"

#include "reply.h"

#include <inttypes.h>

enum need
phase_entered(const struct session *s, struct buf *out)
{
    const struct maildrop *m = &s->maildrop;

    if (m->kept_octets == MAILDROP_UNKNOWN)
        return say_numbers(s, "%1 messages", m->kept, 0, out);
    return say_numbers(s, "%1 messages (%2 octets)", m->kept, m->kept_octets, out);
}

/* number 0: of all messages. */
static enum need
ask(struct session *s, enum need need, uint64_t number)
{
    s->number = number;
    return need;
}

static enum need
no_such_message(const struct session *s, struct buf *out)
{
    return say_err(s, "no such message", out);
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

enum need
phase_run_stat(struct session *s, struct buf *out)
{
    if (s->maildrop.kept_octets == MAILDROP_UNKNOWN)
        return ask(s, NEED_OCTETS, 0);
    return say_fact(out, "%" PRIu32 " %" PRIu64, s->maildrop.kept, s->maildrop.kept_octets);
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
    return say_fact(out, "%" PRIu64 " %" PRIu64, number, maildrop_octets(&s->maildrop, (size_t)number));
}

enum need
phase_run_list(struct session *s, struct buf *out)
{
    if (s->command.number)
        return list_one(s, out);
    if (s->maildrop.sized < s->maildrop.count)
        return ask(s, NEED_OCTETS, 0);
    phase_entered(s, out);
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
    return say_fact(out, "%" PRIu64 " %.*s", number, (int)len, uid);
}

enum need
phase_run_uidl(struct session *s, struct buf *out)
{
    if (s->command.number)
        return uidl_one(s, out);
    if (s->maildrop.identified < s->maildrop.count)
        return ask(s, NEED_UIDS, 0);
    say_ok(s, "", out);
    return start_items(s);
}

static void
list_item(const struct maildrop *m, size_t number, struct buf *out)
{
    reply_pair(out, number, maildrop_octets(m, number));
}

#define AHEAD 8

static void
uidl_item(const struct maildrop *m, size_t number, struct buf *out)
{
    size_t len;
    const char *uid = maildrop_uid(m, number, &len);

    maildrop_expect(m, number + AHEAD);

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

enum need
phase_run_retr(struct session *s, struct buf *out)
{
    if (!is_there(s))
        return no_such_message(s, out);
    return ask(s, is_sized(s) ? NEED_MESSAGE : NEED_OCTETS, s->command.number);
}

/* Its size is not told, so it need not be known. */
enum need
phase_run_top(struct session *s, struct buf *out)
{
    if (!is_there(s))
        return no_such_message(s, out);
    return ask(s, NEED_MESSAGE, s->command.number);
}

enum need
session_sending(struct session *s, struct buf *out)
{
    if (s->command.verb == VERB_RETR)
        say_numbers(s, "%1 octets", maildrop_octets(&s->maildrop, (size_t)s->number), 0, out);
    else
        say_ok(s, "", out);
    return NEED_MESSAGE;
}

/* Where the total is told, it has to stay right: then the size is needed. */
enum need
phase_run_dele(struct session *s, struct buf *out)
{
    uint64_t number = s->command.number;

    if (s->no_dele)
        return say_err(s, "messages cannot be deleted here", out);
    if (!is_there(s))
        return no_such_message(s, out);
    if (s->maildrop.kept_octets != MAILDROP_UNKNOWN && !is_sized(s))
        return ask(s, NEED_OCTETS, number);
    maildrop_mark(&s->maildrop, number);
    return say_numbers(s, "message %1 marked", number, 0, out);
}

enum need
phase_run_noop(struct session *s, struct buf *out)
{
    return say_ok(s, "", out);
}

enum need
phase_run_rset(struct session *s, struct buf *out)
{
    maildrop_reset(&s->maildrop);
    return phase_entered(s, out);
}
