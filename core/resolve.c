#include "resolve.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct resolve *
resolve_new(const char *name, size_t len, bool *bad)
{
    struct resolve *r;

    *bad = len == 0 || len >= sizeof r->name || memchr(name, '\0', len);
    r = *bad ? NULL : calloc(1, sizeof *r);
    if (!r)
        return NULL;
    memcpy(r->name, name, len);
    r->job.work = resolve_work;
    r->job.orphan = resolve_free;
    r->job.owner = r;
    return r;
}

void
resolve_free(void *resolve)
{
    free(resolve);
}

static void
take(struct resolve *r, const struct addrinfo *found)
{
    for (; found && r->count < RESOLVE_MOST; found = found->ai_next)
        if (getnameinfo(found->ai_addr, found->ai_addrlen, r->address[r->count], NET_TEXT, NULL, 0,
                        NI_NUMERICHOST) == 0)
            r->count++;
}

void
resolve_work(void *resolve)
{
    struct resolve *r = resolve;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(r->name, NULL, &hints, &found);

    if (error == EAI_NONAME || error == EAI_ADDRFAMILY) { /* ::1 where no interface but loopback has IPv6 */
        hints.ai_flags = 0;
        error = getaddrinfo(r->name, NULL, &hints, &found);
    }
    if (error) {
        r->why = gai_strerror(error);
        return;
    }
    take(r, found);
    freeaddrinfo(found);
    if (r->count == 0)
        r->why = "the name has no address";
}
