/*
 * waits - how a task waits, and goes on: the functions of task.h that waits.c has.
 *
 * Here is what task.c and waits.c share, and nobody else sees.
 */
#ifndef POPD_WAITS_H
#define POPD_WAITS_H

#include "task.h"

struct task {
    struct tasks *tasks; /* borrowed */
    struct task *next_task, **link;
    lua_State *co; /* anchored in the registry; NULL once given back */
    struct guard guard;
    bool exposed;     /* a script has seen its coroutine */
    bool failed;      /* it ended by an error */
    bool waiting;     /* a wait of `cancel` is under way */
    bool refused;     /* its wait was given up, which it is still to be told */
    struct turn turn; /* goes on after a forced yield */
    void (*cancel)(void *);
    int (*finish)(lua_State *, void *); /* makes the wait's results; NULL: they came with it */
    void *waiter;                       /* cancel's and finish's owner */
    uint64_t party;
    task_ended *ended;
    void *owner;
    struct task **handle; /* the caller's; NULL: it wants none */
};

/* What a task ends with whose coroutine lost a wait; task.c keeps it in the registry. */
extern const char *const task_swallowed;

/* [-0, +0, -] */
struct tasks *tasks_find(lua_State *L);

/* Runs the task's code until it waits or ends, with so many values on its stack. */
enum task_status task_run(struct task *t, int args);

#endif
