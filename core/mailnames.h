/*
 * mailnames - the messages of a Maildir by their files' names: in the order of
 * their delivery, with what the names tell.
 *
 * Pure.  One block of text holds the names, one flat array the rest: no
 * allocation for each message, and 16 octets beside its name.  A name is
 * base[:flags]; the base is the message's for ever, and may tell its octets as
 * stored (",S=n") and as sent (",W=n").  Its unique-id is the base, or its
 * SHA-256 where POP3 cannot send it.
 *
 * A row's number is its place, from 0.  Once lent, names never move.
 */
#ifndef POPD_MAILNAMES_H
#define POPD_MAILNAMES_H

#include "buf.h"
#include <stdint.h>

enum mailname_flag {
    MAILNAME_CUR = 1,    /* in cur, else in new */
    MAILNAME_HASHED = 2, /* its unique-id stands behind its name */
    MAILNAME_SAME = 4,   /* others have the same base */
    MAILNAME_TOLD = 8    /* its size is what the name tells, and not looked at yet */
};

struct mailname {
    uint64_t size; /* see mailsize; or MAILSIZE_UNKNOWN */
    uint32_t at;   /* in text, with a NUL behind it */
    uint8_t len;   /* of the name */
    uint8_t base;  /* of it */
    uint8_t flags;
    uint8_t uid_len; /* 1 to 70 */
};

/* Octets as stored, and as sent, in one number: sending adds one octet to each
 * bare line feed, and at most two at the end. */
#define MAILSIZE_UNKNOWN UINT64_MAX
#define MAILSIZE_ADDED_BITS 26

/* Packs them.  MAILSIZE_UNKNOWN: no file can have these, or they are too big
 * (256 GiB, or 64 million lines). */
uint64_t mailsize_pack(uint64_t stored, uint64_t sent);
uint64_t mailsize_stored(uint64_t size);
uint64_t mailsize_sent(uint64_t size);

/* A row's number by a key: sorted, they find names and join lists. */
struct mailkey {
    uint64_t key;
    uint32_t row;
};

struct mailsort {
    uint64_t time, hash;
};

/* Counted: see mailnames_hold. */
struct mailnames {
    struct mailname *rows; /* ours; `count` of them, room for `room` */
    size_t count, room;
    struct buf text;        /* ours */
    uint64_t *inodes;       /* ours, by row; the caller drops them when they are not needed */
    struct mailsort *sorts; /* ours, by row: what to sort by; NULL once sorted */
    struct mailkey *keys; /* ours: what mailnames_sort returned, where the caller keeps them here; or NULL */
    size_t holders;
    bool lent;
};

/* Makes an empty list, held once.  NULL: out of memory. */
struct mailnames *mailnames_new(void);
void mailnames_hold(struct mailnames *m);
void mailnames_drop(struct mailnames *m); /* NULL is fine */

/* Gives back what only the making needs. */
void mailnames_trim(struct mailnames *m);

/* The number that a name starts with: when it was delivered; UINT64_MAX: none. */
uint64_t mailname_time(const char *name, size_t len);

/* Whether there is a flag (after ":2,") in a name. */
bool mailname_has_flag(const char *name, size_t len, char flag);

/* What a base tells; MAILSIZE_UNKNOWN where it does not, or tells what cannot
 * be, or what would need a look at each line (sent as stored). */
uint64_t mailname_told(const char *base, size_t len);

/* Adds a file's name of 1 to 255 octets; others are left out.  `time` is what it
 * is sorted by, before its name.  False: out of memory. */
bool mailnames_add(struct mailnames *m, const char *name, size_t len, bool cur, uint64_t inode,
                   uint64_t time);

/* Sorts by time, then name; cur before new.  Once only.  Returns the rows by the
 * hashes of their bases, ascending, and equals by base; the caller frees them.
 * NULL: out of memory. */
struct mailkey *mailnames_sort(struct mailnames *m);

/* The same keys of a sorted list. */
struct mailkey *mailnames_keys(const struct mailnames *m);
uint64_t mailname_hash(const char *base, size_t len);

/* Marks rows that share their base.  Returns how many do. */
size_t mailnames_mark_same(struct mailnames *m, const struct mailkey *keys);

/* Finds, for each row of `old`, the row of `now` that has its base: of[i] is its
 * number plus 1, 0 where there is none, and MAILNAMES_SEVERAL where either has
 * several. */
#define MAILNAMES_SEVERAL UINT32_MAX
void mailnames_follow(const struct mailnames *old, const struct mailkey *old_keys,
                      const struct mailnames *now, const struct mailkey *now_keys, uint32_t *of);

/* The first place in keys whose base this may be, or count.  Those that have the
 * same hash follow it. */
size_t mailnames_find(const struct mailkey *keys, size_t count, uint64_t hash);

/* Whether a row's size is known for certain. */
bool mailname_is_known(const struct mailname *row);

const char *mailname_text(const struct mailnames *m, const struct mailname *row);
const char *mailname_uid(const struct mailnames *m, const struct mailname *row);

/* Where a row's unique-id stands in text. */
size_t mailname_uid_at(const struct mailname *row);

/* Gives a row another unique-id, of 1 to 70 octets.  False: out of memory, or
 * the names are lent. */
bool mailnames_set_uid(struct mailnames *m, size_t row, const char *uid, size_t len);

/* Puts the rows into another order: row i is what row from[i] was.  False: that
 * is no order of them, or out of memory; nothing was done. */
bool mailnames_arrange(struct mailnames *m, const uint32_t *from);

/* Takes rows out (ascending numbers); keeps only the last n. */
void mailnames_remove(struct mailnames *m, const uint32_t *numbers, size_t n);
void mailnames_keep_last(struct mailnames *m, size_t n);

#endif
