#include "server.h"

#include "conn.h"
#include "listener.h"
#include "log.h"
#include "pair.h"
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER "popd.core.server"
#define PEER_BUCKETS 256
#define ACCEPTS_A_TURN 64
#define PAUSE 0.5 /* seconds without accepting, when the system has nothing left */

struct server {
    struct server_common *common; /* borrowed */
    struct conn_host host;        /* not first: its address and the server's are keys of the registry */
    struct conn *conns;
    struct conn *peers[PEER_BUCKETS]; /* the admitted ones, by address */
    struct listener *listeners;       /* each held by the registry */
    struct alarm pause;
    size_t count;
    struct settings settings;
    bool tell_empty; /* call the step `empty` when the last one is gone */
};

static struct server *
check_server(lua_State *L)
{
    return luaL_checkudata(L, 1, SERVER);
}

/* Connections by address */

static struct conn **
peer_bucket(struct server *s, const struct net_address *a)
{
    unsigned hash = 2166136261u;

    for (size_t i = 0; i < sizeof a->ip; i++)
        hash = (hash ^ a->ip[i]) * 16777619u;
    return &s->peers[hash % PEER_BUCKETS];
}

static size_t
count_peer(const struct conn *first, const struct net_address *a)
{
    size_t n = 0;

    for (const struct conn *c = first; c; c = c->next_peer)
        n += net_same_host(&c->peer, a);
    return n;
}

static const char *
admit(void *owner, struct conn *c)
{
    struct server *s = owner;
    struct conn **bucket = peer_bucket(s, &c->peer);

    if (s->settings.max_per_address && count_peer(*bucket, &c->peer) >= s->settings.max_per_address)
        return "too many connections from this address; try again later";
    c->next_peer = *bucket;
    c->peer_link = bucket;
    if (c->next_peer)
        c->next_peer->peer_link = &c->next_peer;
    *bucket = c;
    return NULL;
}

static int
push_empty(lua_State *L, void *owner)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &((struct server *)owner)->host);
    lua_getfield(L, -1, "empty");
    lua_remove(L, -2);
    return 0;
}

static void
end_empty(lua_State *L, enum task_status status, void *owner)
{
    (void)owner;
    if (status != TASK_DONE)
        log_event(LOG_ERROR, "a server could not be ended", "error", task_error_text(L), NULL);
}

static void
gone(void *owner, struct conn *c)
{
    struct server *s = owner;

    *c->link = c->next_conn;
    if (c->next_conn)
        c->next_conn->link = c->link;
    if (c->peer_link)
        *c->peer_link = c->next_peer;
    if (c->peer_link && c->next_peer)
        c->next_peer->peer_link = c->peer_link;
    s->count--;
    if (s->count == 0 && s->tell_empty)
        task_start(s->host.tasks, &s->host.limits.callback, 0, push_empty, end_empty, s, NULL);
}

/* Accepting */

/* Where TLS comes first, no word can be said before it. */
static void
refuse(const struct listener *l, int fd)
{
    static const char text[] = "-ERR [SYS/TEMP] too many connections; try again later\r\n";

    if (!l->implicit)
        (void)!send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static struct conn *
add_conn(struct server *s, int fd, const struct net_address *peer, const struct conn_entry *entry)
{
    struct conn *c = conn_new(&s->host, s->common->last_id + 1, fd, peer, entry);

    if (!c)
        return NULL;
    s->common->last_id++;
    c->next_conn = s->conns;
    c->link = &s->conns;
    if (c->next_conn)
        c->next_conn->link = &c->next_conn;
    s->conns = c;
    s->count++;
    return c;
}

static bool
accept_conn(struct server *s, struct listener *l, int fd, const struct net_address *peer)
{
    struct conn_entry entry = {.proxied = l->proxied, .implicit = l->implicit, .site = l->site};

    if (add_conn(s, fd, peer, &entry))
        return true;
    log_event(LOG_ERROR, "out of memory: a connection was dropped", NULL);
    return false;
}

/* False: something was logged, and the log's function may have ended anything:
 * server and listener are not to be looked at any more. */
static bool
welcome(struct server *s, struct listener *l, int fd, const struct net_address *peer)
{
    char text[NET_TEXT];

    if (s->settings.max_connections && s->count >= s->settings.max_connections) {
        refuse(l, fd);
    } else if (l->proxied && !listener_trusts(l, peer)) {
        close(fd);
        net_address_text(peer, text);
        log_event(LOG_WARNING, "a connection came past the proxy", "peer", text, NULL);
        return false;
    } else {
        return accept_conn(s, l, fd, peer);
    }
    return true;
}

static void
resume(void *owner)
{
    struct server *s = owner;

    for (struct listener *l = s->listeners; l; l = l->next)
        ev_io_start(l->loop->ev, &l->io);
}

/* No descriptor is left: the spare one lets a client be told so.  If even
 * that fails, nobody is accepted for a moment: the loop must not spin. */
static void
overloaded(struct server *s, struct listener *l)
{
    const char *why = strerror(errno);
    struct net_address peer;
    int fd;

    if (s->common->spare >= 0)
        close(s->common->spare);
    fd = net_accept(l->fd, &peer);
    if (fd >= 0)
        refuse(l, fd);
    s->common->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (l = s->listeners; l; l = l->next)
        ev_io_stop(l->loop->ev, &l->io);
    alarm_set(&s->pause, PAUSE);
    log_event(LOG_ERROR, "no more descriptors or memory for connections", "reason", why, NULL);
}

static void
on_client(void *owner, struct listener *l)
{
    struct server *s = owner;
    struct net_address peer;

    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = net_accept(l->fd, &peer);

        if (fd >= 0 && !welcome(s, l, fd, &peer))
            return;
        if (fd >= 0)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            return overloaded(s, l);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
    }
}

/* Lua's functions */

/* server:add(listener): serves it. */
static int
l_add(lua_State *L)
{
    struct server *s = check_server(L);
    struct listener *l;

    listener_start(L, 2, on_client, s);
    l = listener_check(L, 2);
    l->next = s->listeners;
    l->link = &s->listeners;
    if (l->next)
        l->next->link = &l->next;
    s->listeners = l;
    return 0;
}

/* server:mock(end) -> conn: a client of this machine is at the pair's other
 * end.  It does not begin before server:begin(id). */
static int
l_mock(lua_State *L)
{
    static const uint8_t here[] = {127, 0, 0, 1};
    static const struct conn_entry entry = {.mock = true};
    struct server *s = check_server(L);
    struct net_address peer;
    struct conn *c;

    net_address_set(&peer, false, here, 0);
    c = add_conn(s, pair_take(L, 2), &peer, &entry);
    if (!c)
        return luaL_error(L, "out of memory");
    view_push(L, c);
    return 1;
}

/* server:set(options): all of them, checked by popd.options. */
static int
l_set(lua_State *L)
{
    struct server *s = check_server(L);

    luaL_checktype(L, 2, LUA_TTABLE);
    settings_take(L, &s->host, &s->settings);
    lua_getfield(L, 2, "tell_empty");
    s->tell_empty = lua_toboolean(L, -1);
    return 0;
}

/* server:conn_list() -> ids, ascending */
static int
l_conn_list(lua_State *L)
{
    struct server *s = check_server(L);
    lua_Integer i = (lua_Integer)s->count;

    lua_createtable(L, (int)s->count, 0);
    for (struct conn *c = s->conns; c; c = c->next_conn) { /* the newest comes first */
        lua_pushinteger(L, c->id);
        lua_rawseti(L, -2, i--);
    }
    return 1;
}

static struct conn *
find_conn(lua_State *L, struct server *s)
{
    lua_Integer id = luaL_checkinteger(L, 2);

    for (struct conn *c = s->conns; c; c = c->next_conn)
        if (c->id == id && !c->gone)
            return c;
    lua_pushnil(L);
    lua_pushfstring(L, "there is no connection %I", (LUAI_UACINT)id);
    return NULL;
}

/* server:conn_state(id) -> table, or nil and the reason */
static int
l_conn_state(lua_State *L)
{
    struct conn *c = find_conn(L, check_server(L));

    if (!c)
        return 2;
    view_push_state(L, c);
    return 1;
}

/* server:begin(id): greets a mock. */
static int
l_begin(lua_State *L)
{
    struct conn *c = find_conn(L, check_server(L));

    if (c)
        conn_wake(c);
    return 0;
}

/* server:conn_close(id [, text]) -> true, or nil and the reason */
static int
l_conn_close(lua_State *L)
{
    const char *text;
    size_t len;
    struct conn *c = find_conn(L, check_server(L));

    if (!c)
        return 2;
    text = luaL_optlstring(L, 3, "", &len);
    conn_close(c, text, len);
    lua_pushboolean(L, 1);
    return 1;
}

/* server:close_all(): cuts every connection; one in UPDATE finishes first. */
static int
l_close_all(lua_State *L)
{
    struct server *s = check_server(L);

    for (struct conn *c = s->conns; c; c = c->next_conn)
        if (c->session.state != SESSION_UPDATE)
            conn_gone(c, "the server was destroyed");
    return 0;
}

static int
l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_server(L)->count);
    return 1;
}

/* The Lua state ends: callbacks cannot run any more. */
static int
l_gc(lua_State *L)
{
    struct server *s = check_server(L);

    while (s->listeners)
        listener_close(s->listeners);
    s->tell_empty = false;
    while (s->conns) {
        view_close(L, s->conns);
        conn_drop(s->conns);
    }
    alarm_stop(&s->pause);
    buf_clear(&s->host.scratch);
    outq_spare_clear(&s->host.spare);
    free(s->host.piece);
    settings_clear(&s->settings);
    s->host.piece = NULL;
    return 0;
}

/* server_new(steps) -> server.  The registry holds it: a server lives until
 * server:forget(), whoever keeps it. */
static int
l_new(lua_State *L)
{
    struct server_common *common = lua_touserdata(L, lua_upvalueindex(1));
    struct server *s;

    luaL_checktype(L, 1, LUA_TTABLE);
    s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (struct server){.common = common};
    s->host = (struct conn_host){.loop = common->loop,
                                 .tasks = common->tasks,
                                 .files = common->files,
                                 .dirs = common->dirs,
                                 .admit = admit,
                                 .gone = gone,
                                 .owner = s};
    s->host.limits.callback.ours = true;
    alarm_init(&s->pause, common->loop, resume, s);
    luaL_setmetatable(L, SERVER);
    s->host.piece = malloc(CONN_PIECE);
    if (!s->host.piece)
        return luaL_error(L, "out of memory");
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &s->host);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    return 1;
}

/* server:forget(): nothing of it is open any more; it may be collected. */
static int
l_forget(lua_State *L)
{
    struct server *s = check_server(L);

    if (s->count > 0 || s->listeners)
        return luaL_error(L, "the server still has connections or listeners");
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &s->host);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    return 0;
}

void
server_open(lua_State *L, struct server_common *common)
{
    static const luaL_Reg methods[] = {
        {"add", l_add},
        {"mock", l_mock},
        {"begin", l_begin},
        {"set", l_set},
        {"conn_list", l_conn_list},
        {"conn_state", l_conn_state},
        {"conn_close", l_conn_close},
        {"close_all", l_close_all},
        {"count", l_count},
        {"forget", l_forget},
        {NULL, NULL},
    };

    common->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    listener_open(L, common->loop);
    view_open(L);
    lua_pushlightuserdata(L, common);
    lua_pushcclosure(L, l_new, 1);
    lua_setfield(L, -2, "server_new");
    luaL_newmetatable(L, SERVER);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
