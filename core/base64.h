/*
 * base64 - base64 in and out (RFC 4648, section 4).
 *
 * Pure, strict: whole groups of four, padding at the end only, no other octet
 * between, and the bits behind the last octet are zero; so each text stands
 * for one value and each value for one text.
 */
#ifndef POPD_BASE64_H
#define POPD_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Octets of the text for n octets, and at most so many octets for a text of n. */
#define BASE64_TEXT(n) (((n) + 2) / 3 * 4)
#define BASE64_OCTETS(n) ((n) / 4 * 3)

/* Writes BASE64_TEXT(n) octets, without a NUL. */
void base64_encode(const void *octets, size_t n, char *text);

/* Decodes into octets, which has room for BASE64_OCTETS(n) and may be the text
 * itself.  *len gets how many.  False: that is no base64; octets may have been
 * written to. */
bool base64_decode(const char *text, size_t n, void *octets, size_t *len);

#endif
