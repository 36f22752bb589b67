#include "pair.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#define END "popd.pair"
#define READ_ROOM 65536

struct end {
    int fd; /* ours; -1: closed */
};

static struct end *
new_end(lua_State *L)
{
    struct end *e = lua_newuserdatauv(L, sizeof *e, 0);

    e->fd = -1;
    luaL_setmetatable(L, END);
    return e;
}

static struct end *
check_end(lua_State *L, int index)
{
    struct end *e = luaL_checkudata(L, index, END);

    luaL_argcheck(L, e->fd >= 0, index, "this end is closed");
    return e;
}

static int
l_pair(lua_State *L)
{
    struct end *one = new_end(L), *other = new_end(L);
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return luaL_fileresult(L, 0, NULL);
    one->fd = fds[0];
    other->fd = fds[1];
    return 2;
}

static bool
is_later(int err)
{
    return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

static int
l_read(lua_State *L)
{
    struct end *e = check_end(L, 1);
    luaL_Buffer buffer;
    char *room = luaL_buffinitsize(L, &buffer, READ_ROOM);
    ssize_t n = recv(e->fd, room, READ_ROOM, 0);

    if (n == 0 || (n < 0 && !is_later(errno)))
        return 0;
    luaL_pushresultsize(&buffer, n > 0 ? (size_t)n : 0);
    return 1;
}

static int
l_write(lua_State *L)
{
    struct end *e = check_end(L, 1);
    size_t len;
    const char *octets = luaL_checklstring(L, 2, &len);
    ssize_t n = send(e->fd, octets, len, MSG_NOSIGNAL);

    if (n < 0 && !is_later(errno))
        return luaL_fileresult(L, 0, NULL);
    lua_pushinteger(L, n > 0 ? n : 0);
    return 1;
}

static int
l_getfd(lua_State *L)
{
    lua_pushinteger(L, check_end(L, 1)->fd);
    return 1;
}

static int
l_close(lua_State *L)
{
    struct end *e = luaL_checkudata(L, 1, END);

    if (e->fd >= 0)
        close(e->fd);
    e->fd = -1;
    return 0;
}

int
pair_take(lua_State *L, int index)
{
    struct end *e = check_end(L, index);
    int fd = e->fd;

    e->fd = -1;
    return fd;
}

void
pair_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"read", l_read}, {"write", l_write}, {"getfd", l_getfd}, {"close", l_close}, {NULL, NULL}};

    lua_pushcfunction(L, l_pair);
    lua_setfield(L, -2, "pair");
    luaL_newmetatable(L, END);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
