/*
 * resolve - names to addresses, off the loop (getaddrinfo in a thread).
 *
 * The threads are a pool of their own: name servers that do not answer hold up
 * nothing else.
 */
#ifndef POPD_RESOLVE_H
#define POPD_RESOLVE_H

#include "net.h"
#include "pool.h"

#define RESOLVE_NAME 254 /* octets of a name with its NUL (RFC 1035, section 2.3.4) */
#define RESOLVE_MOST 16  /* addresses */

struct resolve {
    struct pool_job job; /* its owner, done and drop are the caller's */
    char name[RESOLVE_NAME];
    const char *why; /* a literal; NULL: there are addresses */
    size_t count;
    char address[RESOLVE_MOST][NET_TEXT]; /* numeric, in the system's order */
};

/* Takes the name; false: it is too long or empty. */
bool resolve_init(struct resolve *r, const char *name, size_t len);

/* The job's work; also to be called where blocking is fine. */
void resolve_work(void *resolve);

#endif
