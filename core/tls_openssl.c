#include "tls.h"

#include "digest.h"
#include "openssl.h"
#include "tlsclient.h"
#include "tlsio.h"
#include "tlssite.h"
#include "tlswords.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* Records without data in them that are gone through in one call. */
#define EMPTY_MAX 32

#define SUITE_MAX 56

struct tls {
    SSL *ssl; /* ours */
    struct tlsio io;
    struct tlssite_setup *setup; /* held; NULL: this is the client's side */
    struct tlsclient *client;    /* held; NULL: this is the server's side */
    size_t writing;              /* octets of the record on its way; 0: none is */
    bool done;                   /* with the handshake */
    bool wants_write;            /* what was tried last does */
    bool failed;                 /* no more is to be written */
    unsigned long error;         /* OpenSSL's, of the handshake; 0: none */
    char suite[SUITE_MAX];
};

const char *
tls_library(void)
{
    return "OpenSSL " OPENSSL_VERSION_STR;
}

static bool
set_up(struct tls *t, int fd, SSL_CTX *context, const BIO_METHOD *method)
{
    BIO *bio = BIO_new(method);

    tlsio_init(&t->io, fd);
    t->ssl = bio ? SSL_new(context) : NULL;
    if (!t->ssl) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, &t->io);
    SSL_set_bio(t->ssl, bio, bio);
    return true;
}

struct tls *
tls_new(struct tlssite *site, int fd)
{
    struct tls *t = site->setup ? calloc(1, sizeof *t) : NULL;

    if (!t)
        return NULL;
    t->setup = tlssite_setup_hold(site->setup);
    if (set_up(t, fd, t->setup->server->context, t->setup->server->bio)) {
        SSL_set_accept_state(t->ssl);
        return t;
    }
    tls_free(t);
    return NULL;
}

static bool
is_address(const char *host)
{
    unsigned char octets[16];

    return inet_pton(AF_INET, host, octets) == 1 || inet_pton(AF_INET6, host, octets) == 1;
}

/* An address is no name to ask for (RFC 6066, section 3). */
static bool
expect_host(struct tls *t, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);

    if (!host)
        return !t->client->verify;
    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(t->ssl, host) == 1 && X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

struct tls *
tls_new_client(struct tlsclient *client, int fd, const char *host)
{
    struct tls *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->client = tlsclient_hold(client);
    if (set_up(t, fd, client->context, client->bio) && expect_host(t, host)) {
        SSL_set_connect_state(t->ssl);
        return t;
    }
    tls_free(t);
    return NULL;
}

void
tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    tlssite_setup_drop(t->setup);
    tlsclient_drop(t->client);
    tlsio_clear(&t->io);
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

/* Each call of OpenSSL that may fail begins and ends so. */
static void
begin(struct tls *t)
{
    ERR_clear_error();
    tlsio_begin(&t->io);
}

/* What OpenSSL's result means; `got` is what it returned. */
static enum stream_status
status_of(struct tls *t, int got)
{
    int error = SSL_get_error(t->ssl, got);

    t->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return STREAM_AGAIN;
    if (error == SSL_ERROR_ZERO_RETURN || (t->io.ended && !t->io.broken))
        return STREAM_EOF;
    t->failed = true;
    t->error = ERR_peek_error();
    errno = t->io.broken ? t->io.broken : EPROTO;
    return STREAM_ERROR;
}

/* The handshake */

/* IANA's name with hyphens, and those of TLS 1.3 told from others: mbedTLS's form. */
static void
name_suite(struct tls *t)
{
    const SSL_CIPHER *suite = SSL_get_current_cipher(t->ssl);
    const char *name = suite ? SSL_CIPHER_standard_name(suite) : NULL;
    bool is_tls13 = SSL_version(t->ssl) == TLS1_3_VERSION;
    size_t len = 0;

    if (!name || strlen(name) + 4 >= SUITE_MAX)
        return;
    for (const char *at = name; *at; at++) {
        if (is_tls13 && at == name + 3) {
            memcpy(t->suite + len, "1-3", 3);
            len += 3;
        }
        t->suite[len++] = *at == '_' ? '-' : *at;
    }
}

enum stream_status
tls_handshake(struct tls *t)
{
    int got;

    begin(t);
    got = SSL_do_handshake(t->ssl);
    t->done = got == 1;
    if (!t->done)
        return status_of(t, got) == STREAM_AGAIN ? STREAM_AGAIN : STREAM_ERROR;
    t->wants_write = false;
    name_suite(t);
    return STREAM_OK;
}

bool
tls_wants_write(const struct tls *t)
{
    return t->wants_write;
}

bool
tls_is_done(const struct tls *t)
{
    return t->done;
}

static int
end_alert(const struct tls *t)
{
    int reason = ERR_GET_LIB(t->error) == ERR_LIB_SSL ? ERR_GET_REASON(t->error) : 0;

    return reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256
               ? reason - SSL_AD_REASON_OFFSET
               : -1;
}

static const struct {
    int reason;
    enum tls_fault fault;
} faults[] = {
    {SSL_R_WRONG_VERSION_NUMBER, FAULT_NO_TLS},
    {SSL_R_HTTP_REQUEST, FAULT_NO_TLS},
    {SSL_R_UNEXPECTED_MESSAGE, FAULT_UNEXPECTED},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, FAULT_ALTERED},
    {SSL_R_UNSUPPORTED_PROTOCOL, FAULT_VERSION},
    {SSL_R_VERSION_TOO_LOW, FAULT_VERSION},
    {SSL_R_VERSION_TOO_HIGH, FAULT_VERSION},
    {SSL_R_WRONG_SSL_VERSION, FAULT_VERSION},
    {SSL_R_NO_SHARED_CIPHER, FAULT_NOTHING_COMMON},
    {SSL_R_NO_SHARED_GROUPS, FAULT_NOTHING_COMMON},
    {SSL_R_NO_SUITABLE_GROUPS, FAULT_NOTHING_COMMON},
    {SSL_R_NO_SUITABLE_KEY_SHARE, FAULT_NOTHING_COMMON},
    {SSL_R_NO_APPLICATION_PROTOCOL, FAULT_PROTOCOL},
    {ERR_R_MALLOC_FAILURE, FAULT_MEMORY},
};

static enum tls_fault
end_fault(const struct tls *t)
{
    if (t->io.ended || t->error == 0)
        return FAULT_LEFT;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i].reason == ERR_GET_REASON(t->error))
            return faults[i].fault;
    return FAULT_OTHER;
}

static const struct {
    long verdict;
    enum tls_flaw flaw;
} flaws[] = {
    {X509_V_ERR_HOSTNAME_MISMATCH, FLAW_HOST},
    {X509_V_ERR_IP_ADDRESS_MISMATCH, FLAW_HOST},
    {X509_V_ERR_CERT_HAS_EXPIRED, FLAW_EXPIRED},
    {X509_V_ERR_CERT_NOT_YET_VALID, FLAW_FUTURE},
    {X509_V_ERR_CERT_REVOKED, FLAW_REVOKED},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, FLAW_UNTRUSTED},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, FLAW_UNTRUSTED},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, FLAW_UNTRUSTED},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, FLAW_UNTRUSTED},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, FLAW_UNTRUSTED},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE, FLAW_UNTRUSTED},
    {X509_V_ERR_CERT_UNTRUSTED, FLAW_UNTRUSTED},
    {X509_V_ERR_INVALID_CA, FLAW_UNTRUSTED},
    {X509_V_ERR_CA_MD_TOO_WEAK, FLAW_DIGEST},
    {X509_V_ERR_EE_KEY_TOO_SMALL, FLAW_KEY},
    {X509_V_ERR_CA_KEY_TOO_SMALL, FLAW_KEY},
};

static enum tls_flaw
end_flaw(const struct tls *t)
{
    if (!t->client || ERR_GET_REASON(t->error) != SSL_R_CERTIFICATE_VERIFY_FAILED)
        return FLAW_NONE;
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++)
        if (flaws[i].verdict == SSL_get_verify_result(t->ssl))
            return flaws[i].flaw;
    return FLAW_OTHER;
}

void
tls_why(const struct tls *t, char why[TLS_WHY])
{
    const char *words = ERR_reason_error_string(t->error);
    struct tls_end end = {end_flaw(t), end_alert(t), end_fault(t), words ? words : "the handshake broke off"};

    tlswords_why(&end, &t->io, t->client ? "server" : "client", why);
}

/* Reading and writing */

/* Where the handshake is not done OpenSSL would go on with it in a read or a write. */
static enum stream_status
refuse_early(void)
{
    errno = ENOTCONN;
    return STREAM_ERROR;
}

/* OpenSSL says that it wants to read also where it has read a record without data,
 * and more are there. */
enum stream_status
tls_read(struct tls *t, void *bytes, size_t n, size_t *got)
{
    enum stream_status status;
    int left = EMPTY_MAX;

    *got = 0;
    if (!t->done)
        return refuse_early();
    begin(t);
    do {
        int r = SSL_read_ex(t->ssl, bytes, n, got);

        t->wants_write = false;
        status = r == 1 ? STREAM_OK : status_of(t, r);
    } while (status == STREAM_AGAIN && tls_has_more(t) && --left > 0);
    return status;
}

/* What OpenSSL holds of a record that has not come whole is nothing to be read.  Nor
 * is what stands behind a message that it must answer first, while that cannot be
 * sent. */
bool
tls_has_more(const struct tls *t)
{
    return t->io.before || SSL_pending(t->ssl) > 0 ||
           (!t->io.dry && !t->wants_write && SSL_has_pending(t->ssl));
}

enum stream_status
tls_write(struct tls *t, const void *bytes, size_t n, bool more, size_t *put)
{
    enum stream_status status;
    int r;

    *put = 0;
    if (!t->done)
        return refuse_early();
    n = t->writing ? t->writing : n < TLS_RECORD ? n : TLS_RECORD;
    begin(t);
    t->io.more = more;
    r = SSL_write_ex(t->ssl, bytes, n, put);
    t->io.more = false;
    t->wants_write = false;
    status = r == 1 ? STREAM_OK : status_of(t, r);
    t->writing = status == STREAM_AGAIN ? n : 0;
    return status;
}

void
tls_finish(struct tls *t)
{
    if (!t->done || t->failed || t->io.broken || t->writing)
        return;
    begin(t);
    SSL_shutdown(t->ssl);
}

/* What there is to tell */

const char *
tls_version(const struct tls *t)
{
    return SSL_get_version(t->ssl);
}

const char *
tls_suite(const struct tls *t)
{
    return t->suite;
}

const char *
tls_sni(const struct tls *t)
{
    return SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
}

bool
tls_has_client(const struct tls *t)
{
    return SSL_get0_peer_certificate(t->ssl) && SSL_get_verify_result(t->ssl) == X509_V_OK;
}

struct teller {
    void (*tell)(void *owner, const char *key, const char *value, size_t len);
    void *owner;
};

static void
tell_string(const struct teller *to, const char *key, const ASN1_STRING *text)
{
    to->tell(to->owner, key, (const char *)ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
}

/* "CN=joe, O=Example": in the certificate's order, what has a meaning there escaped. */
static void
tell_subject(const struct teller *to, const X509_NAME *subject)
{
    BIO *text = BIO_new(BIO_s_mem());
    char *octets;
    long len;

    if (text &&
        X509_NAME_print_ex(text, subject, 0, XN_FLAG_SEP_CPLUS_SPC | XN_FLAG_FN_SN | ASN1_STRFLGS_RFC2253) >=
            0 &&
        (len = BIO_get_mem_data(text, &octets)) > 0)
        to->tell(to->owner, "subject", octets, (size_t)len);
    BIO_free(text);
}

/* The first CN of it. */
static void
tell_common_name(const struct teller *to, const X509_NAME *subject)
{
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    if (at >= 0)
        tell_string(to, "name", X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

static void
tell_alternatives(const struct teller *to, const X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_EMAIL)
            tell_string(to, "email", name->d.rfc822Name);
        else if (name->type == GEN_DNS)
            tell_string(to, "dns", name->d.dNSName);
    }
    GENERAL_NAMES_free(names);
}

static void
tell_fingerprint(const struct teller *to, const X509 *cert)
{
    unsigned char *octets = NULL;
    int len = i2d_X509(cert, &octets);
    char hex[DIGEST_SHA256_HEX + 1];

    if (len > 0 && digest_sha256(octets, (size_t)len, hex))
        to->tell(to->owner, "fingerprint", hex, DIGEST_SHA256_HEX);
    OPENSSL_free(octets);
}

void
tls_client(const struct tls *t, void (*tell)(void *owner, const char *key, const char *value, size_t len),
           void *owner)
{
    const struct teller to = {tell, owner};
    const X509 *cert = SSL_get0_peer_certificate(t->ssl);

    if (!cert)
        return;
    tell_subject(&to, X509_get_subject_name(cert));
    tell_common_name(&to, X509_get_subject_name(cert));
    tell_alternatives(&to, cert);
    tell_fingerprint(&to, cert);
}

/* RFC 5929, section 4.1: the hash that the certificate was signed with, but
 * SHA-256 in place of MD5 and SHA-1. */
static enum digest_kind
end_point_kind(X509 *cert)
{
    int digest = NID_undef;

    X509_get_signature_info(cert, &digest, NULL, NULL, NULL);
    return digest == NID_sha384 ? DIGEST_SHA384 : digest == NID_sha512 ? DIGEST_SHA512 : DIGEST_SHA256;
}

static size_t
end_point(const struct tls *t, unsigned char octets[TLS_BINDING_MAX])
{
    X509 *cert = SSL_get_certificate(t->ssl);
    enum digest_kind hash = cert ? end_point_kind(cert) : DIGEST_SHA256;
    unsigned char *raw = NULL;
    int len = cert ? i2d_X509(cert, &raw) : 0;
    bool done = len > 0 && digest_hash(hash, raw, (size_t)len, octets);

    OPENSSL_free(raw);
    return done ? digest_size(hash) : 0;
}

/* Of TLS 1.3 only: before it the exporter says nothing without the extended
 * master secret (RFC 9266, section 4.2). */
static size_t export(const struct tls *t, unsigned char octets[TLS_BINDING_MAX])
{
    static const char label[] = "EXPORTER-Channel-Binding";

    return SSL_version(t->ssl) == TLS1_3_VERSION &&
                   SSL_export_keying_material(t->ssl, octets, 32, label, sizeof label - 1, NULL, 0, 0) == 1
               ? 32
               : 0;
}

size_t
tls_binding(const struct tls *t, const char *kind, unsigned char octets[TLS_BINDING_MAX])
{
    if (strcmp(kind, "tls-exporter") == 0)
        return export(t, octets);
    return strcmp(kind, "tls-server-end-point") == 0 ? end_point(t, octets) : 0;
}
