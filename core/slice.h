/*
 * slice - octets of somebody else's memory; not ended by NUL.
 */
#ifndef POPD_SLICE_H
#define POPD_SLICE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *at; /* borrowed; good as long as what it points into */
    size_t len;
};

/* Writes a number's digits, without a NUL; returns how many.  Not printf: it is in
 * nearly every line that a server says. */
#define SLICE_DECIMAL 20 /* most digits */
static inline size_t
slice_decimal(char to[SLICE_DECIMAL], uint64_t number)
{
    char digits[SLICE_DECIMAL];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    memcpy(to, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

#endif
