#include "await.h"

#include "tasklua.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

double
await_check_seconds(lua_State *L, int index)
{
    double seconds = luaL_checknumber(L, index);

    luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, index, "seconds from 0 to 1e9 expected");
    return seconds;
}

int
await_push_true(lua_State *L, void *owner)
{
    (void)owner;
    lua_pushboolean(L, 1);
    return 1;
}

int
await_push_timeout(lua_State *L, void *owner)
{
    (void)owner;
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    return 2;
}

/* One wait for time or for a descriptor, or for whichever comes first. */
struct waiter {
    struct task *task; /* who waits */
    struct loop *loop; /* borrowed */
    struct alarm alarm;
    ev_io io;
};

static void
waiter_free(void *owner)
{
    struct waiter *w = owner;

    alarm_stop(&w->alarm);
    ev_io_stop(w->loop->ev, &w->io);
    free(w);
}

static void
on_slept(void *owner)
{
    struct waiter *w = owner;
    struct task *t = w->task;

    waiter_free(w);
    task_resume(t, await_push_true, NULL);
}

static void
on_timeout(void *owner)
{
    struct waiter *w = owner;
    struct task *t = w->task;

    waiter_free(w);
    task_resume(t, await_push_timeout, NULL);
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
    struct tasks *ts = tasklua_check(L);
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
    return start_sleep(L, await_check_seconds(L, 1), false);
}

/* pause(seconds): a sleep that the deadline does not count. */
static int
l_pause(lua_State *L)
{
    return start_sleep(L, await_check_seconds(L, 1), true);
}

static int
block_on(lua_State *L, int fd, int events, double seconds)
{
    struct pollfd p = {.fd = fd, .events = events == EV_READ ? POLLIN : POLLOUT};
    int n = poll(&p, 1, seconds < 0 ? -1 : (int)fmin(ceil(seconds * 1000), 2e9));

    if (n < 0)
        return luaL_fileresult(L, 0, NULL);
    return n ? await_push_true(L, NULL) : await_push_timeout(L, NULL);
}

/* wait(fd, "r" or "w" [, seconds]) -> true, or nil and "timeout" */
static int
l_wait(lua_State *L)
{
    static const char *const modes[] = {"r", "w", NULL};
    struct tasks *ts = tasklua_check(L);
    lua_Integer fd = luaL_checkinteger(L, 1);
    int events = luaL_checkoption(L, 2, NULL, modes) == 0 ? EV_READ : EV_WRITE;
    double seconds = lua_isnoneornil(L, 3) ? -1 : await_check_seconds(L, 3);
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

void
await_open(lua_State *L, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {
        {"sleep", l_sleep},
        {"pause", l_pause},
        {"wait", l_wait},
        {NULL, NULL},
    };

    tasklua_add(L, tasks, functions);
}
