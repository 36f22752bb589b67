/* away - a disk that takes its time: preloaded, it has each preadv2(2) that must not
 * wait say that nothing is in memory, and counts that in the file AWAY.  What is
 * read in its place waits as long as the FIFO GATE is there and nobody opens it,
 * takes so many microseconds as TAKES says, and fails while the file BROKEN is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static void
note(void)
{
    static long count;
    const char *path = getenv("AWAY");
    FILE *file = path ? fopen(path, "w") : NULL;

    if (!file)
        return;
    fprintf(file, "%ld\n", ++count);
    fclose(file);
}

ssize_t
preadv2(int fd, const struct iovec *pieces, int n, off_t offset, int flags)
{
    (void)fd, (void)pieces, (void)n, (void)offset, (void)flags;
    note();
    errno = EAGAIN;
    return -1;
}

ssize_t
pread(int fd, void *room, size_t n, off_t offset)
{
    static ssize_t (*real)(int, void *, size_t, off_t);
    const char *gate = getenv("GATE"), *broken = getenv("BROKEN"), *takes = getenv("TAKES");
    int waits = gate ? open(gate, O_RDONLY) : -1;

    if (waits >= 0)
        close(waits);
    if (takes)
        usleep((useconds_t)atoi(takes));
    if (broken && access(broken, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pread");
    return real(fd, room, n, offset);
}
