#include "testing.h"

#include "../mailindex.h"
#include "../mailsort.h"

#include <stdlib.h>
#include <string.h>

static lua_Integer
take_field(lua_State *L, const char *name)
{
    lua_Integer n;

    lua_getfield(L, -1, name);
    n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

/* The entries of an array of { base, inode, stored, sent, mtime }, in memory of
 * Lua's with room for a head; no sizes: unknown. */
static struct mailindex_entry *
take_entries(lua_State *L, int array, size_t *n)
{
    struct mailindex_entry *entries;

    *n = lua_istable(L, array) ? (size_t)luaL_len(L, array) : 0;
    entries = lua_newuserdatauv(L, MAILINDEX_SIZE(*n), 0);
    entries += MAILINDEX_HEAD / sizeof *entries;
    for (size_t i = 0; i < *n; i++) {
        size_t len;
        const char *base;

        lua_rawgeti(L, array, (lua_Integer)i + 1);
        lua_getfield(L, -1, "base");
        base = lua_tolstring(L, -1, &len);
        entries[i].hash = mailname_hash(base, len);
        lua_pop(L, 1);
        entries[i].inode = (uint64_t)take_field(L, "inode");
        entries[i].mtime = take_field(L, "mtime");
        entries[i].size = MAILSIZE_UNKNOWN;
        if (lua_getfield(L, -1, "stored") != LUA_TNIL) {
            lua_pop(L, 1);
            entries[i].size =
                mailsize_pack((uint64_t)take_field(L, "stored"), (uint64_t)take_field(L, "sent"));
            lua_pushnil(L);
        }
        lua_pop(L, 2);
    }
    return entries;
}

/* mailindex_write(entries) -> octets */
static int
l_mailindex_write(lua_State *L)
{
    size_t n;
    struct mailindex_entry *entries = take_entries(L, 1, &n);
    char *head = (char *)entries - MAILINDEX_HEAD;

    n = mailindex_sort(entries, n);
    mailindex_head(entries, n, head);
    lua_pushlstring(L, head, MAILINDEX_SIZE(n));
    return 1;
}

static void
set_known(void *owner, uint32_t row, const struct mailindex_entry *entry)
{
    (void)owner, (void)row, (void)entry;
}

/* mailindex_read(octets, files) -> how many entries are somebody's, and the files as
 * mailnames has them; nil: it is no index */
static int
l_mailindex_read(lua_State *L)
{
    size_t len, n;
    const char *octets = luaL_checklstring(L, 1, &len);
    void *copy = lua_newuserdatauv(L, len + 1, 0);
    const struct mailindex_entry *entries;
    struct mailnames *m;
    struct mailkey *keys;

    memcpy(copy, octets, len);
    entries = mailindex_read(copy, len, &n);
    if (!entries)
        return 0;
    m = testing_list_files(L, 2, 1);
    keys = mailsort_names(m);
    lua_pushinteger(L, (lua_Integer)mailindex_match(entries, n, m, keys, set_known, NULL));
    testing_push_names(L, m);
    free(keys);
    mailnames_drop(m);
    return 2;
}

/* mailindex_join(older, newer, files) -> octets */
static int
l_mailindex_join(lua_State *L)
{
    size_t a, b, n;
    struct mailindex_entry *older, *newer, *out;
    struct mailnames *m;
    struct mailkey *keys;

    lua_settop(L, 3);
    older = take_entries(L, 1, &a);
    newer = take_entries(L, 2, &b);
    out = lua_newuserdatauv(L, MAILINDEX_SIZE(a + b), 0);
    m = testing_list_files(L, 3, 4);
    keys = mailsort_names(m);
    a = mailindex_sort(older, a);
    b = mailindex_sort(newer, b);
    n = mailindex_join(older, a, newer, b, keys, m->count, out + 1);
    mailindex_head(out + 1, n, out);
    lua_pushlstring(L, (const char *)out, MAILINDEX_SIZE(n));
    free(keys);
    mailnames_drop(m);
    return 1;
}

static const luaL_Reg functions[] = {
    {"mailindex_write", l_mailindex_write},
    {"mailindex_read", l_mailindex_read},
    {"mailindex_join", l_mailindex_join},
    {NULL, NULL},
};

void
testing_mailindex(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
