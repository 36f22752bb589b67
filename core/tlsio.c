#include "tlsio.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How often the descriptor is read for one call from above: some records' worth.
 * A client that sends records without data in them (alerts, refused
 * renegotiations) without end would else be all that the loop ever does. */
#define RECVS 64

#define HANDSHAKE 22 /* RFC 5246, 6.2.1: a record's first octet */

void
tlsio_init(struct tlsio *io, int fd)
{
    *io = (struct tlsio){.fd = fd};
}

void
tlsio_clear(struct tlsio *io)
{
    free(io->before);
    io->before = NULL;
}

void
tlsio_close(struct tlsio *io)
{
    io->fd = -1;
    io->broken = EBADF;
}

bool
tlsio_unread(struct tlsio *io, const void *bytes, size_t n)
{
    if (n == 0)
        return true;
    io->before = malloc(n);
    if (!io->before)
        return false;
    memcpy(io->before, bytes, n);
    io->before_at = 0;
    io->before_end = n;
    return true;
}

void
tlsio_begin(struct tlsio *io)
{
    io->recvs = RECVS;
}

static int
read_before(struct tlsio *io, void *bytes, size_t n)
{
    size_t left = io->before_end - io->before_at;

    n = n < left ? n : left;
    memcpy(bytes, io->before + io->before_at, n);
    io->before_at += n;
    if (io->before_at == io->before_end)
        tlsio_clear(io);
    return (int)n;
}

/* What the system said of a read or a write. */
static int
result(struct tlsio *io, ssize_t r)
{
    if (r >= 0)
        return (int)r;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return TLSIO_AGAIN;
    io->broken = errno;
    return TLSIO_BROKEN;
}

static int
read_descriptor(struct tlsio *io, void *bytes, size_t n)
{
    ssize_t r;

    if (io->recvs == 0)
        return TLSIO_AGAIN;
    io->recvs--;
    r = recv(io->fd, bytes, n, 0);
    io->ended = r == 0;
    return result(io, r);
}

int
tlsio_recv(struct tlsio *io, void *bytes, size_t n)
{
    int r;

    n = n < INT_MAX ? n : INT_MAX;
    r = io->before ? read_before(io, bytes, n) : read_descriptor(io, bytes, n);
    io->dry = r == TLSIO_AGAIN;
    if (io->first == FIRST_NONE && r > 0)
        io->first = *(const unsigned char *)bytes == HANDSHAKE ? FIRST_TLS : FIRST_OTHER;
    return r;
}

int
tlsio_send(struct tlsio *io, const void *bytes, size_t n)
{
    int flags = MSG_NOSIGNAL | (io->more ? MSG_MORE : 0);

    return result(io, send(io->fd, bytes, n < INT_MAX ? n : INT_MAX, flags));
}
