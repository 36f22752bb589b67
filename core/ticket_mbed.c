#include "ticket_mbed.h"

#include <mbedtls/gcm.h>
#include <mbedtls/platform_util.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* A ticket: the key's name, when it was made, IV, tag, then the session. */
#define TIME 8
#define IV 12
#define TAG 16
#define HEAD (TICKET_NAME + TIME)
#define SEALED (HEAD + IV + TAG)

static bool
random_octets(void *to, size_t n)
{
    return getrandom(to, n, 0) == (ssize_t)n;
}

static void
put_number(unsigned char *to, uint64_t n)
{
    for (int i = 0; i < TIME; i++)
        to[i] = (unsigned char)(n >> (8 * (TIME - 1 - i)));
}

static uint64_t
get_time(const unsigned char *from)
{
    uint64_t seconds = 0;

    for (int i = 0; i < TIME; i++)
        seconds = seconds << 8 | from[i];
    return seconds;
}

/* What is sealed along: the ticket's head, and what it must fit. */
#define BOUND (HEAD + TIME)

static void
note_bound(unsigned char bound[BOUND], const unsigned char *ticket, uint64_t fit)
{
    memcpy(bound, ticket, HEAD);
    put_number(bound + HEAD, fit);
}

/* Seals n octets at ticket + SEALED in place, and writes what stands before. */
static int
seal(const struct ticket_key *k, uint64_t fit, unsigned char *ticket, size_t n)
{
    mbedtls_gcm_context gcm;
    unsigned char *iv = ticket + HEAD, *tag = iv + IV, *body = tag + TAG, bound[BOUND];
    int status;

    memcpy(ticket, k->name, TICKET_NAME);
    put_number(ticket + TICKET_NAME, (uint64_t)time(NULL));
    note_bound(bound, ticket, fit);
    if (!random_octets(iv, IV))
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    mbedtls_gcm_init(&gcm);
    status = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, k->secret, 8 * sizeof k->secret);
    if (status == 0)
        status = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, n, iv, IV, bound, sizeof bound, body,
                                           body, TAG, tag);
    mbedtls_gcm_free(&gcm);
    return status;
}

static int
unseal(const struct ticket_key *k, uint64_t fit, unsigned char *ticket, size_t n)
{
    mbedtls_gcm_context gcm;
    unsigned char *iv = ticket + HEAD, *tag = iv + IV, *body = tag + TAG, bound[BOUND];
    int status;

    note_bound(bound, ticket, fit);
    mbedtls_gcm_init(&gcm);
    status = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, k->secret, 8 * sizeof k->secret);
    if (status == 0)
        status = mbedtls_gcm_auth_decrypt(&gcm, n, iv, IV, bound, sizeof bound, tag, TAG, body, body);
    mbedtls_gcm_free(&gcm);
    return status;
}

int
ticket_write(void *context, const mbedtls_ssl_session *session, unsigned char *start,
             const unsigned char *end, size_t *len, uint32_t *lifetime)
{
    const struct ticket_context *c = context;
    size_t n = 0, room = (size_t)(end - start);
    int status;

    *lifetime = TICKET_LIFETIME;
    if (room < SEALED)
        return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
    status = mbedtls_ssl_session_save(session, start + SEALED, room - SEALED, &n);
    if (status == 0)
        status = seal(tickets_sealing(c->tickets), c->fit, start, n);
    *len = SEALED + n;
    return status;
}

int
ticket_parse(void *context, mbedtls_ssl_session *session, unsigned char *ticket, size_t len)
{
    const struct ticket_context *c = context;
    const struct ticket_key *k = len > SEALED ? tickets_find(c->tickets, ticket) : NULL;
    uint64_t now = (uint64_t)time(NULL);
    int status;

    if (!k || unseal(k, c->fit, ticket, len - SEALED) != 0)
        return MBEDTLS_ERR_SSL_INVALID_MAC;
    if (get_time(ticket + TICKET_NAME) > now || now - get_time(ticket + TICKET_NAME) > TICKET_LIFETIME)
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    status = mbedtls_ssl_session_load(session, ticket + SEALED, len - SEALED);
    mbedtls_platform_zeroize(ticket + SEALED, len - SEALED);
    return status;
}
