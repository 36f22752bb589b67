/*
 * job - a function that is started as a task of its own, at the loop's next turn
 * or later.
 */
#ifndef POPD_JOB_H
#define POPD_JOB_H

#include "task.h"

/* Its function and arguments are its user value; the registry holds it until it
 * ended.  Who clears that entry before it has started drops it. */
struct job {
    struct tasks *tasks; /* borrowed */
    struct turn turn;    /* starts it */
    struct alarm alarm;  /* or this, later */
    struct task *task;   /* while it runs */
    bool ours;           /* a timer of the Lua part */
    bool cancelled;
};

/* Adds to the table on top of the stack: spawn, job, later, which return handles
 * with a method cancel.  The tasks must outlive the Lua state's last call of
 * them.  [-0, +0, e] */
void job_open(lua_State *L, struct tasks *tasks);

/* Pushes a job of the function and the arguments from index `first` on.  Nothing
 * starts it yet: queue its turn, or set its alarm.  [-0, +1, e] */
struct job *job_new(lua_State *L, struct tasks *ts, int first);

#endif
