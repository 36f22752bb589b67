#include "testing.h"

#include "../command.h"

/* command(line) -> table, or nil, why, verb.  A saturated number is -1. */
static int
l_command(lua_State *L)
{
    size_t len;
    const char *line = luaL_checklstring(L, 1, &len), *why = NULL;
    struct command c;

    if (command_parse(&c, line, len, &why) == COMMAND_BAD) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        lua_pushstring(L, testing_verb(c.verb));
        return 3;
    }
    lua_newtable(L);
    lua_pushstring(L, testing_verb(c.verb));
    lua_setfield(L, -2, "verb");
    testing_set_slice(L, "keyword", c.keyword);
    testing_set_slice(L, "args", c.args);
    testing_set_slice(L, "name", c.name);
    testing_set_slice(L, "secret", c.secret);
    testing_set_number(L, "number", c.number);
    testing_set_number(L, "lines", c.lines);
    return 1;
}

static const luaL_Reg functions[] = {
    {"command", l_command},
    {NULL, NULL},
};

void
testing_command(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
