#include "maillearn.h"

#include "class.h"
#include "fs.h"
#include "maillist.h"
#include "mailscan.h"
#include "offload.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEASURE "popd.mailmeasure"

/* What is counted at once: so many files, or octets. */
#define BATCH_FILES 64
#define BATCH_OCTETS (4 << 20)

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
    struct maillist *l = maillist_check(L, 1);

    learn(l, maillist_check_number(L, 2, l->names->count), MAILSIZE_UNKNOWN, 0);
    l->wrong++;
    return 0;
}

static int
l_lessons(lua_State *L)
{
    const struct maillist *l = maillist_check(L, 1);

    lua_pushinteger(L, (lua_Integer)l->learned_count);
    lua_pushinteger(L, (lua_Integer)l->cost);
    lua_pushinteger(L, (lua_Integer)l->stale);
    lua_pushboolean(L, l->wrong > 0);
    return 4;
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
    l = maillist_check(L, -1);
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
    struct maillist *l = maillist_check(L, 1);
    const struct maillist *now = lua_isnil(L, 2) ? NULL : maillist_check(L, 2);
    const char *dir = fs_check_path(L, 3);
    size_t n = maillist_check_number(L, 4, l->names->count);
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

void
maillearn_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {
        {"measure", l_measure}, {"forget", l_forget}, {"lessons", l_lessons}, {NULL, NULL}};

    class_new(L, MEASURE, NULL, l_measure_gc);
    offload_push_upvalues(L, tasks, pool);
    luaL_setfuncs(L, functions, 2);
}
