#include "mbedrest.h"

#include <malloc.h>
#include <mbedtls/platform.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <stdint.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER < 0x03000000
#define MBEDTLS_PRIVATE(member) member
#endif

/* How large a buffer is that mbedTLS has made, as far as its allocator tells. */
static size_t
room_of(void *buffer)
{
#if defined(MBEDTLS_PLATFORM_MEMORY)
    (void)buffer;
    return 0;
#else
    return malloc_usable_size(buffer);
#endif
}

/* While there is no buffer, what points into it says how far from its beginning. */
static void
move(unsigned char **pointer, uintptr_t from, uintptr_t to)
{
    *pointer = (unsigned char *)((uintptr_t)*pointer - from + to);
}

static void
move_in(mbedtls_ssl_context *ssl, unsigned char *buffer)
{
    uintptr_t from = (uintptr_t)ssl->MBEDTLS_PRIVATE(in_buf), to = (uintptr_t)buffer;

    move(&ssl->MBEDTLS_PRIVATE(in_ctr), from, to);
    move(&ssl->MBEDTLS_PRIVATE(in_hdr), from, to);
#if defined(MBEDTLS_SSL_DTLS_CONNECTION_ID)
    move(&ssl->MBEDTLS_PRIVATE(in_cid), from, to);
#endif
    move(&ssl->MBEDTLS_PRIVATE(in_len), from, to);
    move(&ssl->MBEDTLS_PRIVATE(in_iv), from, to);
    move(&ssl->MBEDTLS_PRIVATE(in_msg), from, to);
    ssl->MBEDTLS_PRIVATE(in_buf) = buffer;
}

static void
move_out(mbedtls_ssl_context *ssl, unsigned char *buffer)
{
    uintptr_t from = (uintptr_t)ssl->MBEDTLS_PRIVATE(out_buf), to = (uintptr_t)buffer;

    move(&ssl->MBEDTLS_PRIVATE(out_ctr), from, to);
    move(&ssl->MBEDTLS_PRIVATE(out_hdr), from, to);
#if defined(MBEDTLS_SSL_DTLS_CONNECTION_ID)
    move(&ssl->MBEDTLS_PRIVATE(out_cid), from, to);
#endif
    move(&ssl->MBEDTLS_PRIVATE(out_len), from, to);
    move(&ssl->MBEDTLS_PRIVATE(out_iv), from, to);
    move(&ssl->MBEDTLS_PRIVATE(out_msg), from, to);
    ssl->MBEDTLS_PRIVATE(out_buf) = buffer;
}

/* The last record lies there as it was understood: it is wiped. */
static void
drop_in(struct mbedrest *r, mbedtls_ssl_context *ssl)
{
    unsigned char *buffer = ssl->MBEDTLS_PRIVATE(in_buf);

    if (!buffer || ssl->MBEDTLS_PRIVATE(in_left) > 0 || mbedtls_ssl_check_pending(ssl))
        return;
    r->in_room = r->in_room ? r->in_room : room_of(buffer);
    if (r->in_room == 0)
        return;
    memcpy(r->counter, ssl->MBEDTLS_PRIVATE(in_ctr), sizeof r->counter);
    move_in(ssl, NULL);
    mbedtls_platform_zeroize(buffer, r->in_room);
    mbedtls_free(buffer);
}

/* The last record lies there as it was sent. */
static void
drop_out(struct mbedrest *r, mbedtls_ssl_context *ssl)
{
    unsigned char *buffer = ssl->MBEDTLS_PRIVATE(out_buf);

    if (!buffer || ssl->MBEDTLS_PRIVATE(out_left) > 0)
        return;
    r->out_room = r->out_room ? r->out_room : room_of(buffer);
    if (r->out_room == 0)
        return;
    move_out(ssl, NULL);
    mbedtls_free(buffer);
}

void
mbedrest_rest(struct mbedrest *r, mbedtls_ssl_context *ssl)
{
    drop_in(r, ssl);
    drop_out(r, ssl);
}

bool
mbedrest_wake_to_write(struct mbedrest *r, mbedtls_ssl_context *ssl)
{
    unsigned char *buffer = ssl->MBEDTLS_PRIVATE(out_buf);

    if (!buffer && (buffer = mbedtls_calloc(1, r->out_room)))
        move_out(ssl, buffer);
    return buffer != NULL;
}

bool
mbedrest_wake_to_read(struct mbedrest *r, mbedtls_ssl_context *ssl)
{
    unsigned char *buffer = ssl->MBEDTLS_PRIVATE(in_buf);

    if (!buffer && (buffer = mbedtls_calloc(1, r->in_room))) {
        move_in(ssl, buffer);
        memcpy(ssl->MBEDTLS_PRIVATE(in_ctr), r->counter, sizeof r->counter);
    }
    return buffer && mbedrest_wake_to_write(r, ssl);
}
