#include "crowd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define PIECE (256 * 1024) /* of one read */
#define EVENTS 256
#define PATIENCE 120.0 /* seconds beyond the run's: then a server hangs */

struct client {
    struct wire wire; /* ours; fd -1: none */
    size_t user;
    size_t step;     /* whose reply comes next; the plan's count: only the end may come */
    size_t said;     /* steps whose commands are in `out` or sent */
    struct buf out;  /* ours */
    size_t sent;     /* of out */
    unsigned events; /* what epoll waits for */
    bool resting;
    uint64_t began, asked;
    uint64_t due;         /* when the next command is to be said; 0: none waits */
    SSL_SESSION *session; /* ours: what the next connection resumes; NULL: nothing */
    bool asks;            /* this one was to resume one */
    uint64_t uids;        /* the hash of the unique-ids that this user was told; 0: none yet */
    struct check check;
};

struct crowd {
    const struct crowd_options *options;
    const struct plan *plan;
    struct crowd_result *seen;
    struct client *clients; /* ours */
    char *piece;            /* ours */
    int epoll;
    uint64_t started, from;
    size_t open, resting;
    bool failed; /* out of memory, or the system refuses */
};

static uint64_t
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double
elapsed(const struct crowd *c)
{
    return (double)(now() - c->from) / 1e9;
}

static const char *
said_at(const struct client *k, const struct plan *plan)
{
    return k->step == plan->count     ? "the end"
           : plan->steps[k->step].say ? plan->steps[k->step].say
                                      : "greeting";
}

/* Ends a connection for a reason that is not in the plan. */
static void
client_complain(struct crowd *c, struct client *k, const char *what, const char *data, size_t n)
{
    fprintf(stderr, "load: u%zu, %s: %s", k->user, said_at(k, c->plan), what);
    for (size_t i = 0; i < n && i < 120; i++)
        fprintf(stderr, data[i] >= ' ' && data[i] <= '~' ? "%c" : "\\x%02x", (unsigned char)data[i]);
    fprintf(stderr, "\n");
}

/* Keeps what the next connection is to resume. */
static void
client_keep_session(struct crowd *c, struct client *k)
{
    SSL_SESSION *session = c->options->resume ? wire_session(&k->wire) : NULL;

    if (!session)
        return;
    SSL_SESSION_free(k->session);
    k->session = session;
}

static void
client_close(struct crowd *c, struct client *k)
{
    client_keep_session(c, k);
    wire_close(&k->wire, true);
    buf_clear(&k->out);
    k->sent = 0;
    c->open--;
    if (k->resting)
        c->resting--;
    k->resting = false;
    k->due = 0;
}

static bool
client_watch(struct crowd *c, struct client *k, unsigned events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = k};

    if (how == EPOLL_CTL_MOD && k->events == events)
        return true;
    k->events = events;
    if (epoll_ctl(c->epoll, how, k->wire.fd, &event) == 0)
        return true;
    perror("load: epoll_ctl");
    c->failed = true;
    return false;
}

/* Connects for the next session, if one is to be. */
static void
client_begin(struct crowd *c, struct client *k)
{
    int fd;

    if (c->failed || c->seen->unexpected || c->started >= c->options->sessions ||
        (elapsed(c) >= c->options->seconds && !c->plan->stays))
        return;
    c->started++;
    fd = wire_connect(c->options->port);
    if (fd < 0 || !wire_init(&k->wire, fd, c->options->tls, false)) {
        perror("load: connect");
        c->failed = true;
        return;
    }
    k->asks = k->session && wire_resume(&k->wire, k->session);
    c->open++;
    k->step = 0;
    k->said = 1;
    k->began = k->asked = now();
    check_begin(&k->check, c->plan->steps, c->options->mode);
    client_watch(c, k, c->options->tls ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_ADD);
}

/* Puts what is to be said next into `out`. */
static void
client_ask(struct crowd *c, struct client *k)
{
    size_t upto = k->step + 1;

    if (c->options->pipeline && c->plan->pipelined && k->step >= c->plan->pipelined)
        upto = c->plan->count;
    for (; k->said < upto; k->said++)
        step_say(&k->out, &c->plan->steps[k->said], k->user);
    c->failed |= k->out.failed;
    k->asked = now();
    check_begin(&k->check, &c->plan->steps[k->step], c->options->mode);
}

static void
client_fail(struct crowd *c, struct client *k)
{
    c->seen->unexpected++;
    client_close(c, k);
}

/* Sends what is to be sent.  False: the connection is gone. */
static bool
client_send(struct crowd *c, struct client *k)
{
    unsigned events = EPOLLIN;

    while (k->sent < k->out.len) {
        ssize_t n = wire_write(&k->wire, k->out.data + k->sent, k->out.len - k->sent, &events);

        if (n < 0) {
            client_complain(c, k, "cannot send", NULL, 0);
            client_fail(c, k);
            return false;
        }
        if (n == 0)
            break;
        k->sent += (size_t)n;
    }
    if (k->sent == k->out.len)
        k->sent = k->out.len = 0;
    return client_watch(c, k, events | EPOLLIN, EPOLL_CTL_MOD);
}

/* A mailbox tells the same unique-ids in each session. */
static bool
uids_stay(struct client *k)
{
    bool same = k->uids == 0 || k->uids == k->check.hash;

    k->uids = k->check.hash;
    return same;
}

/* A reply was right: what comes next is asked for. */
static void
client_next(struct crowd *c, struct client *k)
{
    uint64_t at = now();

    c->seen->replies++;
    latency_add(&c->seen->reply, at - k->asked);
    latency_add(&c->seen->words[c->plan->steps[k->step].word], at - k->asked);
    k->step++;
    if (k->step < c->plan->count && c->options->pause && k->step >= c->plan->pipelined) {
        k->due = at + c->options->pause;
    } else if (k->step < c->plan->count) {
        client_ask(c, k);
    } else if (c->plan->stays) {
        k->resting = true;
        c->resting++;
    } else {
        latency_add(&c->seen->session, at - k->began);
    }
}

static enum check_result
client_check(struct client *k, const char *data, size_t n, size_t *used)
{
    enum check_result result = check_feed(&k->check, data, n, used);

    if (result == CHECK_DONE && k->check.step->answer == ANSWER_UIDS && !uids_stay(k))
        return CHECK_WRONG;
    return result;
}

/* Takes octets.  False: the connection is gone. */
static bool
client_take(struct crowd *c, struct client *k, const char *data, size_t n)
{
    enum check_result result = CHECK_MORE;
    size_t used;

    for (; n > 0 && k->step < c->plan->count; data += used, n -= used) {
        result = client_check(k, data, n, &used);
        if (result == CHECK_DONE)
            client_next(c, k);
        else if (result != CHECK_MORE)
            break;
    }
    if (n == 0)
        return true;
    client_complain(c, k, result == CHECK_WRONG ? "a wrong body at " : "did not expect ", data, n);
    if (result == CHECK_WRONG)
        c->seen->wrong++;
    else
        c->seen->unexpected++;
    client_close(c, k);
    return false;
}

/* The server ended the connection: after QUIT's answer that is how sessions end. */
static void
client_ended(struct crowd *c, struct client *k)
{
    if (k->step == c->plan->count && !c->plan->stays) {
        c->seen->sessions++;
        c->seen->asked += k->asks;
        c->seen->resumed += k->asks && wire_resumed(&k->wire);
        client_close(c, k);
    } else {
        client_complain(c, k, "the connection ended", NULL, 0);
        client_fail(c, k);
    }
}

/* Reads what is there.  False: the connection is gone. */
static bool
client_read(struct crowd *c, struct client *k)
{
    unsigned events = EPOLLIN;
    ssize_t n;

    do {
        n = wire_read(&k->wire, c->piece, PIECE, &events);
        if (n < 0) {
            client_ended(c, k);
            return false;
        }
        c->seen->octets += (uint64_t)n;
        if (n > 0 && !client_take(c, k, c->piece, (size_t)n))
            return false;
    } while (n > 0 && k->wire.tls);
    return client_watch(c, k, events, EPOLL_CTL_MOD);
}

static void
client_ready(struct crowd *c, struct client *k)
{
    if (client_read(c, k))
        client_send(c, k);
    if (k->wire.fd < 0)
        client_begin(c, k);
}

static bool
crowd_wait(struct crowd *c, int timeout)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(c->epoll, events, EVENTS, timeout);

    if (n < 0 && errno != EINTR)
        return false;
    for (int i = 0; i < n; i++)
        client_ready(c, events[i].data.ptr);
    return true;
}

/* Lets those speak whose pause is over. */
static void
crowd_wake(struct crowd *c)
{
    uint64_t at = c->options->pause ? now() : 0;

    for (size_t i = 0; at && i < c->options->connections; i++) {
        struct client *k = &c->clients[i];

        if (k->due && k->due <= at) {
            k->due = 0;
            client_ask(c, k);
            client_send(c, k);
        }
    }
}

/* Whether the run has come to its end, or to its rest. */
static bool
crowd_done(const struct crowd *c)
{
    return c->failed || c->open == 0 || c->seen->unexpected || (c->plan->stays && c->resting == c->open);
}

static bool
crowd_go(struct crowd *c)
{
    while (!crowd_done(c)) {
        if (!crowd_wait(c, c->options->awake ? 0 : c->options->pause ? 1 : 100))
            return false;
        crowd_wake(c);
        if (elapsed(c) > c->options->seconds + PATIENCE) {
            fprintf(stderr, "load: %zu connections have no answer\n", c->open);
            return false;
        }
    }
    return !c->failed;
}

/* Connections at rest are held until whoever started this closes its input, or
 * the server ends one. */
static bool
crowd_hold(struct crowd *c)
{
    struct epoll_event event = {.events = EPOLLIN};
    bool told = false;

    printf("ready\n");
    fflush(stdout);
    if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        return errno == EPERM; /* a file: its end is there at once */
    while (!told && !c->seen->unexpected) {
        int n = epoll_wait(c->epoll, &event, 1, 1000);

        told = (n > 0 && !event.data.ptr) || elapsed(c) > c->options->seconds;
        if (n > 0 && event.data.ptr)
            client_ready(c, event.data.ptr);
    }
    return true;
}

static void
crowd_clear(struct crowd *c)
{
    for (size_t i = 0; c->clients && i < c->options->connections; i++) {
        if (c->clients[i].wire.fd >= 0)
            client_close(c, &c->clients[i]);
        SSL_SESSION_free(c->clients[i].session);
    }
    free(c->clients);
    free(c->piece);
    if (c->epoll >= 0)
        close(c->epoll);
}

/* Connections are opened a few at a time, so that no server's queue overflows. */
static void
crowd_begin(struct crowd *c)
{
    for (size_t i = 0; i < c->options->connections && !c->failed; i++) {
        client_begin(c, &c->clients[i]);
        if (i % 64 == 63)
            crowd_wait(c, 10);
    }
}

bool
crowd_run(const struct crowd_options *options, const struct plan *plan, struct crowd_result *seen)
{
    struct crowd c = {.options = options, .plan = plan, .seen = seen, .from = now()};
    bool ok;

    wire_raise_limit();
    c.clients = calloc(options->connections, sizeof *c.clients);
    c.piece = malloc(PIECE);
    c.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; c.clients && i < options->connections; i++)
        c.clients[i] = (struct client){.wire = {.fd = -1}, .user = options->first + i};
    ok = c.clients && c.piece && c.epoll >= 0;
    if (ok) {
        crowd_begin(&c);
        ok = crowd_go(&c) && (!plan->stays || crowd_hold(&c));
    }
    seen->seconds = elapsed(&c);
    if (plan->stays)
        seen->sessions = c.resting;
    crowd_clear(&c);
    return ok;
}
