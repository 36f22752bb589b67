/*
 * maillearn - what a session learns of a Maildir's files, for its index: sizes
 * that nobody knew, counted in threads, and what the index has wrong.
 */
#ifndef POPD_MAILLEARN_H
#define POPD_MAILLEARN_H

#include "pool.h"
#include "task.h"

/* Adds to the table `mail` on top of the stack (see maillist.h).  [-0, +0, e]
 *
 *   measure(list, now or nil, dir, n, path) -> sent, stored; counts some that follow, too; waits
 *   forget(list, n)            what the index says of it is wrong
 *   lessons(list)              how much the index does not know, octets that it cost, entries in
 *                              vain, whether it is wrong
 */
void maillearn_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
