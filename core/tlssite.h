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

/* A certificate with its chain, its key, and the name that asks for it. */
struct tlssite_pair {
    char *host; /* ours; lower case, or "*.example.org"; NULL: the default */
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
};

struct tlssite_setup {
    unsigned held;
    mbedtls_ssl_config conf;
    struct tlskit kit;
    struct tlssite_pair *pairs; /* ours; the default comes first */
    size_t pair_count;
    mbedtls_x509_crt client_ca;
    struct tickets *tickets; /* held; NULL: none are given */
    struct ticket_context ticket_context;
    int suites[TLSSITE_SUITES + 1];
    const int *offered;       /* those suites, or the default ones */
    const char *protocols[2]; /* ALPN's */
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
void tlssite_setup_drop(struct tlssite_setup *setup);

/* The pair for a name that a client asks for (RFC 6066, section 3): of just that
 * host, else of a wildcard for its first label, else the default. */
struct tlssite_pair *tlssite_pair_for(struct tlssite_setup *setup, const char *host, size_t len);

/* tls.c's: notes the name and chooses the pair; the setup is the context. */
int tls_on_sni(void *setup, mbedtls_ssl_context *ssl, const unsigned char *host, size_t len);

#endif
