#include "testing.h"

#include "../proxyproto.h"

/* proxyproto(bytes) -> "more" | "bad" | "done", used, table */
static int
l_proxyproto(lua_State *L)
{
    static const char *const names[] = {"more", "done", "bad"};
    size_t n, used;
    const char *bytes = luaL_checklstring(L, 1, &n);
    struct proxyproto p;
    enum proxyproto_status status = proxyproto_parse(&p, bytes, n, &used);

    lua_pushstring(L, names[status]);
    if (status != PROXYPROTO_DONE)
        return 1;
    lua_pushinteger(L, (lua_Integer)used);
    lua_newtable(L);
    testing_set_boolean(L, "local", p.local);
    testing_set_boolean(L, "v6", p.v6);
    testing_set_number(L, "port", p.port);
    lua_pushlstring(L, (const char *)p.address, p.v6 ? 16 : 4);
    lua_setfield(L, -2, "address");
    return 3;
}

static const luaL_Reg functions[] = {
    {"proxyproto", l_proxyproto},
    {NULL, NULL},
};

void
testing_proxyproto(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
