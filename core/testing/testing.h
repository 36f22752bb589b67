/*
 * testing - popd.testing: the pure parts for specs; test builds only.
 *
 * Every function is as thin as it can be: it takes Lua values, calls the pure
 * part, and gives back all that it said.  A part's functions are in the file
 * that has its name; what popd.core has of a part is not here.
 */
#ifndef POPD_TESTING_H
#define POPD_TESTING_H

#include "../buf.h"
#include "../command.h"
#include "../maildrop.h"

#include <lauxlib.h>
#include <lua.h>

/* Each adds its part to popd.testing, which is on top of the stack.  [-0, +0, e] */
void testing_base64(lua_State *L);
void testing_buf(lua_State *L);
void testing_command(lua_State *L);
void testing_copy(lua_State *L);
void testing_digest(lua_State *L);
void testing_dotstuff(lua_State *L);
void testing_linebuf(lua_State *L);
void testing_maildrop(lua_State *L);
void testing_mailindex(lua_State *L);
void testing_mailname(lua_State *L);
void testing_mailnames(lua_State *L);
void testing_proxyproto(lua_State *L);
void testing_reply(lua_State *L);
void testing_session(lua_State *L);
void testing_slab(lua_State *L);
void testing_texts(lua_State *L);

/* Adds a class to the table on top of the stack: testing.field.new makes one of
 * that name.  [-0, +0, e] */
void testing_class(lua_State *L, const char *field, const char *name, const luaL_Reg *methods,
                   lua_CFunction create, lua_CFunction gc);

/* Pushes an empty buf, which Lua owns.  [-0, +1, e] */
struct buf *testing_new_buf(lua_State *L);

/* Pushes a maildrop that is somebody else's, who is to be its user value.  [-0, +1, e] */
void testing_lend_maildrop(lua_State *L, struct maildrop *m);

/* The list of an array of files, and an array of their times (not a table: as
 * the names say); inodes are the numbers in the array.  The caller drops it. */
struct mailnames *testing_list_files(lua_State *L, int files, int times);

/* Pushes an array of { file, uid, same, sent, stored }, in order.  [-0, +1, e] */
void testing_push_names(lua_State *L, const struct mailnames *m);

/* Pushes what is in b, and empties it.  [-0, +1, m] */
int testing_push_buf(lua_State *L, struct buf *b);

/* A number, or nil for MAILDROP_UNKNOWN.  [-0, +1, -] */
int testing_push_octets(lua_State *L, uint64_t octets);
uint64_t testing_opt_octets(lua_State *L, int arg);

bool testing_opt_boolean(lua_State *L, int arg, bool otherwise);

/* Sets a field of the table on top of the stack; a slice of NULL sets none.  [-0, +0, m] */
void testing_set_slice(lua_State *L, const char *field, struct slice s);
void testing_set_number(lua_State *L, const char *field, uint64_t number);
void testing_set_boolean(lua_State *L, const char *field, bool value);

/* A verb as specs call it. */
const char *testing_verb(enum verb verb);

#endif
