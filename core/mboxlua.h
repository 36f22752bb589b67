/*
 * mboxlua - an mbox file's index, as Lua has it; it is made in threads.
 */
#ifndef POPD_MBOXLUA_H
#define POPD_MBOXLUA_H

#include "pool.h"
#include "task.h"

/* Sets mbox_index in the table on top of the stack, after spool_open.  tasks and pool
 * are borrowed for good.  [-0, +0, e] */
void mboxlua_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
