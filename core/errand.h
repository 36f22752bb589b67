/*
 * errand - a call that some thread does for a script, which waits for it.
 *
 * Here are the calls and the threads as Lua has them; which thread does which
 * call is decided in Lua (popd.thread), by functions that are told what
 * happens: `asked`, `done`, `cancelled`, `loaded`, `ended`.  They run outside
 * of callbacks, protected, and must not wait: so nothing that ends a callback
 * can leave them halfway.
 *
 * A call that its callback gives up is told as `cancelled`, and its result, if
 * one ever comes, reaches nobody.
 */
#ifndef POPD_ERRAND_H
#define POPD_ERRAND_H

#include "task.h"
#include "worker.h"

/* One for each Lua state.  One owner: the module. */
struct errands {
    struct tasks *tasks; /* borrowed */
    struct workers workers;
    size_t awaited; /* errands that keep the loop going */
};

/* Adds to the table on top of the stack:
 *   errand(events, name) -> a function: what it is called with is copied, and it
 *     returns the results of the thread's function of that name, or raises its
 *     error.  Tells events.asked(job, errand); job is a table with the name and,
 *     as `mbox`, the first argument itself
 *   worker(events, record, module, path, cpath, arg) -> a thread, or nil and
 *     the reason.  Tells events.loaded(record, names or nil, error), then after
 *     each call events.done(record, job, whether its first result is true), and
 *     events.ended(record) once it was closed and is gone
 *   threads() -> how many threads there are
 * An errand has settle() (it returns nothing), refuse(text) (it raises that) and
 * again(job, name): the same arguments for another function, for nobody.  A
 * worker has give(errand) and close().  [-0, +0, e] */
void errand_open(lua_State *L, struct errands *es, struct tasks *tasks);

/* For the end of the Lua state, after tasks_close. */
void errand_close(struct errands *es);

#endif
