/* proxyproto: a header is found in the bytes it is made of, not sooner and not
 * otherwise later; what follows it changes nothing. */
#include "../core/proxyproto.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* Parses a copy of just that size. */
static enum proxyproto_status
parse(struct proxyproto *p, const uint8_t *data, size_t n, size_t *used)
{
    uint8_t *copy = calloc(1, n ? n : 1);
    enum proxyproto_status status;

    if (n)
        memcpy(copy, data, n);
    status = proxyproto_parse(p, copy, n, used);
    free(copy);
    return status;
}

static bool
is_same(const struct proxyproto *a, const struct proxyproto *b)
{
    return a->local == b->local && a->v6 == b->v6 && a->port == b->port &&
           memcmp(a->address, b->address, sizeof a->address) == 0;
}

/* A part of a header is never one; and none becomes bad by what comes later
 * where it was whole before. */
static void
check_parts(const uint8_t *data, size_t n, enum proxyproto_status whole, const struct proxyproto *p,
            size_t used)
{
    struct proxyproto part;
    bool decided = false;
    size_t n_used;

    for (size_t len = 0; len <= n && !decided; len++) {
        enum proxyproto_status status = parse(&part, data, len, &n_used);

        decided = status != PROXYPROTO_MORE;
        must(!decided || status == whole);
        if (status == PROXYPROTO_DONE)
            must(len == used && n_used == used && is_same(&part, p));
    }
    must(decided == (whole != PROXYPROTO_MORE));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct proxyproto p;
    size_t used;
    enum proxyproto_status status = parse(&p, data, n, &used);

    if (status == PROXYPROTO_DONE)
        must(used > 0 && used <= n && used <= PROXYPROTO_MAX);
    if (status == PROXYPROTO_MORE)
        must(n < PROXYPROTO_MAX);
    if (status == PROXYPROTO_DONE && data[0] == 'P')
        must(data[used - 2] == '\r' && data[used - 1] == '\n' && used <= 107);
    check_parts(data, n < 300 ? n : 300, n < 300 ? status : parse(&p, data, 300, &used), &p, used);
    return 0;
}
