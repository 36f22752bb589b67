/*
 * server - listeners, the set of connections, limits.
 *
 * What popd.server (Lua) is built on: one userdata a server.  Options, names
 * and states are Lua's; here are the sockets and the lists.
 */
#ifndef POPD_SERVER_H
#define POPD_SERVER_H

#include "loop.h"
#include "task.h"
#include <lua.h>

/* What all servers of a Lua state share; owned by the module. */
struct server_common {
    struct loop *loop;   /* borrowed */
    struct tasks *tasks; /* borrowed */
    struct pool *files;  /* borrowed */
    struct dirs *dirs;   /* borrowed */
    lua_Integer last_id; /* of a connection: never used twice */
    int spare;           /* a descriptor to give up when there are no more; -1: none */
};

/* Adds to the table on top of the stack:
 *   listen_tcp(port, address or nil), listen_unix(path), listen_fd(n)
 *     -> listener, or nil and the reason; it has .port and :close(), and
 *     :proxy{ networks } makes it expect a PROXY header from those;
 *   server_new(steps) -> server, with set{…}, add(listener), conn_list(),
 *     conn_state(id), conn_close(id [, text]), close_all(), count(), and for
 *     popd.mock mock(end) -> conn, begin(id).
 * [-0, +0, e] */
void server_open(lua_State *L, struct server_common *common);

#endif
