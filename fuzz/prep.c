/* prep_saslprep: what comes out is short, is UTF-8, has no control character,
 * and is not changed by preparing it again; ASCII is not changed at all. */
#include "../core/prep.h"

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

static bool
has_control(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return true;
    return false;
}

static bool
is_ascii(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] > 0x7F)
            return false;
    return true;
}

static void
check_prepared(const char *text, size_t n)
{
    char again[PREP_MAX];
    size_t len;

    must(n <= PREP_MAX && prep_is_utf8(text, n) && !has_control(text, n));
    must(prep_saslprep(text, n, again, &len) == PREP_OK);
    must(len == n && memcmp(again, text, n) == 0);
}

static void
check_refused(enum prep_status status, const char *text, size_t n)
{
    must(*prep_reason(status) != '\0');
    must((status == PREP_ENCODING) == !prep_is_utf8(text, n) || n > PREP_MAX);
    must(!is_ascii(text, n) || n > PREP_MAX || has_control(text, n));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = calloc(1, n ? n : 1), *out = malloc(PREP_MAX); /* of just these sizes */
    size_t len;
    enum prep_status status;

    if (n)
        memcpy(text, data, n);
    status = prep_saslprep(text, n, out, &len);
    if (status == PREP_OK) {
        check_prepared(out, len);
        must(!is_ascii(text, n) || (len == n && memcmp(out, text, n) == 0));
    } else {
        check_refused(status, text, n);
    }
    free(text);
    free(out);
    return 0;
}
