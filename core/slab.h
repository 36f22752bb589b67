/*
 * slab - small blocks of a known size, those of one size together in pages.
 *
 * A block has no head: whoever frees it says how big it is.  So what lives for
 * long and what lives for a moment share a page only where they are of one size,
 * and a page that nothing is left in can go back to the system.  Blocks over
 * SLAB_MOST are malloc's.  For one thread.
 */
#ifndef POPD_SLAB_H
#define POPD_SLAB_H

#include <stdbool.h>
#include <stddef.h>

#define SLAB_MOST 3072

struct slab;

/* NULL: out of memory. */
struct slab *slab_new(void);

/* Gives all pages back, also those with blocks in them; blocks that are malloc's
 * stay.  NULL is fine. */
void slab_free(struct slab *s);

/* A lua_Alloc: makes (block NULL), changes or frees (size 0) a block of `old`
 * octets.  NULL: out of memory, or freed. */
void *slab_resize(void *slab, void *block, size_t old, size_t size);

/* Octets of the blocks in its pages. */
size_t slab_used(const struct slab *s);

/* An empty page goes back to the system.  False: there is none. */
bool slab_trim(struct slab *s);

#endif
