#include "testing.h"

#include "../mailsort.h"

#include <stdlib.h>

struct mailnames *
testing_list_files(lua_State *L, int files, int times)
{
    struct mailnames *m = mailnames_new();

    for (lua_Integer i = 1; m && i <= luaL_len(L, files); i++) {
        size_t len;
        const char *file;
        uint64_t time;

        lua_rawgeti(L, files, i);
        file = lua_tolstring(L, -1, &len);
        time = mailname_time(file + 4, len - 4);
        if (lua_istable(L, times)) {
            lua_rawgeti(L, times, i);
            time = (uint64_t)lua_tointeger(L, -1);
            lua_pop(L, 1);
        }
        mailnames_add(m, file + 4, len - 4, file[0] == 'c', (uint64_t)i, time);
        lua_pop(L, 1);
    }
    return m;
}

static void
push_name(lua_State *L, const struct mailnames *m, const struct mailname *row)
{
    lua_newtable(L);
    lua_pushfstring(L, "%s/%s", row->flags & MAILNAME_CUR ? "cur" : "new", mailname_text(m, row));
    lua_setfield(L, -2, "file");
    lua_pushlstring(L, mailname_uid(m, row), row->uid_len);
    lua_setfield(L, -2, "uid");
    lua_pushboolean(L, row->flags & MAILNAME_SAME);
    lua_setfield(L, -2, "same");
    if (row->size == MAILSIZE_UNKNOWN)
        return;
    lua_pushinteger(L, (lua_Integer)mailsize_sent(row->size));
    lua_setfield(L, -2, "sent");
    lua_pushinteger(L, (lua_Integer)mailsize_stored(row->size));
    lua_setfield(L, -2, "stored");
}

void
testing_push_names(lua_State *L, const struct mailnames *m)
{
    lua_newtable(L);
    for (size_t i = 0; i < m->count; i++) {
        push_name(L, m, &m->rows[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

/* mailnames(files [, times]) -> { file, uid, same, sent, stored } of each, in order */
static int
l_mailnames(lua_State *L)
{
    struct mailnames *m;
    struct mailkey *keys;

    lua_settop(L, 2);
    m = testing_list_files(L, 1, 2);
    keys = mailsort_names(m);
    mailnames_mark_same(m, keys);
    testing_push_names(L, m);
    free(keys);
    mailnames_drop(m);
    return 1;
}

/* mailfollow(old, now) -> for each old file, in order: its place among the new
 * ones, 0, or "several" */
static int
l_mailfollow(lua_State *L)
{
    struct mailnames *old, *now;
    struct mailkey *old_keys, *now_keys;
    uint32_t *of;

    lua_settop(L, 2);
    old = testing_list_files(L, 1, 3);
    now = testing_list_files(L, 2, 3);
    old_keys = mailsort_names(old);
    now_keys = mailsort_names(now);
    mailnames_mark_same(old, old_keys);
    mailnames_mark_same(now, now_keys);
    of = malloc((old->count + 1) * sizeof *of);
    mailnames_follow(old, old_keys, now, now_keys, of);
    lua_newtable(L);
    for (size_t i = 0; i < old->count; i++) {
        if (of[i] == MAILNAMES_SEVERAL)
            lua_pushliteral(L, "several");
        else
            lua_pushinteger(L, of[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    free(of);
    free(old_keys);
    free(now_keys);
    mailnames_drop(old);
    mailnames_drop(now);
    return 1;
}

static const luaL_Reg functions[] = {
    {"mailnames", l_mailnames},
    {"mailfollow", l_mailfollow},
    {NULL, NULL},
};

void
testing_mailnames(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
