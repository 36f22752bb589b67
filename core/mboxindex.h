/*
 * mboxindex - where an mbox file's messages are.
 *
 * Pure.  Feed it the file in pieces from `at` on, then mboxindex_end.  It can be
 * cut behind any message and fed again from there, when mail was appended or the
 * rest was rewritten.
 */
#ifndef POPD_MBOXINDEX_H
#define POPD_MBOXINDEX_H

#include "mboxscan.h"

struct mboxindex {
    struct mboxscan scan;
    bool (*ends_at)(void *owner, uint64_t offset); /* see mboxscan.h; its owner is mboxindex_feed's */
    struct mboxscan_mail *mail;                    /* ours */
    size_t count, room;
    uint64_t octets; /* of all messages, as sent */
};

void mboxindex_init(struct mboxindex *x, enum mboxscan_format format, bool (*ends_at)(void *, uint64_t));
void mboxindex_clear(struct mboxindex *x);

/* Forgets the messages behind the first `kept`: `scan.at` says from where on it is
 * fed again.  If none was found yet that is the file's beginning. */
void mboxindex_cut(struct mboxindex *x, size_t kept);

/* False: out of memory. */
bool mboxindex_feed(struct mboxindex *x, void *owner, const char *in, size_t n);
bool mboxindex_end(struct mboxindex *x);

/* Where the octets behind message i (from 0) and the blank line after it begin. */
uint64_t mboxindex_next(const struct mboxindex *x, size_t i);

#endif
