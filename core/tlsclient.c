#include "tlsclient.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where systems keep the certificates that they trust; SSL_CERT_FILE, which
 * OpenSSL looks at too, comes before. */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Ubuntu, Arch, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* openSUSE */
    "/etc/ssl/cert.pem",                  /* the BSDs, macOS */
};

static const char *
find_bundle(void)
{
    const char *path = getenv("SSL_CERT_FILE");

    if (path && *path)
        return path;
    for (size_t i = 0; i < sizeof bundles / sizeof *bundles; i++)
        if (access(bundles[i], R_OK) == 0)
            return bundles[i];
    return NULL;
}

/* Of the system's some may be of a kind that mbedTLS does not know. */
static bool
load_system_roots(struct tlsclient *c, char why[TLSKIT_WHY])
{
    const char *path = find_bundle();

    if (!path)
        return tlskit_refuse(why, 0,
                             "tls: no certificates of authorities were found on this system; install them "
                             "(Debian: ca-certificates) or name a file");
    return mbedtls_x509_crt_parse_file(&c->roots, path) >= 0 ||
           tlskit_refuse(why, 0, "tls: %s holds no certificates of authorities", path);
}

static bool
load_roots(struct tlsclient *c, const char *ca, char why[TLSKIT_WHY])
{
    mbedtls_ssl_conf_authmode(&c->conf, c->verify ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (!c->verify)
        return true;
    if (!(ca ? tlskit_load_certs(&c->roots, ca, why) : load_system_roots(c, why)))
        return false;
    mbedtls_ssl_conf_ca_chain(&c->conf, &c->roots, NULL);
    return true;
}

static bool
load_own(struct tlsclient *c, const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    if (!spec->cert)
        return true;
    if (!tlskit_load_certs(&c->cert, spec->cert, why) || !tlskit_load_key(&c->kit, &c->key, spec->key, why))
        return false;
    if (tlskit_check_pair(&c->kit, &c->cert, &c->key) != 0)
        return tlskit_refuse(why, 0, "%s is not the key of the certificate %s", spec->key, spec->cert);
    return mbedtls_ssl_conf_own_cert(&c->conf, &c->cert, &c->key) == 0 ||
           tlskit_refuse(why, 0, "out of memory");
}

static bool
configure(struct tlsclient *c, const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    int status = mbedtls_ssl_config_defaults(&c->conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                             MBEDTLS_SSL_PRESET_DEFAULT);

    if (status)
        return tlskit_refuse(why, status, "tls");
    tlskit_set_curves(&c->conf);
    return tlskit_start(&c->kit, &c->conf, why) && tlskit_set_versions(&c->conf, spec->tls13_only, why) &&
           load_roots(c, spec->ca, why) && load_own(c, spec, why);
}

struct tlsclient *
tlsclient_new(const struct tlsclient_spec *spec, char why[TLSKIT_WHY])
{
    struct tlsclient *c = calloc(1, sizeof *c);

    if (!c) {
        tlskit_refuse(why, 0, "out of memory");
        return NULL;
    }
    c->held = 1;
    c->verify = spec->verify;
    mbedtls_ssl_config_init(&c->conf);
    tlskit_init(&c->kit);
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
    tlskit_clear(&c->kit);
    free(c);
}
