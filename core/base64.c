#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void
encode_group(uint32_t bits, char *text)
{
    for (int i = 0; i < 4; i++)
        text[i] = alphabet[bits >> (18 - 6 * i) & 63];
}

void
base64_encode(const void *octets, size_t n, char *text)
{
    const unsigned char *in = octets;

    for (; n >= 3; in += 3, n -= 3, text += 4)
        encode_group((uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2], text);
    if (n == 0)
        return;
    encode_group((uint32_t)in[0] << 16 | (n == 2 ? (uint32_t)in[1] << 8 : 0), text);
    memset(text + n + 1, '=', 3 - n);
}

/* What a letter stands for, or -1.  Without a table or a branch on the letter:
 * how long a secret takes tells nothing of it. */
static int
value_of(char letter)
{
    unsigned c = (unsigned char)letter;
    int upper = (int)(c - 'A' < 26) * ((int)c - 'A' + 1);
    int lower = (int)(c - 'a' < 26) * ((int)c - 'a' + 27);
    int digit = (int)(c - '0' < 10) * ((int)c - '0' + 53);

    return upper + lower + digit + (c == '+') * 63 + (c == '/') * 64 - 1;
}

/* The bits of a group's first n letters, at the left of 24; false: no letters. */
static bool
group_bits(const char *text, size_t n, uint32_t *bits)
{
    int bad = 0;

    *bits = 0;
    for (size_t i = 0; i < n; i++) {
        int value = value_of(text[i]);

        bad |= value;
        *bits |= ((uint32_t)value & 63) << (18 - 6 * i);
    }
    return bad >= 0;
}

/* How many letters the last group has before its padding: 2, 3 or 4. */
static size_t
last_letters(const char *text, size_t n)
{
    return text[n - 1] != '=' ? 4 : text[n - 2] != '=' ? 3 : 2;
}

bool
base64_decode(const char *text, size_t n, void *octets, size_t *len)
{
    unsigned char *out = octets;

    *len = 0;
    if (n % 4 != 0)
        return false;
    for (size_t at = 0; at < n; at += 4) {
        size_t letters = at + 4 < n ? 4 : last_letters(text, n);
        uint32_t bits;

        if (!group_bits(text + at, letters, &bits) || (letters < 4 && bits << (8 * (letters - 1) + 8)))
            return false;
        for (size_t i = 0; i + 1 < letters; i++)
            out[(*len)++] = (unsigned char)(bits >> (16 - 8 * i));
    }
    return true;
}
