/*
 * pool - a few threads for what blocks, or is slow by intent.
 *
 * A job is worked on in a thread and ended on the loop's: between the two, and
 * nowhere else, its memory is the pool's.  Jobs are taken in the order in which
 * they were started.
 *
 * The threads come with the first jobs, never more than there are jobs for, and
 * stay until pool_clear.  They take no signals, may yield the processor to
 * the loop's thread (nice), and have a small stack: a job keeps what is big on the
 * heap.
 *
 * A process that fork makes has the pool's memory but none of its threads: it
 * may end the pool, which then waits for nobody, and must not start jobs.
 *
 * All functions are for the loop's thread.
 */
#ifndef POPD_POOL_H
#define POPD_POOL_H

#include "loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

#define POOL_THREADS_MAX 4
#define POOL_STACK (256 * 1024) /* octets */
#define POOL_QUEUE_MAX 10000    /* jobs that wait for a thread */

enum pool_state { POOL_NONE, POOL_WAITING, POOL_WORKING, POOL_FINISHED };

/* The caller sets the first five; once started, exactly one of done, drop and
 * orphan is called, once, and may free the job. */
struct pool_job {
    void (*work)(void *owner); /* in a thread; touches nothing that others do */
    void (*done)(void *owner); /* the work is done */
    void (*drop)(void *owner); /* it was cancelled, or the pool ended: no thread touches it any more */
    /* The pool ended long ago, now the work is done: called in the thread, all others
     * are gone.  NULL: the pool's end waits for the work. */
    void (*orphan)(void *owner);
    void *owner;       /* borrowed */
    struct pool *pool; /* borrowed; from here on: the pool's */
    enum pool_state state;
    atomic_int fate; /* which comes first: the work's end, or the pool's */
    bool cancelled;
    struct pool_job *next;
    struct pool_job **link; /* what points to this one, while it is in a list */
};

struct pool_list {
    struct pool_job *first, **last;
};

struct pool {
    struct loop *loop; /* borrowed; NULL: closed */
    ev_io watcher;
    int wake;       /* an eventfd that counts finished jobs; -1 until the first job */
    size_t wanted;  /* jobs that keep the loop going */
    size_t threads; /* so many of `thread` are there */
    size_t most;    /* of them */
    int nice;
    pid_t process; /* whose threads they are */
    struct pool_thread {
        struct pool *pool;
        pthread_t id;
        struct pool_job *at; /* under the lock; NULL: it waits for one */
    } thread[POOL_THREADS_MAX];

    pthread_mutex_t lock; /* of what follows, of a job's state and links, and of what a thread is at */
    pthread_cond_t more;
    struct pool_list waiting, finished;
    size_t queued; /* in `waiting` */
    size_t idle;   /* threads without a job */
    bool closing;
};

/* What is long and comes in crowds, such as hashes, is worth less to the system
 * than a client who only wants his mail. */
#define POOL_NICE 5

/* Takes nothing from the system yet.  nice: how much less than the loop's thread the
 * others are worth. */
void pool_init(struct pool *p, struct loop *loop, int nice);

/* Ends the threads, after the jobs that they are at; every job is dropped.  Threads
 * at jobs that may be orphans are left behind.
 * Call it before the loop is cleared; a second time it does nothing. */
void pool_clear(struct pool *p);

/* Starts a job.  False, and why: there are too many, the system gives no
 * thread, or the pool has ended; then the job is still the caller's. */
bool pool_start(struct pool *p, struct pool_job *job, const char **why);

/* Gives up a job that was started and has not ended: drop is called at once,
 * or, if a thread is at it, when that has finished.  Nothing waits for it. */
void pool_cancel(struct pool_job *job);

#endif
