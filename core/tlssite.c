#include "tlssite.h"

#include "host.h"
#include "log.h"

#include <mbedtls/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A list without a suite of TLS 1.3 rules that version out: mbedTLS would agree
 * on it with a client, and then find no suite. */
static bool
fit_versions(struct tlssite_setup *s, bool tls13_only, char why[TLSKIT_WHY])
{
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    for (const int *suite = s->suites; *suite; suite++)
        if (*suite >> 8 == 0x13) /* RFC 8446, appendix B.4 */
            return true;
    if (tls13_only)
        return tlskit_refuse(why, 0, "tls: min = \"1.3\", but none of the ciphers is of TLS 1.3");
    mbedtls_ssl_conf_max_tls_version(&s->conf, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    (void)s, (void)tls13_only, (void)why;
#endif
    return true;
}

/* Suites: forward secrecy and AEAD, AES-128 first (no key is stronger where
 * P-256 is what it hangs on). */
static const int default_suites[] = {
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    0,
};

static void
warn_of_dates(const mbedtls_x509_crt *cert, const char *path)
{
    if (mbedtls_x509_time_is_past(&cert->valid_to))
        log_event(LOG_WARNING, "a certificate has expired: clients will refuse it", "file", path, NULL);
    else if (mbedtls_x509_time_is_future(&cert->valid_from))
        log_event(LOG_WARNING, "a certificate is not valid yet: clients will refuse it", "file", path, NULL);
}

static bool
load_pair(struct tlssite_setup *s, struct tlssite_pair *pair, const char *cert, const char *key,
          char why[TLSKIT_WHY])
{
    if (!tlskit_load_certs(&pair->cert, cert, why) || !tlskit_load_key(&s->kit, &pair->key, key, why))
        return false;
    if (tlskit_check_pair(&s->kit, &pair->cert, &pair->key) != 0)
        return tlskit_refuse(why, 0, "%s is not the key of the certificate %s", key, cert);
    warn_of_dates(&pair->cert, cert);
    return true;
}

static char *
lower_copy(const char *text)
{
    char *copy = strdup(text);

    for (char *c = copy; c && *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return copy;
}

static bool
load_pairs(struct tlssite_setup *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    s->pairs = calloc(spec->pair_count, sizeof *s->pairs);
    if (!s->pairs)
        return tlskit_refuse(why, 0, "out of memory");
    for (size_t i = 0; i < spec->pair_count; i++) {
        struct tlssite_pair *pair = &s->pairs[i];

        mbedtls_x509_crt_init(&pair->cert);
        mbedtls_pk_init(&pair->key);
        s->pair_count++;
        pair->host = spec->pairs[i].host ? lower_copy(spec->pairs[i].host) : NULL;
        if (spec->pairs[i].host && !pair->host)
            return tlskit_refuse(why, 0, "out of memory");
        if (!load_pair(s, pair, spec->pairs[i].cert, spec->pairs[i].key, why))
            return false;
    }
    return true;
}

static struct tickets *
load_ticket_keys(const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *keys = tlskit_read(path, &n, why);
    struct tickets *tickets;

    if (!keys)
        return NULL;
    n--; /* the NUL */
    if (n == 0 || n % TICKET_KEY || n / TICKET_KEY > TICKET_KEYS_MAX) {
        tlskit_refuse(why, 0, "%s: ticket keys are 1 to %d times %d random octets; it has %zu", path,
                      TICKET_KEYS_MAX, TICKET_KEY, n);
        tickets = NULL;
    } else if (!(tickets = tickets_of_keys(keys, n / TICKET_KEY))) {
        tlskit_refuse(why, 0, "out of memory");
    }
    tlskit_free(keys);
    return tickets;
}

static uint64_t
mix(uint64_t sum, unsigned octet)
{
    return (sum ^ octet) * 1099511628211u;
}

/* One number for what decides which suite is chosen: the list, and each name's
 * kind of key, in whatever order the names stand. */
static uint64_t
fit_of(const struct tlssite_setup *s)
{
    uint64_t sum = 14695981039346656037u, fit;

    for (const int *suite = s->offered; *suite; suite++)
        sum = mix(mix(sum, (unsigned)*suite >> 8), (unsigned)*suite & 255);
    fit = sum;
    for (size_t i = 0; i < s->pair_count; i++) {
        uint64_t one = mix(sum, (unsigned)mbedtls_pk_get_type(&s->pairs[i].cert.pk));

        for (const char *at = s->pairs[i].host; at && *at; at++)
            one = mix(one, (unsigned char)*at);
        fit += one;
    }
    return fit;
}

/* A client that shows a certificate is not given tickets: TLS 1.3 would bring
 * back its session without its name. */
static bool
load_tickets(struct tlssite_setup *s, const struct tlssite_spec *spec, const struct tlssite_setup *before,
             char why[TLSKIT_WHY])
{
    if (spec->client_ca)
        return true;
    if (spec->ticket_keys)
        s->tickets = load_ticket_keys(spec->ticket_keys, why);
    else if (before && before->tickets)
        s->tickets = tickets_hold(before->tickets);
    else if (!(s->tickets = tickets_new()))
        tlskit_refuse(why, 0, "out of memory");
    if (!s->tickets)
        return false;
    s->ticket_context = (struct ticket_context){.tickets = s->tickets, .fit = fit_of(s)};
    mbedtls_ssl_conf_session_tickets_cb(&s->conf, ticket_write, ticket_parse, &s->ticket_context);
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

static bool
set_suites(struct tlssite_setup *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    size_t n = 0, len;

    for (const char *at = spec->suites; at && *at; at += len) {
        at += strspn(at, " ");
        len = strcspn(at, " ");
        if (len == 0)
            break;
        if (n == TLSSITE_SUITES)
            return tlskit_refuse(why, 0, "tls: more than %d cipher suites", TLSSITE_SUITES);
        s->suites[n] = find_suite(at, len);
        if (!s->suites[n++])
            return tlskit_refuse(why, 0, "tls: this mbedTLS has no cipher suite %.*s",
                                 (int)(len < 80 ? len : 80), at);
    }
    s->offered = n ? s->suites : default_suites;
    mbedtls_ssl_conf_ciphersuites(&s->conf, s->offered);
    return n == 0 || fit_versions(s, spec->tls13_only, why);
}

static bool
set_clients(struct tlssite_setup *s, const char *client_ca, char why[TLSKIT_WHY])
{
    if (!client_ca)
        return true;
    if (!tlskit_load_certs(&s->client_ca, client_ca, why))
        return false;
    mbedtls_ssl_conf_ca_chain(&s->conf, &s->client_ca, NULL);
    mbedtls_ssl_conf_authmode(&s->conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    return true;
}

static bool
configure(struct tlssite_setup *s, const struct tlssite_spec *spec, const struct tlssite_setup *before,
          char why[TLSKIT_WHY])
{
    int status = mbedtls_ssl_config_defaults(&s->conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                             MBEDTLS_SSL_PRESET_DEFAULT);

    if (status)
        return tlskit_refuse(why, status, "tls");
    if (!tlskit_start(&s->kit, &s->conf, why) || !tlskit_set_versions(&s->conf, spec->tls13_only, why) ||
        !set_suites(s, spec, why) || !load_pairs(s, spec, why) || !set_clients(s, spec->client_ca, why) ||
        !load_tickets(s, spec, before, why))
        return false;
    tlskit_set_curves(&s->conf);
    mbedtls_ssl_conf_sni(&s->conf, tls_on_sni, s);
    s->protocols[0] = "pop3";
    status = mbedtls_ssl_conf_alpn_protocols(&s->conf, s->protocols);
    if (status == 0)
        status = mbedtls_ssl_conf_own_cert(&s->conf, &s->pairs[0].cert, &s->pairs[0].key);
    return status == 0 || tlskit_refuse(why, status, "tls");
}

static struct tlssite_setup *
new_setup(void)
{
    struct tlssite_setup *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->held = 1;
    mbedtls_ssl_config_init(&s->conf);
    tlskit_init(&s->kit);
    mbedtls_x509_crt_init(&s->client_ca);
    return s;
}

struct tlssite_setup *
tlssite_setup_hold(struct tlssite_setup *setup)
{
    setup->held++;
    return setup;
}

void
tlssite_setup_drop(struct tlssite_setup *s)
{
    if (!s || --s->held > 0)
        return;
    mbedtls_ssl_config_free(&s->conf);
    for (size_t i = 0; i < s->pair_count; i++) {
        mbedtls_x509_crt_free(&s->pairs[i].cert);
        mbedtls_pk_free(&s->pairs[i].key);
        free(s->pairs[i].host);
    }
    free(s->pairs);
    mbedtls_x509_crt_free(&s->client_ca);
    tickets_drop(s->tickets);
    tlskit_clear(&s->kit);
    free(s);
}

struct tlssite *
tlssite_new(void)
{
    struct tlssite *site = calloc(1, sizeof *site);

    if (site)
        site->held = 1;
    return site;
}

struct tlssite *
tlssite_hold(struct tlssite *site)
{
    site->held++;
    return site;
}

void
tlssite_drop(struct tlssite *site)
{
    if (!site || --site->held > 0)
        return;
    tlssite_setup_drop(site->setup);
    free(site);
}

bool
tlssite_load(struct tlssite *site, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    struct tlssite_setup *fresh = new_setup();

    if (!fresh)
        return tlskit_refuse(why, 0, "out of memory");
    if (!configure(fresh, spec, site->setup, why)) {
        tlssite_setup_drop(fresh);
        return false;
    }
    tlssite_setup_drop(site->setup);
    site->setup = fresh;
    return true;
}

struct tlssite_pair *
tlssite_pair_for(struct tlssite_setup *s, const char *host, size_t len)
{
    struct tlssite_pair *found = &s->pairs[0];

    for (size_t i = 1; i < s->pair_count; i++) {
        if (!host_is(s->pairs[i].host, host, len))
            continue;
        if (s->pairs[i].host[0] != '*')
            return &s->pairs[i];
        found = &s->pairs[i];
    }
    return found;
}
