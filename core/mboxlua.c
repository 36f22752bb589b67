#include "mboxlua.h"

#include "digest.h"
#include "mboxindex.h"
#include "spool.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#define INDEX "popd.mboxindex"

#define ROOM (256 * 1024)                  /* what a thread reads at once */
#define SLICE (UINT64_C(16) * 1024 * 1024) /* what it scans before others have their turn */

/* An index, counted: the userdata in Lua has it, and a thread that is at it. */
struct shared_index {
    unsigned refs;
    bool busy; /* a thread is at it */
    struct mboxindex index;
};

static void
index_drop(struct shared_index *x)
{
    if (!x || --x->refs > 0)
        return;
    mboxindex_clear(&x->index);
    free(x);
}

/* In a thread -------------------------------------------------------------------- */

/* How much was read so far. */
static uint64_t
read_to(const struct mboxindex *x)
{
    return x->scan.at + x->scan.held_len;
}

/* Of the file up to w->at. */
static bool
ends_at(void *owner, uint64_t offset)
{
    const struct spool_work *w = owner;
    char text[MBOXSCAN_PEEK];
    uint64_t left = offset <= w->at ? w->at - offset : 0;
    ssize_t got;

    if (offset > w->at)
        return false;
    got = filelock_read(w->file->fd, text, left < sizeof text ? (size_t)left : sizeof text, offset);
    return got >= 0 && mboxscan_is_end(text, (size_t)got);
}

/* Reads a piece.  Returns an errno, FILELOCK_SHORT, or 0. */
static int
scan_piece(struct spool_work *w, struct mboxindex *x, char *room)
{
    uint64_t at = read_to(x), left = w->at - at;
    ssize_t got = filelock_read(w->file->fd, room, left < ROOM ? (size_t)left : ROOM, at);

    if (got <= 0)
        return got < 0 ? errno : FILELOCK_SHORT;
    return mboxindex_feed(x, w, room, (size_t)got) ? 0 : ENOMEM;
}

static void
run_scan(struct spool_work *w)
{
    struct mboxindex *x = &((struct shared_index *)w->owner)->index;
    uint64_t stop = read_to(x) + SLICE;
    char *room = malloc(ROOM);

    w->code = room ? 0 : ENOMEM;
    stop = stop < w->at ? stop : w->at;
    while (w->code == 0 && read_to(x) < stop)
        w->code = scan_piece(w, x, room);
    free(room);
    w->more = stop < w->at;
    if (w->code == 0 && !w->more && !mboxindex_end(x))
        w->code = ENOMEM;
}

/* On the loop's thread ----------------------------------------------------------- */

static void
free_scan(struct spool_work *w)
{
    struct shared_index *x = w->owner;

    x->busy = false;
    index_drop(x);
}

static struct shared_index *
check_shared(lua_State *L)
{
    struct shared_index *x = *(struct shared_index **)luaL_checkudata(L, 1, INDEX);

    if (x->busy)
        luaL_error(L, "this index is being made");
    return x;
}

static struct mboxindex *
check_index(lua_State *L)
{
    return &check_shared(L)->index;
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
l_gc(lua_State *L)
{
    struct shared_index **slot = luaL_checkudata(L, 1, INDEX);

    index_drop(*slot);
    *slot = NULL;
    return 0;
}

/* index:scan(spool, octets) -> true: all that many are scanned; false: call it again */
static int
l_scan(lua_State *L)
{
    struct shared_index *x = check_shared(L);
    struct filelock *f = spool_check(L, 2);
    uint64_t octets = spool_check_octets(L, 3);
    struct spool_work *w;

    luaL_argcheck(L, octets >= read_to(&x->index), 3, "more than was scanned expected");
    w = spool_work(L, "scan", run_scan, 0);
    w->file = filelock_hold(f);
    w->owner = x;
    w->free = free_scan;
    w->at = octets;
    x->refs++;
    x->busy = true;
    return spool_start(L, w);
}

/* index:count() -> messages, octets as sent, octets before the first */
static int
l_count(lua_State *L)
{
    const struct mboxindex *x = check_index(L);

    lua_pushinteger(L, (lua_Integer)x->count);
    lua_pushinteger(L, (lua_Integer)x->octets);
    lua_pushinteger(L, (lua_Integer)x->scan.outside);
    return 3;
}

/* index:cut(n): forgets the messages behind the first n */
static int
l_cut(lua_State *L)
{
    mboxindex_cut(check_index(L), (size_t)spool_check_octets(L, 2));
    return 0;
}

/* index:mail(i) -> head, body, end, octets, whether it is stuffed */
static int
l_mail(lua_State *L)
{
    const struct mboxscan_mail *m = check_mail(L, check_index(L), 2);

    lua_pushinteger(L, (lua_Integer)m->head);
    lua_pushinteger(L, (lua_Integer)m->body);
    lua_pushinteger(L, (lua_Integer)m->end);
    lua_pushinteger(L, (lua_Integer)m->octets);
    lua_pushboolean(L, m->stuffed);
    return 5;
}

/* index:extent(i) -> where its From_ line starts, and where what follows it does */
static int
l_extent(lua_State *L)
{
    const struct mboxindex *x = check_index(L);
    const struct mboxscan_mail *m = check_mail(L, x, 2);

    lua_pushinteger(L, (lua_Integer)m->start);
    lua_pushinteger(L, (lua_Integer)mboxindex_next(x, (size_t)(m - x->mail)));
    return 2;
}

static void
push_uid(lua_State *L, const struct mboxscan_mail *m)
{
    char text[2 * MBOXSCAN_ID + 16];
    int n = 2 * MBOXSCAN_ID;

    digest_to_hex(m->id, MBOXSCAN_ID, text);
    if (m->nth > 1)
        n += snprintf(text + n, sizeof text - (size_t)n, ".%u", (unsigned)m->nth);
    lua_pushlstring(L, text, (size_t)n);
}

static void
push_octets(lua_State *L, const struct mboxscan_mail *m)
{
    lua_pushinteger(L, (lua_Integer)m->octets);
}

/* Sets entries of the table at index 2. */
static int
fill(lua_State *L, void (*push)(lua_State *, const struct mboxscan_mail *))
{
    const struct mboxindex *x = check_index(L);
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
l_octets(lua_State *L)
{
    return fill(L, push_octets);
}

/* index:uids(list, from, to): the same with unique-ids */
static int
l_uids(lua_State *L)
{
    return fill(L, push_uid);
}

/* index:uid(i) -> its unique-id */
static int
l_uid(lua_State *L)
{
    push_uid(L, check_mail(L, check_index(L), 2));
    return 1;
}

/* index:uidl(i) -> where its X-UIDL is, and how long; nothing: it has none */
static int
l_uidl(lua_State *L)
{
    const struct mboxscan_mail *m = check_mail(L, check_index(L), 2);

    if (!m->uidl)
        return 0;
    lua_pushinteger(L, (lua_Integer)(m->head + m->uidl));
    lua_pushinteger(L, m->uidl_len);
    return 2;
}

void
mboxlua_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg methods[] = {
        {"scan", l_scan},     {"count", l_count}, {"cut", l_cut}, {"mail", l_mail}, {"extent", l_extent},
        {"octets", l_octets}, {"uids", l_uids},   {"uid", l_uid}, {"uidl", l_uidl}, {NULL, NULL},
    };

    spool_class(L, INDEX, methods, l_gc, tasks, pool);
    lua_pushcfunction(L, l_index);
    lua_setfield(L, -2, "mbox_index");
}
