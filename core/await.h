/*
 * await - waiting for time and for descriptors; and what functions that wait
 * have in common.
 *
 * Each waiting function is three short ones: start (l_…), fired, cancel.
 * Outside a callback (a script's main chunk) they simply block.
 */
#ifndef POPD_AWAIT_H
#define POPD_AWAIT_H

#include "task.h"

/* Adds to the table on top of the stack: sleep, pause, wait.  The tasks must
 * outlive the Lua state's last call of them.  [-0, +0, e] */
void await_open(lua_State *L, struct tasks *tasks);

/* An argument that is a number of seconds, 0 to 1e9; or raises. */
double await_check_seconds(lua_State *L, int index);

/* For task_resume: true, the wait came to its end; nil and "timeout", it did not.
 * owner may be NULL. */
int await_push_true(lua_State *L, void *owner);
int await_push_timeout(lua_State *L, void *owner);

#endif
