/*
 * dotstuff - message bytes in, POP3 wire bytes out (RFC 1939, section 3).
 *
 * Pure, no allocation.  Feed a message in pieces of any size; the wire bytes
 * are the same however it was cut.  A bare LF becomes CRLF, a bare CR stays,
 * a line that starts with a dot gets a second one, an open last line is ended.
 * With a limit (TOP) it sends the headers, the blank line and that many lines
 * of the body, and says when it needs no more.
 */
#ifndef POPD_DOTSTUFF_H
#define POPD_DOTSTUFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOTSTUFF_ALL UINT64_MAX

/* dotstuff_init makes it ready for a message's first byte. */
struct dotstuff {
    enum { DOT_LINE_START, DOT_LINE_START_CR, DOT_IN_LINE, DOT_AFTER_CR } at;
    bool in_body;    /* behind the blank line */
    bool done;       /* TOP's lines are sent; the rest is not wanted */
    uint64_t lines;  /* body lines still to send; DOTSTUFF_ALL: every one */
    uint64_t octets; /* sent so far, without the dots that were added */
};

/* The most bytes that dotstuff_feed writes for n bytes of message. */
#define DOTSTUFF_MAX(n) (2 * (n))
#define DOTSTUFF_END_MAX 5

/* lines: of the body (TOP), or DOTSTUFF_ALL (RETR). */
void dotstuff_init(struct dotstuff *d, uint64_t lines);

/* Writes the wire form of in[0..n) to out, which has room for DOTSTUFF_MAX(n)
 * bytes.  Returns how many bytes were written. */
size_t dotstuff_feed(struct dotstuff *d, const char *in, size_t n, char *out);

/* Ends the message: closes an open line, then the lone dot; at most
 * DOTSTUFF_END_MAX bytes. */
size_t dotstuff_end(struct dotstuff *d, char *out);

/* Counts what dotstuff_feed would send, without writing: `octets` grows.
 * dotstuff_count_end adds the end that an open last line needs. */
void dotstuff_count(struct dotstuff *d, const char *in, size_t n);
void dotstuff_count_end(struct dotstuff *d);

#endif
