#include "testing.h"

#include "../mailname.h"

/* mailname_has_flag(name, flag) */
static int
l_mailname_has_flag(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);

    lua_pushboolean(L, mailname_has_flag(name, len, luaL_checkstring(L, 2)[0]));
    return 1;
}

/* mailsize(stored, sent) -> the same out of one number, or nil */
static int
l_mailsize(lua_State *L)
{
    uint64_t size = mailsize_pack((uint64_t)luaL_checkinteger(L, 1), (uint64_t)luaL_checkinteger(L, 2));

    if (size == MAILSIZE_UNKNOWN)
        return 0;
    lua_pushinteger(L, (lua_Integer)mailsize_stored(size));
    lua_pushinteger(L, (lua_Integer)mailsize_sent(size));
    return 2;
}

static const luaL_Reg functions[] = {
    {"mailname_has_flag", l_mailname_has_flag},
    {"mailsize", l_mailsize},
    {NULL, NULL},
};

void
testing_mailname(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
