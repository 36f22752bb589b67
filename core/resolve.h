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

/* On the heap: its thread may outlive whoever asked. */
struct resolve {
    struct pool_job job; /* its owner is this; done and drop are the caller's */
    void *asker;         /* the caller's, for done and drop */
    char name[RESOLVE_NAME];
    const char *why; /* a literal; NULL: there are addresses */
    size_t count;
    char address[RESOLVE_MOST][NET_TEXT]; /* numeric, in the system's order */
};

/* NULL: out of memory, or the name is too long or empty; then *bad is true. */
struct resolve *resolve_new(const char *name, size_t len, bool *bad);
void resolve_free(void *resolve); /* NULL is fine */

/* The job's work; also to be called where blocking is fine. */
void resolve_work(void *resolve);

#endif
