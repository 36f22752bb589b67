#include "tlslua.h"

#include "tls.h"
#include "tlssite.h"

#include <lauxlib.h>
#include <string.h>

#define SITE "popd.tlssite"

struct tlssite *
tlslua_check(lua_State *L, int index)
{
    return *(struct tlssite **)luaL_checkudata(L, index, SITE);
}

/* tls_site() -> site: nothing is loaded yet */
static int
l_new(lua_State *L)
{
    struct tlssite **site = lua_newuserdatauv(L, sizeof *site, 0);

    *site = NULL;
    luaL_setmetatable(L, SITE);
    *site = tlssite_new();
    return *site ? 1 : luaL_error(L, "out of memory");
}

static int
l_gc(lua_State *L)
{
    struct tlssite **site = luaL_checkudata(L, 1, SITE);

    tlssite_drop(*site);
    *site = NULL;
    return 0;
}

/* A text of the table at index 2, which keeps it alive; NULL: there is none. */
static const char *
text_field(lua_State *L, int index, const char *name)
{
    const char *text = lua_getfield(L, index, name) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;

    lua_pop(L, 1);
    return text;
}

/* spec.pairs: an array of { cert =, key = [, host =] }, the default first. */
static void
take_pairs(lua_State *L, struct tlssite_spec *spec)
{
    luaL_argcheck(L, lua_getfield(L, 2, "pairs") == LUA_TTABLE, 2, "pairs expected");
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
        size_t at = spec->pair_count++;

        luaL_argcheck(L, at < TLSSITE_PAIRS, 2, "too many certificates");
        spec->pairs[at].host = text_field(L, -1, "host");
        spec->pairs[at].cert = text_field(L, -1, "cert");
        spec->pairs[at].key = text_field(L, -1, "key");
        luaL_argcheck(L, spec->pairs[at].cert && spec->pairs[at].key, 2, "cert and key expected");
        luaL_argcheck(L, (at == 0) == !spec->pairs[at].host, 2, "the default pair comes first");
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    luaL_argcheck(L, spec->pair_count > 0, 2, "a pair expected");
}

/* site:load{ pairs = [, client_ca =] [, ticket_keys =] [, suites =] [, tls13_only =] } */
static int
l_load(lua_State *L)
{
    struct tlssite *site = tlslua_check(L, 1);
    struct tlssite_spec spec = {.pair_count = 0};
    char why[TLSKIT_WHY] = "";

    luaL_checktype(L, 2, LUA_TTABLE);
    take_pairs(L, &spec);
    spec.client_ca = text_field(L, 2, "client_ca");
    spec.ticket_keys = text_field(L, 2, "ticket_keys");
    spec.suites = text_field(L, 2, "suites");
    lua_getfield(L, 2, "tls13_only");
    spec.tls13_only = lua_toboolean(L, -1);
    if (tlssite_load(site, &spec, why)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* Adds a value to the table at the top: to a list where there may be many. */
static void
tell(void *owner, const char *key, const char *value, size_t len)
{
    lua_State *L = owner;

    if (strcmp(key, "email") != 0 && strcmp(key, "dns") != 0) {
        lua_pushlstring(L, value, len);
        lua_setfield(L, -2, key);
        return;
    }
    luaL_getsubtable(L, -1, key);
    lua_pushlstring(L, value, len);
    lua_rawseti(L, -2, luaL_len(L, -2) + 1);
    lua_pop(L, 1);
}

static void
push_client(lua_State *L, const struct tls *t)
{
    if (!tls_has_client(t)) {
        lua_pushboolean(L, 0);
        return;
    }
    lua_newtable(L);
    luaL_getsubtable(L, -1, "email");
    luaL_getsubtable(L, -2, "dns");
    lua_pop(L, 2);
    tls_client(t, tell, L);
}

void
tlslua_push(lua_State *L, const struct tls *t)
{
    if (!t || !tls_is_done(t)) {
        lua_pushboolean(L, 0);
        return;
    }
    lua_newtable(L);
    lua_pushstring(L, tls_version(t));
    lua_setfield(L, -2, "version");
    lua_pushstring(L, tls_suite(t));
    lua_setfield(L, -2, "cipher");
    lua_pushstring(L, tls_sni(t));
    lua_setfield(L, -2, "sni");
    push_client(L, t);
    lua_setfield(L, -2, "client");
}

void
tlslua_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"load", l_load}, {NULL, NULL}};

    lua_pushcfunction(L, l_new);
    lua_setfield(L, -2, "tls_site");
    lua_pushstring(L, tls_library());
    lua_setfield(L, -2, "tls_library");
    luaL_newmetatable(L, SITE);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
