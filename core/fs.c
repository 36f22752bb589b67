#include "fs.h"

#include "digest.h"
#include "dotstuff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/fs.h>
#endif

#define OPENED "popd.fs.opened"
#define LOCKFILE "popd.fs.lockfile"
#define READ_ROOM 65536
#define BITS62 ((UINT64_C(1) << 62) - 1)

/* A count that ended before the range did. */
#define TOO_SHORT (-1)

static const struct {
    int code;
    const char *name;
} codes[] = {
    {EACCES, "EACCES"},   {EBUSY, "EBUSY"},   {EDQUOT, "EDQUOT"}, {EEXIST, "EEXIST"},
    {EFBIG, "EFBIG"},     {EINVAL, "EINVAL"}, {EIO, "EIO"},       {EISDIR, "EISDIR"},
    {ELOOP, "ELOOP"},     {EMFILE, "EMFILE"}, {EMLINK, "EMLINK"}, {ENAMETOOLONG, "ENAMETOOLONG"},
    {ENOENT, "ENOENT"},   {ENOSPC, "ENOSPC"}, {ENFILE, "ENFILE"}, {ENOTEMPTY, "ENOTEMPTY"},
    {ENOTDIR, "ENOTDIR"}, {EPERM, "EPERM"},   {EROFS, "EROFS"},   {EXDEV, "EXDEV"},
};

static void
push_code(lua_State *L, int code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) {
            lua_pushstring(L, codes[i].name);
            return;
        }
    lua_pushnil(L);
}

/* nil, the reason and the error's name.  [-0, +3, m] */
static int
fail(lua_State *L, const char *what, const char *path, int code)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s %s: %s", what, path, strerror(code));
    push_code(L, code);
    return 3;
}

static int
fail_text(lua_State *L, const char *what, const char *path, const char *why)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s %s: %s", what, path, why);
    return 2;
}

/* true, or the failure that errno holds. */
static int
result(lua_State *L, int status, const char *what, const char *path)
{
    if (status != 0)
        return fail(L, what, path, errno);
    lua_pushboolean(L, true);
    return 1;
}

/* A path with a NUL would name another file than its first half: refused. */
static const char *
check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);

    luaL_argcheck(L, strlen(path) == len, arg, "a path cannot contain NUL");
    return path;
}

static mode_t
opt_mode(lua_State *L, int arg, mode_t mode)
{
    lua_Integer given = luaL_optinteger(L, arg, mode);

    luaL_argcheck(L, given >= 0 && given <= 07777, arg, "a file mode expected");
    return (mode_t)given;
}

/* What is open while Lua may raise: its __gc closes what an error left open. */
struct opened {
    DIR *dir; /* ours */
    int fd;   /* ours; -1: none */
};

static void
opened_close(struct opened *o)
{
    if (o->dir)
        closedir(o->dir);
    if (o->fd >= 0)
        close(o->fd);
    *o = (struct opened){.fd = -1};
}

static int
l_opened_gc(lua_State *L)
{
    opened_close(luaL_checkudata(L, 1, OPENED));
    return 0;
}

/* [-0, +1, m] */
static struct opened *
opened_new(lua_State *L)
{
    struct opened *o = lua_newuserdatauv(L, sizeof *o, 0);

    *o = (struct opened){.fd = -1};
    luaL_setmetatable(L, OPENED);
    return o;
}

static const char *
type_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : "other";
}

/* NULL: the entry is gone, or says nothing. */
static const char *
type_by_stat(DIR *dir, const char *name)
{
    struct stat st;

    return fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? type_of_mode(st.st_mode) : NULL;
}

static const char *
type_of_entry(DIR *dir, const struct dirent *entry)
{
#ifdef DT_UNKNOWN
    switch (entry->d_type) {
    case DT_REG:
        return "file";
    case DT_DIR:
        return "directory";
    case DT_LNK:
        return "link";
    case DT_UNKNOWN:
        return type_by_stat(dir, entry->d_name);
    default:
        return "other";
    }
#else
    return type_by_stat(dir, entry->d_name);
#endif
}

/* Fills the tables at names and at names + 1; returns an errno, or 0. */
static int
list_entries(lua_State *L, DIR *dir, int names)
{
    lua_Integer n = 0;

    for (;;) {
        const struct dirent *entry;
        const char *type;

        errno = 0;
        entry = readdir(dir);
        if (!entry)
            return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        type = type_of_entry(dir, entry);
        if (!type)
            continue;
        n++;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, names, n);
        lua_pushstring(L, type);
        lua_rawseti(L, names + 1, n);
    }
}

static int
l_scandir(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct opened *o;
    int code;

    lua_settop(L, 1);
    o = opened_new(L);
    lua_newtable(L);
    lua_newtable(L);
    o->dir = opendir(path);
    if (!o->dir)
        return fail(L, "scandir", path, errno);
    code = list_entries(L, o->dir, 3);
    opened_close(o);
    return code == 0 ? 2 : fail(L, "scandir", path, code);
}

static void
set_integer(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

static int
l_stat(lua_State *L)
{
    const char *path = check_path(L, 1);
    int flags = lua_toboolean(L, 2) ? 0 : AT_SYMLINK_NOFOLLOW;
    struct stat st;

    if (fstatat(AT_FDCWD, path, &st, flags) != 0)
        return fail(L, "stat", path, errno);
    lua_createtable(L, 0, 9);
    lua_pushstring(L, type_of_mode(st.st_mode));
    lua_setfield(L, -2, "type");
    lua_pushnumber(L, (lua_Number)st.st_mtim.tv_sec + (lua_Number)st.st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    set_integer(L, "size", (lua_Integer)st.st_size);
    set_integer(L, "ino", (lua_Integer)st.st_ino);
    set_integer(L, "dev", (lua_Integer)st.st_dev);
    set_integer(L, "nlink", (lua_Integer)st.st_nlink);
    set_integer(L, "mode", (lua_Integer)(st.st_mode & 07777));
    set_integer(L, "uid", (lua_Integer)st.st_uid);
    set_integer(L, "gid", (lua_Integer)st.st_gid);
    return 1;
}

/* A store with many messages asks this for each: it makes no table. */
static int
l_size(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct stat st;

    if (lstat(path, &st) != 0)
        return fail(L, "size", path, errno);
    if (!S_ISREG(st.st_mode))
        return fail_text(L, "size", path, "not a regular file");
    lua_pushinteger(L, (lua_Integer)st.st_size);
    return 1;
}

static int
l_rename(lua_State *L)
{
    const char *from = check_path(L, 1);
    const char *to = check_path(L, 2);

    return result(L, rename(from, to), "rename", from);
}

static int
l_link(lua_State *L)
{
    const char *from = check_path(L, 1);
    const char *to = check_path(L, 2);

    return result(L, link(from, to), "link", to);
}

static int
l_unlink(lua_State *L)
{
    const char *path = check_path(L, 1);

    return result(L, unlink(path), "unlink", path);
}

static int
l_mkdir(lua_State *L)
{
    const char *path = check_path(L, 1);

    return result(L, mkdir(path, opt_mode(L, 2, 0700)), "mkdir", path);
}

static int
l_rmdir(lua_State *L)
{
    const char *path = check_path(L, 1);

    return result(L, rmdir(path), "rmdir", path);
}

static int
l_chmod(lua_State *L)
{
    const char *path = check_path(L, 1);

    luaL_checkinteger(L, 2);
    return result(L, chmod(path, opt_mode(L, 2, 0)), "chmod", path);
}

static int
l_chown(lua_State *L)
{
    const char *path = check_path(L, 1);
    uid_t uid = (uid_t)luaL_checkinteger(L, 2);
    gid_t gid = (gid_t)luaL_checkinteger(L, 3);

    return result(L, lchown(path, uid, gid), "chown", path);
}

/* Never waits for the other end of a FIFO. */
static int
open_to_read(const char *path, int flags)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
}

static int
l_fsync(lua_State *L)
{
    const char *path = check_path(L, 1);
    int fd = open_to_read(path, 0);
    int code = 0;

    if (fd < 0)
        return fail(L, "fsync", path, errno);
    if (fsync(fd) != 0)
        code = errno;
    close(fd);
    errno = code;
    return result(L, code, "fsync", path);
}

/* Returns an errno, or 0. */
static int
write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Makes the file; what it cannot make whole it removes.  An errno, or 0. */
static int
write_new(const char *path, const char *data, size_t len, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    int code;

    if (fd < 0)
        return errno;
    code = write_all(fd, data, len);
    if (code == 0 && fsync(fd) != 0)
        code = errno;
    if (close(fd) != 0 && code == 0)
        code = errno;
    if (code != 0)
        unlink(path);
    return code;
}

static int
l_write(lua_State *L)
{
    const char *path = check_path(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    int code = write_new(path, data, len, opt_mode(L, 3, 0600));

    errno = code;
    return result(L, code, "write", path);
}

/* read(2) at an offset, past signals. */
static ssize_t
read_at(int fd, void *room, size_t n, uint64_t offset)
{
    ssize_t got;

    do
        got = pread(fd, room, n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Adds the file to b, if it has no more than max octets.  An errno, or 0. */
static int
read_whole(int fd, luaL_Buffer *b, uint64_t max)
{
    uint64_t at = 0;

    for (;;) {
        ssize_t n = read_at(fd, luaL_prepbuffsize(b, READ_ROOM), READ_ROOM, at);

        if (n <= 0)
            return n < 0 ? errno : 0;
        at += (uint64_t)n;
        if (at > max)
            return EFBIG;
        luaL_addsize(b, (size_t)n);
    }
}

static int
l_read(lua_State *L)
{
    const char *path = check_path(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, LUA_MAXINTEGER);
    struct opened *o;
    luaL_Buffer b;
    int code;

    luaL_argcheck(L, max >= 0, 2, "a size expected");
    o = opened_new(L);
    o->fd = open_to_read(path, 0);
    if (o->fd < 0)
        return fail(L, "read", path, errno);
    luaL_buffinit(L, &b);
    code = read_whole(o->fd, &b, (uint64_t)max);
    opened_close(o);
    luaL_pushresult(&b);
    return code == 0 ? 1 : fail(L, "read", path, code);
}

/* Counts what is at offset, to the end or just length octets.  Returns an
 * errno, TOO_SHORT, or 0. */
static int
count_range(int fd, uint64_t offset, bool whole, uint64_t length, struct dotstuff *d)
{
    char room[READ_ROOM];

    while (whole || length > 0) {
        size_t want = whole || length > sizeof room ? sizeof room : (size_t)length;
        ssize_t n = read_at(fd, room, want, offset);

        if (n < 0)
            return errno;
        if (n == 0)
            return whole ? 0 : TOO_SHORT;
        dotstuff_count(d, room, (size_t)n);
        offset += (uint64_t)n;
        length -= whole ? 0 : (uint64_t)n;
    }
    return 0;
}

/* The same for the file at path; a range that starts behind its end is
 * TOO_SHORT, too. */
static int
count_file(const char *path, int flags, uint64_t offset, bool whole, uint64_t length, struct dotstuff *d)
{
    int fd = open_to_read(path, flags);
    struct stat st;
    int code;

    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0)
        code = errno;
    else if (!S_ISREG(st.st_mode))
        code = EINVAL;
    else if (offset > (uint64_t)st.st_size)
        code = TOO_SHORT;
    else
        code = count_range(fd, offset, whole, length, d);
    close(fd);
    return code;
}

static int
l_octets(lua_State *L)
{
    const char *path = check_path(L, 1);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    bool whole = lua_isnoneornil(L, 3);
    lua_Integer length = luaL_optinteger(L, 3, 0);
    bool follow = lua_isnoneornil(L, 4) || lua_toboolean(L, 4); /* a symbolic link */
    struct dotstuff d;
    int code;

    luaL_argcheck(L, offset >= 0, 2, "an offset of 0 or more expected");
    luaL_argcheck(L, length >= 0, 3, "a length of 0 or more expected");
    dotstuff_init(&d, DOTSTUFF_ALL);
    code = count_file(path, follow ? 0 : O_NOFOLLOW, (uint64_t)offset, whole, (uint64_t)length, &d);
    if (code == TOO_SHORT)
        return fail_text(L, "octets", path, "the file is shorter than promised");
    if (code != 0)
        return fail(L, "octets", path, code);
    dotstuff_count_end(&d);
    lua_pushinteger(L, (lua_Integer)d.octets);
    return 1;
}

static int
l_octets_of(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct dotstuff d;

    dotstuff_init(&d, DOTSTUFF_ALL);
    dotstuff_count(&d, text, len);
    dotstuff_count_end(&d);
    lua_pushinteger(L, (lua_Integer)d.octets);
    return 1;
}

/* Sets *generation; returns an errno, or 0. */
static int
get_generation(int fd, unsigned int *generation)
{
#ifdef FS_IOC_GETVERSION
    unsigned int version[2] = {0}; /* declared long, written as int */

    if (ioctl(fd, FS_IOC_GETVERSION, version) != 0)
        return errno;
    *generation = version[0];
    return 0;
#else
    (void)fd;
    (void)generation;
    return ENOTSUP;
#endif
}

static int
l_generation(lua_State *L)
{
    const char *path = check_path(L, 1);
    int fd = open_to_read(path, O_NOFOLLOW);
    unsigned int generation = 0;
    int code;

    if (fd < 0)
        return fail(L, "generation", path, errno);
    code = get_generation(fd, &generation);
    close(fd);
    if (code != 0)
        return fail(L, "generation", path, code);
    lua_pushinteger(L, (lua_Integer)generation);
    return 1;
}

static int
l_sha256(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char hex[DIGEST_SHA256_HEX + 1];

    if (!digest_sha256(text, len, hex))
        return luaL_error(L, "no SHA-256");
    lua_pushstring(L, hex);
    return 1;
}

static int
l_hash62(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char hex[DIGEST_SHA256_HEX + 1];
    uint64_t hash = 0;

    if (!digest_sha256(text, len, hex))
        return luaL_error(L, "no SHA-256");
    for (int i = 0; i < 16; i++)
        hash = hash << 4 | (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    lua_pushinteger(L, (lua_Integer)(hash & BITS62));
    return 1;
}

/* Its user value is a table: the offsets that this object has locked. */
struct lockfile {
    int fd; /* ours; -1: closed */
    dev_t dev;
    ino_t ino;
};

/* One byte's lock.  An open file description owns it where the system can do
 * that: a record lock would vanish when any descriptor of the file is closed,
 * and would not keep out this process. */
static int
lock_control(int fd, bool ask, short type, uint64_t offset, struct flock *range)
{
    *range = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
#ifdef F_OFD_SETLK
    return fcntl(fd, ask ? F_OFD_GETLK : F_OFD_SETLK, range);
#else
    return fcntl(fd, ask ? F_GETLK : F_SETLK, range);
#endif
}

static struct lockfile *
check_lockfile(lua_State *L)
{
    return luaL_checkudata(L, 1, LOCKFILE);
}

static uint64_t
check_offset(lua_State *L, int arg)
{
    lua_Integer offset = luaL_checkinteger(L, arg);

    luaL_argcheck(L, offset >= 0 && (uint64_t)offset <= BITS62, arg, "an offset of 62 bits expected");
    return (uint64_t)offset;
}

/* Whether this object has locked the offset at index 2. */
static bool
holds_itself(lua_State *L)
{
    bool held;

    lua_getiuservalue(L, 1, 1);
    lua_pushvalue(L, 2);
    held = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return held;
}

static void
note_held(lua_State *L, bool held)
{
    lua_getiuservalue(L, 1, 1);
    lua_pushvalue(L, 2);
    if (held)
        lua_pushboolean(L, true);
    else
        lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

static int
l_lockfile_lock(lua_State *L)
{
    struct lockfile *f = check_lockfile(L);
    uint64_t offset = check_offset(L, 2);
    struct flock range;
    int code;

    if (f->fd < 0)
        return fail(L, "lock", "file", EBADF);
    if (holds_itself(L)) {
        lua_pushboolean(L, false);
        return 1;
    }
    note_held(L, true); /* first: it may raise, and then nothing is locked */
    if (lock_control(f->fd, false, F_WRLCK, offset, &range) == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    code = errno;
    note_held(L, false);
    if (code != EAGAIN && code != EACCES)
        return fail(L, "lock", "file", code);
    lua_pushboolean(L, false);
    return 1;
}

static int
l_lockfile_unlock(lua_State *L)
{
    struct lockfile *f = check_lockfile(L);
    uint64_t offset = check_offset(L, 2);
    struct flock range;

    if (f->fd < 0 || !holds_itself(L))
        return 0;
    if (lock_control(f->fd, false, F_UNLCK, offset, &range) != 0)
        return fail(L, "unlock", "file", errno);
    note_held(L, false);
    return 0;
}

static int
l_lockfile_holder(lua_State *L)
{
    struct lockfile *f = check_lockfile(L);
    uint64_t offset = check_offset(L, 2);
    struct flock range;

    if (f->fd < 0)
        return fail(L, "lock", "file", EBADF);
    if (holds_itself(L)) {
        lua_pushinteger(L, getpid());
        return 1;
    }
    if (lock_control(f->fd, true, F_WRLCK, offset, &range) != 0)
        return fail(L, "lock", "file", errno);
    if (range.l_type == F_UNLCK)
        lua_pushnil(L);
    else
        lua_pushinteger(L, range.l_pid);
    return 1;
}

static int
l_lockfile_is(lua_State *L)
{
    struct lockfile *f = check_lockfile(L);
    const char *path = check_path(L, 2);
    struct stat st;

    lua_pushboolean(L, f->fd >= 0 && lstat(path, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino);
    return 1;
}

static int
l_lockfile_close(lua_State *L)
{
    struct lockfile *f = check_lockfile(L);

    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    return 0;
}

/* Returns an errno, or 0. */
static int
lockfile_open(struct lockfile *f, const char *path)
{
    struct stat st;

    f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    return 0;
}

static int
l_lockfile(lua_State *L)
{
    const char *path = check_path(L, 1);
    struct lockfile *f = lua_newuserdatauv(L, sizeof *f, 1);
    int code;

    *f = (struct lockfile){.fd = -1};
    luaL_setmetatable(L, LOCKFILE);
    lua_newtable(L);
    lua_setiuservalue(L, -2, 1);
    code = lockfile_open(f, path);
    if (code == 0)
        return 1;
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    return fail(L, "lock", path, code);
}

static const luaL_Reg functions[] = {
    {"scandir", l_scandir},     {"stat", l_stat},
    {"size", l_size},           {"rename", l_rename},
    {"link", l_link},           {"unlink", l_unlink},
    {"mkdir", l_mkdir},         {"rmdir", l_rmdir},
    {"fsync", l_fsync},         {"write", l_write},
    {"read", l_read},           {"octets", l_octets},
    {"octets_of", l_octets_of}, {"generation", l_generation},
    {"sha256", l_sha256},       {"hash62", l_hash62},
    {"lockfile", l_lockfile},   {"chmod", l_chmod},
    {"chown", l_chown},         {NULL, NULL},
};

static const luaL_Reg lockfile_methods[] = {
    {"lock", l_lockfile_lock},     {"unlock", l_lockfile_unlock},
    {"holder", l_lockfile_holder}, {"is", l_lockfile_is},
    {"close", l_lockfile_close},   {"__gc", l_lockfile_close},
    {"__close", l_lockfile_close}, {NULL, NULL},
};

int
fs_open(lua_State *L)
{
    if (luaL_newmetatable(L, OPENED)) {
        lua_pushcfunction(L, l_opened_gc);
        lua_setfield(L, -2, "__gc");
    }
    if (luaL_newmetatable(L, LOCKFILE)) {
        luaL_setfuncs(L, lockfile_methods, 0);
        lua_pushvalue(L, -1);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 2);
    luaL_newlib(L, functions);
    return 1;
}
