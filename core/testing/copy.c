#include "testing.h"

#include "../copy.h"

/* copy(…) -> the values as another Lua state would get them */
static int
l_copy(lua_State *L)
{
    int n = lua_gettop(L);
    struct buf *b = testing_new_buf(L);

    lua_insert(L, 1);
    copy_write(L, 2, "argument", "to a thread", b);
    lua_settop(L, 1);
    luaL_checkstack(L, n, "too many values");
    return copy_read(L, b);
}

static const luaL_Reg functions[] = {
    {"copy", l_copy},
    {NULL, NULL},
};

void
testing_copy(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
