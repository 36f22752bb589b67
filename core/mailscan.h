/*
 * mailscan - reads a Maildir: its names, what its index knows, and what has to
 * be looked at.
 *
 * Blocks; made for a thread.  A size counts when it was looked at: the file was
 * as long as its name says, or was read.  What the index says of a file, by the
 * message's base name and the file's inode, was looked at in an earlier
 * session; a thousand files of each session are looked at again all the same, so
 * that all of a usual Maildir are.
 */
#ifndef POPD_MAILSCAN_H
#define POPD_MAILSCAN_H

#include "mailindex.h"

/* So many files are looked at again that the index knows already. */
#define MAILSCAN_AGAIN 1024

#define MAILSCAN_INDEX "popd-index"

struct mailscan {
    /* Set by the caller. */
    char *dir; /* ours */
    bool by_mtime;
    bool hide_trashed;    /* leave out what has the flag T */
    uint64_t since;       /* leave out what is older, seconds; 0: nothing */
    bool names_only;      /* no sizes */
    unsigned patience;    /* seconds that new files may be looked at; what is left is not known */
    unsigned long random; /* where the looking again begins */

    /* What came of it. */
    struct mailnames *names;         /* held once */
    struct mailkey *keys;            /* ours */
    size_t same;                     /* rows that share their base */
    int code;                        /* an errno; 0: all is well */
    const char *failed;              /* "new" or "cur", which could not be read; NULL: another failure */
    struct mailindex_entry *learned; /* ours: what the index does not know yet */
    size_t learned_count;
    size_t stale;   /* entries of the index that are nobody's */
    size_t wrong;   /* of what the index says */
    uint64_t stamp; /* mailscan_stamp when it was read; 0: as long as that stays so another reading
                       could find something else */
};

void mailscan_run(struct mailscan *s);
void mailscan_clear(struct mailscan *s);

/* What `new` and `cur` are now, in one number: each name that comes, goes or changes
 * makes it another.  0: it cannot be told. */
uint64_t mailscan_stamp(const char *dir);

/* Brings the index up to date with what was learned, which it sorts.  A Maildir
 * that takes none (read-only, full, no tmp) has none. */
void mailscan_update(const char *dir, const struct mailnames *names, struct mailindex_entry *learned,
                     size_t n);

/* What a file that is no symbolic link is: octets as stored, as sent, inode, time
 * of change in nanoseconds. */
struct mailfile {
    uint64_t stored, sent, inode;
    int64_t mtime;
};

/* Counts a file's octets.  One that is as long as `told` says (MAILSIZE_UNKNOWN:
 * nobody does) is not read.  An errno, or 0. */
int mailscan_count(const char *path, uint64_t told, struct mailfile *file);

/* Removes files of a directory that nobody has read or written for so many
 * seconds. */
void mailscan_sweep(const char *dir, int64_t seconds, int64_t now);

#endif
