/*
 * prep - names and passwords made comparable: SASLprep (RFC 4013, a profile of
 * RFC 3454's stringprep), over utf8proc.
 *
 * Pure, no allocation.  In this order: other spaces become a space and what is
 * invisible goes (a zero width space, which both lists hold, becomes a space,
 * as in other SASL libraries), NFKC, then the prohibited characters and the
 * rules for text that runs from right to left.
 *
 * Code points that Unicode 3.2 did not know pass, also in what a site stores:
 * the server cannot tell a query from a stored string that was made by the same
 * function, and refusing them would lock out every script added since.
 * What is normalized and directed follows the Unicode of the library: of what
 * 3.2 knew, NFKC differs for five ideographs (Unicode's Corrigendum 4), and the
 * direction of a few marks has changed.
 */
#ifndef POPD_PREP_H
#define POPD_PREP_H

#include <stdbool.h>
#include <stddef.h>

/* The most octets that go in, and come out. */
#define PREP_MAX 1024

enum prep_status {
    PREP_OK,
    PREP_LONG,       /* more than PREP_MAX octets, before or after */
    PREP_ENCODING,   /* no UTF-8 */
    PREP_PROHIBITED, /* section 2.3: a control character, a private one, ... */
    PREP_DIRECTION   /* section 2.4: both directions in one string */
};

/* Writes what in[0..n) becomes to out, without a NUL, and its octets to *len,
 * which may be 0.  Whatever the result, out may have been written to: where it
 * is a secret, the caller wipes it.  Preparing twice changes nothing. */
enum prep_status prep_saslprep(const char *in, size_t n, char out[PREP_MAX], size_t *len);

/* What is wrong, as the end of a sentence: "is no UTF-8". */
const char *prep_reason(enum prep_status status);

/* Whether these octets are UTF-8 (RFC 3629): shortest forms, no surrogates. */
bool prep_is_utf8(const char *text, size_t n);

#endif
