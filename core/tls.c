#include "tls.h"

#include "digest.h"
#include "tlsclient.h"
#include "tlssite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#if MBEDTLS_VERSION_NUMBER < 0x03000000
#define MBEDTLS_PRIVATE(member) member
#endif

/* How often the descriptor is read for one call from above: some records' worth.
 * A client that sends records without data in them (alerts, refused
 * renegotiations) without end would else be all that the loop ever does. */
#define RECVS 64

/* What our own reading and writing tell mbedTLS of a connection that broke. */
#define BROKEN MBEDTLS_ERR_SSL_INTERNAL_ERROR

struct tls {
    mbedtls_ssl_context ssl;     /* first: tls_on_sni finds the rest by it */
    struct tlssite_setup *setup; /* held; NULL: this is the client's side */
    struct tlssite_pair *pair;   /* of the setup: the certificate that is shown */
    struct tlsclient *client;    /* held; NULL: this is the server's side */
    unsigned char ip[16];        /* the client's side: the address that the certificate must be for */
    size_t ip_len;               /* 0: it is a name that mbedTLS looks at */
    bool stranger;               /* the certificate is for another address */
    int fd;                      /* borrowed; -1: closed */
    unsigned char *before;       /* ours: octets that were read before, or NULL */
    size_t before_at, before_end;
    unsigned recvs;                                    /* left to this call */
    bool ended;                                        /* the descriptor's input */
    enum { FIRST_NONE, FIRST_TLS, FIRST_OTHER } first; /* what the other side's first octet is of */
    char *sni;                                         /* ours; the name that was asked for, or NULL */
    size_t writing;                                    /* octets of the record on its way; 0: none is */
    bool done;                                         /* with the handshake */
    int status;                                        /* of the handshake: what it wants, or how it failed */
    int broken;                                        /* errno of the descriptor */
};

/* The descriptor, for mbedTLS */

static int
read_before(struct tls *t, unsigned char *bytes, size_t n)
{
    size_t left = t->before_end - t->before_at;

    n = n < left ? n : left;
    memcpy(bytes, t->before + t->before_at, n);
    t->before_at += n;
    if (t->before_at == t->before_end) {
        free(t->before);
        t->before = NULL;
    }
    return (int)n;
}

static int
read_descriptor(struct tls *t, unsigned char *bytes, size_t n)
{
    ssize_t r;

    if (t->recvs == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    t->recvs--;
    r = recv(t->fd, bytes, n, 0);
    t->ended = r == 0;
    if (r >= 0)
        return (int)r;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return MBEDTLS_ERR_SSL_WANT_READ;
    t->broken = errno;
    return BROKEN;
}

#define HANDSHAKE 22 /* RFC 5246, 6.2.1: a record's first octet */

static int
on_recv(void *context, unsigned char *bytes, size_t n)
{
    struct tls *t = context;
    int r = t->before ? read_before(t, bytes, n) : read_descriptor(t, bytes, n);

    if (t->first == FIRST_NONE && r > 0)
        t->first = bytes[0] == HANDSHAKE ? FIRST_TLS : FIRST_OTHER;
    return r;
}

static int
on_send(void *context, const unsigned char *bytes, size_t n)
{
    struct tls *t = context;
    ssize_t r = send(t->fd, bytes, n, MSG_NOSIGNAL);

    if (r >= 0)
        return (int)r;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    t->broken = errno;
    return BROKEN;
}

/* A refusal to keep the name costs the name only. */
int
tls_on_sni(void *setup, mbedtls_ssl_context *ssl, const unsigned char *host, size_t len)
{
    struct tls *t = (struct tls *)ssl;

    free(t->sni);
    t->sni = memchr(host, '\0', len) ? NULL : strndup((const char *)host, len);
    t->pair = tlssite_pair_for(setup, (const char *)host, len);
    return mbedtls_ssl_set_hs_own_cert(ssl, &t->pair->cert, &t->pair->key);
}

static bool
set_up(struct tls *t, int fd, const mbedtls_ssl_config *conf)
{
    t->fd = fd;
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
    t->pair = &t->setup->pairs[0];
    mbedtls_ssl_init(&t->ssl);
    if (set_up(t, fd, &t->setup->conf))
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
    free(t->before);
    free(t->sni);
    free(t);
}

void
tls_close(struct tls *t)
{
    t->fd = -1;
    t->broken = EBADF;
}

bool
tls_unread(struct tls *t, const void *bytes, size_t n)
{
    if (n == 0)
        return true;
    t->before = malloc(n);
    if (!t->before)
        return false;
    memcpy(t->before, bytes, n);
    t->before_at = 0;
    t->before_end = n;
    return true;
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
    t->recvs = RECVS;
    t->status = mbedtls_ssl_handshake(&t->ssl);
    t->done = t->status == 0;
    t->stranger = t->done && t->client && t->client->verify && t->ip_len && !check_address(t);
    if (t->stranger)
        return STREAM_ERROR;
    if (t->done)
        return STREAM_OK;
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

/* What the other side says when it breaks off (RFC 8446, section 6). */
static const struct {
    int number;
    const char *words;
} alerts[] = {
    {0, "it closed"},
    {10, "unexpected message"},
    {20, "bad record"},
    {40, "no parameters in common"},
    {42, "it finds the certificate bad"},
    {43, "it cannot use this kind of certificate"},
    {44, "the certificate was revoked"},
    {45, "the certificate has expired"},
    {46, "it does not accept the certificate"},
    {47, "illegal parameter"},
    {48, "it does not know who signed the certificate"},
    {49, "access denied"},
    {50, "decode error"},
    {51, "decrypt error"},
    {70, "it does not take this version of TLS"},
    {71, "insufficient security"},
    {80, "internal error"},
    {86, "inappropriate fallback"},
    {90, "canceled by its user"},
    {112, "it does not know that name"},
    {116, "it wants a certificate"},
    {120, "no application protocol in common"},
};

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

static const char *
other_side(const struct tls *t)
{
    return t->client ? "server" : "client";
}

static void
alert_words(const struct tls *t, char why[TLS_WHY])
{
    int number = alert_number(t);

    for (size_t i = 0; i < sizeof alerts / sizeof *alerts; i++)
        if (alerts[i].number == number) {
            snprintf(why, TLS_WHY, "the %s broke off: %s (alert %d)", other_side(t), alerts[i].words, number);
            return;
        }
    snprintf(why, TLS_WHY, "the %s broke off (alert %d)", other_side(t), number);
}

struct failure {
    int status;
    const char *words;
};

/* Of either side; %s is the other one. */
static const struct failure failures[] = {
    {MBEDTLS_ERR_SSL_INVALID_RECORD, "the %s does not speak TLS"},
    {MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE, "the %s does not keep to TLS: unexpected message"},
    {MBEDTLS_ERR_SSL_INVALID_MAC, "what the %s sent was altered or is no TLS"},
    {MBEDTLS_ERR_SSL_CONN_EOF, "the %s left"},
    {MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, "the %s left"},
    {MBEDTLS_ERR_SSL_ALLOC_FAILED, "out of memory"},
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION, "the %s offers no version of TLS that is taken here"},
    {MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE, "the %s has no cipher suite or curve in common with this side"},
    {MBEDTLS_ERR_SSL_NO_APPLICATION_PROTOCOL, "the %s asks for another protocol than pop3 (ALPN)"},
#else
    {MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION, "the %s offers no version of TLS that is taken here"},
    {MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN, "the %s has no cipher suite in common with this side"},
    {MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE, "no cipher suite in common fits this certificate"},
    {MBEDTLS_ERR_SSL_BAD_HS_CLIENT_HELLO,
     "the %s's hello is bad, or it asks for another protocol than pop3 (ALPN)"},
#endif
};

/* What is wrong with a server's certificate. */
static const struct {
    uint32_t flag;
    const char *words;
} flaws[] = {
    {MBEDTLS_X509_BADCERT_CN_MISMATCH, "it is for another host"},
    {MBEDTLS_X509_BADCERT_EXPIRED, "it has expired"},
    {MBEDTLS_X509_BADCERT_FUTURE, "it is not valid yet"},
    {MBEDTLS_X509_BADCERT_REVOKED, "it was revoked"},
    {MBEDTLS_X509_BADCERT_NOT_TRUSTED, "no authority that is trusted here vouches for it"},
    {MBEDTLS_X509_BADCERT_BAD_MD, "its signature is of a weak kind"},
    {MBEDTLS_X509_BADCERT_BAD_KEY, "its key is too weak"},
};

static void
flaw_words(const struct tls *t, char why[TLS_WHY])
{
    uint32_t found = t->stranger ? MBEDTLS_X509_BADCERT_CN_MISMATCH : mbedtls_ssl_get_verify_result(&t->ssl);
    const char *words = "it cannot be verified";

    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++)
        if (found & flaws[i].flag) {
            words = flaws[i].words;
            break;
        }
    snprintf(why, TLS_WHY, "the server's certificate is refused: %s", words);
}

static void
failure_words(const struct tls *t, char why[TLS_WHY])
{
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (failures[i].status == t->status) {
            snprintf(why, TLS_WHY, failures[i].words, other_side(t));
            return;
        }
    mbedtls_strerror(t->status, why, TLS_WHY);
}

void
tls_why(const struct tls *t, char why[TLS_WHY])
{
    if (t->stranger || t->status == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
        flaw_words(t, why);
    else if (t->status == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE || is_clear_alert(t))
        alert_words(t, why);
    else if (t->broken == ECONNRESET || t->broken == EPIPE)
        snprintf(why, TLS_WHY, "the %s left", other_side(t));
    else if (t->broken)
        snprintf(why, TLS_WHY, "%s", strerror(t->broken));
    else if (t->first == FIRST_OTHER)
        snprintf(why, TLS_WHY, "the %s does not speak TLS", other_side(t));
    else
        failure_words(t, why);
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
failed(struct tls *t, int status)
{
    if (status == MBEDTLS_ERR_SSL_WANT_READ || status == MBEDTLS_ERR_SSL_WANT_WRITE)
        return STREAM_AGAIN;
    errno = t->broken ? t->broken : EPROTO;
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
    t->recvs = RECVS;
    do
        r = mbedtls_ssl_read(&t->ssl, bytes, n);
    while (is_ticket(r));
    *got = r > 0 ? (size_t)r : 0;
    if (r > 0)
        return STREAM_OK;
    if (r == 0 && !t->ended)
        return STREAM_AGAIN;
    if (r == 0 || r == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || r == MBEDTLS_ERR_SSL_CONN_EOF)
        return STREAM_EOF;
    return failed(t, r);
}

bool
tls_has_more(const struct tls *t)
{
    return t->before || mbedtls_ssl_check_pending(&t->ssl);
}

/* While a record is on its way mbedTLS looks at the number only. */
enum stream_status
tls_write(struct tls *t, const void *bytes, size_t n, size_t *put)
{
    int r;

    *put = 0;
    if (t->client && (!t->done || t->stranger))
        return refuse_early();
    n = t->writing ? t->writing : n < TLS_RECORD ? n : TLS_RECORD;
    r = mbedtls_ssl_write(&t->ssl, bytes, n);
    t->writing = r == MBEDTLS_ERR_SSL_WANT_WRITE || r == MBEDTLS_ERR_SSL_WANT_READ ? n : 0;
    if (r < 0)
        return failed(t, r);
    *put = (size_t)r;
    return STREAM_OK;
}

void
tls_finish(struct tls *t)
{
    if (t->done && !t->broken && !t->writing)
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
