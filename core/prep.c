#include "prep.h"

#include "digest.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

/* Room for code points.  NFKC makes up to eighteen of one, but of PREP_MAX
 * octets that are a language's it makes fewer than this; what needs more is
 * refused as too long. */
#define POINTS_MAX (2 * PREP_MAX)

struct range {
    int32_t first, last;
};

/* RFC 3454, C.1.2: spaces other than ASCII's. */
static const struct range spaces[] = {
    {0x00A0, 0x00A0}, {0x1680, 0x1680}, {0x2000, 0x200B},
    {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

/* RFC 3454, B.1: what nobody sees. */
static const struct range invisible[] = {
    {0x00AD, 0x00AD}, {0x034F, 0x034F}, {0x1806, 0x1806}, {0x180B, 0x180D},
    {0x200C, 0x200D}, {0x2060, 0x2060}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF},
};

/* RFC 3454, C.2.1, C.2.2 and C.3 to C.9, joined and in order.  C.1.2 is not
 * among them: the mapping and NFKC leave none of it.  C.4's two at the end of
 * each plane are in is_prohibited. */
static const struct range prohibited[] = {
    {0x0000, 0x001F},   {0x007F, 0x009F},   {0x0340, 0x0341},   {0x06DD, 0x06DD},    {0x070F, 0x070F},
    {0x180E, 0x180E},   {0x200C, 0x200F},   {0x2028, 0x202E},   {0x2060, 0x2063},    {0x206A, 0x206F},
    {0x2FF0, 0x2FFB},   {0xD800, 0xF8FF},   {0xFDD0, 0xFDEF},   {0xFEFF, 0xFEFF},    {0xFFF9, 0xFFFD},
    {0x1D173, 0x1D17A}, {0xE0001, 0xE0001}, {0xE0020, 0xE007F}, {0xF0000, 0x10FFFF},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool
is_in(int32_t point, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count && ranges[i].first <= point; i++)
        if (point <= ranges[i].last)
            return true;
    return false;
}

static bool
is_prohibited(int32_t point)
{
    return is_in(point, prohibited, COUNT(prohibited)) || (point & 0xFFFE) == 0xFFFE;
}

/* The code point at text, and its octets; 0 octets: that is no UTF-8. */
static size_t
point_at(const char *text, size_t n, int32_t *point)
{
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, point);

    return len > 0 ? (size_t)len : 0;
}

bool
prep_is_utf8(const char *text, size_t n)
{
    int32_t point;

    for (size_t len; n > 0; text += len, n -= len)
        if ((len = point_at(text, n, &point)) == 0)
            return false;
    return true;
}

/* Section 2.1, from text to text: nothing becomes longer by it.  False: no UTF-8. */
static bool
map(const char *in, size_t n, char *out, size_t *len)
{
    int32_t point;

    *len = 0;
    for (size_t octets; n > 0; in += octets, n -= octets) {
        if ((octets = point_at(in, n, &point)) == 0)
            return false;
        if (is_in(point, spaces, COUNT(spaces))) {
            out[(*len)++] = ' ';
        } else if (!is_in(point, invisible, COUNT(invisible))) {
            memcpy(out + *len, in, octets);
            *len += octets;
        }
    }
    return true;
}

/* Section 2.2.  Returns how many code points, or 0 if there is no room for them. */
static size_t
normalize(const char *text, size_t n, int32_t points[POINTS_MAX])
{
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    utf8proc_ssize_t count =
        utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, points, POINTS_MAX, how);

    if (count < 0 || count > POINTS_MAX)
        return 0;
    return (size_t)utf8proc_normalize_utf32(points, count, how);
}

enum direction { NEITHER, LEFT, RIGHT };

static enum direction
direction_of(int32_t point)
{
    switch (utf8proc_get_property(point)->bidi_class) {
    case UTF8PROC_BIDI_CLASS_L:
        return LEFT;
    case UTF8PROC_BIDI_CLASS_R:
    case UTF8PROC_BIDI_CLASS_AL:
        return RIGHT;
    default:
        return NEITHER;
    }
}

/* RFC 3454, section 6: what holds a character that runs to the left begins and
 * ends with such ones, and has none that runs to the right. */
static bool
is_one_direction(const int32_t *points, size_t count)
{
    bool left = false, right = false;

    for (size_t i = 0; i < count; i++) {
        left = left || direction_of(points[i]) == LEFT;
        right = right || direction_of(points[i]) == RIGHT;
    }
    return !right || (!left && direction_of(points[0]) == RIGHT && direction_of(points[count - 1]) == RIGHT);
}

static enum prep_status
encode(const int32_t *points, size_t count, char out[PREP_MAX], size_t *len)
{
    utf8proc_uint8_t octets[4];

    *len = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = (size_t)utf8proc_encode_char(points[i], octets);

        if (n > PREP_MAX - *len)
            return PREP_LONG;
        memcpy(out + *len, octets, n);
        *len += n;
    }
    return PREP_OK;
}

static enum prep_status
check(const int32_t *points, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_prohibited(points[i]))
            return PREP_PROHIBITED;
    return is_one_direction(points, count) ? PREP_OK : PREP_DIRECTION;
}

/* What is mapped, and in out, becomes what is prepared. */
static enum prep_status
prepare_points(char out[PREP_MAX], size_t *len, int32_t points[POINTS_MAX])
{
    size_t count = normalize(out, *len, points);
    enum prep_status status = count > 0 ? check(points, count) : PREP_LONG;

    return status == PREP_OK ? encode(points, count, out, len) : status;
}

static enum prep_status
prepare_text(const char *in, size_t n, char out[PREP_MAX], size_t *len)
{
    int32_t points[POINTS_MAX];
    enum prep_status status;

    if (!map(in, n, out, len))
        return PREP_ENCODING;
    if (*len == 0)
        return PREP_OK;
    status = prepare_points(out, len, points);
    digest_wipe(points, sizeof points);
    return status;
}

static bool
is_ascii(const char *text, size_t n)
{
    unsigned char all = 0;

    for (size_t i = 0; i < n; i++)
        all |= (unsigned char)text[i];
    return all < 0x80;
}

/* ASCII stays as it is: only its control characters are to be looked for. */
static enum prep_status
prepare_ascii(const char *in, size_t n, char out[PREP_MAX], size_t *len)
{
    for (size_t i = 0; i < n; i++)
        if (in[i] < 0x20 || in[i] == 0x7F)
            return PREP_PROHIBITED;
    memcpy(out, in, n);
    *len = n;
    return PREP_OK;
}

enum prep_status
prep_saslprep(const char *in, size_t n, char out[PREP_MAX], size_t *len)
{
    *len = 0;
    if (n > PREP_MAX)
        return PREP_LONG;
    return is_ascii(in, n) ? prepare_ascii(in, n, out, len) : prepare_text(in, n, out, len);
}

const char *
prep_reason(enum prep_status status)
{
    static const char *const reasons[] = {
        [PREP_OK] = "is fit",
        [PREP_LONG] = "is too long",
        [PREP_ENCODING] = "is no UTF-8",
        [PREP_PROHIBITED] = "has a character that is not allowed",
        [PREP_DIRECTION] = "mixes writing directions",
    };

    return reasons[status];
}
