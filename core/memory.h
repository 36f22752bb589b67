/*
 * memory - a cap on what a Lua state may allocate.
 *
 * While there is one, an allocator that counts stands in front of the state's
 * own.  It refuses what would go over the cap while `strict` is set, and never
 * else: the core's own work does not fail for what a script hoards.  Lua
 * collects what it can and asks again where it is refused; the buffers of its
 * standard library do not.
 */
#ifndef POPD_MEMORY_H
#define POPD_MEMORY_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct memory {
    lua_Alloc below; /* the state's own; NULL: no cap */
    void *below_owner;
    size_t used, cap;
    size_t soon;   /* above this there may be much garbage: `refused` is told, with 0 */
    bool strict;   /* what goes over the cap is refused now */
    bool again;    /* the last request was refused: Lua has collected since */
    char why[160]; /* what a script that is stopped for it reads */
    /* A request was refused; `final`: after a collection, too.  It may set hooks, no more. */
    void (*refused)(void *owner, size_t growth, bool final);
    void *owner;
};

/* Zeroed but for refused and owner, it is ready.  Sets the cap, above 0, or
 * with 0 takes it away.  [-0, +0, e] */
void memory_limit(struct memory *m, lua_State *L, size_t cap);

/* Octets in use, what is garbage included. */
size_t memory_used(const struct memory *m, lua_State *L);

/* Collects, where half of what was left after the last time is used. */
void memory_tidy(struct memory *m, lua_State *L);

/* Collects; whether there is room for so many octets then. */
bool memory_fits(struct memory *m, lua_State *L, size_t growth);

/* Octets in use that malloc knows nothing of, if the state's own allocator is slab's. */
size_t memory_in_slab(const struct memory *m, lua_State *L);

/* Some memory of the state's in which nothing is left goes back to the system, if
 * its own allocator is slab's.  False: there is none. */
bool memory_trim(const struct memory *m, lua_State *L);

/* Gives the state its own allocator back: before ours is unloaded. */
void memory_clear(struct memory *m, lua_State *L);

#endif
