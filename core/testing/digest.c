#include "testing.h"

#include "../digest.h"

static int
l_md5(lua_State *L)
{
    size_t n;
    const char *data = luaL_checklstring(L, 1, &n);
    char hex[DIGEST_MD5_HEX + 1];

    lua_pushstring(L, digest_md5(data, n, hex) ? hex : NULL);
    return 1;
}

/* sha256_pieces(…) -> the digest of all of them together */
static int
l_sha256_pieces(lua_State *L)
{
    char hex[DIGEST_SHA256_HEX + 1];
    struct digest *d = digest_new();
    bool ok = d != NULL;

    for (int i = 1; ok && i <= lua_gettop(L); i++) {
        size_t n;
        const char *data = lua_tolstring(L, i, &n);

        ok = data && digest_add(d, data, n);
    }
    ok = ok && digest_hex(d, hex);
    digest_free(d);
    lua_pushstring(L, ok ? hex : NULL);
    return 1;
}

static const luaL_Reg functions[] = {
    {"md5", l_md5},
    {"sha256_pieces", l_sha256_pieces},
    {NULL, NULL},
};

void
testing_digest(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
