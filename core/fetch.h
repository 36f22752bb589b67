/*
 * fetch - a piece of a file that is not in memory, read in a thread.
 *
 * Knows neither Lua nor connections.  All functions are for the loop's thread.
 */
#ifndef POPD_FETCH_H
#define POPD_FETCH_H

#include "pool.h"

#include <stdint.h>
#include <sys/types.h>

/* Octets behind a piece that the system is asked to read as well: who comes for
 * one mostly comes for the next. */
#define FETCH_AHEAD (1 << 20)

struct fetch;

/* Starts to read n octets at an offset; `ready` is called when that is over.  The
 * descriptor may be closed meanwhile.  NULL: it cannot be had. */
struct fetch *fetch_start(struct pool *pool, int fd, uint64_t at, size_t n, void (*ready)(void *owner),
                          void *owner);

bool fetch_is_over(const struct fetch *f);

/* What came, as of read(2): -1 with errno, 0 at the file's end.  The octets are
 * there until fetch_drop. */
ssize_t fetch_result(const struct fetch *f, const char **bytes);

/* Gives it up, if it is not over: `ready` is not called any more.  NULL is fine. */
void fetch_drop(struct fetch *f);

#endif
