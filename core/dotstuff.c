#include "dotstuff.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

#ifdef __SSE2__

/* Most of a message goes a quick way, without calls for each line: blocks of
 * octets are copied as they are, and what comes behind an LF is copied again. */
#define BLOCK 32

/* Copies half a block.  Returns which octets of it are LF. */
static unsigned
copy_half(char *to, const char *from)
{
    __m128i octets = _mm_loadu_si128((const __m128i *)from);

    _mm_storeu_si128((__m128i *)to, octets);
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(octets, _mm_set1_epi8('\n')));
}

static unsigned
copy_block(char *to, const char *from)
{
    return copy_half(to, from) | copy_half(to + BLOCK / 2, from + BLOCK / 2) << BLOCK / 2;
}

struct spot {
    const char *from;
    char *to;
};

/* Copies blocks, one at least and none behind `last`, up to an LF.  False: there
 * is none. */
static inline bool
copy_line(struct spot *s, const char *last)
{
    do {
        unsigned lfs = copy_block(s->to, s->from);
        unsigned n = lfs ? (unsigned)__builtin_ctz(lfs) : BLOCK;

        s->from += n;
        s->to += n;
        if (lfs)
            return true;
    } while (s->from <= last);
    return false;
}

/* Passes whole lines on, the first of which starts at `at` behind another of this
 * piece, to one with a dot, or one that ends too near to the piece's end.  Returns
 * where that starts.  While a block is left to read there is room for two. */
static const char *
pass_lines(struct sink *s, const char *at, const char *end)
{
    struct spot line, next;
    const char *last;

    if (end - at < BLOCK)
        return at;
    last = end - BLOCK;
    copy_up_to(s, at);
    line = next = (struct spot){at, s->to + s->written};
    while (line.from <= last && *line.from != '.' && copy_line(&next, last)) {
        if (next.from[-1] != '\r')
            *next.to++ = '\r';
        *next.to++ = '\n';
        next.from++;
        line = next;
    }
    s->written = (size_t)(line.to - s->to);
    return s->from = line.from;
}

#else

static const char *
pass_lines(struct sink *s, const char *at, const char *end)
{
    (void)s, (void)end;
    return at;
}

#endif

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
            if (out && d->lines == DOTSTUFF_ALL)
                at = pass_lines(&sink, at, end);
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
