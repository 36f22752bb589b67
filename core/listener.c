#include "listener.h"

#include "tlslua.h"
#include "tlssite.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTENER "popd.listener"

static struct listener *
new_listener(lua_State *L)
{
    struct listener *l = lua_newuserdatauv(L, sizeof *l, 0);

    *l = (struct listener){.fd = -1, .loop = lua_touserdata(L, lua_upvalueindex(1))};
    luaL_setmetatable(L, LISTENER);
    return l;
}

/* The listener at the top, or nil and why it does not listen on `what`. */
static int
opened(lua_State *L, const struct listener *l, const char *what, const char *why)
{
    if (l->fd >= 0)
        return 1;
    lua_pushnil(L);
    lua_pushfstring(L, "cannot listen on %s: %s", what, why);
    return 2;
}

/* listen_tcp(port [, address]) */
static int
l_tcp(lua_State *L)
{
    lua_Integer port = luaL_checkinteger(L, 1);
    const char *address = luaL_optstring(L, 2, NULL), *why = NULL, *what;
    struct listener *l;

    luaL_argcheck(L, port >= 0 && port <= 65535, 1, "a port from 0 to 65535 expected");
    what = lua_pushfstring(L, "%s, port %d", address ? address : "all addresses", (int)port);
    l = new_listener(L);
    l->fd = net_listen(address, (unsigned)port, &why);
    return opened(L, l, what, why);
}

/* listen_unix(path) */
static int
l_unix(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *why = NULL;
    struct listener *l = new_listener(L);
    struct stat st;

    l->fd = net_listen_unix(path, &why);
    if (l->fd >= 0) {
        l->path = strdup(path);
        if (lstat(path, &st) == 0)
            l->inode = st.st_ino;
    }
    return opened(L, l, path, why);
}

/* listen_fd(number): a socket that the parent process listens on. */
static int
l_fd(lua_State *L)
{
    lua_Integer fd = luaL_checkinteger(L, 1);
    const char *what = lua_pushfstring(L, "descriptor %I", (LUAI_UACINT)fd), *why = "not a descriptor";
    struct listener *l = new_listener(L);

    if (fd >= 0 && fd < 0x7fffffff && net_adopt((int)fd, &why))
        l->fd = (int)fd;
    return opened(L, l, what, why);
}

struct listener *
listener_check(lua_State *L, int index)
{
    struct listener *l = luaL_checkudata(L, index, LISTENER);

    luaL_argcheck(L, l->fd >= 0, index, "the listener is closed");
    return l;
}

static void
on_ready(struct ev_loop *ev, ev_io *io, int events)
{
    struct listener *l = io->data;

    (void)ev, (void)events;
    l->ready(l->owner, l);
}

void
listener_start(lua_State *L, int index, void (*ready)(void *, struct listener *), void *owner)
{
    struct listener *l = listener_check(L, index);

    luaL_argcheck(L, !l->ready, index, "the listener serves already");
    luaL_argcheck(L, l->loop->ev, index, "popd is closed: the Lua state ends");
    lua_pushvalue(L, index);
    lua_rawsetp(L, LUA_REGISTRYINDEX, l);
    l->ready = ready;
    l->owner = owner;
    ev_io_init(&l->io, on_ready, l->fd, EV_READ);
    l->io.data = l;
    ev_io_start(l->loop->ev, &l->io);
    loop_touch(l->loop);
}

/* Another server may have put its own socket there meanwhile. */
static bool
is_ours(const struct listener *l)
{
    struct stat st;

    return lstat(l->path, &st) == 0 && st.st_ino == l->inode;
}

void
listener_close(struct listener *l)
{
    if (l->fd < 0)
        return;
    if (l->ready)
        ev_io_stop(l->loop->ev, &l->io);
    if (l->link) {
        *l->link = l->next;
        if (l->next)
            l->next->link = l->link;
        l->link = NULL;
    }
    close(l->fd);
    l->fd = -1;
    if (l->path && is_ours(l))
        unlink(l->path);
    free(l->path);
    free(l->networks);
    tlssite_drop(l->site);
    l->site = NULL;
    l->path = NULL;
    l->networks = NULL;
    l->networks_count = 0;
}

bool
listener_trusts(const struct listener *l, const struct net_address *peer)
{
    for (size_t i = 0; i < l->networks_count; i++)
        if (net_network_has(&l->networks[i], peer))
            return true;
    return peer->local; /* who may connect to a Unix socket is the file's mode */
}

/* listener:close() */
static int
l_close(lua_State *L)
{
    struct listener *l = luaL_checkudata(L, 1, LISTENER);

    listener_close(l);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, l);
    return 0;
}

static int
l_gc(lua_State *L)
{
    listener_close(luaL_checkudata(L, 1, LISTENER));
    return 0;
}

/* listener:proxy({ "10.0.0.0/8", … }) -> listener, or nil and the reason */
static int
l_proxy(lua_State *L)
{
    struct listener *l = listener_check(L, 1);
    size_t n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = (size_t)lua_rawlen(L, 2);
    free(l->networks);
    l->networks_count = 0;
    l->networks = calloc(n ? n : 1, sizeof *l->networks);
    if (!l->networks)
        return luaL_error(L, "out of memory");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING || !net_network_parse(&l->networks[i], lua_tostring(L, -1))) {
            lua_pushnil(L);
            lua_pushfstring(L, "proxy: '%s' is not a network; write \"10.0.0.0/8\" or \"::1\"",
                            lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2));
            return 2;
        }
        lua_pop(L, 1);
    }
    l->networks_count = n;
    l->proxied = true;
    lua_settop(L, 1);
    return 1;
}

/* listener:tls(site, implicit) -> listener: clients may have TLS, or must begin
 * with it; without a site there is none. */
static int
l_tls(lua_State *L)
{
    struct listener *l = listener_check(L, 1);
    struct tlssite *site = lua_isnoneornil(L, 2) ? NULL : tlslua_check(L, 2);

    if (site)
        tlssite_hold(site);
    tlssite_drop(l->site);
    l->site = site;
    l->implicit = site && lua_toboolean(L, 3);
    lua_settop(L, 1);
    return 1;
}

/* is_network(text), is_listener(value) -> boolean; a closed one is none */
static int
l_is_network(lua_State *L)
{
    struct net_network network;

    lua_pushboolean(L, net_network_parse(&network, luaL_checkstring(L, 1)));
    return 1;
}

static int
l_is_listener(lua_State *L)
{
    const struct listener *l = luaL_testudata(L, 1, LISTENER);

    lua_pushboolean(L, l && l->fd >= 0);
    return 1;
}

static int
l_index(lua_State *L)
{
    struct listener *l = luaL_checkudata(L, 1, LISTENER);
    const char *name = luaL_checkstring(L, 2);

    if (strcmp(name, "port") == 0) {
        lua_pushinteger(L, l->fd >= 0 ? (lua_Integer)net_port(l->fd) : 0);
        return 1;
    }
    if (strcmp(name, "secured") == 0) {
        lua_pushboolean(L, l->site != NULL);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

void
listener_open(lua_State *L, struct loop *loop)
{
    static const luaL_Reg functions[] = {{"is_network", l_is_network}, {"is_listener", l_is_listener},
                                         {"listen_tcp", l_tcp},        {"listen_unix", l_unix},
                                         {"listen_fd", l_fd},          {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", l_close}, {"proxy", l_proxy}, {"tls", l_tls}, {NULL, NULL}};

    lua_pushlightuserdata(L, loop);
    luaL_setfuncs(L, functions, 1);
    luaL_newmetatable(L, LISTENER);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
