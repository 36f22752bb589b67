#include "maildrop.h"

#include <stdlib.h>
#include <string.h>

bool
maildrop_open(struct maildrop *m, size_t count, uint64_t total)
{
    maildrop_clear(m);
    if (count > UINT32_MAX)
        return false;
    m->messages = count ? calloc(count, sizeof *m->messages) : NULL;
    if (count && !m->messages)
        return false;
    for (size_t i = 0; i < count; i++)
        m->messages[i].octets = MAILDROP_UNKNOWN;
    m->count = m->kept = (uint32_t)count;
    m->kept_octets = count ? total : 0;
    return true;
}

void
maildrop_clear(struct maildrop *m)
{
    free(m->messages);
    buf_clear(&m->uids);
    mailnames_drop(m->names);
    *m = (struct maildrop){0};
}

static bool
exists(const struct maildrop *m, uint64_t number)
{
    return number >= 1 && number <= m->count;
}

bool
maildrop_has(const struct maildrop *m, uint64_t number)
{
    return exists(m, number) && !m->messages[number - 1].deleted;
}

/* Every size is known: kept_octets is their sum.  False: another was told. */
static bool
settle(struct maildrop *m)
{
    uint64_t told = m->kept_octets, sum = 0;

    for (size_t i = 0; i < m->count; i++)
        if (!m->messages[i].deleted)
            sum += m->messages[i].octets;
    m->kept_octets = sum;
    return told == MAILDROP_UNKNOWN || told == sum;
}

/* A size that was known is another now. */
static void
correct(struct maildrop *m, const struct maildrop_message *message, uint64_t old)
{
    if (m->sized == m->count)
        m->kept_octets += message->deleted ? 0 : message->octets - old;
    else if (message->deleted)
        m->kept_octets = MAILDROP_UNKNOWN; /* a wrong size was taken off it */
}

bool
maildrop_set_octets(struct maildrop *m, size_t number, uint64_t octets)
{
    struct maildrop_message *message = exists(m, number) ? &m->messages[number - 1] : NULL;
    uint64_t old;

    if (!message || octets == MAILDROP_UNKNOWN)
        return true;
    old = message->octets;
    message->octets = octets;
    if (old != MAILDROP_UNKNOWN) {
        correct(m, message, old);
        return true;
    }
    return ++m->sized < m->count || settle(m);
}

uint64_t
maildrop_octets(const struct maildrop *m, size_t number)
{
    return exists(m, number) ? m->messages[number - 1].octets : MAILDROP_UNKNOWN;
}

/* RFC 1939, section 7: 1 to 70 octets from 0x21 to 0x7E. */
static bool
uid_ok(const char *uid, size_t len)
{
    if (len < 1 || len > UNIQUE_ID_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (uid[i] < 0x21 || uid[i] > 0x7e)
            return false;
    return true;
}

bool
maildrop_set_uid(struct maildrop *m, size_t number, const char *uid, size_t len)
{
    size_t offset = m->uids.len;
    struct maildrop_message *message;

    if (!exists(m, number) || m->names || !uid_ok(uid, len) || offset >= UINT32_MAX)
        return false;
    buf_add(&m->uids, uid, len);
    if (m->uids.failed)
        return false;
    message = &m->messages[number - 1];
    m->identified += message->uid == 0;
    message->uid = (uint32_t)offset + 1;
    message->uid_len = (uint8_t)len;
    return true;
}

const char *
maildrop_uid(const struct maildrop *m, size_t number, size_t *len)
{
    const struct maildrop_message *message = exists(m, number) ? &m->messages[number - 1] : NULL;

    if (!message || !message->uid)
        return NULL;
    *len = message->uid_len;
    return (m->names ? m->names->text.data : m->uids.data) + (message->uid - 1);
}

/* Names of a Maildir lie in the order of its directory, which is none. */
void
maildrop_expect(const struct maildrop *m, size_t number)
{
    size_t len;
    const char *uid = maildrop_uid(m, number, &len);

    if (!uid)
        return;
    __builtin_prefetch(uid);
    __builtin_prefetch(uid + len);
}

bool
maildrop_take_sizes(struct maildrop *m, const struct mailnames *names)
{
    for (size_t i = 0; i < m->count && i < names->count; i++) {
        const struct mailname *row = &names->rows[i];

        if (!mailname_is_known(row) || m->messages[i].octets != MAILDROP_UNKNOWN)
            continue;
        m->messages[i].octets = mailsize_sent(row->size);
        m->sized++;
    }
    return m->sized < m->count || settle(m);
}

/* A list's unique-ids are good: it hashes those that are not. */
void
maildrop_take_uids(struct maildrop *m, struct mailnames *names)
{
    if (m->names || m->uids.len || names->count < m->count)
        return;
    mailnames_hold(names);
    m->names = names;
    for (size_t i = 0; i < m->count; i++) {
        m->messages[i].uid = (uint32_t)mailname_uid_at(&names->rows[i]) + 1;
        m->messages[i].uid_len = names->rows[i].uid_len;
    }
    m->identified = m->count;
}

/* Takes a size off the total.  A total that was told and is too small for it
 * cannot be true: it becomes unknown, not a number below zero. */
static void
take_off(struct maildrop *m, uint64_t octets)
{
    if (m->kept_octets == MAILDROP_UNKNOWN)
        return;
    if (octets == MAILDROP_UNKNOWN || (m->sized < m->count && octets > m->kept_octets))
        m->kept_octets = MAILDROP_UNKNOWN;
    else
        m->kept_octets -= octets;
}

bool
maildrop_mark(struct maildrop *m, uint64_t number)
{
    if (!maildrop_has(m, number))
        return false;
    m->messages[number - 1].deleted = true;
    m->kept--;
    take_off(m, m->messages[number - 1].octets);
    return true;
}

/* A known total with a marked message of unknown size is not possible: marking
 * it made the total unknown, until every size was known. */
static void
unmark(struct maildrop *m, struct maildrop_message *message)
{
    message->deleted = false;
    m->kept++;
    if (m->kept_octets != MAILDROP_UNKNOWN)
        m->kept_octets += message->octets;
}

bool
maildrop_unmark(struct maildrop *m, uint64_t number)
{
    if (!exists(m, number) || !m->messages[number - 1].deleted)
        return false;
    unmark(m, &m->messages[number - 1]);
    return true;
}

void
maildrop_reset(struct maildrop *m)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->messages[i].deleted)
            unmark(m, &m->messages[i]);
}

size_t
maildrop_next_marked(const struct maildrop *m, size_t after)
{
    for (size_t number = after + 1; number <= m->count; number++)
        if (m->messages[number - 1].deleted)
            return number;
    return 0;
}
