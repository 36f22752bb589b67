/*
 * ticket - TLS session tickets, made and read (RFC 5077; RFC 8446, 4.6.1).
 *
 * A ticket is a session, sealed with AES-256-GCM, that the client keeps.  The
 * keys are random and renewed as time passes; or they are given from outside,
 * so that processes and machines take each other's tickets.  One code for
 * mbedTLS 2.28 and 3.6, whose own ticket contexts differ.
 */
#ifndef POPD_TICKET_H
#define POPD_TICKET_H

#include <mbedtls/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A key from outside: 16 octets that name it, 32 of AES-256. */
#define TICKET_KEY 48
#define TICKET_KEYS_MAX 8

/* How long a ticket is good, in seconds. */
#define TICKET_LIFETIME 43200

struct tickets; /* counted */

/* Keys of its own, or n given ones: the first seals, all open.  NULL: out of
 * memory, or no random octets. */
struct tickets *tickets_new(void);
struct tickets *tickets_of_keys(const unsigned char *keys, size_t n);

struct tickets *tickets_hold(struct tickets *ts);
void tickets_drop(struct tickets *ts); /* NULL is fine; keys are wiped */

/* mbedtls_ssl_conf_session_tickets_cb's functions and their context.  A ticket is
 * taken where `fit` is what it was made with: a number for the suites and kinds
 * of keys that are served with.  mbedTLS chooses the suite anew when a TLS 1.2
 * session comes back, and where it is another than the session's the client
 * breaks off. */
struct ticket_context {
    struct tickets *tickets; /* borrowed */
    uint64_t fit;
};
mbedtls_ssl_ticket_write_t ticket_write;
mbedtls_ssl_ticket_parse_t ticket_parse;

#endif
