/*
 * spool - a file that many programs write to, as Lua has it: locked, read,
 * rewritten.
 *
 * Its locks are given back when it is closed, or collected.  Reading and writing
 * much of it, and waiting for the disk, are done in threads of the pool: such a
 * function waits in a callback and blocks in a main chunk.  A file that a thread
 * is at stays open, and locked, until that one is through.
 */
#ifndef POPD_SPOOL_H
#define POPD_SPOOL_H

#include "filelock.h"
#include "pool.h"
#include "task.h"

#include <lauxlib.h>

/* Something for a thread to do: a userdata, which the registry holds by its
 * address while it is the pool's. */
struct spool_work {
    struct pool_job job;
    bool given;                        /* it is the pool's */
    struct tasks *tasks;               /* borrowed */
    struct task *task;                 /* who waits; borrowed */
    void (*run)(struct spool_work *);  /* in a thread: sets code */
    void (*free)(struct spool_work *); /* on the loop's thread; NULL: nothing to free */
    const char *what;                  /* a literal, for errors */
    struct filelock *file, *from;      /* held, or NULL */
    void *owner;                       /* run's and free's */
    const char *octets;                /* of the string that is its user value; or NULL */
    uint64_t at;
    int code;     /* an errno; FILELOCK_SHORT; 0: done */
    bool more;    /* done for now: the result is false */
    size_t count; /* of octets, or of ranges */
    struct filelock_range range[];
};

/* Sets spool, dotlock_break, spool_self and process_gone in the table on top of the
 * stack.  tasks and pool are borrowed for good.  [-0, +0, e] */
void spool_open(lua_State *L, struct tasks *tasks, struct pool *pool);

/* The open file of the spool at an index; raises where there is none. */
struct filelock *spool_check(lua_State *L, int arg);

/* A number of octets, 0 or more; raises. */
uint64_t spool_check_octets(lua_State *L, int arg);

/* Pushes work with room for so many ranges; the calling function has tasks and pool
 * as its upvalues, as spool_class gives them.  [-0, +1, e] */
struct spool_work *spool_work(lua_State *L, const char *what, void (*run)(struct spool_work *),
                              size_t ranges);

/* Does the work on top of the stack, as the calling C function's last deed: true, false
 * (more), or nil, the reason and the error's name. */
int spool_start(lua_State *L, struct spool_work *w);

/* Makes a class whose methods have tasks and pool as upvalues.  [-0, +0, e] */
void spool_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc,
                 struct tasks *tasks, struct pool *pool);

#endif
