#include "tlssite.h"

#include "host.h"
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
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static bool
refuse(char why[TLSSITE_WHY], int status, const char *format, ...)
{
    va_list args;
    char words[128] = "";
    int n;

    va_start(args, format);
    n = vsnprintf(why, TLSSITE_WHY, format, args);
    va_end(args);
    if (status && n >= 0 && n < TLSSITE_WHY) {
        mbedtls_strerror(status, words, sizeof words);
        snprintf(why + n, TLSSITE_WHY - (size_t)n, ": %s", words);
    }
    return false;
}

/* Differences of the library's versions */

static int
parse_key(struct tlssite_setup *s, mbedtls_pk_context *key, const unsigned char *text, size_t n)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_parse_key(key, text, n, NULL, 0, mbedtls_ctr_drbg_random, &s->random);
#else
    (void)s;
    return mbedtls_pk_parse_key(key, text, n, NULL, 0);
#endif
}

static int
check_pair(struct tlssite_setup *s, const struct tlssite_pair *pair)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_check_pair(&pair->cert.pk, &pair->key, mbedtls_ctr_drbg_random, &s->random);
#else
    (void)s;
    return mbedtls_pk_check_pair(&pair->cert.pk, &pair->key);
#endif
}

/* P-256 first: it is what mbedTLS computes fastest. */
static void
set_curves(mbedtls_ssl_config *conf)
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

static bool
set_versions(mbedtls_ssl_config *conf, bool tls13_only, char why[TLSSITE_WHY])
{
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    (void)why;
    mbedtls_ssl_conf_min_tls_version(conf,
                                     tls13_only ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_tls13_key_exchange_modes(conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ALL);
    return true;
#else
    if (tls13_only)
        return refuse(why, 0, "tls: min = \"1.3\" cannot be had: this mbedTLS (%s) ends at TLS 1.2",
                      MBEDTLS_VERSION_STRING);
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    return true;
#endif
}

/* A list without a suite of TLS 1.3 rules that version out: mbedTLS would agree
 * on it with a client, and then find no suite. */
static bool
fit_versions(struct tlssite_setup *s, bool tls13_only, char why[TLSSITE_WHY])
{
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    for (const int *suite = s->suites; *suite; suite++)
        if (*suite >> 8 == 0x13) /* RFC 8446, appendix B.4 */
            return true;
    if (tls13_only)
        return refuse(why, 0, "tls: min = \"1.3\", but none of the ciphers is of TLS 1.3");
    mbedtls_ssl_conf_max_tls_version(&s->conf, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    (void)s, (void)tls13_only, (void)why;
#endif
    return true;
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
static unsigned char *
read_file(const char *path, size_t *n, char why[TLSSITE_WHY])
{
    bool endless = is_endless(path);
    FILE *f = endless ? NULL : fopen(path, "rb");
    unsigned char *text = f ? malloc(FILE_MAX + 1) : NULL;

    if (f)
        setvbuf(f, NULL, _IONBF, 0); /* no copy of a key that nobody wipes */
    if (!text) {
        refuse(why, 0, "%s cannot be read: %s", path, endless ? "it is no regular file" : strerror(errno));
        if (f)
            fclose(f);
        return NULL;
    }
    *n = fread(text, 1, FILE_MAX + 1, f);
    if (ferror(f) || *n > FILE_MAX) {
        refuse(why, 0, "%s cannot be read: %s", path,
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

static void
free_text(unsigned char *text)
{
    mbedtls_platform_zeroize(text, FILE_MAX + 1);
    free(text);
}

static bool
load_certs(mbedtls_x509_crt *certs, const char *path, char why[TLSSITE_WHY])
{
    size_t n;
    unsigned char *text = read_file(path, &n, why);
    int status;

    if (!text)
        return false;
    status = mbedtls_x509_crt_parse(certs, text, n);
    free_text(text);
    if (status > 0)
        return refuse(why, 0, "%s: %d of its certificates cannot be understood", path, status);
    return status == 0 || refuse(why, status, "%s holds no certificate that can be used", path);
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

static bool
load_key(struct tlssite_setup *s, mbedtls_pk_context *key, const char *path, char why[TLSSITE_WHY])
{
    size_t n;
    unsigned char *text = read_file(path, &n, why);
    int status;

    if (!text)
        return false;
    status = parse_key(s, key, text, n);
    free_text(text);
    if (status == MBEDTLS_ERR_PK_PASSWORD_REQUIRED)
        return refuse(why, 0, "%s is encrypted: give a key without a password, in a file of mode 0600", path);
    if (status)
        return refuse(why, status, "%s holds no private key that can be used", path);
    warn_of_mode(path);
    return true;
}

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
          char why[TLSSITE_WHY])
{
    if (!load_certs(&pair->cert, cert, why) || !load_key(s, &pair->key, key, why))
        return false;
    if (check_pair(s, pair) != 0)
        return refuse(why, 0, "%s is not the key of the certificate %s", key, cert);
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
load_pairs(struct tlssite_setup *s, const struct tlssite_spec *spec, char why[TLSSITE_WHY])
{
    s->pairs = calloc(spec->pair_count, sizeof *s->pairs);
    if (!s->pairs)
        return refuse(why, 0, "out of memory");
    for (size_t i = 0; i < spec->pair_count; i++) {
        struct tlssite_pair *pair = &s->pairs[i];

        mbedtls_x509_crt_init(&pair->cert);
        mbedtls_pk_init(&pair->key);
        s->pair_count++;
        pair->host = spec->pairs[i].host ? lower_copy(spec->pairs[i].host) : NULL;
        if (spec->pairs[i].host && !pair->host)
            return refuse(why, 0, "out of memory");
        if (!load_pair(s, pair, spec->pairs[i].cert, spec->pairs[i].key, why))
            return false;
    }
    return true;
}

static struct tickets *
load_ticket_keys(const char *path, char why[TLSSITE_WHY])
{
    size_t n;
    unsigned char *keys = read_file(path, &n, why);
    struct tickets *tickets;

    if (!keys)
        return NULL;
    n--; /* the NUL */
    if (n == 0 || n % TICKET_KEY || n / TICKET_KEY > TICKET_KEYS_MAX) {
        refuse(why, 0, "%s: ticket keys are 1 to %d times %d random octets; it has %zu", path,
               TICKET_KEYS_MAX, TICKET_KEY, n);
        tickets = NULL;
    } else if (!(tickets = tickets_of_keys(keys, n / TICKET_KEY))) {
        refuse(why, 0, "out of memory");
    }
    free_text(keys);
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
             char why[TLSSITE_WHY])
{
    if (spec->client_ca)
        return true;
    if (spec->ticket_keys)
        s->tickets = load_ticket_keys(spec->ticket_keys, why);
    else if (before && before->tickets)
        s->tickets = tickets_hold(before->tickets);
    else if (!(s->tickets = tickets_new()))
        refuse(why, 0, "out of memory");
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
set_suites(struct tlssite_setup *s, const struct tlssite_spec *spec, char why[TLSSITE_WHY])
{
    size_t n = 0, len;

    for (const char *at = spec->suites; at && *at; at += len) {
        at += strspn(at, " ");
        len = strcspn(at, " ");
        if (len == 0)
            break;
        if (n == TLSSITE_SUITES)
            return refuse(why, 0, "tls: more than %d cipher suites", TLSSITE_SUITES);
        s->suites[n] = find_suite(at, len);
        if (!s->suites[n++])
            return refuse(why, 0, "tls: this mbedTLS has no cipher suite %.*s", (int)(len < 80 ? len : 80),
                          at);
    }
    s->offered = n ? s->suites : default_suites;
    mbedtls_ssl_conf_ciphersuites(&s->conf, s->offered);
    return n == 0 || fit_versions(s, spec->tls13_only, why);
}

static bool
set_clients(struct tlssite_setup *s, const char *client_ca, char why[TLSSITE_WHY])
{
    if (!client_ca)
        return true;
    if (!load_certs(&s->client_ca, client_ca, why))
        return false;
    mbedtls_ssl_conf_ca_chain(&s->conf, &s->client_ca, NULL);
    mbedtls_ssl_conf_authmode(&s->conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    return true;
}

static bool
start_random(struct tlssite_setup *s, char why[TLSSITE_WHY])
{
    int status = mbedtls_ctr_drbg_seed(&s->random, mbedtls_entropy_func, &s->entropy, NULL, 0);

    if (status || !start_library())
        return refuse(why, status, "tls: the system gives no random octets");
    mbedtls_ssl_conf_rng(&s->conf, mbedtls_ctr_drbg_random, &s->random);
    return true;
}

static bool
configure(struct tlssite_setup *s, const struct tlssite_spec *spec, const struct tlssite_setup *before,
          char why[TLSSITE_WHY])
{
    int status = mbedtls_ssl_config_defaults(&s->conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                             MBEDTLS_SSL_PRESET_DEFAULT);

    if (status)
        return refuse(why, status, "tls");
    if (!start_random(s, why) || !set_versions(&s->conf, spec->tls13_only, why) ||
        !set_suites(s, spec, why) || !load_pairs(s, spec, why) || !set_clients(s, spec->client_ca, why) ||
        !load_tickets(s, spec, before, why))
        return false;
    set_curves(&s->conf);
    mbedtls_ssl_conf_sni(&s->conf, tls_on_sni, s);
    s->protocols[0] = "pop3";
    status = mbedtls_ssl_conf_alpn_protocols(&s->conf, s->protocols);
    if (status == 0)
        status = mbedtls_ssl_conf_own_cert(&s->conf, &s->pairs[0].cert, &s->pairs[0].key);
    return status == 0 || refuse(why, status, "tls");
}

static struct tlssite_setup *
new_setup(void)
{
    struct tlssite_setup *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->held = 1;
    mbedtls_ssl_config_init(&s->conf);
    mbedtls_entropy_init(&s->entropy);
    mbedtls_ctr_drbg_init(&s->random);
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
    mbedtls_ctr_drbg_free(&s->random);
    mbedtls_entropy_free(&s->entropy);
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
tlssite_load(struct tlssite *site, const struct tlssite_spec *spec, char why[TLSSITE_WHY])
{
    struct tlssite_setup *fresh = new_setup();

    if (!fresh)
        return refuse(why, 0, "out of memory");
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
