#include "fault.h"

#include "log.h"

#include <lauxlib.h>

static const char reporter_key;

void
fault_tell(lua_State *L, const char *text, const char *callback)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &reporter_key) != LUA_TFUNCTION) {
        log_event(LOG_ERROR, text, "callback", callback, NULL); /* popd.core alone */
        lua_pop(L, 2);
        return;
    }
    lua_pushstring(L, text);
    lua_pushstring(L, callback);
    lua_pushvalue(L, 1);
    lua_rotate(L, -5, -1); /* the view goes last */
    lua_call(L, 4, 0);
}

/* on_fault(f) */
static int
l_on_fault(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &reporter_key);
    return 0;
}

void
fault_open(lua_State *L)
{
    lua_pushcfunction(L, l_on_fault);
    lua_setfield(L, -2, "on_fault");
}
