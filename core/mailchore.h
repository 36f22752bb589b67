/*
 * mailchore - what is done to a Maildir in threads while nobody waits.
 */
#ifndef POPD_MAILCHORE_H
#define POPD_MAILCHORE_H

#include "pool.h"
#include "task.h"

/* Adds to the table `mail` on top of the stack (see maillist.h).  [-0, +0, e]
 *
 *   remember(list, dir)        tells the index what the list has learned, some time
 *   sweep(dir, seconds)        removes files that nobody has used for so long, some time
 */
void mailchore_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
