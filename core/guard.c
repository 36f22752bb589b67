#include "guard.h"

#include <lauxlib.h>
#include <string.h>

/* Instructions without a chance for others, of a task that has no budget. */
#define STUCK_MAX 100000000

/* Instructions between two looks.  In a coroutine of the script's fewer: it
 * cannot be called sooner when memory was refused. */
#define LOOK_EVERY 5000
#define LOOK_INNER 1000

/* Instructions after which others get their turn: about a millisecond of Lua. */
#define YIELD_EVERY 100000

/* Instructions that the code has to clean up, from the first time that it is
 * stopped to the second; then it has none.  Where memory lacks few: each may
 * mean a collection. */
static const int grace[] = {10000, 10000, 10000, 100};

/* Calls inside each other.  An error that is caught costs as much as there are,
 * so many that each catch one would stop everybody; no callback needs so many. */
#define DEPTH_MAX 5000

static const char guards_key;

static const char *const expired_text = "the callback's time is up (callback_timeout)";
static const char *const stuck_text =
    "the function ran too long where it cannot be paused (in a coroutine of its own, "
    "table.sort or the like): the server stood still meanwhile";
static const char *const deep_text = "the callback's calls are nested too deep (5000)";
static const char *const budget_text = "the callback used up its instructions (callback_instructions)";

static const char *const trips[] = {NULL, "deadline", "instructions", "memory"};

static void on_refused(void *owner, size_t growth, bool final);
static void on_hook(lua_State *L, lua_Debug *ar);

void
guards_keep_text(lua_State *L, const char *text)
{
    lua_pushstring(L, text);
    lua_rawsetp(L, LUA_REGISTRYINDEX, text);
}

void
guards_open(struct guards *gs, lua_State *L, bool (*may_yield)(void *, lua_State *), void *owner)
{
    *gs = (struct guards){.may_yield = may_yield, .owner = owner};
    gs->memory.refused = on_refused;
    gs->memory.owner = gs;
    guards_keep_text(L, expired_text);
    guards_keep_text(L, stuck_text);
    guards_keep_text(L, budget_text);
    guards_keep_text(L, deep_text);
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

struct guard *
guards_run(struct guards *gs, struct guard *g)
{
    struct guard *before = gs->running;

    gs->running = g;
    gs->memory.strict = g && g->capped;
    gs->memory.again = false;
    return before;
}

/* Of the one whose code runs. */
static void
set_capped(struct guard *g, bool capped)
{
    g->capped = capped;
    g->guards->memory.strict = capped;
}

void
guard_init(struct guard *g, struct guards *gs, struct loop *loop, void (*ring)(void *), void *owner)
{
    g->guards = gs;
    g->capped = !g->ours;
    g->started = loop_now();
    alarm_init(&g->deadline, loop, ring, owner);
}

void
guard_stop(struct guard *g)
{
    alarm_stop(&g->deadline);
}

void
guard_clear(struct guard *g, lua_State *L)
{
    if (!g->placed)
        return;
    g->placed = false;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, g); /* a key that is there: raises nothing */
}

static void
trip(struct guard *g, enum guard_trip which, const char *why)
{
    g->trip = which;
    g->why = why;
}

const char *
guard_expire(struct guard *g)
{
    trip(g, GUARD_DEADLINE, expired_text);
    return g->why;
}

/* Memory */

/* What runs is looked at before its next instruction, if it is the task's own
 * coroutine.  (Hooks may be set at any time, also from inside Lua.) */
static void
on_refused(void *owner, size_t growth, bool final)
{
    struct guard *g = ((struct guards *)owner)->running;

    if (growth > g->needed)
        g->needed = growth;
    g->final = g->final || final;
    if (g->co)
        lua_sethook(g->co, on_hook, LUA_MASKCOUNT, 1);
}

/* Whether what was refused could not be had, even after a collection. */
static bool
lacks_memory(lua_State *L, struct guard *g)
{
    size_t needed = g->needed;
    bool final = g->final;

    g->needed = 0;
    g->final = false;
    return needed && (final || !memory_fits(&g->guards->memory, L, needed));
}

/* Looking */

void
guard_note(lua_State *L, struct guard *g)
{
    bool capped = g->capped;

    if (!g->trip || g->placed)
        return;
    set_capped(g, false);
    luaL_traceback(L, L, g->why, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, g);
    g->placed = true;
    set_capped(g, capped);
}

void
guard_push(lua_State *L, const struct guard *g)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, g->placed ? (const void *)g : g->why);
}

static bool
is_deep(lua_State *L)
{
    lua_Debug call;

    return lua_getstack(L, DEPTH_MAX, &call) == 1;
}

static void
look(lua_State *L, struct guard *g)
{
    if (g->why)
        return;
    if (g->capped)
        memory_tidy(&g->guards->memory, L);
    if (lacks_memory(L, g))
        trip(g, GUARD_MEMORY, g->guards->memory.why);
    else if (g->instructions && g->spent > g->instructions)
        trip(g, GUARD_INSTRUCTIONS, budget_text);
    else if (!g->instructions && g->stuck > STUCK_MAX)
        trip(g, GUARD_INSTRUCTIONS, stuck_text);
    else if (is_deep(L))
        trip(g, GUARD_INSTRUCTIONS, deep_text);
    else if (g->seconds > 0 && loop_now() - g->started > g->seconds)
        guard_expire(g); /* where it cannot be paused no alarm rings */
}

/* Lua goes through all calls for it, so not for nothing. */
static void
set_count(lua_State *L, int count)
{
    if (lua_gethookcount(L) != count)
        lua_sethook(L, on_hook, LUA_MASKCOUNT, count);
}

static void
on_hook(lua_State *L, lua_Debug *ar)
{
    struct guards *gs = find_guards(L);
    struct guard *g = gs ? gs->running : NULL;
    int usual = g && L == g->co ? LOOK_EVERY : LOOK_INNER;

    (void)ar;
    if (!g)
        return;
    g->spent += (uint64_t)lua_gethookcount(L);
    g->stuck += (uint64_t)lua_gethookcount(L);
    look(L, g);
    if (g->why) { /* in the end at every instruction: a pcall in a loop does not survive that */
        set_count(L, g->stopped ? 1 : grace[g->trip]);
        g->stopped = true;
        g->struck = L;
        guard_note(L, g);
        luaL_error(L, "%s", g->why);
    }
    set_count(L, usual); /* what was stopped, or refused memory, has left another */
    if (g->stuck >= YIELD_EVERY && gs->may_yield(gs->owner, L)) {
        g->stuck = 0;
        lua_yield(L, 0);
    }
}

static void
set_hook(const struct guard *g, lua_State *co)
{
    lua_sethook(co, on_hook, LUA_MASKCOUNT, co == g->co ? LOOK_EVERY : LOOK_INNER);
}

void
guard_watch(struct guard *g, lua_State *co)
{
    g->co = co;
    set_hook(g, co);
}

void
guard_adopt(struct guards *gs, lua_State *co)
{
    if (gs->running && lua_gethook(co) != on_hook)
        lua_sethook(co, on_hook, LUA_MASKCOUNT, LOOK_INNER);
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

bool
guard_settle(lua_State *L, struct guard *g)
{
    set_capped(g, false);
    if (!g->trip && lacks_memory(L, g))
        trip(g, GUARD_MEMORY, g->guards->memory.why);
    return g->trip != GUARD_HOLDS;
}

/* One callback among several */

/* A fresh deadline and budget. */
static void
restart(lua_State *L, struct guard *g, bool capped)
{
    guard_clear(g, L);
    g->started = loop_now();
    g->spent = g->needed = 0;
    g->final = false;
    g->stopped = false;
    g->trip = GUARD_HOLDS;
    g->why = NULL;
    alarm_stop(&g->deadline);
    set_hook(g, L); /* one of the script's may end before the task does */
    set_capped(g, capped);
}

/* In place of the results at index 2 and behind. */
static void
refuse_results(lua_State *L, const struct guard *g, bool good)
{
    lua_settop(L, good ? 2 : 1);
    guard_push(L, g);
    lua_insert(L, 2);
    lua_pushstring(L, trips[g->trip]);
    lua_insert(L, 3);
}

static int
after_call(lua_State *L, int status, lua_KContext context)
{
    struct guard *g = find_guards(L)->running;
    bool good = status == LUA_OK || status == LUA_YIELD;
    bool tripped = g && guard_settle(L, g);

    (void)context;
    if (tripped)
        refuse_results(L, g, good);
    if (g)
        restart(L, g, !g->ours);
    lua_pushboolean(L, good && !tripped);
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
    memory_tidy(&gs->memory, L);
    if (gs->running)
        restart(L, gs->running, true);
    lua_rotate(L, 1, -1); /* handler, arguments …, function */
    lua_insert(L, 2);     /* handler, function, arguments … */
    return after_call(L, lua_pcallk(L, n - 2, LUA_MULTRET, 1, 0, after_call), 0);
}

/* What Lua has to know of the hook's errors */

int
guard_hooked(lua_State *L)
{
    lua_Debug ar;

    lua_pushboolean(L,
                    lua_getstack(L, 1, &ar) && lua_getinfo(L, "n", &ar) && strcmp(ar.namewhat, "hook") == 0);
    return 1;
}

int
guard_struck(lua_State *L)
{
    const struct guard *g = find_guards(L)->running;
    const lua_State *co = lua_tothread(L, 1);

    lua_pushboolean(L, g && co && g->struck == co);
    return 1;
}

/* The state's cap */

static bool
is_below(const struct memory *m, lua_State *L, size_t cap)
{
    lua_gc(L, LUA_GCCOLLECT);
    return memory_used(m, L) < cap;
}

int
guard_limit(lua_State *L)
{
    struct memory *m = &find_guards(L)->memory;
    lua_Integer cap = lua_isboolean(L, 1) ? 0 : luaL_optinteger(L, 1, -1);

    luaL_argcheck(L, lua_isnoneornil(L, 1) || (lua_isboolean(L, 1) && !lua_toboolean(L, 1)) || cap > 0, 1,
                  "octets above 0, or false for no limit, expected");
    if (cap > 0 && !is_below(m, L, (size_t)cap))
        return luaL_error(L, "popd.memory_limit: the Lua state has more than %I octets already",
                          (LUAI_UACINT)cap);
    if (cap >= 0)
        memory_limit(m, L, (size_t)cap);
    lua_pushinteger(L, (lua_Integer)memory_used(m, L));
    return 1;
}
