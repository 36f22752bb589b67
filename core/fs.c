#include "fs.h"

#include "digest.h"
#include "disk.h"
#include "dotstuff.h"
#include "fscall.h"

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

#define LOCKFILE "popd.fs.lockfile"
#define BITS62 ((UINT64_C(1) << 62) - 1)

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

int
fs_fail(lua_State *L, const char *what, const char *path, int code)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s %s: %s", what, path, strerror(code));
    push_code(L, code);
    return 3;
}

int
fs_fail_text(lua_State *L, const char *what, const char *path, const char *why)
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
        return fs_fail(L, what, path, errno);
    lua_pushboolean(L, true);
    return 1;
}

const char *
fs_check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);

    luaL_argcheck(L, strlen(path) == len, arg, "a path cannot contain NUL");
    return path;
}

mode_t
fs_opt_mode(lua_State *L, int arg, mode_t otherwise)
{
    lua_Integer given = luaL_optinteger(L, arg, otherwise);

    luaL_argcheck(L, given >= 0 && given <= 07777, arg, "a file mode expected");
    return (mode_t)given;
}

static const char *
type_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : "other";
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
    const char *path = fs_check_path(L, 1);
    int flags = lua_toboolean(L, 2) ? 0 : AT_SYMLINK_NOFOLLOW;
    struct stat st;

    if (fstatat(AT_FDCWD, path, &st, flags) != 0)
        return fs_fail(L, "stat", path, errno);
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
    const char *path = fs_check_path(L, 1);
    struct stat st;

    if (lstat(path, &st) != 0)
        return fs_fail(L, "size", path, errno);
    if (!S_ISREG(st.st_mode))
        return fs_fail_text(L, "size", path, "not a regular file");
    lua_pushinteger(L, (lua_Integer)st.st_size);
    return 1;
}

static int
l_rename(lua_State *L)
{
    const char *from = fs_check_path(L, 1);
    const char *to = fs_check_path(L, 2);

    return result(L, rename(from, to), "rename", from);
}

static int
l_link(lua_State *L)
{
    const char *from = fs_check_path(L, 1);
    const char *to = fs_check_path(L, 2);

    return result(L, link(from, to), "link", to);
}

static int
l_unlink(lua_State *L)
{
    const char *path = fs_check_path(L, 1);

    return result(L, unlink(path), "unlink", path);
}

static int
l_mkdir(lua_State *L)
{
    const char *path = fs_check_path(L, 1);

    return result(L, mkdir(path, fs_opt_mode(L, 2, 0700)), "mkdir", path);
}

/* In one piece behind what is there, whoever else adds something; no file is
 * made. */
static int
l_append(lua_State *L)
{
    const char *path = fs_check_path(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : write(fd, data, len);
    int code = n < 0 ? errno : (size_t)n < len ? ENOSPC : 0;

    if (fd >= 0)
        close(fd);
    errno = code;
    return result(L, code, "append", path);
}

static int
l_rmdir(lua_State *L)
{
    const char *path = fs_check_path(L, 1);

    return result(L, rmdir(path), "rmdir", path);
}

static int
l_chmod(lua_State *L)
{
    const char *path = fs_check_path(L, 1);

    luaL_checkinteger(L, 2);
    return result(L, chmod(path, fs_opt_mode(L, 2, 0)), "chmod", path);
}

static int
l_chown(lua_State *L)
{
    const char *path = fs_check_path(L, 1);
    uid_t uid = (uid_t)luaL_checkinteger(L, 2);
    gid_t gid = (gid_t)luaL_checkinteger(L, 3);

    return result(L, lchown(path, uid, gid), "chown", path);
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
    const char *path = fs_check_path(L, 1);
    int fd = disk_open(path, O_NOFOLLOW);
    unsigned int generation = 0;
    int code;

    if (fd < 0)
        return fs_fail(L, "generation", path, errno);
    code = get_generation(fd, &generation);
    close(fd);
    if (code != 0)
        return fs_fail(L, "generation", path, code);
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
        return fs_fail(L, "lock", "file", EBADF);
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
        return fs_fail(L, "lock", "file", code);
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
        return fs_fail(L, "unlock", "file", errno);
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
        return fs_fail(L, "lock", "file", EBADF);
    if (holds_itself(L)) {
        lua_pushinteger(L, getpid());
        return 1;
    }
    if (lock_control(f->fd, true, F_WRLCK, offset, &range) != 0)
        return fs_fail(L, "lock", "file", errno);
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
    const char *path = fs_check_path(L, 2);
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
    const char *path = fs_check_path(L, 1);
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
    return fs_fail(L, "lock", path, code);
}

static const luaL_Reg functions[] = {
    {"append", l_append},       {"stat", l_stat},
    {"size", l_size},           {"rename", l_rename},
    {"link", l_link},           {"unlink", l_unlink},
    {"mkdir", l_mkdir},         {"rmdir", l_rmdir},
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
fs_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    if (luaL_newmetatable(L, LOCKFILE)) {
        luaL_setfuncs(L, lockfile_methods, 0);
        lua_pushvalue(L, -1);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    fscall_open(L, tasks, pool);
    return 1;
}
