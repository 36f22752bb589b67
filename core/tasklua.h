/*
 * tasklua - tasks for the C functions that Lua calls, and what carry.lua and
 * those who count need of them.
 */
#ifndef POPD_TASKLUA_H
#define POPD_TASKLUA_H

#include "task.h"

#include <lauxlib.h>

/* Adds to the table on top of the stack: adopt, expose, unwait, token, party,
 * count, and what guard.h has for Lua.  The tasks must outlive the Lua state's
 * last call of them.  [-0, +0, e] */
void tasklua_open(lua_State *L, struct tasks *tasks);

/* Adds functions that have the tasks as their first upvalue to the table on top
 * of the stack.  [-0, +0, e] */
void tasklua_add(lua_State *L, struct tasks *tasks, const luaL_Reg *functions);

/* In such a function: the tasks; raises if the Lua state is ending. */
struct tasks *tasklua_check(lua_State *L);

#endif
