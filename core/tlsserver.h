/*
 * tlsserver - what the library serves TLS with: certificates, their keys, and how
 * hands are shaken.  The part of a site's setup that is the library's.
 */
#ifndef POPD_TLSSERVER_H
#define POPD_TLSSERVER_H

#include "ticket.h"
#include "tlssite.h"

struct tlsserver;

/* Reads the files of a spec, which has been taken for a setup: that outlives the
 * server, and says which pair is for a name.  NULL: why. */
struct tlsserver *tlsserver_new(const struct tlssite_spec *spec, struct tlssite_setup *setup,
                                char why[TLSKIT_WHY]);
void tlsserver_free(struct tlsserver *s); /* NULL is fine */

/* From here on tickets are given, and taken; the context outlives the server. */
void tlsserver_give_tickets(struct tlsserver *s, struct ticket_context *context);

/* The suites that are offered, by IANA's numbers, a 0 behind them; a number for a
 * pair's kind of key. */
const int *tlsserver_suites(const struct tlsserver *s);
unsigned tlsserver_key_kind(const struct tlsserver *s, size_t pair);

#endif
