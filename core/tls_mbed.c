#include "tls.h"

#include "digest.h"
#include "mbed.h"
#include "mbedrest.h"
#include "tlsclient.h"
#include "tlsio.h"
#include "tlssite.h"
#include "tlswords.h"

#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/version.h>
#include <stdlib.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER < 0x03000000
#define MBEDTLS_PRIVATE(member) member
#endif

/* What our own reading and writing tell mbedTLS of a connection that broke. */
#define BROKEN MBEDTLS_ERR_SSL_INTERNAL_ERROR

struct tls {
    mbedtls_ssl_context ssl;     /* first: tls_on_sni finds the rest by it */
    struct tlssite_setup *setup; /* held; NULL: this is the client's side */
    struct tlsserver_pair *pair; /* of the setup: the certificate that is shown */
    struct tlsclient *client;    /* held; NULL: this is the server's side */
    unsigned char ip[16];        /* the client's side: the address that the certificate must be for */
    size_t ip_len;               /* 0: it is a name that mbedTLS looks at */
    bool stranger;               /* the certificate is for another address */
    struct tlsio io;
    struct mbedrest rest;
    char *sni;      /* ours; the name that was asked for, or NULL */
    size_t writing; /* octets of the record on its way; 0: none is */
    bool done;      /* with the handshake */
    int status;     /* of the handshake: what it wants, or how it failed */
};

const char *
tls_library(void)
{
    return "mbedTLS " MBEDTLS_VERSION_STRING;
}

/* The descriptor, for mbedTLS */

static int
on_recv(void *context, unsigned char *bytes, size_t n)
{
    struct tls *t = context;
    int r = tlsio_recv(&t->io, bytes, n);

    return r == TLSIO_AGAIN ? MBEDTLS_ERR_SSL_WANT_READ : r == TLSIO_BROKEN ? BROKEN : r;
}

static int
on_send(void *context, const unsigned char *bytes, size_t n)
{
    struct tls *t = context;
    int r = tlsio_send(&t->io, bytes, n);

    return r == TLSIO_AGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE : r == TLSIO_BROKEN ? BROKEN : r;
}

/* A refusal to keep the name costs the name only. */
int
tls_on_sni(void *context, mbedtls_ssl_context *ssl, const unsigned char *host, size_t len)
{
    const struct tlssite_setup *setup = context;
    struct tls *t = (struct tls *)ssl;

    free(t->sni);
    t->sni = memchr(host, '\0', len) ? NULL : strndup((const char *)host, len);
    t->pair = &setup->server->pairs[tlssite_pair_for(setup, (const char *)host, len)];
    return mbedtls_ssl_set_hs_own_cert(ssl, &t->pair->cert, &t->pair->key);
}

static bool
set_up(struct tls *t, int fd, const mbedtls_ssl_config *conf)
{
    tlsio_init(&t->io, fd);
    mbedtls_ssl_set_bio(&t->ssl, t, on_send, on_recv, NULL);
    return mbedtls_ssl_setup(&t->ssl, conf) == 0;
}

struct tls *
tls_new(struct tlssite *site, int fd)
{
    struct tls *t = site->setup ? calloc(1, sizeof *t) : NULL;

    if (!t)
        return NULL;
    t->setup = tlssite_setup_hold(site->setup);
    t->pair = &t->setup->server->pairs[0];
    mbedtls_ssl_init(&t->ssl);
    if (set_up(t, fd, &t->setup->server->conf))
        return t;
    tls_free(t);
    return NULL;
}

/* An address is no name to ask for (RFC 6066, section 3), and mbedTLS 2.28 would
 * compare it with names: check_address looks at it. */
static bool
expect_host(struct tls *t, const char *host)
{
    t->ip_len = !host                                   ? 0
                : inet_pton(AF_INET, host, t->ip) == 1  ? 4
                : inet_pton(AF_INET6, host, t->ip) == 1 ? 16
                                                        : 0;
    if (t->client->verify && !host)
        return false;
    if (host && !t->ip_len && !(t->sni = strdup(host)))
        return false;
    return mbedtls_ssl_set_hostname(&t->ssl, t->sni) == 0;
}

struct tls *
tls_new_client(struct tlsclient *client, int fd, const char *host)
{
    struct tls *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->client = tlsclient_hold(client);
    mbedtls_ssl_init(&t->ssl);
    if (set_up(t, fd, &client->conf) && expect_host(t, host))
        return t;
    tls_free(t);
    return NULL;
}

void
tls_free(struct tls *t)
{
    if (!t)
        return;
    mbedtls_ssl_free(&t->ssl);
    tlssite_setup_drop(t->setup);
    tlsclient_drop(t->client);
    tlsio_clear(&t->io);
    free(t->sni);
    free(t);
}

void
tls_close(struct tls *t)
{
    tlsio_close(&t->io);
}

bool
tls_unread(struct tls *t, const void *bytes, size_t n)
{
    return tlsio_unread(&t->io, bytes, n);
}

/* The handshake */

#define SAN_ADDRESS 7 /* RFC 5280, 4.2.1.6: iPAddress */

/* Whether the server's certificate is for the address that was asked for. */
static bool
check_address(const struct tls *t)
{
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);

    for (const mbedtls_x509_sequence *s = crt ? &crt->subject_alt_names : NULL; s && s->buf.p; s = s->next)
        if ((s->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == SAN_ADDRESS && s->buf.len == t->ip_len &&
            memcmp(s->buf.p, t->ip, t->ip_len) == 0)
            return true;
    return false;
}

enum stream_status
tls_handshake(struct tls *t)
{
    tlsio_begin(&t->io);
    t->status = mbedtls_ssl_handshake(&t->ssl);
    t->done = t->status == 0;
    t->stranger = t->done && t->client && t->client->verify && t->ip_len && !check_address(t);
    if (t->stranger)
        return STREAM_ERROR;
    if (t->done) {
        mbedrest_rest(&t->rest, &t->ssl);
        return STREAM_OK;
    }
    return t->status == MBEDTLS_ERR_SSL_WANT_READ || t->status == MBEDTLS_ERR_SSL_WANT_WRITE ? STREAM_AGAIN
                                                                                             : STREAM_ERROR;
}

bool
tls_wants_write(const struct tls *t)
{
    return t->status == MBEDTLS_ERR_SSL_WANT_WRITE;
}

bool
tls_is_done(const struct tls *t)
{
    return t->done;
}

#define ALERT 21 /* RFC 5246, 6.2.1 */

/* OpenSSL sends one in the clear where TLS 1.3 expects it encrypted: when it
 * does not accept the certificate.  The record's head and two octets lie as
 * they came. */
static bool
is_clear_alert(const struct tls *t)
{
    const unsigned char *head = t->ssl.MBEDTLS_PRIVATE(in_hdr);

    return t->status == MBEDTLS_ERR_SSL_INVALID_MAC && head && head[0] == ALERT && head[3] == 0 &&
           head[4] == 2;
}

static int
alert_number(const struct tls *t)
{
    if (is_clear_alert(t))
        return t->ssl.MBEDTLS_PRIVATE(in_hdr)[6];
    return t->ssl.MBEDTLS_PRIVATE(in_msg) ? t->ssl.MBEDTLS_PRIVATE(in_msg)[1] : -1;
}

static int
end_alert(const struct tls *t)
{
    return t->status == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE || is_clear_alert(t) ? alert_number(t) : -1;
}

static const struct {
    int status;
    enum tls_fault fault;
} faults[] = {
    {MBEDTLS_ERR_SSL_INVALID_RECORD, FAULT_NO_TLS},
    {MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE, FAULT_UNEXPECTED},
    {MBEDTLS_ERR_SSL_INVALID_MAC, FAULT_ALTERED},
    {MBEDTLS_ERR_SSL_CONN_EOF, FAULT_LEFT},
    {MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, FAULT_LEFT},
    {MBEDTLS_ERR_SSL_ALLOC_FAILED, FAULT_MEMORY},
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION, FAULT_VERSION},
    {MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE, FAULT_NOTHING_COMMON},
    {MBEDTLS_ERR_SSL_NO_APPLICATION_PROTOCOL, FAULT_PROTOCOL},
#else
    {MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION, FAULT_VERSION},
    {MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN, FAULT_NO_SUITE},
    {MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE, FAULT_NO_SUITE_FITS},
    {MBEDTLS_ERR_SSL_BAD_HS_CLIENT_HELLO, FAULT_HELLO},
#endif
};

static enum tls_fault
end_fault(const struct tls *t)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i].status == t->status)
            return faults[i].fault;
    return FAULT_OTHER;
}

/* What is wrong with a server's certificate, the first first. */
static const struct {
    uint32_t flag;
    enum tls_flaw flaw;
} flaws[] = {
    {MBEDTLS_X509_BADCERT_CN_MISMATCH, FLAW_HOST},      {MBEDTLS_X509_BADCERT_EXPIRED, FLAW_EXPIRED},
    {MBEDTLS_X509_BADCERT_FUTURE, FLAW_FUTURE},         {MBEDTLS_X509_BADCERT_REVOKED, FLAW_REVOKED},
    {MBEDTLS_X509_BADCERT_NOT_TRUSTED, FLAW_UNTRUSTED}, {MBEDTLS_X509_BADCERT_BAD_MD, FLAW_DIGEST},
    {MBEDTLS_X509_BADCERT_BAD_KEY, FLAW_KEY},
};

static enum tls_flaw
end_flaw(const struct tls *t)
{
    uint32_t found = mbedtls_ssl_get_verify_result(&t->ssl);

    if (t->stranger)
        return FLAW_HOST;
    if (t->status != MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
        return FLAW_NONE;
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++)
        if (found & flaws[i].flag)
            return flaws[i].flaw;
    return FLAW_OTHER;
}

void
tls_why(const struct tls *t, char why[TLS_WHY])
{
    char words[TLS_WHY];
    struct tls_end end = {end_flaw(t), end_alert(t), end_fault(t), words};

    mbedtls_strerror(t->status, words, sizeof words);
    tlswords_why(&end, &t->io, t->client ? "server" : "client", why);
}

/* Reading and writing */

/* Where the handshake is not done mbedTLS would go on with it in a read or a
 * write, and nobody would look at what tls_handshake looks at. */
static enum stream_status
refuse_early(void)
{
    errno = ENOTCONN;
    return STREAM_ERROR;
}

static enum stream_status
out_of_memory(void)
{
    errno = ENOMEM;
    return STREAM_ERROR;
}

static enum stream_status
failed(struct tls *t, int status)
{
    if (status == MBEDTLS_ERR_SSL_WANT_READ || status == MBEDTLS_ERR_SSL_WANT_WRITE)
        return STREAM_AGAIN;
    errno = t->io.broken ? t->io.broken : EPROTO;
    return STREAM_ERROR;
}

/* A server of TLS 1.3 gives tickets at any time. */
static bool
is_ticket(int status)
{
#if defined(MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
    return status == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET;
#else
    (void)status;
    return false;
#endif
}

/* 0 is also what mbedTLS makes of an empty record. */
enum stream_status
tls_read(struct tls *t, void *bytes, size_t n, size_t *got)
{
    int r;

    *got = 0;
    if (t->client && (!t->done || t->stranger))
        return refuse_early();
    if (!mbedrest_wake_to_read(&t->rest, &t->ssl))
        return out_of_memory();
    tlsio_begin(&t->io);
    do
        r = mbedtls_ssl_read(&t->ssl, bytes, n);
    while (is_ticket(r));
    mbedrest_rest(&t->rest, &t->ssl);
    *got = r > 0 ? (size_t)r : 0;
    if (r > 0)
        return STREAM_OK;
    if (r == 0 && !t->io.ended)
        return STREAM_AGAIN;
    if (r == 0 || r == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || r == MBEDTLS_ERR_SSL_CONN_EOF)
        return STREAM_EOF;
    return failed(t, r);
}

bool
tls_has_more(const struct tls *t)
{
    return t->io.before || mbedtls_ssl_check_pending(&t->ssl);
}

/* While a record is on its way mbedTLS looks at the number only. */
enum stream_status
tls_write(struct tls *t, const void *bytes, size_t n, bool more, size_t *put)
{
    int r;

    *put = 0;
    if (t->client && (!t->done || t->stranger))
        return refuse_early();
    if (!mbedrest_wake_to_write(&t->rest, &t->ssl))
        return out_of_memory();
    n = t->writing ? t->writing : n < TLS_RECORD ? n : TLS_RECORD;
    t->io.more = more;
    r = mbedtls_ssl_write(&t->ssl, bytes, n);
    t->io.more = false;
    if (n < TLS_RECORD) /* else more is to come */
        mbedrest_rest(&t->rest, &t->ssl);
    t->writing = r == MBEDTLS_ERR_SSL_WANT_WRITE || r == MBEDTLS_ERR_SSL_WANT_READ ? n : 0;
    if (r < 0)
        return failed(t, r);
    *put = (size_t)r;
    return STREAM_OK;
}

void
tls_finish(struct tls *t)
{
    if (t->done && !t->io.broken && !t->writing && mbedrest_wake_to_write(&t->rest, &t->ssl))
        mbedtls_ssl_close_notify(&t->ssl);
}

/* What there is to tell */

const char *
tls_version(const struct tls *t)
{
    return mbedtls_ssl_get_version(&t->ssl);
}

const char *
tls_suite(const struct tls *t)
{
    return mbedtls_ssl_get_ciphersuite(&t->ssl);
}

const char *
tls_sni(const struct tls *t)
{
    return t->sni;
}

bool
tls_has_client(const struct tls *t)
{
    return mbedtls_ssl_get_peer_cert(&t->ssl) && mbedtls_ssl_get_verify_result(&t->ssl) == 0;
}

/* The first CN of a subject, or NULL. */
static const mbedtls_x509_buf *
common_name(const mbedtls_x509_name *subject)
{
    static const unsigned char oid[] = {0x55, 0x04, 0x03}; /* 2.5.4.3 */

    for (; subject; subject = subject->next)
        if (subject->oid.len == sizeof oid && memcmp(subject->oid.p, oid, sizeof oid) == 0)
            return &subject->val;
    return NULL;
}

/* Alternative names of RFC 5280, 4.2.1.6: [1] rfc822Name, [2] dNSName. */
static const char *
alternative_kind(const mbedtls_x509_buf *name)
{
    switch (name->tag & MBEDTLS_ASN1_TAG_VALUE_MASK) {
    case 1:
        return "email";
    case 2:
        return "dns";
    default:
        return NULL;
    }
}

void
tls_client(const struct tls *t, void (*tell)(void *owner, const char *key, const char *value, size_t len),
           void *owner)
{
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);
    const mbedtls_x509_buf *cn;
    char text[512];
    int n;

    if (!crt)
        return;
    n = mbedtls_x509_dn_gets(text, sizeof text, &crt->subject);
    if (n > 0)
        tell(owner, "subject", text, (size_t)n);
    cn = common_name(&crt->subject);
    if (cn)
        tell(owner, "name", (const char *)cn->p, cn->len);
    for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s && s->buf.p; s = s->next)
        if (alternative_kind(&s->buf))
            tell(owner, alternative_kind(&s->buf), (const char *)s->buf.p, s->buf.len);
    if (digest_sha256(crt->raw.p, crt->raw.len, text))
        tell(owner, "fingerprint", text, strlen(text));
}

/* RFC 5929, section 4.1: the hash that the certificate was signed with, but
 * SHA-256 in place of MD5 and SHA-1. */
static enum digest_kind
end_point_kind(const mbedtls_x509_crt *cert)
{
    switch (cert->MBEDTLS_PRIVATE(sig_md)) {
    case MBEDTLS_MD_SHA384:
        return DIGEST_SHA384;
    case MBEDTLS_MD_SHA512:
        return DIGEST_SHA512;
    default:
        return DIGEST_SHA256;
    }
}

/* Of TLS 1.3 only: before it the exporter says nothing without the extended
 * master secret (RFC 9266, section 4.2). */
static size_t export(const struct tls *t, unsigned char octets[TLS_BINDING_MAX])
{
#if defined(MBEDTLS_SSL_KEYING_MATERIAL_EXPORT)
    static const char label[] = "EXPORTER-Channel-Binding";

    if (strcmp(tls_version(t), "TLSv1.3") == 0 &&
        mbedtls_ssl_export_keying_material((mbedtls_ssl_context *)&t->ssl, octets, 32, label,
                                           sizeof label - 1, NULL, 0, 0) == 0)
        return 32;
#else
    (void)t, (void)octets;
#endif
    return 0;
}

size_t
tls_binding(const struct tls *t, const char *kind, unsigned char octets[TLS_BINDING_MAX])
{
    const mbedtls_x509_crt *cert = &t->pair->cert;
    enum digest_kind hash = end_point_kind(cert);

    if (strcmp(kind, "tls-exporter") == 0)
        return export(t, octets);
    if (strcmp(kind, "tls-server-end-point") != 0 || !digest_hash(hash, cert->raw.p, cert->raw.len, octets))
        return 0;
    return digest_size(hash);
}
