/*
 * task - a Lua function that runs in a coroutine and may wait.
 *
 * A task ends DONE, FAILED or STOPPED, at once or after any number of waits; `ended` is
 * called then, once, also when task_start itself ends it.  While it waits it
 * costs its coroutine and nothing else: a later event resumes it.
 *
 * What may raise runs protected: arguments are pushed by a function of the
 * caller's (task_push), and results are read in `ended`, which runs under
 * lua_pcall with the results on its stack.  So a loop callback never raises.
 *
 * guard.h bounds what it may do: a deadline, a budget of instructions, memory.
 * A task whose guard has tripped ends STOPPED, whatever its code returned.
 */
#ifndef POPD_TASK_H
#define POPD_TASK_H

#include "guard.h"
#include "spares.h"
#include "tidy.h"

enum task_status { TASK_DONE, TASK_WAITING, TASK_FAILED, TASK_STOPPED };

struct task;

#define TASK_ALONE (UINT64_C(1) << 63)

/* All tasks of one Lua state.  One owner: the module. */
struct tasks {
    struct loop *loop;    /* borrowed */
    lua_State *L;         /* a thread of ours to work on; anchored in the registry */
    struct task *running; /* whose code runs now, or NULL */
    struct guards guards; /* its guard counts */
    struct tidy tidy;
    struct spares spares;
    struct task *all;
    size_t count;     /* of all, for specs to see that nothing is left behind */
    uint64_t parties; /* of tasks that are their own; their numbers begin at TASK_ALONE */
};

struct task_limits {
    double seconds;        /* deadline; 0: none */
    uint64_t instructions; /* 0: none, but yields are forced all the same */
    bool ours;             /* its code is ours: memory is refused to the callbacks that it guards only */
};

/* Pushes the function and its arguments; returns how many arguments.  Runs
 * protected: may raise, then the task FAILED with that error. */
typedef int task_push(lua_State *L, void *owner);

/* The end of a task: DONE with its results, or FAILED or STOPPED with one value,
 * the error, on L from index 1.  Runs protected; what it raises is logged. */
typedef void task_ended(lua_State *L, enum task_status status, void *owner);

/* Called where Lua calls C; raises if it is out of memory. */
void tasks_open(struct tasks *ts, struct loop *loop, lua_State *L);

/* Frees a task without a word to anybody; NULL is fine.  For the end of the Lua
 * state only: its code is not told. */
void task_drop(struct task *t);

/* Frees tasks that still wait, without a word to them: the Lua state ends. */
void tasks_close(struct tasks *ts);

/* Starts a task; task_status tells whether it ended already.  The handle that
 * *handle gets is good until `ended` was called (NULL from then on); handle
 * may be NULL.  Tasks of one party (a connection, say) may share what others
 * may not; 0: this one is a party of its own. */
enum task_status task_start(struct tasks *ts, const struct task_limits *limits, uint64_t party,
                            task_push *push, task_ended *ended, void *owner, struct task **handle);

/* Of the task whose code runs: its party; 0: none does. */
uint64_t task_party(const struct tasks *ts);

/* Makes a waiting task's wait raise: now, or at the next turn if another task
 * runs.  Of one that does not wait the next wait raises. */
void task_cancel(struct task *t, const char *why);

/* The task whose code runs on L.  Raises, with a text that says what to do,
 * where there is none or L cannot yield (inside table.sort, say).  `what`
 * names the function that wants to wait. */
struct task *task_running(lua_State *L, struct tasks *ts, const char *what);

/* Waits: the last call of a C function that Lua called, `return task_wait(…)`.
 * cancel(owner) is called if the wait is given up before task_resume; the
 * event must not come after that.  [-0, +results, e] */
int task_wait(lua_State *L, struct task *t, void (*cancel)(void *owner), void *owner);

/* The same where making the results may raise: finish(L, owner) makes them, in
 * the waiting function's place, after a task_resume whose push gave none. */
int task_wait_then(lua_State *L, struct task *t, void (*cancel)(void *owner),
                   int (*finish)(lua_State *L, void *owner), void *owner);
int task_push_none(lua_State *L, void *owner);

/* The wait is over: push puts its results on the task's stack, and returns how
 * many.  It must not raise: nil, booleans, numbers and literals only. */
void task_resume(struct task *t, int (*push)(lua_State *L, void *owner), void *owner);

/* The deadline moves that many seconds away: for a delay that policy asks for. */
void task_extend(struct task *t, double seconds);

/* The wait of a coroutine inside the running task is carried to the task by
 * its resumer; where that one cannot yield, it takes the wait back. */
void task_unwait(struct task *t);

/* A script has got hold of the running task's coroutine: it is not used again. */
void task_expose(struct tasks *ts);

/* The error at index 1 of a FAILED or STOPPED task, as a text for the log: no code of the
 * script's is run for it. */
const char *task_error_text(lua_State *L);

/* What a coroutine yields when it waits. */
void *task_token(void);

#endif
