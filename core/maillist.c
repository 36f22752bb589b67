#include "maillist.h"

#include "class.h"
#include "fs.h"
#include "mailscan.h"
#include "offload.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define LIST "popd.maillist"
#define SCAN "popd.mailscan"
#define MEASURE "popd.mailmeasure"
#define FOLLOW "popd.mailfollow"

/* What is counted at once: so many files, or octets. */
#define BATCH_FILES 64
#define BATCH_OCTETS (4 << 20)

struct maillist {
    struct mailnames *names; /* held */
    uint32_t *of;            /* ours; rows by another list's numbers, see mailnames_follow; NULL: its own */
    size_t followed;         /* of `of` */
    struct mailindex_entry *learned; /* ours */
    size_t learned_count, room;
    size_t stale, wrong; /* of the index */
    uint64_t cost;       /* octets that were read */
};

static struct maillist *
check_list(lua_State *L, int arg)
{
    struct maillist *l = luaL_checkudata(L, arg, LIST);

    luaL_argcheck(L, l->names, arg, "the list is closed");
    return l;
}

/* A message's row, 0 and up; raises where there is none. */
static size_t
check_number(lua_State *L, int arg, size_t count)
{
    lua_Integer n = luaL_checkinteger(L, arg);

    luaL_argcheck(L, n >= 1 && (lua_Unsigned)n <= count, arg, "no such message");
    return (size_t)n - 1;
}

static struct mailname *
check_row(lua_State *L)
{
    struct maillist *l = check_list(L, 1);

    return &l->names->rows[check_number(L, 2, l->names->count)];
}

/* Lua's collector does not know how much hangs on a list: who made it closes it. */
static int
l_close(lua_State *L)
{
    struct maillist *l = luaL_checkudata(L, 1, LIST);

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

/* What was found becomes the list's.  Inodes tell files that are to be counted. */
static void
take_scan(struct maillist *l, struct mailscan *s)
{
    *l = (struct maillist){
        .names = s->names,
        .learned = s->learned,
        .learned_count = s->learned_count,
        .room = s->learned_count,
        .stale = s->stale,
        .wrong = s->wrong,
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
    struct maillist *l;

    if (scan->scan.code)
        return fail_scan(L, &scan->scan);
    l = lua_newuserdatauv(L, sizeof *l, 0);
    take_scan(l, &scan->scan);
    luaL_setmetatable(L, LIST);
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
    const struct maillist *l = check_list(L, 1);
    size_t i = check_number(L, 2, l->of ? l->followed : l->names->count);

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

    lua_pushlstring(L, mailname_text(check_list(L, 1)->names, row), row->base);
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
    push_uid(L, check_list(L, 1)->names, check_row(L));
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

static int
push_all(lua_State *L, void (*push)(lua_State *, const struct mailnames *, const struct mailname *))
{
    const struct mailnames *m = check_list(L, 1)->names;

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
    const struct mailnames *m = check_list(L, 1)->names;
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
    const struct mailnames *m = check_list(L, 1)->names;
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

/* Changing it --------------------------------------------------------------- */

static struct maillist *
check_open(lua_State *L)
{
    struct maillist *l = check_list(L, 1);

    luaL_argcheck(L, !l->names->lent, 1, "the session has begun");
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
        numbers[i - 1] = (uint32_t)check_number(L, -1, l->names->count);
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
        from[i] = (uint32_t)check_number(L, -1, n);
        lua_pop(L, 1);
    }
    if (!mailnames_arrange(l->names, from))
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
    size_t row = check_number(L, 2, l->names->count), len;
    const char *uid = luaL_checklstring(L, 3, &len);

    if (!mailnames_set_uid(l->names, row, uid, len))
        return luaL_error(L, "that is no unique-id, or out of memory");
    return 0;
}

/* Without memory what was learned is learned again. */
static void
learn(struct maillist *l, size_t row, uint64_t size, int64_t mtime)
{
    const struct mailname *name = &l->names->rows[row];

    if (l->learned_count == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        void *more = realloc(l->learned, room * sizeof *l->learned);

        if (!more)
            return;
        l->learned = more;
        l->room = room;
    }
    l->learned[l->learned_count++] = (struct mailindex_entry){
        .hash = mailname_hash(mailname_text(l->names, name), name->base),
        .inode = l->names->inodes ? l->names->inodes[row] : 0,
        .size = size,
        .mtime = mtime,
    };
}

static int
l_forget(lua_State *L)
{
    struct maillist *l = check_list(L, 1);

    learn(l, check_number(L, 2, l->names->count), MAILSIZE_UNKNOWN, 0);
    l->wrong++;
    return 0;
}

/* measure ------------------------------------------------------------------- */

struct measured {
    uint32_t row;
    int code;
    uint64_t told;
    uint64_t inode; /* as listed */
    char *path;     /* ours */
    struct mailfile file;
};

/* Its user value is the list. */
struct measure {
    struct offload off;
    size_t count, done;
    struct measured files[BATCH_FILES];
};

static void
work_measure(void *owner)
{
    struct measure *m = owner;
    uint64_t octets = 0;

    for (; m->done < m->count && octets < BATCH_OCTETS; m->done++) {
        struct measured *f = &m->files[m->done];

        f->code = mailscan_count(f->path, f->told, &f->file);
        octets += f->code ? 0 : f->file.stored;
        if (m->done == 0 && f->file.inode != f->inode) /* such are the others, too, on some file systems */
            octets = BATCH_OCTETS;
    }
}

static void
clear_measure(void *owner)
{
    struct measure *m = owner;

    for (size_t i = 0; i < m->count; i++)
        free(m->files[i].path);
    m->count = m->done = 0;
}

/* A file that was replaced since it was listed is not remembered. */
static void
take_measured(struct maillist *l, const struct measured *f)
{
    struct mailname *row = &l->names->rows[f->row];
    uint64_t size = mailsize_pack(f->file.stored, f->file.sent);

    if (mailname_is_known(row))
        return;
    row->flags &= (uint8_t)~MAILNAME_TOLD;
    row->size = size;
    l->cost += size == f->told ? 0 : f->file.stored;
    if (size != MAILSIZE_UNKNOWN && f->inode == f->file.inode)
        learn(l, f->row, size, f->file.mtime);
}

static int
finish_measure(lua_State *L, void *owner)
{
    struct measure *m = owner;
    const struct measured *first = &m->files[0];
    struct maillist *l;

    lua_getiuservalue(L, -1, 1);
    l = check_list(L, -1);
    for (size_t i = 0; i < m->done; i++)
        if (!m->files[i].code && (i == 0 || m->files[i].inode == m->files[i].file.inode))
            take_measured(l, &m->files[i]);
    if (first->code)
        return fs_fail(L, "octets", first->path, first->code);
    lua_pushinteger(L, (lua_Integer)first->file.sent);
    lua_pushinteger(L, (lua_Integer)first->file.stored);
    return 2;
}

static int
l_measure_gc(lua_State *L)
{
    offload_collect(&((struct measure *)luaL_checkudata(L, 1, MEASURE))->off);
    return 0;
}

/* The file of a message, by the list that follows or its own; NULL: it has none. */
static const struct mailname *
current(const struct maillist *l, const struct maillist *now, size_t i)
{
    if (!now)
        return &l->names->rows[i];
    if (i >= now->followed || now->of[i] == 0 || now->of[i] == MAILNAMES_SEVERAL)
        return NULL;
    return &now->names->rows[now->of[i] - 1];
}

static char *
path_of(const char *dir, const struct mailnames *m, const struct mailname *row)
{
    const char *sub = row->flags & MAILNAME_CUR ? "cur" : "new";
    size_t room = strlen(dir) + strlen(sub) + row->len + 3;
    char *path = malloc(room);

    if (path)
        snprintf(path, room, "%s/%s/%s", dir, sub, mailname_text(m, row));
    return path;
}

static void
add_file(struct measure *m, const struct mailnames *names, size_t i, char *path)
{
    const struct mailname *row = &names->rows[i];

    if (path)
        m->files[m->count++] = (struct measured){
            .row = (uint32_t)i,
            .told = row->flags & MAILNAME_TOLD ? row->size : MAILSIZE_UNKNOWN,
            .inode = names->inodes ? names->inodes[i] : 0,
            .path = path,
        };
}

/* measure(list, now, dir, n, path): the path of n itself is told, because Lua may
 * know better */
static int
l_measure(lua_State *L)
{
    struct maillist *l = check_list(L, 1);
    const struct maillist *now = lua_isnil(L, 2) ? NULL : check_list(L, 2);
    const char *dir = fs_check_path(L, 3);
    size_t n = check_number(L, 4, l->names->count);
    struct measure *m = lua_newuserdatauv(L, sizeof *m, 1);

    *m = (struct measure){
        .off = {.work = work_measure, .finish = finish_measure, .clear = clear_measure, .owner = m}};
    luaL_setmetatable(L, MEASURE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    add_file(m, l->names, n, strdup(fs_check_path(L, 5)));
    if (!m->count)
        return luaL_error(L, "out of memory");
    for (size_t i = n + 1; i < l->names->count && m->count < BATCH_FILES; i++) {
        const struct mailname *row = mailname_is_known(&l->names->rows[i]) ? NULL : current(l, now, i);

        if (row)
            add_file(m, l->names, i, path_of(dir, now ? now->names : l->names, row));
    }
    return offload_run(L, &m->off, "popd.maildir");
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
    struct mailkey *keys = mailnames_keys(f->old);

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
    l = check_list(L, -1);
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
    const struct maillist *l = check_list(L, 1), *now = check_list(L, 2);
    struct follow *f;

    luaL_argcheck(L, now->names->keys, 2, "a list of names only expected");
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

static int
l_files_of(lua_State *L)
{
    const struct maillist *l = check_list(L, 1);
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

/* Aside ------------------------------------------------------------------- */

static int
l_lessons(lua_State *L)
{
    const struct maillist *l = check_list(L, 1);

    lua_pushinteger(L, (lua_Integer)l->learned_count);
    lua_pushinteger(L, (lua_Integer)l->cost);
    lua_pushinteger(L, (lua_Integer)l->stale);
    lua_pushboolean(L, l->wrong > 0);
    return 4;
}

struct chore {
    struct aside aside;
    char *dir;                       /* ours */
    struct mailnames *names;         /* held; NULL: it is a sweep */
    struct mailindex_entry *learned; /* ours */
    size_t learned_count;
    int64_t seconds, now;
};

static void
work_chore(void *owner)
{
    struct chore *c = owner;

    if (c->names)
        mailscan_update(c->dir, c->names, c->learned, c->learned_count);
    else
        mailscan_sweep(c->dir, c->seconds, c->now);
}

static void
end_chore(void *owner)
{
    struct chore *c = owner;

    free(c->dir);
    free(c->learned);
    mailnames_drop(c->names);
    free(c);
}

/* NULL: out of memory, and nothing is done. */
static struct chore *
new_chore(const char *dir)
{
    struct chore *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->aside = (struct aside){.work = work_chore, .end = end_chore, .owner = c};
    c->dir = strdup(dir);
    if (c->dir)
        return c;
    free(c);
    return NULL;
}

static void
run_chore(lua_State *L, struct chore *c)
{
    aside_run(&c->aside, lua_touserdata(L, lua_upvalueindex(1)), lua_touserdata(L, lua_upvalueindex(2)));
}

/* The lessons are the index's from here on. */
static int
l_remember(lua_State *L)
{
    struct maillist *l = check_list(L, 1);
    struct chore *c = new_chore(fs_check_path(L, 2));

    if (!c)
        return 0;
    c->names = l->names;
    mailnames_hold(l->names);
    c->learned = l->learned;
    c->learned_count = l->learned_count;
    l->learned = NULL;
    l->learned_count = l->room = 0;
    run_chore(L, c);
    return 0;
}

static int
l_sweep(lua_State *L)
{
    lua_Integer seconds = luaL_checkinteger(L, 2);
    struct chore *c = new_chore(fs_check_path(L, 1));

    if (!c)
        return 0;
    c->seconds = seconds;
    c->now = time(NULL);
    run_chore(L, c);
    return 0;
}

void
maillist_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {
        {"scan", l_scan},         {"count", l_count},     {"file", l_file},       {"base", l_base},
        {"uid", l_uid},           {"size", l_size},       {"sizes", l_sizes},     {"uids", l_uids},
        {"total", l_total},       {"same", l_same},       {"remove", l_remove},   {"keep_last", l_keep_last},
        {"arrange", l_arrange},   {"set_uid", l_set_uid}, {"measure", l_measure}, {"follow", l_follow},
        {"files_of", l_files_of}, {"forget", l_forget},   {"lessons", l_lessons}, {"remember", l_remember},
        {"sweep", l_sweep},       {"close", l_close},     {NULL, NULL},
    };

    class_new(L, LIST, NULL, l_close);
    class_new(L, SCAN, NULL, l_scan_gc);
    class_new(L, MEASURE, NULL, l_measure_gc);
    class_new(L, FOLLOW, NULL, l_follow_gc);
    luaL_getmetatable(L, LIST);
    lua_pushcfunction(L, l_count);
    lua_setfield(L, -2, "__len");
    lua_pop(L, 1);
    lua_createtable(L, 0, (int)(sizeof functions / sizeof *functions));
    offload_push_upvalues(L, tasks, pool);
    luaL_setfuncs(L, functions, 2);
    lua_setfield(L, -2, "mail");
}
