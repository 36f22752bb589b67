#include "tlsclient.h"

#include "openssl.h"

#include <openssl/err.h>
#include <stdlib.h>

/* Of the system's some may be of a kind that OpenSSL does not know. */
static bool
load_roots(struct tlsclient *c, const char *ca, char why[TLSKIT_WHY])
{
    const char *path = ca || !c->verify ? ca : tlskit_system_roots(why);

    SSL_CTX_set_verify(c->context, c->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (!c->verify)
        return true;
    return path && openssl_trust(c->context, path, !ca, NULL, why);
}

static bool
load_own(struct tlsclient *c, const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    struct openssl_pair pair = {NULL, NULL, NULL};
    bool done;

    if (!spec->cert)
        return true;
    done = openssl_load_pair(&pair, spec->cert, spec->key, why);
    if (done && SSL_CTX_use_cert_and_key(c->context, pair.cert, pair.key, pair.chain, 1) != 1)
        done = openssl_refuse(why, spec->cert);
    openssl_clear_pair(&pair);
    return done;
}

static bool
configure(struct tlsclient *c, const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    c->context = openssl_context(TLS_client_method(), spec->tls13_only, why);
    if (!c->context)
        return false;
    c->bio = openssl_bio();
    if (!c->bio)
        return tlskit_refuse(why, "out of memory");
    SSL_CTX_set_session_cache_mode(c->context, SSL_SESS_CACHE_OFF);
    return load_roots(c, spec->ca, why) && load_own(c, spec, why);
}

struct tlsclient *
tlsclient_new(const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    struct tlsclient *c = calloc(1, sizeof *c);

    if (!c) {
        tlskit_refuse(why, "out of memory");
        return NULL;
    }
    c->held = 1;
    c->verify = spec->verify;
    if (configure(c, spec, why))
        return c;
    tlsclient_drop(c);
    return NULL;
}

struct tlsclient *
tlsclient_hold(struct tlsclient *c)
{
    c->held++;
    return c;
}

void
tlsclient_drop(struct tlsclient *c)
{
    if (!c || --c->held > 0)
        return;
    SSL_CTX_free(c->context);
    BIO_meth_free(c->bio);
    free(c);
}
