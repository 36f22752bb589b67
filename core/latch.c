#include "latch.h"

#include "await.h"
#include "class.h"
#include "tasklua.h"

#include <lauxlib.h>

#define LATCH "popd.latch"

/* The registry holds it while somebody waits. */
struct latch {
    struct tasks *tasks; /* borrowed */
    struct task *task;   /* who waits, or NULL */
    struct alarm alarm;  /* the waiter's patience */
    struct turn turn;    /* lets the waiter go on */
    bool fired;
    bool blocks; /* a main chunk waits, and turns the loop */
};

static void
latch_forget(void *owner)
{
    struct latch *l = owner;
    lua_State *L = l->tasks->L;

    l->task = NULL;
    alarm_stop(&l->alarm);
    turn_cancel(&l->turn, l->tasks->loop);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, l); /* a key that is there: raises nothing */
}

static void
latch_end(struct latch *l, int (*push)(lua_State *, void *))
{
    struct task *t = l->task;

    latch_forget(l);
    task_resume(t, push, NULL);
}

static void
on_fired(void *owner)
{
    struct latch *l = owner;

    if (l->task) /* else a main chunk, which looks by itself */
        latch_end(l, await_push_true);
}

static void
on_late(void *owner)
{
    latch_end(owner, await_push_timeout);
}

/* latch() -> an object with wait and fire */
static int
l_latch(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);
    struct latch *l = lua_newuserdatauv(L, sizeof *l, 0);

    *l = (struct latch){.tasks = ts, .turn = {.run = on_fired, .owner = l}};
    alarm_init(&l->alarm, ts->loop, on_late, l);
    luaL_setmetatable(L, LATCH);
    return 1;
}

/* In a main chunk others come to fire it only if the loop turns. */
static int
block_on_latch(lua_State *L, struct latch *l, double seconds)
{
    double until = loop_now() + seconds;
    bool any = true;

    l->blocks = true;
    while (!l->fired && any && (seconds < 0 || loop_now() < until))
        any = loop_step(l->tasks->loop, seconds < 0 ? -1 : until - loop_now());
    l->blocks = false;
    turn_cancel(&l->turn, l->tasks->loop);
    return l->fired ? await_push_true(L, NULL) : await_push_timeout(L, NULL);
}

/* latch:wait([seconds]) -> true, or nil and "timeout"; one at a time waits */
static int
l_latch_wait(lua_State *L)
{
    struct latch *l = luaL_checkudata(L, 1, LATCH);
    double seconds = lua_isnoneornil(L, 2) ? -1 : await_check_seconds(L, 2);

    if (!l->tasks->loop)
        return luaL_error(L, "popd is closed: the Lua state ends");
    if (l->task)
        return luaL_error(L, "another callback waits for this already");
    if (l->fired)
        return await_push_true(L, NULL);
    if (!l->tasks->running && !l->tasks->loop->running)
        return block_on_latch(L, l, seconds);
    l->task = task_running(L, l->tasks, "latch");
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, l);
    if (seconds >= 0)
        alarm_set(&l->alarm, seconds);
    return task_wait(L, l->task, latch_forget, l);
}

/* latch:fire(): who waits goes on at the loop's next turn; who waits later, at once */
static int
l_latch_fire(lua_State *L)
{
    struct latch *l = luaL_checkudata(L, 1, LATCH);

    l->fired = true;
    if ((l->task || l->blocks) && l->tasks->loop)
        turn_queue(&l->turn, l->tasks->loop);
    return 0;
}

void
latch_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {{"latch", l_latch}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"wait", l_latch_wait}, {"fire", l_latch_fire}, {NULL, NULL}};

    tasklua_add(L, tasks, functions);
    class_new(L, LATCH, methods, NULL);
}
