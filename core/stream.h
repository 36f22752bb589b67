/*
 * stream - one connection's bytes, plain or TLS.
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

struct tls;

struct stream {
    int fd;                       /* ours; -1: closed */
    bool ends;                    /* the caller's: stream_finish follows on what is written at once */
    struct tls *tls;              /* ours; NULL: plain */
    uint64_t bytes_in, bytes_out; /* as they are without TLS */
};

void stream_open(struct stream *s, int fd);

/* Closes the descriptor; what TLS there was can be told of until stream_clear,
 * which frees all. */
void stream_close(struct stream *s);
void stream_clear(struct stream *s);

/* Reads at most n bytes; *got is how many. */
enum stream_status stream_read(struct stream *s, void *bytes, size_t n, size_t *got);

/* Writes some of n bytes; *put is how many.  `more`: the caller goes on at once
 * with what comes behind them, so that both may go in one packet.  After AGAIN the
 * same bytes must be offered again: they may be in a TLS record on its way already. */
enum stream_status stream_write(struct stream *s, const void *bytes, size_t n, bool more, size_t *put);

/* How many bytes are best written at once: a TLS record's; 0: all one. */
size_t stream_batch(const struct stream *s);

/* Whether bytes wait to be read of which the descriptor says nothing. */
bool stream_has_more(const struct stream *s);

/* A command came in part: acknowledges that at once.  A client that writes a
 * command and its line end one after the other (tcllib's does) waits for that
 * before it sends the rest, 40 ms each time if the system takes its time. */
void stream_hurry(struct stream *s);

/* Tells the other side that no more comes: in one packet with what was written since
 * `ends` was set, or with TLS's closing alert behind that.  And takes away what it
 * sent but nobody read: a close with unread input would reset the connection and
 * could destroy the last reply on its way. */
void stream_finish(struct stream *s);

#endif
