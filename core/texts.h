/*
 * texts - what is said to clients, in their language (RFC 6856, section 3).
 *
 * Pure.  The English text is the key: a language is a list of English texts
 * and what stands for them; one that is not in the list stays English.  Where
 * a text depends on values it holds %1, %2, …, in any order and number.
 */
#ifndef POPD_TEXTS_H
#define POPD_TEXTS_H

#include "slice.h"

#include <stdbool.h>

#define LANGUAGE_TAG_MAX 35 /* octets, RFC 5646, section 4.4.1 */

/* What RFC 6856 calls the language before any LANG: ours is English. */
#define LANGUAGE_DEFAULT "i-default"

/* A text and its translation; lengths without a NUL. */
struct text {
    struct slice english, local;
};

/* All of it borrowed from whoever made it. */
struct language {
    const char *tag;  /* at most LANGUAGE_TAG_MAX octets */
    const char *name; /* as its speakers call it, UTF-8 */
    const struct text *texts;
    size_t count;
};

/* Of all[0..n) the language that answers a range best: the one of that tag, in
 * any case, else that of the range with its last subtags taken off (RFC 4647,
 * section 3.4); NULL: none. */
const struct language *language_find(const struct language *all, size_t n, struct slice range);

/* Whether two tags are the same: in any case. */
bool language_is(const char *tag, struct slice other);

/* What stands for an English text; the text itself where l is NULL or has
 * nothing for it. */
struct slice language_text(const struct language *l, struct slice english);

/* Writes a text with its values in the places of %1 to %9 to out[0..room), cut
 * there; returns how many octets.  A place without a value stays as it is. */
size_t texts_fill(char *out, size_t room, struct slice text, const struct slice *values, size_t n);

/* Every English text that is said to a client once LANG can have been, one
 * after the other from i = 0; NULL behind the last. */
const char *texts_known(size_t i);

/* A string as a slice. */
struct slice texts_slice(const char *s);

/* Whether these octets are well-formed UTF-8 (RFC 3629, section 4). */
bool texts_utf8(const char *octets, size_t n);

#endif
