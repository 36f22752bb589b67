/*
 * copy - Lua values as octets: the way from one Lua state to another.
 *
 * Taken are nil, booleans, numbers (integers stay integers), strings, and
 * tables of these, nested.  Of a table its own fields are copied, without
 * metamethods; its metatable stays behind.  A userdata whose metatable has
 * COPY_FIELD, a function that makes a table of it, is copied as that table.
 *
 * The octets are for this process alone; what reads them trusts them.
 */
#ifndef POPD_COPY_H
#define POPD_COPY_H

#include "buf.h"

#include <lua.h>

#define COPY_DEPTH 100               /* tables in tables */
#define COPY_MAX ((size_t)256 << 20) /* octets of one buffer */
#define COPY_FIELD "__popd_copy"

/* Appends the values from index `first` to the top.  What cannot be copied
 * raises, with its place: "argument 2.x.y: a function cannot be passed to a
 * thread".  `what` is the word before the number, which counts from 1; `where`
 * says to or from whom.  The buffer may hold a part then.  [-0, +0, e] */
void copy_write(lua_State *L, int first, const char *what, const char *where, struct buf *b);

/* Appends a string, without Lua. */
void copy_text(struct buf *b, const char *text);

/* Pushes all values of a buffer; returns how many.  [-0, +n, e] */
int copy_read(lua_State *L, const struct buf *b);

/* Whether the first value is true. */
bool copy_is_true(const struct buf *b);

/* Wipes and frees what may have held a secret. */
void copy_discard(struct buf *b);

#endif
