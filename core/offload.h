/*
 * offload - work in a thread for which a Lua function waits.
 *
 * Where nothing can wait, in a script's main chunk or inside table.sort, the
 * work is done on the spot.  Its owner is a userdata that holds all that the
 * work needs, copied: Lua's memory is not for threads.
 */
#ifndef POPD_OFFLOAD_H
#define POPD_OFFLOAD_H

#include "pool.h"
#include "task.h"

/* The caller sets the first four. */
struct offload {
    void (*work)(void *owner);                /* in a thread, maybe */
    int (*finish)(lua_State *L, void *owner); /* pushes the results; may raise */
    void (*clear)(void *owner);               /* frees what the owner holds; a second time nothing */
    void *owner;                              /* borrowed: the userdata */
    struct pool_job job;
    struct tasks *tasks; /* borrowed */
    struct task *task;   /* who waits; borrowed */
    bool given;          /* it is the pool's */
};

/* What such functions have as upvalues: light userdata of tasks and a pool. */
void offload_push_upvalues(lua_State *L, struct tasks *tasks, struct pool *pool);

/* The last call of a C function with these upvalues: does the work of the
 * userdata on top of the stack and returns its results.  `what` is the name of
 * who waits, for errors.  [-1, +results, e] */
int offload_run(lua_State *L, struct offload *o, const char *what);

/* The owner's __gc. */
void offload_collect(struct offload *o);

/* Work that nobody waits for; it frees its owner, which is no userdata, itself:
 * `end` is called once, on the loop's thread, also if the work was never done. */
struct aside {
    void (*work)(void *owner);
    void (*end)(void *owner);
    void *owner; /* the caller's, until `end` */
    struct pool_job job;
};

/* Where the loop does not run the work is done on the spot. */
void aside_run(struct aside *e, struct tasks *tasks, struct pool *pool);

#endif
