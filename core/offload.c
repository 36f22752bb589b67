#include "offload.h"

#include <lauxlib.h>

/* It is Lua's again.  Clearing a key that is there raises nothing. */
static void
let_go(lua_State *L, struct offload *o)
{
    o->given = false;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, o);
}

static void
on_done(void *owner)
{
    struct offload *o = owner;

    task_resume(o->task, task_push_none, NULL);
}

static void
on_drop(void *owner)
{
    struct offload *o = owner;

    o->clear(o->owner);
    let_go(o->tasks->L, o);
}

static void
give_up(void *owner)
{
    struct offload *o = owner;

    pool_cancel(&o->job);
}

static void
work(void *owner)
{
    struct offload *o = owner;

    o->work(o->owner);
}

/* With the owner on the stack, which keeps it. */
static int
finish(lua_State *L, struct offload *o)
{
    int n = o->finish(L, o->owner);

    o->clear(o->owner);
    return n;
}

static int
finish_wait(lua_State *L, void *owner)
{
    struct offload *o = owner;

    lua_rawgetp(L, LUA_REGISTRYINDEX, o);
    let_go(L, o);
    return finish(L, o);
}

static bool
can_wait(lua_State *L, const struct tasks *ts)
{
    return (ts->running || ts->loop->running) && lua_isyieldable(L);
}

void
offload_push_upvalues(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    lua_pushlightuserdata(L, tasks);
    lua_pushlightuserdata(L, pool);
}

int
offload_run(lua_State *L, struct offload *o, const char *what)
{
    struct pool *pool = lua_touserdata(L, lua_upvalueindex(2));
    const char *why;

    o->tasks = lua_touserdata(L, lua_upvalueindex(1));
    if (!o->tasks->loop || !can_wait(L, o->tasks)) {
        o->work(o->owner);
        return finish(L, o);
    }
    o->task = task_running(L, o->tasks, what);
    o->job = (struct pool_job){.work = work, .done = on_done, .drop = on_drop, .owner = o};
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, o);
    o->given = true;
    if (pool_start(pool, &o->job, &why))
        return task_wait_then(L, o->task, give_up, finish_wait, o);
    let_go(L, o);
    return luaL_error(L, "%s", why);
}

void
offload_collect(struct offload *o)
{
    if (!o->given) /* at the state's end a thread may be at it: then on_drop clears */
        o->clear(o->owner);
}

/* Aside ------------------------------------------------------------------- */

static void
work_aside(void *owner)
{
    struct aside *e = owner;

    e->work(e->owner);
}

static void
end_aside(void *owner)
{
    struct aside *e = owner;

    e->end(e->owner);
}

void
aside_run(struct aside *e, struct tasks *tasks, struct pool *pool)
{
    const char *why;

    e->job = (struct pool_job){.work = work_aside, .done = end_aside, .drop = end_aside, .owner = e};
    if (!tasks->loop || !tasks->loop->running) {
        e->work(e->owner);
        e->end(e->owner);
    } else if (!pool_start(pool, &e->job, &why)) {
        e->end(e->owner);
    }
}
