/*
 * buf - bytes that grow at their end.
 *
 * Pure.  A failed allocation is remembered in `failed` and makes every later
 * call a no-op, so that a caller may write a whole reply and ask once.
 */
#ifndef POPD_BUF_H
#define POPD_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Zeroed, it is an empty buffer that owns nothing. */
struct buf {
    char *data; /* ours; NULL until the first byte */
    size_t len;
    size_t cap;
    bool failed; /* an allocation failed; `data` holds what came before */
};

/* Gives back the memory; the buffer is empty again and may be used. */
void buf_clear(struct buf *b);

/* Overwrites every byte that was ever held, then empties; keeps the memory and
 * forgets a failure.  For what held a secret. */
void buf_wipe(struct buf *b);

/* Room for n more bytes at data + len, or NULL.  The caller adds to `len`
 * what it wrote.  The pointer is good until the next call. */
char *buf_reserve(struct buf *b, size_t n);

/* Appends n bytes. */
void buf_add(struct buf *b, const void *bytes, size_t n);

/* Appends a string that ends with NUL.  Here, where the compiler knows the length of
 * most. */
static inline void
buf_puts(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

/* Appends what printf would print; never a client's bytes as the format. */
void buf_printf(struct buf *b, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

#endif
