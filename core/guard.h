/*
 * guard - what bounds the code of a task: a deadline, waiting included, and a
 * budget of instructions.
 *
 * A hook looks at it now and then.  When the deadline is up a wait raises; when
 * the budget is spent every further instruction does, so that a loop that hides
 * in pcall ends too.  In between a long run is cut by forced yields, so that
 * others get their turn.
 *
 * guard knows nothing of tasks: task.c has a guard in each task, and says which
 * one counts now.
 */
#ifndef POPD_GUARD_H
#define POPD_GUARD_H

#include "loop.h"
#include <lua.h>
#include <stdint.h>

struct guard;

/* All guards of one Lua state.  One owner: its tasks. */
struct guards {
    struct guard *running; /* whose code runs now, or NULL */
    /* Whether this coroutine may be made to yield now. */
    bool (*may_yield)(void *owner, lua_State *L);
    void *owner;
};

struct guard {
    double seconds;        /* deadline; 0: none */
    uint64_t instructions; /* 0: none, but yields are forced all the same */
    double started;        /* loop time */
    uint64_t spent;        /* instructions */
    uint64_t stuck;        /* of these, since others had their turn */
    const char *why;       /* set once it is over: what a wait raises from now on */
    struct alarm deadline;
};

/* Why a task whose deadline rang may not go on. */
extern const char *const guard_expired;

/* Called where Lua calls C; raises if it is out of memory. */
void guards_open(struct guards *gs, lua_State *L, bool (*may_yield)(void *owner, lua_State *L), void *owner);

/* Its time runs from now on; ring is called when it is up. */
void guard_init(struct guard *g, struct loop *loop, void (*ring)(void *owner), void *owner);
void guard_clear(struct guard *g);

/* Looks at what runs in this coroutine. */
void guard_watch(lua_State *co);

/* A coroutine of the script's that is about to run inside a guarded one. */
void guard_adopt(struct guards *gs, lua_State *co);

/* The task is about to wait: its deadline rings meanwhile. */
void guard_wait(struct guard *g);

/* The deadline moves that many seconds away: for a delay that policy asks for. */
void guard_extend(struct guard *g, double seconds);

/* guard(f, handler, …): xpcall for one callback among several of a task: f has
 * a deadline and a budget of its own, and what comes after it, too. */
int guard_call(lua_State *L);

#endif
