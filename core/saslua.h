/*
 * saslua - SASL's messages taken apart and SASLprep, as Lua has them.
 */
#ifndef POPD_SASLUA_H
#define POPD_SASLUA_H

#include <lua.h>

/* Adds to the table on top of the stack: sasl, prep.  [-0, +0, e] */
void saslua_open(lua_State *L);

#endif
