#include "filelock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define ROOM (256 * 1024) /* octets that are read at once */

/* Reading and writing ------------------------------------------------------------ */

ssize_t
filelock_read(int fd, char *room, size_t n, uint64_t at)
{
    ssize_t got;

    do
        got = pread(fd, room, n, (off_t)at);
    while (got < 0 && errno == EINTR);
    return got;
}

int
filelock_write(int fd, const char *data, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t put = pwrite(fd, data, n, (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno;
        data += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

/* What is to be written, put together from ranges. */
struct pile {
    int fd;
    uint64_t at;
    size_t have;
    char *room; /* ROOM octets */
};

static int
pile_flush(struct pile *p)
{
    int code = filelock_write(p->fd, p->room, p->have, p->at);

    p->at += p->have;
    p->have = 0;
    return code;
}

/* Takes what has room of a range that is not empty. */
static int
pile_take(struct pile *p, int from, struct filelock_range *range)
{
    size_t room = ROOM - p->have, want = range->len < room ? (size_t)range->len : room;
    ssize_t got = filelock_read(from, p->room + p->have, want, range->from);

    if (got <= 0)
        return got < 0 ? errno : FILELOCK_SHORT;
    p->have += (size_t)got;
    range->from += (uint64_t)got;
    range->len -= (uint64_t)got;
    return p->have == ROOM ? pile_flush(p) : 0;
}

int
filelock_copy(int to, uint64_t at, int from, const struct filelock_range *range, size_t count)
{
    struct pile pile = {.fd = to, .at = at, .room = malloc(ROOM)};
    int code = pile.room ? 0 : ENOMEM;

    for (size_t i = 0; i < count; i++)
        for (struct filelock_range left = range[i]; left.len > 0 && code == 0;)
            code = pile_take(&pile, from, &left);
    if (code == 0)
        code = pile_flush(&pile);
    free(pile.room);
    return code;
}

/* Files -------------------------------------------------------------------------- */

static bool
is_named(const char *path, dev_t dev, ino_t ino)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static bool
has_dotlock(const struct filelock *f)
{
    struct stat st;

    return lstat(f->dotlock, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino &&
           st.st_mtim.tv_sec == f->mtime.tv_sec && st.st_mtim.tv_nsec == f->mtime.tv_nsec;
}

static void
note_dotlock(struct filelock *f, const struct stat *st)
{
    f->dev = st->st_dev;
    f->ino = st->st_ino;
    f->mtime = st->st_mtim;
}

struct filelock *
filelock_new(void)
{
    struct filelock *f = calloc(1, sizeof *f);

    if (f)
        *f = (struct filelock){.refs = 1, .fd = -1};
    return f;
}

struct filelock *
filelock_hold(struct filelock *f)
{
    f->refs++;
    return f;
}

void
filelock_drop(struct filelock *f)
{
    if (!f || --f->refs > 0)
        return;
    if (f->dotlock && has_dotlock(f))
        unlink(f->dotlock);
    free(f->dotlock);
    if (f->fd >= 0)
        close(f->fd); /* which gives the other locks back */
    free(f);
}

int
filelock_open(struct filelock *f, const char *path, enum filelock_how how)
{
    static const int flags[] = {O_RDWR, O_RDWR | O_CREAT | O_EXCL, O_RDONLY | O_DIRECTORY};
    struct stat st;

    f->fd = open(path, flags[how] | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return errno;
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? 0 : EINVAL;
}

bool
filelock_is(const struct filelock *f, const char *path)
{
    struct stat st;

    if (f->fd < 0)
        return lstat(path, &st) != 0 && errno == ENOENT;
    return fstat(f->fd, &st) == 0 && is_named(path, st.st_dev, st.st_ino);
}

/* Locks -------------------------------------------------------------------------- */

/* A record lock would vanish when any descriptor of the file is closed. */
#ifdef F_OFD_SETLK
enum { SET_LOCK = F_OFD_SETLK, GET_LOCK = F_OFD_GETLK };
#else
enum { SET_LOCK = F_SETLK, GET_LOCK = F_GETLK };
#endif

static pid_t
find_holder(int fd)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fcntl(fd, GET_LOCK, &all) == 0 && all.l_type != F_UNLCK && all.l_pid > 0 ? all.l_pid : 0;
}

enum filelock_got
filelock_fcntl(struct filelock *f, pid_t *process)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(f->fd, SET_LOCK, &all) == 0)
        return FILELOCK_GOT;
    if (errno != EAGAIN && errno != EACCES)
        return FILELOCK_FAILED;
    *process = find_holder(f->fd);
    return FILELOCK_TAKEN;
}

enum filelock_got
filelock_flock(struct filelock *f)
{
    if (flock(f->fd, LOCK_EX | LOCK_NB) == 0)
        return FILELOCK_GOT;
    return errno == EWOULDBLOCK ? FILELOCK_TAKEN : FILELOCK_FAILED;
}

/* Dot-locks ---------------------------------------------------------------------- */

/* Makes a file with the text in it; on a full disk without, since then above all
 * must mail be fetched.  Returns an errno, or 0. */
static int
make_file(const char *path, const char *text, size_t len, struct stat *st)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    int code;

    if (fd < 0)
        return errno;
    code = filelock_write(fd, text, len, 0);
    code = code == ENOSPC || code == EDQUOT ? 0 : code;
    if (fstat(fd, st) != 0 && code == 0)
        code = errno;
    close(fd);
    if (code)
        unlink(path);
    return code;
}

static bool
has_no_links(int code)
{
    return code == EPERM || code == EOPNOTSUPP || code == ENOSYS || code == EMLINK;
}

/* Gives a file of our own a second name, the lock's: over NFS too only one can do
 * that, and whether it was done the count of names tells better than link's
 * answer, which may be lost. */
static int
link_lock(const char *name, const char *temp, const char *text, size_t len, struct stat *st)
{
    int code = make_file(temp, text, len, st), linked;

    if (code)
        return code;
    linked = link(temp, name) == 0 ? 0 : errno;
    if (lstat(temp, st) != 0)
        code = errno;
    else if (st->st_nlink != 2)
        code = linked ? linked : EEXIST;
    unlink(temp);
    return has_no_links(code) ? make_file(name, text, len, st) : code;
}

int
filelock_dot(struct filelock *f, const char *name, const char *temp, const char *text, size_t len,
             time_t *now)
{
    struct stat st = {0};
    char *kept = f->dotlock ? NULL : strdup(name);
    int code = kept ? link_lock(name, temp, text, len, &st) : ENOMEM;

    *now = st.st_mtim.tv_sec;
    if (code) {
        free(kept);
        return code;
    }
    f->dotlock = kept;
    note_dotlock(f, &st);
    return 0;
}

bool
filelock_keep(struct filelock *f)
{
    struct stat st;

    if (!f->dotlock)
        return true;
    if (!has_dotlock(f) || utimensat(AT_FDCWD, f->dotlock, NULL, AT_SYMLINK_NOFOLLOW) != 0 ||
        lstat(f->dotlock, &st) != 0)
        return false;
    note_dotlock(f, &st);
    return true;
}

/* Whoever has it open and locked looks again before he removes it: in between
 * another may have done so, and a new lock may be there. */
bool
filelock_break(const char *path, dev_t dev, ino_t ino, time_t mtime)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    bool removed = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_dev == dev &&
                   st.st_ino == ino && st.st_mtim.tv_sec == mtime && is_named(path, dev, ino) &&
                   unlink(path) == 0;

    if (fd >= 0)
        close(fd);
    return removed;
}
