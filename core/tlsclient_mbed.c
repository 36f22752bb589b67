#include "tlsclient.h"

#include "mbed.h"

#include <stdlib.h>

/* Of the system's some may be of a kind that mbedTLS does not know. */
static bool
load_system_roots(struct tlsclient *c, char why[TLSKIT_WHY])
{
    const char *path = tlskit_system_roots(why);

    if (!path)
        return false;
    return mbedtls_x509_crt_parse_file(&c->roots, path) >= 0 ||
           tlskit_refuse(why, "tls: %s holds no certificates of authorities", path);
}

static bool
load_roots(struct tlsclient *c, const char *ca, char why[TLSKIT_WHY])
{
    mbedtls_ssl_conf_authmode(&c->conf, c->verify ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (!c->verify)
        return true;
    if (!(ca ? mbed_load_certs(&c->roots, ca, why) : load_system_roots(c, why)))
        return false;
    mbedtls_ssl_conf_ca_chain(&c->conf, &c->roots, NULL);
    return true;
}

static bool
load_own(struct tlsclient *c, const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    if (!spec->cert)
        return true;
    if (!mbed_load_pair(&c->mbed, &c->cert, &c->key, spec->cert, spec->key, why))
        return false;
    return mbedtls_ssl_conf_own_cert(&c->conf, &c->cert, &c->key) == 0 || tlskit_refuse(why, "out of memory");
}

static bool
configure(struct tlsclient *c, const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    int status = mbedtls_ssl_config_defaults(&c->conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                             MBEDTLS_SSL_PRESET_DEFAULT);

    if (status)
        return mbed_refuse(why, status, "tls");
    mbed_set_curves(&c->conf);
    return mbed_start(&c->mbed, &c->conf, why) && mbed_set_versions(&c->conf, spec->tls13_only, why) &&
           load_roots(c, spec->ca, why) && load_own(c, spec, why);
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
    mbedtls_ssl_config_init(&c->conf);
    mbed_init(&c->mbed);
    mbedtls_x509_crt_init(&c->roots);
    mbedtls_x509_crt_init(&c->cert);
    mbedtls_pk_init(&c->key);
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
    mbedtls_ssl_config_free(&c->conf);
    mbedtls_x509_crt_free(&c->roots);
    mbedtls_x509_crt_free(&c->cert);
    mbedtls_pk_free(&c->key);
    mbed_clear(&c->mbed);
    free(c);
}
