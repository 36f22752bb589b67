#include "testing.h"

#include "../buf.h"

#define BUF "popd.testing.buf"

struct buf *
testing_new_buf(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);

    *b = (struct buf){0};
    luaL_setmetatable(L, BUF);
    return b;
}

static int
l_buf_new(lua_State *L)
{
    testing_new_buf(L);
    return 1;
}

static struct buf *
check_buf(lua_State *L)
{
    return luaL_checkudata(L, 1, BUF);
}

static int
l_buf_gc(lua_State *L)
{
    buf_clear(check_buf(L));
    return 0;
}

static int
l_buf_add(lua_State *L)
{
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);

    buf_add(check_buf(L), bytes, n);
    return 0;
}

/* printf(text, number): "text number" */
static int
l_buf_printf(lua_State *L)
{
    buf_printf(check_buf(L), "%s %d", luaL_checkstring(L, 2), (int)luaL_checkinteger(L, 3));
    return 0;
}

/* reserve(n) -> whether there is room; n may be negative: a huge number. */
static int
l_buf_reserve(lua_State *L)
{
    lua_pushboolean(L, buf_reserve(check_buf(L), (size_t)luaL_checkinteger(L, 2)) != NULL);
    return 1;
}

static int
l_buf_bytes(lua_State *L)
{
    struct buf *b = check_buf(L);

    lua_pushlstring(L, b->data ? b->data : "", b->len);
    lua_pushboolean(L, b->failed);
    return 2;
}

/* wipe() -> all the memory that the buffer keeps */
static int
l_buf_wipe(lua_State *L)
{
    struct buf *b = check_buf(L);

    buf_wipe(b);
    lua_pushlstring(L, b->data ? b->data : "", b->cap);
    return 1;
}

static int
l_buf_clear(lua_State *L)
{
    buf_clear(check_buf(L));
    return 0;
}

static const luaL_Reg buf_methods[] = {
    {"add", l_buf_add},     {"printf", l_buf_printf}, {"reserve", l_buf_reserve},
    {"bytes", l_buf_bytes}, {"wipe", l_buf_wipe},     {"clear", l_buf_clear},
    {NULL, NULL},
};

void
testing_buf(lua_State *L)
{
    testing_class(L, "buf", BUF, buf_methods, l_buf_new, l_buf_gc);
}
