#include "dotstuff.h"

#include <string.h>

void
dotstuff_init(struct dotstuff *d, uint64_t lines)
{
    *d = (struct dotstuff){.at = DOT_LINE_START, .lines = lines};
}

/* Where message bytes go: they are copied in runs as long as nothing has to be
 * put between them.  `to` is NULL where they are only counted. */
struct sink {
    const char *from; /* not copied yet: from here on */
    char *to;
    size_t written;
};

static void
copy_up_to(struct sink *s, const char *stop)
{
    size_t n = (size_t)(stop - s->from);

    if (s->to && n)
        memcpy(s->to + s->written, s->from, n);
    s->written += n;
    s->from = stop;
}

static void
put_between(struct sink *s, const char *here, char octet)
{
    copy_up_to(s, here);
    if (s->to)
        s->to[s->written] = octet;
    s->written++;
}

static bool
is_after_cr(const struct dotstuff *d)
{
    return d->at == DOT_AFTER_CR || d->at == DOT_LINE_START_CR;
}

/* Where in its line it stands behind bytes[0..n), which hold no LF. */
static void
advance(struct dotstuff *d, const char *bytes, size_t n)
{
    if (n == 0)
        return;
    if (bytes[n - 1] != '\r')
        d->at = DOT_IN_LINE;
    else
        d->at = d->at == DOT_LINE_START && n == 1 ? DOT_LINE_START_CR : DOT_AFTER_CR;
}

/* A line has ended: counts it where TOP counts. */
static void
end_line(struct dotstuff *d)
{
    bool blank = d->at == DOT_LINE_START || d->at == DOT_LINE_START_CR;

    d->at = DOT_LINE_START;
    if (d->lines == DOTSTUFF_ALL)
        return;
    if (d->in_body)
        d->lines--;
    d->in_body = d->in_body || blank;
    d->done = d->in_body && d->lines == 0;
}

/* Passes in[0..n) on; n is not 0.  Returns how many bytes that made. */
static size_t
pump(struct dotstuff *d, const char *in, size_t n, char *out)
{
    struct sink sink = {.from = in, .to = out};
    const char *at = in, *end = in + n;
    size_t dots = 0;

    while (at < end && !d->done) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *stop = lf ? lf : end;

        if (d->at == DOT_LINE_START && *at == '.') {
            put_between(&sink, at, '.');
            dots++;
        }
        advance(d, at, (size_t)(stop - at));
        at = stop;
        if (lf) {
            if (!is_after_cr(d))
                put_between(&sink, lf, '\r');
            end_line(d);
            at = lf + 1;
        }
    }
    copy_up_to(&sink, at);
    d->octets += sink.written - dots;
    return sink.written;
}

size_t
dotstuff_feed(struct dotstuff *d, const char *in, size_t n, char *out)
{
    return n && !d->done ? pump(d, in, n, out) : 0;
}

void
dotstuff_count(struct dotstuff *d, const char *in, size_t n)
{
    if (n && !d->done)
        pump(d, in, n, NULL);
}

void
dotstuff_count_end(struct dotstuff *d)
{
    if (d->at != DOT_LINE_START)
        d->octets += 2;
    d->at = DOT_LINE_START;
}

size_t
dotstuff_end(struct dotstuff *d, char *out)
{
    bool open = d->at != DOT_LINE_START;

    memcpy(out, open ? "\r\n.\r\n" : ".\r\n", open ? 5 : 3);
    dotstuff_count_end(d);
    return open ? 5 : 3;
}
