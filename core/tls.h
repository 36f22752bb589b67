/*
 * tls - one connection's TLS (RFC 5246, RFC 8446).
 *
 * Never blocks.  Owns its state, not the descriptor.  Statuses are those of
 * stream.h, which is what calls this.  There are two of it, of which a build has
 * one: tls_mbed.c over mbedTLS 2.28 and 3.6, tls_openssl.c over OpenSSL 3.
 */
#ifndef POPD_TLS_H
#define POPD_TLS_H

#include "stream.h"

#define TLS_RECORD 16384 /* most octets in one record */
#define TLS_WHY 200
#define TLS_BINDING_MAX 64

struct tls;
struct tlssite;
struct tlsclient;

/* The library and its version: "OpenSSL 3.0.19". */
const char *tls_library(void);

/* A server's side, with what the site serves with now.  NULL: out of memory,
 * or the site was never loaded. */
struct tls *tls_new(struct tlssite *site, int fd);

/* A client's side.  `host` is whose certificate it must be: a name, which the
 * server is told (SNI), or an address; NULL where nothing is verified.  NULL:
 * out of memory, or the host is needed. */
struct tls *tls_new_client(struct tlsclient *client, int fd, const char *host);
void tls_free(struct tls *t); /* NULL is fine */

/* The descriptor is about to be closed: it is not touched any more. */
void tls_close(struct tls *t);

/* Octets that were read from the descriptor before: the client's first. */
bool tls_unread(struct tls *t, const void *bytes, size_t n);

/* Goes on with the handshake.  OK: it is done.  AGAIN: wait for the descriptor,
 * to be written to where tls_wants_write says so.  ERROR: it failed, and the
 * other side was told so where it can be. */
enum stream_status tls_handshake(struct tls *t);
bool tls_wants_write(const struct tls *t);
bool tls_is_done(const struct tls *t);

/* Why the handshake failed, in words. */
void tls_why(const struct tls *t, char why[TLS_WHY]);

enum stream_status tls_read(struct tls *t, void *bytes, size_t n, size_t *got);

/* Whether octets wait inside, of which the descriptor says nothing. */
bool tls_has_more(const struct tls *t);

/* At most a record at a time; `more` is as for stream_write.  After AGAIN the record
 * is on its way: the next call must offer the same octets again, though from where is
 * all one. */
enum stream_status tls_write(struct tls *t, const void *bytes, size_t n, bool more, size_t *put);

/* Tells the other side that no more comes; does not wait. */
void tls_finish(struct tls *t);

/* Of a finished handshake: "TLSv1.2", the suite's name, the name that was asked
 * for or NULL. */
const char *tls_version(const struct tls *t);
const char *tls_suite(const struct tls *t);
const char *tls_sni(const struct tls *t);

/* The client sent a certificate that the client_ca vouches for.  tls_client
 * tells of it: subject, name (its CN), email and dns (any number of times, of
 * its alternative names), fingerprint (SHA-256 in hex). */
bool tls_has_client(const struct tls *t);
void tls_client(const struct tls *t,
                void (*tell)(void *owner, const char *key, const char *value, size_t len), void *owner);

/* Channel bindings: how many octets, 0: there is none of that kind.
 * "tls-exporter" (RFC 9266), "tls-server-end-point" (RFC 5929, section 4). */
size_t tls_binding(const struct tls *t, const char *kind, unsigned char octets[TLS_BINDING_MAX]);

#endif
