/*
 * mailnames - the messages of a Maildir by their files' names: in the order of
 * their delivery, with what the names tell.
 *
 * Pure.  One block of text holds the names, one flat array the rest: no
 * allocation for each message, and 16 octets beside its name.  A message's
 * unique-id is its base name, or the SHA-256 of that where POP3 cannot send it.
 *
 * A row's number is its place, from 0.  Once lent, names never move.
 */
#ifndef POPD_MAILNAMES_H
#define POPD_MAILNAMES_H

#include "buf.h"
#include "mailname.h"

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
    uint32_t count, room;
    struct buf text;        /* ours */
    uint64_t *inodes;       /* ours, by row; the caller drops them when they are not needed */
    struct mailsort *sorts; /* ours, by row: what to sort by; NULL once sorted */
    struct mailkey *keys; /* ours: what mailsort_names returned, where the caller keeps them here; or NULL */
    uint32_t holders;
    bool lent;
    bool packed; /* rows and text stand behind this, in one block */
};

/* Makes an empty list, held once.  NULL: out of memory. */
struct mailnames *mailnames_new(void);
void mailnames_hold(struct mailnames *m);
void mailnames_drop(struct mailnames *m); /* NULL is fine */

/* Gives back what only the making needs, where that is much; in the thread that
 * has made it.  Then packs a small list into one block of just its size, of whoever
 * is to keep it: the list moves, or stays as it is where there is no memory. */
void mailnames_trim(struct mailnames *m);
struct mailnames *mailnames_pack(struct mailnames *m);

/* Adds a file's name of 1 to 255 octets; others are left out.  `time` is what it
 * is sorted by, before its name.  False: out of memory. */
bool mailnames_add(struct mailnames *m, const char *name, size_t len, bool cur, uint64_t inode,
                   uint64_t time);

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

const char *mailname_text(const struct mailnames *m, const struct mailname *row);
const char *mailname_uid(const struct mailnames *m, const struct mailname *row);

/* Gives a row another unique-id, of 1 to 70 octets.  False: out of memory, or
 * the names are lent. */
bool mailnames_set_uid(struct mailnames *m, size_t row, const char *uid, size_t len);

/* Takes rows out (ascending numbers); keeps only the last n. */
void mailnames_remove(struct mailnames *m, const uint32_t *numbers, size_t n);
void mailnames_keep_last(struct mailnames *m, size_t n);

#endif
