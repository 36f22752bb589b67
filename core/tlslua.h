/*
 * tlslua - a tlssite as Lua has it, and what Lua may know of a TLS connection.
 */
#ifndef POPD_TLSLUA_H
#define POPD_TLSLUA_H

#include <lua.h>

struct tls;
struct tlssite;

/* Adds to the table on top of the stack: tls_library, a string; tls_site() -> site,
 * with site:load(spec) -> true, or nil and the reason.  [-0, +0, e] */
void tlslua_open(lua_State *L);

/* The site at an index; raises if there is none.  Borrowed. */
struct tlssite *tlslua_check(lua_State *L, int index);

/* Pushes { version, cipher, sni, client } of a finished handshake; or false,
 * also for NULL.  [-0, +1, e] */
void tlslua_push(lua_State *L, const struct tls *t);

#endif
