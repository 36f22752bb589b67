#include "testing.h"

#include "../linebuf.h"

#include <string.h>

#define LINEBUF "popd.testing.linebuf"

static int
l_linebuf_new(lua_State *L)
{
    size_t limit = (size_t)luaL_checkinteger(L, 1);
    struct linebuf *lb = lua_newuserdatauv(L, sizeof *lb, 0);

    linebuf_init(lb, limit);
    luaL_setmetatable(L, LINEBUF);
    return 1;
}

static struct linebuf *
check_linebuf(lua_State *L)
{
    return luaL_checkudata(L, 1, LINEBUF);
}

static int
l_linebuf_gc(lua_State *L)
{
    linebuf_clear(check_linebuf(L));
    return 0;
}

/* feed(bytes) -> how many were taken */
static int
l_linebuf_feed(lua_State *L)
{
    struct linebuf *lb = check_linebuf(L);
    size_t n, room = linebuf_wants(lb);
    const char *bytes = luaL_checklstring(L, 2, &n);

    n = n < room ? n : room;
    if (!linebuf_add(lb, bytes, n))
        return luaL_error(L, "out of memory");
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

/* next() -> "none" | "too_long" | "ready", line */
static int
l_linebuf_next(lua_State *L)
{
    static const char *const names[] = {"none", "ready", "too_long"};
    char *line;
    size_t len;
    enum linebuf_status status = linebuf_next(check_linebuf(L), &line, &len);

    lua_pushstring(L, names[status]);
    if (status != LINEBUF_READY)
        return 1;
    lua_pushlstring(L, line, len);
    return 2;
}

/* rest() -> whether it holds memory still */
static int
l_linebuf_rest(lua_State *L)
{
    struct linebuf *lb = check_linebuf(L);

    linebuf_rest(lb);
    lua_pushboolean(L, lb->data != NULL);
    return 1;
}

static int
l_linebuf_drop(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)linebuf_drop(check_linebuf(L)));
    return 1;
}

/* limit(n): from the next line on */
static int
l_linebuf_limit(lua_State *L)
{
    linebuf_limit(check_linebuf(L), (size_t)luaL_checkinteger(L, 2));
    return 0;
}

/* peek() -> what there is of the next line */
static int
l_linebuf_peek(lua_State *L)
{
    size_t n;
    const char *line = linebuf_peek(check_linebuf(L), &n);

    lua_pushlstring(L, line, n);
    return 1;
}

/* held() -> all octets of its memory */
static int
l_linebuf_held(lua_State *L)
{
    struct linebuf *lb = check_linebuf(L);

    lua_pushlstring(L, lb->data ? lb->data : "", lb->cap);
    return 1;
}

static const luaL_Reg linebuf_methods[] = {
    {"feed", l_linebuf_feed},   {"next", l_linebuf_next}, {"rest", l_linebuf_rest}, {"drop", l_linebuf_drop},
    {"limit", l_linebuf_limit}, {"peek", l_linebuf_peek}, {"held", l_linebuf_held}, {NULL, NULL},
};

void
testing_linebuf(lua_State *L)
{
    testing_class(L, "linebuf", LINEBUF, linebuf_methods, l_linebuf_new, l_linebuf_gc);
}
