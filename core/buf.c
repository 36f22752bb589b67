#include "buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN 32
#define PRINTF_GUESS 64

static void
forget(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
}

void
buf_clear(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void
buf_wipe(struct buf *b)
{
    forget(b);
    b->len = 0;
    b->failed = false;
}

/* Not realloc: what it leaves behind could be a secret, and buf_wipe would not
 * find it any more. */
static bool
grow(struct buf *b, size_t cap)
{
    char *data = malloc(cap);

    if (!data)
        return false;
    if (b->len)
        memcpy(data, b->data, b->len);
    forget(b);
    free(b->data);
    b->data = data;
    b->cap = cap;
    return true;
}

/* The next capacity that holds `need`: doubled, so that many small additions
 * stay cheap. */
static size_t
next_cap(size_t cap, size_t need)
{
    size_t next = cap ? 2 * cap : BUF_MIN;

    return next > need ? next : need;
}

char *
buf_reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return NULL;
    if (b->data && n <= b->cap - b->len)
        return b->data + b->len;
    if (n > SIZE_MAX / 4 - b->len || !grow(b, next_cap(b->cap, b->len + n))) {
        b->failed = true;
        return NULL;
    }
    return b->data + b->len;
}

void
buf_add(struct buf *b, const void *bytes, size_t n)
{
    char *room = n ? buf_reserve(b, n) : NULL;

    if (!room)
        return;
    memcpy(room, bytes, n);
    b->len += n;
}

/* Prints into `room` octets at the end.  Returns how many it wants, with NUL. */
static size_t
print(struct buf *b, size_t room, const char *format, va_list args)
{
    char *at = buf_reserve(b, room);
    int n = at ? vsnprintf(at, room, format, args) : -1;

    if (n < 0) {
        b->failed = true;
        return 0;
    }
    if ((size_t)n < room)
        b->len += (size_t)n;
    return (size_t)n + 1;
}

void
buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    size_t wanted;

    va_start(args, format);
    va_copy(again, args);
    wanted = print(b, PRINTF_GUESS, format, args);
    if (wanted > PRINTF_GUESS)
        print(b, wanted, format, again);
    va_end(again);
    va_end(args);
}
