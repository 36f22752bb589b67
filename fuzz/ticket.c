/* ticket_parse: a ticket that a client has altered, or made up around a key's
 * right name, is never taken; what is taken is what was written. */
#include "../core/ticket_mbed.h"

#include <stdlib.h>
#include <string.h>

#define NAME TICKET_NAME

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static bool
is_taken(struct ticket_context *context, unsigned char *ticket, size_t len)
{
    mbedtls_ssl_session session;
    int status;

    mbedtls_ssl_session_init(&session);
    status = ticket_parse(context, &session, ticket, len);
    mbedtls_ssl_session_free(&session);
    return status == 0;
}

/* Octets of the client's own, behind the name of a key that there is. */
static void
check_made_up(struct ticket_context *context, const unsigned char *key, const uint8_t *data, size_t n)
{
    unsigned char *ticket = malloc(n ? n : 1);

    must(ticket != NULL);
    if (n)
        memcpy(ticket, data, n);
    if (n >= NAME && data[NAME - 1] & 1)
        memcpy(ticket, key, NAME);
    must(!is_taken(context, ticket, n));
    free(ticket);
}

/* A right ticket, of which octets are altered and some at the end cut off. */
static void
check_altered(struct ticket_context *context, const uint8_t *data, size_t n)
{
    unsigned char right[2048], ticket[2048];
    size_t len = 0, cut = n ? data[0] % 8 : 0;
    mbedtls_ssl_session session;
    uint32_t lifetime;
    bool same;
    int status;

    mbedtls_ssl_session_init(&session);
    status = ticket_write(context, &session, right, right + sizeof right, &len, &lifetime);
    mbedtls_ssl_session_free(&session);
    if (status != 0)
        return; /* mbedTLS 3 saves no session that never was */
    memcpy(ticket, right, len);
    for (size_t i = 1; i < n; i++)
        ticket[(i - 1) % len] ^= data[i];
    same = cut == 0 && memcmp(ticket, right, len) == 0;
    must(is_taken(context, ticket, len - cut) == same);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const unsigned char key[TICKET_KEY] = "the key's name..";
    struct ticket_context context = {.tickets = tickets_of_keys(key, 1), .fit = 7};

    must(context.tickets != NULL);
    check_made_up(&context, key, data, n);
    check_altered(&context, data, n);
    tickets_drop(context.tickets);
    return 0;
}
