/*
 * spares - coroutines that have run, kept for the next task.
 *
 * To make one, with its stack, costs more than most callbacks do.
 */
#ifndef POPD_SPARES_H
#define POPD_SPARES_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* All coroutines are anchored in the registry, by their addresses.  Zeroed, it has none. */
struct spares {
    lua_State *all[16];
    size_t count;
};

/* A coroutine with nothing on its stack, and no hook if it was used before.  [-0, +0, e] */
lua_State *spares_take(struct spares *s, lua_State *L);

/* Runs what was left to be closed, and takes all off its stack. */
void spares_close(lua_State *co, lua_State *from);

/* Keeps it, or leaves it to the collector: where there are enough, and where it
 * must not be used again.  [-0, +0, e] */
void spares_give(struct spares *s, lua_State *L, lua_State *co, bool again);

#endif
