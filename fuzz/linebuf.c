/* linebuf: the first octet chooses the limit, the second how the rest is cut.
 * A line that begins with 'A' may have ten times as much.  Whatever the cut,
 * the lines are those that a plain search for LF finds. */
#include "../core/linebuf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* What has to come next. */
struct expected {
    const char *at, *end;
    size_t limit;
};

static size_t
limit_of(const char *line, size_t n, size_t limit)
{
    return n && *line == 'A' ? 10 * limit : limit;
}

static enum linebuf_status
expect(struct expected *e, const char **line, size_t *len)
{
    const char *lf = e->at < e->end ? memchr(e->at, '\n', (size_t)(e->end - e->at)) : NULL;
    const char *stop = lf ? lf + 1 : e->end;
    size_t octets = (size_t)(stop - e->at), limit = limit_of(e->at, octets, e->limit);

    if (octets > limit || (!lf && octets >= limit)) {
        e->at = stop;
        return LINEBUF_TOO_LONG;
    }
    if (!lf)
        return LINEBUF_NONE;
    *line = e->at;
    *len = octets - 1 - (octets > 1 && lf[-1] == '\r');
    e->at = stop;
    return LINEBUF_READY;
}

static void
check_next(struct expected *e, enum linebuf_status status, const char *line, size_t len)
{
    const char *expected = NULL;
    size_t expected_len = 0;

    must(status == expect(e, &expected, &expected_len));
    if (status == LINEBUF_READY)
        must(len == expected_len && (len == 0 || memcmp(line, expected, len) == 0));
}

static void
take_lines(struct linebuf *lb, struct expected *e)
{
    enum linebuf_status status;
    char *line;
    size_t len;

    do {
        size_t n;
        const char *next = linebuf_peek(lb, &n);

        linebuf_limit(lb, limit_of(next, n, e->limit));
        status = linebuf_next(lb, &line, &len);
        must(lb->most <= LINEBUF_ROOM || lb->most <= 10 * e->limit);
        if (status != LINEBUF_NONE)
            check_next(e, status, line, len);
    } while (status != LINEBUF_NONE);
}

/* Feeds one piece; now and then its lines are left for later. */
static size_t
feed(struct linebuf *lb, const char *bytes, size_t n)
{
    size_t room = linebuf_wants(lb);

    n = n < room ? n : room;
    must(linebuf_add(lb, bytes, n) && lb->cap <= lb->most);
    return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *bytes = (const char *)data + 2;
    struct linebuf lb;
    struct expected e;

    if (n < 2)
        return 0;
    n -= 2;
    e = (struct expected){bytes, bytes + n, 3 + data[0] % 128 * (data[0] & 128 ? 16u : 1u)};
    linebuf_init(&lb, e.limit);
    for (size_t at = 0, i = 0; at < n; i++) {
        size_t piece = 1 + (data[1] * (i + 1)) % (data[0] & 128 ? 4999 : 97), left = n - at;

        at += feed(&lb, bytes + at, piece < left ? piece : left);
        if ((i + data[1]) % 3 || lb.end - lb.start == lb.most)
            take_lines(&lb, &e);
        linebuf_rest(&lb);
    }
    take_lines(&lb, &e);
    must(expect(&e, &bytes, &n) == LINEBUF_NONE);
    linebuf_clear(&lb);
    return 0;
}
