#include "tlskit.h"

#include "log.h"

#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

#define FILE_MAX 1048576 /* of certificates, keys */

/* The reason, from a format and what mbedTLS says of a status. */
bool
tlskit_refuse(char why[TLSKIT_WHY], int status, const char *format, ...)
{
    va_list args;
    char words[128] = "";
    int n;

    va_start(args, format);
    n = vsnprintf(why, TLSKIT_WHY, format, args);
    va_end(args);
    if (status && n >= 0 && n < TLSKIT_WHY) {
        mbedtls_strerror(status, words, sizeof words);
        snprintf(why + n, TLSKIT_WHY - (size_t)n, ": %s", words);
    }
    return false;
}

/* Differences of the library's versions */

static int
parse_key(struct tlskit *kit, mbedtls_pk_context *key, const unsigned char *text, size_t n)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_parse_key(key, text, n, NULL, 0, mbedtls_ctr_drbg_random, &kit->random);
#else
    (void)kit;
    return mbedtls_pk_parse_key(key, text, n, NULL, 0);
#endif
}

int
tlskit_check_pair(struct tlskit *kit, const mbedtls_x509_crt *cert, const mbedtls_pk_context *key)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_check_pair(&cert->pk, key, mbedtls_ctr_drbg_random, &kit->random);
#else
    (void)kit;
    return mbedtls_pk_check_pair(&cert->pk, key);
#endif
}

/* P-256 first: it is what mbedTLS computes fastest. */
void
tlskit_set_curves(mbedtls_ssl_config *conf)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                      MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

    mbedtls_ssl_conf_groups(conf, groups);
#else
    static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519,
                                                  MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_NONE};
    /* 2.28 would still sign with SHA-1. */
    static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};

    mbedtls_ssl_conf_curves(conf, curves);
    mbedtls_ssl_conf_sig_hashes(conf, hashes);
#endif
}

bool
tlskit_set_versions(mbedtls_ssl_config *conf, bool tls13_only, char why[TLSKIT_WHY])
{
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    (void)why;
    mbedtls_ssl_conf_min_tls_version(conf,
                                     tls13_only ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_tls13_key_exchange_modes(conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ALL);
    return true;
#else
    if (tls13_only)
        return tlskit_refuse(why, 0, "tls: min = \"1.3\" cannot be had: this mbedTLS (%s) ends at TLS 1.2",
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
tlskit_start(struct tlskit *kit, mbedtls_ssl_config *conf, char why[TLSKIT_WHY])
{
    int status = mbedtls_ctr_drbg_seed(&kit->random, mbedtls_entropy_func, &kit->entropy, NULL, 0);

    if (status || !start_library())
        return tlskit_refuse(why, status, "tls: the system gives no random octets");
    mbedtls_ssl_conf_rng(conf, mbedtls_ctr_drbg_random, &kit->random);
    return true;
}

/* Files */

/* A pipe would be waited for, a device may have no end. */
static bool
is_endless(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

/* A file's octets with a NUL behind them; *n counts that too, as mbedTLS wants
 * it for PEM.  The caller frees; NULL: why. */
unsigned char *
tlskit_read(const char *path, size_t *n, char why[TLSKIT_WHY])
{
    bool endless = is_endless(path);
    FILE *f = endless ? NULL : fopen(path, "rb");
    unsigned char *text = f ? malloc(FILE_MAX + 1) : NULL;

    if (f)
        setvbuf(f, NULL, _IONBF, 0); /* no copy of a key that nobody wipes */
    if (!text) {
        tlskit_refuse(why, 0, "%s cannot be read: %s", path,
                      endless ? "it is no regular file" : strerror(errno));
        if (f)
            fclose(f);
        return NULL;
    }
    *n = fread(text, 1, FILE_MAX + 1, f);
    if (ferror(f) || *n > FILE_MAX) {
        tlskit_refuse(why, 0, "%s cannot be read: %s", path,
                      *n > FILE_MAX ? "it is larger than 1 MB" : strerror(errno));
        mbedtls_platform_zeroize(text, FILE_MAX + 1);
        free(text);
        text = NULL;
    } else {
        text[(*n)++] = '\0';
    }
    fclose(f);
    return text;
}

void
tlskit_free(unsigned char *text)
{
    mbedtls_platform_zeroize(text, FILE_MAX + 1);
    free(text);
}

bool
tlskit_load_certs(mbedtls_x509_crt *certs, const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *text = tlskit_read(path, &n, why);
    int status;

    if (!text)
        return false;
    status = mbedtls_x509_crt_parse(certs, text, n);
    tlskit_free(text);
    if (status > 0)
        return tlskit_refuse(why, 0, "%s: %d of its certificates cannot be understood", path, status);
    return status == 0 || tlskit_refuse(why, status, "%s holds no certificate that can be used", path);
}

/* A key that others can read is served with all the same, and told of. */
static void
warn_of_mode(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & S_IROTH))
        log_event(LOG_WARNING, "a private key can be read by everybody on this machine: chmod o-r", "file",
                  path, NULL);
}

bool
tlskit_load_key(struct tlskit *kit, mbedtls_pk_context *key, const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *text = tlskit_read(path, &n, why);
    int status;

    if (!text)
        return false;
    status = parse_key(kit, key, text, n);
    tlskit_free(text);
    if (status == MBEDTLS_ERR_PK_PASSWORD_REQUIRED)
        return tlskit_refuse(why, 0, "%s is encrypted: give a key without a password, in a file of mode 0600",
                             path);
    if (status)
        return tlskit_refuse(why, status, "%s holds no private key that can be used", path);
    warn_of_mode(path);
    return true;
}

void
tlskit_init(struct tlskit *kit)
{
    mbedtls_entropy_init(&kit->entropy);
    mbedtls_ctr_drbg_init(&kit->random);
}

void
tlskit_clear(struct tlskit *kit)
{
    mbedtls_ctr_drbg_free(&kit->random);
    mbedtls_entropy_free(&kit->entropy);
}
