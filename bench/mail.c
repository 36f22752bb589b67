#include "mail.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const struct mailbox mailboxes[] = {
    {"session", 20, 4096, 0},
    {"retr", 1, 10 * 1024 * 1024, 0},
    {"huge", 100000, 200, 300},
    {"rest", 1, 1024, 0},
};

const struct mailbox *
mailbox_find(const char *name)
{
    for (size_t i = 0; i < sizeof mailboxes / sizeof *mailboxes; i++)
        if (strcmp(mailboxes[i].name, name) == 0)
            return &mailboxes[i];
    return NULL;
}

/* Marsaglia's xorshift: the same numbers everywhere, for ever. */
static uint64_t
random_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Never 0, which would stay 0. */
static uint64_t
random_seed(const struct mailbox *box, size_t number)
{
    return (uint64_t)number * 0x9e3779b97f4a7c15u + box->count + 1;
}

static size_t
stored_octets(const struct mailbox *box, size_t number)
{
    return box->least + (box->more ? number * 7919 % (box->more + 1) : 0);
}

/* A message on its way out; `stored` counts the octets of its LF form. */
struct maker {
    struct buf *out;
    enum mail_form form;
    size_t stored, lines;
};

static void
put_line(struct maker *m, const char *line, size_t len)
{
    if (m->form == MAIL_SENT && len > 0 && line[0] == '.')
        buf_add(m->out, ".", 1);
    buf_add(m->out, line, len);
    buf_puts(m->out, m->form == MAIL_STORED ? "\n" : "\r\n");
    m->stored += len + 1;
    m->lines++;
}

static void
put_headers(struct maker *m, const struct mailbox *box, size_t number)
{
    char line[80];

    put_line(m, "From: ann@host.example", 22);
    put_line(m, "To: joe@host.example", 20);
    put_line(m, line, (size_t)snprintf(line, sizeof line, "Subject: %s %zu", box->name, number));
    put_line(m, "", 0);
}

#define LINE_MAX_OCTETS 77

/* Words of letters; one line of 32 starts with a dot, so that stuffing has work. */
static void
fill_line(char *line, size_t len, uint64_t *state)
{
    uint64_t bits = random_next(state);

    for (size_t i = 0; i < len; i++) {
        if (i % 11 == 0)
            bits = random_next(state);
        line[i] = bits & 31 ? (char)('a' + (bits & 31) % 26) : ' ';
        bits >>= 5;
    }
    if (len > 0 && random_next(state) % 32 == 0)
        line[0] = '.';
}

static void
put_body(struct maker *m, size_t octets, uint64_t state)
{
    char line[LINE_MAX_OCTETS];

    while (m->stored < octets) {
        size_t left = octets - m->stored - 1;
        size_t len = 40 + (size_t)(random_next(&state) % (LINE_MAX_OCTETS - 40));

        len = left < len ? left : len;
        fill_line(line, len, &state);
        put_line(m, line, len);
    }
}

static void
make(struct maker *m, const struct mailbox *box, size_t number)
{
    put_headers(m, box, number);
    put_body(m, stored_octets(box, number), random_seed(box, number));
}

void
mail_make(struct buf *out, const struct mailbox *box, size_t number, enum mail_form form)
{
    struct maker m = {.out = out, .form = form};

    make(&m, box, number);
}

size_t
mail_octets(const struct mailbox *box, size_t number)
{
    struct buf text = {0};
    size_t octets;

    mail_make(&text, box, number, MAIL_CRLF);
    octets = text.len;
    buf_clear(&text);
    return octets;
}

void
mail_name(char name[MAIL_NAME_MAX], const struct mailbox *box, size_t number)
{
    snprintf(name, MAIL_NAME_MAX, "%zu.M%06zuP%zu.host.example,S=%zu,W=%zu", 1700000000 + number * 37,
             number * 7919 % 1000000, 1000 + number % 30000, stored_octets(box, number),
             mail_octets(box, number));
}
