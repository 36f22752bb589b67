#include "ward.h"

#include "class.h"
#include "job.h"
#include "tasklua.h"

#include <lauxlib.h>

#define WARD "popd.ward"

/* Its user value is the job: at the end there may be no memory, and no
 * instructions, left to make one. */
struct ward {
    struct job *job; /* NULL: it was started, or disarmed */
};

/* ward(f, …) -> an object to be closed: f(…) is started when that happens, or when
 * nobody holds it any more, unless it was disarmed. */
static int
l_ward(lua_State *L)
{
    struct job *job = job_new(L, tasklua_check(L), 1);
    struct ward *w = lua_newuserdatauv(L, sizeof *w, 1);

    job->ours = true;
    *w = (struct ward){job};
    luaL_setmetatable(L, WARD);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* The registry's key is there: clearing it raises nothing. */
static int
l_disarm(lua_State *L)
{
    struct ward *w = luaL_checkudata(L, 1, WARD);

    if (w->job) {
        lua_pushnil(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, w->job);
    }
    w->job = NULL;
    return 0;
}

static int
l_ward_end(lua_State *L)
{
    struct ward *w = luaL_checkudata(L, 1, WARD);

    if (w->job && w->job->tasks->loop)
        turn_queue(&w->job->turn, w->job->tasks->loop);
    w->job = NULL;
    return 0;
}

void
ward_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {{"ward", l_ward}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"disarm", l_disarm}, {NULL, NULL}};
    static const luaL_Reg ends[] = {{"__close", l_ward_end}, {"__gc", l_ward_end}, {NULL, NULL}};

    tasklua_add(L, tasks, functions);
    class_new(L, WARD, methods, NULL);
    luaL_getmetatable(L, WARD);
    luaL_setfuncs(L, ends, 0);
    lua_pop(L, 1);
}
