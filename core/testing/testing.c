#include "testing.h"

#include "../class.h"

__attribute__((visibility("default"))) int luaopen_popd_testing(lua_State *L);

int
testing_push_buf(lua_State *L, struct buf *b)
{
    if (b->failed)
        lua_pushnil(L);
    else
        lua_pushlstring(L, b->data ? b->data : "", b->len);
    buf_clear(b);
    return 1;
}

int
testing_push_octets(lua_State *L, uint64_t octets)
{
    if (octets == MAILDROP_UNKNOWN)
        lua_pushnil(L);
    else
        lua_pushinteger(L, (lua_Integer)octets);
    return 1;
}

uint64_t
testing_opt_octets(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) ? MAILDROP_UNKNOWN : (uint64_t)luaL_checkinteger(L, arg);
}

bool
testing_opt_boolean(lua_State *L, int arg, bool otherwise)
{
    return lua_isnoneornil(L, arg) ? otherwise : lua_toboolean(L, arg);
}

void
testing_set_slice(lua_State *L, const char *field, struct slice s)
{
    if (!s.at)
        return;
    lua_pushlstring(L, s.at, s.len);
    lua_setfield(L, -2, field);
}

void
testing_set_number(lua_State *L, const char *field, uint64_t number)
{
    lua_pushinteger(L, (lua_Integer)number);
    lua_setfield(L, -2, field);
}

void
testing_set_boolean(lua_State *L, const char *field, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, field);
}

const char *
testing_verb(enum verb verb)
{
    const char *name = verb_name(verb);

    return name ? name : "OTHER";
}

void
testing_class(lua_State *L, const char *field, const char *name, const luaL_Reg *methods,
              lua_CFunction create, lua_CFunction gc)
{
    class_new(L, name, methods, gc);
    lua_newtable(L);
    lua_pushcfunction(L, create);
    lua_setfield(L, -2, "new");
    lua_setfield(L, -2, field);
}

static void (*const parts[])(lua_State *) = {
    testing_base64,    testing_buf,      testing_command,   testing_copy,
    testing_digest,    testing_dotstuff, testing_linebuf,   testing_maildrop,
    testing_mailindex, testing_mailname, testing_mailnames, testing_proxyproto,
    testing_reply,     testing_session,  testing_slab,      testing_texts,
};

int
luaopen_popd_testing(lua_State *L)
{
    lua_newtable(L);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        parts[i](L);
    return 1;
}
