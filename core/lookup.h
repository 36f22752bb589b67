/*
 * lookup - names of hosts for Lua: their addresses, and this machine's name.
 *
 * The threads that ask are a pool of their own (see resolve.h).  A name that is
 * an address asks nobody; where nothing can wait, the call blocks.
 */
#ifndef POPD_LOOKUP_H
#define POPD_LOOKUP_H

#include "pool.h"
#include "task.h"

/* Adds to the table on top of the stack.  The tasks must outlive the Lua state's
 * last call of them.  [-0, +0, e]
 *
 *   resolve(name [, seconds])   an array of numeric addresses, in the system's order; or
 *                               nil and why ("timeout"); waits
 *   hostname()                  a text, or nil and why
 */
void lookup_open(lua_State *L, struct tasks *tasks, struct pool *names);

#endif
