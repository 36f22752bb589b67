#include "primitives.h"

#include <mbedtls/chachapoly.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/gcm.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <stdlib.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

const char *const library_name = MBEDTLS_VERSION_STRING_FULL;

struct library {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_config server, client;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    mbedtls_gcm_context gcm;
    mbedtls_chachapoly_context chacha;
    struct transit up, down; /* to the server, to the client */
};

struct pipe_end {
    mbedtls_ssl_context ssl;
    struct transit *in, *out;
    struct library *library;
};

static int
on_recv(void *context, unsigned char *octets, size_t n)
{
    struct pipe_end *end = context;
    size_t got = transit_take(end->in, octets, n);

    return got ? (int)got : MBEDTLS_ERR_SSL_WANT_READ;
}

static int
on_send(void *context, const unsigned char *octets, size_t n)
{
    struct pipe_end *end = context;

    return (int)transit_put(end->out, octets, n);
}

/* Keys are parsed, and the library is started, in two ways. */
static int
load_key(struct library *l, const char *path)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    psa_crypto_init();
    return mbedtls_pk_parse_keyfile(&l->key, path, NULL, mbedtls_ctr_drbg_random, &l->random);
#else
    return mbedtls_pk_parse_keyfile(&l->key, path, NULL);
#endif
}

/* As popd-lua has them: what this mbedTLS computes fastest. */
static void
set_curves(mbedtls_ssl_config *conf)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

    mbedtls_ssl_conf_groups(conf, groups);
#else
    static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                                  MBEDTLS_ECP_DP_NONE};

    mbedtls_ssl_conf_curves(conf, curves);
#endif
}

static void
configure(struct library *l, mbedtls_ssl_config *conf, int side)
{
    mbedtls_ssl_config_defaults(conf, side, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_rng(conf, mbedtls_ctr_drbg_random, &l->random);
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_NONE);
    set_curves(conf);
}

struct library *
library_new(const char *cert, const char *key)
{
    static const unsigned char secret[32];
    struct library *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    mbedtls_entropy_init(&l->entropy);
    mbedtls_ctr_drbg_init(&l->random);
    mbedtls_ssl_config_init(&l->server);
    mbedtls_ssl_config_init(&l->client);
    mbedtls_x509_crt_init(&l->cert);
    mbedtls_pk_init(&l->key);
    mbedtls_gcm_init(&l->gcm);
    mbedtls_chachapoly_init(&l->chacha);
    if (mbedtls_ctr_drbg_seed(&l->random, mbedtls_entropy_func, &l->entropy, NULL, 0) != 0 ||
        mbedtls_x509_crt_parse_file(&l->cert, cert) != 0 || load_key(l, key) != 0) {
        library_free(l);
        return NULL;
    }
    configure(l, &l->server, MBEDTLS_SSL_IS_SERVER);
    configure(l, &l->client, MBEDTLS_SSL_IS_CLIENT);
    mbedtls_ssl_conf_own_cert(&l->server, &l->cert, &l->key);
    mbedtls_gcm_setkey(&l->gcm, MBEDTLS_CIPHER_ID_AES, secret, 128);
    mbedtls_chachapoly_setkey(&l->chacha, secret);
    return l;
}

void
library_free(struct library *l)
{
    if (!l)
        return;
    mbedtls_chachapoly_free(&l->chacha);
    mbedtls_gcm_free(&l->gcm);
    mbedtls_pk_free(&l->key);
    mbedtls_x509_crt_free(&l->cert);
    mbedtls_ssl_config_free(&l->client);
    mbedtls_ssl_config_free(&l->server);
    mbedtls_ctr_drbg_free(&l->random);
    mbedtls_entropy_free(&l->entropy);
    free(l);
}

static struct pipe_end *
new_end(struct library *l, const mbedtls_ssl_config *conf, struct transit *in, struct transit *out)
{
    struct pipe_end *end = calloc(1, sizeof *end);

    if (!end)
        abort();
    *end = (struct pipe_end){.in = in, .out = out, .library = l};
    mbedtls_ssl_init(&end->ssl);
    if (mbedtls_ssl_setup(&end->ssl, conf) != 0)
        abort();
    mbedtls_ssl_set_bio(&end->ssl, end, on_send, on_recv, NULL);
    return end;
}

static void
free_end(struct pipe_end *end)
{
    mbedtls_ssl_free(&end->ssl);
    free(end);
}

/* Both sides in turn, until both are done or one has failed. */
static bool
shake(struct pipe_end *server, struct pipe_end *client, double *seconds)
{
    int a = -1, b = -1;

    for (int turn = 0; turn < 10 && (a != 0 || b != 0); turn++) {
        double from;

        b = b ? mbedtls_ssl_handshake(&client->ssl) : 0;
        from = cpu_seconds();
        a = a ? mbedtls_ssl_handshake(&server->ssl) : 0;
        *seconds += cpu_seconds() - from;
    }
    return a == 0 && b == 0;
}

struct pipe_end *
library_shake(struct library *l, double *seconds)
{
    struct pipe_end *client, *server;
    double from = cpu_seconds();
    bool done;

    l->up = l->down = (struct transit){.at = 0};
    server = new_end(l, &l->server, &l->up, &l->down);
    *seconds += cpu_seconds() - from;
    client = new_end(l, &l->client, &l->down, &l->up);
    mbedtls_ssl_set_hostname(&client->ssl, "localhost");
    done = shake(server, client, seconds);
    free_end(client);
    if (done)
        return server;
    free_end(server);
    return NULL;
}

void
library_hang_up(struct pipe_end *end, double *seconds)
{
    double from = cpu_seconds();

    free_end(end);
    *seconds += cpu_seconds() - from;
}

bool
library_send(struct pipe_end *end, const unsigned char *octets, size_t n)
{
    int put = 1;

    end->library->down.sink = true;
    for (size_t sent = 0; put > 0 && sent < n; sent += (size_t)put)
        put = mbedtls_ssl_write(&end->ssl, octets + sent, n - sent);
    return put > 0;
}

bool
library_seal(struct library *l, enum cipher cipher, unsigned char *octets, size_t n)
{
    static const unsigned char iv[12];
    unsigned char tag[16];

    if (cipher == CIPHER_CHACHA20_POLY1305)
        return mbedtls_chachapoly_encrypt_and_tag(&l->chacha, n, iv, NULL, 0, octets, octets, tag) == 0;
    return mbedtls_gcm_crypt_and_tag(&l->gcm, MBEDTLS_GCM_ENCRYPT, n, iv, sizeof iv, NULL, 0, octets, octets,
                                     sizeof tag, tag) == 0;
}
