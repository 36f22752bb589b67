#include "check.h"

#include <stdlib.h>
#include <string.h>

void
check_begin(struct check *c, const struct step *step, enum check_mode mode)
{
    c->step = step;
    c->mode = mode;
    c->at = AT_STATUS;
    c->done = c->len = c->items = 0;
    c->last = 0;
    c->hash = 0xcbf29ce484222325u;
}

/* What the plan wants, and then a blank or the line's end. */
static enum check_result
feed_status(struct check *c, const char *data, size_t n, size_t *used)
{
    const char *wanted = c->step->reply.data;
    size_t len = c->mode == CHECK_ENDS ? 3 : c->step->status;

    for (; *used < n && c->done < len; ++*used)
        if (data[*used] != wanted[c->done++])
            return CHECK_UNEXPECTED;
    if (*used == n)
        return CHECK_MORE;
    if (data[*used] != ' ' && data[*used] != '\r')
        return CHECK_UNEXPECTED;
    c->at = AT_REST_OF_STATUS;
    return CHECK_MORE;
}

static enum check_result
feed_rest(struct check *c, const char *data, size_t n, size_t *used)
{
    const char *end = memchr(data + *used, '\n', n - *used);

    *used = end ? (size_t)(end - data) + 1 : n;
    if (!end)
        return CHECK_MORE;
    c->at = AT_BODY;
    c->done = 0;
    return c->step->answer == ANSWER_LINE ? CHECK_DONE : CHECK_MORE;
}

static enum check_result
feed_text(struct check *c, const char *data, size_t n, size_t *used)
{
    size_t left = c->step->reply.len - c->step->body - c->done;
    size_t piece = n - *used < left ? n - *used : left;

    if (memcmp(data + *used, c->step->reply.data + c->step->body + c->done, piece) != 0)
        return CHECK_WRONG;
    c->done += piece;
    *used += piece;
    return piece == left ? CHECK_DONE : CHECK_MORE;
}

/* "\r\n.\r\n" */
#define END_OF_BODY 0x0d0a2e0d0au

/* The status line's end counts as the line before. */
static enum check_result
feed_until_end(struct check *c, const char *data, size_t n, size_t *used)
{
    if (c->done++ == 0 && c->last == 0)
        c->last = 0x0d0a;
    while (*used < n) {
        c->last = (c->last << 8 | (unsigned char)data[(*used)++]) & 0xffffffffffu;
        if (c->last == END_OF_BODY)
            return CHECK_DONE;
    }
    return CHECK_MORE;
}

/* A unique-id is 1 to 70 octets of 0x21 to 0x7E (RFC 1939, section 7). */
static bool
is_unique_id(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i] < 0x21 || at[i] > 0x7e)
            return false;
    return n >= 1 && n <= 70;
}

/* A line without its CRLF. */
static enum check_result
take_item(struct check *c)
{
    char *behind;
    unsigned long number;

    c->line[c->len] = '\0';
    if (strcmp(c->line, ".") == 0)
        return c->items == c->step->items ? CHECK_DONE : CHECK_WRONG;
    number = strtoul(c->line, &behind, 10);
    if (number != ++c->items || *behind != ' ' || !is_unique_id(behind + 1, strlen(behind + 1)))
        return CHECK_WRONG;
    for (const char *p = behind; *p; p++)
        c->hash = (c->hash ^ (unsigned char)*p) * 0x100000001b3u;
    return CHECK_MORE;
}

static enum check_result
feed_uids(struct check *c, const char *data, size_t n, size_t *used)
{
    enum check_result result = CHECK_MORE;

    while (*used < n && result == CHECK_MORE) {
        char octet = data[(*used)++];

        if (octet == '\n' && c->len > 0 && c->line[c->len - 1] == '\r') {
            c->len--;
            result = take_item(c);
            c->len = 0;
        } else if (c->len < sizeof c->line - 1) {
            c->line[c->len++] = octet;
        } else {
            result = CHECK_WRONG;
        }
    }
    return result;
}

static enum check_result
feed_body(struct check *c, const char *data, size_t n, size_t *used)
{
    if (c->mode == CHECK_ENDS)
        return feed_until_end(c, data, n, used);
    return c->step->answer == ANSWER_UIDS ? feed_uids(c, data, n, used) : feed_text(c, data, n, used);
}

enum check_result
check_feed(struct check *c, const char *data, size_t n, size_t *used)
{
    enum check_result result = CHECK_MORE;

    *used = 0;
    if (c->at == AT_STATUS)
        result = feed_status(c, data, n, used);
    if (c->at == AT_REST_OF_STATUS && result == CHECK_MORE)
        result = feed_rest(c, data, n, used);
    if (c->at == AT_BODY && result == CHECK_MORE && *used < n)
        result = feed_body(c, data, n, used);
    return result;
}
