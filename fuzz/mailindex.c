/* mailindex: octets of any kind are an index or none; what is taken for one is
 * joined and matched without touching anything beside it. */
#include "../core/mailindex.h"
#include "../core/mailsort.h"

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

static void
look(void *owner, uint32_t row, const struct mailindex_entry *entry)
{
    const struct mailnames *m = owner;

    must(row < m->count && entry->inode == m->inodes[row] && m->rows[row].size == entry->size);
}

/* Against messages of whom one has the entry's inode. */
static void
use(const struct mailindex_entry *entries, size_t count)
{
    struct mailnames *m = mailnames_new();
    struct mailindex_entry *out = malloc(MAILINDEX_SIZE(2 * count));
    struct mailkey *keys;
    size_t joined;

    must(m && out);
    must(mailnames_add(m, "1.a", 3, true, count ? entries[0].inode : 0, 1) &&
         mailnames_add(m, "2.b", 3, true, 2, 2));
    keys = mailsort_names(m);
    must(keys != NULL);
    mailindex_match(entries, count, m, keys, look, m);
    joined = mailindex_join(entries, count, entries, count, keys, m->count, out + 1);
    must(joined <= count);
    mailindex_head(out + 1, joined, out);
    must(mailindex_read(out, MAILINDEX_SIZE(joined), &count) != NULL && count == joined);
    free(out);
    free(keys);
    mailnames_drop(m);
}

/* An odd first octet: what follows are entries, which get a head that fits. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t count = 0, len = n ? n - 1 : 0;
    char *octets = malloc(len ? len : 1);
    const struct mailindex_entry *entries;

    must(octets != NULL);
    if (len)
        memcpy(octets, data + 1, len);
    if (n && data[0] & 1 && len >= MAILINDEX_HEAD) {
        len -= (len - MAILINDEX_HEAD) % sizeof *entries;
        mailindex_head((const void *)(octets + MAILINDEX_HEAD), (len - MAILINDEX_HEAD) / sizeof *entries,
                       octets);
    }
    entries = mailindex_read(octets, len, &count);
    if (entries)
        use(entries, count);
    free(octets);
    return 0;
}
