/*
 * crypto - hashes, base64, comparisons, randomness and certificates, as Lua has
 * them.
 *
 * Strings in, strings out; nothing here waits (what is slow by intent does:
 * see secret.h).
 */
#ifndef POPD_CRYPTO_H
#define POPD_CRYPTO_H

#include <lua.h>

/* Adds to the table on top of the stack: hash, equal, apop, digest, hmac,
 * base64, unbase64, random, certificate,
 * ask_secret.  [-0, +0, e] */
void crypto_open(lua_State *L);

#endif
