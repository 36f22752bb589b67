#include "await.h"

#include "class.h"
#include "fault.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define JOB "popd.job"
#define LATCH "popd.latch"
#define WARD "popd.ward"

/* One wait for time or for a descriptor, or for whichever comes first. */
struct waiter {
    struct task *task; /* who waits */
    struct loop *loop; /* borrowed */
    struct alarm alarm;
    ev_io io;
};

static struct tasks *
get_tasks(lua_State *L)
{
    struct tasks *ts = lua_touserdata(L, lua_upvalueindex(1));

    if (!ts->loop)
        luaL_error(L, "popd is closed: the Lua state ends");
    return ts;
}

static double
check_seconds(lua_State *L, int index)
{
    double seconds = luaL_checknumber(L, index);

    luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, index, "seconds from 0 to 1e9 expected");
    return seconds;
}

static void
waiter_free(void *owner)
{
    struct waiter *w = owner;

    alarm_stop(&w->alarm);
    ev_io_stop(w->loop->ev, &w->io);
    free(w);
}

static int
push_true(lua_State *L, void *owner)
{
    (void)owner;
    lua_pushboolean(L, 1);
    return 1;
}

static int
push_timeout(lua_State *L, void *owner)
{
    (void)owner;
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    return 2;
}

static void
on_slept(void *owner)
{
    struct waiter *w = owner;
    struct task *t = w->task;

    waiter_free(w);
    task_resume(t, push_true, NULL);
}

static void
on_timeout(void *owner)
{
    struct waiter *w = owner;
    struct task *t = w->task;

    waiter_free(w);
    task_resume(t, push_timeout, NULL);
}

static void
on_ready(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev, (void)events;
    on_slept(io->data);
}

static struct waiter *
new_waiter(lua_State *L, struct tasks *ts, struct task *t, void (*ring)(void *))
{
    struct waiter *w = calloc(1, sizeof *w);

    if (!w) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    w->task = t;
    w->loop = ts->loop;
    w->io.data = w;
    ev_init(&w->io, on_ready);
    alarm_init(&w->alarm, ts->loop, ring, w);
    return w;
}

static void
block(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};

    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static int
start_sleep(lua_State *L, double seconds, bool extend)
{
    struct tasks *ts = get_tasks(L);
    struct task *t;
    struct waiter *w;

    if (!ts->running && !ts->loop->running) {
        block(seconds);
        lua_pushboolean(L, 1);
        return 1;
    }
    t = task_running(L, ts, "sleep");
    if (extend)
        task_extend(t, seconds);
    w = new_waiter(L, ts, t, on_slept);
    alarm_set(&w->alarm, seconds);
    return task_wait(L, t, waiter_free, w);
}

/* sleep(seconds) -> true */
static int
l_sleep(lua_State *L)
{
    return start_sleep(L, check_seconds(L, 1), false);
}

/* pause(seconds): a sleep that the deadline does not count. */
static int
l_pause(lua_State *L)
{
    return start_sleep(L, check_seconds(L, 1), true);
}

static int
block_on(lua_State *L, int fd, int events, double seconds)
{
    struct pollfd p = {.fd = fd, .events = events == EV_READ ? POLLIN : POLLOUT};
    int n = poll(&p, 1, seconds < 0 ? -1 : (int)fmin(ceil(seconds * 1000), 2e9));

    if (n < 0)
        return luaL_fileresult(L, 0, NULL);
    return n ? push_true(L, NULL) : push_timeout(L, NULL);
}

/* wait(fd, "r" or "w" [, seconds]) -> true, or nil and "timeout" */
static int
l_wait(lua_State *L)
{
    static const char *const modes[] = {"r", "w", NULL};
    struct tasks *ts = get_tasks(L);
    lua_Integer fd = luaL_checkinteger(L, 1);
    int events = luaL_checkoption(L, 2, NULL, modes) == 0 ? EV_READ : EV_WRITE;
    double seconds = lua_isnoneornil(L, 3) ? -1 : check_seconds(L, 3);
    struct task *t;
    struct waiter *w;

    if (fd < 0 || fd > 0x7fffffff || fcntl((int)fd, F_GETFD) < 0)
        return luaL_error(L, "popd.wait: %I is not an open descriptor", (LUAI_UACINT)fd);
    if (!ts->running && !ts->loop->running)
        return block_on(L, (int)fd, events, seconds);
    t = task_running(L, ts, "wait");
    w = new_waiter(L, ts, t, on_timeout);
    ev_io_set(&w->io, (int)fd, events);
    ev_io_start(ts->loop->ev, &w->io);
    if (seconds >= 0)
        alarm_set(&w->alarm, seconds);
    return task_wait(L, t, waiter_free, w);
}

/* Something that one task waits for and another makes come true.  The registry
 * holds it while somebody waits. */
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
        latch_end(l, push_true);
}

static void
on_late(void *owner)
{
    latch_end(owner, push_timeout);
}

/* latch() -> an object with wait and fire */
static int
l_latch(lua_State *L)
{
    struct tasks *ts = get_tasks(L);
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
    return l->fired ? push_true(L, NULL) : push_timeout(L, NULL);
}

/* latch:wait([seconds]) -> true, or nil and "timeout"; one at a time waits */
static int
l_latch_wait(lua_State *L)
{
    struct latch *l = luaL_checkudata(L, 1, LATCH);
    double seconds = lua_isnoneornil(L, 2) ? -1 : check_seconds(L, 2);

    if (!l->tasks->loop)
        return luaL_error(L, "popd is closed: the Lua state ends");
    if (l->task)
        return luaL_error(L, "another callback waits for this already");
    if (l->fired)
        return push_true(L, NULL);
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

/* A task that a script started.  Its function and arguments are its user
 * value; the registry holds it until it ended. */
struct job {
    struct tasks *tasks; /* borrowed */
    struct turn turn;    /* starts it */
    struct alarm alarm;  /* or this, later */
    struct task *task;   /* while it runs */
    bool ours;           /* a timer of the Lua part */
    bool cancelled;
};

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

/* A job of the function and the arguments from index `first` on.  [-0, +1, e] */
static struct job *
new_job(lua_State *L, struct tasks *ts, int first)
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
    struct tasks *ts = get_tasks(L);

    turn_queue(&new_job(L, ts, 1)->turn, ts->loop);
    return 1;
}

/* job(f, …): the same for the Lua part, whose own code no cap on memory hinders. */
static int
l_job(lua_State *L)
{
    struct tasks *ts = get_tasks(L);
    struct job *job = new_job(L, ts, 1);

    job->ours = true;
    turn_queue(&job->turn, ts->loop);
    return 1;
}

/* later(seconds, f, …) -> a handle; f starts after so long.  Until then it costs no
 * coroutine, and alone it keeps the loop not going. */
static int
l_later(lua_State *L)
{
    struct tasks *ts = get_tasks(L);
    double seconds = check_seconds(L, 1);
    struct job *job = new_job(L, ts, 2);

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

/* adopt(co): the coroutine runs inside the callback and has its guards. */
static int
l_adopt(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);

    if (co)
        guard_adopt(&get_tasks(L)->guards, co);
    return 0;
}

/* expose(): the script asks for its coroutine. */
static int
l_expose(lua_State *L)
{
    task_expose(get_tasks(L));
    return 0;
}

/* unwait(): a resumer that cannot carry a wait on takes it back. */
static int
l_unwait(lua_State *L)
{
    struct tasks *ts = get_tasks(L);

    if (ts->running)
        task_unwait(ts->running);
    return 0;
}

/* What must be done however a stretch of code ends.  Its user value is a job,
 * made beforehand: at the end there may be no memory, and no instructions, left. */
struct ward {
    struct job *job; /* NULL: it was started, or disarmed */
};

/* ward(f, …) -> an object to be closed: f(…) is started when that happens, or when
 * nobody holds it any more, unless it was disarmed. */
static int
l_ward(lua_State *L)
{
    struct job *job = new_job(L, get_tasks(L), 1);
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

static void
check_outside(lua_State *L, struct tasks *ts, const char *what)
{
    if (ts->running || ts->loop->running)
        luaL_error(L,
                   "popd.%s: the loop runs already; call it from a script's main chunk, not from a callback",
                   what);
}

static int
l_run(lua_State *L)
{
    struct tasks *ts = get_tasks(L);

    check_outside(L, ts, "run");
    loop_run(ts->loop);
    return 0;
}

static int
l_step(lua_State *L)
{
    struct tasks *ts = get_tasks(L);
    double seconds = lua_isnoneornil(L, 1) ? -1 : check_seconds(L, 1);

    check_outside(L, ts, "step");
    lua_pushboolean(L, loop_step(ts->loop, seconds));
    return 1;
}

static int
l_stop(lua_State *L)
{
    loop_stop(get_tasks(L)->loop);
    return 0;
}

/* inside() -> whether the loop turns: then a task may wait, and nobody may turn it */
static int
l_inside(lua_State *L)
{
    struct tasks *ts = get_tasks(L);

    lua_pushboolean(L, ts->running || ts->loop->running);
    return 1;
}

static int
l_fd(lua_State *L)
{
    int fd = loop_fd(get_tasks(L)->loop);

    if (fd < 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "popd.fd: this system's event interface has no descriptor to wait on (epoll has)");
        return 2;
    }
    lua_pushinteger(L, fd);
    return 1;
}

static int
l_now(lua_State *L)
{
    lua_pushnumber(L, loop_now());
    return 1;
}

/* date() -> seconds since 1970, with a fraction: for people, not for intervals */
static int
l_date(lua_State *L)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

/* party() -> whose code runs: the same number for all of one connection; 0: a main chunk */
static int
l_party(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)task_party(get_tasks(L)));
    return 1;
}

/* How much is alive: for specs that count what is left behind. */
static int
l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)get_tasks(L)->count);
    return 1;
}

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
    struct tasks *ts = get_tasks(L);
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
await_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {
        {"sleep", l_sleep},
        {"pause", l_pause},
        {"wait", l_wait},
        {"latch", l_latch},
        {"spawn", l_spawn},
        {"job", l_job},
        {"later", l_later},
        {"adopt", l_adopt},
        {"unwait", l_unwait},
        {"run", l_run},
        {"step", l_step},
        {"stop", l_stop},
        {"fd", l_fd},
        {"now", l_now},
        {"date", l_date},
        {"signal", l_signal},
        {"expose", l_expose},
        {"inside", l_inside},
        {"guard", guard_call},
        {"ward", l_ward},
        {"memory_limit", guard_limit},
        {"hooked", guard_hooked},
        {"struck", guard_struck},
        {"count", l_count},
        {"party", l_party},
        {NULL, NULL},
    };
    static const luaL_Reg job_methods[] = {{"cancel", l_cancel}, {NULL, NULL}};
    static const luaL_Reg latch_methods[] = {{"wait", l_latch_wait}, {"fire", l_latch_fire}, {NULL, NULL}};
    static const luaL_Reg ward_methods[] = {{"disarm", l_disarm}, {NULL, NULL}};
    static const luaL_Reg ward_ends[] = {{"__close", l_ward_end}, {"__gc", l_ward_end}, {NULL, NULL}};

    lua_pushlightuserdata(L, tasks);
    luaL_setfuncs(L, functions, 1);
    lua_pushlightuserdata(L, task_token());
    lua_setfield(L, -2, "token");
    class_new(L, JOB, job_methods, NULL);
    class_new(L, LATCH, latch_methods, NULL);
    class_new(L, WARD, ward_methods, NULL);
    luaL_getmetatable(L, WARD);
    luaL_setfuncs(L, ward_ends, 0);
    lua_pop(L, 1);
}
