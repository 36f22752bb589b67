/*
 * ward - what must be done however a stretch of code ends: a job that is made
 * beforehand, and started then.
 */
#ifndef POPD_WARD_H
#define POPD_WARD_H

#include "task.h"

/* Adds ward to the table on top of the stack.  The tasks must outlive the Lua
 * state's last call.  [-0, +0, e]
 *
 *   local w <close> = ward(f, …)    f(…) runs as a task of its own once w is closed or collected
 *   w:disarm()                      it does not
 */
void ward_open(lua_State *L, struct tasks *tasks);

#endif
