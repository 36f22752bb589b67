#include "mailread.h"

#include "class.h"
#include "fs.h"
#include "maillist.h"
#include "mailscan.h"
#include "mailsort.h"
#include "offload.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define SCAN "popd.mailscan"
#define FOLLOW "popd.mailfollow"

#define LEARNED_FEW 64

/* scan ---------------------------------------------------------------------- */

struct scan {
    struct offload off;
    struct mailscan scan;
};

static void
work_scan(void *owner)
{
    mailscan_run(&((struct scan *)owner)->scan);
}

static void
clear_scan(void *owner)
{
    mailscan_clear(&((struct scan *)owner)->scan);
}

static bool
knows_all(const struct mailnames *m)
{
    for (size_t i = 0; i < m->count; i++)
        if (!mailname_is_known(&m->rows[i]))
            return false;
    return true;
}

/* What a few names have told is looked at again as soon as it is looked up. */
static void
drop_few(struct mailscan *s)
{
    if (s->wrong || s->learned_count > LEARNED_FEW)
        return;
    free(s->learned);
    s->learned = NULL;
    s->learned_count = 0;
}

/* What was found becomes the list's, in memory of this thread.  Inodes tell files that are
 * to be counted. */
static void
take_scan(struct maillist *l, struct mailscan *s)
{
    drop_few(s);
    *l = (struct maillist){
        .names = mailnames_pack(s->names),
        .learned = s->learned,
        .learned_count = s->learned_count,
        .room = s->learned_count,
        .stale = s->stale,
        .wrong = s->wrong,
        .stamp = s->stamp,
        .serves = !s->names_only,
    };
    if (s->names_only || knows_all(l->names)) {
        free(l->names->inodes);
        l->names->inodes = NULL;
    }
    if (!s->names_only) {
        free(l->names->keys);
        l->names->keys = NULL;
    }
    s->names = NULL;
    s->learned = NULL;
}

static int
fail_scan(lua_State *L, const struct mailscan *s)
{
    const char *path = s->failed ? lua_pushfstring(L, "%s/%s", s->dir, s->failed) : s->dir;

    return fs_fail(L, "scandir", path, s->code);
}

static int
finish_scan(lua_State *L, void *owner)
{
    struct scan *scan = owner;

    if (scan->scan.code)
        return fail_scan(L, &scan->scan);
    take_scan(maillist_push(L), &scan->scan);
    return 1;
}

static int
l_scan_gc(lua_State *L)
{
    offload_collect(&((struct scan *)luaL_checkudata(L, 1, SCAN))->off);
    return 0;
}

static bool
option(lua_State *L, const char *name)
{
    bool on;

    lua_getfield(L, 2, name);
    on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static int
l_scan(lua_State *L)
{
    const char *dir = fs_check_path(L, 1);
    struct scan *s;

    luaL_checktype(L, 2, LUA_TTABLE);
    s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct scan){.off = {.work = work_scan, .finish = finish_scan, .clear = clear_scan, .owner = s}};
    luaL_setmetatable(L, SCAN);
    s->scan.by_mtime = option(L, "mtime");
    s->scan.hide_trashed = option(L, "hide_trashed");
    s->scan.names_only = option(L, "names_only");
    lua_getfield(L, 2, "patience");
    s->scan.patience = (unsigned)lua_tointeger(L, -1);
    lua_pop(L, 1);
    lua_getfield(L, 2, "since");
    s->scan.since = lua_tointeger(L, -1) > 0 ? (uint64_t)lua_tointeger(L, -1) : 0;
    lua_pop(L, 1);
    if (getrandom(&s->scan.random, sizeof s->scan.random, GRND_NONBLOCK) < 0)
        s->scan.random = 0;
    s->scan.dir = strdup(dir);
    if (!s->scan.dir)
        return luaL_error(L, "out of memory");
    return offload_run(L, &s->off, "popd.maildir");
}

/* Keeping ------------------------------------------------------------------- */

/* What Lua has beside a list's names, in whose tables it is kept: octets, of short names. */
#define BESIDE 600

/* keep(list) -> octets that it takes; nil: what it tells may not be told again.  Until it is
 * found to be current it serves nobody. */
static int
l_keep(lua_State *L)
{
    struct maillist *l = maillist_check(L, 1);
    struct mailnames *m = l->names;

    if (l->stamp == 0 || l->wrong > 0 || !knows_all(m))
        return 0;
    maillist_rest(l);
    free(l->learned);
    free(l->of);
    free(m->inodes); /* they tell files that are to be counted */
    m->inodes = NULL;
    *l = (struct maillist){.names = l->names, .stamp = l->stamp};
    lua_pushinteger(L, (lua_Integer)(BESIDE + sizeof *m + m->room * sizeof *m->rows + m->text.cap));
    return 1;
}

/* is_current(list, dir): nothing came, went or was renamed since; then it serves again */
static int
l_is_current(lua_State *L)
{
    struct maillist *l = maillist_check(L, 1);

    l->serves = l->stamp != 0 && mailscan_stamp(fs_check_path(L, 2)) == l->stamp;
    lua_pushboolean(L, l->serves);
    return 1;
}

/* identity(dir): makes no table, since each session asks twice */
static int
l_identity(lua_State *L)
{
    const char *dir = fs_check_path(L, 1);
    struct stat st;

    if (stat(dir, &st) != 0)
        return fs_fail(L, "stat", dir, errno);
    lua_pushinteger(L, (lua_Integer)st.st_dev);
    lua_pushinteger(L, (lua_Integer)st.st_ino);
    return 2;
}

/* follow -------------------------------------------------------------------- */

/* Its user value is the list that follows.  It may be closed meanwhile. */
struct follow {
    struct offload off;
    struct mailnames *old, *now; /* held */
    uint32_t *of;                /* ours; NULL: out of memory */
};

static void
work_follow(void *owner)
{
    struct follow *f = owner;
    struct mailkey *keys = mailsort_keys(f->old);

    f->of = keys ? malloc((f->old->count + 1) * sizeof *f->of) : NULL;
    if (f->of)
        mailnames_follow(f->old, keys, f->now, f->now->keys, f->of);
    free(keys);
}

static void
clear_follow(void *owner)
{
    struct follow *f = owner;

    free(f->of);
    mailnames_drop(f->old);
    mailnames_drop(f->now);
    f->of = NULL;
    f->old = f->now = NULL;
}

/* The numbers whose entry is `what`. */
static void
push_those(lua_State *L, const struct maillist *l, uint32_t what)
{
    lua_Integer n = 0;

    lua_newtable(L);
    for (size_t i = 0; i < l->followed; i++)
        if (l->of[i] == what) {
            lua_pushinteger(L, (lua_Integer)i + 1);
            lua_rawseti(L, -2, ++n);
        }
}

static int
finish_follow(lua_State *L, void *owner)
{
    struct follow *f = owner;
    struct maillist *l;

    lua_getiuservalue(L, -1, 1);
    l = maillist_check(L, -1);
    if (!f->of)
        return luaL_error(L, "out of memory");
    free(l->of);
    l->of = f->of;
    l->followed = f->old->count;
    f->of = NULL;
    push_those(L, l, 0);
    push_those(L, l, MAILNAMES_SEVERAL);
    return 2;
}

static int
l_follow_gc(lua_State *L)
{
    offload_collect(&((struct follow *)luaL_checkudata(L, 1, FOLLOW))->off);
    return 0;
}

static int
l_follow(lua_State *L)
{
    struct maillist *l = maillist_check(L, 1), *now = maillist_check(L, 2);
    struct follow *f;

    luaL_argcheck(L, now->names->keys, 2, "a list of names only expected");
    l->serves = false; /* the files may be called otherwise */
    f = lua_newuserdatauv(L, sizeof *f, 1);
    *f = (struct follow){
        .off = {.work = work_follow, .finish = finish_follow, .clear = clear_follow, .owner = f},
        .old = l->names,
        .now = now->names,
    };
    mailnames_hold(f->old);
    mailnames_hold(f->now);
    luaL_setmetatable(L, FOLLOW);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    return offload_run(L, &f->off, "popd.maildir");
}

void
mailread_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {
        {"scan", l_scan},         {"keep", l_keep},     {"is_current", l_is_current},
        {"identity", l_identity}, {"follow", l_follow}, {NULL, NULL}};

    class_new(L, SCAN, NULL, l_scan_gc);
    class_new(L, FOLLOW, NULL, l_follow_gc);
    offload_push_upvalues(L, tasks, pool);
    luaL_setfuncs(L, functions, 2);
}
