/*
 * openssl - what TLS by OpenSSL 3 needs on either side: contexts, certificates
 * and keys, reasons.
 *
 * For the files *_openssl.c alone.  Who calls OpenSSL clears its queue of errors
 * first: what stands there then is of that call.
 */
#ifndef POPD_OPENSSL_H
#define POPD_OPENSSL_H

#include "tlskit.h"
#include "tlssite.h"

#include <openssl/ssl.h>

/* Reads and writes by a struct tlsio, its data. */
BIO_METHOD *openssl_bio(void);

/* A context for TLS 1.2 and newer, or 1.3 alone.  NULL: why. */
SSL_CTX *openssl_context(const SSL_METHOD *method, bool tls13_only, char why[TLSKIT_WHY]);

/* The reason, and what OpenSSL says of it.  Returns false. */
bool openssl_refuse(char why[TLSKIT_WHY], const char *what);

/* The certificates of a PEM file, at least one; of those that cannot be understood
 * *bad is how many.  NULL: why. */
STACK_OF(X509) * openssl_load_certs(const char *path, int *bad, char why[TLSKIT_WHY]);

/* Makes a file's certificates those that a context trusts; all must be understood,
 * unless `lenient`.  With `names` these become its subjects, for whoever is asked
 * for a certificate. */
bool openssl_trust(SSL_CTX *context, const char *path, bool lenient, STACK_OF(X509_NAME) * *names,
                   char why[TLSKIT_WHY]);

struct openssl_pair {
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* those between the certificate and its authority */
};

/* Of PEM files.  What was loaded is to be cleared also where it failed. */
bool openssl_load_pair(struct openssl_pair *pair, const char *cert, const char *key, char why[TLSKIT_WHY]);
void openssl_clear_pair(struct openssl_pair *pair);

struct tlsserver {
    SSL_CTX *context;           /* ours */
    BIO_METHOD *bio;            /* ours */
    struct openssl_pair *pairs; /* ours; as the setup has them */
    size_t pair_count;
    const struct tlssite_setup *setup; /* borrowed */
    struct ticket_context *tickets;    /* borrowed; NULL: none are given */
    int suites[TLSSITE_SUITES + 1];
    size_t suite_count;
};

struct tlsclient {
    unsigned held;
    bool verify;
    SSL_CTX *context; /* ours */
    BIO_METHOD *bio;  /* ours */
};

#endif
