/* host_is: says of any pattern and any octets what a slow and simple look at them
 * says, and touches nothing beside them. */
#include "../core/host.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* A copy in memory of exactly this size, so that no octet behind it is read
 * unseen. */
static char *
copy_of(const uint8_t *data, size_t n, size_t more)
{
    char *copy = malloc(n + more ? n + more : 1);

    must(copy != NULL);
    if (n)
        memcpy(copy, data, n);
    return copy;
}

static int
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

static bool
is_same(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t i = 0;

    while (i < a_len && i < b_len && lower(a[i]) == lower(b[i]))
        i++;
    return i == a_len && i == b_len;
}

static bool
expected(const char *pattern, size_t pattern_len, const char *host, size_t len)
{
    size_t label = 0;

    if (pattern_len == 0 || pattern[0] != '*')
        return is_same(pattern, pattern_len, host, len);
    while (label < len && host[label] != '.')
        label++;
    return label > 0 && label < len && is_same(pattern + 1, pattern_len - 1, host + label, len - label);
}

/* The first octet tells how long the pattern is, which ends at a NUL as well. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t split, len;
    char *pattern, *host;

    if (n == 0)
        return 0;
    split = data[0] < n - 1 ? data[0] : n - 1;
    pattern = copy_of(data + 1, split, 1);
    pattern[split] = '\0';
    len = n - 1 - split;
    host = copy_of(data + 1 + split, len, 0);
    must(host_is(pattern, host, len) == expected(pattern, strlen(pattern), host, len));
    free(pattern);
    free(host);
    return 0;
}
