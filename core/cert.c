#include "cert.h"

#include "buf.h"

#include <arpa/inet.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
#include <psa/crypto.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define NAME_MAX_OCTETS 253
#define LABEL_MAX_OCTETS 63
#define COMMON_NAME_MAX 64 /* RFC 5280, appendix A: ub-common-name */
#define KEY_ROOM 1024      /* a P-256 key in PEM has some 230 octets */
#define CERT_ROOM 4096     /* what a certificate in PEM needs beside its hosts */
#define SERIAL_OCTETS 16
#define DAY 86400

/* GeneralName's choices (RFC 5280, section 4.2.1.6), and SEQUENCE. */
enum { DER_SEQUENCE = 0x30, DER_DNS_NAME = 0x82, DER_IP_ADDRESS = 0x87 };

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
is_label_octet(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

/* A label's length, or 0: it is none.  `*` may be the first one. */
static size_t
label_length(const char *text, bool first)
{
    size_t n = 0;

    if (first && text[0] == '*' && text[1] == '.')
        return 1;
    while (is_label_octet(text[n]))
        n++;
    return n > LABEL_MAX_OCTETS || text[0] == '-' || (n > 0 && text[n - 1] == '-') ? 0 : n;
}

static bool
is_number(const char *text)
{
    while (is_digit(*text))
        text++;
    return *text == '\0';
}

/* A name that ends in a number is a mistyped address (RFC 1123, section 2.1). */
static bool
is_name(const char *host)
{
    const char *label = host;

    if (strlen(host) > NAME_MAX_OCTETS)
        return false;
    for (;;) {
        size_t n = label_length(label, label == host);

        if (n == 0)
            return false;
        if (label[n] == '\0')
            return !is_number(label);
        if (label[n] != '.')
            return false;
        label += n + 1;
    }
}

/* The octets of an address: 4, 16, or 0 for none. */
static size_t
address_octets(const char *host, unsigned char octets[16])
{
    return inet_pton(AF_INET, host, octets) == 1 ? 4 : inet_pton(AF_INET6, host, octets) == 1 ? 16 : 0;
}

enum cert_host
cert_host_kind(const char *host)
{
    unsigned char octets[16];

    return address_octets(host, octets) ? CERT_ADDRESS : is_name(host) ? CERT_NAME : CERT_NO_HOST;
}

/* Tag, length and value (X.690, section 8.1); n is at most 65535. */
static void
add_der(struct buf *b, unsigned char tag, const void *value, size_t n)
{
    unsigned char head[4] = {tag, (unsigned char)n};
    size_t len = 2;

    if (n > 255) {
        head[1] = 0x82, head[2] = (unsigned char)(n >> 8), head[3] = (unsigned char)n;
        len = 4;
    } else if (n > 127) {
        head[1] = 0x81, head[2] = (unsigned char)n;
        len = 3;
    }
    buf_add(b, head, len);
    buf_add(b, value, n);
}

static void
add_host(struct buf *b, const char *host)
{
    unsigned char octets[16];
    size_t n = address_octets(host, octets);

    if (n)
        add_der(b, DER_IP_ADDRESS, octets, n);
    else
        add_der(b, DER_DNS_NAME, host, strlen(host));
}

/* The value of subjectAltName: a sequence of names. */
static void
write_names(struct buf *names, const char *const *hosts, size_t n)
{
    struct buf list = {0};

    for (size_t i = 0; i < n; i++)
        add_host(&list, hosts[i]);
    names->failed = list.failed;
    add_der(names, DER_SEQUENCE, list.data, list.len);
    buf_clear(&list);
}

/* For mbedTLS; 256 octets are what the system gives in one piece. */
static int
fill_random(void *nothing, unsigned char *out, size_t n)
{
    (void)nothing;
    while (n > 0) {
        size_t piece = n < 256 ? n : 256;

        if (getrandom(out, piece, 0) != (ssize_t)piece)
            return MBEDTLS_ERR_ECP_RANDOM_FAILED;
        out += piece;
        n -= piece;
    }
    return 0;
}

/* From mbedTLS 3 on keys may pass through its PSA part, which must be started. */
static bool
start_library(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
    return psa_crypto_init() == PSA_SUCCESS;
#else
    return true;
#endif
}

/* mbedTLS 3 deprecates serial numbers that are big numbers, 2 has no others. */
static int
set_serial(mbedtls_x509write_cert *cert, unsigned char *serial, size_t n)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
    return mbedtls_x509write_crt_set_serial_raw(cert, serial, n);
#else
    mbedtls_mpi number;
    int status;

    mbedtls_mpi_init(&number);
    status = mbedtls_mpi_read_binary(&number, serial, n);
    if (status == 0)
        status = mbedtls_x509write_crt_set_serial(cert, &number);
    mbedtls_mpi_free(&number);
    return status;
#endif
}

/* A positive number without leading zeros (RFC 5280, section 4.1.2.2). */
static int
choose_serial(mbedtls_x509write_cert *cert)
{
    unsigned char serial[SERIAL_OCTETS];
    int status = fill_random(NULL, serial, sizeof serial);

    serial[0] = (serial[0] & 0x3f) | 0x40;
    return status ? status : set_serial(cert, serial, sizeof serial);
}

/* YYYYMMDDhhmmss, in UTC. */
static bool
write_time(char text[15], time_t at)
{
    struct tm tm;

    return gmtime_r(&at, &tm) && strftime(text, 15, "%Y%m%d%H%M%S", &tm) == 14;
}

static int
set_validity(mbedtls_x509write_cert *cert, unsigned days)
{
    char from[15], to[15];
    time_t now = time(NULL);

    if (!write_time(from, now - DAY) || !write_time(to, now + (time_t)days * DAY))
        return MBEDTLS_ERR_X509_INVALID_DATE;
    return mbedtls_x509write_crt_set_validity(cert, from, to);
}

/* Issuer and subject are the same.  A host that is too long for a common name
 * stands among the alternative names alone, which are what clients look at. */
static int
set_subject(mbedtls_x509write_cert *cert, const char *host)
{
    char name[sizeof "CN=" + COMMON_NAME_MAX];
    int status;

    snprintf(name, sizeof name, "CN=%s", strlen(host) <= COMMON_NAME_MAX ? host : "popd-lua");
    status = mbedtls_x509write_crt_set_subject_name(cert, name);
    return status ? status : mbedtls_x509write_crt_set_issuer_name(cert, name);
}

static int
set_names(mbedtls_x509write_cert *cert, const char *const *hosts, size_t n)
{
    struct buf names = {0};
    int status = MBEDTLS_ERR_X509_ALLOC_FAILED;

    write_names(&names, hosts, n);
    if (!names.failed)
        status = mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                     MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0,
                                                     (const unsigned char *)names.data, names.len);
    buf_clear(&names);
    return status;
}

/* extKeyUsage: a sequence of one, id-kp-serverAuth (RFC 5280, section 4.2.1.12). */
static int
set_purpose(mbedtls_x509write_cert *cert)
{
    static const unsigned char server_auth[] = {DER_SEQUENCE, 10, 0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1};

    return mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                                               server_auth, sizeof server_auth);
}

static int
fill_in(mbedtls_x509write_cert *cert, mbedtls_pk_context *key, const char *const *hosts, size_t n,
        unsigned days)
{
    int status;

    mbedtls_x509write_crt_set_version(cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(cert, key);
    mbedtls_x509write_crt_set_issuer_key(cert, key);
    if ((status = choose_serial(cert)) != 0 || (status = set_validity(cert, days)) != 0 ||
        (status = set_subject(cert, hosts[0])) != 0 || (status = set_names(cert, hosts, n)) != 0 ||
        (status = set_purpose(cert)) != 0 ||
        (status = mbedtls_x509write_crt_set_basic_constraints(cert, 0, -1)) != 0 ||
        (status = mbedtls_x509write_crt_set_subject_key_identifier(cert)) != 0)
        return status;
    return mbedtls_x509write_crt_set_key_usage(cert, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
}

static int
make_key(mbedtls_pk_context *key)
{
    int status = mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));

    return status ? status
                  : mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), fill_random, NULL);
}

/* How much PEM a certificate of these hosts may have, with room to spare. */
static size_t
cert_room(const char *const *hosts, size_t n)
{
    size_t room = CERT_ROOM;

    for (size_t i = 0; i < n; i++)
        room += 2 * (strlen(hosts[i]) + 16);
    return room;
}

static int
write_cert(mbedtls_pk_context *key, const char *const *hosts, size_t n, unsigned days, char *pem, size_t room)
{
    mbedtls_x509write_cert cert;
    int status;

    mbedtls_x509write_crt_init(&cert);
    status = fill_in(&cert, key, hosts, n, days);
    if (status == 0)
        status = mbedtls_x509write_crt_pem(&cert, (unsigned char *)pem, room, fill_random, NULL);
    mbedtls_x509write_crt_free(&cert);
    return status;
}

static int
write_pair(const char *const *hosts, size_t n, unsigned days, struct cert_pair *pair)
{
    size_t room = cert_room(hosts, n);
    mbedtls_pk_context key;
    int status = MBEDTLS_ERR_X509_ALLOC_FAILED;

    mbedtls_pk_init(&key);
    pair->cert = malloc(room);
    pair->key = calloc(1, KEY_ROOM);
    if (pair->cert && pair->key)
        status = make_key(&key);
    if (status == 0)
        status = write_cert(&key, hosts, n, days, pair->cert, room);
    if (status == 0)
        status = mbedtls_pk_write_key_pem(&key, (unsigned char *)pair->key, KEY_ROOM);
    mbedtls_pk_free(&key);
    return status;
}

bool
cert_make(const char *const *hosts, size_t n, unsigned days, struct cert_pair *pair, const char **why)
{
    int status = -1;

    *pair = (struct cert_pair){0};
    if (start_library())
        status = write_pair(hosts, n, days, pair);
    if (status == 0)
        return true;
    cert_clear(pair);
    *why = status == MBEDTLS_ERR_X509_ALLOC_FAILED   ? "out of memory"
           : status == MBEDTLS_ERR_ECP_RANDOM_FAILED ? "the system gives no random octets"
                                                     : "mbedTLS makes no such certificate";
    return false;
}

void
cert_clear(struct cert_pair *pair)
{
    if (pair->key)
        mbedtls_platform_zeroize(pair->key, KEY_ROOM);
    free(pair->key);
    free(pair->cert);
    *pair = (struct cert_pair){0};
}
