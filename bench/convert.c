#include "convert.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool
convert_open(struct convert *c, const char *path)
{
    *c = (struct convert){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    return c->fd >= 0;
}

void
convert_close(struct convert *c)
{
    close(c->fd);
    c->fd = -1;
}

/* A line, or the part of one that in[0..n) holds; the file has no CR. */
static size_t
convert_line(struct convert *c, const char *in, size_t n, bool whole, char *out)
{
    char *to = out;

    if (!c->inside && n > 0 && in[0] == '.')
        *to++ = '.';
    memcpy(to, in, n);
    to += n;
    if (whole) {
        *to++ = '\r';
        *to++ = '\n';
    }
    c->inside = !whole;
    return (size_t)(to - out);
}

size_t
convert_lines(struct convert *c, const char *in, size_t n, char *out)
{
    const char *end = in + n;
    char *to = out;

    while (in < end) {
        const char *lf = memchr(in, '\n', (size_t)(end - in));
        const char *stop = lf ? lf : end;

        to += convert_line(c, in, (size_t)(stop - in), lf != NULL, to);
        in = lf ? lf + 1 : end;
    }
    return (size_t)(to - out);
}

static size_t
convert_end(const struct convert *c, char *out)
{
    const char *end = c->inside ? "\r\n.\r\n" : ".\r\n";

    memcpy(out, end, strlen(end));
    return strlen(end);
}

size_t
convert_next(struct convert *c, char *in, char *out)
{
    ssize_t got = c->ended ? 0 : read(c->fd, in, CONVERT_PIECE);
    size_t n = got > 0 ? convert_lines(c, in, (size_t)got, out) : 0;

    if (c->ended || got == CONVERT_PIECE)
        return n;
    c->ended = true; /* the file's end: of a small message all is one piece */
    return n + convert_end(c, out + n);
}
