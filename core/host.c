#include "host.h"

#include <string.h>
#include <strings.h>

/* A host may hold a NUL too. */
static bool
is_same(const char *name, const char *host, size_t len)
{
    return strlen(name) == len && strncasecmp(name, host, len) == 0;
}

bool
host_is(const char *pattern, const char *host, size_t len)
{
    const char *dot;

    if (pattern[0] != '*')
        return is_same(pattern, host, len);
    dot = len ? memchr(host, '.', len) : NULL;
    return dot && dot > host && is_same(pattern + 1, dot, len - (size_t)(dot - host));
}
