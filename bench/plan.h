/*
 * plan - a workload: what a client says, and what it must read.
 *
 * Pure.  The load generator says `say` and compares; the limit server sends
 * `reply` for each line that comes.  A reply is a status line that begins with
 * reply[0..status), and what follows it from `body` on.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "../core/buf.h"
#include "mail.h"

enum answer {
    ANSWER_LINE, /* a status line alone */
    ANSWER_TEXT, /* exactly these lines follow */
    ANSWER_UIDS  /* unique-ids follow, which each server makes itself */
};

struct step {
    const char *say; /* static, without CRLF; "USER" gets the user's name; NULL: the greeting */
    size_t word;     /* which of the words that a client may say: 0 to PLAN_WORDS - 1 */
    size_t number;   /* 0, or the message that is asked for */
    enum answer answer;
    struct buf reply; /* ours */
    size_t status;    /* how much of the status line has to be so; behind it comes a blank or the end */
    size_t body;
    size_t items; /* ANSWER_UIDS: how many */
};

struct plan {
    const struct mailbox *box; /* static */
    struct step *steps;        /* ours; the greeting first */
    size_t count, room;
    size_t word;      /* whose steps are being added */
    bool failed;      /* out of memory */
    size_t repeat;    /* times that each message is asked for, or NOOP said */
    bool stays;       /* the workload ends with connections held */
    size_t pipelined; /* from this step on everything may be said at once */
};

/* Makes the workload of a name.  repeat: how often each message is fetched, or NOOP said;
 * without: a command that is left out, or NULL.  False: there is no such
 * workload, or no memory; clear it all the same. */
bool plan_make(struct plan *p, const char *workload, size_t repeat, const char *without);
void plan_clear(struct plan *p);

/* What clients say, in small letters; the greeting is the first. */
#define PLAN_WORDS 9
const char *plan_word(size_t word);

/* The names of all, for a usage line. */
#define PLAN_NAMES "session|login|retr|huge|noop|greet|rest|rest-before"

/* Appends what a client says at a step, with its CRLF. */
void step_say(struct buf *out, const struct step *step, size_t user);

#endif
