#include "source.h"

#include "disk.h"
#include "fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SOURCE "popd.source"
#define READ_ROOM 65536

/* Its user values. */
enum { VALUE_CHUNK = 1, VALUE_PULL, VALUE_CLOSE, VALUE_COUNT = 3 };

struct source {
    int fd;              /* ours; -1: not a file */
    uint64_t at, left;   /* of a file */
    bool waits;          /* it is read as read(2) does */
    bool apart;          /* from Lua: it is malloc's */
    bool unseen;         /* nobody looked whether it has as many octets: `left` is one more */
    struct fetch *fetch; /* ours; NULL: nothing of the file is on its way */
    bool used;           /* what it brought was handed out: it goes at the next call */
    const char *bytes;   /* in the string VALUE_CHUNK */
    size_t len;
    int ref;     /* of whoever holds it; LUA_NOREF: nobody does */
    bool pulls;  /* VALUE_PULL is asked when the chunk is used up */
    bool closes; /* VALUE_CLOSE was not taken yet */
};

static struct source *
new_source(lua_State *L)
{
    struct source *s = lua_newuserdatauv(L, sizeof *s, VALUE_COUNT);

    *s = (struct source){.fd = -1, .ref = LUA_NOREF};
    luaL_setmetatable(L, SOURCE);
    return s;
}

static void
source_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    fetch_drop(s->fetch);
    s->fetch = NULL;
}

struct source *
source_hold(lua_State *L, int index)
{
    struct source *s = luaL_testudata(L, index, SOURCE);

    if (!s)
        return NULL;
    lua_pushvalue(L, index);
    s->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return s;
}

void
source_drop(lua_State *L, struct source *s)
{
    source_close(s);
    luaL_unref(L, LUA_REGISTRYINDEX, s->ref);
    s->ref = LUA_NOREF;
}

bool
source_free(struct source *s)
{
    if (!s->apart)
        return false;
    source_close(s);
    free(s);
    return true;
}

static int
l_gc(lua_State *L)
{
    source_close(luaL_checkudata(L, 1, SOURCE));
    return 0;
}

static int
l_bytes(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct source *s = new_source(L);

    s->bytes = bytes;
    s->len = len;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, VALUE_CHUNK);
    return 1;
}

/* What is wrong with the range of the file, or NULL. */
static const char *
take_range(struct source *s, uint64_t offset, bool whole, uint64_t length)
{
    struct stat st;

    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        return strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "not a regular file";
    if (offset > (uint64_t)st.st_size)
        return "the file ends before the offset";
    if (!whole && length > (uint64_t)st.st_size - offset)
        return "the file is shorter than promised";
    s->at = offset;
    s->left = whole ? (uint64_t)st.st_size - offset : length;
    return NULL;
}

/* source_file(path, offset [, length [, follow]]); follow false: the path must
 * not be a symbolic link, which a user could have put in a message's place. */
static int
l_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    lua_Integer offset = luaL_optinteger(L, 2, 0);
    lua_Integer length = luaL_optinteger(L, 3, -1);
    struct source *s = new_source(L);
    const char *why;

    luaL_argcheck(L, offset >= 0, 2, "an offset of 0 or more expected");
    luaL_argcheck(L, lua_isnoneornil(L, 3) || length >= 0, 3, "a length of 0 or more expected");
    s->fd =
        open(path, SOURCE_FLAGS | (lua_type(L, 4) == LUA_TBOOLEAN && !lua_toboolean(L, 4) ? O_NOFOLLOW : 0));
    why = take_range(s, (uint64_t)offset, length < 0, (uint64_t)length);
    if (!why)
        return 1;
    source_close(s);
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, why);
    return 2;
}

/* Of a short one an octet more is asked for, which must not come. */
static bool
take_listed(struct source *s, uint64_t octets)
{
    s->unseen = octets < SOURCE_SHORT;
    s->left = octets + 1;
    return s->unseen || (!take_range(s, 0, true, 0) && s->left == octets);
}

struct source *
source_of_file(int fd, uint64_t octets)
{
    struct source *s = malloc(sizeof *s);

    if (!s) {
        close(fd);
        return NULL;
    }
    *s = (struct source){.fd = fd, .ref = LUA_NOREF, .apart = true};
    if (take_listed(s, octets))
        return s;
    source_free(s);
    return NULL;
}

static int
l_pull(lua_State *L)
{
    struct source *s;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    s = new_source(L);
    s->pulls = true;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, VALUE_PULL);
    s->closes = !lua_isnoneornil(L, 2);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, VALUE_CLOSE);
    return 1;
}

static size_t
wanted(const struct source *s, size_t n)
{
    return s->left < n ? (size_t)s->left : n;
}

/* Where the file system cannot tell what is in memory it has to be waited for. */
static ssize_t
read_file(struct source *s, char *room, size_t n)
{
    struct iovec piece = {room, wanted(s, n)};
    ssize_t r = -1;

    if (!s->waits)
        r = preadv2(s->fd, &piece, 1, (off_t)s->at, RWF_NOWAIT);
    if (r < 0 && (s->waits || (errno != EAGAIN && errno != EINTR))) {
        s->waits = true;
        r = disk_read_at(s->fd, room, piece.iov_len, s->at);
    }
    return r;
}

/* In memory, read in a thread before, or neither: -1 and EAGAIN. */
static ssize_t
read_or_take(struct source *s, char *room, size_t n, const char **bytes)
{
    *bytes = room;
    if (!s->fetch)
        return read_file(s, room, n);
    if (fetch_is_over(s->fetch))
        return fetch_result(s->fetch, bytes);
    errno = EAGAIN;
    return -1;
}

/* A short file comes whole, or it is another. */
static bool
see(struct source *s, ssize_t got)
{
    s->unseen = false;
    return got >= 0 && (uint64_t)got == --s->left;
}

static enum source_status
next_of_file(struct source *s, char *room, size_t n, const char **bytes, size_t *got, const char **why)
{
    ssize_t r;

    if (s->used) {
        fetch_drop(s->fetch);
        s->fetch = NULL;
    }
    s->used = false;
    if (s->left == 0)
        return SOURCE_END;
    r = read_or_take(s, room, n, bytes);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return SOURCE_AWAY;
    if (s->unseen && !see(s, r))
        return SOURCE_OTHER;
    if (s->left == 0) /* it is as empty as it was listed */
        return SOURCE_END;
    if (r <= 0) {
        *why = r < 0 ? strerror(errno) : "the file became shorter while it was read";
        return SOURCE_FAILED;
    }
    s->used = s->fetch != NULL;
    *got = (size_t)r;
    s->at += (size_t)r;
    s->left -= (size_t)r;
    return SOURCE_BYTES;
}

bool
source_fetch(struct source *s, struct pool *pool, size_t n, void (*ready)(void *owner), void *owner)
{
    if (!s->fetch)
        s->fetch = fetch_start(pool, s->fd, s->at, wanted(s, n), ready, owner);
    s->waits = s->waits || !s->fetch;
    return s->fetch != NULL;
}

enum source_status
source_next(struct source *s, char *room, size_t n, const char **bytes, size_t *got, const char **why)
{
    if (s->fd >= 0)
        return next_of_file(s, room, n, bytes, got, why);
    if (s->len == 0)
        return s->pulls ? SOURCE_PULL : SOURCE_END;
    *got = s->len < n ? s->len : n;
    *bytes = s->bytes;
    s->bytes += *got;
    s->len -= *got;
    return SOURCE_BYTES;
}

static void
push_value(lua_State *L, struct source *s, int which)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->ref);
    lua_getiuservalue(L, -1, which);
    lua_remove(L, -2);
}

void
source_push_pull(lua_State *L, struct source *s)
{
    push_value(L, s, VALUE_PULL);
}

void
source_feed(lua_State *L, struct source *s)
{
    size_t len = 0;
    const char *bytes = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;

    s->bytes = bytes;
    s->len = len;
    s->pulls = bytes != NULL;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->ref);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, VALUE_CHUNK);
    lua_pop(L, 1);
}

bool
source_has_close(const struct source *s)
{
    return s->closes;
}

void
source_push_close(lua_State *L, struct source *s)
{
    s->closes = false;
    push_value(L, s, VALUE_CLOSE);
}

/* read(source) for Lua: "" where the caller is to pull.  It waits. */
static int
l_read(lua_State *L)
{
    struct source *s = luaL_checkudata(L, 1, SOURCE);
    luaL_Buffer b;
    const char *bytes, *why = NULL;
    size_t got = 0;
    char *room = luaL_buffinitsize(L, &b, READ_ROOM);

    s->waits = true;
    switch (source_next(s, room, READ_ROOM, &bytes, &got, &why)) {
    case SOURCE_BYTES:
        lua_pushlstring(L, bytes, got);
        return 1;
    case SOURCE_AWAY: /* a signal came between */
    case SOURCE_PULL:
        lua_pushliteral(L, "");
        return 1;
    case SOURCE_END:
        source_close(s);
        lua_pushnil(L);
        return 1;
    case SOURCE_OTHER: /* none that Lua has */
    case SOURCE_FAILED:
        break;
    }
    source_close(s);
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

void
source_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"source_bytes", l_bytes},
        {"source_file", l_file},
        {"source_pull", l_pull},
        {"source_read", l_read},
        {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, SOURCE);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
