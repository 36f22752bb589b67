/*
 * fault - what fails in a script's functions is told to one place in Lua
 * (popd.faults), which logs it: the first of a kind in full, its repeats counted.
 */
#ifndef POPD_FAULT_H
#define POPD_FAULT_H

#include <lua.h>

/* Adds on_fault(f) to the table on top of the stack: f(text, callback or nil,
 * error, conn or nil) is called from then on.  [-0, +0, e] */
void fault_open(lua_State *L);

/* Tells the error at index 1; what is on top of the stack is the connection's
 * view, or nil.  callback: its name, or NULL.  [-1, +0, e] */
void fault_tell(lua_State *L, const char *text, const char *callback);

#endif
