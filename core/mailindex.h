/*
 * mailindex - what is known of a Maildir's files, as octets of a file.
 *
 * Pure.  An entry says how many octets a file has, stored and sent, and tells
 * whose they are: the hash of the message's base name, the file's inode and
 * its time of change.  Nothing here is ever needed: what is not as it should be
 * (another version, byte order or length, a wrong sum, disorder, sizes that no
 * file has) is no index at all.
 */
#ifndef POPD_MAILINDEX_H
#define POPD_MAILINDEX_H

#include "mailnames.h"

struct mailindex_entry {
    uint64_t hash;  /* mailname_hash of the base */
    uint64_t inode; /* as the directory tells it */
    uint64_t size;  /* as mailsize_pack makes it; never MAILSIZE_UNKNOWN in a file */
    int64_t mtime;  /* nanoseconds */
};

#define MAILINDEX_HEAD 32

/* How long an index of n entries is. */
#define MAILINDEX_SIZE(n) (MAILINDEX_HEAD + (n) * sizeof(struct mailindex_entry))

/* Looks at octets[0..len), which are aligned as malloc's.  Returns the entries,
 * inside of them, ascending by hash, and sets *count; NULL: it is no index. */
const struct mailindex_entry *mailindex_read(const void *octets, size_t len, size_t *count);

/* Writes the head of MAILINDEX_HEAD octets for n entries. */
void mailindex_head(const struct mailindex_entry *entries, size_t n, void *head);

/* Sorts by hash; of those with the same hash the last one stays.  Returns how
 * many are left; 0 also where memory is out.  At most UINT32_MAX of them. */
size_t mailindex_sort(struct mailindex_entry *entries, size_t n);

/* Joins: writes to out, which has room for a + b, what stands in `newer`, or
 * else in `older`, and is among the messages by keys; an unknown size in `newer`
 * takes one out.  Returns how many. */
size_t mailindex_join(const struct mailindex_entry *older, size_t a, const struct mailindex_entry *newer,
                      size_t b, const struct mailkey *keys, size_t count, struct mailindex_entry *out);

/* Gives rows the sizes that entries tell, by hash and inode.  Returns how many
 * entries are somebody's.  known(owner, row, entry) is told of each. */
size_t mailindex_match(const struct mailindex_entry *entries, size_t n, struct mailnames *m,
                       const struct mailkey *keys,
                       void (*known)(void *owner, uint32_t row, const struct mailindex_entry *entry),
                       void *owner);

#endif
