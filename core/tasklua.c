#include "tasklua.h"

#include <lauxlib.h>

struct tasks *
tasklua_check(lua_State *L)
{
    struct tasks *ts = lua_touserdata(L, lua_upvalueindex(1));

    if (!ts->loop)
        luaL_error(L, "popd is closed: the Lua state ends");
    return ts;
}

void
tasklua_add(lua_State *L, struct tasks *tasks, const luaL_Reg *functions)
{
    lua_pushlightuserdata(L, tasks);
    luaL_setfuncs(L, functions, 1);
}

/* adopt(co): the coroutine runs inside the callback and has its guards. */
static int
l_adopt(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);

    if (co)
        guard_adopt(&tasklua_check(L)->guards, co);
    return 0;
}

/* expose(): the script asks for its coroutine. */
static int
l_expose(lua_State *L)
{
    task_expose(tasklua_check(L));
    return 0;
}

/* unwait(): a resumer that cannot carry a wait on takes it back. */
static int
l_unwait(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);

    if (ts->running)
        task_unwait(ts->running);
    return 0;
}

/* party() -> whose code runs: the same number for all of one connection; 0: a main chunk */
static int
l_party(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)task_party(tasklua_check(L)));
    return 1;
}

/* How much is alive: for specs that count what is left behind. */
static int
l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)tasklua_check(L)->count);
    return 1;
}

void
tasklua_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {
        {"adopt", l_adopt},
        {"expose", l_expose},
        {"unwait", l_unwait},
        {"party", l_party},
        {"count", l_count},
        {"guard", guard_call},
        {"memory_limit", guard_limit},
        {"hooked", guard_hooked},
        {"struck", guard_struck},
        {NULL, NULL},
    };

    tasklua_add(L, tasks, functions);
    lua_pushlightuserdata(L, task_token());
    lua_setfield(L, -2, "token");
}
