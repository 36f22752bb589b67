#include "openssl.h"

#include "tlsio.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* The descriptor, for OpenSSL: its own BIO of sockets would raise SIGPIPE. */

static int
on_read(BIO *bio, char *bytes, int n)
{
    int r = tlsio_recv(BIO_get_data(bio), bytes, (size_t)n);

    BIO_clear_retry_flags(bio);
    if (r == TLSIO_AGAIN)
        BIO_set_retry_read(bio);
    return r < 0 ? -1 : r;
}

static int
on_write(BIO *bio, const char *bytes, int n)
{
    int r = tlsio_send(BIO_get_data(bio), bytes, (size_t)n);

    BIO_clear_retry_flags(bio);
    if (r == TLSIO_AGAIN)
        BIO_set_retry_write(bio);
    return r < 0 ? -1 : r;
}

static long
on_control(BIO *bio, int command, long number, void *pointer)
{
    const struct tlsio *io = BIO_get_data(bio);

    (void)number, (void)pointer;
    if (command == BIO_CTRL_EOF)
        return io->ended;
    return command == BIO_CTRL_FLUSH;
}

static int
on_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *
openssl_bio(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "popd-lua");

    if (m && BIO_meth_set_read(m, on_read) && BIO_meth_set_write(m, on_write) &&
        BIO_meth_set_ctrl(m, on_control) && BIO_meth_set_create(m, on_create))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* Contexts */

/* 112 bits at least, whatever the system's configuration says. */
#define SECURITY_LEVEL 2

/* The order is that of the server in TLS 1.2.  In 1.3 the client's guess decides,
 * which with most is X25519. */
#define GROUPS "P-256:X25519:P-384"
#define SIGNATURES                                                                                           \
    "ECDSA+SHA256:ed25519:RSA-PSS+SHA256:rsa_pss_pss_sha256:ECDSA+SHA384:ECDSA+SHA512:RSA-PSS+SHA384:"       \
    "RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512"

/* Records are read as many as have come, in one go; one record is written at a time,
 * and what of it is not taken need not stay where it was.  Nothing is kept while a
 * connection rests, and what was understood is wiped: passwords come that way. */
static void
set_modes(SSL_CTX *context)
{
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CLEANSE_PLAINTEXT |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
}

SSL_CTX *
openssl_context(const SSL_METHOD *method, bool tls13_only, char why[TLSKIT_WHY])
{
    SSL_CTX *context;

    ERR_clear_error();
    context = SSL_CTX_new(method);
    if (context && SSL_CTX_set_min_proto_version(context, tls13_only ? TLS1_3_VERSION : TLS1_2_VERSION) &&
        SSL_CTX_set_max_proto_version(context, 0) && SSL_CTX_set1_groups_list(context, GROUPS) &&
        SSL_CTX_set1_sigalgs_list(context, SIGNATURES)) {
        set_modes(context);
        return context;
    }
    openssl_refuse(why, "tls");
    SSL_CTX_free(context);
    return NULL;
}

bool
openssl_refuse(char why[TLSKIT_WHY], const char *what)
{
    const char *words = ERR_reason_error_string(ERR_peek_error());

    return tlskit_refuse(why, "%s: %s", what, words ? words : "out of memory");
}

/* Certificates */

/* Adds the next one.  False: there is no more. */
static bool
add_cert(STACK_OF(X509) * certs, BIO *text, int *bad)
{
    X509 *cert;

    ERR_clear_error();
    cert = PEM_read_bio_X509(text, NULL, NULL, NULL);
    if (cert && sk_X509_push(certs, cert))
        return true;
    X509_free(cert);
    if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
        return false;
    ++*bad;
    return BIO_pending(text) > 0;
}

static STACK_OF(X509) * parse_certs(const unsigned char *octets, size_t n, int *bad)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *text = BIO_new_mem_buf(octets, (int)n);

    *bad = 0;
    while (certs && text && add_cert(certs, text, bad))
        ;
    BIO_free(text);
    return certs;
}

STACK_OF(X509) * openssl_load_certs(const char *path, int *bad, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *text = tlskit_read(path, &n, why);
    STACK_OF(X509) * certs;

    if (!text)
        return NULL;
    certs = parse_certs(text, n - 1, bad);
    tlskit_free(text);
    if (certs && sk_X509_num(certs) > 0)
        return certs;
    sk_X509_free(certs);
    tlskit_refuse(why, "%s holds no certificate that can be used", path);
    return NULL;
}

static STACK_OF(X509) * load_all_certs(const char *path, char why[TLSKIT_WHY])
{
    int bad;
    STACK_OF(X509) *certs = openssl_load_certs(path, &bad, why);

    if (!certs || bad == 0)
        return certs;
    tlskit_refuse(why, "%s: %d of its certificates cannot be understood", path, bad);
    sk_X509_pop_free(certs, X509_free);
    return NULL;
}

static bool
add_name(STACK_OF(X509_NAME) * names, const X509 *cert)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));

    if (name && sk_X509_NAME_push(names, name))
        return true;
    X509_NAME_free(name);
    return false;
}

static bool
trust_all(X509_STORE *store, STACK_OF(X509) * certs, STACK_OF(X509_NAME) * *names)
{
    if (names && !(*names = sk_X509_NAME_new_null()))
        return false;
    for (int i = 0; i < sk_X509_num(certs); i++)
        if (!X509_STORE_add_cert(store, sk_X509_value(certs, i)) ||
            (names && !add_name(*names, sk_X509_value(certs, i))))
            return false;
    /* Who is named here is trusted, also if somebody else has signed it. */
    return X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
}

bool
openssl_trust(SSL_CTX *context, const char *path, bool lenient, STACK_OF(X509_NAME) * *names,
              char why[TLSKIT_WHY])
{
    int bad;
    STACK_OF(X509) *certs = lenient ? openssl_load_certs(path, &bad, why) : load_all_certs(path, why);
    bool done;

    if (!certs)
        return false;
    done = trust_all(SSL_CTX_get_cert_store(context), certs, names);
    sk_X509_pop_free(certs, X509_free);
    return done || openssl_refuse(why, path);
}

/* Keys */

/* Nobody is asked for a password; but that one is needed is noted. */
static int
on_password(char *password, int room, int writes, void *is_encrypted)
{
    (void)password, (void)room, (void)writes;
    *(bool *)is_encrypted = true;
    return -1;
}

static EVP_PKEY *
load_key(const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *text = tlskit_read(path, &n, why);
    BIO *bio = text ? BIO_new_mem_buf(text, (int)n - 1) : NULL;
    bool is_encrypted = false;
    EVP_PKEY *key = NULL;

    if (!text)
        return NULL;
    ERR_clear_error();
    if (bio)
        key = PEM_read_bio_PrivateKey(bio, NULL, on_password, &is_encrypted);
    BIO_free(bio);
    tlskit_free(text);
    if (key)
        tlskit_warn_of_mode(path);
    else if (is_encrypted)
        tlskit_refuse(why, "%s is encrypted: give a key without a password, in a file of mode 0600", path);
    else
        tlskit_refuse(why, "%s holds no private key that can be used", path);
    return key;
}

bool
openssl_load_pair(struct openssl_pair *pair, const char *cert, const char *key, char why[TLSKIT_WHY])
{
    pair->chain = load_all_certs(cert, why);
    if (!pair->chain)
        return false;
    pair->cert = sk_X509_shift(pair->chain);
    pair->key = load_key(key, why);
    if (!pair->key)
        return false;
    return X509_check_private_key(pair->cert, pair->key) == 1 ||
           tlskit_refuse(why, "%s is not the key of the certificate %s", key, cert);
}

void
openssl_clear_pair(struct openssl_pair *pair)
{
    X509_free(pair->cert);
    EVP_PKEY_free(pair->key);
    sk_X509_pop_free(pair->chain, X509_free);
}
