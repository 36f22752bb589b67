#include "testing.h"

#include "../base64.h"

#include <string.h>

/* unbase64(text) -> octets, or nil; decoded where the text stands */
static int
l_unbase64(lua_State *L)
{
    size_t n, len;
    const char *text = luaL_checklstring(L, 1, &n);
    char *copy = lua_newuserdatauv(L, n + 1, 0);

    memcpy(copy, text, n);
    if (base64_decode(copy, n, copy, &len))
        lua_pushlstring(L, copy, len);
    else
        lua_pushnil(L);
    return 1;
}

static const luaL_Reg functions[] = {
    {"unbase64", l_unbase64},
    {NULL, NULL},
};

void
testing_base64(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
