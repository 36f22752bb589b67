/*
 * sock - client sockets for Lua: what popd.socket is built on.
 *
 * A socket's functions never wait: `false` says that nothing can be done now,
 * and the caller (popd.socket) waits for the descriptor and calls again.  nil
 * comes with the reason: LuaSocket's words where it has some ("closed",
 * "timeout", "connection refused").
 */
#ifndef POPD_SOCK_H
#define POPD_SOCK_H

#include <lua.h>

/* Adds to the table on top of the stack: sock, tls_client.  [-0, +0, e] */
void sock_open(lua_State *L);

#endif
