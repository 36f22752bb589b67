/*
 * signals - the process's signals, for functions in Lua.
 *
 * For the program, never for the module: signals belong to the process.
 */
#ifndef POPD_SIGNALS_H
#define POPD_SIGNALS_H

#include "task.h"

/* Adds to the table on top of the stack: signal(number, f [, each]).  What is
 * watched stays so for the rest of the process; it alone keeps the loop not
 * going.  [-0, +0, e] */
void signals_open(lua_State *L, struct tasks *tasks);

#endif
