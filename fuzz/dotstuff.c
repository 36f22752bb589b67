/* dotstuff: however a message is cut, the wire bytes are the same; undotted,
 * they are the message with its line ends put right; TOP is a beginning of
 * that; what is counted is what is sent.  The first octet is TOP's lines. */
#include "../core/dotstuff.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

struct text {
    char *at;
    size_t len;
};

static void
add(struct text *t, char c)
{
    t->at[t->len++] = c;
}

/* Room for what n octets can become. */
static struct text
new_text(size_t n)
{
    return (struct text){malloc(DOTSTUFF_MAX(n) + DOTSTUFF_END_MAX), 0};
}

/* Feeds in[0..n) from and through memory of just that and the promised size. */
static void
feed(struct dotstuff *d, const char *in, size_t n, struct text *wire)
{
    char *piece = malloc(n), *room = malloc(DOTSTUFF_MAX(n));
    size_t put;

    if (n)
        memcpy(piece, in, n);
    put = dotstuff_feed(d, piece, n, room);
    must(put <= DOTSTUFF_MAX(n));
    if (put)
        memcpy(wire->at + wire->len, room, put);
    wire->len += put;
    free(room);
    free(piece);
}

/* Sends in[0..n), cut at `cut`. */
static struct text
send_cut(const char *in, size_t n, size_t cut, uint64_t lines, uint64_t *octets)
{
    struct text wire = new_text(n);
    struct dotstuff d;

    dotstuff_init(&d, lines);
    feed(&d, in, cut, &wire);
    feed(&d, in + cut, n - cut, &wire);
    wire.len += dotstuff_end(&d, wire.at + wire.len);
    must(wire.len <= DOTSTUFF_MAX(n) + DOTSTUFF_END_MAX);
    *octets = d.octets;
    return wire;
}

static uint64_t
count_cut(const char *in, size_t n, size_t cut, uint64_t lines)
{
    struct dotstuff d;

    dotstuff_init(&d, lines);
    dotstuff_count(&d, in, cut);
    dotstuff_count(&d, in + cut, n - cut);
    dotstuff_count_end(&d);
    return d.octets;
}

/* The message as POP3 has it: CRLF for every LF, the last line ended; with
 * `lines` of its body at most.  Octet by octet, as simply as can be. */
static struct text
canonical(const char *in, size_t n, uint64_t lines)
{
    struct text t = new_text(n);
    size_t line = 0; /* where the current line starts in t */
    bool body = false, stop = false;

    for (size_t i = 0; i < n && !stop; i++) {
        if (in[i] != '\n') {
            add(&t, in[i]);
            continue;
        }
        if (t.len == line || t.at[t.len - 1] != '\r')
            add(&t, '\r');
        add(&t, '\n');
        if (body)
            lines -= lines != DOTSTUFF_ALL;
        body = body || t.len - line == 2;
        stop = body && lines == 0;
        line = t.len;
    }
    if (t.len > line) {
        add(&t, '\r');
        add(&t, '\n');
    }
    return t;
}

/* What a client makes of the wire bytes; only the last line is a lone dot. */
static struct text
undot(struct text wire)
{
    struct text t = new_text(wire.len);
    const char *at = wire.at, *end = wire.at + wire.len;

    for (;;) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));

        must(lf && lf > at && lf[-1] == '\r');
        if (lf - at == 2 && *at == '.') {
            must(lf + 1 == end);
            return t;
        }
        must(*at != '.' || at[1] == '.');
        at += *at == '.';
        memcpy(t.at + t.len, at, (size_t)(lf + 1 - at));
        t.len += (size_t)(lf + 1 - at);
        at = lf + 1;
    }
}

static bool
is_equal(struct text a, struct text b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static void
check(const char *in, size_t n, uint64_t lines)
{
    uint64_t octets, again;
    struct text whole = send_cut(in, n, n, lines, &octets);
    struct text plain = undot(whole), expected = canonical(in, n, lines);
    size_t step = n / 64 + 1; /* every cut of a short message, some of a long one */

    must(is_equal(plain, expected));
    must(octets == expected.len);
    for (size_t cut = 0; cut <= n; cut += step) {
        struct text wire = send_cut(in, n, cut, lines, &again);

        must(is_equal(wire, whole) && again == octets);
        must(count_cut(in, n, cut, lines) == octets);
        free(wire.at);
    }
    free(expected.at);
    free(plain.at);
    free(whole.at);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    check((const char *)data + 1, n - 1, DOTSTUFF_ALL);
    check((const char *)data + 1, n - 1, data[0] % 8);
    return 0;
}
