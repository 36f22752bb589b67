#include "testing.h"

#include "../maildrop.h"

#define MAILDROP "popd.testing.maildrop"

/* Of its own, or a session's, which is its user value then. */
struct l_maildrop {
    struct maildrop *at;
    struct maildrop own;
};

static struct l_maildrop *
new_maildrop(lua_State *L)
{
    struct l_maildrop *m = lua_newuserdatauv(L, sizeof *m, 1);

    m->own = (struct maildrop){0};
    m->at = &m->own;
    luaL_setmetatable(L, MAILDROP);
    return m;
}

void
testing_lend_maildrop(lua_State *L, struct maildrop *m)
{
    new_maildrop(L)->at = m;
}

/* maildrop.new(count [, total]) -> maildrop, or nil */
static int
l_maildrop_new(lua_State *L)
{
    size_t count = (size_t)luaL_checkinteger(L, 1);
    uint64_t total = testing_opt_octets(L, 2);

    if (!maildrop_open(new_maildrop(L)->at, count, total))
        lua_pushnil(L);
    return 1;
}

static struct maildrop *
check_maildrop(lua_State *L)
{
    return ((struct l_maildrop *)luaL_checkudata(L, 1, MAILDROP))->at;
}

static int
l_maildrop_gc(lua_State *L)
{
    maildrop_clear(&((struct l_maildrop *)luaL_checkudata(L, 1, MAILDROP))->own);
    return 0;
}

/* has(number) -> boolean; -1 is the greatest number there can be */
static int
l_maildrop_has(lua_State *L)
{
    lua_pushboolean(L, maildrop_has(check_maildrop(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int
l_maildrop_set_octets(lua_State *L)
{
    size_t number = (size_t)luaL_checkinteger(L, 2);

    lua_pushboolean(L, maildrop_set_octets(check_maildrop(L), number, testing_opt_octets(L, 3)));
    return 1;
}

static int
l_maildrop_octets(lua_State *L)
{
    return testing_push_octets(L, maildrop_octets(check_maildrop(L), (size_t)luaL_checkinteger(L, 2)));
}

static int
l_maildrop_set_uid(lua_State *L)
{
    size_t len, number = (size_t)luaL_checkinteger(L, 2);
    const char *uid = luaL_checklstring(L, 3, &len);

    lua_pushboolean(L, maildrop_set_uid(check_maildrop(L), number, uid, len));
    return 1;
}

static int
l_maildrop_uid(lua_State *L)
{
    size_t len = 0;
    const char *uid = maildrop_uid(check_maildrop(L), (size_t)luaL_checkinteger(L, 2), &len);

    if (uid)
        lua_pushlstring(L, uid, len);
    else
        lua_pushnil(L);
    return 1;
}

static int
l_maildrop_mark(lua_State *L)
{
    lua_pushboolean(L, maildrop_mark(check_maildrop(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int
l_maildrop_unmark(lua_State *L)
{
    lua_pushboolean(L, maildrop_unmark(check_maildrop(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int
l_maildrop_reset(lua_State *L)
{
    maildrop_reset(check_maildrop(L));
    return 0;
}

static int
l_maildrop_next_marked(lua_State *L)
{
    size_t after = (size_t)luaL_optinteger(L, 2, 0);

    lua_pushinteger(L, (lua_Integer)maildrop_next_marked(check_maildrop(L), after));
    return 1;
}

/* totals() -> kept, octets of those or nil, sized, identified, count */
static int
l_maildrop_totals(lua_State *L)
{
    const struct maildrop *m = check_maildrop(L);

    lua_pushinteger(L, (lua_Integer)m->kept);
    testing_push_octets(L, m->kept_octets);
    lua_pushinteger(L, (lua_Integer)m->sized);
    lua_pushinteger(L, (lua_Integer)m->identified);
    lua_pushinteger(L, (lua_Integer)m->count);
    return 5;
}

static const luaL_Reg maildrop_methods[] = {
    {"has", l_maildrop_has},
    {"set_octets", l_maildrop_set_octets},
    {"octets", l_maildrop_octets},
    {"set_uid", l_maildrop_set_uid},
    {"uid", l_maildrop_uid},
    {"mark", l_maildrop_mark},
    {"unmark", l_maildrop_unmark},
    {"reset", l_maildrop_reset},
    {"next_marked", l_maildrop_next_marked},
    {"totals", l_maildrop_totals},
    {NULL, NULL},
};

void
testing_maildrop(lua_State *L)
{
    testing_class(L, "maildrop", MAILDROP, maildrop_methods, l_maildrop_new, l_maildrop_gc);
}
