/*
 * mboxscan - an mbox file's octets in, its messages out.
 *
 * Pure; allocates one digest for each message.  Feed the file in pieces of any
 * size; what is found is the same however it was cut.
 *
 * A message starts at a From_ line: one that begins with "From " and has a date
 * as asctime(3) writes it (in a file's first line the date may look as it will).
 * The From_ line is no part of the message, nor is one blank line before the
 * next.  What stands before the first From_ line is no message at all.
 *
 * A message's id is made from what mail programs leave alone: the From_ line,
 * the header without the fields that they rewrite in place (Status and its
 * like), and the body without blank lines at its end.
 */
#ifndef POPD_MBOXSCAN_H
#define POPD_MBOXSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MBOXSCAN_ID 16

/* So much of a line is looked at to tell what it is. */
#define MBOXSCAN_PEEK 1024

/* So many '>' before "From " are quotes; a line with more is left alone. */
#define MBOXSCAN_QUOTES 1000

enum mboxscan_format {
    MBOXSCAN_O,  /* "From " in a body may have become ">From ": nothing tells which */
    MBOXSCAN_RD, /* every line of one or more '>' and "From " has got one '>' more */
    MBOXSCAN_CL, /* Content-Length counts where it leads to a From_ line or the end */
};

struct mboxscan_mail {
    uint64_t start;   /* of its From_ line; this and the next four are offsets or octets */
    uint64_t head;    /* of its header */
    uint64_t body;    /* behind the header's blank line; without one: end */
    uint64_t end;     /* behind its last octet */
    uint64_t octets;  /* as sent: CRLF line ends, without the quotes */
    uint32_t nth;     /* of those with the same id, from 1; mboxscan leaves it 0 */
    uint16_t uidl;    /* where an X-UIDL field's value stands, from head; 0: none */
    uint8_t uidl_len; /* octets of it, at most 70 */
    bool stuffed;     /* some lines of the body have a quote to take off */
    unsigned char id[MBOXSCAN_ID];
};

/* A sum of a body's lines. */
struct mboxscan_sum {
    uint64_t state, word;
    unsigned fill; /* octets in word */
};

struct digest;

/* mboxscan_init makes it ready. */
struct mboxscan {
    enum mboxscan_format format;
    bool (*found)(void *owner, const struct mboxscan_mail *mail); /* false: out of memory */
    bool (*ends_at)(void *owner, uint64_t offset); /* for MBOXSCAN_CL: mboxscan_is_end of what is there */
    void *owner;
    uint64_t at;      /* the offset of the next octet */
    uint64_t outside; /* octets before the first From_ line */
    enum { MBOXSCAN_OUTSIDE, MBOXSCAN_FROM, MBOXSCAN_HEAD, MBOXSCAN_BODY } place;
    size_t held_len; /* of a line's start that was cut */
    char held[MBOXSCAN_PEEK];
    bool in_line;          /* the line's start was taken */
    bool cr;               /* its last octet so far is CR */
    bool blank_line;       /* it is a blank one of a body */
    bool hidden;           /* it belongs to a field that the id leaves out */
    bool has_length;       /* there is a Content-Length: */
    uint64_t length;       /* this */
    uint64_t sure_to;      /* no From_ line comes before this offset */
    bool blank;            /* the last line was blank: the next From_ line's, or the body's */
    uint64_t blank_at;     /* where it starts */
    uint64_t blanks;       /* blank lines that are not in the sum yet */
    struct digest *digest; /* ours */
    struct mboxscan_sum sum;
    struct mboxscan_mail mail;
};

/* Begins at the offset, which is 0 or where a message starts. */
void mboxscan_init(struct mboxscan *s, enum mboxscan_format format, uint64_t offset);
void mboxscan_clear(struct mboxscan *s);

/* The next octets; then the file's end.  False: out of memory. */
bool mboxscan_feed(struct mboxscan *s, const char *in, size_t n);
bool mboxscan_end(struct mboxscan *s);

/* Whether a line begins as a From_ line with a date does. */
bool mboxscan_is_from(const char *line, size_t n);

/* Whether a message may end where text[0..n) begins: there is nothing, or at most
 * two line ends and then a From_ line or nothing.  Show it MBOXSCAN_PEEK octets or
 * what there is. */
bool mboxscan_is_end(const char *text, size_t n);

#endif
