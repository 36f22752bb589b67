/*
 * looplua - the loop as Lua has it: turning it, and its clock.
 */
#ifndef POPD_LOOPLUA_H
#define POPD_LOOPLUA_H

#include "task.h"

/* Adds to the table on top of the stack: run, step, stop, inside, fd, now, date.
 * run and step raise where the loop turns already.  The tasks, whose loop it is,
 * must outlive the Lua state's last call of them.  [-0, +0, e] */
void looplua_open(lua_State *L, struct tasks *tasks);

#endif
