/*
 * linebuf - bytes in, lines out (RFC 1939, section 3; RFC 2449, section 4).
 *
 * Pure.  Bytes are added as they come; linebuf_next hands out one line after
 * the other as a slice of what is held.  A line ends with CRLF or a bare LF.
 * One that exceeds the limit is told of once and skipped up to its end.  What
 * comes out does not depend on how the bytes were cut.  It holds what came and
 * little more, and nothing at rest; how much may come grows while one line
 * fills it.  What is skipped is wiped: it may be a secret's.
 */
#ifndef POPD_LINEBUF_H
#define POPD_LINEBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How much may be held to begin with. */
#define LINEBUF_ROOM 4096

struct linebuf {
    char *data;          /* ours; NULL at rest */
    uint32_t cap;        /* of data */
    uint32_t most;       /* what cap may become; 0 at rest */
    uint32_t limit;      /* octets of a line with its end; 3 to 2^31 */
    uint32_t start, end; /* the bytes not handed out yet: data[start..end) */
    uint32_t scanned;    /* of those, how many are known to hold no LF */
    uint32_t used;       /* what was ever written to since the last wiping: data[0..used) */
    bool skipping;       /* within a line that was too long */
};

enum linebuf_status {
    LINEBUF_NONE,    /* no whole line; read more */
    LINEBUF_READY,   /* *line, *len: a line without its end */
    LINEBUF_TOO_LONG /* once for each line over the limit */
};

void linebuf_init(struct linebuf *lb, size_t limit);
void linebuf_clear(struct linebuf *lb);

/* Another limit, from the next linebuf_next on: for the line that comes next. */
void linebuf_limit(struct linebuf *lb, size_t limit);

/* What is held from the line that comes next on, which may be more than that
 * line or less; nothing where the end of a skipped line is still to come. */
const char *linebuf_peek(struct linebuf *lb, size_t *n);

/* How many octets may be added; 0 when it is full of lines not taken yet.  To
 * be called once linebuf_next said NONE, for all that fits to be all that may come. */
size_t linebuf_wants(struct linebuf *lb);

/* Adds n octets, as many as are wanted at most.  Moves bytes: slices handed out
 * before are void.  False: out of memory; nothing is held any more. */
bool linebuf_add(struct linebuf *lb, const char *bytes, size_t n);

/* The next line.  The slice is writable (a secret is to be wiped) and good
 * until the next linebuf_add, linebuf_rest or linebuf_drop. */
enum linebuf_status linebuf_next(struct linebuf *lb, char **line, size_t *len);

/* Gives the room back if nothing is in it.  Wipes it first. */
void linebuf_rest(struct linebuf *lb);

/* Forgets what is buffered (what was pipelined behind STLS); how much. */
size_t linebuf_drop(struct linebuf *lb);

#endif
