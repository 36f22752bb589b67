#include "plan.h"

#include <stdlib.h>
#include <string.h>

/* A step more; NULL: out of memory. */
static struct step *
step_new(struct plan *p, const char *say, const char *status)
{
    struct step *step;

    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 16;
        struct step *more = realloc(p->steps, room * sizeof *more);

        if (!more) {
            p->failed = true;
            return NULL;
        }
        p->steps = more;
        p->room = room;
    }
    step = &p->steps[p->count++];
    *step = (struct step){.say = say, .word = p->word};
    buf_puts(&step->reply, status);
    step->status = step->reply.len;
    buf_puts(&step->reply, "\r\n");
    step->body = step->reply.len;
    return step;
}

static void
step_end(struct plan *p, struct step *step)
{
    buf_puts(&step->reply, ".\r\n");
    p->failed |= step->reply.failed;
}

static void
add_line(struct plan *p, const char *say)
{
    step_new(p, say, "+OK");
}

static void
add_stat(struct plan *p, const char *say)
{
    struct buf status = {0};
    size_t octets = 0;

    for (size_t i = 1; i <= p->box->count; i++)
        octets += mail_octets(p->box, i);
    buf_printf(&status, "+OK %zu %zu", p->box->count, octets);
    buf_add(&status, "", 1);
    p->failed |= status.failed;
    if (!status.failed)
        step_new(p, say, status.data);
    buf_clear(&status);
}

static void
add_list(struct plan *p, const char *say)
{
    struct step *step = step_new(p, say, "+OK");

    if (!step)
        return;
    step->answer = ANSWER_TEXT;
    for (size_t i = 1; i <= p->box->count; i++)
        buf_printf(&step->reply, "%zu %zu\r\n", i, mail_octets(p->box, i));
    step_end(p, step);
}

static void
add_uidl(struct plan *p, const char *say)
{
    struct step *step = step_new(p, say, "+OK");
    char name[MAIL_NAME_MAX];

    if (!step)
        return;
    step->answer = ANSWER_UIDS;
    step->items = p->box->count;
    for (size_t i = 1; i <= p->box->count; i++) {
        mail_name(name, p->box, i);
        buf_printf(&step->reply, "%zu %s\r\n", i, name);
    }
    step_end(p, step);
}

static void
add_message(struct plan *p, const char *say, size_t number)
{
    struct step *step = step_new(p, say, "+OK");

    if (!step)
        return;
    step->answer = ANSWER_TEXT;
    step->number = number;
    mail_make(&step->reply, p->box, number, MAIL_SENT);
    step_end(p, step);
}

static void
add_messages(struct plan *p, const char *say)
{
    for (size_t round = 0; round < p->repeat; round++)
        for (size_t i = 1; i <= p->box->count; i++)
            add_message(p, say, i);
}

static void
add_lines(struct plan *p, const char *say)
{
    for (size_t round = 0; round < p->repeat; round++)
        add_line(p, say);
}

/* What a client may say, and what adds it with its reply. */
static const struct word {
    const char *say, *name;
    void (*add)(struct plan *p, const char *say);
} words[PLAN_WORDS] = {
    {NULL, "greeting", add_line},   {"USER", "user", add_line},  {"PASS secret", "pass", add_line},
    {"STAT", "stat", add_stat},     {"LIST", "list", add_list},  {"UIDL", "uidl", add_uidl},
    {"RETR", "retr", add_messages}, {"NOOP", "noop", add_lines}, {"QUIT", "quit", add_line},
};

const char *
plan_word(size_t word)
{
    return words[word].name;
}

enum { GREETING, USER, PASS, STAT, LIST, UIDL, RETR, NOOP, QUIT, END };

static const struct workload {
    const char *name, *box;
    unsigned char words[8]; /* numbers of words, then END */
} workloads[] = {
    {"session", "session", {USER, PASS, STAT, UIDL, LIST, RETR, QUIT, END}},
    {"login", "session", {USER, PASS, QUIT, END}},
    {"retr", "retr", {USER, PASS, RETR, QUIT, END}},
    {"huge", "huge", {USER, PASS, LIST, UIDL, QUIT, END}},
    {"noop", "rest", {USER, PASS, NOOP, QUIT, END}},
    {"greet", "rest", {QUIT, END}},
    {"rest", "rest", {USER, PASS, END}},
    {"rest-before", "rest", {END}},
};

static const struct workload *
workload_find(const char *name)
{
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

static void
add_word(struct plan *p, size_t word)
{
    p->word = word;
    words[word].add(p, words[word].say);
    if (word == PASS)
        p->pipelined = p->count;
}

bool
plan_make(struct plan *p, const char *workload, size_t repeat, const char *without)
{
    const struct workload *found = workload_find(workload);
    const unsigned char *word;

    *p = (struct plan){.repeat = repeat};
    if (!found)
        return false;
    p->box = mailbox_find(found->box);
    add_word(p, GREETING);
    for (word = found->words; *word != END; word++)
        if (!without || strcmp(words[*word].say, without) != 0)
            add_word(p, *word);
    p->stays = word == found->words || word[-1] != QUIT;
    return !p->failed;
}

void
plan_clear(struct plan *p)
{
    for (size_t i = 0; i < p->count; i++)
        buf_clear(&p->steps[i].reply);
    free(p->steps);
    *p = (struct plan){0};
}

void
step_say(struct buf *out, const struct step *step, size_t user)
{
    buf_puts(out, step->say);
    if (strcmp(step->say, "USER") == 0)
        buf_printf(out, " u%zu", user);
    if (step->number)
        buf_printf(out, " %zu", step->number);
    buf_puts(out, "\r\n");
}
