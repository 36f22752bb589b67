#include "mailindex.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC "popd-idx"
#define VERSION 1
#define ORDER 0x01020304u /* another byte order reads another number */

struct head {
    char magic[8];
    uint32_t order, version;
    uint64_t count;
    uint64_t sum;
};

_Static_assert(sizeof(struct head) == MAILINDEX_HEAD, "the head has no gaps");
_Static_assert(sizeof(struct mailindex_entry) == 32, "an entry has no gaps");

/* Against a damaged disk, not against people: who can write the file can write
 * the messages. */
static uint64_t
sum(const struct mailindex_entry *entries, size_t n)
{
    uint64_t a = n, b = VERSION;

    for (size_t i = 0; i < n; i++) {
        uint64_t word[4];

        memcpy(word, &entries[i], sizeof word);
        a = (a ^ word[0] ^ word[2]) * UINT64_C(0xff51afd7ed558ccd) + word[1];
        b = (b ^ word[1] ^ word[3]) * UINT64_C(0xc4ceb9fe1a85ec53) + word[2];
        a ^= a >> 29;
        b ^= b >> 31;
    }
    return (a ^ b >> 17) * UINT64_C(0x9e3779b97f4a7c15) ^ b;
}

static bool
is_good(const struct mailindex_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t size = entries[i].size;

        if (i && entries[i].hash <= entries[i - 1].hash)
            return false;
        if (mailsize_pack(mailsize_stored(size), mailsize_sent(size)) != size || size == MAILSIZE_UNKNOWN)
            return false;
    }
    return true;
}

const struct mailindex_entry *
mailindex_read(const void *octets, size_t len, size_t *count)
{
    const struct mailindex_entry *entries = (const void *)((const char *)octets + MAILINDEX_HEAD);
    struct head head;

    if (len < sizeof head || (len - sizeof head) % sizeof *entries)
        return NULL;
    memcpy(&head, octets, sizeof head);
    if (memcmp(head.magic, MAGIC, sizeof head.magic) != 0 || head.order != ORDER || head.version != VERSION ||
        head.count != (len - sizeof head) / sizeof *entries || head.sum != sum(entries, head.count) ||
        !is_good(entries, head.count))
        return NULL;
    *count = head.count;
    return entries;
}

void
mailindex_head(const struct mailindex_entry *entries, size_t n, void *octets)
{
    struct head head = {.order = ORDER, .version = VERSION, .count = n, .sum = sum(entries, n)};

    memcpy(head.magic, MAGIC, sizeof head.magic);
    memcpy(octets, &head, sizeof head);
}

/* qsort does not keep the order of equals: it sorts keys that know their place. */
static int
compare_keys(const void *x, const void *y)
{
    const struct mailkey *a = x, *b = y;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

size_t
mailindex_sort(struct mailindex_entry *entries, size_t n)
{
    struct mailkey *keys = malloc((n ? n : 1) * sizeof *keys);
    struct mailindex_entry *sorted = malloc((n ? n : 1) * sizeof *sorted);
    size_t to = 0;

    for (size_t i = 0; keys && i < n; i++)
        keys[i] = (struct mailkey){entries[i].hash, (uint32_t)i};
    if (keys && sorted && n) {
        qsort(keys, n, sizeof *keys, compare_keys);
        for (size_t i = 0; i < n; i++) {
            to -= to && sorted[to - 1].hash == keys[i].key;
            sorted[to++] = entries[keys[i].row];
        }
        memcpy(entries, sorted, to * sizeof *sorted);
    }
    free(keys);
    free(sorted);
    return to;
}

static bool
is_among(const struct mailkey *keys, size_t count, uint64_t hash, size_t *at)
{
    while (*at < count && keys[*at].key < hash)
        ++*at;
    return *at < count && keys[*at].key == hash;
}

size_t
mailindex_join(const struct mailindex_entry *older, size_t a, const struct mailindex_entry *newer, size_t b,
               const struct mailkey *keys, size_t count, struct mailindex_entry *out)
{
    size_t i = 0, j = 0, at = 0, n = 0;

    while (i < a || j < b) {
        bool take_newer = j < b && (i == a || newer[j].hash <= older[i].hash);
        const struct mailindex_entry *entry = take_newer ? &newer[j] : &older[i];

        i += i < a && older[i].hash == entry->hash;
        j += take_newer;
        if (entry->size != MAILSIZE_UNKNOWN && is_among(keys, count, entry->hash, &at))
            out[n++] = *entry;
    }
    return n;
}

size_t
mailindex_match(const struct mailindex_entry *entries, size_t n, struct mailnames *m,
                const struct mailkey *keys,
                void (*known)(void *owner, uint32_t row, const struct mailindex_entry *entry), void *owner)
{
    size_t at = 0, matched = 0;

    for (size_t i = 0; i < m->count; i++) {
        uint32_t row = keys[i].row;

        while (at < n && entries[at].hash < keys[i].key)
            at++;
        if (at == n || entries[at].hash != keys[i].key || entries[at].inode != m->inodes[row])
            continue;
        m->rows[row].size = entries[at].size;
        m->rows[row].flags &= (uint8_t)~MAILNAME_TOLD;
        known(owner, row, &entries[at]);
        matched++;
    }
    return matched;
}
