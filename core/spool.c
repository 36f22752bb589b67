#include "spool.h"

#include "mboxindex.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPOOL "popd.spool"
#define INDEX "popd.mboxindex"
#define WORK "popd.spool.work"

#define ROOM (256 * 1024)                  /* what a thread reads at once */
#define SLICE (UINT64_C(16) * 1024 * 1024) /* what it scans before others have their turn */
#define READ_MAX (1024 * 1024)
#define RANGES_MAX 4096

/* A count that ended before it should. */
#define TOO_SHORT (-1)
#define NO_MEMORY ENOMEM

/* An open file and its locks, counted: the userdata in Lua has it, and each
 * thread that is at it. */
struct file {
    unsigned refs;
    int fd;         /* ours; -1: there is no such file */
    char *dotlock;  /* ours: the name of a lock file that is ours; NULL: none */
    dev_t lock_dev; /* what that name stands for */
    ino_t lock_ino;
    struct timespec lock_time; /* its mtime: another one may get the same inode */
};

/* An index, counted likewise. */
struct shared_index {
    unsigned refs;
    bool busy; /* a thread is at it */
    struct mboxindex index;
};

struct range {
    uint64_t from, len;
};

/* Something for a thread to do; a userdata, which the registry holds by its
 * address while it is the pool's. */
struct work {
    struct pool_job job;
    bool given;          /* it is the pool's */
    struct tasks *tasks; /* borrowed */
    struct task *task;   /* who waits; borrowed */
    void (*run)(struct work *);
    const char *what;           /* a literal, for errors */
    struct file *file, *from;   /* a reference each, or NULL */
    struct shared_index *index; /* the same */
    uint64_t at;
    int code;  /* an errno; TOO_SHORT; 0: done */
    bool more; /* of a scan: there is more to do */
    size_t count;
    struct range range[];
};

/* Results ------------------------------------------------------------------------ */

static const struct {
    int code;
    const char *name;
} codes[] = {
    {EACCES, "EACCES"}, {EBADF, "EBADF"},   {EDQUOT, "EDQUOT"},   {EEXIST, "EEXIST"}, {EFBIG, "EFBIG"},
    {EIO, "EIO"},       {EISDIR, "EISDIR"}, {ELOOP, "ELOOP"},     {EMFILE, "EMFILE"}, {ENFILE, "ENFILE"},
    {ENOENT, "ENOENT"}, {ENOSPC, "ENOSPC"}, {ENOTDIR, "ENOTDIR"}, {EPERM, "EPERM"},   {EROFS, "EROFS"},
    {ENOMEM, "ENOMEM"}, {ENOLCK, "ENOLCK"},
};

/* nil, the reason, and the error's name where it is a usual one. */
static int
fail(lua_State *L, const char *what, const char *path, int code)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s %s: %s", what, path,
                    code == TOO_SHORT ? "the file is shorter than it was" : strerror(code));
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) {
            lua_pushstring(L, codes[i].name);
            return 3;
        }
    return 2;
}

static int
push_true(lua_State *L)
{
    lua_pushboolean(L, true);
    return 1;
}

static int
push_false(lua_State *L)
{
    lua_pushboolean(L, false);
    return 1;
}

/* Files -------------------------------------------------------------------------- */

static bool
is_named(const char *path, dev_t dev, ino_t ino)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static bool
has_dotlock(const struct file *f)
{
    struct stat st;

    return lstat(f->dotlock, &st) == 0 && st.st_dev == f->lock_dev && st.st_ino == f->lock_ino &&
           st.st_mtim.tv_sec == f->lock_time.tv_sec && st.st_mtim.tv_nsec == f->lock_time.tv_nsec;
}

static void
note_dotlock(struct file *f, const struct stat *st)
{
    f->lock_dev = st->st_dev;
    f->lock_ino = st->st_ino;
    f->lock_time = st->st_mtim;
}

/* Others see by its time that it is in use.  Whether that could be done. */
static bool
touch_dotlock(struct file *f)
{
    struct stat st;

    if (utimensat(AT_FDCWD, f->dotlock, NULL, AT_SYMLINK_NOFOLLOW) != 0 || lstat(f->dotlock, &st) != 0)
        return false;
    note_dotlock(f, &st);
    return true;
}

/* The dot-lock goes first: whoever has that may still find the other lock taken,
 * and waits; the other way round is the same. */
static void
file_drop(struct file *f)
{
    if (!f || --f->refs > 0)
        return;
    if (f->dotlock && has_dotlock(f))
        unlink(f->dotlock);
    free(f->dotlock);
    if (f->fd >= 0)
        close(f->fd);
    free(f);
}

static struct file *
file_hold(struct file *f)
{
    f->refs++;
    return f;
}

static void
index_drop(struct shared_index *x)
{
    if (!x || --x->refs > 0)
        return;
    mboxindex_clear(&x->index);
    free(x);
}

static struct file **
check_spool(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, SPOOL);
}

/* Raises where it is closed: the caller's mistake. */
static struct file *
check_file(lua_State *L, int arg)
{
    struct file *f = *check_spool(L, arg);

    luaL_argcheck(L, f != NULL, arg, "a spool that is not closed expected");
    return f;
}

static int
check_fd(lua_State *L, int arg)
{
    int fd = check_file(L, arg)->fd;

    luaL_argcheck(L, fd >= 0, arg, "a spool with a file expected");
    return fd;
}

static const char *
check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);

    luaL_argcheck(L, strlen(path) == len, arg, "a path cannot contain NUL");
    return path;
}

static uint64_t
check_octets(lua_State *L, int arg)
{
    lua_Integer n = luaL_checkinteger(L, arg);

    luaL_argcheck(L, n >= 0, arg, "0 or more expected");
    return (uint64_t)n;
}

/* Pushes one without a file.  [-0, +1, e] */
static struct file *
new_spool(lua_State *L)
{
    struct file **slot = lua_newuserdatauv(L, sizeof *slot, 0);

    *slot = NULL;
    luaL_setmetatable(L, SPOOL);
    *slot = calloc(1, sizeof **slot);
    if (!*slot)
        luaL_error(L, "out of memory");
    **slot = (struct file){.refs = 1, .fd = -1};
    return *slot;
}

/* How a file is opened: as it is, made anew, or a directory to be synced. */
static const char *const hows[] = {"file", "new", "directory", NULL};
static const int flags_of[] = {O_RDWR, O_RDWR | O_CREAT | O_EXCL, O_RDONLY | O_DIRECTORY};

/* Returns an errno, or 0. */
static int
open_as(struct file *f, const char *path, int how)
{
    struct stat st;

    f->fd = open(path, flags_of[how] | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return errno;
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? 0 : EINVAL;
}

/* spool(path or nil [, how]) -> a spool; with nil one without a file, for a dot-lock alone */
static int
l_spool(lua_State *L)
{
    const char *path = lua_isnil(L, 1) ? NULL : check_path(L, 1);
    int how = luaL_checkoption(L, 2, "file", hows);
    struct file *f = new_spool(L);
    int code = path ? open_as(f, path, how) : 0;

    return code == 0 ? 1 : fail(L, "open", path, code);
}

static int
l_close(lua_State *L)
{
    struct file **slot = check_spool(L, 1);

    file_drop(*slot);
    *slot = NULL;
    return 0;
}

/* spool:stat() -> size, mtime in nanoseconds, dev, ino; nothing of one without a file */
static int
l_stat(lua_State *L)
{
    const struct file *f = check_file(L, 1);
    struct stat st;

    if (f->fd < 0)
        return 0;
    if (fstat(f->fd, &st) != 0)
        return fail(L, "stat", "spool", errno);
    lua_pushinteger(L, (lua_Integer)st.st_size);
    lua_pushinteger(L, (lua_Integer)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    lua_pushinteger(L, (lua_Integer)st.st_dev);
    lua_pushinteger(L, (lua_Integer)st.st_ino);
    return 4;
}

/* spool:is(path) -> whether that is this file; of one without a file: whether there is none */
static int
l_is(lua_State *L)
{
    struct file *f = check_file(L, 1);
    const char *path = check_path(L, 2);
    struct stat st, named;

    if (f->fd < 0)
        lua_pushboolean(L, lstat(path, &named) != 0 && errno == ENOENT);
    else
        lua_pushboolean(L, fstat(f->fd, &st) == 0 && is_named(path, st.st_dev, st.st_ino));
    return 1;
}

/* Past signals; returns how many octets, or -1. */
static ssize_t
read_at(int fd, char *room, size_t n, uint64_t at)
{
    ssize_t got;

    do
        got = pread(fd, room, n, (off_t)at);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Returns an errno, or 0. */
static int
write_at(int fd, const char *data, size_t n, uint64_t at)
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

/* spool:read(at, n) -> up to n octets, fewer at the end; a little, at once */
static int
l_read(lua_State *L)
{
    int fd = check_fd(L, 1);
    uint64_t at = check_octets(L, 2), n = check_octets(L, 3);
    luaL_Buffer b;
    ssize_t got;

    luaL_argcheck(L, n <= READ_MAX, 3, "at most 1 MiB expected");
    got = read_at(fd, luaL_buffinitsize(L, &b, (size_t)n), (size_t)n, at);
    luaL_pushresultsize(&b, got > 0 ? (size_t)got : 0);
    return got < 0 ? fail(L, "read", "spool", errno) : 1;
}

/* spool:write(at, octets) -> true; a little, at once */
static int
l_write(lua_State *L)
{
    int fd = check_fd(L, 1);
    uint64_t at = check_octets(L, 2);
    size_t n;
    const char *octets = luaL_checklstring(L, 3, &n);
    int code = write_at(fd, octets, n, at);

    return code ? fail(L, "write", "spool", code) : push_true(L);
}

/* Locks -------------------------------------------------------------------------- */

/* An open file description owns the lock where the system can do that: a record
 * lock would vanish when any descriptor of the file is closed. */
#ifdef F_OFD_SETLK
enum { SET_LOCK = F_OFD_SETLK, GET_LOCK = F_OFD_GETLK };
#else
enum { SET_LOCK = F_SETLK, GET_LOCK = F_GETLK };
#endif

/* false, and the process that has it, if the system tells. */
static int
push_holder(lua_State *L, int fd)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    push_false(L);
    if (fcntl(fd, GET_LOCK, &all) != 0 || all.l_type == F_UNLCK || all.l_pid <= 0)
        return 1;
    lua_pushinteger(L, all.l_pid);
    return 2;
}

/* spool:fcntl() -> true; false [, process]: somebody has it; nil, reason, code */
static int
l_fcntl(lua_State *L)
{
    int fd = check_fd(L, 1);
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, SET_LOCK, &all) == 0)
        return push_true(L);
    return errno == EAGAIN || errno == EACCES ? push_holder(L, fd) : fail(L, "lock", "spool", errno);
}

/* spool:flock() -> the same */
static int
l_flock(lua_State *L)
{
    if (flock(check_fd(L, 1), LOCK_EX | LOCK_NB) == 0)
        return push_true(L);
    return errno == EWOULDBLOCK ? push_false(L) : fail(L, "lock", "spool", errno);
}

/* Makes a file with the text in it; on a full disk without, since then above all
 * must mail be fetched.  Returns an errno, or 0. */
static int
make_file(const char *path, const char *text, size_t len, struct stat *st)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    int code;

    if (fd < 0)
        return errno;
    code = write_at(fd, text, len, 0);
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
 * answer, which may be lost.  Returns EEXIST where somebody has the lock. */
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

/* spool:dotlock(name, temp, text) -> true; false [, what time it is for the file
 * system]: it is there already; nil, reason, code.  temp: a name of nobody's in
 * the same directory */
static int
l_dotlock(lua_State *L)
{
    struct file *f = check_file(L, 1);
    const char *name = check_path(L, 2), *temp = check_path(L, 3);
    size_t len;
    const char *text = luaL_checklstring(L, 4, &len);
    struct stat st = {0};
    char *kept = f->dotlock ? NULL : strdup(name);
    int code = kept ? link_lock(name, temp, text, len, &st) : NO_MEMORY;

    if (code == 0) {
        f->dotlock = kept;
        note_dotlock(f, &st);
        return push_true(L);
    }
    free(kept);
    if (code != EEXIST)
        return fail(L, "lock", name, code);
    push_false(L);
    lua_pushinteger(L, (lua_Integer)st.st_mtim.tv_sec);
    return 2;
}

/* spool:keep() -> whether its dot-lock is there still; others see that it is in use */
static int
l_keep(lua_State *L)
{
    struct file *f = check_file(L, 1);

    lua_pushboolean(L, !f->dotlock || (has_dotlock(f) && touch_dotlock(f)));
    return 1;
}

/* dotlock_break(path, dev, ino, mtime) -> whether it removed just that stale lock.
 * Of all who do so by this function one alone gets to it, and nobody can remove
 * the one that was made after. */
static int
l_dotlock_break(lua_State *L)
{
    const char *path = check_path(L, 1);
    dev_t dev = (dev_t)luaL_checkinteger(L, 2);
    ino_t ino = (ino_t)luaL_checkinteger(L, 3);
    lua_Integer mtime = luaL_checkinteger(L, 4);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    bool removed = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_dev == dev &&
                   st.st_ino == ino && st.st_mtim.tv_sec == mtime && is_named(path, dev, ino) &&
                   unlink(path) == 0;

    if (fd >= 0)
        close(fd);
    lua_pushboolean(L, removed);
    return 1;
}

/* spool_self() -> this process's number, and what names the machine and the
 * numbers' space: in another one the same number is somebody else */
static int
l_self(lua_State *L)
{
    char host[256] = "", space[64] = "";
    ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);

    space[n > 0 ? n : 0] = '\0';
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    lua_pushinteger(L, getpid());
    lua_pushfstring(L, "%s/%s", host, space);
    return 2;
}

/* process_gone(number) -> whether no process has it */
static int
l_gone(lua_State *L)
{
    lua_Integer number = luaL_checkinteger(L, 1);

    lua_pushboolean(L, number > 0 && number <= INT32_MAX && kill((pid_t)number, 0) != 0 && errno == ESRCH);
    return 1;
}

/* In a thread -------------------------------------------------------------------- */

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
    int code = write_at(p->fd, p->room, p->have, p->at);

    p->at += p->have;
    p->have = 0;
    return code;
}

static int
pile_add(struct pile *p, int from, struct range range)
{
    while (range.len > 0) {
        size_t want = ROOM - p->have;
        ssize_t got;

        want = range.len < want ? (size_t)range.len : want;
        got = read_at(from, p->room + p->have, want, range.from);
        if (got <= 0)
            return got < 0 ? errno : TOO_SHORT;
        p->have += (size_t)got;
        range.from += (uint64_t)got;
        range.len -= (uint64_t)got;
        if (p->have == ROOM) {
            int code = pile_flush(p);

            if (code)
                return code;
        }
    }
    return 0;
}

static void
run_copy(struct work *w)
{
    struct pile pile = {.fd = w->file->fd, .at = w->at, .room = malloc(ROOM)};

    w->code = pile.room ? 0 : NO_MEMORY;
    for (size_t i = 0; i < w->count && w->code == 0; i++)
        w->code = pile_add(&pile, w->from->fd, w->range[i]);
    if (w->code == 0)
        w->code = pile_flush(&pile);
    free(pile.room);
}

static void
run_sync(struct work *w)
{
    w->code = fsync(w->file->fd) == 0 ? 0 : errno;
}

static void
run_truncate(struct work *w)
{
    w->code = ftruncate(w->file->fd, (off_t)w->at) == 0 ? 0 : errno;
}

/* Of the file up to w->at. */
static bool
ends_at(void *owner, uint64_t offset)
{
    const struct work *w = owner;
    char text[MBOXSCAN_PEEK];
    uint64_t left = offset <= w->at ? w->at - offset : 0;
    ssize_t got;

    if (offset > w->at)
        return false;
    got = read_at(w->file->fd, text, left < sizeof text ? (size_t)left : sizeof text, offset);
    return got >= 0 && mboxscan_is_end(text, (size_t)got);
}

/* Reads a piece.  Returns an errno, TOO_SHORT, or 0. */
static int
scan_piece(struct work *w, char *room)
{
    struct mboxscan *scan = &w->index->index.scan;
    uint64_t at = scan->at + scan->held_len, left = w->at - at;
    ssize_t got = read_at(w->file->fd, room, left < ROOM ? (size_t)left : ROOM, at);

    if (got <= 0)
        return got < 0 ? errno : TOO_SHORT;
    return mboxindex_feed(&w->index->index, w, room, (size_t)got) ? 0 : NO_MEMORY;
}

static void
run_scan(struct work *w)
{
    const struct mboxscan *scan = &w->index->index.scan;
    uint64_t stop = scan->at + scan->held_len + SLICE;
    char *room = malloc(ROOM);

    w->code = room ? 0 : NO_MEMORY;
    stop = stop < w->at ? stop : w->at;
    while (w->code == 0 && scan->at + scan->held_len < stop)
        w->code = scan_piece(w, room);
    free(room);
    w->more = stop < w->at;
    if (w->code == 0 && !w->more && !mboxindex_end(&w->index->index))
        w->code = NO_MEMORY;
}

/* On the loop's thread ----------------------------------------------------------- */

static void
work(void *owner)
{
    struct work *w = owner;

    w->run(w);
}

static void
release(struct work *w)
{
    if (w->index)
        w->index->busy = false;
    file_drop(w->file);
    file_drop(w->from);
    index_drop(w->index);
    w->file = w->from = NULL;
    w->index = NULL;
}

/* It is Lua's collector's from here on.  Clearing a key that is there raises nothing. */
static void
let_go(lua_State *L, struct work *w)
{
    w->given = false;
    release(w);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, w);
}

static void
work_done(void *owner)
{
    struct work *w = owner;

    task_resume(w->task, task_push_none, NULL);
}

static void
work_drop(void *owner)
{
    struct work *w = owner;

    let_go(w->tasks->L, w);
}

static void
work_cancel(void *owner)
{
    struct work *w = owner;

    pool_cancel(&w->job);
}

static int
l_work_gc(lua_State *L)
{
    struct work *w = luaL_checkudata(L, 1, WORK);

    if (!w->given) /* at the state's end a thread may be at it */
        release(w);
    return 0;
}

/* Pushes one.  [-0, +1, e] */
static struct work *
new_work(lua_State *L, const char *what, void (*run)(struct work *), size_t ranges)
{
    struct work *w = lua_newuserdatauv(L, sizeof *w + ranges * sizeof *w->range, 0);

    memset(w, 0, sizeof *w);
    w->tasks = lua_touserdata(L, lua_upvalueindex(1));
    w->what = what;
    w->run = run;
    w->job = (struct pool_job){.work = work, .done = work_done, .drop = work_drop, .owner = w};
    luaL_setmetatable(L, WORK);
    return w;
}

static int
push_result(lua_State *L, const struct work *w)
{
    if (w->code)
        return fail(L, w->what, "spool", w->code);
    lua_pushboolean(L, !w->more);
    return 1;
}

static int
finish_work(lua_State *L, void *owner)
{
    struct work *w = owner;

    lua_rawgetp(L, LUA_REGISTRYINDEX, w); /* the results are made from it */
    let_go(L, w);
    return push_result(L, w);
}

/* Does the work on top of the stack, as the calling C function's last deed. */
static int
start(lua_State *L, struct work *w)
{
    struct pool *pool = lua_touserdata(L, lua_upvalueindex(2));
    const char *why;

    if (!w->tasks->loop)
        return luaL_error(L, "popd is closed: the Lua state ends");
    if (!w->tasks->running && !w->tasks->loop->running) {
        work(w);
        release(w);
        return push_result(L, w);
    }
    w->task = task_running(L, w->tasks, "spool");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, w);
    w->given = true;
    if (pool_start(pool, &w->job, &why))
        return task_wait_then(L, w->task, work_cancel, finish_work, w);
    let_go(L, w);
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* spool:sync() -> true, when it is on the disk */
static int
l_sync(lua_State *L)
{
    struct work *w;

    check_fd(L, 1);
    w = new_work(L, "sync", run_sync, 0);
    w->file = file_hold(check_file(L, 1));
    return start(L, w);
}

/* spool:truncate(octets) -> true */
static int
l_truncate(lua_State *L)
{
    uint64_t octets = check_octets(L, 2);
    struct work *w;

    check_fd(L, 1);
    w = new_work(L, "truncate", run_truncate, 0);
    w->file = file_hold(check_file(L, 1));
    w->at = octets;
    return start(L, w);
}

static uint64_t
octets_at(lua_State *L, int list, lua_Integer i)
{
    uint64_t n;

    lua_rawgeti(L, list, i);
    n = check_octets(L, -1);
    lua_pop(L, 1);
    return n;
}

/* spool:copy(at, from, { offset, octets, offset, octets, … }) -> true: these parts of
 * another one, one behind the other */
static int
l_copy(lua_State *L)
{
    uint64_t at = check_octets(L, 2);
    size_t count;
    struct work *w;

    check_fd(L, 1);
    check_fd(L, 3);
    luaL_checktype(L, 4, LUA_TTABLE);
    count = (size_t)lua_rawlen(L, 4) / 2;
    luaL_argcheck(L, count <= RANGES_MAX, 4, "at most 4096 ranges expected");
    w = new_work(L, "copy", run_copy, count);
    for (w->count = 0; w->count < count; w->count++) {
        lua_Integer i = (lua_Integer)w->count * 2 + 1;

        w->range[w->count] = (struct range){octets_at(L, 4, i), octets_at(L, 4, i + 1)};
    }
    w->file = file_hold(check_file(L, 1));
    w->from = file_hold(check_file(L, 3));
    w->at = at;
    return start(L, w);
}

/* Indexes ------------------------------------------------------------------------ */

static struct shared_index *
check_index(lua_State *L)
{
    struct shared_index *x = *(struct shared_index **)luaL_checkudata(L, 1, INDEX);

    if (x->busy)
        luaL_error(L, "this index is being made");
    return x;
}

static const struct mboxscan_mail *
check_mail(lua_State *L, const struct mboxindex *x, int arg)
{
    lua_Integer i = luaL_checkinteger(L, arg);

    luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= x->count, arg, "no such message");
    return &x->mail[i - 1];
}

/* mbox_index(format) -> an index without messages */
static int
l_index(lua_State *L)
{
    static const char *const formats[] = {"mboxo", "mboxrd", "mboxcl", NULL};
    int format = luaL_checkoption(L, 1, NULL, formats);
    struct shared_index **slot = lua_newuserdatauv(L, sizeof *slot, 0);

    *slot = NULL;
    luaL_setmetatable(L, INDEX);
    *slot = calloc(1, sizeof **slot);
    if (!*slot)
        return luaL_error(L, "out of memory");
    (*slot)->refs = 1;
    mboxindex_init(&(*slot)->index, (enum mboxscan_format)format, ends_at);
    return 1;
}

static int
l_index_gc(lua_State *L)
{
    struct shared_index **slot = luaL_checkudata(L, 1, INDEX);

    index_drop(*slot);
    *slot = NULL;
    return 0;
}

/* index:scan(spool, octets) -> true: all that many are scanned; false: call it again */
static int
l_index_scan(lua_State *L)
{
    struct shared_index *x = check_index(L);
    uint64_t octets = check_octets(L, 3);
    struct work *w;

    check_fd(L, 2);
    luaL_argcheck(L, octets >= x->index.scan.at + x->index.scan.held_len, 3,
                  "more than was scanned expected");
    w = new_work(L, "scan", run_scan, 0);
    w->file = file_hold(check_file(L, 2));
    w->index = x;
    x->refs++;
    x->busy = true;
    w->at = octets;
    return start(L, w);
}

/* index:count() -> messages, octets as sent, octets before the first */
static int
l_index_count(lua_State *L)
{
    const struct mboxindex *x = &check_index(L)->index;

    lua_pushinteger(L, (lua_Integer)x->count);
    lua_pushinteger(L, (lua_Integer)x->octets);
    lua_pushinteger(L, (lua_Integer)x->scan.outside);
    return 3;
}

/* index:cut(n): forgets the messages behind the first n -> where they began */
static int
l_index_cut(lua_State *L)
{
    struct mboxindex *x = &check_index(L)->index;

    mboxindex_cut(x, (size_t)check_octets(L, 2));
    lua_pushinteger(L, (lua_Integer)x->scan.at);
    return 1;
}

/* index:mail(i) -> head, body, end, octets, whether it is stuffed */
static int
l_index_mail(lua_State *L)
{
    const struct mboxscan_mail *m = check_mail(L, &check_index(L)->index, 2);

    lua_pushinteger(L, (lua_Integer)m->head);
    lua_pushinteger(L, (lua_Integer)m->body);
    lua_pushinteger(L, (lua_Integer)m->end);
    lua_pushinteger(L, (lua_Integer)m->octets);
    lua_pushboolean(L, m->stuffed);
    return 5;
}

/* index:extent(i) -> where its From_ line starts, and where what follows it does */
static int
l_index_extent(lua_State *L)
{
    const struct mboxindex *x = &check_index(L)->index;
    const struct mboxscan_mail *m = check_mail(L, x, 2);

    lua_pushinteger(L, (lua_Integer)m->start);
    lua_pushinteger(L, (lua_Integer)mboxindex_next(x, (size_t)(m - x->mail)));
    return 2;
}

static void
push_uid(lua_State *L, const struct mboxscan_mail *m)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * MBOXSCAN_ID + 16];
    int n = 0;

    for (int i = 0; i < MBOXSCAN_ID; i++) {
        text[n++] = digits[m->id[i] >> 4];
        text[n++] = digits[m->id[i] & 15];
    }
    if (m->nth > 1)
        n += snprintf(text + n, sizeof text - (size_t)n, ".%u", (unsigned)m->nth);
    lua_pushlstring(L, text, (size_t)n);
}

static void
push_octets(lua_State *L, const struct mboxscan_mail *m)
{
    lua_pushinteger(L, (lua_Integer)m->octets);
}

static int
fill(lua_State *L, void (*push)(lua_State *, const struct mboxscan_mail *))
{
    const struct mboxindex *x = &check_index(L)->index;
    lua_Integer from = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);

    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_argcheck(L, from >= 1 && to <= (lua_Integer)x->count, 3, "no such messages");
    for (lua_Integer i = from; i <= to; i++) {
        push(L, &x->mail[i - 1]);
        lua_rawseti(L, 2, i);
    }
    return 0;
}

/* index:octets(list, from, to): sets the entries of these messages */
static int
l_index_octets(lua_State *L)
{
    return fill(L, push_octets);
}

/* index:uids(list, from, to): the same with unique-ids */
static int
l_index_uids(lua_State *L)
{
    return fill(L, push_uid);
}

/* index:uid(i) -> its unique-id */
static int
l_index_uid(lua_State *L)
{
    push_uid(L, check_mail(L, &check_index(L)->index, 2));
    return 1;
}

/* index:uidl(i) -> where its X-UIDL is, and how long; nil: it has none */
static int
l_index_uidl(lua_State *L)
{
    const struct mboxscan_mail *m = check_mail(L, &check_index(L)->index, 2);

    if (!m->uidl)
        return 0;
    lua_pushinteger(L, (lua_Integer)(m->head + m->uidl));
    lua_pushinteger(L, m->uidl_len);
    return 2;
}

static const luaL_Reg spool_methods[] = {
    {"stat", l_stat},       {"is", l_is},
    {"read", l_read},       {"write", l_write},
    {"fcntl", l_fcntl},     {"flock", l_flock},
    {"dotlock", l_dotlock}, {"keep", l_keep},
    {"sync", l_sync},       {"truncate", l_truncate},
    {"copy", l_copy},       {"close", l_close},
    {NULL, NULL},
};

static const luaL_Reg index_methods[] = {
    {"scan", l_index_scan}, {"count", l_index_count},   {"cut", l_index_cut},
    {"mail", l_index_mail}, {"extent", l_index_extent}, {"octets", l_index_octets},
    {"uids", l_index_uids}, {"uid", l_index_uid},       {"uidl", l_index_uidl},
    {NULL, NULL},
};

static void
new_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc, struct tasks *tasks,
          struct pool *pool)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    lua_pushlightuserdata(L, tasks);
    lua_pushlightuserdata(L, pool);
    luaL_setfuncs(L, methods, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

void
spool_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {
        {"spool", l_spool},     {"dotlock_break", l_dotlock_break}, {"mbox_index", l_index},
        {"spool_self", l_self}, {"process_gone", l_gone},           {NULL, NULL},
    };
    static const luaL_Reg none[] = {{NULL, NULL}};

    new_class(L, SPOOL, spool_methods, l_close, tasks, pool);
    new_class(L, INDEX, index_methods, l_index_gc, tasks, pool);
    new_class(L, WORK, none, l_work_gc, tasks, pool);
    luaL_setfuncs(L, functions, 0);
}
