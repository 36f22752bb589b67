#include "outq.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_MIN 2000 /* a few replies; with malloc's own head just under 2 KiB */

struct outq_chunk {
    struct outq_chunk *next;
    size_t start, end, cap; /* not sent yet: data[start..end) */
    char data[];
};

void
outq_clear(struct outq *q)
{
    while (q->first) {
        struct outq_chunk *chunk = q->first;

        q->first = chunk->next;
        free(chunk);
    }
    *q = (struct outq){0};
}

static struct outq_chunk *
add_chunk(struct outq *q, size_t cap)
{
    struct outq_chunk *chunk = malloc(sizeof *chunk + cap);

    if (!chunk)
        return NULL;
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    chunk->cap = cap;
    if (q->last)
        q->last->next = chunk;
    else
        q->first = chunk;
    return q->last = chunk;
}

char *
outq_room(struct outq *q, size_t n)
{
    struct outq_chunk *chunk = q->last;

    if (!chunk || chunk->cap - chunk->end < n)
        chunk = add_chunk(q, n > CHUNK_MIN ? n : CHUNK_MIN);
    return chunk ? chunk->data + chunk->end : NULL;
}

void
outq_wrote(struct outq *q, size_t n)
{
    q->last->end += n;
    q->pending += n;
}

bool
outq_add(struct outq *q, const void *bytes, size_t n)
{
    char *room = n ? outq_room(q, n) : NULL;

    if (n == 0)
        return true;
    if (!room)
        return false;
    memcpy(room, bytes, n);
    outq_wrote(q, n);
    return true;
}

static void
drop_first(struct outq *q)
{
    struct outq_chunk *chunk = q->first;

    q->first = chunk->next;
    if (!q->first)
        q->last = NULL;
    free(chunk);
}

enum stream_status
outq_flush(struct outq *q, struct stream *s)
{
    while (q->first) {
        struct outq_chunk *chunk = q->first;
        enum stream_status status = STREAM_OK;
        size_t put = 0;

        if (chunk->end > chunk->start)
            status = stream_write(s, chunk->data + chunk->start, chunk->end - chunk->start, &put);
        if (status != STREAM_OK)
            return status;
        chunk->start += put;
        q->pending -= put;
        if (chunk->start == chunk->end)
            drop_first(q);
    }
    return STREAM_OK;
}
