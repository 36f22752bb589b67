/*
 * mail - the mailboxes that the bench works with, by rule.
 *
 * Pure.  A mailbox is a row of a table, a message is made of the mailbox and
 * its number: whoever writes it to a disk, sends it from memory or compares
 * what came makes it anew.  Lines are made in both forms at once, as stored
 * (LF) and as sent (CRLF, dots stuffed), so that what is expected of a server
 * owes nothing to a server's code.
 */
#ifndef BENCH_MAIL_H
#define BENCH_MAIL_H

#include "../core/buf.h"

struct mailbox {
    const char *name;
    size_t count;       /* messages */
    size_t least, more; /* octets of a message as stored: least to least + more */
};

/* NULL: there is none of that name. */
const struct mailbox *mailbox_find(const char *name);

enum mail_form {
    MAIL_STORED, /* LF, as it is in a file */
    MAIL_CRLF,   /* CRLF: what POP3 counts */
    MAIL_SENT    /* CRLF and dots stuffed; the end's lone dot is not added */
};

/* Appends message `number`, from 1. */
void mail_make(struct buf *out, const struct mailbox *box, size_t number, enum mail_form form);

/* The octets of message `number` as POP3 counts them: with CRLF, no dots added. */
size_t mail_octets(const struct mailbox *box, size_t number);

/* Room for a file's name, with its NUL. */
#define MAIL_NAME_MAX 96

/* Writes the name of a message's file in a Maildir, with what it tells of its
 * size, and without flags: what a unique-id is made of. */
void mail_name(char name[MAIL_NAME_MAX], const struct mailbox *box, size_t number);

#endif
