#include "testing.h"

#include "../reply.h"

/* Pushes a reply and, as a table of booleans, what its text lost. */
static int
push_reply(lua_State *L, struct buf *out, unsigned faults)
{
    testing_push_buf(L, out);
    lua_newtable(L);
    lua_pushboolean(L, (faults & REPLY_CONTROLS) != 0);
    lua_setfield(L, -2, "controls");
    lua_pushboolean(L, (faults & REPLY_CUT) != 0);
    lua_setfield(L, -2, "cut");
    lua_pushboolean(L, (faults & REPLY_BAD_CODE) != 0);
    lua_setfield(L, -2, "bad_code");
    return 2;
}

static int
l_reply_ok(lua_State *L)
{
    struct buf out = {0};

    reply_ok(&out, luaL_checkstring(L, 1));
    return testing_push_buf(L, &out);
}

static int
l_reply_err(lua_State *L)
{
    struct buf out = {0};

    reply_err(&out, luaL_optstring(L, 1, NULL), luaL_checkstring(L, 2));
    return testing_push_buf(L, &out);
}

/* reply_text(ok, code, text) -> bytes, faults */
static int
l_reply_text(lua_State *L)
{
    size_t code_len = 0, len;
    const char *code = luaL_optlstring(L, 2, NULL, &code_len);
    const char *text = luaL_checklstring(L, 3, &len);
    struct buf out = {0};
    unsigned faults = reply_text(&out, lua_toboolean(L, 1), code, code_len, text, len);

    return push_reply(L, &out, faults);
}

static int
l_reply_line(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf out = {0};
    unsigned faults = reply_line(&out, text, len);

    return push_reply(L, &out, faults);
}

static int
l_reply_item(lua_State *L)
{
    uint64_t number = (uint64_t)luaL_checkinteger(L, 1);
    size_t len;
    const char *value = luaL_checklstring(L, 2, &len);
    struct buf out = {0};

    reply_item(&out, number, value, len);
    return testing_push_buf(L, &out);
}

static int
l_reply_end(lua_State *L)
{
    struct buf out = {0};

    reply_end(&out);
    return testing_push_buf(L, &out);
}

static int
l_reply_code_ok(lua_State *L)
{
    size_t len;
    const char *code = luaL_checklstring(L, 1, &len);

    lua_pushboolean(L, reply_code_ok(code, len));
    return 1;
}

static const luaL_Reg functions[] = {
    {"reply_ok", l_reply_ok},           {"reply_err", l_reply_err},
    {"reply_text", l_reply_text},       {"reply_line", l_reply_line},
    {"reply_item", l_reply_item},       {"reply_end", l_reply_end},
    {"reply_code_ok", l_reply_code_ok}, {NULL, NULL},
};

void
testing_reply(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
