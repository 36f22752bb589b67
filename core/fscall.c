#include "fscall.h"

#include "disk.h"
#include "offload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALL "popd.fs.call"

/* A call under way, a userdata. */
struct call {
    struct offload off;
    char *path;     /* ours */
    struct buf in;  /* ours: what is written, or paths */
    struct buf out; /* ours: what was read */
    int code;       /* an errno, DISK_TOO_SHORT, or 0 */
    mode_t mode;
    uint64_t offset, length, max;
    bool whole, follow;
    size_t count; /* of results */
};

static void
clear_call(void *owner)
{
    struct call *c = owner;

    free(c->path);
    c->path = NULL;
    buf_clear(&c->in);
    buf_clear(&c->out);
}

static int
l_call_gc(lua_State *L)
{
    struct call *c = luaL_checkudata(L, 1, CALL);

    offload_collect(&c->off);
    return 0;
}

/* Pushes a call for the path at index 1 (NULL: it has none).  [-0, +1, e] */
static struct call *
new_call(lua_State *L, const char *path, void (*work)(void *), int (*finish)(lua_State *, void *))
{
    struct call *c = lua_newuserdatauv(L, sizeof *c, 0);

    *c = (struct call){.off = {.work = work, .finish = finish, .clear = clear_call, .owner = c}};
    luaL_setmetatable(L, CALL);
    c->path = path ? strdup(path) : NULL;
    if (path && !c->path)
        luaL_error(L, "out of memory");
    return c;
}

static int
run(lua_State *L, struct call *c)
{
    return offload_run(L, &c->off, "popd.fs");
}

static int
finish_plain(lua_State *L, const struct call *c, const char *what)
{
    if (c->code != 0)
        return fs_fail(L, what, c->path, c->code);
    lua_pushboolean(L, true);
    return 1;
}

/* scandir */

static char
type_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : 'o';
}

/* NUL: the entry is gone, or says nothing. */
static char
type_by_stat(DIR *dir, const char *name)
{
    struct stat st;

    return fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? type_of_mode(st.st_mode) : '\0';
}

static char
type_of_entry(DIR *dir, const struct dirent *entry)
{
#ifdef DT_UNKNOWN
    switch (entry->d_type) {
    case DT_REG:
        return 'f';
    case DT_DIR:
        return 'd';
    case DT_LNK:
        return 'l';
    case DT_UNKNOWN:
        return type_by_stat(dir, entry->d_name);
    default:
        return 'o';
    }
#else
    return type_by_stat(dir, entry->d_name);
#endif
}

/* Each name behind the letter of its type, with a NUL.  An errno, or 0. */
static int
list_entries(struct call *c, DIR *dir)
{
    for (;;) {
        const struct dirent *entry;
        char type;

        errno = 0;
        entry = readdir(dir);
        if (!entry)
            return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        type = type_of_entry(dir, entry);
        if (!type)
            continue;
        buf_add(&c->out, &type, 1);
        buf_add(&c->out, entry->d_name, strlen(entry->d_name) + 1);
        c->count++;
        if (c->out.failed)
            return ENOMEM;
    }
}

static void
work_scandir(void *owner)
{
    struct call *c = owner;
    DIR *dir = opendir(c->path);

    c->code = dir ? list_entries(c, dir) : errno;
    if (dir)
        closedir(dir);
}

static const char *
type_name(char type)
{
    return type == 'f' ? "file" : type == 'd' ? "directory" : type == 'l' ? "link" : "other";
}

static int
finish_scandir(lua_State *L, void *owner)
{
    struct call *c = owner;
    int room = c->count < 1000000 ? (int)c->count : 1000000;
    const char *at = c->out.data;

    if (c->code != 0)
        return fs_fail(L, "scandir", c->path, c->code);
    lua_createtable(L, room, 0);
    lua_createtable(L, room, 0);
    for (size_t i = 0; i < c->count; i++) {
        lua_pushstring(L, at + 1);
        lua_rawseti(L, -3, (lua_Integer)i + 1);
        lua_pushstring(L, type_name(*at));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
        at += strlen(at) + 1;
    }
    return 2;
}

static int
l_scandir(lua_State *L)
{
    return run(L, new_call(L, fs_check_path(L, 1), work_scandir, finish_scandir));
}

/* fsync */

static void
work_fsync(void *owner)
{
    struct call *c = owner;
    int fd = disk_open(c->path, 0);

    c->code = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
}

static int
finish_fsync(lua_State *L, void *owner)
{
    return finish_plain(L, owner, "fsync");
}

static int
l_fsync(lua_State *L)
{
    return run(L, new_call(L, fs_check_path(L, 1), work_fsync, finish_fsync));
}

/* write */

static void
work_write(void *owner)
{
    struct call *c = owner;

    c->code = disk_write_new(c->path, c->in.data, c->in.len, c->mode);
}

static int
finish_write(lua_State *L, void *owner)
{
    return finish_plain(L, owner, "write");
}

static int
l_write(lua_State *L)
{
    const char *path = fs_check_path(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    mode_t mode = fs_opt_mode(L, 3, 0600);
    struct call *c = new_call(L, path, work_write, finish_write);

    buf_add(&c->in, data, len);
    if (c->in.failed)
        return luaL_error(L, "out of memory");
    c->mode = mode;
    return run(L, c);
}

/* read */

static void
work_read(void *owner)
{
    struct call *c = owner;
    int fd = disk_open(c->path, 0);

    c->code = fd < 0 ? errno : disk_read(fd, &c->out, c->max);
    if (fd >= 0)
        close(fd);
}

static int
finish_read(lua_State *L, void *owner)
{
    struct call *c = owner;

    if (c->code != 0)
        return fs_fail(L, "read", c->path, c->code);
    lua_pushlstring(L, c->out.data ? c->out.data : "", c->out.len);
    return 1;
}

static int
l_read(lua_State *L)
{
    const char *path = fs_check_path(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, LUA_MAXINTEGER);
    struct call *c;

    luaL_argcheck(L, max >= 0, 2, "a size expected");
    c = new_call(L, path, work_read, finish_read);
    c->max = (uint64_t)max;
    return run(L, c);
}

/* octets */

/* A range that starts behind the file's end is too short as well. */
static int
count_file(struct call *c, int fd, struct dotstuff *d)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    if (c->offset > (uint64_t)st.st_size)
        return DISK_TOO_SHORT;
    return disk_count(fd, c->offset, c->whole, c->length, d);
}

static void
work_octets(void *owner)
{
    struct call *c = owner;
    int fd = disk_open(c->path, c->follow ? 0 : O_NOFOLLOW);
    struct dotstuff d;

    dotstuff_init(&d, DOTSTUFF_ALL);
    c->code = fd < 0 ? errno : count_file(c, fd, &d);
    dotstuff_count_end(&d);
    c->length = d.octets;
    if (fd >= 0)
        close(fd);
}

static int
finish_octets(lua_State *L, void *owner)
{
    struct call *c = owner;

    if (c->code == DISK_TOO_SHORT)
        return fs_fail_text(L, "octets", c->path, "the file is shorter than promised");
    if (c->code != 0)
        return fs_fail(L, "octets", c->path, c->code);
    lua_pushinteger(L, (lua_Integer)c->length);
    return 1;
}

static int
l_octets(lua_State *L)
{
    const char *path = fs_check_path(L, 1);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    lua_Integer length = luaL_optinteger(L, 3, 0);
    struct call *c;

    luaL_argcheck(L, offset >= 0, 2, "an offset of 0 or more expected");
    luaL_argcheck(L, length >= 0, 3, "a length of 0 or more expected");
    c = new_call(L, path, work_octets, finish_octets);
    c->offset = (uint64_t)offset;
    c->length = (uint64_t)length;
    c->whole = lua_isnoneornil(L, 3);
    c->follow = lua_isnoneornil(L, 4) || lua_toboolean(L, 4); /* a symbolic link */
    return run(L, c);
}

/* change: `in` has from and to, each with a NUL; no to: an empty one.  `out` gets
 * an errno for each. */

/* Renames without replacing; where the system cannot, by a second name.  A file
 * that has both names already, after a crash between the two, loses the first. */
static int
move(const char *from, const char *to)
{
    struct stat a, b;

    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EEXIST)
        return errno;
    if (link(from, to) != 0 && (errno != EEXIST || lstat(from, &a) != 0 || lstat(to, &b) != 0 ||
                                a.st_ino != b.st_ino || a.st_dev != b.st_dev))
        return errno;
    return unlink(from) == 0 ? 0 : errno;
}

static void
work_change(void *owner)
{
    struct call *c = owner;
    const char *at = c->in.data;

    for (size_t i = 0; i < c->count; i++) {
        const char *to = at + strlen(at) + 1;
        int code = *to ? move(at, to) : unlink(at) == 0 ? 0 : errno;

        memcpy(c->out.data + i * sizeof code, &code, sizeof code);
        at = to + strlen(to) + 1;
    }
}

static int
finish_change(lua_State *L, void *owner)
{
    struct call *c = owner;
    const char *at = c->in.data;

    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < c->count; i++) {
        const char *to = at + strlen(at) + 1;
        int code;

        memcpy(&code, c->out.data + i * sizeof code, sizeof code);
        if (code == 0) {
            lua_pushboolean(L, true);
        } else {
            fs_fail(L, *to ? "rename" : "unlink", at, code);
            lua_pushvalue(L, -2);
            lua_rawseti(L, -5, (lua_Integer)i + 1); /* the reason */
            lua_replace(L, -3);                     /* its name, or nil */
            lua_pop(L, 1);
            if (lua_isnil(L, -1)) {
                lua_pop(L, 1);
                lua_pushboolean(L, false);
            }
        }
        lua_rawseti(L, -3, (lua_Integer)i + 1);
        at = to + strlen(to) + 1;
    }
    return 2;
}

static void
add_path(lua_State *L, struct call *c, int array, lua_Integer i)
{
    size_t len;
    const char *path;

    lua_rawgeti(L, array, i);
    path = lua_isstring(L, -1) ? lua_tolstring(L, -1, &len) : "";
    if (*path && strlen(path) != len)
        luaL_error(L, "a path cannot contain NUL");
    buf_add(&c->in, path, strlen(path) + 1);
    lua_pop(L, 1);
}

static int
l_change(lua_State *L)
{
    struct call *c;
    lua_Integer n;

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    n = luaL_len(L, 1);
    c = new_call(L, NULL, work_change, finish_change);
    for (lua_Integer i = 1; i <= n; i++) {
        add_path(L, c, 1, i);
        add_path(L, c, 2, i);
    }
    c->count = (size_t)n;
    if (c->in.failed || !buf_reserve(&c->out, (c->count + 1) * sizeof(int)))
        return luaL_error(L, "out of memory");
    return run(L, c);
}

void
fscall_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {
        {"scandir", l_scandir}, {"fsync", l_fsync},   {"write", l_write}, {"read", l_read},
        {"octets", l_octets},   {"change", l_change}, {NULL, NULL},
    };

    luaL_newmetatable(L, CALL);
    lua_pushcfunction(L, l_call_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    offload_push_upvalues(L, tasks, pool);
    luaL_setfuncs(L, functions, 2);
}
