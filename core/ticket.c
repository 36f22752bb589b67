#include "ticket.h"

#include <mbedtls/gcm.h>
#include <mbedtls/platform_util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* A ticket: the key's name, when it was made, IV, tag, then the session. */
#define NAME 16
#define TIME 8
#define IV 12
#define TAG 16
#define HEAD (NAME + TIME)
#define SEALED (HEAD + IV + TAG)

struct key {
    unsigned char name[NAME], secret[TICKET_KEY - NAME];
    time_t made; /* 0: given from outside, does not age */
};

struct tickets {
    unsigned held;
    size_t count;
    struct key keys[TICKET_KEYS_MAX];
};

static bool
random_octets(void *to, size_t n)
{
    return getrandom(to, n, 0) == (ssize_t)n;
}

static bool
make_key(struct key *k)
{
    k->made = time(NULL);
    return random_octets(k->name, sizeof k->name) && random_octets(k->secret, sizeof k->secret);
}

struct tickets *
tickets_new(void)
{
    struct tickets *ts = calloc(1, sizeof *ts);

    if (!ts)
        return NULL;
    ts->held = ts->count = 1;
    if (make_key(&ts->keys[0]))
        return ts;
    tickets_drop(ts);
    return NULL;
}

struct tickets *
tickets_of_keys(const unsigned char *keys, size_t n)
{
    struct tickets *ts = calloc(1, sizeof *ts);

    if (!ts)
        return NULL;
    ts->held = 1;
    ts->count = n < TICKET_KEYS_MAX ? n : TICKET_KEYS_MAX;
    for (size_t i = 0; i < ts->count; i++) {
        memcpy(ts->keys[i].name, keys + i * TICKET_KEY, NAME);
        memcpy(ts->keys[i].secret, keys + i * TICKET_KEY + NAME, TICKET_KEY - NAME);
    }
    return ts;
}

struct tickets *
tickets_hold(struct tickets *ts)
{
    ts->held++;
    return ts;
}

void
tickets_drop(struct tickets *ts)
{
    if (!ts || --ts->held > 0)
        return;
    mbedtls_platform_zeroize(ts, sizeof *ts);
    free(ts);
}

/* The key that seals now.  One of our own that is old enough becomes the second,
 * which opens what it sealed for as long as that may be used. */
static const struct key *
sealing_key(struct tickets *ts)
{
    struct key fresh;

    if (ts->keys[0].made == 0 || time(NULL) - ts->keys[0].made < TICKET_LIFETIME || !make_key(&fresh))
        return &ts->keys[0];
    ts->keys[1] = ts->keys[0];
    ts->keys[0] = fresh;
    ts->count = 2;
    mbedtls_platform_zeroize(&fresh, sizeof fresh);
    return &ts->keys[0];
}

static const struct key *
find_key(const struct tickets *ts, const unsigned char *name)
{
    for (size_t i = 0; i < ts->count; i++)
        if (memcmp(ts->keys[i].name, name, NAME) == 0)
            return &ts->keys[i];
    return NULL;
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
seal(const struct key *k, uint64_t fit, unsigned char *ticket, size_t n)
{
    mbedtls_gcm_context gcm;
    unsigned char *iv = ticket + HEAD, *tag = iv + IV, *body = tag + TAG, bound[BOUND];
    int status;

    memcpy(ticket, k->name, NAME);
    put_number(ticket + NAME, (uint64_t)time(NULL));
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
unseal(const struct key *k, uint64_t fit, unsigned char *ticket, size_t n)
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
        status = seal(sealing_key(c->tickets), c->fit, start, n);
    *len = SEALED + n;
    return status;
}

int
ticket_parse(void *context, mbedtls_ssl_session *session, unsigned char *ticket, size_t len)
{
    const struct ticket_context *c = context;
    const struct key *k = len > SEALED ? find_key(c->tickets, ticket) : NULL;
    uint64_t now = (uint64_t)time(NULL);
    int status;

    if (!k || unseal(k, c->fit, ticket, len - SEALED) != 0)
        return MBEDTLS_ERR_SSL_INVALID_MAC;
    if (get_time(ticket + NAME) > now || now - get_time(ticket + NAME) > TICKET_LIFETIME)
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    status = mbedtls_ssl_session_load(session, ticket + SEALED, len - SEALED);
    mbedtls_platform_zeroize(ticket + SEALED, len - SEALED);
    return status;
}
