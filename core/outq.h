/*
 * outq - output that waits for its client: chunks that never move.
 *
 * Bytes are written straight into the last chunk's room, and leave from the
 * first.  A chunk is freed once it is sent: an empty queue owns nothing.  One chunk
 * goes from queue to queue, so that of messages that come one by one each does not
 * have the allocator cut it a piece of its own, and put it together again.
 */
#ifndef POPD_OUTQ_H
#define POPD_OUTQ_H

#include "stream.h"

struct outq_chunk;

/* Zeroed, it is an empty queue. */
struct outq {
    struct outq_chunk *first, *last; /* ours */
    size_t pending;                  /* bytes not sent yet */
};

/* Zeroed, there is none. */
struct outq_spare {
    struct outq_chunk *chunk; /* ours */
};

void outq_clear(struct outq *q);
void outq_spare_clear(struct outq_spare *spare);

/* Room for at least n bytes, or NULL: out of memory.  The caller says with
 * outq_wrote how many it wrote, before any other call.  spare: may be NULL. */
char *outq_room(struct outq *q, size_t n, struct outq_spare *spare);
void outq_wrote(struct outq *q, size_t n);

/* Takes back the last n bytes, which outq_wrote or outq_add put there in one
 * call, and of which none was sent. */
void outq_take_back(struct outq *q, size_t n);

/* Copies bytes into the queue.  False: out of memory, nothing was added. */
bool outq_add(struct outq *q, const void *bytes, size_t n);

/* Sends what the stream takes now, but for the last `keep` bytes.  OK: all of
 * it, or, where `more` is about to come, all that fills whole batches (TLS
 * records); AGAIN: some is left that the stream does not take. */
enum stream_status outq_flush(struct outq *q, struct stream *s, size_t keep, bool more,
                              struct outq_spare *spare);

#endif
