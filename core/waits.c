#include "waits.h"

#include <lauxlib.h>

static const char wait_token;

const char *const task_swallowed = "a coroutine of this callback waited, but what resumed it did not "
                                   "pass that on: it uses a coroutine.resume or "
                                   "wrap that was taken before popd was loaded; load popd first";

void *
task_token(void)
{
    return (void *)&wait_token;
}

struct task *
task_running(lua_State *L, struct tasks *ts, const char *what)
{
    if (!ts->running)
        luaL_error(L, "popd.%s: there is no callback here that could wait", what);
    if (!lua_isyieldable(L))
        luaL_error(
            L,
            "popd.%s cannot wait here: inside table.sort, string.gsub, require, a finalizer and other C "
            "functions Lua cannot be paused; do the waiting before and pass the result in",
            what);
    if (ts->running->waiting) { /* its code goes on, so nobody will ever pass that wait's end on */
        task_unwait(ts->running);
        luaL_error(L, "%s", task_swallowed);
    }
    if (ts->running->guard.why) {
        guard_note(L, &ts->running->guard);
        luaL_error(L, "%s", ts->running->guard.why);
    }
    return ts->running;
}

/* What comes down to the waiting function: true and its results, or false and
 * the reason to raise. */
static int
after_wait(lua_State *L, int status, lua_KContext context)
{
    struct tasks *ts = tasks_find(L);
    struct task *t = (struct task *)context; /* not looked into before it is known to be there */

    (void)status;
    if (ts->running != t || t->waiting)
        return luaL_error(L, "this coroutine belongs to a callback that waits; nobody else may resume it");
    if (!lua_toboolean(L, 1)) {
        guard_note(L, &t->guard);
        lua_settop(L, 2);
        luaL_where(L, 1);
        lua_insert(L, -2);
        if (lua_type(L, -1) == LUA_TSTRING)
            lua_concat(L, 2);
        return lua_error(L);
    }
    if (t->finish)
        return t->finish(L, t->waiter);
    return lua_gettop(L) - 1;
}

int
task_push_none(lua_State *L, void *owner)
{
    (void)L, (void)owner;
    return 0;
}

int
task_wait(lua_State *L, struct task *t, void (*cancel)(void *), void *owner)
{
    return task_wait_then(L, t, cancel, NULL, owner);
}

int
task_wait_then(lua_State *L, struct task *t, void (*cancel)(void *), int (*finish)(lua_State *, void *),
               void *owner)
{
    t->waiting = true;
    t->cancel = cancel;
    t->finish = finish;
    t->waiter = owner;
    lua_settop(L, 0);
    lua_pushlightuserdata(L, task_token());
    return lua_yieldk(L, 1, (lua_KContext)t, after_wait);
}

void
task_unwait(struct task *t)
{
    void (*cancel)(void *) = t->cancel;

    if (!t->waiting)
        return;
    t->waiting = false;
    t->cancel = NULL;
    cancel(t->waiter);
}

void
task_resume(struct task *t, int (*push)(lua_State *, void *), void *owner)
{
    int n;

    t->waiting = false;
    t->cancel = NULL;
    if (!lua_checkstack(t->co, 8))
        return;
    lua_pushboolean(t->co, 1);
    n = push(t->co, owner);
    task_run(t, n + 1);
}
