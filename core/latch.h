/*
 * latch - something that one task waits for and another makes come true.
 *
 * A main chunk that waits turns the loop meanwhile: others fire only then.
 */
#ifndef POPD_LATCH_H
#define POPD_LATCH_H

#include "task.h"

/* Adds latch to the table on top of the stack.  The tasks must outlive the Lua
 * state's last call.  [-0, +0, e]
 *
 *   latch() -> l               not fired
 *   l:wait([seconds])          true, or nil and "timeout"; one waits at a time, others raise
 *   l:fire()                   for good: who waits goes on at the loop's next turn
 */
void latch_open(lua_State *L, struct tasks *tasks);

#endif
