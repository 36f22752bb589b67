/*
 * tlssite - what a listener serves TLS with: certificates and their keys, which
 * versions, suites and clients.
 *
 * A site stays the same while what it serves with is read anew: that becomes a
 * setup, whole and checked, or the old one serves on.  A connection keeps the
 * setup that its handshake began with.  Sites and setups are counted.
 */
#ifndef POPD_TLSSITE_H
#define POPD_TLSSITE_H

#include "ticket.h"
#include "tlskit.h"

#define TLSSITE_PAIRS 256 /* certificates at most */
#define TLSSITE_SUITES 64

struct tlsserver;

struct tlssite_setup {
    unsigned held;
    char **hosts; /* ours; of each pair, in lower case: a name, or "*.example.org"; NULL: the default, the
                     first */
    size_t pair_count;
    struct tlsserver *server; /* ours */
    struct tickets *tickets;  /* held; NULL: none are given */
    struct ticket_context ticket_context;
};

/* What is asked for; borrowed for the call.  Paths are of PEM files. */
struct tlssite_spec {
    struct {
        const char *host, *cert, *key;
    } pairs[TLSSITE_PAIRS]; /* the default first, without a host */
    size_t pair_count;
    const char *client_ca;   /* NULL: clients are not asked for certificates */
    const char *ticket_keys; /* file of TICKET_KEYs, the newest first; NULL: of our own */
    const char *suites;      /* names with blanks between them; NULL: ECDHE with AEAD */
    bool tls13_only;
};

struct tlssite {
    unsigned held;
    struct tlssite_setup *setup; /* held; NULL until it was loaded */
};

struct tlssite *tlssite_new(void); /* NULL: out of memory */
struct tlssite *tlssite_hold(struct tlssite *site);
void tlssite_drop(struct tlssite *site); /* NULL is fine */

/* Reads all files and takes their place of what was served with.  False: why
 * says which file and what is wrong, and nothing has changed. */
bool tlssite_load(struct tlssite *site, const struct tlssite_spec *spec, char why[TLSKIT_WHY]);

struct tlssite_setup *tlssite_setup_hold(struct tlssite_setup *setup);
void tlssite_setup_drop(struct tlssite_setup *setup); /* NULL is fine */

/* The pair for a name that a client asks for (RFC 6066, section 3): of just that
 * host, else of a wildcard for its first label, else the default. */
size_t tlssite_pair_for(const struct tlssite_setup *setup, const char *host, size_t len);

/* Calls f with each name of a list of suites, in order, while it returns true. */
bool tlssite_each_suite(const char *suites, bool (*f)(void *owner, const char *name, size_t len),
                        void *owner);

#endif
