/*
 * mailread - a Maildir's list for Lua, read in threads: at first, and again once
 * files have moved.
 */
#ifndef POPD_MAILREAD_H
#define POPD_MAILREAD_H

#include "pool.h"
#include "task.h"

/* Adds to the table `mail` on top of the stack (see maillist.h).  [-0, +0, e]
 *
 *   scan(dir, { mtime, hide_trashed, since, names_only, patience }) -> list; waits
 *   keep(list) -> octets       that it takes; nil: another session must not have it, since it was
 *                              changed, lacks a size, or could be old without anybody seeing it
 *   is_current(list, dir)      nothing came, went or was renamed there since it was read
 *   identity(dir) -> device, inode   which tell the directory from others; or nil, the reason and
 *                              its code
 *   follow(list, now) -> missing, several   numbers; from then on `now` tells
 *                              files by the list's numbers; waits
 */
void mailread_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
