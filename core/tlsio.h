/*
 * tlsio - the descriptor beneath one connection's TLS, as the library's own
 * reading and writing see it.
 *
 * Never blocks, never raises SIGPIPE.
 */
#ifndef POPD_TLSIO_H
#define POPD_TLSIO_H

#include <stdbool.h>
#include <stddef.h>

struct tlsio {
    int fd;                /* borrowed; -1: closed */
    unsigned char *before; /* ours: octets that were read before, or NULL */
    size_t before_at, before_end;
    unsigned recvs;                                    /* left to this call from above */
    bool ended;                                        /* the descriptor's input */
    bool dry;                                          /* the last read found nothing */
    enum { FIRST_NONE, FIRST_TLS, FIRST_OTHER } first; /* what the other side's first octet is of */
    bool more;  /* is sent right behind this: the system may put both into one packet */
    int broken; /* errno of the descriptor; 0: it is whole */
};

void tlsio_init(struct tlsio *io, int fd);
void tlsio_clear(struct tlsio *io);

/* The descriptor is about to be closed: it is not touched any more. */
void tlsio_close(struct tlsio *io);

/* Octets that were read from the descriptor before: they come first. */
bool tlsio_unread(struct tlsio *io, const void *bytes, size_t n);

/* Each call from above begins with this: how often it may read is bounded. */
void tlsio_begin(struct tlsio *io);

/* How many octets; or these.  0 from recv: the end. */
#define TLSIO_AGAIN (-1)
#define TLSIO_BROKEN (-2)
int tlsio_recv(struct tlsio *io, void *bytes, size_t n);
int tlsio_send(struct tlsio *io, const void *bytes, size_t n);

#endif
