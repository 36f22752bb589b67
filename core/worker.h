/*
 * worker - a thread with a Lua state of its own, which loads one module and
 * then calls its functions, one call at a time.
 *
 * Values go in and out as octets (copy.h).  The thread knows its struct worker
 * and nothing else of the process's: no memory of any other Lua state.  So a
 * thread that hangs can be left to itself; it frees what is its own if it ever
 * comes back.
 *
 * Nobody is called from a thread.  It rings a descriptor, by which the loop
 * calls workers_collect, which tells what has finished.
 *
 * The threads take no signals.  A process that fork makes has none of them: it
 * may end, and must not start any.  But for what says otherwise, all functions
 * are for the loop's thread.
 */
#ifndef POPD_WORKER_H
#define POPD_WORKER_H

#include "buf.h"
#include "loop.h"

#include <lua.h>
#include <sys/types.h>

/* The registry's key of a C function that makes a new Lua state like the one
 * that has it: the program's, with the modules that it carries. */
#define WORKER_PREPARE "popd.worker.prepare"

/* Seconds that the end of the Lua state waits for threads in all. */
#define WORKERS_PATIENCE 1.5

struct worker;

/* Those of one Lua state.  One owner: errand. */
struct workers {
    struct loop *loop; /* borrowed; NULL: closed */
    ev_io watcher;
    int bell;           /* an eventfd; -1 until the first worker */
    struct worker *all; /* ours */
    size_t count;
    pid_t process; /* whose threads they are */
    /* A worker has done what it was given.  `failed`: out holds an error value.
     * Both buffers are the function's to discard; in is what the worker got. */
    void (*done)(void *owner, bool failed, struct buf *in, struct buf *out);
    /* A worker's thread is gone; the pointer is no longer good. */
    void (*ended)(void *owner);
};

/* Takes nothing from the system yet; done and ended are the caller's to set. */
void workers_init(struct workers *ws, struct loop *loop);

/* Ends all threads, waiting for those that hang no longer than
 * WORKERS_PATIENCE, and forgets them without a word to their owners.  Call it
 * before the loop is cleared. */
void workers_clear(struct workers *ws);

/* Starts one.  in holds the module's name, package.path, package.cpath and the
 * script's `arg`, and is taken.  Its first result is an array of the names of
 * the module's functions.  prepare opens the libraries of the new state; NULL:
 * the standard ones.  NULL, and why: the system refuses; in is the caller's. */
struct worker *worker_start(struct workers *ws, lua_CFunction prepare, void *owner, struct buf *in,
                            const char **why);

/* Gives it a call: a function's name and arguments, which are taken.  It must
 * have done what it was given before. */
void worker_give(struct worker *w, struct buf *in);

/* Nobody owns it any more: it ends once it is through with what it has, and
 * nothing is told of it.  With an owner, worker_close: `ended` is told. */
void worker_disown(struct worker *w);
void worker_close(struct worker *w);

/* Tells done and ended for whatever has finished. */
void workers_collect(struct workers *ws);

/* Whether this process is a fork of the one that has the threads. */
bool workers_lost(const struct workers *ws);

#endif
