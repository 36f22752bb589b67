#include "tlsserver.h"

#include "digest.h"
#include "openssl.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many tickets a session of TLS 1.3 gets.  Two, OpenSSL's own choice, are for
 * clients that open several connections at once. */
#define TICKETS 1

/* Suites: forward secrecy and AEAD; the shortest key first, since none is stronger
 * where P-256 is what it hangs on. */
#define ECDHE(suite) "TLS_ECDHE_ECDSA_WITH_" suite " TLS_ECDHE_RSA_WITH_" suite " "
#define AES_128 "TLS_AES_128_GCM_SHA256 " ECDHE("AES_128_GCM_SHA256")
#define AES_256 "TLS_AES_256_GCM_SHA384 " ECDHE("AES_256_GCM_SHA384")
#define CHACHA "TLS_CHACHA20_POLY1305_SHA256 " ECDHE("CHACHA20_POLY1305_SHA256")

static const char *
default_suites(void)
{
    return tlskit_has_aes() ? AES_128 AES_256 CHACHA : CHACHA AES_128 AES_256;
}

#define TLS13_ALL                                                                                            \
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:"     \
    "TLS_AES_128_CCM_8_SHA256"

#define NAMES_ROOM (TLSSITE_SUITES * 48)

/* The suites that were asked for, as OpenSSL wants them: two lists of its names. */
struct naming {
    struct tlsserver *server;
    char *why;
    char old[NAMES_ROOM], tls13[NAMES_ROOM];
};

static bool
is_tls13(const SSL_CIPHER *suite)
{
    return SSL_CIPHER_get_protocol_id(suite) >> 8 == 0x13; /* RFC 8446, appendix B.4 */
}

/* IANA's name, with hyphens as good as underlines; TLS1-3-AES… is TLS_AES… */
static bool
is_name_of(const SSL_CIPHER *suite, const char *name, size_t len)
{
    const char *its = SSL_CIPHER_standard_name(suite);

    if (len > 7 && strncmp(name, "TLS1-3-", 7) == 0)
        return is_tls13(suite) && is_name_of(suite, name + 3, len - 3);
    if (!its || strlen(its) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (its[i] != (name[i] == '-' ? '_' : name[i]))
            return false;
    return true;
}

static const SSL_CIPHER *
find_suite(const SSL_CTX *all, const char *name, size_t len)
{
    STACK_OF(SSL_CIPHER) *suites = SSL_CTX_get_ciphers(all);

    for (int i = 0; i < sk_SSL_CIPHER_num(suites); i++)
        if (is_name_of(sk_SSL_CIPHER_value(suites, i), name, len))
            return sk_SSL_CIPHER_value(suites, i);
    return NULL;
}

static bool
add_suite(void *owner, const char *name, size_t len)
{
    struct naming *n = owner;
    const SSL_CIPHER *suite = find_suite(n->server->context, name, len);
    char *list = suite && is_tls13(suite) ? n->tls13 : n->old;
    size_t at = strlen(list);

    if (n->server->suite_count == TLSSITE_SUITES)
        return tlskit_refuse(n->why, "tls: more than %d cipher suites", TLSSITE_SUITES);
    if (!suite)
        return tlskit_refuse(n->why, "tls: this OpenSSL has no cipher suite %.*s", (int)(len < 80 ? len : 80),
                             name);
    n->server->suites[n->server->suite_count++] = SSL_CIPHER_get_protocol_id(suite);
    snprintf(list + at, NAMES_ROOM - at, "%s%s", at ? ":" : "", SSL_CIPHER_get_name(suite));
    return true;
}

/* A list that has no suite of a version rules that version out. */
static bool
fit_versions(SSL_CTX *context, const struct naming *n, bool tls13_only)
{
    if (!*n->tls13 && tls13_only)
        return tlskit_refuse(n->why, "tls: min = \"1.3\", but none of the ciphers is of TLS 1.3");
    if (!*n->tls13)
        SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    if (!*n->old)
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    return true;
}

/* All suites are set, so that they can be found by their names; then those that are
 * asked for. */
static bool
set_suites(struct tlsserver *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    struct naming n = {.server = s, .why = why};

    if (!SSL_CTX_set_cipher_list(s->context, "ALL:COMPLEMENTOFALL") ||
        !SSL_CTX_set_ciphersuites(s->context, TLS13_ALL))
        return openssl_refuse(why, "tls");
    if (!tlssite_each_suite(spec->suites ? spec->suites : default_suites(), add_suite, &n) ||
        !fit_versions(s->context, &n, spec->tls13_only))
        return false;
    if ((*n.old && !SSL_CTX_set_cipher_list(s->context, n.old)) ||
        (*n.tls13 && !SSL_CTX_set_ciphersuites(s->context, n.tls13)))
        return openssl_refuse(why, "tls");
    return true;
}

/* Certificates */

static void
warn_of_dates(const X509 *cert, const char *path)
{
    tlskit_warn_of_dates(path, X509_cmp_current_time(X509_get0_notAfter(cert)) < 0,
                         X509_cmp_current_time(X509_get0_notBefore(cert)) > 0);
}

static bool
load_pairs(struct tlsserver *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    s->pairs = calloc(spec->pair_count, sizeof *s->pairs);
    if (!s->pairs)
        return tlskit_refuse(why, "out of memory");
    for (size_t i = 0; i < spec->pair_count; i++) {
        s->pair_count++;
        if (!openssl_load_pair(&s->pairs[i], spec->pairs[i].cert, spec->pairs[i].key, why))
            return false;
        warn_of_dates(s->pairs[i].cert, spec->pairs[i].cert);
    }
    if (SSL_CTX_use_cert_and_key(s->context, s->pairs[0].cert, s->pairs[0].key, s->pairs[0].chain, 1) != 1)
        return openssl_refuse(why, spec->pairs[0].cert);
    return true;
}

/* The default pair is there; for another name's the connection gets that one alone. */
static int
on_sni(SSL *ssl, int *alert, void *server)
{
    const struct tlsserver *s = server;
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    size_t at = host ? tlssite_pair_for(s->setup, host, strlen(host)) : 0;
    const struct openssl_pair *pair = &s->pairs[at];

    (void)alert;
    if (!host)
        return SSL_TLSEXT_ERR_NOACK;
    if (at == 0)
        return SSL_TLSEXT_ERR_OK;
    SSL_certs_clear(ssl);
    return SSL_use_cert_and_key(ssl, pair->cert, pair->key, pair->chain, 1) == 1 ? SSL_TLSEXT_ERR_OK
                                                                                 : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* RFC 7301, section 3.2: who offers other protocols only is refused. */
static int
on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *len, const unsigned char *offered, unsigned n,
        void *nothing)
{
    static const unsigned char ours[] = "\4pop3";
    unsigned char *found;

    (void)ssl, (void)nothing;
    if (SSL_select_next_proto(&found, len, ours, sizeof ours - 1, offered, n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

/* What a client shows is looked at, and noted; it may be nothing. */
static int
on_verify(int is_good, X509_STORE_CTX *chain)
{
    (void)is_good, (void)chain;
    return 1;
}

static bool
set_clients(struct tlsserver *s, const char *client_ca, char why[TLSKIT_WHY])
{
    STACK_OF(X509_NAME) *names = NULL;

    if (!client_ca)
        return true;
    if (!openssl_trust(s->context, client_ca, false, &names, why)) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return false;
    }
    SSL_CTX_set_client_CA_list(s->context, names);
    SSL_CTX_set_verify(s->context, SSL_VERIFY_PEER, on_verify);
    return true;
}

/* Tickets */

enum { SEALS, AUTHENTICATES };

/* One key of a ticket's for each use, and of what is served with: a ticket that does
 * not fit cannot be opened. */
static bool
derive(const struct ticket_key *k, uint64_t fit, unsigned char use, unsigned char to[32])
{
    unsigned char text[1 + sizeof fit] = {use};

    memcpy(text + 1, &fit, sizeof fit);
    return digest_hmac(DIGEST_SHA256, k->secret, sizeof k->secret, text, sizeof text, to);
}

static bool
set_mac(EVP_MAC_CTX *mac, unsigned char key[32])
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key, 32),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static bool
set_keys(const struct ticket_context *c, const struct ticket_key *k, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
         const unsigned char *iv, int seals)
{
    unsigned char key[32], other[32];
    bool done = derive(k, c->fit, SEALS, key) && derive(k, c->fit, AUTHENTICATES, other) &&
                EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key, iv, seals) == 1 &&
                set_mac(mac, other);

    digest_wipe(key, sizeof key);
    digest_wipe(other, sizeof other);
    return done;
}

/* What OpenSSL asks for a ticket's keys.  One of an older key is good, and a newer
 * one takes its place. */
static int
on_ticket(SSL *ssl, unsigned char name[TICKET_NAME], unsigned char *iv, EVP_CIPHER_CTX *cipher,
          EVP_MAC_CTX *mac, int seals)
{
    const struct tlsserver *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const struct ticket_key *newest = tickets_sealing(s->tickets->tickets);
    const struct ticket_key *k = seals ? newest : tickets_find(s->tickets->tickets, name);

    if (!k)
        return 0;
    if (seals) {
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
        memcpy(name, k->name, TICKET_NAME);
    }
    if (!set_keys(s->tickets, k, cipher, mac, iv, seals))
        return -1;
    return k == newest ? 1 : 2;
}

/* No session is kept here, but each has an id: so it is no different from others. */
static void
set_sessions(struct tlsserver *s)
{
    static const unsigned char context[] = "popd-lua";

    SSL_CTX_set_session_cache_mode(s->context, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_session_id_context(s->context, context, sizeof context - 1);
    SSL_CTX_set_timeout(s->context, TICKET_LIFETIME);
    SSL_CTX_set_options(s->context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(s->context, 0);
}

void
tlsserver_give_tickets(struct tlsserver *s, struct ticket_context *context)
{
    s->tickets = context;
    SSL_CTX_set_tlsext_ticket_key_evp_cb(s->context, on_ticket);
    SSL_CTX_clear_options(s->context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(s->context, TICKETS);
}

/* Whole servers */

static bool
configure(struct tlsserver *s, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    s->context = openssl_context(TLS_server_method(), spec->tls13_only, why);
    if (!s->context)
        return false;
    s->bio = openssl_bio();
    if (!s->bio || SSL_CTX_set_app_data(s->context, s) != 1)
        return tlskit_refuse(why, "out of memory");
    if (!set_suites(s, spec, why) || !load_pairs(s, spec, why) || !set_clients(s, spec->client_ca, why))
        return false;
    set_sessions(s);
    SSL_CTX_set_tlsext_servername_callback(s->context, on_sni);
    SSL_CTX_set_tlsext_servername_arg(s->context, s);
    SSL_CTX_set_alpn_select_cb(s->context, on_alpn, NULL);
    return true;
}

struct tlsserver *
tlsserver_new(const struct tlssite_spec *spec, struct tlssite_setup *setup, char why[TLSKIT_WHY])
{
    struct tlsserver *s = calloc(1, sizeof *s);

    if (!s) {
        tlskit_refuse(why, "out of memory");
        return NULL;
    }
    s->setup = setup;
    if (configure(s, spec, why))
        return s;
    tlsserver_free(s);
    return NULL;
}

void
tlsserver_free(struct tlsserver *s)
{
    if (!s)
        return;
    SSL_CTX_free(s->context);
    BIO_meth_free(s->bio);
    for (size_t i = 0; i < s->pair_count; i++)
        openssl_clear_pair(&s->pairs[i]);
    free(s->pairs);
    free(s);
}

const int *
tlsserver_suites(const struct tlsserver *s)
{
    return s->suites;
}

unsigned
tlsserver_key_kind(const struct tlsserver *s, size_t pair)
{
    return (unsigned)EVP_PKEY_get_base_id(s->pairs[pair].key);
}
