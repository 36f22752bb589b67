#include "looplua.h"

#include "await.h"
#include "tasklua.h"

#include <lauxlib.h>
#include <time.h>

static void
check_outside(lua_State *L, struct tasks *ts, const char *what)
{
    if (ts->running || ts->loop->running)
        luaL_error(L,
                   "popd.%s: the loop runs already; call it from a script's main chunk, not from a callback",
                   what);
}

static int
l_run(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);

    check_outside(L, ts, "run");
    loop_run(ts->loop);
    return 0;
}

static int
l_step(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);
    double seconds = lua_isnoneornil(L, 1) ? -1 : await_check_seconds(L, 1);

    check_outside(L, ts, "step");
    lua_pushboolean(L, loop_step(ts->loop, seconds));
    return 1;
}

static int
l_stop(lua_State *L)
{
    loop_stop(tasklua_check(L)->loop);
    return 0;
}

/* inside() -> whether the loop turns: then a task may wait, and nobody may turn it */
static int
l_inside(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);

    lua_pushboolean(L, ts->running || ts->loop->running);
    return 1;
}

static int
l_fd(lua_State *L)
{
    int fd = loop_fd(tasklua_check(L)->loop);

    if (fd < 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "popd.fd: this system's event interface has no descriptor to wait on (epoll has)");
        return 2;
    }
    lua_pushinteger(L, fd);
    return 1;
}

static int
l_now(lua_State *L)
{
    lua_pushnumber(L, loop_now());
    return 1;
}

/* date() -> seconds since 1970, with a fraction: for people, not for intervals */
static int
l_date(lua_State *L)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

void
looplua_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {
        {"run", l_run}, {"step", l_step}, {"stop", l_stop}, {"inside", l_inside},
        {"fd", l_fd},   {"now", l_now},   {"date", l_date}, {NULL, NULL},
    };

    tasklua_add(L, tasks, functions);
}
