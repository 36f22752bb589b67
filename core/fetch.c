#include "fetch.h"

#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct fetch {
    struct pool_job job;
    int fd; /* ours */
    uint64_t at;
    size_t want;
    ssize_t got;
    int code; /* an errno, where got is -1 */
    void (*ready)(void *owner);
    void *owner; /* borrowed */
    bool over;
    bool unwanted; /* nobody asks for it any more */
    char octets[];
};

static void
fetch_free(struct fetch *f)
{
    close(f->fd);
    free(f);
}

static void
work(void *owner)
{
    struct fetch *f = owner;

    posix_fadvise(f->fd, (off_t)f->at, (off_t)f->want + FETCH_AHEAD, POSIX_FADV_WILLNEED);
    f->got = disk_read_at(f->fd, f->octets, f->want, f->at);
    f->code = f->got < 0 ? errno : 0;
}

static void
done(void *owner)
{
    struct fetch *f = owner;

    f->over = true;
    f->ready(f->owner);
}

/* Given up, or the pool has ended. */
static void
drop(void *owner)
{
    struct fetch *f = owner;

    f->over = true;
    f->got = -1;
    f->code = ECANCELED;
    if (f->unwanted)
        fetch_free(f);
}

struct fetch *
fetch_start(struct pool *pool, int fd, uint64_t at, size_t n, void (*ready)(void *owner), void *owner)
{
    struct fetch *f = malloc(sizeof *f + n);
    const char *why;

    if (!f)
        return NULL;
    *f = (struct fetch){
        .job = {.work = work, .done = done, .drop = drop, .owner = f},
        .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
        .at = at,
        .want = n,
        .ready = ready,
        .owner = owner,
    };
    if (f->fd >= 0 && pool_start(pool, &f->job, &why))
        return f;
    if (f->fd >= 0)
        close(f->fd);
    free(f);
    return NULL;
}

bool
fetch_is_over(const struct fetch *f)
{
    return f->over;
}

ssize_t
fetch_result(const struct fetch *f, const char **bytes)
{
    *bytes = f->octets;
    errno = f->code;
    return f->got;
}

void
fetch_drop(struct fetch *f)
{
    if (!f)
        return;
    f->unwanted = true;
    if (f->over)
        fetch_free(f);
    else
        pool_cancel(&f->job);
}
