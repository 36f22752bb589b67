/*
 * check - a reply compared with the plan's, as it comes.
 *
 * Pure, no allocation.  Feed it octets in pieces of any size.
 */
#ifndef BENCH_CHECK_H
#define BENCH_CHECK_H

#include "plan.h"

#include <stdint.h>

enum check_result {
    CHECK_MORE,       /* the reply goes on */
    CHECK_DONE,       /* it was right */
    CHECK_UNEXPECTED, /* its status line is another */
    CHECK_WRONG       /* what follows the status line is not what it must be */
};

/* How strict it is. */
enum check_mode {
    CHECK_OCTETS, /* every octet */
    CHECK_ENDS    /* +OK, and that bodies end; for servers which rewrite messages */
};

struct check {
    const struct step *step; /* borrowed from the plan */
    enum check_mode mode;
    enum { AT_STATUS, AT_REST_OF_STATUS, AT_BODY } at;
    size_t done;   /* octets of the status line, or of the body, that were right */
    uint64_t last; /* CHECK_ENDS: the last five octets */
    char line[80]; /* unique-ids: the line that is on its way */
    size_t len, items;
    uint64_t hash; /* of all unique-ids: the same mailbox has the same ones */
};

/* Awaits the reply of a step. */
void check_begin(struct check *c, const struct step *step, enum check_mode mode);

/* Takes octets of data[0..n); *used says how many.  After a result other than
 * MORE it takes none. */
enum check_result check_feed(struct check *c, const char *data, size_t n, size_t *used);

#endif
