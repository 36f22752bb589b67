/*
 * stream - one connection's bytes, plain or (later) TLS.
 *
 * Non-blocking.  Who reads or writes learns one of four things.  This is the
 * seam for TLS: nothing above it touches the descriptor but to watch it.
 */
#ifndef POPD_STREAM_H
#define POPD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stream_status {
    STREAM_OK,    /* some bytes went through */
    STREAM_AGAIN, /* none now: wait for the descriptor */
    STREAM_EOF,   /* the other side sends no more */
    STREAM_ERROR  /* it is over; errno tells why */
};

struct stream {
    int fd; /* ours; -1: closed */
    uint64_t bytes_in, bytes_out;
};

void stream_open(struct stream *s, int fd);
void stream_close(struct stream *s);

/* Reads at most n bytes; *got is how many. */
enum stream_status stream_read(struct stream *s, void *bytes, size_t n, size_t *got);

/* Writes some of n bytes; *put is how many.  After AGAIN the same bytes must
 * be offered again, at the same place (mbedTLS asks for that). */
enum stream_status stream_write(struct stream *s, const void *bytes, size_t n, size_t *put);

/* A command came in part: acknowledges that at once.  A client that writes a
 * command and its line end one after the other (tcllib's does) waits for that
 * before it sends the rest, 40 ms each time if the system takes its time. */
void stream_hurry(struct stream *s);

/* Tells the other side that no more comes, and takes away what it sent but
 * nobody read: a close with unread input would reset the connection and could
 * destroy the last reply on its way. */
void stream_finish(struct stream *s);

#endif
