/*
 * mailsort - the order of a list of mailnames, and its rows by their bases.
 *
 * Pure.  Numbers are sorted digit by digit, in a time that does not depend on
 * what they are; names are compared only where those are equal.
 */
#ifndef POPD_MAILSORT_H
#define POPD_MAILSORT_H

#include "mailnames.h"

/* Sorts by time, then name; cur before new.  Once only.  Returns the rows by the
 * hashes of their bases, ascending, and equals by base; the caller frees them.
 * NULL: out of memory. */
struct mailkey *mailsort_names(struct mailnames *m);

/* The same keys of a sorted list. */
struct mailkey *mailsort_keys(const struct mailnames *m);

/* Puts the rows into another order: row i is what row from[i] was.  False: that
 * is no order of them, or out of memory; nothing was done. */
bool mailsort_arrange(struct mailnames *m, const uint32_t *from);

#endif
