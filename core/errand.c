#include "errand.h"

#include "class.h"
#include "copy.h"
#include "log.h"

#include <lauxlib.h>
#include <poll.h>
#include <string.h>

#define ERRAND "popd.errand"
#define WORKER "popd.worker"

/* User values, of both. */
enum { VALUE_EVENTS = 1, VALUE_JOB, VALUE_ERRAND };

/* A userdata.  The registry holds it, by its address, while somebody waits. */
struct errand {
    struct errands *all; /* borrowed */
    struct task *task;   /* who waits; borrowed; NULL: a main chunk, or nobody any more */
    struct turn turn;    /* for whatever is to be told next */
    enum { ERRAND_NEW, ERRAND_ASKED, ERRAND_SETTLED } state;
    bool awaited;   /* it keeps the loop going */
    bool cancelled; /* who waited has given up */
    bool failed;    /* out holds an error */
    struct buf in;  /* the function's name and its arguments */
    struct buf out; /* once settled: what comes back */
};

/* A userdata.  The registry holds it while its thread is at something, and from
 * close on until that is gone; its third user value is the errand that it is at. */
struct hand {
    struct errands *all;   /* borrowed */
    struct worker *worker; /* NULL: gone */
    struct buf in;         /* until the thread has it */
    bool busy, loaded, closing;
};

/* Telling Lua ----------------------------------------------------------------- */

/* Pushes owner's function for this event and its job.  [-0, +2, e] */
static void
push_event(lua_State *L, int owner, const char *event)
{
    lua_getiuservalue(L, owner, VALUE_EVENTS);
    lua_getfield(L, -1, event);
    lua_remove(L, -2);
    lua_getiuservalue(L, owner, VALUE_JOB);
}

/* Runs f protected, with this pointer. */
static bool
run_protected(struct errands *all, lua_CFunction f, void *owner)
{
    lua_State *L = all->tasks->L;

    if (!lua_checkstack(L, 4))
        return false;
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, owner);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
        return true;
    log_event(LOG_ERROR, "popd.thread failed", "error",
              lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no text)", NULL);
    lua_pop(L, 1);
    return false;
}

/* Takes it out of the registry, where nothing else needs it.  Clearing a key
 * that is there raises nothing. */
static void
let_go(lua_State *L, void *owner)
{
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, owner);
}

/* Errands ---------------------------------------------------------------------- */

static void
want(struct errand *e)
{
    e->awaited = true;
    if (e->all->awaited++ == 0)
        ev_ref(e->all->workers.loop->ev);
}

static void
unwant(struct errand *e)
{
    if (!e->awaited)
        return;
    e->awaited = false;
    if (--e->all->awaited == 0)
        ev_unref(e->all->workers.loop->ev);
}

/* Protected: (light errand). */
static int
tell_asked(lua_State *L)
{
    struct errand *e = lua_touserdata(L, 1);

    lua_rawgetp(L, LUA_REGISTRYINDEX, e);
    push_event(L, 2, "asked");
    lua_pushvalue(L, 2);
    lua_call(L, 2, 0);
    return 0;
}

static int
tell_cancelled(lua_State *L)
{
    struct errand *e = lua_touserdata(L, 1);

    lua_rawgetp(L, LUA_REGISTRYINDEX, e);
    push_event(L, 2, "cancelled");
    lua_call(L, 1, 0);
    return 0;
}

static int
push_errand(lua_State *L, void *owner)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, owner);
    let_go(L, owner);
    return 1;
}

/* Its waiter goes on at the next turn.  False: it has its result already. */
static bool
settle(struct errand *e, bool failed)
{
    if (e->state == ERRAND_SETTLED)
        return false;
    e->state = ERRAND_SETTLED;
    e->failed = failed;
    unwant(e);
    if (e->task)
        turn_queue(&e->turn, e->all->workers.loop);
    return true;
}

static void
ask(struct errand *e)
{
    e->state = ERRAND_ASKED;
    if (run_protected(e->all, tell_asked, e) || e->state == ERRAND_SETTLED)
        return;
    copy_text(&e->out, "popd.thread failed; the log says how");
    settle(e, true);
}

static void
on_turn(void *owner)
{
    struct errand *e = owner;

    if (e->cancelled) {
        if (e->state != ERRAND_NEW) /* else nobody knows of it */
            run_protected(e->all, tell_cancelled, e);
        let_go(e->all->tasks->L, e);
    } else if (e->state == ERRAND_NEW) {
        ask(e);
    } else {
        task_resume(e->task, push_errand, e);
    }
}

/* The callback gave up: whoever has the errand is told at the next turn. */
static void
on_cancel(void *owner)
{
    struct errand *e = owner;

    e->task = NULL;
    e->cancelled = true;
    unwant(e);
    turn_queue(&e->turn, e->all->workers.loop);
}

static int
finish(lua_State *L, int status, lua_KContext context)
{
    struct errand *e = lua_touserdata(L, -1);
    bool failed = e->failed;
    int n;

    (void)status, (void)context;
    if (e->out.failed)
        return luaL_error(L, "out of memory");
    n = copy_read(L, &e->out);
    copy_discard(&e->out);
    return failed ? lua_error(L) : n;
}

/* (errand) -> the same, when it is settled */
static int
l_wait(lua_State *L)
{
    struct errand *e = lua_touserdata(L, 1);

    e->task = task_running(L, e->all->tasks, "thread");
    lua_rawsetp(L, LUA_REGISTRYINDEX, e);
    want(e);
    turn_queue(&e->turn, e->all->workers.loop);
    return task_wait(L, e->task, on_cancel, e);
}

/* In a main chunk: nobody else has his turn until it is settled. */
static void
block(lua_State *L, struct errand *e)
{
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, e);
    ask(e);
    while (e->state != ERRAND_SETTLED) {
        struct pollfd bell = {.fd = e->all->workers.bell, .events = POLLIN};

        poll(&bell, 1, -1);
        workers_collect(&e->all->workers);
    }
    copy_discard(&e->in); /* what is made while the Lua state ends is not finalized */
    let_go(L, e);
}

/* Pushes one with these user values. */
static struct errand *
new_errand(lua_State *L, struct errands *all, int events, int job)
{
    struct errand *e = lua_newuserdatauv(L, sizeof *e, 2);

    memset(e, 0, sizeof *e);
    e->all = all;
    e->turn = (struct turn){.run = on_turn, .owner = e};
    luaL_setmetatable(L, ERRAND);
    lua_pushvalue(L, events);
    lua_setiuservalue(L, -2, VALUE_EVENTS);
    lua_pushvalue(L, job);
    lua_setiuservalue(L, -2, VALUE_JOB);
    return e;
}

static struct errands *
get_errands(lua_State *L)
{
    struct errands *all = lua_touserdata(L, lua_upvalueindex(1));

    if (!all->workers.loop)
        luaL_error(L, "popd is closed: the Lua state ends");
    if (workers_lost(&all->workers))
        luaL_error(L, "this process is a fork: it has none of popd's threads");
    return all;
}

/* Pushes { name = …, mbox = the first argument }. */
static void
push_job(lua_State *L)
{
    lua_createtable(L, 0, 8);
    lua_pushvalue(L, lua_upvalueindex(4));
    lua_setfield(L, -2, "name");
    if (lua_gettop(L) > 1) {
        lua_pushvalue(L, 1);
        lua_setfield(L, -2, "mbox");
    }
}

/* (…) -> the results of the call with these arguments */
static int
l_call(lua_State *L)
{
    struct errands *all = get_errands(L);
    struct errand *e;

    luaL_checkstack(L, 8, "too many arguments");
    push_job(L);
    e = new_errand(L, all, lua_upvalueindex(3), lua_gettop(L));
    copy_text(&e->in, lua_tostring(L, lua_upvalueindex(4)));
    lua_replace(L, -2);
    lua_insert(L, 1);
    copy_write(L, 2, "argument", "to a thread", &e->in);
    lua_settop(L, 1);
    if (!all->tasks->running && !all->tasks->loop->running) {
        block(L, e);
        return finish(L, LUA_OK, 0);
    }
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_callk(L, 1, 1, 0, finish);
    return finish(L, LUA_OK, 0);
}

/* errand(events, name) -> a function that has a thread do this */
static int
l_errand(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_rotate(L, 1, 2);
    lua_pushcclosure(L, l_call, 4);
    return 1;
}

static int
l_settle(lua_State *L)
{
    settle(luaL_checkudata(L, 1, ERRAND), false);
    return 0;
}

/* refuse(error): whatever can be copied */
static int
l_refuse(lua_State *L)
{
    struct errand *e = luaL_checkudata(L, 1, ERRAND);

    lua_settop(L, 2);
    if (e->state != ERRAND_SETTLED)
        copy_write(L, 2, "error value", "to a callback", &e->out);
    settle(e, true);
    return 0;
}

/* again(job, name) -> an errand with the same arguments, for nobody */
static int
l_again(lua_State *L)
{
    struct errand *e = luaL_checkudata(L, 1, ERRAND), *made;

    luaL_checkstring(L, 3);
    lua_settop(L, 3);
    lua_getiuservalue(L, 1, VALUE_EVENTS);
    made = new_errand(L, e->all, 4, 2);
    made->state = ERRAND_SETTLED;
    copy_read(L, &e->in); /* 5: the errand; then name, arguments … */
    lua_pushvalue(L, 3);
    lua_replace(L, 6);
    copy_write(L, 6, "argument", "to a thread", &made->in);
    lua_settop(L, 5);
    return 1;
}

static int
l_errand_gc(lua_State *L)
{
    struct errand *e = luaL_checkudata(L, 1, ERRAND);

    copy_discard(&e->in);
    copy_discard(&e->out);
    return 0;
}

/* Hands: threads as Lua has them ------------------------------------------------ */

static struct hand *
check_hand(lua_State *L)
{
    return luaL_checkudata(L, 1, WORKER);
}

/* The results of an errand that somebody still waits for. */
static void
bring_back(struct errand *e, bool failed, struct buf *in, struct buf *out)
{
    e->in = *in;
    *in = (struct buf){0};
    if (!e->cancelled && settle(e, failed)) {
        e->out = *out;
        *out = (struct buf){0};
    }
}

struct finished {
    struct hand *hand;
    bool failed;
    struct buf *in, *out;
};

/* The hand at index 2 is at nothing any more; pushes the errand that it was at. */
static void
push_done(lua_State *L, struct hand *h)
{
    h->busy = false;
    if (!h->closing)
        let_go(L, h);
    lua_getiuservalue(L, 2, VALUE_ERRAND);
    lua_pushnil(L);
    lua_setiuservalue(L, 2, VALUE_ERRAND);
}

/* Protected: (light finished). */
static int
tell_done(lua_State *L)
{
    struct finished *f = lua_touserdata(L, 1);
    bool is_true = !f->failed && copy_is_true(f->out);

    lua_rawgetp(L, LUA_REGISTRYINDEX, f->hand);
    push_done(L, f->hand);
    bring_back(lua_touserdata(L, 3), f->failed, f->in, f->out);
    push_event(L, 2, "done");
    lua_getiuservalue(L, 3, VALUE_JOB);
    lua_pushboolean(L, is_true);
    lua_call(L, 3, 0);
    return 0;
}

/* Protected: (light finished). */
static int
tell_loaded(lua_State *L)
{
    struct finished *f = lua_touserdata(L, 1);

    lua_rawgetp(L, LUA_REGISTRYINDEX, f->hand);
    push_done(L, f->hand);
    f->hand->loaded = true;
    lua_settop(L, 2);
    push_event(L, 2, "loaded");
    if (f->failed)
        lua_pushnil(L);
    copy_read(L, f->out);
    lua_settop(L, 6);
    lua_call(L, 3, 0);
    return 0;
}

static void
on_done(void *owner, bool failed, struct buf *in, struct buf *out)
{
    struct hand *h = owner;
    struct finished f = {h, failed, in, out};

    run_protected(h->all, h->loaded ? tell_done : tell_loaded, &f);
}

/* Protected: (light hand). */
static int
tell_ended(lua_State *L)
{
    struct hand *h = lua_touserdata(L, 1);

    lua_rawgetp(L, LUA_REGISTRYINDEX, h);
    let_go(L, h);
    push_event(L, 2, "ended");
    lua_call(L, 1, 0);
    return 0;
}

static void
on_ended(void *owner)
{
    struct hand *h = owner;

    h->worker = NULL;
    run_protected(h->all, tell_ended, h);
}

static lua_CFunction
get_prepare(lua_State *L)
{
    lua_CFunction prepare;

    lua_getfield(L, LUA_REGISTRYINDEX, WORKER_PREPARE);
    prepare = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return prepare;
}

static struct hand *
new_hand(lua_State *L, struct errands *all)
{
    struct hand *h = lua_newuserdatauv(L, sizeof *h, 3);

    memset(h, 0, sizeof *h);
    h->all = all;
    luaL_setmetatable(L, WORKER);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, VALUE_EVENTS);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, VALUE_JOB);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, h);
    return h;
}

/* worker(events, record, module, path, cpath, arg) -> a thread, or nil and why */
static int
l_worker(lua_State *L)
{
    struct errands *all = get_errands(L);
    struct hand *h;
    const char *why;

    lua_settop(L, 6);
    h = new_hand(L, all);
    lua_insert(L, 3);
    copy_write(L, 4, "argument", "to a thread", &h->in);
    h->worker = worker_start(&all->workers, get_prepare(L), h, &h->in, &why);
    h->busy = h->worker != NULL;
    lua_settop(L, 3);
    if (h->worker)
        return 1;
    let_go(L, h);
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* worker:give(errand) */
static int
l_give(lua_State *L)
{
    struct hand *h = check_hand(L);
    struct errand *e = luaL_checkudata(L, 2, ERRAND);

    luaL_argcheck(L, h->worker && !h->busy, 1, "a thread with nothing to do expected");
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, VALUE_ERRAND);
    lua_rawsetp(L, LUA_REGISTRYINDEX, h);
    h->busy = true;
    worker_give(h->worker, &e->in);
    return 0;
}

/* worker:close(): it ends when it is through with what it is at */
static int
l_close(lua_State *L)
{
    struct hand *h = check_hand(L);

    if (!h->worker)
        return 0;
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, h);
    h->closing = true;
    worker_close(h->worker);
    return 0;
}

static int
l_hand_gc(lua_State *L)
{
    struct hand *h = check_hand(L);

    if (h->worker && h->all->workers.loop)
        worker_disown(h->worker);
    h->worker = NULL;
    copy_discard(&h->in);
    return 0;
}

/* threads() -> how many there are, those that hang included */
static int
l_threads(lua_State *L)
{
    struct errands *all = lua_touserdata(L, lua_upvalueindex(1));

    lua_pushinteger(L, (lua_Integer)all->workers.count);
    return 1;
}

void
errand_open(lua_State *L, struct errands *es, struct tasks *tasks)
{
    static const luaL_Reg functions[] = {
        {"errand", l_errand}, {"worker", l_worker}, {"threads", l_threads}, {NULL, NULL}};
    static const luaL_Reg of_errand[] = {
        {"settle", l_settle}, {"refuse", l_refuse}, {"again", l_again}, {NULL, NULL}};
    static const luaL_Reg of_hand[] = {{"give", l_give}, {"close", l_close}, {NULL, NULL}};

    es->tasks = tasks;
    es->awaited = 0;
    workers_init(&es->workers, tasks->loop);
    es->workers.done = on_done;
    es->workers.ended = on_ended;
    class_new(L, ERRAND, of_errand, l_errand_gc);
    class_new(L, WORKER, of_hand, l_hand_gc);
    lua_pushlightuserdata(L, es);
    lua_pushcfunction(L, l_wait);
    luaL_setfuncs(L, functions, 2);
}

void
errand_close(struct errands *es)
{
    workers_clear(&es->workers);
}
