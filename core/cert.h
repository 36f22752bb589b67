/*
 * cert - a key and a certificate that vouches for itself (RFC 5280).
 *
 * For sites that have no authority's certificate: a client is given the
 * certificate once, and trusts it from then on.  The key is EC P-256.  The
 * certificate is a server's and nothing else (basicConstraints CA:FALSE,
 * extKeyUsage serverAuth): whoever steals the key can play these hosts, but
 * cannot sign for others in the name of those that trust it.
 */
#ifndef POPD_CERT_H
#define POPD_CERT_H

#include <stdbool.h>
#include <stddef.h>

#define CERT_HOSTS_MAX 100
#define CERT_DAYS_MAX 36500

enum cert_host { CERT_NO_HOST, CERT_NAME, CERT_ADDRESS };

/* What a text is: a DNS name (letters, digits, hyphens; `*` as its whole first
 * label), an IPv4 or IPv6 address, or neither. */
enum cert_host cert_host_kind(const char *host);

/* Both are PEM and end with NUL. */
struct cert_pair {
    char *cert; /* ours */
    char *key;  /* ours; a secret */
};

/* A new pair for these hosts (1 to CERT_HOSTS_MAX, none CERT_NO_HOST), valid
 * from a day ago, since clocks differ, for so many days from now (1 to
 * CERT_DAYS_MAX).  The first host is the subject.  False: *why has the reason,
 * a constant, and there is nothing to clear. */
bool cert_make(const char *const *hosts, size_t n, unsigned days, struct cert_pair *pair, const char **why);

/* Wipes the key and gives both back. */
void cert_clear(struct cert_pair *pair);

#endif
