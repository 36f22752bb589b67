/*
 * convert - a file with LF as a POP3 body: the read-convert-write loop that a
 * server which stores mail with LF cannot do without, and nothing besides.
 */
#ifndef BENCH_CONVERT_H
#define BENCH_CONVERT_H

#include <stdbool.h>
#include <stddef.h>

#define CONVERT_PIECE 65536

struct convert {
    int fd;      /* ours */
    bool inside; /* within a line */
    bool ended;
};

/* Opens a file.  False: errno says why. */
bool convert_open(struct convert *c, const char *path);
void convert_close(struct convert *c);

/* The most that convert_next writes: each octet may become two; and the end. */
#define CONVERT_ROOM (2 * CONVERT_PIECE + 5)

/* Writes the next piece to out[CONVERT_ROOM], reading through in[CONVERT_PIECE].
 * Returns its octets; 0: the body is complete. */
size_t convert_next(struct convert *c, char *in, char *out);

/* The conversion alone, pure: what in[0..n) becomes. */
size_t convert_lines(struct convert *c, const char *in, size_t n, char *out);

#endif
