#include "spares.h"

lua_State *
spares_take(struct spares *s, lua_State *L)
{
    lua_State *co;

    if (s->count > 0)
        return s->all[--s->count];
    co = lua_newthread(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, co);
    return co;
}

void
spares_close(lua_State *co, lua_State *from)
{
#if LUA_VERSION_RELEASE_NUM >= 50406
    lua_closethread(co, from);
#else
    (void)from;
    lua_resetthread(co);
#endif
    lua_settop(co, 0);
}

void
spares_give(struct spares *s, lua_State *L, lua_State *co, bool again)
{
    lua_sethook(co, NULL, 0, 0);
    lua_settop(co, 0);
    if (again && s->count < sizeof s->all / sizeof s->all[0]) {
        s->all[s->count++] = co;
        return;
    }
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, co);
}
