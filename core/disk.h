/*
 * disk - reading, writing and counting files, past signals and short results.
 *
 * Knows neither Lua nor the loop; all of it blocks, and may be called in a
 * thread.  Descriptors are closed over exec.  What can fail returns an errno,
 * or 0.
 */
#ifndef POPD_DISK_H
#define POPD_DISK_H

#include "buf.h"
#include "dotstuff.h"

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* A count that ended before its range did. */
#define DISK_TOO_SHORT (-1)

/* Opens to read; never waits for the other end of a FIFO.  -1: see errno. */
int disk_open(const char *path, int flags);

/* read(2) at an offset. */
ssize_t disk_read_at(int fd, void *room, size_t n, uint64_t offset);

/* Adds the file to b, if it has no more than max octets; else EFBIG. */
int disk_read(int fd, struct buf *b, uint64_t max);

int disk_write(int fd, const void *data, size_t len);

/* Makes a file, whole and on the disk, or none. */
int disk_write_new(const char *path, const void *data, size_t len, mode_t mode);

/* Counts what is at offset, to the end or just length octets: DISK_TOO_SHORT
 * where the file ends before. */
int disk_count(int fd, uint64_t offset, bool whole, uint64_t length, struct dotstuff *d);

#endif
