/*
 * guard - what bounds the code of a task: a deadline, waiting included, a
 * budget of instructions, and the cap on the Lua state's memory.
 *
 * A hook looks at it now and then.  When the deadline is up a wait raises; when
 * the budget is spent, or memory was refused that there is not even after a
 * collection, the code is stopped: once, and after some instructions to clean up
 * every further one raises, so that a loop that hides in pcall ends too.  In
 * between a long run is cut by forced yields, so that others get their turn.
 *
 * A guard that has tripped stays so, whatever the code catches and returns:
 * its answer is not used.
 *
 * guard knows nothing of tasks: task.c has a guard in each task, and says which
 * one counts now.
 */
#ifndef POPD_GUARD_H
#define POPD_GUARD_H

#include "loop.h"
#include "memory.h"

#include <lua.h>
#include <stdint.h>

struct guard;

/* All guards of one Lua state.  One owner: its tasks. */
struct guards {
    struct guard *running; /* whose code runs now, or NULL */
    struct memory memory;
    /* Whether this coroutine may be made to yield now. */
    bool (*may_yield)(void *owner, lua_State *L);
    void *owner;
};

enum guard_trip { GUARD_HOLDS, GUARD_DEADLINE, GUARD_INSTRUCTIONS, GUARD_MEMORY };

struct guard {
    struct guards *guards; /* borrowed */
    lua_State *co;         /* what it watches */
    double seconds;        /* deadline; 0: none */
    uint64_t instructions; /* 0: none, but yields are forced all the same */
    bool ours;             /* memory is refused within guard_call only */
    bool capped;           /* memory is refused now */
    double started;        /* loop time */
    uint64_t spent;        /* instructions */
    uint64_t stuck;        /* of these, since others had their turn */
    size_t needed;         /* octets that were refused, and not looked at yet */
    bool final;            /* of these some after a collection */
    enum guard_trip trip;
    const char *why;   /* set once it is over: what a wait raises from now on */
    bool stopped;      /* the hook has raised `why` */
    lua_State *struck; /* where it did last; an address only */
    bool placed;       /* the registry has, by this address, where the code was when it tripped */
    struct alarm deadline;
};

/* Called where Lua calls C; raises if it is out of memory. */
void guards_open(struct guards *gs, lua_State *L, bool (*may_yield)(void *owner, lua_State *L), void *owner);

/* A text that is pushed where nothing may raise is made beforehand: then the registry has it
 * by its address.  [-0, +0, m] */
void guards_keep_text(lua_State *L, const char *text);

/* Whose code runs from now on; NULL: nobody's.  Returns whose it was. */
struct guard *guards_run(struct guards *gs, struct guard *g);

/* Its time runs from now on; ring is called when it is up.  `seconds`,
 * `instructions` and `ours` are the caller's to set before. */
void guard_init(struct guard *g, struct guards *gs, struct loop *loop, void (*ring)(void *owner),
                void *owner);
void guard_stop(struct guard *g);

/* Forgets what the registry holds of it.  [-0, +0, -] */
void guard_clear(struct guard *g, lua_State *L);

/* Looks at what runs in this coroutine. */
void guard_watch(struct guard *g, lua_State *co);

/* A coroutine of the script's that is about to run inside a guarded one. */
void guard_adopt(struct guards *gs, lua_State *co);

/* The task is about to wait: its deadline rings meanwhile. */
void guard_wait(struct guard *g);

/* The deadline moves that many seconds away: for a delay that policy asks for. */
void guard_extend(struct guard *g, double seconds);

/* Its deadline rang: returns why it may not go on. */
const char *guard_expire(struct guard *g);

/* L is about to raise `why`: the place is noted, if it is the first. */
void guard_note(lua_State *L, struct guard *g);

/* The code on L has ended: whether the guard has tripped. */
bool guard_settle(lua_State *L, struct guard *g);

/* Pushes what tripped, and where, if that is known.  Raises nothing. */
void guard_push(lua_State *L, const struct guard *g);

/* guard(f, handler, …): xpcall for one callback among several of a task: f has
 * a deadline and a budget of its own, and what comes after it, too.  If a guard
 * tripped: false, what and where as a text, which one ("deadline",
 * "instructions", "memory"), and the first result that is not to be used. */
int guard_call(lua_State *L);

/* hooked() -> whether the function that asks is the handler of an error that the hook raises:
 * Lua has its hooks disabled then, so that nothing could stop a handler */
int guard_hooked(lua_State *L);

/* struck(co) -> whether the hook's last error was raised in this coroutine: if it died of that,
 * its hooks stay disabled */
int guard_struck(lua_State *L);

/* memory_limit([octets or false]) -> octets in use */
int guard_limit(lua_State *L);

#endif
