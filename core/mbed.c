#include "mbed.h"

#include <mbedtls/error.h>
#include <mbedtls/version.h>
#include <stdio.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

bool
mbed_refuse(char why[TLSKIT_WHY], int status, const char *what)
{
    char words[128] = "";

    mbedtls_strerror(status, words, sizeof words);
    return tlskit_refuse(why, "%s: %s", what, words);
}

/* Differences of the library's versions */

static int
parse_key(struct mbed *m, mbedtls_pk_context *key, const unsigned char *text, size_t n)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_parse_key(key, text, n, NULL, 0, mbedtls_ctr_drbg_random, &m->random);
#else
    (void)m;
    return mbedtls_pk_parse_key(key, text, n, NULL, 0);
#endif
}

static int
check_pair(struct mbed *m, const mbedtls_x509_crt *cert, const mbedtls_pk_context *key)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_check_pair(&cert->pk, key, mbedtls_ctr_drbg_random, &m->random);
#else
    (void)m;
    return mbedtls_pk_check_pair(&cert->pk, key);
#endif
}

/* What this mbedTLS computes fastest first (make bench-primitives).  In TLS 1.3 the
 * client's guess decides. */
void
mbed_set_curves(mbedtls_ssl_config *conf)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                      MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

    mbedtls_ssl_conf_groups(conf, groups);
#else
    static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                                  MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_NONE};
    /* 2.28 would still sign with SHA-1. */
    static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};

    mbedtls_ssl_conf_curves(conf, curves);
    mbedtls_ssl_conf_sig_hashes(conf, hashes);
#endif
}

bool
mbed_set_versions(mbedtls_ssl_config *conf, bool tls13_only, char why[TLSKIT_WHY])
{
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    (void)why;
    mbedtls_ssl_conf_min_tls_version(conf,
                                     tls13_only ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_tls13_key_exchange_modes(conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ALL);
    return true;
#else
    if (tls13_only)
        return tlskit_refuse(why, "tls: min = \"1.3\" cannot be had: this mbedTLS (%s) ends at TLS 1.2",
                             MBEDTLS_VERSION_STRING);
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    return true;
#endif
}

/* mbedTLS 3 needs this before TLS 1.3 and some keys; it may be done often. */
static bool
start_library(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return psa_crypto_init() == PSA_SUCCESS;
#else
    return true;
#endif
}

bool
mbed_start(struct mbed *m, mbedtls_ssl_config *conf, char why[TLSKIT_WHY])
{
    int status = mbedtls_ctr_drbg_seed(&m->random, mbedtls_entropy_func, &m->entropy, NULL, 0);

    if (status || !start_library())
        return tlskit_refuse(why, "tls: the system gives no random octets");
    mbedtls_ssl_conf_rng(conf, mbedtls_ctr_drbg_random, &m->random);
    return true;
}

/* Files */

static bool
refuse_file(char why[TLSKIT_WHY], int status, const char *path, const char *what)
{
    char words[128] = "";

    mbedtls_strerror(status, words, sizeof words);
    return tlskit_refuse(why, "%s holds no %s that can be used: %s", path, what, words);
}

bool
mbed_load_certs(mbedtls_x509_crt *certs, const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *text = tlskit_read(path, &n, why);
    int status;

    if (!text)
        return false;
    status = mbedtls_x509_crt_parse(certs, text, n);
    tlskit_free(text);
    if (status > 0)
        return tlskit_refuse(why, "%s: %d of its certificates cannot be understood", path, status);
    return status == 0 || refuse_file(why, status, path, "certificate");
}

static bool
load_key(struct mbed *m, mbedtls_pk_context *key, const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *text = tlskit_read(path, &n, why);
    int status;

    if (!text)
        return false;
    status = parse_key(m, key, text, n);
    tlskit_free(text);
    if (status == MBEDTLS_ERR_PK_PASSWORD_REQUIRED)
        return tlskit_refuse(why, "%s is encrypted: give a key without a password, in a file of mode 0600",
                             path);
    if (status)
        return refuse_file(why, status, path, "private key");
    tlskit_warn_of_mode(path);
    return true;
}

bool
mbed_load_pair(struct mbed *m, mbedtls_x509_crt *cert, mbedtls_pk_context *key, const char *cert_path,
               const char *key_path, char why[TLSKIT_WHY])
{
    if (!mbed_load_certs(cert, cert_path, why) || !load_key(m, key, key_path, why))
        return false;
    return check_pair(m, cert, key) == 0 ||
           tlskit_refuse(why, "%s is not the key of the certificate %s", key_path, cert_path);
}

void
mbed_init(struct mbed *m)
{
    mbedtls_entropy_init(&m->entropy);
    mbedtls_ctr_drbg_init(&m->random);
}

void
mbed_clear(struct mbed *m)
{
    mbedtls_ctr_drbg_free(&m->random);
    mbedtls_entropy_free(&m->entropy);
}
