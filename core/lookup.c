#include "lookup.h"

#include "await.h"
#include "class.h"
#include "dial.h"
#include "offload.h"
#include "resolve.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#define LOOKUP "popd.lookup"

/* A call of resolve, a userdata.  The registry holds it while a thread may be at it. */
struct lookup {
    struct resolve *resolve; /* ours, or the pool's while it was given; NULL: none */
    bool given;
    struct tasks *tasks; /* borrowed */
    struct task *task;   /* who waits; borrowed */
    struct alarm alarm;  /* the waiter's patience */
};

static int
push_failure(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static void
lookup_clear(struct lookup *l)
{
    if (!l->given)
        resolve_free(l->resolve);
    l->resolve = NULL;
}

/* While the pool has it, it is freed where the pool gives it up. */
static int
l_lookup_gc(lua_State *L)
{
    struct lookup *l = luaL_checkudata(L, 1, LOOKUP);

    if (!l->given)
        lookup_clear(l);
    return 0;
}

/* Clearing a key that is there raises nothing. */
static void
let_go(lua_State *L, struct lookup *l)
{
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, l);
}

static struct lookup *
take_back(void *resolve)
{
    struct lookup *l = ((struct resolve *)resolve)->asker;

    l->given = false;
    return l;
}

static void
on_found(void *resolve)
{
    struct lookup *l = take_back(resolve);

    alarm_stop(&l->alarm);
    task_resume(l->task, task_push_none, NULL);
}

static void
on_dropped(void *resolve)
{
    struct lookup *l = take_back(resolve);

    lookup_clear(l);
    let_go(l->tasks->L, l);
}

static void
give_up(void *owner)
{
    struct lookup *l = owner;

    alarm_stop(&l->alarm);
    pool_cancel(&l->resolve->job);
}

static void
on_late(void *owner)
{
    struct lookup *l = owner;
    struct task *t = l->task;

    give_up(l); /* which may free it */
    task_resume(t, await_push_timeout, NULL);
}

static int
push_addresses(lua_State *L, struct lookup *l)
{
    const struct resolve *r = l->resolve;

    if (r->why)
        return push_failure(L, r->why);
    lua_createtable(L, (int)r->count, 0);
    for (size_t i = 0; i < r->count; i++) {
        lua_pushstring(L, r->address[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lookup_clear(l);
    return 1;
}

static int
finish_lookup(lua_State *L, void *owner)
{
    struct lookup *l = owner;

    if (lua_gettop(L) > 1) /* on_late's */
        return lua_gettop(L) - 1;
    lua_rawgetp(L, LUA_REGISTRYINDEX, l);
    let_go(L, l);
    return push_addresses(L, l);
}

static struct lookup *
new_lookup(lua_State *L, struct tasks *ts, const char *name, size_t len, bool *bad)
{
    struct lookup *l = lua_newuserdatauv(L, sizeof *l, 0);

    *l = (struct lookup){.tasks = ts};
    luaL_setmetatable(L, LOOKUP);
    l->resolve = resolve_new(name, len, bad);
    return l->resolve ? l : NULL;
}

/* Has the pool work on it; the lookup is on top of the stack. */
static int
start_lookup(lua_State *L, struct lookup *l, struct pool *names, double seconds)
{
    const char *why;

    l->task = task_running(L, l->tasks, "socket");
    l->resolve->asker = l;
    l->resolve->job.done = on_found;
    l->resolve->job.drop = on_dropped;
    alarm_init(&l->alarm, l->tasks->loop, on_late, l);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, l);
    l->given = pool_start(names, &l->resolve->job, &why);
    if (!l->given) {
        let_go(L, l);
        return push_failure(L, why);
    }
    if (seconds >= 0)
        alarm_set(&l->alarm, seconds);
    return task_wait_then(L, l->task, give_up, finish_lookup, l);
}

/* resolve(name [, seconds]) -> an array of addresses, or nil and why */
static int
l_resolve(lua_State *L)
{
    struct tasks *ts = lua_touserdata(L, lua_upvalueindex(1));
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    lua_Number seconds = luaL_optnumber(L, 2, -1);
    bool bad;
    struct lookup *l = new_lookup(L, ts, name, len, &bad);

    if (!l)
        return push_failure(L, bad ? "that is no host's name" : "out of memory");
    if (!ts->loop)
        return luaL_error(L, "popd is closed: the Lua state ends");
    if (dial_family_of(name) != DIAL_ANY || (!ts->running && !ts->loop->running)) {
        resolve_work(l->resolve); /* an address asks nobody; a main chunk may block */
        return push_addresses(L, l);
    }
    return start_lookup(L, l, lua_touserdata(L, lua_upvalueindex(2)), seconds);
}

/* hostname() -> this machine's name */
static int
l_hostname(lua_State *L)
{
    char name[RESOLVE_NAME];

    if (gethostname(name, sizeof name) != 0)
        return push_failure(L, strerror(errno));
    name[sizeof name - 1] = '\0';
    lua_pushstring(L, name);
    return 1;
}

void
lookup_open(lua_State *L, struct tasks *tasks, struct pool *names)
{
    static const luaL_Reg functions[] = {{"resolve", l_resolve}, {"hostname", l_hostname}, {NULL, NULL}};

    offload_push_upvalues(L, tasks, names);
    luaL_setfuncs(L, functions, 2);
    class_new(L, LOOKUP, NULL, l_lookup_gc);
}
