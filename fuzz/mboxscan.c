/* mboxscan, mboxindex: the first octet chooses the format, the second how the rest
 * is cut.  Whatever the cut, and wherever an index is cut and fed again, the
 * messages are the same; none has octets of another, and a message's size is what
 * dotstuff counts. */
#include "../core/dotstuff.h"
#include "../core/mboxindex.h"

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

struct text {
    const char *octets;
    size_t n;
};

static bool
ends_at(void *owner, uint64_t offset)
{
    const struct text *t = owner;
    size_t left = offset <= t->n ? t->n - (size_t)offset : 0;

    return offset <= t->n && mboxscan_is_end(t->octets + offset, left < MBOXSCAN_PEEK ? left : MBOXSCAN_PEEK);
}

/* Feeds all that the index has not seen, in pieces. */
static void
feed(struct mboxindex *x, struct text *t, size_t piece)
{
    size_t at = (size_t)(x->scan.at + x->scan.held_len);

    while (at < t->n) {
        size_t n = t->n - at < piece ? t->n - at : piece;

        must(mboxindex_feed(x, t, t->octets + at, n));
        at += n;
        must(x->scan.at + x->scan.held_len == at);
    }
    must(mboxindex_end(x));
}

static void
check_mail(const struct mboxindex *x, const struct text *t, size_t i)
{
    const struct mboxscan_mail *m = &x->mail[i];
    struct dotstuff d;

    must(i == 0 ? m->start == x->scan.outside : m->start == mboxindex_next(x, i - 1));
    must(m->start + 5 <= m->head && m->head <= m->body && m->body <= m->end);
    must(m->end <= mboxindex_next(x, i) && mboxindex_next(x, i) - m->end <= 2 &&
         mboxindex_next(x, i) <= t->n);
    must(memcmp(t->octets + m->start, "From ", 5) == 0);
    must(m->nth >= 1);
    dotstuff_init(&d, DOTSTUFF_ALL);
    dotstuff_count(&d, t->octets + m->head, (size_t)(m->end - m->head));
    dotstuff_count_end(&d);
    must(m->stuffed ? m->octets < d.octets : m->octets == d.octets);
    must(!m->uidl || (m->uidl_len && m->head + m->uidl + m->uidl_len <= m->body));
}

static void
must_equal(const struct mboxindex *a, const struct mboxindex *b)
{
    must(a->count == b->count && a->octets == b->octets && a->scan.at == b->scan.at &&
         a->scan.outside == b->scan.outside);
    for (size_t i = 0; i < a->count; i++)
        must(memcmp(&a->mail[i], &b->mail[i], sizeof a->mail[i]) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mboxindex whole, cut;
    struct text t;
    enum mboxscan_format format;

    if (n < 2)
        return 0;
    t = (struct text){(const char *)data + 2, n - 2};
    format = (enum mboxscan_format)(data[0] % 3);
    mboxindex_init(&whole, format, ends_at);
    mboxindex_init(&cut, format, ends_at);
    feed(&whole, &t, t.n ? t.n : 1);
    feed(&cut, &t, data[1] + 1U);
    must_equal(&whole, &cut);
    for (size_t i = 0; i < whole.count; i++)
        check_mail(&whole, &t, i);
    mboxindex_cut(&cut, whole.count ? data[1] % whole.count : 0);
    feed(&cut, &t, t.n ? t.n : 1);
    must_equal(&whole, &cut);
    mboxindex_clear(&whole);
    mboxindex_clear(&cut);
    return 0;
}
