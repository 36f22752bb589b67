/*
 * wire - one connection's octets, plain or through TLS, never blocking.
 *
 * TLS is OpenSSL's on both sides of the bench, whatever the server under test
 * uses: it is the cheapest there is, and knows TLS 1.3.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What TLS needs on either side; NULL: out of memory, or the files are wrong. */
SSL_CTX *wire_client_tls(void);
SSL_CTX *wire_server_tls(const char *cert, const char *key);

struct wire {
    int fd;   /* ours */
    SSL *tls; /* ours, or NULL */
};

/* Takes over fd.  tls: NULL for plain.  False: out of memory; fd is closed. */
bool wire_init(struct wire *w, int fd, SSL_CTX *tls, bool is_server);

/* What a later connection can resume of this one, or NULL; the caller's to give
 * back.  A new connection that is to resume it, and whether it did: once something
 * was read. */
SSL_SESSION *wire_session(const struct wire *w);
bool wire_resume(struct wire *w, SSL_SESSION *session);
bool wire_resumed(const struct wire *w);

/* Closes; with `tell`, TLS says so first. */
void wire_close(struct wire *w, bool tell);

/* Octets read or written; 0: none now, wait for `*events` (EPOLLIN, EPOLLOUT);
 * below 0: the end, or an error.  A write that was told to wait is to be
 * repeated with the same octets in front. */
ssize_t wire_read(struct wire *w, void *to, size_t n, unsigned *events);
ssize_t wire_write(struct wire *w, const void *from, size_t n, unsigned *events);

/* A socket bound to or connected with a port of 127.0.0.1; -1 and errno. */
int wire_listen(unsigned port);
int wire_connect(unsigned port);

/* The port of a listening socket. */
unsigned wire_port(int fd);

/* As many descriptors as the system allows. */
void wire_raise_limit(void);

#endif
