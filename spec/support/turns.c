/* turns - how long a program's loop keeps others waiting: preloaded, it writes to
 * the file TURNS the most milliseconds of CPU that the loop's thread spent between
 * two waits.  CPU, not the clock: a busy machine does not count.  Where the file is
 * taken away it begins anew. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static double
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The first turns start the program up. */
static void
note(double turn)
{
    static double most;
    static long turns;
    const char *path = getenv("TURNS");
    FILE *file;

    if (path && access(path, F_OK) != 0)
        most = 0;
    if (++turns < 3 || turn <= most || !path || !(file = fopen(path, "w")))
        return;
    most = turn;
    fprintf(file, "%.3f\n", most);
    fclose(file);
}

int
epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    static int (*real)(int, struct epoll_event *, int, int);
    static double before = -1;
    int got;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_wait");
    if (before >= 0)
        note(now() - before);
    got = real(fd, events, n, timeout);
    before = now();
    return got;
}
