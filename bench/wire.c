#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static SSL_CTX *
set_modes(SSL_CTX *tls)
{
    if (tls)
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    return tls;
}

/* No session is kept by OpenSSL: who wants to resume one keeps it. */
SSL_CTX *
wire_client_tls(void)
{
    SSL_CTX *tls = set_modes(SSL_CTX_new(TLS_client_method()));

    if (tls)
        SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    return tls;
}

SSL_CTX *
wire_server_tls(const char *cert, const char *key)
{
    SSL_CTX *tls = set_modes(SSL_CTX_new(TLS_server_method()));

    if (tls && SSL_CTX_use_certificate_chain_file(tls, cert) == 1 &&
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) == 1)
        return tls;
    SSL_CTX_free(tls);
    return NULL;
}

bool
wire_init(struct wire *w, int fd, SSL_CTX *tls, bool is_server)
{
    int on = 1;

    *w = (struct wire){.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!tls)
        return true;
    w->tls = SSL_new(tls);
    if (w->tls && SSL_set_fd(w->tls, fd) == 1) {
        (is_server ? SSL_set_accept_state : SSL_set_connect_state)(w->tls);
        return true;
    }
    wire_close(w, false);
    return false;
}

SSL_SESSION *
wire_session(const struct wire *w)
{
    SSL_SESSION *session = w->tls ? SSL_get1_session(w->tls) : NULL;

    if (session && SSL_SESSION_is_resumable(session))
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

bool
wire_resume(struct wire *w, SSL_SESSION *session)
{
    return SSL_set_session(w->tls, session) == 1;
}

bool
wire_resumed(const struct wire *w)
{
    return w->tls && SSL_session_reused(w->tls) == 1;
}

void
wire_close(struct wire *w, bool tell)
{
    if (w->tls && tell)
        SSL_shutdown(w->tls);
    SSL_free(w->tls);
    close(w->fd);
    *w = (struct wire){.fd = -1};
}

/* What TLS waits for is not what its caller does: a handshake reads and writes. */
static ssize_t
tls_result(SSL *tls, int got, unsigned *events)
{
    if (got > 0)
        return got;
    switch (SSL_get_error(tls, got)) {
    case SSL_ERROR_WANT_READ:
        *events = EPOLLIN;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        *events = EPOLLOUT;
        return 0;
    default:
        return -1;
    }
}

static ssize_t
plain_result(ssize_t got, unsigned event, unsigned *events)
{
    if (got > 0)
        return got;
    if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) {
        *events = event;
        return 0;
    }
    return -1;
}

ssize_t
wire_read(struct wire *w, void *to, size_t n, unsigned *events)
{
    if (w->tls)
        return tls_result(w->tls, SSL_read(w->tls, to, n > 1 << 30 ? 1 << 30 : (int)n), events);
    return plain_result(read(w->fd, to, n), EPOLLIN, events);
}

ssize_t
wire_write(struct wire *w, const void *from, size_t n, unsigned *events)
{
    if (w->tls)
        return tls_result(w->tls, SSL_write(w->tls, from, n > 1 << 30 ? 1 << 30 : (int)n), events);
    return plain_result(send(w->fd, from, n, MSG_NOSIGNAL), EPOLLOUT, events);
}

static int
open_socket(unsigned port, struct sockaddr_in *address)
{
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int
wire_listen(unsigned port)
{
    struct sockaddr_in address;
    int fd = open_socket(port, &address), on = 1;

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int
wire_connect(unsigned port)
{
    struct sockaddr_in address;
    int fd = open_socket(port, &address);

    if (fd >= 0 && (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

unsigned
wire_port(int fd)
{
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;

    return getsockname(fd, (struct sockaddr *)&address, &len) == 0 ? ntohs(address.sin_port) : 0;
}

void
wire_raise_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}
