/* base64: what is decoded is what is encoded again, so each text stands for one
 * value; any octets come back as they were; decoding works where it stands. */
#include "../core/base64.h"

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

/* Memory of exactly this size, so that no octet behind it is touched unseen. */
static char *
room(size_t n)
{
    char *p = malloc(n ? n : 1);

    must(p != NULL);
    return p;
}

static void
check_octets(const uint8_t *data, size_t n)
{
    char *text = room(BASE64_TEXT(n));
    size_t len;

    base64_encode(data, n, text);
    must(base64_decode(text, BASE64_TEXT(n), text, &len));
    must(len == n && (n == 0 || memcmp(text, data, n) == 0));
    free(text);
}

static void
check_text(const uint8_t *data, size_t n)
{
    char *text = room(n), *octets = room(BASE64_OCTETS(n)), *again = room(n);
    size_t len = 0, in_place = 0;
    bool good;

    if (n)
        memcpy(text, data, n);
    good = base64_decode(text, n, octets, &len);
    must(len <= BASE64_OCTETS(n));
    if (good) {
        must(BASE64_TEXT(len) == n);
        base64_encode(octets, len, again);
        must(n == 0 || memcmp(again, data, n) == 0);
    }
    must(base64_decode(text, n, text, &in_place) == good);
    must(!good || (in_place == len && (len == 0 || memcmp(text, octets, len) == 0)));
    free(text);
    free(octets);
    free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    check_octets(data, n);
    check_text(data, n);
    return 0;
}
