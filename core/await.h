/*
 * await - what a script can wait for: time, descriptors, tasks of its own; and
 * the loop as Lua has it.
 *
 * Each waiting function is three short ones: start (l_…), fired, cancel.
 * Outside a callback (a script's main chunk) they simply block.
 */
#ifndef POPD_AWAIT_H
#define POPD_AWAIT_H

#include "task.h"

/* Adds to the table on top of the stack: sleep, pause, wait, latch, ward, spawn, job, later,
 * adopt, unwait, token, run, step, stop, fd, signal, now, and what guard.h has for Lua.  The tasks must
 * outlive the Lua state's last call of them.  [-0, +0, e] */
void await_open(lua_State *L, struct tasks *tasks);

#endif
