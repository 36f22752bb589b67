/*
 * class - a kind of userdata, as Lua sees it.
 */
#ifndef POPD_CLASS_H
#define POPD_CLASS_H

#include <lauxlib.h>

/* Makes the metatable of that name: methods (NULL: none), and what the collector
 * calls (NULL: nothing).  [-0, +0, e] */
void class_new(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc);

#endif
