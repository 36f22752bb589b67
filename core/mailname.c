#include "mailname.h"

#include <string.h>

#define UID_MOST 70
#define STORED_BITS (64 - MAILSIZE_ADDED_BITS)

/* Sizes --------------------------------------------------------------------- */

uint64_t
mailsize_pack(uint64_t stored, uint64_t sent)
{
    uint64_t added = sent - stored;

    if (sent < stored || stored >> STORED_BITS || added >> MAILSIZE_ADDED_BITS || added > stored + 2)
        return MAILSIZE_UNKNOWN;
    return stored << MAILSIZE_ADDED_BITS | added;
}

uint64_t
mailsize_stored(uint64_t size)
{
    return size >> MAILSIZE_ADDED_BITS;
}

uint64_t
mailsize_sent(uint64_t size)
{
    return mailsize_stored(size) + (size & ((UINT64_C(1) << MAILSIZE_ADDED_BITS) - 1));
}

/* Names --------------------------------------------------------------------- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The number at name[*at], which moves behind it.  One that is too big is as
 * big as can be. */
static uint64_t
take_number(const char *name, size_t len, size_t *at)
{
    uint64_t n = 0;

    for (; *at < len && is_digit(name[*at]); ++*at) {
        unsigned digit = (unsigned)(name[*at] - '0');

        n = n > (UINT64_MAX - 1 - digit) / 10 ? UINT64_MAX - 1 : n * 10 + digit;
    }
    return n;
}

uint64_t
mailname_time(const char *name, size_t len)
{
    size_t at = 0;

    return len && is_digit(name[0]) ? take_number(name, len, &at) : UINT64_MAX;
}

size_t
mailname_base(const char *name, size_t len)
{
    const char *colon = memchr(name, ':', len);

    return colon ? (size_t)(colon - name) : len;
}

bool
mailname_has_flag(const char *name, size_t len, char flag)
{
    size_t at = mailname_base(name, len);

    return len - at > 3 && memcmp(name + at, ":2,", 3) == 0 && memchr(name + at + 3, flag, len - at - 3);
}

/* The number of a field ",X=n" that ends with the base or at another; false: none. */
static bool
field(const char *base, size_t len, char letter, uint64_t *n)
{
    const char *comma = memchr(base, ',', len);

    for (; comma; comma = memchr(comma + 1, ',', len - (size_t)(comma + 1 - base))) {
        size_t at = (size_t)(comma - base) + 3;

        if (at >= len || comma[1] != letter || comma[2] != '=' || !is_digit(base[at]))
            continue;
        *n = take_number(base, len, &at);
        if (at == len || base[at] == ',')
            return true;
    }
    return false;
}

/* No line end makes a message longer than twice its octets and two more, and
 * one that is sent as it is stored is rare enough to look. */
uint64_t
mailname_told(const char *base, size_t len)
{
    uint64_t stored, sent;

    if (!field(base, len, 'S', &stored) || !field(base, len, 'W', &sent) || sent <= stored)
        return MAILSIZE_UNKNOWN;
    return mailsize_pack(stored, sent);
}

/* RFC 1939, section 7. */
bool
mailname_is_uid(const char *text, size_t len)
{
    if (len < 1 || len > UID_MOST)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return false;
    return true;
}

/* Numbers that are longer than 64 bits are told apart by their digits. */
int
mailname_compare_numbers(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t from_a = 0, from_b = 0, to_a, to_b;

    while (from_a < a_len && a[from_a] == '0')
        from_a++;
    while (from_b < b_len && b[from_b] == '0')
        from_b++;
    for (to_a = from_a; to_a < a_len && is_digit(a[to_a]);)
        to_a++;
    for (to_b = from_b; to_b < b_len && is_digit(b[to_b]);)
        to_b++;
    if (to_a - from_a != to_b - from_b)
        return to_a - from_a < to_b - from_b ? -1 : 1;
    return memcmp(a + from_a, b + from_b, to_a - from_a);
}

int
mailname_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* Mixes eight octets at a time.  It need not withstand anybody: lists are
 * joined in sorted order, which takes the same time whatever the hashes are. */
uint64_t
mailname_hash(const char *base, size_t len)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ len, word;

    for (; len >= 8; base += 8, len -= 8) {
        memcpy(&word, base, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, base, len);
    h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 32;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 29;
}

/* Rows ---------------------------------------------------------------------- */

bool
mailname_is_known(const struct mailname *row)
{
    return row->size != MAILSIZE_UNKNOWN && !(row->flags & MAILNAME_TOLD);
}

size_t
mailname_uid_at(const struct mailname *row)
{
    return row->at + (row->flags & MAILNAME_HASHED ? (size_t)row->len + 1 : 0);
}
