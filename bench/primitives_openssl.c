#include "primitives.h"

#include <openssl/ssl.h>
#include <stdlib.h>

const char *const library_name = OPENSSL_VERSION_TEXT;

struct library {
    SSL_CTX *server, *client;
    BIO_METHOD *method;
    EVP_CIPHER_CTX *ciphers[2]; /* by enum cipher */
    struct transit up, down;    /* to the server, to the client */
};

struct pipe_end {
    SSL *ssl;
    struct library *library;
};

struct ends {
    struct transit *in, *out;
};

static int
on_read(BIO *bio, char *octets, int n)
{
    struct ends *ends = BIO_get_data(bio);
    size_t got = transit_take(ends->in, octets, (size_t)n);

    BIO_clear_retry_flags(bio);
    if (got == 0)
        BIO_set_retry_read(bio);
    return got ? (int)got : -1;
}

static int
on_write(BIO *bio, const char *octets, int n)
{
    struct ends *ends = BIO_get_data(bio);

    return (int)transit_put(ends->out, octets, (size_t)n);
}

static long
on_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int
on_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static int
on_destroy(BIO *bio)
{
    free(BIO_get_data(bio));
    return 1;
}

static SSL *
new_end(struct library *l, SSL_CTX *context, struct transit *in, struct transit *out)
{
    BIO *bio = BIO_new(l->method);
    struct ends *ends = malloc(sizeof *ends);
    SSL *ssl = SSL_new(context);

    if (!bio || !ends || !ssl)
        abort();
    *ends = (struct ends){in, out};
    BIO_set_data(bio, ends);
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

struct library *
library_new(const char *cert, const char *key)
{
    static const unsigned char secret[32], iv[12];
    struct library *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->server = SSL_CTX_new(TLS_server_method());
    l->client = SSL_CTX_new(TLS_client_method());
    for (int i = 0; i < 2; i++)
        l->ciphers[i] = EVP_CIPHER_CTX_new();
    l->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "transit");
    BIO_meth_set_read(l->method, on_read);
    BIO_meth_set_write(l->method, on_write);
    BIO_meth_set_ctrl(l->method, on_control);
    BIO_meth_set_create(l->method, on_create);
    BIO_meth_set_destroy(l->method, on_destroy);
    SSL_CTX_set_session_cache_mode(l->server, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(l->server, 1);
    SSL_CTX_set_mode(l->server, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(l->server, cert) == 1 &&
        SSL_CTX_use_PrivateKey_file(l->server, key, SSL_FILETYPE_PEM) == 1 &&
        EVP_EncryptInit_ex(l->ciphers[CIPHER_AES_128_GCM], EVP_aes_128_gcm(), NULL, secret, iv) == 1 &&
        EVP_EncryptInit_ex(l->ciphers[CIPHER_CHACHA20_POLY1305], EVP_chacha20_poly1305(), NULL, secret, iv) ==
            1)
        return l;
    library_free(l);
    return NULL;
}

void
library_free(struct library *l)
{
    if (!l)
        return;
    SSL_CTX_free(l->server);
    SSL_CTX_free(l->client);
    for (int i = 0; i < 2; i++)
        EVP_CIPHER_CTX_free(l->ciphers[i]);
    BIO_meth_free(l->method);
    free(l);
}

/* Both sides in turn, until both are done or one has failed. */
static bool
shake(SSL *server, SSL *client, double *seconds)
{
    int a = 0, b = 0;

    for (int turn = 0; turn < 10 && (a != 1 || b != 1); turn++) {
        double from;

        b = SSL_do_handshake(client);
        from = cpu_seconds();
        a = SSL_do_handshake(server);
        *seconds += cpu_seconds() - from;
    }
    return a == 1 && b == 1;
}

struct pipe_end *
library_shake(struct library *l, double *seconds)
{
    struct pipe_end *end = calloc(1, sizeof *end);
    double from = cpu_seconds();
    SSL *client;
    bool done;

    if (!end)
        return NULL;
    l->up = l->down = (struct transit){.at = 0};
    end->library = l;
    end->ssl = new_end(l, l->server, &l->up, &l->down);
    SSL_set_accept_state(end->ssl);
    *seconds += cpu_seconds() - from;
    client = new_end(l, l->client, &l->down, &l->up);
    SSL_set_connect_state(client);
    done = shake(end->ssl, client, seconds);
    SSL_free(client);
    if (done)
        return end;
    library_hang_up(end, seconds);
    return NULL;
}

void
library_hang_up(struct pipe_end *end, double *seconds)
{
    double from = cpu_seconds();

    SSL_free(end->ssl);
    free(end);
    *seconds += cpu_seconds() - from;
}

bool
library_send(struct pipe_end *end, const unsigned char *octets, size_t n)
{
    end->library->down.sink = true;
    return SSL_write(end->ssl, octets, (int)n) == (int)n;
}

bool
library_seal(struct library *l, enum cipher cipher, unsigned char *octets, size_t n)
{
    int got;

    return EVP_EncryptUpdate(l->ciphers[cipher], octets, &got, octets, (int)n) == 1;
}
