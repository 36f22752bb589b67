#include "stream.h"

#include "tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* What stream_finish takes away at most: a client that never stops sending is
 * not waited for. */
#define UNREAD_MAX 65536

void
stream_open(struct stream *s, int fd)
{
    *s = (struct stream){.fd = fd};
}

void
stream_close(struct stream *s)
{
    if (s->tls)
        tls_close(s->tls);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void
stream_clear(struct stream *s)
{
    stream_close(s);
    tls_free(s->tls);
    s->tls = NULL;
}

static enum stream_status
failed(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? STREAM_AGAIN : STREAM_ERROR;
}

static enum stream_status
read_plain(struct stream *s, void *bytes, size_t n, size_t *got)
{
    ssize_t r = recv(s->fd, bytes, n, 0);

    *got = 0;
    if (r < 0)
        return failed();
    *got = (size_t)r;
    return r ? STREAM_OK : STREAM_EOF;
}

static enum stream_status
write_plain(struct stream *s, const void *bytes, size_t n, bool more, size_t *put)
{
    ssize_t r = send(s->fd, bytes, n, MSG_NOSIGNAL | (more ? MSG_MORE : 0));

    *put = 0;
    if (r < 0)
        return failed();
    *put = (size_t)r;
    return STREAM_OK;
}

enum stream_status
stream_read(struct stream *s, void *bytes, size_t n, size_t *got)
{
    enum stream_status status = s->tls ? tls_read(s->tls, bytes, n, got) : read_plain(s, bytes, n, got);

    s->bytes_in += *got;
    return status;
}

enum stream_status
stream_write(struct stream *s, const void *bytes, size_t n, bool more, size_t *put)
{
    enum stream_status status;

    more = more || s->ends;
    status = s->tls ? tls_write(s->tls, bytes, n, more, put) : write_plain(s, bytes, n, more, put);

    s->bytes_out += *put;
    return status;
}

size_t
stream_batch(const struct stream *s)
{
    return s->tls ? TLS_RECORD : 0;
}

bool
stream_has_more(const struct stream *s)
{
    return s->tls && tls_has_more(s->tls);
}

void
stream_hurry(struct stream *s)
{
#ifdef TCP_QUICKACK
    int on = 1;

    setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
#else
    (void)s;
#endif
}

void
stream_finish(struct stream *s)
{
    char unread[4096];
    size_t got, sum = 0;

    if (s->fd < 0)
        return;
    if (s->tls)
        tls_finish(s->tls);
    shutdown(s->fd, SHUT_WR);
    while (sum < UNREAD_MAX && read_plain(s, unread, sizeof unread, &got) == STREAM_OK)
        sum += got;
}
