#include "outq.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 16384 /* what is put together for one write */
#define CHUNK_MIN 2000  /* a few replies; with malloc's own head just under 2 KiB */
#define SPARE_MAX 20000 /* a message of 8 KiB, had it nothing but LFs */

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

void
outq_spare_clear(struct outq_spare *spare)
{
    free(spare->chunk);
    spare->chunk = NULL;
}

/* Not for a few replies: whoever does not read them would hold more than they need. */
static struct outq_chunk *
take_spare(struct outq_spare *spare, size_t cap)
{
    struct outq_chunk *chunk = spare ? spare->chunk : NULL;

    if (!chunk || cap <= CHUNK_MIN || chunk->cap < cap)
        return NULL;
    spare->chunk = NULL;
    return chunk;
}

/* The bigger one stays. */
static void
give_chunk(struct outq_chunk *chunk, struct outq_spare *spare)
{
    if (spare && chunk->cap <= SPARE_MAX && (!spare->chunk || spare->chunk->cap < chunk->cap)) {
        free(spare->chunk);
        spare->chunk = chunk;
    } else {
        free(chunk);
    }
}

static struct outq_chunk *
new_chunk(size_t cap)
{
    struct outq_chunk *chunk = malloc(sizeof *chunk + cap);

    if (chunk)
        chunk->cap = cap;
    return chunk;
}

static struct outq_chunk *
add_chunk(struct outq *q, size_t cap, struct outq_spare *spare)
{
    struct outq_chunk *chunk = take_spare(spare, cap);

    if (!chunk)
        chunk = new_chunk(cap);
    if (!chunk)
        return NULL;
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    if (q->last)
        q->last->next = chunk;
    else
        q->first = chunk;
    return q->last = chunk;
}

char *
outq_room(struct outq *q, size_t n, struct outq_spare *spare)
{
    struct outq_chunk *chunk = q->last;

    if (!chunk || chunk->cap - chunk->end < n)
        chunk = add_chunk(q, n > CHUNK_MIN ? n : CHUNK_MIN, spare);
    return chunk ? chunk->data + chunk->end : NULL;
}

void
outq_wrote(struct outq *q, size_t n)
{
    q->last->end += n;
    q->pending += n;
}

void
outq_take_back(struct outq *q, size_t n)
{
    q->last->end -= n;
    q->pending -= n;
}

bool
outq_add(struct outq *q, const void *bytes, size_t n)
{
    char *room = n ? outq_room(q, n, NULL) : NULL;

    if (n == 0)
        return true;
    if (!room)
        return false;
    memcpy(room, bytes, n);
    outq_wrote(q, n);
    return true;
}

static void
drop_first(struct outq *q, struct outq_spare *spare)
{
    struct outq_chunk *chunk = q->first;

    q->first = chunk->next;
    if (!q->first)
        q->last = NULL;
    give_chunk(chunk, spare);
}

/* n bytes are sent: chunks that are done with are given back. */
static void
pass(struct outq *q, size_t n, struct outq_spare *spare)
{
    q->pending -= n;
    while (q->first) {
        struct outq_chunk *chunk = q->first;
        size_t left = chunk->end - chunk->start, part = n < left ? n : left;

        chunk->start += part;
        n -= part;
        if (chunk->start < chunk->end)
            return;
        drop_first(q, spare);
    }
}

/* The next bytes of the queue, at most n of them, in one piece: where they lie,
 * or in `room`, which has place for n. */
static const char *
gather(const struct outq *q, char *room, size_t n, size_t *len)
{
    const struct outq_chunk *chunk = q->first;

    *len = chunk->end - chunk->start;
    if (*len >= n || !chunk->next)
        return chunk->data + chunk->start;
    for (*len = 0; chunk && *len < n; chunk = chunk->next) {
        size_t left = chunk->end - chunk->start, part = n - *len < left ? n - *len : left;

        memcpy(room + *len, chunk->data + chunk->start, part);
        *len += part;
    }
    return room;
}

/* Whether n bytes are worth a write. */
static bool
is_due(size_t n, size_t batch, bool more)
{
    return n > 0 && !(more && n < batch);
}

enum stream_status
outq_flush(struct outq *q, struct stream *s, size_t keep, bool more, struct outq_spare *spare)
{
    char room[BATCH_MAX];
    size_t batch = stream_batch(s) < BATCH_MAX ? stream_batch(s) : BATCH_MAX;

    while (is_due(q->pending - keep, batch, more)) {
        size_t len, put, left = q->pending - keep;
        const char *bytes;
        enum stream_status status;

        pass(q, 0, spare); /* room that nothing was written to */
        bytes = gather(q, room, batch, &len);
        len = len < left ? len : left;
        status = stream_write(s, bytes, len, is_due(left - len, batch, more), &put);
        if (status != STREAM_OK)
            return status;
        pass(q, put, spare);
    }
    return STREAM_OK;
}
