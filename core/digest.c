#include "digest.h"

#include <mbedtls/md.h>
#include <mbedtls/pkcs5.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    mbedtls_md_context_t md;
};

void
digest_to_hex(const void *data, size_t n, char *hex)
{
    const unsigned char *octets = data;
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[octets[i] >> 4];
        hex[2 * i + 1] = digits[octets[i] & 15];
    }
    hex[2 * n] = '\0';
}

/* Some bytes; the library may be given no NULL, even where there are none. */
static const unsigned char *
octets_of(const void *data, size_t n)
{
    static const unsigned char none;

    return n ? data : &none;
}

static bool
start(mbedtls_md_context_t *md, mbedtls_md_type_t type)
{
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(type);

    mbedtls_md_init(md);
    return info && mbedtls_md_setup(md, info, 0) == 0 && mbedtls_md_starts(md) == 0;
}

static bool
add(mbedtls_md_context_t *md, const void *data, size_t n)
{
    return mbedtls_md_update(md, octets_of(data, n), n) == 0;
}

/* `octets`: how many the digest has. */
static bool
finish(mbedtls_md_context_t *md, size_t octets, char *hex)
{
    unsigned char sum[MBEDTLS_MD_MAX_SIZE];
    bool ok = mbedtls_md_finish(md, sum) == 0;

    if (ok)
        digest_to_hex(sum, octets, hex);
    digest_wipe(sum, sizeof sum);
    return ok;
}

bool
digest_md5(const void *data, size_t n, char hex[DIGEST_MD5_HEX + 1])
{
    mbedtls_md_context_t md;
    bool ok = start(&md, MBEDTLS_MD_MD5) && add(&md, data, n) && finish(&md, DIGEST_MD5_HEX / 2, hex);

    mbedtls_md_free(&md);
    return ok;
}

bool
digest_sha256(const void *data, size_t n, char hex[DIGEST_SHA256_HEX + 1])
{
    mbedtls_md_context_t md;
    bool ok = start(&md, MBEDTLS_MD_SHA256) && add(&md, data, n) && finish(&md, DIGEST_SHA256_HEX / 2, hex);

    mbedtls_md_free(&md);
    return ok;
}

static const struct {
    const char *name;
    mbedtls_md_type_t type;
    size_t size;
} kinds[] = {
    [DIGEST_MD5] = {"MD5", MBEDTLS_MD_MD5, 16},
    [DIGEST_SHA1] = {"SHA-1", MBEDTLS_MD_SHA1, 20},
    [DIGEST_SHA256] = {"SHA-256", MBEDTLS_MD_SHA256, 32},
    [DIGEST_SHA384] = {"SHA-384", MBEDTLS_MD_SHA384, 48},
    [DIGEST_SHA512] = {"SHA-512", MBEDTLS_MD_SHA512, 64},
};

bool
digest_find(const char *name, enum digest_kind *kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            *kind = (enum digest_kind)i;
            return true;
        }
    return false;
}

size_t
digest_size(enum digest_kind kind)
{
    return kinds[kind].size;
}

bool
digest_hash(enum digest_kind kind, const void *data, size_t n, unsigned char *out)
{
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(kinds[kind].type);

    return info && mbedtls_md(info, octets_of(data, n), n, out) == 0;
}

bool
digest_hmac(enum digest_kind kind, const void *key, size_t key_len, const void *data, size_t n,
            unsigned char *out)
{
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(kinds[kind].type);

    return info && mbedtls_md_hmac(info, octets_of(key, key_len), key_len, octets_of(data, n), n, out) == 0;
}

/* mbedTLS 3 deprecates the form that takes a context, 2 has no other. */
static int
pbkdf2(mbedtls_md_type_t type, const unsigned char *password, size_t password_len, const unsigned char *salt,
       size_t salt_len, unsigned iterations, unsigned char *out, size_t n)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03030000
    return mbedtls_pkcs5_pbkdf2_hmac_ext(type, password, password_len, salt, salt_len, iterations,
                                         (uint32_t)n, out);
#else
    mbedtls_md_context_t md;
    int status;

    mbedtls_md_init(&md);
    status = mbedtls_md_setup(&md, mbedtls_md_info_from_type(type), 1);
    if (status == 0)
        status = mbedtls_pkcs5_pbkdf2_hmac(&md, password, password_len, salt, salt_len, iterations,
                                           (uint32_t)n, out);
    mbedtls_md_free(&md);
    return status;
#endif
}

bool
digest_pbkdf2(enum digest_kind kind, const void *password, size_t password_len, const void *salt,
              size_t salt_len, unsigned iterations, unsigned char *out, size_t n)
{
    return pbkdf2(kinds[kind].type, octets_of(password, password_len), password_len,
                  octets_of(salt, salt_len), salt_len, iterations, out, n) == 0;
}

struct digest *
digest_new(void)
{
    struct digest *d = malloc(sizeof *d);

    if (d && !start(&d->md, MBEDTLS_MD_SHA256)) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void
digest_free(struct digest *d)
{
    if (d)
        mbedtls_md_free(&d->md);
    free(d);
}

bool
digest_add(struct digest *d, const void *data, size_t n)
{
    return add(&d->md, data, n);
}

bool
digest_hex(struct digest *d, char hex[DIGEST_SHA256_HEX + 1])
{
    return finish(&d->md, DIGEST_SHA256_HEX / 2, hex);
}

/* No branch depends on a's bytes; `volatile` keeps the compiler from leaving
 * the loop early. */
bool
digest_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    const unsigned char *x = octets_of(a, a_len), *y = octets_of(b, b_len);
    volatile unsigned char differs = a_len != b_len;

    for (size_t i = 0; i < b_len; i++)
        differs = (unsigned char)(differs | (x[i < a_len ? i : 0] ^ y[i]));
    return differs == 0;
}

static bool
apop_sum(const char *stamp, const char *secret, size_t secret_len, char hex[DIGEST_MD5_HEX + 1])
{
    mbedtls_md_context_t md;
    bool ok = start(&md, MBEDTLS_MD_MD5) && add(&md, stamp, strlen(stamp)) && add(&md, secret, secret_len) &&
              finish(&md, DIGEST_MD5_HEX / 2, hex);

    mbedtls_md_free(&md);
    return ok;
}

bool
digest_apop(const char *stamp, const char *secret, size_t secret_len, const char *digest, size_t len)
{
    char expected[DIGEST_MD5_HEX + 1], given[DIGEST_MD5_HEX];
    bool ok;

    if (len != DIGEST_MD5_HEX || !apop_sum(stamp, secret, secret_len, expected))
        return false;
    for (size_t i = 0; i < len; i++)
        given[i] = digest[i] >= 'A' && digest[i] <= 'F' ? (char)(digest[i] - 'A' + 'a') : digest[i];
    ok = digest_equal(expected, DIGEST_MD5_HEX, given, len);
    digest_wipe(expected, sizeof expected);
    return ok;
}

void
digest_wipe(void *secret, size_t n)
{
    if (n)
        mbedtls_platform_zeroize(secret, n);
}
