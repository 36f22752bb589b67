#include "signals.h"

#include "log.h"
#include "tasklua.h"

#include <lauxlib.h>
#include <signal.h>
#include <unistd.h>

/* How often each signal came. */
static volatile sig_atomic_t signals_seen[NSIG];

/* The first of a kind is the loop's affair.  The second ends the process, also
 * one whose loop does not turn any more because a script is busy or blocked. */
static void
on_process_signal(int number)
{
    if (signals_seen[number]++)
        _exit(128 + number);
    ev_feed_signal(number);
}

static void
take_signal(int number)
{
    struct sigaction action = {.sa_handler = on_process_signal, .sa_flags = SA_RESTART};

    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL); /* in place of libev's, which only feeds */
}

struct signal {
    ev_signal watcher;
    struct tasks *tasks; /* borrowed */
};

static int
push_handler(lua_State *L, void *owner)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, owner);
    lua_getiuservalue(L, -1, 1);
    lua_remove(L, -2);
    return 0;
}

static void
end_handler(lua_State *L, enum task_status status, void *owner)
{
    (void)owner;
    if (status != TASK_DONE)
        log_event(LOG_ERROR, "a signal's function failed", "error", task_error_text(L), NULL);
}

static void
on_signal(struct ev_loop *ev, ev_signal *watcher, int events)
{
    static const struct task_limits limits = {.ours = true};
    struct signal *s = watcher->data;

    (void)ev, (void)events;
    task_start(s->tasks, &limits, 0, push_handler, end_handler, s, NULL);
}

/* signal(number, f [, each]): f runs as a task at the first such signal, and the
 * second ends the process; or, if `each` is true, f runs at every one.  For the
 * program, never for the module: signals belong to the process. */
static int
l_signal(lua_State *L)
{
    struct tasks *ts = tasklua_check(L);
    int number = (int)luaL_checkinteger(L, 1);
    struct signal *s;

    luaL_argcheck(L, number > 0 && number < NSIG, 1, "a signal's number expected");
    luaL_checktype(L, 2, LUA_TFUNCTION);
    s = lua_newuserdatauv(L, sizeof *s, 1);
    s->tasks = ts;
    ev_signal_init(&s->watcher, on_signal, number);
    s->watcher.data = s;
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s); /* for the rest of the process */
    ev_signal_start(ts->loop->ev, &s->watcher);
    ev_unref(ts->loop->ev);
    if (!lua_toboolean(L, 3))
        take_signal(number);
    return 0;
}

void
signals_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {{"signal", l_signal}, {NULL, NULL}};

    tasklua_add(L, tasks, functions);
}
