/*
 * maildrop - the messages of one session: sizes, unique-ids, delete marks and
 * running totals (RFC 1939, sections 4 to 7).
 *
 * Pure.  A message's number counts from 1 and stays for the session's life.
 * Sizes and unique-ids may be unknown until a command asks for them; then
 * whoever can finds them out and sets them.
 */
#ifndef POPD_MAILDROP_H
#define POPD_MAILDROP_H

#include "buf.h"
#include "mailnames.h"
#include <stdint.h>

#define MAILDROP_UNKNOWN UINT64_MAX
#define UNIQUE_ID_MAX 70

struct maildrop_message {
    uint64_t octets; /* as sent, before dot-stuffing; or MAILDROP_UNKNOWN */
    uint32_t uid;    /* offset in `uids` or the names' text, plus 1; 0: unknown */
    uint8_t uid_len; /* 1 to 70 */
    bool deleted;
};

/* Zeroed, it is an empty maildrop. */
struct maildrop {
    struct maildrop_message *messages; /* ours; `count` of them */
    uint32_t count;
    uint32_t kept;           /* not marked */
    uint32_t sized;          /* whose size is known */
    uint32_t identified;     /* whose unique-id is known */
    uint64_t kept_octets;    /* of those kept; MAILDROP_UNKNOWN until it can be told */
    struct buf uids;         /* ours */
    struct mailnames *names; /* held: their text has the unique-ids; NULL: `uids` has */
};

/* Makes it one of count messages whose sizes are unknown; total is the size
 * of them all, or MAILDROP_UNKNOWN.  False: out of memory. */
bool maildrop_open(struct maildrop *m, size_t count, uint64_t total);
void maildrop_clear(struct maildrop *m);

/* Whether there is a message of that number that is not marked. */
bool maildrop_has(const struct maildrop *m, uint64_t number);

/* Sets a size.  When the last one becomes known, kept_octets is their sum,
 * whatever total was told before; returns false if that one was wrong. */
bool maildrop_set_octets(struct maildrop *m, size_t number, uint64_t octets);
uint64_t maildrop_octets(const struct maildrop *m, size_t number);

/* Sets a unique-id of 1 to 70 octets.  False: out of memory, or not such. */
bool maildrop_set_uid(struct maildrop *m, size_t number, const char *uid, size_t len);

/* Take what a list of as many messages knows: sizes, and unique-ids, which stay
 * in the list's memory.  False: a total was told that is not their sum. */
bool maildrop_take_sizes(struct maildrop *m, const struct mailnames *names);
void maildrop_take_uids(struct maildrop *m, struct mailnames *names);

/* Its unique-id, *len octets; NULL while unknown.  Good until the next set. */
const char *maildrop_uid(const struct maildrop *m, size_t number, size_t *len);

/* A list is about to tell of this message, soon: its unique-id may come nearer. */
void maildrop_expect(const struct maildrop *m, size_t number);

/* Marks, unmarks; the size must be known where kept_octets is.  False: there
 * is no such message, or it is (not) marked already. */
bool maildrop_mark(struct maildrop *m, uint64_t number);
bool maildrop_unmark(struct maildrop *m, uint64_t number);
void maildrop_reset(struct maildrop *m);

/* The first marked message whose number is above `after`; 0: none. */
size_t maildrop_next_marked(const struct maildrop *m, size_t after);

#endif
