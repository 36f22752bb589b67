/*
 * spool - a file that many programs write to: locked, scanned, rewritten.
 *
 * A spool in Lua is an open file with the locks that were taken on it; they are
 * given back when it is closed, or collected.  Reading and writing much of it,
 * and waiting for the disk, are done in threads of the pool: such a function
 * waits in a callback and blocks in a main chunk.  A file that a thread is at
 * stays open, and locked, until that one is through.
 */
#ifndef POPD_SPOOL_H
#define POPD_SPOOL_H

#include "pool.h"
#include "task.h"

/* Sets spool, dotlock_break, mbox_index, spool_self and process_gone in the
 * table on top of the stack.  tasks and pool are borrowed for good.  [-0, +0, e] */
void spool_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
