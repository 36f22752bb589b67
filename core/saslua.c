#include "saslua.h"

#include "digest.h"
#include "prep.h"
#include "sasl.h"

#include <lauxlib.h>

static int
push_refusal(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* prep(text) -> what SASLprep makes of it, or nil and the end of a sentence */
static int
l_prep(lua_State *L)
{
    size_t n, len;
    const char *text = luaL_checklstring(L, 1, &n);
    char out[PREP_MAX];
    enum prep_status status = prep_saslprep(text, n, out, &len);

    if (status == PREP_OK)
        lua_pushlstring(L, out, len);
    digest_wipe(out, sizeof out);
    return status == PREP_OK ? 1 : push_refusal(L, prep_reason(status));
}

/* Sets a field of the table on top, unless it is empty. */
static void
set_slice(lua_State *L, const char *field, struct slice s)
{
    if (s.len == 0)
        return;
    lua_pushlstring(L, s.at, s.len);
    lua_setfield(L, -2, field);
}

static void
set_name(lua_State *L, const char *field, struct slice name)
{
    char out[SASL_NAME_MAX];

    if (name.len)
        set_slice(L, field, (struct slice){out, sasl_unescape(name, out)});
}

/* The kinds with a GS2 header escape their names, the others do not. */
static void
push_fields(lua_State *L, const struct sasl *s)
{
    void (*name)(lua_State *, const char *, struct slice) = s->gs2.len ? set_name : set_slice;

    lua_newtable(L);
    name(L, "authzid", s->authzid);
    name(L, "name", s->name);
    set_slice(L, "secret", s->secret);
    set_slice(L, "digest", s->digest);
    set_slice(L, "gs2", s->gs2);
    set_slice(L, "flag", s->flag);
    set_slice(L, "binding", s->binding);
    set_slice(L, "nonce", s->nonce);
    set_slice(L, "channel", s->channel);
    set_slice(L, "proof", s->proof);
    set_slice(L, "bare", s->bare);
}

/* sasl(kind, bytes) -> its fields, without those that are empty; or nil and
 * what is wrong */
static int
l_sasl(lua_State *L)
{
    size_t n;
    const char *name = luaL_checkstring(L, 1), *bytes = luaL_checklstring(L, 2, &n), *why;
    enum sasl_kind kind = SASL_PLAIN;
    struct sasl s;

    if (!sasl_find(name, &kind))
        return luaL_error(L, "unknown message '%s'", name);
    if (!sasl_parse(kind, bytes, n, &s, &why))
        return push_refusal(L, why);
    push_fields(L, &s);
    return 1;
}

void
saslua_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"sasl", l_sasl}, {"prep", l_prep}, {NULL, NULL}};

    luaL_setfuncs(L, functions, 0);
}
