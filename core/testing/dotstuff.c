#include "testing.h"

#include "../dotstuff.h"

static uint64_t
opt_lines(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) ? DOTSTUFF_ALL : (uint64_t)luaL_checkinteger(L, arg);
}

/* The size of the next piece of a message of which `at` octets are gone. */
static size_t
next_piece(size_t at, size_t len, size_t piece)
{
    return len - at < piece ? len - at : piece;
}

/* dotstuff(message, piece [, lines]) -> wire, octets, done */
static int
l_dotstuff(lua_State *L)
{
    size_t len, piece = (size_t)luaL_checkinteger(L, 2);
    const char *message = luaL_checklstring(L, 1, &len);
    struct dotstuff d;
    struct buf out = {0};
    bool done;

    luaL_argcheck(L, piece > 0, 2, "a piece has an octet at least");
    dotstuff_init(&d, opt_lines(L, 3));
    for (size_t at = 0; at < len; at += piece) {
        size_t n = next_piece(at, len, piece);

        out.len += dotstuff_feed(&d, message + at, n, buf_reserve(&out, DOTSTUFF_MAX(n)));
    }
    done = d.done;
    out.len += dotstuff_end(&d, buf_reserve(&out, DOTSTUFF_END_MAX));
    testing_push_buf(L, &out);
    lua_pushinteger(L, (lua_Integer)d.octets);
    lua_pushboolean(L, done);
    return 3;
}

/* dotstuff_count(message, piece [, lines]) -> octets */
static int
l_dotstuff_count(lua_State *L)
{
    size_t len, piece = (size_t)luaL_checkinteger(L, 2);
    const char *message = luaL_checklstring(L, 1, &len);
    struct dotstuff d;

    luaL_argcheck(L, piece > 0, 2, "a piece has an octet at least");
    dotstuff_init(&d, opt_lines(L, 3));
    for (size_t at = 0; at < len; at += piece)
        dotstuff_count(&d, message + at, next_piece(at, len, piece));
    dotstuff_count_end(&d);
    lua_pushinteger(L, (lua_Integer)d.octets);
    return 1;
}

static const luaL_Reg functions[] = {
    {"dotstuff", l_dotstuff},
    {"dotstuff_count", l_dotstuff_count},
    {NULL, NULL},
};

void
testing_dotstuff(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
