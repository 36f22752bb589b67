/* limit - the least that a workload can cost a server: it sends the plan's
 * replies from memory, one more for each line that comes, and looks at nothing.
 *
 *     limit --workload W [--port N] [--repeat N] [--cert FILE --key FILE]
 *           [--convert FILE] [--flip]
 *
 * --convert: the body of each message is read from that file, which has LF, and
 * converted: the least that a server with such files can do.  --flip: one bit of
 * the first message is wrong, for the spec that sees it found.  Prints port=N and
 * serves on 127.0.0.1 until a signal ends it. */
#include "convert.h"
#include "plan.h"
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EVENTS 256

/* All replies in a row: those to pipelined commands are one piece of it. */
struct limit {
    struct plan plan;
    struct buf replies; /* ours */
    size_t *ends;       /* ours: where each step's reply ends there */
    const char *file;   /* borrowed; NULL: no conversion */
    SSL_CTX *tls;       /* ours; NULL: plain */
    int epoll, listener;
};

struct visitor {
    struct wire wire; /* ours */
    const char *at;   /* what is being sent: at[0..left), of the replies or of `body` */
    size_t left;
    unsigned step, owed; /* replies sent or being sent; replies to be sent */
    unsigned events;
    struct body *body; /* ours; NULL until a message is converted */
};

struct body {
    struct convert convert;
    bool open;
    char text[64 + CONVERT_ROOM];
};

static bool
limit_prepare(struct limit *l)
{
    l->ends = calloc(l->plan.count, sizeof *l->ends);
    for (size_t i = 0; l->ends && i < l->plan.count; i++) {
        const struct buf *reply = &l->plan.steps[i].reply;

        buf_add(&l->replies, reply->data, reply->len);
        l->ends[i] = l->replies.len;
    }
    return l->ends && !l->replies.failed;
}

static void
visitor_close(struct visitor *v)
{
    if (v->body && v->body->open)
        convert_close(&v->body->convert);
    free(v->body);
    wire_close(&v->wire, true);
    free(v);
}

static char piece[CONVERT_PIECE];

/* The next piece of a message, with its status line if it is the first. */
static bool
body_next(struct visitor *v, size_t status)
{
    size_t n = convert_next(&v->body->convert, piece, v->body->text + status);

    v->at = v->body->text;
    v->left = status + n;
    if (n == 0) {
        convert_close(&v->body->convert);
        v->body->open = false;
    }
    return n > 0;
}

static bool
body_begin(const struct limit *l, struct visitor *v)
{
    if (!v->body && !(v->body = malloc(sizeof *v->body)))
        return false;
    v->body->open = convert_open(&v->body->convert, l->file);
    if (!v->body->open)
        return false;
    memcpy(v->body->text, "+OK\r\n", 5);
    return body_next(v, 5);
}

/* Finds what is to be sent next.  False: nothing is. */
static bool
visitor_refill(const struct limit *l, struct visitor *v)
{
    size_t from = v->step ? l->ends[v->step - 1] : 0;

    if (v->body && v->body->open && body_next(v, 0))
        return true;
    if (v->step == v->owed)
        return false;
    if (l->file) {
        const struct step *step = &l->plan.steps[v->step++];

        if (step->number)
            return body_begin(l, v);
    } else {
        v->step = v->owed;
    }
    v->at = l->replies.data + from;
    v->left = l->ends[v->step - 1] - from;
    return true;
}

static void
visitor_watch(const struct limit *l, struct visitor *v, unsigned events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = v};

    if (how == EPOLL_CTL_ADD || events != v->events)
        epoll_ctl(l->epoll, how, v->wire.fd, &event);
    v->events = events;
}

/* Sends what it can.  False: the connection is to be closed. */
static bool
visitor_send(const struct limit *l, struct visitor *v, unsigned *events)
{
    while (v->left > 0 || visitor_refill(l, v)) {
        ssize_t n = wire_write(&v->wire, v->at, v->left, events);

        if (n < 0)
            return false;
        if (n == 0)
            return true;
        v->at += n;
        v->left -= (size_t)n;
    }
    return v->step < l->plan.count || l->plan.stays;
}

/* One reply more for each line. */
static bool
visitor_read(const struct limit *l, struct visitor *v, unsigned *events)
{
    ssize_t n = wire_read(&v->wire, piece, sizeof piece, events);

    if (n < 0)
        return false;
    for (const char *p = piece; (p = memchr(p, '\n', (size_t)(piece + n - p))); p++)
        if (v->owed < l->plan.count)
            v->owed++;
    return true;
}

static void
visitor_ready(const struct limit *l, struct visitor *v)
{
    unsigned events = EPOLLIN;

    if ((v->left == 0 && !visitor_read(l, v, &events)) || !visitor_send(l, v, &events))
        visitor_close(v);
    else
        visitor_watch(l, v, events, EPOLL_CTL_MOD);
}

static void
limit_accept(const struct limit *l)
{
    int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct visitor *v = fd >= 0 ? calloc(1, sizeof *v) : NULL;
    unsigned events = EPOLLIN;

    if (!v || !wire_init(&v->wire, fd, l->tls, true)) {
        free(v);
        return;
    }
    v->owed = 1;
    if (visitor_send(l, v, &events))
        visitor_watch(l, v, events, EPOLL_CTL_ADD);
    else
        visitor_close(v);
}

static void
limit_serve(const struct limit *l)
{
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};

    epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listener, &event);
    for (;;) {
        int n = epoll_wait(l->epoll, events, EVENTS, -1);

        if (n < 0 && errno != EINTR)
            return;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                visitor_ready(l, events[i].data.ptr);
            else
                limit_accept(l);
        }
    }
}

struct request {
    const char *workload, *cert, *key, *file;
    unsigned port;
    size_t repeat;
    bool flip;
};

static const struct option options[] = {
    {"workload", 1, NULL, 'w'}, {"port", 1, NULL, 'p'},    {"repeat", 1, NULL, 'r'}, {"cert", 1, NULL, 'c'},
    {"key", 1, NULL, 'k'},      {"convert", 1, NULL, 'f'}, {"flip", 0, NULL, 'x'},   {NULL, 0, NULL, 0},
};

static bool
take_options(struct request *r, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'w':
            r->workload = optarg;
            break;
        case 'p':
            r->port = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            r->repeat = strtoul(optarg, NULL, 10);
            break;
        case 'c':
            r->cert = optarg;
            break;
        case 'k':
            r->key = optarg;
            break;
        case 'f':
            r->file = optarg;
            break;
        case 'x':
            r->flip = true;
            break;
        default:
            return false;
        }
    }
    return r->workload && r->repeat && !r->cert == !r->key;
}

static void
flip_bit(struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        struct step *step = &plan->steps[i];

        if (step->number) {
            step->reply.data[(step->body + step->reply.len) / 2] ^= 1;
            return;
        }
    }
}

/* NULL, or what is wrong. */
static const char *
limit_begin(struct limit *l, const struct request *r)
{
    if (!plan_make(&l->plan, r->workload, r->repeat, NULL))
        return "no such workload, or out of memory";
    if (r->flip)
        flip_bit(&l->plan);
    if (!limit_prepare(l))
        return "out of memory";
    if (r->cert && !(l->tls = wire_server_tls(r->cert, r->key)))
        return "the certificate or its key is wrong";
    l->listener = wire_listen(r->port);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    return l->listener < 0 || l->epoll < 0 ? strerror(errno) : NULL;
}

int
main(int argc, char **argv)
{
    struct request r = {.repeat = 1};
    struct limit l = {0};
    const char *why;

    if (!take_options(&r, argc, argv)) {
        fprintf(stderr, "usage: limit --workload " PLAN_NAMES " [--port N]\n"
                        "    [--repeat N] [--cert FILE --key FILE] [--convert FILE] [--flip]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    wire_raise_limit();
    l.file = r.file;
    why = limit_begin(&l, &r);
    if (why) {
        fprintf(stderr, "limit: %s\n", why);
        return 1;
    }
    printf("port=%u\n", wire_port(l.listener));
    fflush(stdout);
    limit_serve(&l);
    return 1;
}
