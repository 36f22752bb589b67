#include "loop.h"

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Turns run for so many seconds; then those look again who wait for descriptors. */
#define TURNS_MAX 0.001

static void
run_first(struct loop *l, struct turns *q)
{
    struct turn *t = q->first;

    turn_cancel(t, l);
    t->run(t->owner);
}

static void
add_turn(struct turn *t, struct turns *q)
{
    t->next = NULL;
    t->link = q->last;
    *q->last = t;
    q->last = &t->next;
}

/* Once all before the mark ran, or were cancelled. */
static void
end_round(struct loop *l, struct turns *q)
{
    if (q->first != &q->mark)
        return;
    turn_cancel(&q->mark, l);
    q->rounds++;
}

/* For so many seconds, and one turn at least.  The queue as it stands, perhaps in
 * several iterations: `mark` stands behind it.  What queues itself again comes after
 * that, so that a busy one cannot hold the loop. */
static void
run_queue(struct loop *l, struct turns *q, double seconds)
{
    double stop;

    end_round(l, q);
    if (!q->first)
        return;
    stop = loop_now() + seconds;
    l->invoked = true;
    if (!q->mark.link)
        add_turn(&q->mark, q);
    do
        run_first(l, q);
    while (q->mark.link && q->first != &q->mark && loop_now() < stop);
    end_round(l, q);
}

static void
run_turns(struct ev_loop *ev, ev_prepare *w, int events)
{
    struct loop *l = w->data;

    (void)ev, (void)events;
    run_queue(l, &l->turns, TURNS_MAX);
    run_queue(l, &l->long_turns, 0);
}

static bool
has_turns(const struct loop *l)
{
    return l->turns.first || l->long_turns.first;
}

/* Whether turns are left of those that an earlier iteration began to run, in the first
 * round since.  A busy queue is always amid one: two need never come to their ends at once. */
static bool
is_amid(const struct turns *q, unsigned since)
{
    return q->mark.link && q->rounds == since;
}

static void
on_idle(struct ev_loop *ev, ev_idle *w, int events)
{
    (void)ev, (void)w, (void)events;
}

static void
on_pending(struct ev_loop *ev)
{
    struct loop *l = ev_userdata(ev);

    /* Our own prepare watcher is due in every iteration; the turns tell by themselves. */
    if (ev_pending_count(ev) > (ev_is_pending(&l->prepare) ? 1u : 0u))
        l->invoked = true;
    ev_invoke_pending(ev);
}

/* The lowest free descriptor: the one that the next open gets. */
static int
next_descriptor(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd;
}

bool
loop_init(struct loop *l)
{
    *l = (struct loop){.fd = -1, .tick = -1};
    l->turns.last = &l->turns.first;
    l->long_turns.last = &l->long_turns.first;
    l->backend = next_descriptor(); /* libev opens its epoll set first, and does not tell it */
    l->ev = ev_loop_new(EVFLAG_AUTO);
    if (!l->ev)
        return false;
    ev_set_userdata(l->ev, l);
    ev_set_invoke_pending_cb(l->ev, on_pending);
    ev_prepare_init(&l->prepare, run_turns);
    ev_idle_init(&l->idle, on_idle);
    l->prepare.data = l;
    ev_prepare_start(l->ev, &l->prepare);
    ev_unref(l->ev); /* alone it keeps nothing going */
    return true;
}

void
loop_clear(struct loop *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->tick >= 0)
        close(l->tick);
    if (l->ev)
        ev_loop_destroy(l->ev);
    *l = (struct loop){.fd = -1, .tick = -1};
}

double
loop_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void
loop_run(struct loop *l)
{
    l->running = true;
    ev_run(l->ev, 0);
    l->running = false;
}

void
loop_stop(struct loop *l)
{
    ev_break(l->ev, EVBREAK_ALL);
}

static double
first_due(const struct loop *l)
{
    double due = 0;

    for (const struct alarm *a = l->alarms; a; a = a->next)
        if (due == 0 || a->due < due)
            due = a->due;
    return due;
}

/* Sets the timer of loop_fd to the first alarm. */
static void
set_tick(struct loop *l)
{
    double first, left;
    struct itimerspec at = {0};

    if (l->tick < 0)
        return;
    first = first_due(l);
    left = has_turns(l) ? 1e-9 : first - loop_now();
    if (has_turns(l) || first > 0) {
        left = left < 1e-9 ? 1e-9 : left > 1e6 ? 1e6 : left;
        at.it_value.tv_sec = (time_t)left;
        at.it_value.tv_nsec = (long)((left - (double)at.it_value.tv_sec) * 1e9) + 1;
    }
    timerfd_settime(l->tick, 0, &at, NULL);
}

void
loop_touch(struct loop *l)
{
    static const struct itimerspec now = {.it_value.tv_nsec = 1};

    if (l->tick >= 0 && !l->running)
        timerfd_settime(l->tick, 0, &now, NULL);
}

static void
stop_waiting(void *owner)
{
    (void)owner;
}

bool
loop_step(struct loop *l, double seconds)
{
    struct alarm limit;
    unsigned round = l->turns.rounds, long_round = l->long_turns.rounds;
    int left;

    l->running = true;
    alarm_init(&limit, l, stop_waiting, NULL);
    if (seconds > 0)
        alarm_set(&limit, seconds);
    if (seconds != 0)
        ev_run(l->ev, EVRUN_ONCE);
    alarm_stop(&limit);
    /* libev tells the kernel of a new watcher at the next iteration only, so
     * go on until one does nothing: then loop_fd knows them all.  Turns that were
     * there already are run to the last. */
    do {
        l->invoked = false;
        left = ev_run(l->ev, EVRUN_NOWAIT);
    } while (l->invoked && seconds == 0 &&
             (!has_turns(l) || is_amid(&l->turns, round) || is_amid(&l->long_turns, long_round)));
    l->running = false;
    set_tick(l);
    return left;
}

static bool
watch(int set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Whether `backend` really is libev's epoll set: only such a set can be added to. */
static bool
has_backend(const struct loop *l)
{
    return ev_backend(l->ev) == EVBACKEND_EPOLL && watch(l->backend, l->tick) &&
           epoll_ctl(l->backend, EPOLL_CTL_DEL, l->tick, NULL) == 0;
}

int
loop_fd(struct loop *l)
{
    if (l->fd >= 0)
        return l->fd;
    l->fd = epoll_create1(EPOLL_CLOEXEC);
    l->tick = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!has_backend(l) || !watch(l->fd, l->backend) || !watch(l->fd, l->tick)) {
        close(l->fd);
        close(l->tick);
        l->fd = l->tick = -1;
        return -1;
    }
    loop_step(l, 0);
    return l->fd;
}

static void
queue(struct turn *t, struct turns *q, struct loop *l)
{
    if (t->link)
        return;
    add_turn(t, q);
    ev_idle_start(l->ev, &l->idle);
    loop_touch(l);
}

void
turn_queue(struct turn *t, struct loop *l)
{
    queue(t, &l->turns, l);
}

void
turn_queue_long(struct turn *t, struct loop *l)
{
    queue(t, &l->long_turns, l);
}

void
turn_cancel(struct turn *t, struct loop *l)
{
    if (!t->link)
        return;
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    else if (l->turns.last == &t->next)
        l->turns.last = t->link;
    else if (l->long_turns.last == &t->next)
        l->long_turns.last = t->link;
    t->link = NULL;
    if (!has_turns(l))
        ev_idle_stop(l->ev, &l->idle);
}

static void
unlink_alarm(struct alarm *a)
{
    *a->link = a->next;
    if (a->next)
        a->next->link = a->link;
    a->link = NULL;
}

static void
on_timer(struct ev_loop *ev, ev_timer *w, int events)
{
    struct alarm *a = w->data;

    (void)events;
    unlink_alarm(a);
    if (a->weak)
        ev_ref(ev); /* libev has stopped it, and counted it out */
    a->ring(a->owner);
}

void
alarm_init(struct alarm *a, struct loop *l, void (*ring)(void *), void *owner)
{
    *a = (struct alarm){.loop = l, .ring = ring, .owner = owner};
    ev_init(&a->timer, on_timer);
    a->timer.data = a;
}

void
alarm_set(struct alarm *a, double seconds)
{
    struct loop *l = a->loop;

    alarm_stop(a);
    ev_now_update(l->ev); /* libev's own now is as old as its last poll: a timer would be early */
    a->due = loop_now() + seconds;
    ev_timer_set(&a->timer, seconds, 0);
    ev_timer_start(l->ev, &a->timer);
    if (a->weak)
        ev_unref(l->ev);
    a->next = l->alarms;
    if (a->next)
        a->next->link = &a->next;
    a->link = &l->alarms;
    l->alarms = a;
    loop_touch(l);
}

void
alarm_stop(struct alarm *a)
{
    if (!a->link)
        return;
    if (a->weak)
        ev_ref(a->loop->ev);
    ev_timer_stop(a->loop->ev, &a->timer);
    unlink_alarm(a);
}
