/*
 * loop - one libev loop, with alarms and turns.
 *
 * Everything that waits in a process waits here: watchers on descriptors
 * (plain libev), alarms, and turns: things to go on with once the others had
 * theirs.  Turns that compute for long are queued by themselves: one of them runs
 * in an iteration, so that descriptors and other turns never wait for two.  The loop is one of our own
 * (ev_loop_new), which leaves the process's signals and children alone: libev's default loop would reap every
 * child.
 */
#ifndef POPD_LOOP_H
#define POPD_LOOP_H

#include <ev.h>
#include <stdbool.h>

struct turn {
    void (*run)(void *owner);
    void *owner;        /* borrowed */
    struct turn *next;  /* while queued */
    struct turn **link; /* what points to this one; NULL: not queued */
};

struct turns {
    struct turn *first, **last;
    struct turn mark; /* while queued: behind the turns that are to run before later ones */
    unsigned rounds;  /* how often they all had run */
};

struct alarm {
    ev_timer timer;
    struct loop *loop; /* borrowed */
    void (*ring)(void *owner);
    void *owner;         /* borrowed */
    double due;          /* by loop_now; valid while set */
    bool weak;           /* set before it is set: alone it keeps nothing going */
    struct alarm *next;  /* among the alarms that are set */
    struct alarm **link; /* NULL: not set */
};

struct loop {
    struct ev_loop *ev; /* ours */
    struct turns turns, long_turns;
    struct alarm *alarms;
    ev_prepare prepare; /* runs the turns */
    ev_idle idle;       /* while turns are queued: poll does not block */
    bool running;
    bool invoked; /* a callback ran in this iteration */
    int backend;  /* libev's epoll set; borrowed */
    int fd, tick; /* loop_fd's epoll and timer; -1 until asked for */
};

/* False: the system gives no loop (descriptors, memory). */
bool loop_init(struct loop *l);
void loop_clear(struct loop *l);

/* Seconds of a clock that nobody sets: for intervals, not for dates. */
double loop_now(void);

/* Runs until nothing is left or loop_stop was called. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* One iteration that waits at most that long (negative: until something
 * happens); 0: does what is ready.  Leaves loop_fd readable when there will be
 * more.  True while anything is left. */
bool loop_step(struct loop *l, double seconds);

/* A descriptor that is readable when loop_step has something to do: for
 * living inside another loop.  -1: the system refuses. */
int loop_fd(struct loop *l);

/* Something was added from outside an iteration: loop_fd becomes readable, so
 * that the next step takes it up. */
void loop_touch(struct loop *l);

/* Queues a turn; once, however often it is called before it ran.  turn_queue_long:
 * one that computes for about a millisecond. */
void turn_queue(struct turn *t, struct loop *l);
void turn_queue_long(struct turn *t, struct loop *l);
void turn_cancel(struct turn *t, struct loop *l);

void alarm_init(struct alarm *a, struct loop *l, void (*ring)(void *), void *owner);

/* Rings once after so many seconds; anew if it was set. */
void alarm_set(struct alarm *a, double seconds);
void alarm_stop(struct alarm *a);

#endif
