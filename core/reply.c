#include "reply.h"

#include "slice.h"

#include <string.h>

#define CODE_MAX 64

static bool
is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* The same of any of eight octets at once: each subtraction borrows from the
 * top bit of an octet that is below 0x20, or is 0x7f. */
static bool
has_control(const char *text)
{
    uint64_t octets, delete;

    memcpy(&octets, text, sizeof octets);
    delete = octets ^ UINT64_C(0x7f7f7f7f7f7f7f7f);
    return (((octets - UINT64_C(0x2020202020202020)) & ~octets) |
            ((delete - UINT64_C(0x0101010101010101)) & ~delete)) &
           UINT64_C(0x8080808080808080);
}

/* How many octets at the start have no control octet among them, in eights. */
static size_t
clean_part(const char *text, size_t len)
{
    size_t n = 0;

    while (len - n >= 8 && !has_control(text + n))
        n += 8;
    return n;
}

/* Copies text with '?' for control octets. */
static unsigned
copy_clean(char *to, const char *text, size_t len)
{
    unsigned faults = REPLY_CLEAN;
    size_t clean = clean_part(text, len);

    memcpy(to, text, clean);
    for (size_t i = clean; i < len; i++) {
        bool control = is_control(text[i]);

        to[i] = control ? '?' : text[i];
        faults |= control ? REPLY_CONTROLS : REPLY_CLEAN;
    }
    return faults;
}

/* Appends text with '?' for control octets. */
static unsigned
add_clean(struct buf *out, const char *text, size_t len)
{
    char *to = len ? buf_reserve(out, len) : NULL;

    if (!to)
        return REPLY_CLEAN;
    out->len += len;
    return copy_clean(to, text, len);
}

static bool
continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* How much of a text, longer than max, fits without half a UTF-8 sequence at
 * its end.  Where the octets are no UTF-8, all of max. */
static size_t
cut_at(const char *text, size_t max)
{
    size_t n = max;

    while (n > 0 && max - n < 3 && continues(text[n]))
        n--;
    return (unsigned char)text[n] >= 0xc0 ? n : max;
}

/* RFC 2449, section 8: rchar. */
static bool
is_code_char(char c)
{
    return c > 0x20 && c < 0x7f && c != ']';
}

bool
reply_code_ok(const char *code, size_t len)
{
    if (len == 0 || len > CODE_MAX || code[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_code_char(code[i]) || (code[i] == '/' && (i == 0 || code[i - 1] == '/')))
            return false;
    return true;
}

static unsigned
add_code(struct buf *out, const char *code, size_t len)
{
    if (!reply_code_ok(code, len))
        return REPLY_BAD_CODE;
    buf_puts(out, " [");
    buf_add(out, code, len);
    buf_puts(out, "]");
    return REPLY_CLEAN;
}

/* Appends " text", at most max octets.  The first octet of a reply's text must
 * not be a '[': it would begin a code (RFC 2449, section 6.4). */
static unsigned
add_text(struct buf *out, bool first, const char *text, size_t len, size_t max)
{
    unsigned faults = len + 1 > max ? REPLY_CUT : REPLY_CLEAN;
    size_t n = faults ? cut_at(text, max - 1) : len;

    if (n == 0)
        return faults;
    buf_puts(out, " ");
    if (first && text[0] == '[') {
        buf_puts(out, "?");
        return faults | REPLY_CONTROLS | add_clean(out, text + 1, n - 1);
    }
    return faults | add_clean(out, text, n);
}

unsigned
reply_text(struct buf *out, bool ok, const char *code, size_t code_len, const char *text, size_t text_len)
{
    size_t start = out->len, used;
    unsigned faults = REPLY_CLEAN;
    bool bare = true;

    buf_puts(out, ok ? "+OK" : "-ERR");
    if (code) {
        faults |= add_code(out, code, code_len);
        bare = faults != REPLY_CLEAN;
    }
    used = out->len - start;
    faults |= add_text(out, bare, text, text_len, REPLY_MAX - 2 - used);
    buf_puts(out, "\r\n");
    return faults;
}

void
reply_ok(struct buf *out, const char *text)
{
    reply_text(out, true, NULL, 0, text, strlen(text));
}

void
reply_err(struct buf *out, const char *code, const char *text)
{
    reply_text(out, false, code, code ? strlen(code) : 0, text, strlen(text));
}

unsigned
reply_line(struct buf *out, const char *text, size_t len)
{
    size_t max = REPLY_MAX - 2;
    unsigned faults = len > max ? REPLY_CUT : REPLY_CLEAN;

    if (len && text[0] == '.')
        buf_puts(out, ".");
    faults |= add_clean(out, text, len > max ? cut_at(text, max) : len);
    buf_puts(out, "\r\n");
    return faults;
}

/* In one go: a list may have a hundred thousand of them. */
void
reply_item(struct buf *out, uint64_t number, const char *value, size_t len)
{
    char *to = buf_reserve(out, SLICE_DECIMAL + len + 3);
    size_t n;

    if (!to)
        return;
    n = slice_decimal(to, number);
    to[n++] = ' ';
    copy_clean(to + n, value, len);
    n += len;
    to[n++] = '\r';
    to[n++] = '\n';
    out->len += n;
}

void
reply_pair(struct buf *out, uint64_t number, uint64_t value)
{
    char digits[SLICE_DECIMAL];

    reply_item(out, number, digits, slice_decimal(digits, value));
}

void
reply_end(struct buf *out)
{
    buf_puts(out, ".\r\n");
}
