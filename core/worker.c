#include "worker.h"

#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum worker_state { WORKER_RESTS, WORKER_WORKS, WORKER_FINISHED };

/* Two hold it, the loop's side and the thread; the last one frees it. */
struct worker {
    atomic_uint holders;
    int bell;              /* ours: a duplicate of the workers' */
    lua_CFunction prepare; /* or NULL */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t more;  /* it works, or is to end */
    pthread_cond_t gone;
    enum worker_state state;
    bool closing, ended;

    struct buf in, out; /* the thread's while it works, else the loop's side's */
    bool failed;
    bool loaded; /* the thread's */

    /* Of the loop's side: */
    struct worker *next, **link;
    struct workers *workers; /* borrowed */
    void *owner;             /* borrowed; NULL: nobody wants to hear of it */
    pthread_t thread;
};

static const char functions_key;

/* In the thread --------------------------------------------------------------- */

static void
set_package(lua_State *L, int index, const char *field)
{
    lua_getglobal(L, "package");
    lua_pushvalue(L, index);
    lua_setfield(L, -2, field);
    lua_pop(L, 1);
}

/* Pushes an array of the names of the table's functions; that table is at the top. */
static void
push_names(lua_State *L)
{
    lua_Integer n = 0;
    int module = lua_gettop(L), names = module + 1;

    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, module)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_isfunction(L, -1)) {
            lua_pushvalue(L, -2);
            lua_rawseti(L, names, ++n);
        }
        lua_pop(L, 1);
    }
}

static void
require_module(lua_State *L, int name)
{
    lua_getglobal(L, "require");
    lua_pushvalue(L, name);
    lua_call(L, 1, 1);
    if (!lua_istable(L, -1))
        luaL_error(L, "the module '%s' is a %s; a table of functions expected", lua_tostring(L, name),
                   luaL_typename(L, -1));
}

/* Runs protected: the first thing that a worker does. */
static int
load(lua_State *L)
{
    struct worker *w = lua_touserdata(L, 1);

    lua_settop(L, 0);
    if (w->prepare) {
        lua_pushcfunction(L, w->prepare);
        lua_call(L, 0, 0);
    } else {
        luaL_openlibs(L);
    }
    copy_read(L, &w->in); /* module, path, cpath, arg */
    lua_settop(L, 4);
    lua_setglobal(L, "arg");
    set_package(L, 2, "path");
    set_package(L, 3, "cpath");
    require_module(L, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &functions_key);
    push_names(L);
    copy_write(L, lua_gettop(L), "name", "from a thread", &w->out);
    w->loaded = true;
    return 0;
}

/* Runs protected: a call of one of the module's functions. */
static int
call(lua_State *L)
{
    struct worker *w = lua_touserdata(L, 1);
    int n;

    lua_settop(L, 0);
    n = copy_read(L, &w->in);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    lua_replace(L, 1); /* the function in its name's place */
    lua_pop(L, 1);
    lua_call(L, n - 1, LUA_MULTRET);
    copy_write(L, 1, "result", "from a thread", &w->out);
    return 0;
}

/* A handler: a text gets the thread's traceback, a table stays one unless it
 * wants to be shown as a text. */
static int
trace(lua_State *L)
{
    if (lua_istable(L, 1) && luaL_getmetafield(L, 1, "__tostring") == LUA_TNIL)
        return 1;
    lua_settop(L, 1);
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* Runs protected: (light worker, error). */
static int
write_error(lua_State *L)
{
    struct worker *w = lua_touserdata(L, 1);

    copy_write(L, 2, "error value", "from a thread", &w->out);
    return 0;
}

/* The error at the top is what comes out; if it cannot, a text about that. */
static void
fail(struct worker *w, lua_State *L)
{
    w->failed = true;
    copy_discard(&w->out);
    lua_pushcfunction(L, write_error);
    lua_pushlightuserdata(L, w);
    lua_rotate(L, -3, 2);
    if (lua_pcall(L, 2, 0, 0) == LUA_OK)
        return;
    copy_discard(&w->out);
    copy_text(&w->out, lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "out of memory");
    lua_pop(L, 1);
}

static void
serve(struct worker *w, lua_State *L)
{
    w->failed = !L;
    if (!L) {
        copy_text(&w->out, "out of memory");
        return;
    }
    lua_pushcfunction(L, trace);
    lua_pushcfunction(L, w->loaded ? call : load);
    lua_pushlightuserdata(L, w);
    if (lua_pcall(L, 1, 0, 1) != LUA_OK)
        fail(w, L);
    lua_settop(L, 0);
}

static void
ring(struct worker *w)
{
    static const uint64_t one = 1;

    if (write(w->bell, &one, sizeof one) < 0)
        return; /* its count is at the limit: it is readable already */
}

/* Hands over what was done, and waits for more.  False: it is to end. */
static bool
hand_over(struct worker *w)
{
    bool closing;

    pthread_mutex_lock(&w->lock);
    w->state = WORKER_FINISHED;
    ring(w);
    while (!w->closing && w->state != WORKER_WORKS)
        pthread_cond_wait(&w->more, &w->lock);
    closing = w->closing;
    pthread_mutex_unlock(&w->lock);
    return !closing;
}

static void
let_go(struct worker *w)
{
    if (atomic_fetch_sub(&w->holders, 1) > 1)
        return;
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->more);
    pthread_cond_destroy(&w->gone);
    copy_discard(&w->in);
    copy_discard(&w->out);
    close(w->bell);
    free(w);
}

static void *
live(void *worker)
{
    struct worker *w = worker;
    lua_State *L = luaL_newstate();

    do
        serve(w, L);
    while (hand_over(w));
    if (L)
        lua_close(L);
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    pthread_cond_signal(&w->gone);
    ring(w);
    pthread_mutex_unlock(&w->lock);
    let_go(w);
    return NULL;
}

/* On the loop's thread --------------------------------------------------------- */

void
workers_init(struct workers *ws, struct loop *loop)
{
    memset(ws, 0, sizeof *ws);
    ws->loop = loop;
    ws->bell = -1;
}

bool
workers_lost(const struct workers *ws)
{
    return ws->all && ws->process != getpid();
}

static void
on_bell(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev, (void)events;
    workers_collect(watcher->data);
}

static bool
open_bell(struct workers *ws)
{
    if (ws->bell >= 0)
        return true;
    ws->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ws->bell < 0)
        return false;
    ev_io_init(&ws->watcher, on_bell, ws->bell, EV_READ);
    ws->watcher.data = ws;
    ev_io_start(ws->loop->ev, &ws->watcher);
    ev_unref(ws->loop->ev); /* alone it keeps nothing going */
    return true;
}

static void
init_gone(pthread_cond_t *gone)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(gone, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct worker *
new_worker(struct workers *ws)
{
    struct worker *w = open_bell(ws) ? calloc(1, sizeof *w) : NULL;

    if (!w)
        return NULL;
    w->bell = fcntl(ws->bell, F_DUPFD_CLOEXEC, 0);
    if (w->bell < 0) {
        free(w);
        return NULL;
    }
    atomic_init(&w->holders, 2);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    init_gone(&w->gone);
    w->state = WORKER_WORKS;
    w->workers = ws;
    return w;
}

/* Signals are for the loop's thread: the new one is made with all blocked. */
static int
create_thread(struct worker *w)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&w->thread, NULL, live, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static void
add(struct workers *ws, struct worker *w)
{
    ws->process = getpid();
    ws->count++;
    w->next = ws->all;
    w->link = &ws->all;
    if (w->next)
        w->next->link = &w->next;
    ws->all = w;
}

struct worker *
worker_start(struct workers *ws, lua_CFunction prepare, void *owner, struct buf *in, const char **why)
{
    struct worker *w = new_worker(ws);
    int error = w ? 0 : errno;

    if (w) {
        w->prepare = prepare;
        w->owner = owner;
        w->in = *in;
        error = create_thread(w);
    }
    if (!error) {
        *in = (struct buf){0};
        add(ws, w);
        return w;
    }
    *why = strerror(error);
    if (w) {
        w->in = (struct buf){0};
        atomic_store(&w->holders, 1);
        let_go(w);
    }
    return NULL;
}

void
worker_give(struct worker *w, struct buf *in)
{
    pthread_mutex_lock(&w->lock);
    w->in = *in;
    w->state = WORKER_WORKS;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    *in = (struct buf){0};
}

/* In a fork its lock may be the lost thread's. */
void
worker_close(struct worker *w)
{
    if (workers_lost(w->workers))
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

void
worker_disown(struct worker *w)
{
    w->owner = NULL;
    worker_close(w);
}

/* It ended, and is told of no more. */
static void
forget(struct worker *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->workers->count--;
    let_go(w);
}

/* What it has done, if it has: it rests then. */
static bool
take(struct worker *w, struct buf *in, struct buf *out, bool *failed, bool *ended)
{
    bool finished;

    pthread_mutex_lock(&w->lock);
    *ended = w->ended;
    finished = w->state == WORKER_FINISHED;
    if (finished) {
        *in = w->in;
        *out = w->out;
        *failed = w->failed;
        w->in = w->out = (struct buf){0};
        w->state = WORKER_RESTS;
    }
    pthread_mutex_unlock(&w->lock);
    return finished;
}

static void
look_at(struct worker *w)
{
    struct buf in = {0}, out = {0};
    bool failed = false, ended;
    struct workers *ws = w->workers;

    if (take(w, &in, &out, &failed, &ended) && w->owner)
        ws->done(w->owner, failed, &in, &out);
    copy_discard(&in);
    copy_discard(&out);
    if (!ended)
        return;
    pthread_join(w->thread, NULL);
    if (w->owner)
        ws->ended(w->owner);
    forget(w);
}

void
workers_collect(struct workers *ws)
{
    struct worker *w, *next;
    uint64_t n;

    if (read(ws->bell, &n, sizeof n) < 0)
        return;
    for (w = ws->all; w; w = next) { /* done may add some, in front; only look_at takes one out */
        next = w->next;
        look_at(w);
    }
}

/* Waits for the thread's end, until then.  False: it hangs. */
static bool
wait_for_end(struct worker *w, const struct timespec *until)
{
    bool ended;

    pthread_mutex_lock(&w->lock);
    while (!w->ended && pthread_cond_timedwait(&w->gone, &w->lock, until) == 0)
        ;
    ended = w->ended;
    pthread_mutex_unlock(&w->lock);
    return ended;
}

static struct timespec
patience(void)
{
    struct timespec until;
    double at = loop_now() + WORKERS_PATIENCE;

    until.tv_sec = (time_t)at;
    until.tv_nsec = (long)((at - (double)until.tv_sec) * 1e9);
    return until;
}

/* In a fork there is nobody to wait for, and a lock may be a lost thread's. */
static void
end_threads(struct workers *ws)
{
    struct timespec until = patience();

    for (struct worker *w = ws->all; w; w = w->next)
        worker_disown(w);
    while (ws->all) {
        if (wait_for_end(ws->all, &until))
            pthread_join(ws->all->thread, NULL);
        else
            pthread_detach(ws->all->thread);
        forget(ws->all);
    }
}

void
workers_clear(struct workers *ws)
{
    if (!ws->loop)
        return;
    if (!workers_lost(ws))
        end_threads(ws);
    if (ws->bell >= 0) {
        ev_ref(ws->loop->ev);
        ev_io_stop(ws->loop->ev, &ws->watcher);
        close(ws->bell);
        ws->bell = -1;
    }
    ws->loop = NULL;
}
