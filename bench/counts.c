/* counts - drives a pure part of the core over a fixed input, for callgrind to
 * count its instructions: those within `measured`, so that making the input is free.
 *
 *     counts commands|dotstuff|replies|names */
#include "../core/command.h"
#include "../core/dotstuff.h"
#include "../core/linebuf.h"
#include "../core/mailsort.h"
#include "../core/reply.h"
#include "mail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes as they come from a socket become lines, lines commands. */
static size_t
take_lines(struct linebuf *lb)
{
    struct command command;
    const char *why;
    size_t good = 0, len;
    char *line;

    while (linebuf_next(lb, &line, &len) == LINEBUF_READY)
        good += command_parse(&command, line, len, &why) == COMMAND_OK;
    return good;
}

static size_t
run_commands(const struct buf *text)
{
    struct linebuf lb;
    size_t good = 0;

    linebuf_init(&lb, 255);
    for (size_t at = 0; at < text->len;) {
        size_t n = text->len - at < 61 ? text->len - at : 61;

        if (linebuf_wants(&lb) < n || !linebuf_add(&lb, text->data + at, n))
            return 0;
        at += n;
        good += take_lines(&lb);
    }
    linebuf_clear(&lb);
    return good;
}

static void
make_commands(struct buf *text)
{
    for (int session = 0; session < 100; session++) {
        buf_puts(text, "USER joe\r\nPASS secret\r\nSTAT\r\nUIDL\r\nLIST\r\n");
        for (int i = 1; i <= 20; i++)
            buf_printf(text, "RETR %d\r\n", i);
        buf_puts(text, "TOP 1 0\r\nDELE 1\r\nNOOP\r\nQUIT\r\n");
    }
}

#define PIECE 32768

static size_t
run_dotstuff(const struct buf *text)
{
    static char out[DOTSTUFF_MAX(PIECE)];
    struct dotstuff d;
    size_t octets = 0;

    dotstuff_init(&d, DOTSTUFF_ALL);
    for (size_t at = 0; at < text->len; at += PIECE) {
        size_t n = text->len - at < PIECE ? text->len - at : PIECE;

        octets += dotstuff_feed(&d, text->data + at, n, out);
    }
    return octets + dotstuff_end(&d, out);
}

static void
make_messages(struct buf *text)
{
    for (size_t i = 1; i <= 20; i++)
        mail_make(text, mailbox_find("session"), i, MAIL_STORED);
}

/* Status lines, LIST and UIDL: the text has the unique-ids, a line each. */
static size_t
run_replies(const struct buf *text)
{
    struct buf out = {0};
    uint64_t number = 0;
    size_t octets;

    for (int i = 0; i < 1000; i++)
        reply_ok(&out, "1000 messages (4194304 octets)");
    for (const char *p = text->data, *lf; p < text->data + text->len; p = lf + 1) {
        lf = memchr(p, '\n', (size_t)(text->data + text->len - p));
        reply_pair(&out, ++number, 4096);
        reply_item(&out, number, p, (size_t)(lf - p));
    }
    reply_end(&out);
    octets = out.failed ? 0 : out.len;
    buf_clear(&out);
    return octets;
}

static void
make_names(struct buf *text)
{
    char name[MAIL_NAME_MAX];

    for (size_t i = 1000; i >= 1; i--) {
        mail_name(name, mailbox_find("huge"), i);
        buf_printf(text, "%s\n", name);
    }
}

/* A Maildir's names, as a scan adds and sorts them. */
static size_t
run_names(const struct buf *text)
{
    struct mailnames *names = mailnames_new();
    struct mailkey *keys;
    size_t count, same;

    for (const char *p = text->data, *lf; p < text->data + text->len; p = lf + 1) {
        lf = memchr(p, '\n', (size_t)(text->data + text->len - p));
        if (!names || !mailnames_add(names, p, (size_t)(lf - p), true, 1, mailname_time(p, (size_t)(lf - p))))
            return 0;
    }
    if (!names || !(keys = mailsort_names(names)))
        return 0;
    same = mailnames_mark_same(names, keys);
    count = names->count - same;
    free(keys);
    mailnames_drop(names);
    return count;
}

/* `run` returns how much was made of the text; 0: something failed. */
static const struct part {
    const char *name;
    void (*make)(struct buf *text);
    size_t (*run)(const struct buf *text);
} parts[] = {
    {"commands", make_commands, run_commands},
    {"dotstuff", make_messages, run_dotstuff},
    {"replies", make_names, run_replies},
    {"names", make_names, run_names},
};

size_t measured(const struct part *part, const struct buf *text);

__attribute__((noinline)) size_t
measured(const struct part *part, const struct buf *text)
{
    return part->run(text);
}

int
main(int argc, char **argv)
{
    struct buf text = {0};

    for (size_t i = 0; argc == 2 && i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(parts[i].name, argv[1]) != 0)
            continue;
        parts[i].make(&text);
        printf("made=%zu\n", text.failed ? 0 : measured(&parts[i], &text));
        buf_clear(&text);
        return 0;
    }
    fprintf(stderr, "usage: counts commands|dotstuff|replies|names\n");
    return 2;
}
