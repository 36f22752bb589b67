#include "job.h"

#include "await.h"
#include "class.h"
#include "fault.h"
#include "tasklua.h"

#include <lauxlib.h>

#define JOB "popd.job"

static const char *const cancelled_text = "cancelled";

/* Called protected. */
static int
push_job(lua_State *L, void *owner)
{
    struct job *job = owner;
    int n;

    lua_rawgetp(L, LUA_REGISTRYINDEX, job);
    lua_getiuservalue(L, -1, 1);
    lua_remove(L, -2);
    lua_getfield(L, -1, "n");
    n = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, n + 1, "too many arguments");
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, -i, i);
    lua_remove(L, -n - 1);
    return n - 1;
}

static void
end_job(lua_State *L, enum task_status status, void *owner)
{
    struct job *job = owner;

    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, job);
    if (status == TASK_DONE || job->cancelled)
        return;
    lua_settop(L, 1);
    lua_pushnil(L);
    fault_tell(L, "a spawned function failed", NULL);
}

static void
start_job(void *owner)
{
    struct job *job = owner;
    struct task_limits limits = {.ours = job->ours};

    task_start(job->tasks, &limits, 0, push_job, end_job, job, &job->task);
}

struct job *
job_new(lua_State *L, struct tasks *ts, int first)
{
    int n = lua_gettop(L) - first + 1;
    struct job *job;

    luaL_checktype(L, first, LUA_TFUNCTION);
    job = lua_newuserdatauv(L, sizeof *job, 1);
    *job = (struct job){.tasks = ts, .turn = {.run = start_job, .owner = job}};
    alarm_init(&job->alarm, ts->loop, start_job, job);
    luaL_setmetatable(L, JOB);
    lua_createtable(L, n, 1);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, first + i - 1);
        lua_rawseti(L, -2, i);
    }
    lua_pushinteger(L, n);
    lua_setfield(L, -2, "n");
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, job);
    return job;
}

/* spawn(f, …) -> a handle; f starts at the loop's next turn */
static int
l_spawn(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);

    turn_queue(&job_new(L, ts, 1)->turn, ts->loop);
    return 1;
}

/* job(f, …): the same for the Lua part, whose own code no cap on memory hinders. */
static int
l_job(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);
    struct job *job = job_new(L, ts, 1);

    job->ours = true;
    turn_queue(&job->turn, ts->loop);
    return 1;
}

/* later(seconds, f, …) -> a handle; f starts after so long.  Until then it costs no
 * coroutine, and alone it keeps the loop not going. */
static int
l_later(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);
    double seconds = await_check_seconds(L, 1);
    struct job *job = job_new(L, ts, 2);

    job->ours = job->alarm.weak = true;
    alarm_set(&job->alarm, seconds);
    return 1;
}

/* handle:cancel(): what has not started never does; what waits is told so by
 * an error where it waits.  A second cancel does nothing. */
static int
l_cancel(lua_State *L)
{
    struct job *job = luaL_checkudata(L, 1, JOB);

    if (job->cancelled)
        return 0;
    job->cancelled = true;
    if (job->turn.link || job->alarm.link) {
        turn_cancel(&job->turn, job->tasks->loop);
        alarm_stop(&job->alarm);
        lua_pushnil(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, job);
    } else if (job->task) {
        task_cancel(job->task, cancelled_text);
    }
    return 0;
}

void
job_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {
        {"spawn", l_spawn},
        {"job", l_job},
        {"later", l_later},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {{"cancel", l_cancel}, {NULL, NULL}};

    tasklua_add(L, tasks, functions);
    class_new(L, JOB, methods, NULL);
}
