#include "maillist.h"

#include "class.h"
#include "mailsort.h"
#include "source.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define LIST "popd.maillist"

struct maillist *
maillist_push(lua_State *L)
{
    struct maillist *l = lua_newuserdatauv(L, sizeof *l, 0);

    *l = (struct maillist){0};
    luaL_setmetatable(L, LIST);
    return l;
}

struct maillist *
maillist_check(lua_State *L, int arg)
{
    struct maillist *l = luaL_checkudata(L, arg, LIST);

    luaL_argcheck(L, l->names, arg, "the list is closed");
    return l;
}

size_t
maillist_check_number(lua_State *L, int arg, size_t count)
{
    lua_Integer n = luaL_checkinteger(L, arg);

    luaL_argcheck(L, n >= 1 && (lua_Unsigned)n <= count, arg, "no such message");
    return (size_t)n - 1;
}

static struct mailname *
check_row(lua_State *L)
{
    struct maillist *l = maillist_check(L, 1);

    return &l->names->rows[maillist_check_number(L, 2, l->names->count)];
}

void
maillist_rest(struct maillist *l)
{
    if (!l->dirs)
        return;
    dirs_drop(l->dirs, l->key);
    dirs_drop(l->dirs, l->key + 1);
    l->dirs = NULL;
}

/* Lua's collector does not know how much hangs on a list: who made it closes it. */
static int
l_close(lua_State *L)
{
    struct maillist *l = luaL_checkudata(L, 1, LIST);

    maillist_rest(l);
    mailnames_drop(l->names);
    free(l->of);
    free(l->learned);
    *l = (struct maillist){0};
    return 0;
}

struct mailnames *
maillist_lend(lua_State *L, int index)
{
    struct maillist *l = luaL_testudata(L, index, LIST);

    if (!l || !l->names)
        return NULL;
    l->names->lent = true;
    return l->names;
}

/* What is in a list --------------------------------------------------------- */

static int
l_count(lua_State *L)
{
    const struct maillist *l = luaL_testudata(L, 1, LIST);

    if (l && l->names)
        lua_pushinteger(L, (lua_Integer)l->names->count);
    else
        lua_pushnil(L);
    return 1;
}

static void
push_file(lua_State *L, const struct mailnames *m, const struct mailname *row)
{
    lua_pushfstring(L, "%s/%s", row->flags & MAILNAME_CUR ? "cur" : "new", mailname_text(m, row));
}

/* file(list, n); by another list's numbers nil where that is not one file */
static int
l_file(lua_State *L)
{
    const struct maillist *l = maillist_check(L, 1);
    size_t i = maillist_check_number(L, 2, l->of ? l->followed : l->names->count);

    if (l->of && (l->of[i] == 0 || l->of[i] == MAILNAMES_SEVERAL))
        lua_pushnil(L);
    else
        push_file(L, l->names, &l->names->rows[l->of ? l->of[i] - 1 : i]);
    return 1;
}

static int
l_base(lua_State *L)
{
    const struct mailname *row = check_row(L);

    lua_pushlstring(L, mailname_text(maillist_check(L, 1)->names, row), row->base);
    return 1;
}

static void
push_uid(lua_State *L, const struct mailnames *m, const struct mailname *row)
{
    lua_pushlstring(L, mailname_uid(m, row), row->uid_len);
}

static int
l_uid(lua_State *L)
{
    push_uid(L, maillist_check(L, 1)->names, check_row(L));
    return 1;
}

static int
l_size(lua_State *L)
{
    const struct mailname *row = check_row(L);

    if (!mailname_is_known(row))
        return 0;
    lua_pushinteger(L, (lua_Integer)mailsize_sent(row->size));
    lua_pushinteger(L, (lua_Integer)mailsize_stored(row->size));
    return 2;
}

/* dir/sub/name; false: there is no room for it. */
static bool
write_path(char path[PATH_MAX], const char *dir, size_t len, const struct mailnames *m,
           const struct mailname *row)
{
    const char *sub = row->flags & MAILNAME_CUR ? "/cur/" : "/new/";

    if (len + strlen(sub) + row->len >= PATH_MAX)
        return false;
    memcpy(path, dir, len);
    memcpy(path + len, sub, strlen(sub));
    memcpy(path + len + strlen(sub), mailname_text(m, row), row->len + 1u);
    return true;
}

static int
open_row(struct maillist *l, const struct mailname *row, const char *path, size_t slash, struct dirs *dirs)
{
    if (!l->dirs) {
        l->dirs = dirs;
        l->key = dirs_new_keys(dirs);
    }
    return dirs_open(dirs, l->key + (row->flags & MAILNAME_CUR ? 1 : 0), path, slash,
                     SOURCE_FLAGS | O_NOFOLLOW);
}

bool
maillist_open_file(lua_State *L, int list, uint64_t number, int dir, struct dirs *dirs,
                   struct maillist_file *file)
{
    struct maillist *l = luaL_testudata(L, list, LIST);
    const struct mailname *row;
    size_t len;
    const char *below = lua_tolstring(L, dir, &len);
    char path[PATH_MAX];

    if (!l || !below || !l->names || !l->serves || number < 1 || number > l->names->count)
        return false;
    row = &l->names->rows[number - 1];
    if (!mailname_is_known(row) || !write_path(path, below, len, l->names, row))
        return false;
    file->octets = mailsize_stored(row->size);
    file->fd = open_row(l, row, path, len + strlen("/cur"), dirs);
    return true;
}

static int
push_all(lua_State *L, void (*push)(lua_State *, const struct mailnames *, const struct mailname *))
{
    const struct mailnames *m = maillist_check(L, 1)->names;

    lua_createtable(L, m->count < 1000000 ? (int)m->count : 1000000, 0);
    for (size_t i = 0; i < m->count; i++) {
        push(L, m, &m->rows[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static void
push_size(lua_State *L, const struct mailnames *m, const struct mailname *row)
{
    (void)m;
    if (mailname_is_known(row))
        lua_pushinteger(L, (lua_Integer)mailsize_sent(row->size));
    else
        lua_pushboolean(L, false);
}

static int
l_sizes(lua_State *L)
{
    return push_all(L, push_size);
}

static int
l_uids(lua_State *L)
{
    return push_all(L, push_uid);
}

static int
l_total(lua_State *L)
{
    const struct mailnames *m = maillist_check(L, 1)->names;
    uint64_t total = 0;

    for (size_t i = 0; i < m->count; i++) {
        if (!mailname_is_known(&m->rows[i]))
            return 0;
        total += mailsize_sent(m->rows[i].size);
    }
    lua_pushinteger(L, (lua_Integer)total);
    return 1;
}

/* Adds a row's number to the array of its base, in the table at index 2; a new one
 * goes to the array at index 3 as well. */
static void
add_same(lua_State *L, const struct mailnames *m, size_t i)
{
    const struct mailname *row = &m->rows[i];

    lua_pushlstring(L, mailname_text(m, row), row->base);
    if (lua_rawget(L, 2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushlstring(L, mailname_text(m, row), row->base);
        lua_pushvalue(L, -2);
        lua_rawset(L, 2);
        lua_pushvalue(L, -1);
        lua_rawseti(L, 3, (lua_Integer)lua_rawlen(L, 3) + 1);
    }
    lua_pushinteger(L, (lua_Integer)i + 1);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

static int
l_same(lua_State *L)
{
    const struct mailnames *m = maillist_check(L, 1)->names;
    bool any = false;

    lua_settop(L, 1);
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < m->count; i++)
        if (m->rows[i].flags & MAILNAME_SAME) {
            add_same(L, m, i);
            any = true;
        }
    return any ? 1 : 0;
}

static int
l_files_of(lua_State *L)
{
    const struct maillist *l = maillist_check(L, 1);
    size_t len, at;
    const char *base = luaL_checklstring(L, 2, &len);
    uint64_t hash = mailname_hash(base, len);
    lua_Integer n = 0;

    luaL_argcheck(L, l->names->keys, 1, "a list of names only expected");
    lua_newtable(L);
    for (at = mailnames_find(l->names->keys, l->names->count, hash);
         at < l->names->count && l->names->keys[at].key == hash; at++) {
        const struct mailname *row = &l->names->rows[l->names->keys[at].row];

        if (row->base != len || memcmp(mailname_text(l->names, row), base, len) != 0)
            continue;
        push_file(L, l->names, row);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* Changing it --------------------------------------------------------------- */

/* What is changed is not what is on the disk any more. */
static struct maillist *
check_open(lua_State *L)
{
    struct maillist *l = maillist_check(L, 1);

    luaL_argcheck(L, !l->names->lent, 1, "the session has begun");
    l->stamp = 0;
    return l;
}

static int
l_remove(lua_State *L)
{
    struct maillist *l = check_open(L);
    lua_Integer n = luaL_len(L, 2);
    uint32_t *numbers = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *numbers, 0);

    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, i);
        numbers[i - 1] = (uint32_t)maillist_check_number(L, -1, l->names->count);
        lua_pop(L, 1);
    }
    mailnames_remove(l->names, numbers, (size_t)n);
    return 0;
}

static int
l_arrange(lua_State *L)
{
    struct maillist *l = check_open(L);
    size_t n = l->names->count;
    uint32_t *from = lua_newuserdatauv(L, (n + 1) * sizeof *from, 0);

    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        from[i] = (uint32_t)maillist_check_number(L, -1, n);
        lua_pop(L, 1);
    }
    if (!mailsort_arrange(l->names, from))
        return luaL_error(L, "that is no order, or out of memory");
    return 0;
}

static int
l_keep_last(lua_State *L)
{
    struct maillist *l = check_open(L);
    lua_Integer n = luaL_checkinteger(L, 2);

    luaL_argcheck(L, n >= 0, 2, "a number of messages expected");
    mailnames_keep_last(l->names, (size_t)n);
    return 0;
}

static int
l_set_uid(lua_State *L)
{
    struct maillist *l = check_open(L);
    size_t row = maillist_check_number(L, 2, l->names->count), len;
    const char *uid = luaL_checklstring(L, 3, &len);

    if (!mailnames_set_uid(l->names, row, uid, len))
        return luaL_error(L, "that is no unique-id, or out of memory");
    return 0;
}

void
maillist_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"count", l_count},     {"file", l_file},         {"base", l_base},     {"uid", l_uid},
        {"size", l_size},       {"sizes", l_sizes},       {"uids", l_uids},     {"total", l_total},
        {"same", l_same},       {"files_of", l_files_of}, {"remove", l_remove}, {"keep_last", l_keep_last},
        {"arrange", l_arrange}, {"set_uid", l_set_uid},   {"close", l_close},   {NULL, NULL},
    };

    class_new(L, LIST, NULL, l_close);
    luaL_getmetatable(L, LIST);
    lua_pushcfunction(L, l_count);
    lua_setfield(L, -2, "__len");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
}
