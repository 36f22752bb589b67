#include "tlsserver.h"

#include "mbed.h"
#include "ticket_mbed.h"

#include <mbedtls/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A list without a suite of TLS 1.3 rules that version out: mbedTLS would agree
 * on it with a client, and then find no suite. */
static bool
fit_versions(struct tlsserver *s, bool tls13_only, char why[TLSKIT_WHY])
{
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    for (const int *suite = s->suites; *suite; suite++)
        if (*suite >> 8 == 0x13) /* RFC 8446, appendix B.4 */
            return true;
    if (tls13_only)
        return tlskit_refuse(why, "tls: min = \"1.3\", but none of the ciphers is of TLS 1.3");
    mbedtls_ssl_conf_max_tls_version(&s->conf, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    (void)s, (void)tls13_only, (void)why;
#endif
    return true;
}

/* Suites: forward secrecy and AEAD.  ChaCha20 first, also where the processor has
 * AES: in mbedTLS it takes two thirds of AES-GCM's time even then (make
 * bench-primitives).  Then the shortest key, since none is stronger where P-256 is
 * what it hangs on. */
#define ECDHE(suite) MBEDTLS_TLS_ECDHE_ECDSA_WITH_##suite, MBEDTLS_TLS_ECDHE_RSA_WITH_##suite
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
#define AES_128 MBEDTLS_TLS1_3_AES_128_GCM_SHA256, ECDHE(AES_128_GCM_SHA256)
#define CHACHA MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, ECDHE(CHACHA20_POLY1305_SHA256)
#define AES_256 MBEDTLS_TLS1_3_AES_256_GCM_SHA384, ECDHE(AES_256_GCM_SHA384)
#else
#define AES_128 ECDHE(AES_128_GCM_SHA256)
#define CHACHA ECDHE(CHACHA20_POLY1305_SHA256)
#define AES_256 ECDHE(AES_256_GCM_SHA384)
#endif

static const int default_suites[] = {CHACHA, AES_128, AES_256, 0};

static bool
load_pair(struct tlsserver *s, struct tlsserver_pair *pair, const char *cert, const char *key,
          char why[TLSKIT_WHY])
{
    if (!mbed_load_pair(&s->mbed, &pair->cert, &pair->key, cert, key, why))
        return false;
    tlskit_warn_of_dates(cert, mbedtls_x509_time_is_past(&pair->cert.valid_to),
                         mbedtls_x509_time_is_future(&pair->cert.valid_from));
    return true;
}

static bool
load_pairs(struct tlsserver *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    s->pairs = calloc(spec->pair_count, sizeof *s->pairs);
    if (!s->pairs)
        return tlskit_refuse(why, "out of memory");
    for (size_t i = 0; i < spec->pair_count; i++) {
        struct tlsserver_pair *pair = &s->pairs[i];

        mbedtls_x509_crt_init(&pair->cert);
        mbedtls_pk_init(&pair->key);
        s->pair_count++;
        if (!load_pair(s, pair, spec->pairs[i].cert, spec->pairs[i].key, why))
            return false;
    }
    return true;
}

/* IANA's names are taken too: TLS_ECDHE_…, TLS_AES_128_GCM_SHA256. */
static int
find_suite(const char *name, size_t len)
{
    char text[80], tls13[90];
    int id;

    if (len >= sizeof text)
        return 0;
    for (size_t i = 0; i < len; i++)
        text[i] = name[i] == '_' ? '-' : name[i];
    text[len] = '\0';
    id = mbedtls_ssl_get_ciphersuite_id(text);
    if (id || strncmp(text, "TLS-", 4) != 0)
        return id;
    snprintf(tls13, sizeof tls13, "TLS1-3-%s", text + 4);
    return mbedtls_ssl_get_ciphersuite_id(tls13);
}

struct naming {
    struct tlsserver *server;
    char *why;
};

static bool
add_suite(void *owner, const char *name, size_t len)
{
    struct naming *n = owner;
    int id = find_suite(name, len);

    if (n->server->suite_count == TLSSITE_SUITES)
        return tlskit_refuse(n->why, "tls: more than %d cipher suites", TLSSITE_SUITES);
    if (!id)
        return tlskit_refuse(n->why, "tls: this mbedTLS has no cipher suite %.*s", (int)(len < 80 ? len : 80),
                             name);
    n->server->suites[n->server->suite_count++] = id;
    return true;
}

static bool
set_suites(struct tlsserver *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    struct naming n = {s, why};

    if (!tlssite_each_suite(spec->suites, add_suite, &n))
        return false;
    mbedtls_ssl_conf_ciphersuites(&s->conf, tlsserver_suites(s));
    return s->suite_count == 0 || fit_versions(s, spec->tls13_only, why);
}

static bool
set_clients(struct tlsserver *s, const char *client_ca, char why[TLSKIT_WHY])
{
    if (!client_ca)
        return true;
    if (!mbed_load_certs(&s->client_ca, client_ca, why))
        return false;
    mbedtls_ssl_conf_ca_chain(&s->conf, &s->client_ca, NULL);
    mbedtls_ssl_conf_authmode(&s->conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    return true;
}

static bool
configure(struct tlsserver *s, const struct tlssite_spec *spec, struct tlssite_setup *setup,
          char why[TLSKIT_WHY])
{
    int status = mbedtls_ssl_config_defaults(&s->conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                             MBEDTLS_SSL_PRESET_DEFAULT);

    if (status)
        return mbed_refuse(why, status, "tls");
    if (!mbed_start(&s->mbed, &s->conf, why) || !mbed_set_versions(&s->conf, spec->tls13_only, why) ||
        !set_suites(s, spec, why) || !load_pairs(s, spec, why) || !set_clients(s, spec->client_ca, why))
        return false;
    mbed_set_curves(&s->conf);
    mbedtls_ssl_conf_sni(&s->conf, tls_on_sni, setup);
    s->protocols[0] = "pop3";
    status = mbedtls_ssl_conf_alpn_protocols(&s->conf, s->protocols);
    if (status == 0)
        status = mbedtls_ssl_conf_own_cert(&s->conf, &s->pairs[0].cert, &s->pairs[0].key);
    return status == 0 || mbed_refuse(why, status, "tls");
}

struct tlsserver *
tlsserver_new(const struct tlssite_spec *spec, struct tlssite_setup *setup, char why[TLSKIT_WHY])
{
    struct tlsserver *s = calloc(1, sizeof *s);

    if (!s) {
        tlskit_refuse(why, "out of memory");
        return NULL;
    }
    mbedtls_ssl_config_init(&s->conf);
    mbed_init(&s->mbed);
    mbedtls_x509_crt_init(&s->client_ca);
    if (configure(s, spec, setup, why))
        return s;
    tlsserver_free(s);
    return NULL;
}

void
tlsserver_free(struct tlsserver *s)
{
    if (!s)
        return;
    mbedtls_ssl_config_free(&s->conf);
    for (size_t i = 0; i < s->pair_count; i++) {
        mbedtls_x509_crt_free(&s->pairs[i].cert);
        mbedtls_pk_free(&s->pairs[i].key);
    }
    free(s->pairs);
    mbedtls_x509_crt_free(&s->client_ca);
    mbed_clear(&s->mbed);
    free(s);
}

void
tlsserver_give_tickets(struct tlsserver *s, struct ticket_context *context)
{
    mbedtls_ssl_conf_session_tickets_cb(&s->conf, ticket_write, ticket_parse, context);
}

const int *
tlsserver_suites(const struct tlsserver *s)
{
    return s->suite_count ? s->suites : default_suites;
}

unsigned
tlsserver_key_kind(const struct tlsserver *s, size_t pair)
{
    return (unsigned)mbedtls_pk_get_type(&s->pairs[pair].cert.pk);
}
