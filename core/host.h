/*
 * host - whether a certificate's name is the one that a client asks for (RFC
 * 6066, section 3; RFC 6125, section 6.4.3).
 *
 * Pure.  What the client asks for may be any octets.
 */
#ifndef POPD_HOST_H
#define POPD_HOST_H

#include <stdbool.h>
#include <stddef.h>

/* In any case of its letters; "*.example.org" is for one label, not an empty
 * one, before the dot. */
bool host_is(const char *pattern, const char *host, size_t len);

#endif
