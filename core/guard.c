#include "guard.h"

#include "log.h"

#include <lauxlib.h>

/* Instructions without a chance for others, of a task that has no budget. */
#define STUCK_MAX 100000000

/* Instructions between two looks: about a millisecond of Lua. */
#define LOOK_EVERY 100000

static const char guards_key;

const char *const guard_expired = "the callback's time is up (callback_timeout)";
static const char *const stuck_text =
    "the function ran too long where it cannot be paused (in a coroutine of its own, "
    "table.sort or the like): the server stood still meanwhile";
static const char *const budget_text = "the callback used up its instructions (callback_instructions)";

void
guards_open(struct guards *gs, lua_State *L, bool (*may_yield)(void *, lua_State *), void *owner)
{
    *gs = (struct guards){.may_yield = may_yield, .owner = owner};
    lua_pushlightuserdata(L, gs);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &guards_key);
}

/* By the registry: lua_getextraspace is the host's.  Reading a light key
 * allocates nothing. */
static struct guards *
find_guards(lua_State *L)
{
    struct guards *gs;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &guards_key);
    gs = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return gs;
}

void
guard_init(struct guard *g, struct loop *loop, void (*ring)(void *), void *owner)
{
    g->started = loop_now();
    alarm_init(&g->deadline, loop, ring, owner);
}

void
guard_clear(struct guard *g)
{
    alarm_stop(&g->deadline);
}

/* Says where a callback was when it was stopped: the error that stops it may be
 * caught on its way, and end somewhere else. */
static void
log_place(lua_State *L)
{
    luaL_traceback(L, L, NULL, 0);
    log_event(LOG_ERROR, "a callback is stopped: it used up its instructions", "where", lua_tostring(L, -1),
              NULL);
    lua_pop(L, 1);
}

static void
on_hook(lua_State *L, lua_Debug *ar)
{
    struct guards *gs = find_guards(L);
    struct guard *g = gs ? gs->running : NULL;

    (void)ar;
    if (!g)
        return;
    g->spent += (uint64_t)lua_gethookcount(L);
    g->stuck += (uint64_t)lua_gethookcount(L);
    if (!g->why && g->instructions && g->spent > g->instructions) {
        g->why = budget_text;
        log_place(L);
    } else if (!g->why && !g->instructions && g->stuck > STUCK_MAX) {
        g->why = stuck_text;
        log_place(L);
    }
    if (g->why) { /* from now on at every instruction: a pcall in a loop does not survive that */
        lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);
        luaL_error(L, "%s", g->why);
    }
    if (lua_gethookcount(L) != LOOK_EVERY) /* left so by a callback that was stopped */
        guard_watch(L);
    if (gs->may_yield(gs->owner, L)) {
        g->stuck = 0;
        lua_yield(L, 0);
    }
}

void
guard_watch(lua_State *co)
{
    lua_sethook(co, on_hook, LUA_MASKCOUNT, LOOK_EVERY);
}

void
guard_adopt(struct guards *gs, lua_State *co)
{
    if (gs->running && lua_gethook(co) != on_hook)
        guard_watch(co);
}

void
guard_wait(struct guard *g)
{
    double left;

    if (g->seconds <= 0 || g->deadline.link || g->why)
        return;
    left = g->started + g->seconds - loop_now();
    alarm_set(&g->deadline, left > 0 ? left : 0);
}

void
guard_extend(struct guard *g, double seconds)
{
    g->started += seconds;
    alarm_stop(&g->deadline);
    guard_wait(g);
}

/* A fresh deadline and budget. */
static void
restart(struct guard *g, lua_State *L)
{
    g->started = loop_now();
    g->spent = 0;
    g->why = NULL;
    alarm_stop(&g->deadline);
    guard_watch(L);
}

static int
after_call(lua_State *L, int status, lua_KContext context)
{
    struct guards *gs = find_guards(L);

    (void)context;
    if (gs->running)
        restart(gs->running, L);
    lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
    lua_replace(L, 1);
    return lua_gettop(L);
}

int
guard_call(lua_State *L)
{
    struct guards *gs = find_guards(L);
    int n = lua_gettop(L);

    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (gs->running)
        restart(gs->running, L);
    lua_rotate(L, 1, -1); /* handler, arguments …, function */
    lua_insert(L, 2);     /* handler, function, arguments … */
    return after_call(L, lua_pcallk(L, n - 2, LUA_MULTRET, 1, 0, after_call), 0);
}
