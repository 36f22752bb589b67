#include "proxyproto.h"

#include <string.h>

#define V1_MAX 107 /* section 2.1: with its CRLF */
#define V2_HEAD 16 /* signature, version and command, family, length */

static const char v1_start[] = "PROXY ";
static const char v2_start[] = "\r\n\r\n\0\r\nQUIT\n"; /* 12 octets */

/* What is left to parse of a version 1 line. */
struct text {
    const char *at, *end;
};

static bool
take_char(struct text *t, char c)
{
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static int
digit_value(char c, int base)
{
    int value = -1;

    if (c >= '0' && c <= '9')
        value = c - '0';
    else if (c >= 'a' && c <= 'f')
        value = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
        value = c - 'A' + 10;
    return value < base ? value : -1;
}

/* A number of 1 to max_digits digits, at most max. */
static bool
take_number(struct text *t, int base, int max_digits, unsigned max, unsigned *number)
{
    int n = 0;

    *number = 0;
    for (; t->at < t->end && n < max_digits && digit_value(*t->at, base) >= 0; n++, t->at++)
        *number = *number * (unsigned)base + (unsigned)digit_value(*t->at, base);
    return n > 0 && *number <= max;
}

/* Section 2.1: a leading zero could be taken for octal, and is refused. */
static bool
take_decimal(struct text *t, int max_digits, unsigned max, unsigned *number)
{
    const char *from = t->at;

    return take_number(t, 10, max_digits, max, number) && (*from != '0' || t->at - from == 1);
}

static bool
take_v4(struct text *t, uint8_t *address)
{
    for (int i = 0; i < 4; i++) {
        unsigned octet;

        if ((i > 0 && !take_char(t, '.')) || !take_decimal(t, 3, 255, &octet))
            return false;
        address[i] = (uint8_t)octet;
    }
    return true;
}

/* The groups of an IPv6 address as they are written; `gap` is where "::"
 * stands, in octets, or -1. */
struct groups {
    uint8_t octets[16];
    int len;
    int gap;
};

static void
add_group(struct groups *g, unsigned group)
{
    g->octets[g->len++] = (uint8_t)(group >> 8);
    g->octets[g->len++] = (uint8_t)(group & 255);
}

static bool
take_gap(struct text *t, struct groups *g)
{
    if (t->end - t->at < 2 || t->at[0] != ':' || t->at[1] != ':' || g->gap >= 0)
        return false;
    t->at += 2;
    g->gap = g->len;
    return true;
}

/* A group, or an IPv4 address, which can only be the last. */
static bool
take_group(struct text *t, struct groups *g, bool *last)
{
    struct text before = *t;
    unsigned group;

    if (!take_number(t, 16, 4, 0xffff, &group))
        return false;
    *last = t->at < t->end && *t->at == '.';
    if (!*last) {
        add_group(g, group);
        return true;
    }
    *t = before;
    if (g->len > 12 || !take_v4(t, g->octets + g->len))
        return false;
    g->len += 4;
    return true;
}

static bool
at_group(const struct text *t)
{
    return t->at < t->end && digit_value(*t->at, 16) >= 0;
}

static bool
take_groups(struct text *t, struct groups *g)
{
    bool last = false;

    if (take_gap(t, g) && !at_group(t))
        return true; /* "::" alone */
    while (g->len < 16 && take_group(t, g, &last)) {
        bool more = !last && (take_gap(t, g) ? at_group(t) : take_char(t, ':'));

        if (!more)
            return true;
    }
    return false;
}

/* RFC 4291, section 2.2: "::" stands for one group of zeros or more. */
static bool
take_v6(struct text *t, uint8_t *address)
{
    struct groups g = {.gap = -1};
    int behind;

    if (!take_groups(t, &g) || (g.gap < 0 ? g.len != 16 : g.len > 14))
        return false;
    behind = g.gap < 0 ? 0 : g.len - g.gap;
    memset(address, 0, 16);
    memcpy(address, g.octets, (size_t)(g.len - behind));
    memcpy(address + 16 - behind, g.octets + g.len - behind, (size_t)behind);
    return true;
}

static bool
take_addresses(struct proxyproto *p, struct text *t)
{
    bool (*take)(struct text *, uint8_t *) = p->v6 ? take_v6 : take_v4;
    uint8_t destination[16];
    unsigned from = 0, to;
    bool ok = take(t, p->address) && take_char(t, ' ') && take(t, destination) && take_char(t, ' ') &&
              take_decimal(t, 5, 65535, &from) && take_char(t, ' ') && take_decimal(t, 5, 65535, &to);

    p->port = (uint16_t)from;
    return ok && t->at == t->end;
}

static bool
take_word(struct text *t, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(t->end - t->at) < len || memcmp(t->at, word, len) != 0)
        return false;
    t->at += len;
    return true;
}

static bool
take_v1_line(struct proxyproto *p, struct text *t)
{
    if (!take_word(t, v1_start))
        return false;
    if (take_word(t, "UNKNOWN")) { /* what follows it is of no meaning */
        p->local = true;
        return t->at == t->end || *t->at == ' ';
    }
    p->v6 = take_word(t, "TCP6 ");
    return (p->v6 || take_word(t, "TCP4 ")) && take_addresses(p, t);
}

static enum proxyproto_status
parse_v1(struct proxyproto *p, const char *bytes, size_t n, size_t *used)
{
    const char *lf = memchr(bytes, '\n', n < V1_MAX ? n : V1_MAX);
    struct text line = {bytes, lf ? lf - 1 : bytes};

    if (!lf)
        return n < V1_MAX ? PROXYPROTO_MORE : PROXYPROTO_BAD;
    if (*line.end != '\r' || !take_v1_line(p, &line))
        return PROXYPROTO_BAD;
    *used = (size_t)(lf - bytes) + 1;
    return PROXYPROTO_DONE;
}

/* Section 2.2: the families that a stream can come from, and how many octets
 * their addresses take.  What is not here has to be refused. */
static const struct family {
    uint8_t code;
    uint8_t octets;
    uint8_t address; /* octets of one address; 0: it is of no meaning here */
} families[] = {
    {0x00, 0, 0},   /* unspecified */
    {0x11, 12, 4},  /* TCP over IPv4 */
    {0x21, 36, 16}, /* TCP over IPv6 */
    {0x31, 216, 0}, /* a Unix stream */
};

static const struct family *
find_family(uint8_t code)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (families[i].code == code)
            return &families[i];
    return NULL;
}

/* The addresses of a PROXY command: from, to, ports. */
static bool
read_addresses(struct proxyproto *p, const struct family *family, const uint8_t *at, size_t n)
{
    if (!family || n < family->octets)
        return false;
    p->local = family->address == 0;
    p->v6 = family->address == 16;
    if (p->local)
        return true;
    memcpy(p->address, at, family->address);
    at += 2 * family->address;
    p->port = (uint16_t)(at[0] << 8 | at[1]);
    return true;
}

static enum proxyproto_status
parse_v2(struct proxyproto *p, const uint8_t *bytes, size_t n, size_t *used)
{
    size_t len;

    if (n < V2_HEAD)
        return PROXYPROTO_MORE;
    len = (size_t)bytes[14] << 8 | bytes[15];
    p->local = bytes[12] == 0x20; /* its family is to be passed over */
    if ((!p->local && bytes[12] != 0x21) || V2_HEAD + len > PROXYPROTO_MAX)
        return PROXYPROTO_BAD;
    if (n < V2_HEAD + len)
        return PROXYPROTO_MORE;
    if (!p->local && !read_addresses(p, find_family(bytes[13]), bytes + V2_HEAD, len))
        return PROXYPROTO_BAD;
    *used = V2_HEAD + len;
    return PROXYPROTO_DONE;
}

/* Whether the bytes there are may be, or begin with, that start. */
static bool
may_start(const void *bytes, size_t n, const char *start, size_t len)
{
    return memcmp(bytes, start, n < len ? n : len) == 0;
}

enum proxyproto_status
proxyproto_parse(struct proxyproto *p, const void *bytes, size_t n, size_t *used)
{
    *p = (struct proxyproto){0};
    *used = 0;
    if (n == 0)
        return PROXYPROTO_MORE;
    if (may_start(bytes, n, v1_start, sizeof v1_start - 1))
        return parse_v1(p, bytes, n, used);
    if (may_start(bytes, n, v2_start, sizeof v2_start - 1))
        return parse_v2(p, bytes, n, used);
    return PROXYPROTO_BAD;
}
