#include "crypto.h"

#include "base64.h"
#include "cert.h"
#include "digest.h"
#include "terminal.h"

#include <lauxlib.h>
#include <string.h>
#include <sys/random.h>

#define RANDOM_MAX 256 /* what the system gives in one piece */

struct hash {
    struct digest *digest; /* ours */
};

static int
l_hash_gc(lua_State *L)
{
    struct hash *h = luaL_checkudata(L, 1, "popd.hash");

    digest_free(h->digest);
    h->digest = NULL;
    return 0;
}

/* hash() -> h; hash(h, chunk) -> h; hash(h) -> SHA-256 in hex */
static int
l_hash(lua_State *L)
{
    struct hash *h;
    char hex[DIGEST_SHA256_HEX + 1];
    size_t n;
    const char *chunk;

    if (lua_isnoneornil(L, 1)) {
        h = lua_newuserdatauv(L, sizeof *h, 0);
        h->digest = NULL;
        luaL_setmetatable(L, "popd.hash");
        h->digest = digest_new();
        return h->digest ? 1 : luaL_error(L, "out of memory");
    }
    h = luaL_checkudata(L, 1, "popd.hash");
    if (!lua_isnoneornil(L, 2)) {
        chunk = luaL_checklstring(L, 2, &n);
        digest_add(h->digest, chunk, n);
        lua_settop(L, 1);
        return 1;
    }
    if (!digest_hex(h->digest, hex))
        return luaL_error(L, "mbedTLS refuses SHA-256");
    lua_pushstring(L, hex);
    return 1;
}

/* equal(a, b): in a time that depends on b's length alone */
static int
l_equal(lua_State *L)
{
    size_t a_len, b_len;
    const char *a = luaL_checklstring(L, 1, &a_len), *b = luaL_checklstring(L, 2, &b_len);

    lua_pushboolean(L, digest_equal(a, a_len, b, b_len));
    return 1;
}

/* apop(stamp, secret, digest) -> whether that is the digest of both */
static int
l_apop(lua_State *L)
{
    size_t secret_len, len;
    const char *stamp = luaL_checkstring(L, 1);
    const char *secret = luaL_checklstring(L, 2, &secret_len), *digest = luaL_checklstring(L, 3, &len);

    lua_pushboolean(L, digest_apop(stamp, secret, secret_len, digest, len));
    return 1;
}

static enum digest_kind
check_kind(lua_State *L, int index)
{
    const char *name = luaL_checkstring(L, index);
    enum digest_kind kind = DIGEST_SHA256;

    if (!digest_find(name, &kind))
        luaL_error(L, "unknown digest '%s': expected MD5, SHA-1, SHA-256, SHA-384 or SHA-512", name);
    return kind;
}

/* Pushes octets that were a secret's, and wipes them. */
static int
push_octets(lua_State *L, bool ok, enum digest_kind kind, unsigned char *octets)
{
    if (!ok)
        return luaL_error(L, "mbedTLS refuses this digest");
    lua_pushlstring(L, (const char *)octets, digest_size(kind));
    digest_wipe(octets, DIGEST_MAX);
    return 1;
}

/* digest(kind, data) -> octets */
static int
l_digest(lua_State *L)
{
    unsigned char octets[DIGEST_MAX];
    size_t n;
    enum digest_kind kind = check_kind(L, 1);
    const char *data = luaL_checklstring(L, 2, &n);

    return push_octets(L, digest_hash(kind, data, n, octets), kind, octets);
}

/* hmac(kind, key, data) -> octets */
static int
l_hmac(lua_State *L)
{
    unsigned char octets[DIGEST_MAX];
    size_t key_len, n;
    enum digest_kind kind = check_kind(L, 1);
    const char *key = luaL_checklstring(L, 2, &key_len), *data = luaL_checklstring(L, 3, &n);

    return push_octets(L, digest_hmac(kind, key, key_len, data, n, octets), kind, octets);
}

/* base64(octets) -> text */
static int
l_base64(lua_State *L)
{
    size_t n;
    const char *octets = luaL_checklstring(L, 1, &n);
    luaL_Buffer b;

    base64_encode(octets, n, luaL_buffinitsize(L, &b, BASE64_TEXT(n)));
    luaL_pushresultsize(&b, BASE64_TEXT(n));
    return 1;
}

/* unbase64(text) -> octets, or nil: that is no base64 */
static int
l_unbase64(lua_State *L)
{
    size_t n, len;
    const char *text = luaL_checklstring(L, 1, &n);
    luaL_Buffer b;

    if (!base64_decode(text, n, luaL_buffinitsize(L, &b, BASE64_OCTETS(n)), &len)) {
        lua_pushnil(L);
        return 1;
    }
    luaL_pushresultsize(&b, len);
    return 1;
}

/* random(n) -> n octets that nobody can guess */
static int
l_random(lua_State *L)
{
    char octets[RANDOM_MAX];
    lua_Integer n = luaL_checkinteger(L, 1);

    luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "at most 256 octets");
    if (getrandom(octets, (size_t)n, 0) != (ssize_t)n)
        return luaL_error(L, "the system gives no random octets");
    lua_pushlstring(L, octets, (size_t)n);
    digest_wipe(octets, sizeof octets);
    return 1;
}

/* The names in the table at index 1, kept alive by it; returns how many. */
static size_t
take_hosts(lua_State *L, const char **hosts)
{
    lua_Unsigned n;

    luaL_checktype(L, 1, LUA_TTABLE);
    n = lua_rawlen(L, 1);
    luaL_argcheck(L, n >= 1 && n <= CERT_HOSTS_MAX, 1, "1 to 100 hosts expected");
    for (lua_Unsigned i = 0; i < n; i++) {
        if (lua_rawgeti(L, 1, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_error(L, "certificate: a host is a string");
        hosts[i] = lua_tostring(L, -1);
        if (strlen(hosts[i]) != lua_rawlen(L, -1))
            hosts[i] = ""; /* what has a NUL in it is no host */
        lua_pop(L, 1);
    }
    return (size_t)n;
}

static int
l_pair_gc(lua_State *L)
{
    cert_clear(luaL_checkudata(L, 1, "popd.pair"));
    return 0;
}

/* A pair that is given back also where pushing it raises. */
static struct cert_pair *
new_pair(lua_State *L)
{
    struct cert_pair *p = lua_newuserdatauv(L, sizeof *p, 0);

    *p = (struct cert_pair){0};
    luaL_setmetatable(L, "popd.pair");
    return p;
}

/* certificate({ hosts }, days) -> certificate, key (PEM), or nil and the reason */
static int
l_certificate(lua_State *L)
{
    const char *hosts[CERT_HOSTS_MAX], *why;
    lua_Integer days = luaL_checkinteger(L, 2);
    size_t n = take_hosts(L, hosts);
    struct cert_pair *p = new_pair(L);

    luaL_argcheck(L, days >= 1 && days <= CERT_DAYS_MAX, 2, "1 to 36500 days expected");
    for (size_t i = 0; i < n; i++)
        if (cert_host_kind(hosts[i]) == CERT_NO_HOST) {
            lua_pushnil(L);
            lua_pushfstring(L, "'%s' is neither a host's name nor an address", hosts[i]);
            return 2;
        }
    if (!cert_make(hosts, n, (unsigned)days, p, &why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushstring(L, p->cert);
    lua_pushstring(L, p->key);
    cert_clear(p);
    return 2;
}

#define SECRET_MAX 1024

/* ask_secret(prompt) -> a line of standard input, whether from a terminal; or
 * nil and the reason */
static int
l_ask_secret(lua_State *L)
{
    const char *prompt = luaL_checkstring(L, 1), *why;
    char line[SECRET_MAX];
    size_t n;

    if (!terminal_read_secret(prompt, line, sizeof line, &n, &why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushlstring(L, line, n);
    digest_wipe(line, sizeof line);
    lua_pushboolean(L, terminal_is_there());
    return 2;
}

void
crypto_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"hash", l_hash},
        {"equal", l_equal},
        {"apop", l_apop},
        {"digest", l_digest},
        {"hmac", l_hmac},
        {"base64", l_base64},
        {"unbase64", l_unbase64},
        {"random", l_random},
        {"certificate", l_certificate},
        {"ask_secret", l_ask_secret},
        {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, "popd.hash");
    lua_pushcfunction(L, l_hash_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, "popd.pair");
    lua_pushcfunction(L, l_pair_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 2);
}
