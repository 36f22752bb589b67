/*
 * crowd - many clients of one server, in one epoll loop.
 */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include "check.h"
#include "latency.h"
#include "wire.h"

struct crowd_options {
    unsigned port; /* of 127.0.0.1 */
    size_t connections;
    uint64_t sessions; /* the run ends after so many, */
    double seconds;    /* or when this time is up and what runs has ended */
    uint64_t pause;    /* nanoseconds from a reply to the next command, once logged in */
    size_t first;      /* the number of the first user */
    bool awake;        /* looks for replies without ever sleeping: nobody pays for waking it */
    bool pipeline;     /* all that follows the login is said at once */
    SSL_CTX *tls;      /* borrowed; NULL: plain */
    bool resume;       /* each connection asks to resume the TLS session of the one before */
    enum check_mode mode;
};

struct crowd_result {
    uint64_t sessions, replies, octets; /* whole sessions; octets read */
    uint64_t wrong, unexpected;         /* bodies; replies, ends and errors */
    uint64_t asked, resumed;            /* sessions that asked to resume one of TLS; that did */
    double seconds;
    struct latency session, reply; /* from connecting to QUIT's answer; from a command to its answer's end */
    struct latency words[PLAN_WORDS]; /* the replies to each word */
};

/* Runs a plan, and says on stderr what was not as planned.  One that stays says
 * "ready" on stdout once all connections are there, and holds them until stdin
 * ends.  False: the run could not be made or came to no end. */
bool crowd_run(const struct crowd_options *options, const struct plan *plan, struct crowd_result *seen);

#endif
