/*
 * tlskit - what TLS needs on either side: random octets, certificates and keys
 * from files, and what mbedTLS 2.28 and 3.6 do differently about them.
 *
 * What can be refused says why in words for whoever runs the server.
 */
#ifndef POPD_TLSKIT_H
#define POPD_TLSKIT_H

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <stdbool.h>
#include <stddef.h>

#define TLSKIT_WHY 512 /* octets of a reason */

struct tlskit {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

void tlskit_init(struct tlskit *kit);
void tlskit_clear(struct tlskit *kit);

/* Gives a configuration its random octets, and starts the library. */
bool tlskit_start(struct tlskit *kit, mbedtls_ssl_config *conf, char why[TLSKIT_WHY]);

/* The reason, from a format and what mbedTLS says of a status (0: nothing).
 * Returns false. */
bool tlskit_refuse(char why[TLSKIT_WHY], int status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* TLS 1.2 and newer, or 1.3 alone; curves, P-256 first, and hashes. */
bool tlskit_set_versions(mbedtls_ssl_config *conf, bool tls13_only, char why[TLSKIT_WHY]);
void tlskit_set_curves(mbedtls_ssl_config *conf);

/* A regular file's octets with a NUL behind them, which *n counts, as mbedTLS
 * wants it for PEM; tlskit_free wipes and frees.  NULL: why. */
unsigned char *tlskit_read(const char *path, size_t *n, char why[TLSKIT_WHY]);
void tlskit_free(unsigned char *text);

/* PEM files; both parts of them added to what is there. */
bool tlskit_load_certs(mbedtls_x509_crt *certs, const char *path, char why[TLSKIT_WHY]);
bool tlskit_load_key(struct tlskit *kit, mbedtls_pk_context *key, const char *path, char why[TLSKIT_WHY]);

/* 0: the key is the certificate's. */
int tlskit_check_pair(struct tlskit *kit, const mbedtls_x509_crt *cert, const mbedtls_pk_context *key);

#endif
