/*
 * tlswords - why a handshake failed, in words for whoever runs the server: the
 * same ones, whichever library shakes hands.
 */
#ifndef POPD_TLSWORDS_H
#define POPD_TLSWORDS_H

#include "tls.h"
#include "tlsio.h"

enum tls_fault {
    FAULT_OTHER, /* the library's own words have to do */
    FAULT_NO_TLS,
    FAULT_UNEXPECTED,
    FAULT_ALTERED,
    FAULT_LEFT,
    FAULT_MEMORY,
    FAULT_VERSION,
    FAULT_NOTHING_COMMON,
    FAULT_NO_SUITE,
    FAULT_NO_SUITE_FITS,
    FAULT_PROTOCOL,
    FAULT_HELLO
};

/* What is wrong with a server's certificate. */
enum tls_flaw {
    FLAW_NONE,
    FLAW_HOST,
    FLAW_EXPIRED,
    FLAW_FUTURE,
    FLAW_REVOKED,
    FLAW_UNTRUSTED,
    FLAW_DIGEST,
    FLAW_KEY,
    FLAW_OTHER
};

/* How a handshake ended; what is said of it is the first of these that there is. */
struct tls_end {
    enum tls_flaw flaw;
    int alert; /* the number of the alert by which the other side broke off; -1: none */
    enum tls_fault fault;
    const char *words; /* the library's, of FAULT_OTHER; borrowed */
};

/* other: "client" or "server", whom the words are about. */
void tlswords_why(const struct tls_end *end, const struct tlsio *io, const char *other, char why[TLS_WHY]);

#endif
