/*
 * slice - octets of somebody else's memory; not ended by NUL.
 */
#ifndef POPD_SLICE_H
#define POPD_SLICE_H

#include <stddef.h>

struct slice {
    const char *at; /* borrowed; good as long as what it points into */
    size_t len;
};

#endif
