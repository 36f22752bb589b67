#include "mailchore.h"

#include "fs.h"
#include "maillist.h"
#include "mailscan.h"
#include "offload.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    struct maillist *l = maillist_check(L, 1);
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
mailchore_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {{"remember", l_remember}, {"sweep", l_sweep}, {NULL, NULL}};

    offload_push_upvalues(L, tasks, pool);
    luaL_setfuncs(L, functions, 2);
}
