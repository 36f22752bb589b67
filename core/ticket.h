/*
 * ticket - the keys that TLS session tickets are sealed with (RFC 5077; RFC
 * 8446, 4.6.1).
 *
 * A ticket is a session that the client keeps.  Its keys are random and renewed
 * as time passes; or they are given from outside, so that processes and machines
 * take each other's tickets.
 */
#ifndef POPD_TICKET_H
#define POPD_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define TICKET_NAME 16
#define TICKET_SECRET 32

/* A key from outside: its name, its secret. */
#define TICKET_KEY (TICKET_NAME + TICKET_SECRET)
#define TICKET_KEYS_MAX 8

/* How long a ticket is good, in seconds. */
#define TICKET_LIFETIME 43200

struct ticket_key {
    unsigned char name[TICKET_NAME], secret[TICKET_SECRET];
    time_t made; /* 0: given from outside, does not age */
};

struct tickets; /* counted */

/* Keys of its own, or n given ones: the first seals, all open.  NULL: out of
 * memory, or no random octets. */
struct tickets *tickets_new(void);
struct tickets *tickets_of_keys(const unsigned char *keys, size_t n);

struct tickets *tickets_hold(struct tickets *ts);
void tickets_drop(struct tickets *ts); /* NULL is fine; keys are wiped */

/* The key that seals now; the one of a ticket's name, or NULL.  Borrowed, for the
 * moment. */
const struct ticket_key *tickets_sealing(struct tickets *ts);
const struct ticket_key *tickets_find(const struct tickets *ts, const unsigned char name[TICKET_NAME]);

/* What a ticket is sealed with: the keys, and what it must fit, a number for the
 * suites and kinds of keys that are served with.  A TLS 1.2 session that came back
 * to others would go on with a suite that is not served any more, or the client
 * would break off. */
struct ticket_context {
    struct tickets *tickets; /* borrowed */
    uint64_t fit;
};

#endif
