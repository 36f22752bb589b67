/* uring - the limit server by io_uring instead of epoll: whether that is cheaper.
 *
 *     uring --workload W [--port N] [--repeat N]
 *
 * As limit it sends the plan's replies from memory, one more for each line that
 * comes.  All that the kernel offers for this is used: one accept and one receive
 * a connection that stay, buffers that the kernel chooses, sockets without
 * descriptors, and one system call for all that is to be done.  Linux 6.1. */
#include "plan.h"
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 1024 /* of the ring, a power of two */
#define VISITORS 4096
#define BUFFERS 256 /* a power of two */
#define BUFFER 512  /* octets: some commands */

enum { ACCEPT, RECV, SEND, CLOSE, OPS };

struct visitor {
    unsigned step, owed; /* replies sent or being sent; replies to be sent */
    bool sending, closing;
};

struct server {
    struct plan plan;
    struct buf replies; /* ours: all in a row */
    size_t *ends;       /* ours: where each step's reply ends there */
    int ring, listener;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    unsigned *sq_tail, *sq_array, *cq_head, *cq_tail, tail;
    unsigned queued; /* not submitted yet */
    struct io_uring_buf_ring *buffers;
    char room[BUFFERS][BUFFER];
    struct visitor visitors[VISITORS];
};

/* The ring ---------------------------------------------------------------- */

static int
enter(const struct server *s, unsigned wait)
{
    return (int)syscall(SYS_io_uring_enter, s->ring, s->queued, wait, IORING_ENTER_GETEVENTS, NULL, 0);
}

static int
set_up(const struct server *s, unsigned what, const void *how, unsigned n)
{
    return (int)syscall(SYS_io_uring_register, s->ring, what, how, n);
}

static void *
map(int fd, size_t n, off_t at)
{
    void *p =
        mmap(NULL, n, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, at);

    return p == MAP_FAILED ? NULL : p;
}

static bool
open_ring(struct server *s)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    char *rings;

    s->ring = (int)syscall(SYS_io_uring_setup, ENTRIES, &p);
    if (s->ring < 0)
        return false;
    rings = map(s->ring, p.cq_off.cqes + p.cq_entries * sizeof *s->cqes + p.sq_entries * sizeof(unsigned),
                IORING_OFF_SQ_RING);
    s->sqes = map(s->ring, p.sq_entries * sizeof *s->sqes, IORING_OFF_SQES);
    if (!rings || !s->sqes)
        return false;
    s->sq_tail = (void *)(rings + p.sq_off.tail);
    s->sq_array = (void *)(rings + p.sq_off.array);
    s->cq_head = (void *)(rings + p.cq_off.head);
    s->cq_tail = (void *)(rings + p.cq_off.tail);
    s->cqes = (void *)(rings + p.cq_off.cqes);
    for (unsigned i = 0; i < ENTRIES; i++)
        s->sq_array[i] = i;
    return true;
}

static void
give_buffer(struct server *s, unsigned number)
{
    struct io_uring_buf *b = &s->buffers->bufs[s->buffers->tail & (BUFFERS - 1)];

    b->addr = (uintptr_t)s->room[number];
    b->len = BUFFER;
    b->bid = (uint16_t)number;
    atomic_store_explicit((_Atomic uint16_t *)&s->buffers->tail, (uint16_t)(s->buffers->tail + 1),
                          memory_order_release);
}

static bool
open_buffers(struct server *s)
{
    struct io_uring_buf_reg buffers = {.ring_entries = BUFFERS};
    struct io_uring_rsrc_register sockets = {.nr = VISITORS, .flags = IORING_RSRC_REGISTER_SPARSE};

    s->buffers = map(-1, BUFFERS * sizeof(struct io_uring_buf), 0);
    buffers.ring_addr = (uintptr_t)s->buffers;
    if (!s->buffers || set_up(s, IORING_REGISTER_PBUF_RING, &buffers, 1) != 0 ||
        set_up(s, IORING_REGISTER_FILES2, &sockets, sizeof sockets) != 0)
        return false;
    for (unsigned i = 0; i < BUFFERS; i++)
        give_buffer(s, i);
    return true;
}

/* What is to be done ------------------------------------------------------- */

static struct io_uring_sqe *
request(struct server *s, unsigned opcode, unsigned op, unsigned slot)
{
    struct io_uring_sqe *e;

    if (s->queued == ENTRIES && enter(s, 0) >= 0)
        s->queued = 0;
    e = &s->sqes[s->tail++ & (ENTRIES - 1)];
    s->queued++;
    atomic_store_explicit((_Atomic unsigned *)s->sq_tail, s->tail, memory_order_release);
    *e = (struct io_uring_sqe){.opcode = (uint8_t)opcode, .user_data = slot * OPS + op};
    e->fd = (int)slot;
    e->flags = IOSQE_FIXED_FILE;
    return e;
}

static void
ask_accept(struct server *s)
{
    struct io_uring_sqe *e = request(s, IORING_OP_ACCEPT, ACCEPT, 0);

    e->fd = s->listener;
    e->flags = 0;
    e->ioprio = IORING_ACCEPT_MULTISHOT;
    e->file_index = IORING_FILE_INDEX_ALLOC;
}

static void
ask_recv(struct server *s, unsigned slot)
{
    struct io_uring_sqe *e = request(s, IORING_OP_RECV, RECV, slot);

    e->flags |= IOSQE_BUFFER_SELECT;
    e->ioprio = IORING_RECV_MULTISHOT;
}

static void
ask_close(struct server *s, unsigned slot)
{
    struct io_uring_sqe *e = request(s, IORING_OP_ASYNC_CANCEL, CLOSE, slot);

    s->visitors[slot].closing = true;
    e->flags = IOSQE_CQE_SKIP_SUCCESS;
    e->fd = -1;
    e->addr = slot * OPS + RECV;
    e = request(s, IORING_OP_CLOSE, CLOSE, slot);
    e->flags = IOSQE_CQE_SKIP_SUCCESS;
    e->fd = 0;
    e->file_index = slot + 1;
}

static void
ask_send(struct server *s, unsigned slot)
{
    struct visitor *v = &s->visitors[slot];
    size_t from = v->step ? s->ends[v->step - 1] : 0;
    struct io_uring_sqe *e;

    if (v->sending || v->closing || v->step == v->owed)
        return;
    v->step = v->owed;
    v->sending = true;
    e = request(s, IORING_OP_SEND, SEND, slot);
    e->addr = (uintptr_t)(s->replies.data + from);
    e->len = (unsigned)(s->ends[v->step - 1] - from);
    e->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
}

/* What was done ------------------------------------------------------------- */

static void
accepted(struct server *s, const struct io_uring_cqe *c)
{
    if (!(c->flags & IORING_CQE_F_MORE))
        ask_accept(s);
    if (c->res < 0)
        return;
    s->visitors[c->res] = (struct visitor){.owed = 1};
    ask_send(s, (unsigned)c->res);
    ask_recv(s, (unsigned)c->res);
}

/* One reply more for each line. */
static void
received(struct server *s, const struct io_uring_cqe *c, unsigned slot)
{
    struct visitor *v = &s->visitors[slot];
    unsigned number = c->flags >> IORING_CQE_BUFFER_SHIFT;

    for (int i = 0; i < c->res; i++)
        if (s->room[number][i] == '\n' && v->owed < s->plan.count)
            v->owed++;
    if (c->flags & IORING_CQE_F_BUFFER)
        give_buffer(s, number);
    if (v->closing || c->res == -ECANCELED)
        return;
    if (c->res == 0 || (c->res < 0 && c->res != -ENOBUFS)) {
        ask_close(s, slot);
        return;
    }
    ask_send(s, slot);
    if (!(c->flags & IORING_CQE_F_MORE))
        ask_recv(s, slot);
}

static void
sent(struct server *s, const struct io_uring_cqe *c, unsigned slot)
{
    struct visitor *v = &s->visitors[slot];

    v->sending = false;
    if (!v->closing && (c->res < 0 || (v->step == s->plan.count && !s->plan.stays)))
        ask_close(s, slot);
    ask_send(s, slot);
}

static void
serve(struct server *s)
{
    ask_accept(s);
    while (enter(s, 1) >= 0 || errno == EINTR) {
        unsigned head = *s->cq_head;
        unsigned end = atomic_load_explicit((_Atomic unsigned *)s->cq_tail, memory_order_acquire);

        s->queued = 0;
        for (; head != end; head++) {
            const struct io_uring_cqe *c = &s->cqes[head & (2 * ENTRIES - 1)];
            unsigned op = c->user_data % OPS, slot = (unsigned)(c->user_data / OPS);

            if (op == ACCEPT)
                accepted(s, c);
            else if (op == RECV)
                received(s, c, slot);
            else if (op == SEND)
                sent(s, c, slot);
        }
        atomic_store_explicit((_Atomic unsigned *)s->cq_head, head, memory_order_release);
    }
}

static bool
prepare(struct server *s)
{
    s->ends = calloc(s->plan.count, sizeof *s->ends);
    for (size_t i = 0; s->ends && i < s->plan.count; i++) {
        buf_add(&s->replies, s->plan.steps[i].reply.data, s->plan.steps[i].reply.len);
        s->ends[i] = s->replies.len;
    }
    return s->ends && !s->replies.failed;
}

static const struct option options[] = {
    {"workload", 1, NULL, 'w'}, {"port", 1, NULL, 'p'}, {"repeat", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};

int
main(int argc, char **argv)
{
    static struct server s;
    const char *workload = "";
    size_t repeat = 1;
    unsigned port = 0;
    int option, on = 1;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'w')
            workload = optarg;
        else if (option == 'p')
            port = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'r')
            repeat = strtoul(optarg, NULL, 10);
    }
    if (!plan_make(&s.plan, workload, repeat, NULL) || !prepare(&s)) {
        fprintf(stderr, "usage: uring --workload " PLAN_NAMES " [--port N] [--repeat N]\n");
        return 2;
    }
    s.listener = wire_listen(port);
    if (s.listener < 0 || !open_ring(&s) || !open_buffers(&s) ||
        setsockopt(s.listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        perror("uring");
        return 1;
    }
    printf("port=%u\n", wire_port(s.listener));
    fflush(stdout);
    serve(&s);
    perror("uring");
    return 1;
}
