/*
 * mbedrest - a connection of mbedTLS's without its two buffers of a record's size,
 * while nothing is in them.
 *
 * mbedTLS has them from a connection's beginning to its end: nine tenths of what
 * one costs.  The library moves them itself where it is built to.
 */
#ifndef POPD_MBEDREST_H
#define POPD_MBEDREST_H

#include <mbedtls/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* Zeroed, it is that of a connection that has its buffers. */
struct mbedrest {
    size_t in_room, out_room; /* how large they are; 0: not known yet */
    unsigned char counter[8]; /* of records that came, which lies in the buffer */
};

/* Gives back what is empty; for connections whose handshake is done. */
void mbedrest_rest(struct mbedrest *r, mbedtls_ssl_context *ssl);

/* Before mbedTLS writes, or reads, which may write too.  False: out of memory. */
bool mbedrest_wake_to_write(struct mbedrest *r, mbedtls_ssl_context *ssl);
bool mbedrest_wake_to_read(struct mbedrest *r, mbedtls_ssl_context *ssl);

#endif
