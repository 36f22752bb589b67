/*
 * pair - both ends of a connection within the process, as Lua has them.
 *
 * What a script that plays a client writes at one end, a server's connection
 * reads at the other.  Nothing blocks.
 */
#ifndef POPD_PAIR_H
#define POPD_PAIR_H

#include <lua.h>

/* Adds to the table on top of the stack:
 *   pair() -> end, end; or nil and the reason.  An end has read() -> octets ("":
 *     none yet; nil: no more come), write(octets) -> how many were taken, or nil
 *     and the reason, getfd() and close().
 * [-0, +0, e] */
void pair_open(lua_State *L);

/* The descriptor of the end at an index, which is the caller's from now on, and
 * the end closed.  [-0, +0, e] */
int pair_take(lua_State *L, int index);

#endif
