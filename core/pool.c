#include "pool.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* Lists --------------------------------------------------------------------- */

static void
list_init(struct pool_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void
list_add(struct pool_list *list, struct pool_job *job)
{
    job->next = NULL;
    job->link = list->last;
    *list->last = job;
    list->last = &job->next;
}

static void
list_remove(struct pool_list *list, struct pool_job *job)
{
    *job->link = job->next;
    if (job->next)
        job->next->link = job->link;
    else
        list->last = job->link;
    job->link = NULL;
}

/* The first, taken out; NULL: there is none. */
static struct pool_job *
list_take(struct pool_list *list)
{
    struct pool_job *job = list->first;

    if (job)
        list_remove(list, job);
    return job;
}

/* In a thread ---------------------------------------------------------------- */

enum fate { FATE_OPEN, FATE_DONE, FATE_ORPHAN };

/* Of the work's end and the pool's only the first decides. */
static bool
decide(struct pool_job *job, enum fate fate)
{
    int open = FATE_OPEN;

    return atomic_compare_exchange_strong(&job->fate, &open, (int)fate);
}

/* The next job, or NULL: the pool ends.  Called and left with the lock. */
static struct pool_job *
next_job(struct pool *p, struct pool_thread *self)
{
    struct pool_job *job;

    self->at = NULL; /* what it was at is handed over, and may be freed */
    p->idle++;
    while (!p->closing && !p->waiting.first)
        pthread_cond_wait(&p->more, &p->lock);
    p->idle--;
    job = p->closing ? NULL : list_take(&p->waiting);
    if (job) {
        p->queued--;
        job->state = POOL_WORKING;
    }
    self->at = job;
    return job;
}

/* Called with the lock. */
static void
hand_over(struct pool *p, struct pool_job *job)
{
    static const uint64_t one = 1;

    job->state = POOL_FINISHED;
    list_add(&p->finished, job);
    if (write(p->wake, &one, sizeof one) < 0)
        return; /* its count is at the limit: it is readable already */
}

/* False: the pool has ended, and nothing of it is touched any more. */
static bool
work_on(struct pool *p, struct pool_job *job)
{
    job->work(job->owner);
    if (!decide(job, FATE_DONE)) {
        job->orphan(job->owner);
        return false;
    }
    pthread_mutex_lock(&p->lock);
    hand_over(p, job);
    return true;
}

static void *
work(void *thread)
{
    struct pool_thread *self = thread;
    struct pool *p = self->pool;
    struct pool_job *job;

    setpriority(PRIO_PROCESS, (id_t)gettid(), p->nice); /* on Linux: of this thread alone */
    pthread_mutex_lock(&p->lock);
    while ((job = next_job(p, self))) {
        pthread_mutex_unlock(&p->lock);
        if (!work_on(p, job))
            return NULL;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* On the loop's thread -------------------------------------------------------- */

/* The loop goes on while there is a job that somebody waits for. */
static void
want(struct pool *p)
{
    if (p->wanted++ == 0)
        ev_ref(p->loop->ev);
}

static void
unwant(struct pool *p)
{
    if (--p->wanted == 0)
        ev_unref(p->loop->ev);
}

/* A job is the caller's again. */
static void
release(struct pool_job *job)
{
    bool cancelled = job->cancelled;

    job->state = POOL_NONE;
    if (!cancelled)
        unwant(job->pool);
    if (cancelled)
        job->drop(job->owner);
    else
        job->done(job->owner);
}

static struct pool_job *
take_finished(struct pool *p)
{
    struct pool_job *job;

    pthread_mutex_lock(&p->lock);
    job = list_take(&p->finished);
    pthread_mutex_unlock(&p->lock);
    return job;
}

/* As many as had finished, one by one: each may cancel others.  What finishes
 * meanwhile waits for the next iteration. */
static void
on_finished(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct pool *p = watcher->data;
    struct pool_job *job;
    uint64_t n = 0;

    (void)ev, (void)events;
    if (read(p->wake, &n, sizeof n) < 0)
        return;
    while (n-- > 0 && (job = take_finished(p)))
        release(job);
}

static size_t
most_threads(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return processors < 2 ? 2 : processors > POOL_THREADS_MAX ? POOL_THREADS_MAX : (size_t)processors;
}

void
pool_init(struct pool *p, struct loop *loop, int nice)
{
    memset(p, 0, sizeof *p);
    p->nice = nice;
    p->loop = loop;
    p->wake = -1;
    p->most = most_threads();
    list_init(&p->waiting);
    list_init(&p->finished);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
}

static bool
open_wake(struct pool *p)
{
    if (p->wake >= 0)
        return true;
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake < 0)
        return false;
    ev_io_init(&p->watcher, on_finished, p->wake, EV_READ);
    p->watcher.data = p;
    ev_io_start(p->loop->ev, &p->watcher);
    ev_unref(p->loop->ev); /* alone it keeps nothing going */
    return true;
}

/* Signals are for the loop's thread: the new one is made with all blocked. */
static int
create_thread(struct pool *p)
{
    struct pool_thread *thread = &p->thread[p->threads];
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);

    if (error)
        return error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_setstacksize(&attributes, POOL_STACK);
    thread->pool = p;
    error = pthread_create(&thread->id, &attributes, work, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!error)
        p->threads++;
    return error;
}

/* One more thread if the queue needs it.  One that cannot be had is no failure
 * while there are others. */
static bool
grow(struct pool *p, size_t jobs, size_t idle)
{
    p->process = getpid();
    if (idle >= jobs || p->threads == p->most)
        return true;
    errno = create_thread(p);
    return p->threads > 0;
}

/* Where it can be refused: the queue, the descriptor, the thread. */
static const char *
refusal(struct pool *p)
{
    size_t queued, idle;

    if (!p->loop)
        return "popd is closed: the Lua state ends";
    if (p->threads && p->process != getpid())
        return "this process is a fork: it has none of popd's threads";
    pthread_mutex_lock(&p->lock);
    queued = p->queued;
    idle = p->idle;
    pthread_mutex_unlock(&p->lock);
    if (queued >= POOL_QUEUE_MAX)
        return "too many calls wait for a thread";
    return open_wake(p) && grow(p, queued + 1, idle) ? NULL : strerror(errno);
}

bool
pool_start(struct pool *p, struct pool_job *job, const char **why)
{
    *why = refusal(p);
    if (*why)
        return false;
    job->pool = p;
    job->cancelled = false;
    job->fate = FATE_OPEN;
    job->state = POOL_WAITING;
    want(p);
    pthread_mutex_lock(&p->lock);
    list_add(&p->waiting, job);
    p->queued++;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
    loop_touch(p->loop);
    return true;
}

/* False: a thread is at it. */
static bool
take_out(struct pool *p, struct pool_job *job)
{
    bool working;

    pthread_mutex_lock(&p->lock);
    working = job->state == POOL_WORKING;
    if (job->state == POOL_WAITING) {
        list_remove(&p->waiting, job);
        p->queued--;
    } else if (!working) {
        list_remove(&p->finished, job);
    }
    pthread_mutex_unlock(&p->lock);
    return !working;
}

void
pool_cancel(struct pool_job *job)
{
    unwant(job->pool);
    job->cancelled = true;
    if (take_out(job->pool, job))
        release(job);
}

static void
drop_all(struct pool *p, struct pool_list *list)
{
    struct pool_job *job;

    while ((job = list_take(list))) {
        if (!job->cancelled)
            unwant(p);
        job->cancelled = true;
        release(job);
    }
}

/* Leaves a thread to its work, if that may be: core.so is linked so that it is
 * never unloaded.  Called with the lock.  The job
 * is not looked at again: the thread may be through already. */
static bool
leave_behind(struct pool *p, struct pool_thread *thread)
{
    struct pool_job *job = thread->at;
    bool wanted = job && !job->cancelled;

    if (!job || !job->orphan)
        return false;
    if (!decide(job, FATE_ORPHAN))
        return false; /* it is about to hand over */
    if (wanted)
        unwant(p);
    return true;
}

/* In a fork there is nobody to wait for, and the lock may be a lost thread's. */
static void
end_threads(struct pool *p)
{
    bool left[POOL_THREADS_MAX];

    if (p->process != getpid())
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->more);
    for (size_t i = 0; i < p->threads; i++)
        left[i] = leave_behind(p, &p->thread[i]);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->threads; i++)
        if (left[i])
            pthread_detach(p->thread[i].id);
        else
            pthread_join(p->thread[i].id, NULL);
    p->threads = 0;
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->more);
}

void
pool_clear(struct pool *p)
{
    if (!p->loop)
        return;
    end_threads(p);
    drop_all(p, &p->waiting);
    drop_all(p, &p->finished);
    if (p->wake >= 0) {
        ev_ref(p->loop->ev);
        ev_io_stop(p->loop->ev, &p->watcher);
        close(p->wake);
        p->wake = -1;
    }
    p->loop = NULL;
}
