/*
 * mbed - what TLS by mbedTLS needs on either side: random octets, certificates
 * and keys, and what 2.28 and 3.6 do differently about them.
 *
 * For the files *_mbed.c alone.
 */
#ifndef POPD_MBED_H
#define POPD_MBED_H

#include "tlskit.h"
#include "tlssite.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

struct mbed {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

void mbed_init(struct mbed *m);
void mbed_clear(struct mbed *m);

/* Gives a configuration its random octets, and starts the library. */
bool mbed_start(struct mbed *m, mbedtls_ssl_config *conf, char why[TLSKIT_WHY]);

/* The reason, and what mbedTLS says of a status.  Returns false. */
bool mbed_refuse(char why[TLSKIT_WHY], int status, const char *what);

/* TLS 1.2 and newer, or 1.3 alone; curves, the cheapest first, and hashes. */
bool mbed_set_versions(mbedtls_ssl_config *conf, bool tls13_only, char why[TLSKIT_WHY]);
void mbed_set_curves(mbedtls_ssl_config *conf);

/* PEM files; what is in them is added to what is there. */
bool mbed_load_certs(mbedtls_x509_crt *certs, const char *path, char why[TLSKIT_WHY]);

/* A certificate with its chain, and the key of it. */
bool mbed_load_pair(struct mbed *m, mbedtls_x509_crt *cert, mbedtls_pk_context *key, const char *cert_path,
                    const char *key_path, char why[TLSKIT_WHY]);

struct tlsserver_pair {
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
};

struct tlsserver {
    mbedtls_ssl_config conf;
    struct mbed mbed;
    struct tlsserver_pair *pairs; /* ours; as the setup has them */
    size_t pair_count;
    mbedtls_x509_crt client_ca;
    int suites[TLSSITE_SUITES + 1];
    size_t suite_count;
    const char *protocols[2]; /* ALPN's */
};

struct tlsclient {
    unsigned held;
    bool verify;
    mbedtls_ssl_config conf;
    struct mbed mbed;
    mbedtls_x509_crt roots;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
};

/* tls_mbed.c's: notes the name and chooses the pair; the setup is the context. */
int tls_on_sni(void *setup, mbedtls_ssl_context *ssl, const unsigned char *host, size_t len);

#endif
