#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SPOOL "popd.spool"
#define WORK "popd.spool.work"

#define READ_MAX (1024 * 1024)
#define RANGES_MAX 4096

/* Results ------------------------------------------------------------------------ */

static const struct {
    int code;
    const char *name;
} codes[] = {
    {EACCES, "EACCES"},   {EBADF, "EBADF"},
    {EDQUOT, "EDQUOT"},   {EEXIST, "EEXIST"},
    {EFBIG, "EFBIG"},     {EIO, "EIO"},
    {EISDIR, "EISDIR"},   {ELOOP, "ELOOP"},
    {EMFILE, "EMFILE"},   {ENAMETOOLONG, "ENAMETOOLONG"},
    {ENFILE, "ENFILE"},   {ENOENT, "ENOENT"},
    {ENOSPC, "ENOSPC"},   {ENOMEM, "ENOMEM"},
    {ENOTDIR, "ENOTDIR"}, {EPERM, "EPERM"},
    {EROFS, "EROFS"},
};

/* nil, the reason, and the error's name where it is a usual one. */
static int
fail(lua_State *L, const char *what, const char *path, int code)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s %s: %s", what, path,
                    code == FILELOCK_SHORT ? "the file is shorter than it was" : strerror(code));
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) {
            lua_pushstring(L, codes[i].name);
            return 3;
        }
    return 2;
}

static int
push_bool(lua_State *L, bool value)
{
    lua_pushboolean(L, value);
    return 1;
}

/* Arguments ---------------------------------------------------------------------- */

static struct filelock **
check_slot(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, SPOOL);
}

/* One that is closed is the caller's mistake. */
static struct filelock *
check_open(lua_State *L, int arg)
{
    struct filelock *f = *check_slot(L, arg);

    luaL_argcheck(L, f != NULL, arg, "a spool that is not closed expected");
    return f;
}

struct filelock *
spool_check(lua_State *L, int arg)
{
    struct filelock *f = check_open(L, arg);

    luaL_argcheck(L, f->fd >= 0, arg, "a spool with a file expected");
    return f;
}

static const char *
check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);

    luaL_argcheck(L, strlen(path) == len, arg, "a path cannot contain NUL");
    return path;
}

uint64_t
spool_check_octets(lua_State *L, int arg)
{
    lua_Integer n = luaL_checkinteger(L, arg);

    luaL_argcheck(L, n >= 0, arg, "0 or more expected");
    return (uint64_t)n;
}

/* Files -------------------------------------------------------------------------- */

/* spool(path or nil [, how]) -> a spool; with nil one without a file, for a dot-lock alone */
static int
l_spool(lua_State *L)
{
    static const char *const hows[] = {"file", "new", "directory", NULL};
    const char *path = lua_isnil(L, 1) ? NULL : check_path(L, 1);
    int how = luaL_checkoption(L, 2, "file", hows);
    struct filelock **slot = lua_newuserdatauv(L, sizeof *slot, 0);
    int code;

    *slot = NULL;
    luaL_setmetatable(L, SPOOL);
    *slot = filelock_new();
    if (!*slot)
        return luaL_error(L, "out of memory");
    code = path ? filelock_open(*slot, path, (enum filelock_how)how) : 0;
    return code == 0 ? 1 : fail(L, "open", path, code);
}

static int
l_close(lua_State *L)
{
    struct filelock **slot = check_slot(L, 1);

    filelock_drop(*slot);
    *slot = NULL;
    return 0;
}

/* spool:stat() -> size, mtime in nanoseconds, dev, ino, uid; nothing of one without a file */
static int
l_stat(lua_State *L)
{
    const struct filelock *f = check_open(L, 1);
    struct stat st;

    if (f->fd < 0)
        return 0;
    if (fstat(f->fd, &st) != 0)
        return fail(L, "stat", "spool", errno);
    lua_pushinteger(L, (lua_Integer)st.st_size);
    lua_pushinteger(L, (lua_Integer)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    lua_pushinteger(L, (lua_Integer)st.st_dev);
    lua_pushinteger(L, (lua_Integer)st.st_ino);
    lua_pushinteger(L, (lua_Integer)st.st_uid);
    return 5;
}

/* spool:is(path) -> whether that is this file; of one without a file: whether there is none */
static int
l_is(lua_State *L)
{
    return push_bool(L, filelock_is(check_open(L, 1), check_path(L, 2)));
}

/* spool:read(at, n) -> up to n octets, fewer at the end; a little, at once */
static int
l_read(lua_State *L)
{
    int fd = spool_check(L, 1)->fd;
    uint64_t at = spool_check_octets(L, 2), n = spool_check_octets(L, 3);
    luaL_Buffer b;
    ssize_t got;

    luaL_argcheck(L, n <= READ_MAX, 3, "at most 1 MiB expected");
    got = filelock_read(fd, luaL_buffinitsize(L, &b, (size_t)n), (size_t)n, at);
    if (got < 0)
        return fail(L, "read", "spool", errno);
    luaL_pushresultsize(&b, (size_t)got);
    return 1;
}

/* Locks -------------------------------------------------------------------------- */

/* spool:fcntl() -> true; false [, process]: somebody has it; nil, reason, code */
static int
l_fcntl(lua_State *L)
{
    pid_t process = 0;
    enum filelock_got got = filelock_fcntl(spool_check(L, 1), &process);

    if (got == FILELOCK_FAILED)
        return fail(L, "lock", "spool", errno);
    push_bool(L, got == FILELOCK_GOT);
    if (process == 0)
        return 1;
    lua_pushinteger(L, process);
    return 2;
}

/* spool:flock() -> true; false; nil, reason, code */
static int
l_flock(lua_State *L)
{
    enum filelock_got got = filelock_flock(spool_check(L, 1));

    return got == FILELOCK_FAILED ? fail(L, "lock", "spool", errno) : push_bool(L, got == FILELOCK_GOT);
}

/* spool:dotlock(name, temp, text) -> true; false and what time the file system has: it
 * is there already; nil, reason, code */
static int
l_dotlock(lua_State *L)
{
    struct filelock *f = check_open(L, 1);
    const char *name = check_path(L, 2), *temp = check_path(L, 3);
    size_t len;
    const char *text = luaL_checklstring(L, 4, &len);
    time_t now;
    int code = filelock_dot(f, name, temp, text, len, &now);

    if (code != 0 && code != EEXIST)
        return fail(L, "lock", name, code);
    push_bool(L, code == 0);
    lua_pushinteger(L, (lua_Integer)now);
    return 2;
}

/* spool:keep() -> whether its dot-lock is there still; others see that it is in use */
static int
l_keep(lua_State *L)
{
    return push_bool(L, filelock_keep(check_open(L, 1)));
}

/* dotlock_break(path, dev, ino, mtime) -> whether it removed just that stale lock */
static int
l_dotlock_break(lua_State *L)
{
    const char *path = check_path(L, 1);
    lua_Integer dev = luaL_checkinteger(L, 2), ino = luaL_checkinteger(L, 3), mtime = luaL_checkinteger(L, 4);

    return push_bool(L, filelock_break(path, (dev_t)dev, (ino_t)ino, (time_t)mtime));
}

/* spool_self() -> this process's number, and what names the machine and the
 * numbers' space: in another one the same number is somebody else; and its user */
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
    lua_pushinteger(L, (lua_Integer)geteuid());
    return 3;
}

/* process_gone(number) -> whether no process has it */
static int
l_gone(lua_State *L)
{
    lua_Integer number = luaL_checkinteger(L, 1);

    return push_bool(L, number > 0 && number <= INT32_MAX && kill((pid_t)number, 0) != 0 && errno == ESRCH);
}

/* Work for threads --------------------------------------------------------------- */

static void
work(void *owner)
{
    struct spool_work *w = owner;

    w->run(w);
}

static void
release(struct spool_work *w)
{
    if (w->free)
        w->free(w);
    filelock_drop(w->file);
    filelock_drop(w->from);
    w->free = NULL;
    w->file = w->from = NULL;
}

/* It is Lua's collector's from here on.  Clearing a key that is there raises nothing. */
static void
let_go(lua_State *L, struct spool_work *w)
{
    w->given = false;
    release(w);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, w);
}

static void
work_done(void *owner)
{
    struct spool_work *w = owner;

    task_resume(w->task, task_push_none, NULL);
}

static void
work_drop(void *owner)
{
    struct spool_work *w = owner;

    let_go(w->tasks->L, w);
}

static void
work_cancel(void *owner)
{
    struct spool_work *w = owner;

    pool_cancel(&w->job);
}

static int
l_work_gc(lua_State *L)
{
    struct spool_work *w = luaL_checkudata(L, 1, WORK);

    if (!w->given) /* at the state's end a thread may be at it */
        release(w);
    return 0;
}

struct spool_work *
spool_work(lua_State *L, const char *what, void (*run)(struct spool_work *), size_t ranges)
{
    struct spool_work *w = lua_newuserdatauv(L, sizeof *w + ranges * sizeof *w->range, 1);

    memset(w, 0, sizeof *w);
    w->tasks = lua_touserdata(L, lua_upvalueindex(1));
    w->what = what;
    w->run = run;
    w->job = (struct pool_job){.work = work, .done = work_done, .drop = work_drop, .owner = w};
    luaL_setmetatable(L, WORK);
    return w;
}

static int
push_result(lua_State *L, const struct spool_work *w)
{
    return w->code ? fail(L, w->what, "spool", w->code) : push_bool(L, !w->more);
}

static int
finish(lua_State *L, void *owner)
{
    struct spool_work *w = owner;

    lua_rawgetp(L, LUA_REGISTRYINDEX, w); /* the results are made from it */
    let_go(L, w);
    return push_result(L, w);
}

int
spool_start(lua_State *L, struct spool_work *w)
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
        return task_wait_then(L, w->task, work_cancel, finish, w);
    let_go(L, w);
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static void
run_write(struct spool_work *w)
{
    w->code = filelock_write(w->file->fd, w->octets, w->count, w->at);
}

static void
run_copy(struct spool_work *w)
{
    w->code = filelock_copy(w->file->fd, w->at, w->from->fd, w->range, w->count);
}

static void
run_sync(struct spool_work *w)
{
    w->code = fsync(w->file->fd) == 0 ? 0 : errno;
}

static void
run_truncate(struct spool_work *w)
{
    w->code = ftruncate(w->file->fd, (off_t)w->at) == 0 ? 0 : errno;
}

/* spool:write(at, octets) -> true */
static int
l_write(lua_State *L)
{
    struct filelock *f = spool_check(L, 1);
    uint64_t at = spool_check_octets(L, 2);
    size_t n;
    const char *octets = luaL_checklstring(L, 3, &n);
    struct spool_work *w = spool_work(L, "write", run_write, 0);

    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, 1); /* the string lives as long as the work */
    w->file = filelock_hold(f);
    w->octets = octets;
    w->count = n;
    w->at = at;
    return spool_start(L, w);
}

/* spool:sync() -> true, when it is on the disk */
static int
l_sync(lua_State *L)
{
    struct filelock *f = spool_check(L, 1);
    struct spool_work *w = spool_work(L, "sync", run_sync, 0);

    w->file = filelock_hold(f);
    return spool_start(L, w);
}

/* spool:truncate(octets) -> true */
static int
l_truncate(lua_State *L)
{
    struct filelock *f = spool_check(L, 1);
    uint64_t octets = spool_check_octets(L, 2);
    struct spool_work *w = spool_work(L, "truncate", run_truncate, 0);

    w->file = filelock_hold(f);
    w->at = octets;
    return spool_start(L, w);
}

static uint64_t
octets_at(lua_State *L, int list, lua_Integer i)
{
    uint64_t n;

    lua_rawgeti(L, list, i);
    n = spool_check_octets(L, -1);
    lua_pop(L, 1);
    return n;
}

/* spool:copy(at, from, { offset, octets, offset, octets, … }) -> true: these parts of
 * another one, one behind the other */
static int
l_copy(lua_State *L)
{
    struct filelock *to = spool_check(L, 1), *from = spool_check(L, 3);
    uint64_t at = spool_check_octets(L, 2);
    struct spool_work *w;
    size_t count;

    luaL_checktype(L, 4, LUA_TTABLE);
    count = (size_t)lua_rawlen(L, 4) / 2;
    luaL_argcheck(L, count <= RANGES_MAX, 4, "at most 4096 ranges expected");
    w = spool_work(L, "copy", run_copy, count);
    for (lua_Integer i = 1; w->count < count; i += 2)
        w->range[w->count++] = (struct filelock_range){octets_at(L, 4, i), octets_at(L, 4, i + 1)};
    w->file = filelock_hold(to);
    w->from = filelock_hold(from);
    w->at = at;
    return spool_start(L, w);
}

void
spool_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc, struct tasks *tasks,
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
        {"spool", l_spool},     {"dotlock_break", l_dotlock_break},
        {"spool_self", l_self}, {"process_gone", l_gone},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"stat", l_stat},   {"is", l_is},
        {"read", l_read},   {"write", l_write},
        {"fcntl", l_fcntl}, {"flock", l_flock},
        {"keep", l_keep},   {"dotlock", l_dotlock},
        {"sync", l_sync},   {"truncate", l_truncate},
        {"copy", l_copy},   {"close", l_close},
        {NULL, NULL},
    };
    static const luaL_Reg none[] = {{NULL, NULL}};

    spool_class(L, SPOOL, methods, l_close, tasks, pool);
    spool_class(L, WORK, none, l_work_gc, tasks, pool);
    luaL_setfuncs(L, functions, 0);
}
