/*
 * tlsclient - how this side is a TLS client: whom it trusts, what it shows.
 *
 * Made once, used for many connections.  Counted: each connection holds it.
 */
#ifndef POPD_TLSCLIENT_H
#define POPD_TLSCLIENT_H

#include "tlskit.h"

struct tlsclient;

/* What is asked for; borrowed for the call.  Paths are of PEM files. */
struct tlsclient_spec {
    const char *ca;         /* whom to trust; NULL: whom the system trusts */
    const char *cert, *key; /* to show to servers that ask; NULL: nothing */
    bool verify;            /* false: anybody, unseen */
    bool tls13_only;
};

/* NULL: why says which file and what is wrong. */
struct tlsclient *tlsclient_new(const struct tlsclient_spec *spec, char why[TLSKIT_WHY]);
struct tlsclient *tlsclient_hold(struct tlsclient *c);
void tlsclient_drop(struct tlsclient *c); /* NULL is fine */

#endif
