/*
 * maillist - Maildirs for Lua: the messages of one as a userdata, read, counted
 * and followed in threads.
 *
 * Lua decides what is a message, whose a name is, and what is refused; see
 * lua/popd/maildir.lua, which alone uses this.
 */
#ifndef POPD_MAILLIST_H
#define POPD_MAILLIST_H

#include "mailnames.h"
#include "pool.h"
#include "task.h"

/* Adds the table `mail` to the one on top of the stack.  Numbers count from 1; a
 * file is "new/name" or "cur/name".  [-0, +0, e]
 *
 *   scan(dir, { mtime, hide_trashed, since, names_only, patience }) -> list; waits
 *   count(list)                how many messages there are, also #list; nil: that is no list
 *   file(list, n), base(list, n), uid(list, n)
 *   size(list, n)              octets as sent, and as stored; nil: not known
 *   sizes(list), uids(list)    arrays; an unknown size is false
 *   total(list)                the sum as sent; nil: not known
 *   same(list)                 arrays of numbers that share their base; nil: none do
 *   remove(list, numbers)      ascending; the others move up
 *   keep_last(list, n)
 *   arrange(list, numbers)     message i is from then on what numbers[i] was
 *   set_uid(list, n, uid)
 *   measure(list, now or nil, dir, n) -> sent, stored; counts some that follow, too; waits
 *   follow(list, now) -> missing, several   numbers; from then on `now` tells
 *                              files by the list's numbers; waits
 *   files_of(now, base)        array of files
 *   forget(list, n)            what the index says of it is wrong
 *   lessons(list)              how much the index does not know, octets that it cost, entries in
 *                              vain, whether it is wrong
 *   remember(list, dir)        tells the index, some time
 *   sweep(dir, seconds)        removes files that nobody has used for so long, some time
 *   close(list)                gives its memory back; what is lent stays
 */
void maillist_open(lua_State *L, struct tasks *tasks, struct pool *pool);

/* The list at an index, or NULL.  Lent, its names stay as they are. */
struct mailnames *maillist_lend(lua_State *L, int index);

#endif
