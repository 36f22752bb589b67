#include "linebuf.h"

#include <stdlib.h>
#include <string.h>

/* A short command, with malloc's own head: less is no cheaper. */
#define CAP_LEAST 56

void
linebuf_init(struct linebuf *lb, size_t limit)
{
    *lb = (struct linebuf){.limit = (uint32_t)limit};
}

static void
wipe(struct linebuf *lb)
{
    if (lb->used)
        explicit_bzero(lb->data, lb->used);
    lb->used = 0;
}

static void
release(struct linebuf *lb)
{
    wipe(lb);
    free(lb->data);
    lb->data = NULL;
    lb->cap = lb->most = lb->start = lb->end = lb->scanned = 0;
}

void
linebuf_clear(struct linebuf *lb)
{
    release(lb);
    lb->skipping = false;
}

void
linebuf_limit(struct linebuf *lb, size_t limit)
{
    lb->limit = (uint32_t)limit;
}

/* How much may be held: twice as much as could be once an unfinished line fills
 * that, which is told of as too long at the limit at the latest. */
size_t
linebuf_wants(struct linebuf *lb)
{
    size_t len = lb->end - lb->start;

    if (!lb->most)
        lb->most = LINEBUF_ROOM;
    if (len >= lb->most && lb->scanned == len && lb->most < lb->limit)
        lb->most = lb->most < lb->limit / 2 ? 2 * lb->most : lb->limit;
    return lb->most - len;
}

/* Memory for `need` octets, which linebuf_wants has allowed. */
static bool
grow(struct linebuf *lb, size_t need)
{
    uint32_t len = lb->end - lb->start;
    size_t cap = need < CAP_LEAST ? CAP_LEAST : need < 2 * lb->cap ? 2 * lb->cap : need;
    char *data;

    cap = cap < lb->most ? cap : lb->most;
    data = malloc(cap);
    if (!data)
        return false;
    if (len)
        memcpy(data, lb->data + lb->start, len);
    wipe(lb);
    free(lb->data);
    lb->data = data;
    lb->cap = (uint32_t)cap;
    lb->start = 0;
    lb->end = lb->used = len;
    return true;
}

/* What moves leaves nothing behind: it may be the beginning of a secret. */
static void
move_to_front(struct linebuf *lb)
{
    uint32_t len = lb->end - lb->start;

    if (lb->start && len) {
        memmove(lb->data, lb->data + lb->start, len);
        explicit_bzero(lb->data + len, lb->start);
    }
    lb->end = len;
    lb->start = 0;
}

bool
linebuf_add(struct linebuf *lb, const char *bytes, size_t n)
{
    size_t need = lb->end - lb->start + n;

    if (need > lb->cap && !grow(lb, need)) {
        release(lb); /* what was held is of no use: the connection ends */
        return false;
    }
    if (!n)
        return true;
    if (lb->end + n > lb->cap)
        move_to_front(lb);
    memcpy(lb->data + lb->end, bytes, n);
    lb->end += (uint32_t)n;
    if (lb->end > lb->used)
        lb->used = lb->end;
    return true;
}

/* Passes over n octets. */
static void
pass(struct linebuf *lb, size_t n)
{
    lb->start += (uint32_t)n;
    lb->scanned = 0;
}

static void
pass_wiped(struct linebuf *lb, size_t n)
{
    if (n)
        explicit_bzero(lb->data + lb->start, n);
    pass(lb, n);
}

/* How many octets the first line has with its end; 0: it has none yet.  No
 * octet is looked at twice. */
static size_t
whole_line(struct linebuf *lb)
{
    size_t len = lb->end - lb->start;
    const char *from, *lf;

    if (lb->scanned == len)
        return 0;
    from = lb->data + lb->start + lb->scanned;
    lf = memchr(from, '\n', len - lb->scanned);
    lb->scanned = (uint32_t)len;
    return lf ? (size_t)(lf - (lb->data + lb->start)) + 1 : 0;
}

/* Drops the rest of a line that was told of as too long.  False: its end is
 * still to come. */
static bool
skip(struct linebuf *lb)
{
    size_t n = whole_line(lb);

    pass_wiped(lb, n ? n : lb->end - lb->start);
    lb->skipping = n == 0;
    return n != 0;
}

/* What is skipped is passed over first: the limit is asked for the line behind
 * it, which linebuf_next would look at in the same call. */
const char *
linebuf_peek(struct linebuf *lb, size_t *n)
{
    *n = lb->skipping && !skip(lb) ? 0 : lb->end - lb->start;
    return *n ? lb->data + lb->start : "";
}

static enum linebuf_status
hand_out(struct linebuf *lb, size_t n, char **line, size_t *len)
{
    *line = lb->data + lb->start;
    *len = n - 1;
    if (*len && (*line)[*len - 1] == '\r')
        --*len;
    pass(lb, n);
    return LINEBUF_READY;
}

enum linebuf_status
linebuf_next(struct linebuf *lb, char **line, size_t *len)
{
    size_t n;

    if (lb->skipping && !skip(lb))
        return LINEBUF_NONE;
    n = whole_line(lb);
    if (n && n <= lb->limit)
        return hand_out(lb, n, line, len);
    if (n == 0 && lb->end - lb->start < lb->limit)
        return LINEBUF_NONE;
    /* Told as soon as it is certain, not only at the line's end. */
    pass_wiped(lb, n ? n : lb->end - lb->start);
    lb->skipping = n == 0;
    return LINEBUF_TOO_LONG;
}

void
linebuf_rest(struct linebuf *lb)
{
    if (lb->start == lb->end)
        release(lb);
}

size_t
linebuf_drop(struct linebuf *lb)
{
    size_t n = lb->end - lb->start;

    wipe(lb);
    lb->start = lb->end = lb->scanned = 0;
    lb->skipping = false;
    return n;
}
