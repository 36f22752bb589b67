#include "waits.h"

#include "log.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static const char tasks_key;

static const char *const memory_text = "out of memory";
static const char *const many_text = "the callback returned too many values";
static const char *const yielded_text =
    "a callback yielded by itself; to wait it calls popd.sleep and the like";
/* By the registry: lua_getextraspace is the host's.  Reading a light key
 * allocates nothing. */
struct tasks *
tasks_find(lua_State *L)
{
    struct tasks *ts;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &tasks_key);
    ts = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return ts;
}

static void
push_text(lua_State *L, const char *text)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, text);
}

static struct task *
set_running(struct tasks *ts, struct task *t)
{
    struct task *before = ts->running;

    ts->running = t;
    guards_run(&ts->guards, t ? &t->guard : NULL);
    return before;
}

/* While a token of an inner coroutine is on its way up, nothing else may yield. */
static bool
may_yield(void *owner, lua_State *L)
{
    const struct task *t = ((struct tasks *)owner)->running;

    return L == t->co && !t->waiting && lua_isyieldable(L);
}

void
tasks_open(struct tasks *ts, struct loop *loop, lua_State *L)
{
    *ts = (struct tasks){.loop = loop};
    guards_open(&ts->guards, L, may_yield, ts);
    lua_pushlightuserdata(L, ts);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &tasks_key);
    guards_keep_text(L, memory_text);
    guards_keep_text(L, many_text);
    guards_keep_text(L, yielded_text);
    guards_keep_text(L, task_swallowed);
    ts->L = lua_newthread(L);
    lua_sethook(ts->L, NULL, 0, 0); /* a new thread has its maker's hook */
    tidy_init(&ts->tidy, loop, ts->L, &ts->guards.memory);
    lua_rawsetp(L, LUA_REGISTRYINDEX, ts->L);
}

struct ending {
    struct task *task;
    enum task_status status;
};

/* Runs protected: (light ending, results or error …). */
static int
call_ended(lua_State *L)
{
    struct ending *e = lua_touserdata(L, 1);

    lua_remove(L, 1);
    e->task->ended(L, e->status, e->task->owner);
    return 0;
}

/* Runs protected: puts the coroutine among the spare ones; not one that ended by an
 * error: where the hook raised, Lua leaves its hooks disabled. */
static int
call_give_back(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);

    guard_clear(&t->guard, L);
    spares_give(&t->tasks->spares, L, t->co, !t->failed && !t->exposed);
    return 0;
}

static void
log_raised(lua_State *L, const char *what)
{
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no text)";

    log_event(LOG_ERROR, what, "error", text, NULL);
    lua_pop(L, 1);
}

static bool
call_protected(struct task *t, lua_CFunction f, const char *what)
{
    lua_State *L = t->tasks->L;

    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, t);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
        return true;
    log_raised(L, what);
    return false;
}

/* Calls `ended` with n values that are on top of the work stack. */
static void
tell_end(struct task *t, enum task_status status, int n)
{
    struct ending e = {t, status};
    lua_State *L = t->tasks->L;

    if (t->handle)
        *t->handle = NULL;
    lua_pushcfunction(L, call_ended);
    lua_insert(L, -n - 1);
    lua_pushlightuserdata(L, &e);
    lua_insert(L, -n - 1);
    if (lua_pcall(L, n + 1, 0, 0) != LUA_OK)
        log_raised(L, "what follows a callback failed");
}

static void
task_free(struct task *t)
{
    *t->link = t->next_task;
    if (t->next_task)
        t->next_task->link = t->link;
    guard_stop(&t->guard);
    turn_cancel(&t->turn, t->tasks->loop);
    t->tasks->count--;
    free(t);
}

void
tasks_close(struct tasks *ts)
{
    struct task *t;

    while ((t = ts->all))
        task_drop(t);
    tidy_stop(&ts->tidy);
    ts->loop = NULL;
}

void
task_drop(struct task *t)
{
    if (!t)
        return;
    if (t->handle)
        *t->handle = NULL;
    if (t->tasks->running == t)
        set_running(t->tasks, NULL);
    task_unwait(t);
    task_free(t);
}

void
task_expose(struct tasks *ts)
{
    if (ts->running)
        ts->running->exposed = true;
}

/* Runs what the script left to be closed, with the task's guards. */
static void
close_guarded(struct task *t)
{
    struct task *before = set_running(t->tasks, t);

    spares_close(t->co, t->tasks->L);
    set_running(t->tasks, before);
}

/* A guard has tripped: what the task left is not used, whatever it is. */
static int
leave_stopped(struct task *t, int n)
{
    lua_pop(t->co, n);
    guard_push(t->co, &t->guard);
    return 1;
}

static int
leave_too_many(struct task *t, int n)
{
    lua_pop(t->co, n);
    push_text(t->co, many_text);
    return 1;
}

/* The task is over; n values on its stack are its results, or its error. */
static enum task_status
end(struct task *t, enum task_status status, int n)
{
    lua_State *L = t->tasks->L;

    guard_stop(&t->guard);
    if (t->guard.trip && lua_checkstack(t->co, 1)) {
        status = TASK_STOPPED;
        n = leave_stopped(t, n);
    } else if (!lua_checkstack(L, n + 4)) {
        status = TASK_FAILED;
        n = leave_too_many(t, n);
    }
    lua_xmove(t->co, L, n);
    t->failed = lua_status(t->co) != LUA_OK;
    if (t->failed)
        close_guarded(t);
    tell_end(t, status, n);
    call_protected(t, call_give_back, "a coroutine could not be kept");
    task_free(t);
    return status;
}

/* A task failed: puts a traceback into its error, if that is a text. */
static int
add_traceback(lua_State *L)
{
    lua_State *co = lua_touserdata(L, 1);

    luaL_traceback(L, co, lua_tostring(co, -1), 0);
    lua_xmove(L, co, 1);
    return 0;
}

static enum task_status
fail(struct task *t)
{
    lua_State *L = t->tasks->L;

    if (lua_type(t->co, -1) == LUA_TSTRING && lua_checkstack(t->co, 2)) {
        lua_pushcfunction(L, add_traceback);
        lua_pushlightuserdata(L, t->co);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            lua_pop(L, 1); /* without a traceback, then */
    }
    return end(t, TASK_FAILED, 1);
}

/* The coroutine yielded: for a wait, for others' turn, or by mistake. */
static enum task_status
pause_task(struct task *t, int n)
{
    if (n == 0 && !t->waiting) {
        turn_queue_long(&t->turn, t->tasks->loop); /* it computes */
    } else if (!t->waiting || lua_touserdata(t->co, -n) != task_token()) {
        lua_pop(t->co, n);
        task_unwait(t);
        push_text(t->co, yielded_text);
        return fail(t);
    }
    lua_pop(t->co, n);
    guard_wait(&t->guard);
    return TASK_WAITING;
}

enum task_status
task_run(struct task *t, int args)
{
    struct task *before = set_running(t->tasks, t);
    int results = 0, status;

    tidy_stir(&t->tasks->tidy);
    status = lua_resume(t->co, before ? before->co : t->tasks->L, args, &results);
    set_running(t->tasks, before);
    if (status == LUA_YIELD)
        return pause_task(t, results);
    if (status == LUA_OK && !t->waiting) {
        bool good = lua_toboolean(t->co, -results); /* after_base's */

        lua_remove(t->co, -results);
        return end(t, good ? TASK_DONE : TASK_FAILED, results - 1);
    }
    if (status == LUA_OK) {
        lua_pop(t->co, results);
        push_text(t->co, task_swallowed);
    }
    task_unwait(t);
    return fail(t);
}

/* Runs protected: what ends a wait that is given up, false and the reason;
 * the waiting function raises it. */
static int
push_refusal(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);

    lua_pushboolean(L, 0);
    lua_pushstring(L, t->guard.why);
    lua_xmove(L, t->co, 2);
    return 0;
}

/* The wait is given up already; its function raises. */
static void
refuse(struct task *t)
{
    t->refused = false;
    if (lua_checkstack(t->co, 3) && call_protected(t, push_refusal, "a wait could not be cancelled"))
        task_run(t, 2);
}

static void
on_turn(void *owner)
{
    struct task *t = owner;

    if (t->refused)
        refuse(t);
    else
        task_run(t, 0);
}

void
task_cancel(struct task *t, const char *why)
{
    t->guard.why = why;
    if (!t->waiting)
        return;
    task_unwait(t);
    t->refused = true;
    if (t->tasks->running) /* a task that cancels another must not run it inside itself */
        turn_queue(&t->turn, t->tasks->loop);
    else
        refuse(t);
}

static void
on_deadline(void *owner)
{
    struct task *t = owner;

    task_cancel(t, guard_expire(&t->guard));
}

/* Errors of a callback get their traceback where they are raised; one that makes
 * its own text makes it here, where a guard holds. */
static int
trace(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING || luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL)
        luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static int
after_base(lua_State *L, int status, lua_KContext context)
{
    struct tasks *ts = tasks_find(L);

    (void)context;
    if (ts->running)
        guard_settle(L, &ts->running->guard);
    lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* What runs in a coroutine: function and arguments, protected.  An error is
 * caught inside, not by lua_resume: so what is to be closed may still wait, and
 * Lua's hooks go on (they stay off where a hook's error ends a coroutine).
 * Returns true and the results, or false and the error. */
static int
call_base(lua_State *L)
{
    int n = lua_gettop(L);

    lua_pushcfunction(L, trace);
    lua_insert(L, 1);
    return after_base(L, lua_pcallk(L, n - 1, LUA_MULTRET, 1, 0, after_base), 0);
}

/* Runs protected: (light task, light push): a coroutine with function and arguments. */
static int
prepare(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    task_push *push = *(task_push **)lua_touserdata(L, 2);
    int args;

    lua_settop(L, 0);
    t->co = spares_take(&t->tasks->spares, L);
    guard_watch(&t->guard, t->co);
    args = push(L, t->owner);
    if (!lua_checkstack(t->co, args + 2))
        return luaL_error(L, "too many arguments");
    lua_pushcfunction(t->co, call_base);
    lua_xmove(L, t->co, args + 1);
    lua_pushinteger(L, args + 1);
    return 1;
}

static struct task *
new_task(struct tasks *ts, const struct task_limits *limits, uint64_t party, task_ended *ended, void *owner,
         struct task **handle)
{
    struct task *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->tasks = ts;
    t->guard.seconds = limits->seconds;
    t->guard.instructions = limits->instructions;
    t->guard.ours = limits->ours;
    t->ended = ended;
    t->owner = owner;
    t->handle = handle;
    t->party = party ? party : TASK_ALONE + ts->parties++;
    t->turn.run = on_turn;
    t->turn.owner = t;
    guard_init(&t->guard, &ts->guards, ts->loop, on_deadline, t);
    t->next_task = ts->all;
    t->link = &ts->all;
    if (t->next_task)
        t->next_task->link = &t->next_task;
    ts->all = t;
    ts->count++;
    return t;
}

/* Not even its coroutine could be had; the error is on the work stack. */
static enum task_status
fail_early(struct task *t)
{
    tell_end(t, TASK_FAILED, 1);
    if (t->co)
        call_protected(t, call_give_back, "a coroutine could not be kept");
    task_free(t);
    return TASK_FAILED;
}

static enum task_status
fail_without_memory(struct tasks *ts, task_ended *ended, void *owner)
{
    struct task none = {.tasks = ts, .ended = ended, .owner = owner};

    push_text(ts->L, memory_text);
    tell_end(&none, TASK_FAILED, 1);
    return TASK_FAILED;
}

enum task_status
task_start(struct tasks *ts, const struct task_limits *limits, uint64_t party, task_push *push,
           task_ended *ended, void *owner, struct task **handle)
{
    struct task *t = new_task(ts, limits, party, ended, owner, handle);
    lua_State *L = ts->L;
    int args;

    if (handle)
        *handle = t;
    if (!t)
        return fail_without_memory(ts, ended, owner);
    lua_pushcfunction(L, prepare);
    lua_pushlightuserdata(L, t);
    lua_pushlightuserdata(L, &push);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK)
        return fail_early(t);
    args = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return task_run(t, args);
}

uint64_t
task_party(const struct tasks *ts)
{
    return ts->running ? ts->running->party : 0;
}

void
task_extend(struct task *t, double seconds)
{
    guard_extend(&t->guard, seconds);
}

const char *
task_error_text(lua_State *L)
{
    return lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : luaL_typename(L, 1);
}
