#include "testing.h"

#include "../texts.h"

/* texts_fill(room, text, values…) -> what was written */
static int
l_texts_fill(lua_State *L)
{
    char out[256];
    size_t room = (size_t)luaL_checkinteger(L, 1), n = 0;
    struct slice text, values[9];

    luaL_argcheck(L, room <= sizeof out, 1, "at most 256");
    text.at = luaL_checklstring(L, 2, &text.len);
    for (int i = 3; i <= lua_gettop(L) && n < 9; i++, n++)
        values[n].at = luaL_checklstring(L, i, &values[n].len);
    lua_pushlstring(L, out, texts_fill(out, room, text, values, n));
    return 1;
}

static int
l_texts_utf8(lua_State *L)
{
    size_t n;
    const char *octets = luaL_checklstring(L, 1, &n);

    lua_pushboolean(L, texts_utf8(octets, n));
    return 1;
}

/* language_find(range, tags…) -> the tag that is found, or nil */
static int
l_language_find(lua_State *L)
{
    struct language all[16] = {{0}};
    const struct language *l;
    struct slice range;
    size_t n = 0;

    range.at = luaL_checklstring(L, 1, &range.len);
    for (int i = 2; i <= lua_gettop(L) && n < 16; i++)
        all[n++].tag = luaL_checkstring(L, i);
    l = language_find(all, n, range);
    lua_pushstring(L, l ? l->tag : NULL);
    return 1;
}

static const luaL_Reg functions[] = {
    {"texts_fill", l_texts_fill},
    {"texts_utf8", l_texts_utf8},
    {"language_find", l_language_find},
    {NULL, NULL},
};

void
testing_texts(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
