#include "sock.h"

#include "class.h"
#include "dial.h"
#include "stream.h"
#include "tls.h"
#include "tlsclient.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SOCK "popd.sock"
#define CLIENT "popd.tls_client"

#define ROOM 16384 /* octets read at a time: a TLS record's */

struct sock {
    struct stream stream;
    enum dial_family family;
    char *in; /* ours; ROOM octets, while some of them wait to be taken; else NULL */
    size_t at, end;
};

static const char *const families[] = {"any", "inet", "inet6", "unix", NULL};

/* Results */

static int
push_failure(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* LuaSocket's words for what scripts compare, the system's for the rest. */
static const char *
words_of(int error)
{
    switch (error) {
    case ECONNREFUSED:
        return "connection refused";
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case EBADF:
        return "closed";
    case ETIMEDOUT:
        return "timeout";
    case EADDRINUSE:
        return "address already in use";
    case EACCES:
        return "permission denied";
    case EISCONN:
        return "already connected";
    case ENOTCONN:
        return "Transport endpoint is not connected";
    default:
        return strerror(error);
    }
}

static int
push_errno(lua_State *L)
{
    return push_failure(L, words_of(errno));
}

static int
push_again(lua_State *L)
{
    lua_pushboolean(L, 0);
    return 1;
}

static int
push_done(lua_State *L, bool done)
{
    if (!done)
        return push_errno(L);
    lua_pushboolean(L, 1);
    return 1;
}

/* Opening and closing */

static struct sock *
check_sock(lua_State *L)
{
    return luaL_checkudata(L, 1, SOCK);
}

/* sock(family) -> a socket, or nil and why */
static int
l_sock(lua_State *L)
{
    enum dial_family family = (enum dial_family)luaL_checkoption(L, 1, NULL, families);
    struct sock *s = lua_newuserdatauv(L, sizeof *s, 0);

    luaL_argcheck(L, family != DIAL_ANY, 1, "a family expected");
    *s = (struct sock){.stream.fd = -1, .family = family};
    luaL_setmetatable(L, SOCK);
    stream_open(&s->stream, dial_open(family));
    return s->stream.fd >= 0 ? 1 : push_errno(L);
}

static void
drop_input(struct sock *s)
{
    free(s->in);
    s->in = NULL;
    s->at = s->end = 0;
}

static int
l_close(lua_State *L)
{
    struct sock *s = check_sock(L);

    if (s->stream.tls && s->stream.fd >= 0)
        tls_finish(s->stream.tls);
    stream_clear(&s->stream);
    drop_input(s);
    return 0;
}

static int
l_shutdown(lua_State *L)
{
    static const char *const names[] = {"receive", "send", "both", NULL};
    static const int how[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
    struct sock *s = check_sock(L);
    int which = luaL_checkoption(L, 2, "both", names);

    if (s->stream.tls && which > 0 && s->stream.fd >= 0)
        tls_finish(s->stream.tls);
    return push_done(L, shutdown(s->stream.fd, how[which]) == 0);
}

/* Connecting */

static struct dial_address
check_address(lua_State *L, const struct sock *s, int index)
{
    lua_Integer port = luaL_optinteger(L, index + 1, 0);

    luaL_argcheck(L, port >= 0 && port <= 65535, index + 1, "a port from 0 to 65535 expected");
    return (struct dial_address){s->family, luaL_checkstring(L, index), (uint16_t)port};
}

static int
push_dialled(lua_State *L, enum dial_status status)
{
    if (status == DIAL_UNDER_WAY)
        return push_again(L);
    if (status == DIAL_FULL) {
        lua_pushboolean(L, 0);
        lua_pushliteral(L, "full");
        return 2;
    }
    return push_done(L, status == DIAL_DONE);
}

/* connect(address, port) -> true; false: under way; false and "full": to be asked
 * again later; nil and why */
static int
l_connect(lua_State *L)
{
    struct sock *s = check_sock(L);
    struct dial_address to = check_address(L, s, 2);

    return push_dialled(L, dial_connect(s->stream.fd, &to));
}

/* connected() -> likewise, of a connect that is under way */
static int
l_connected(lua_State *L)
{
    return push_dialled(L, dial_status(check_sock(L)->stream.fd));
}

static int
l_bind(lua_State *L)
{
    struct sock *s = check_sock(L);
    struct dial_address from = check_address(L, s, 2);

    return push_done(L, dial_bind(s->stream.fd, &from));
}

/* Reading and writing */

/* Has some octets wait in `in`. */
static enum stream_status
fill(struct sock *s)
{
    enum stream_status status;

    if (s->at < s->end)
        return STREAM_OK;
    if (!s->in)
        s->in = malloc(ROOM);
    if (!s->in) {
        errno = ENOMEM;
        return STREAM_ERROR;
    }
    status = stream_read(&s->stream, s->in, ROOM, &s->end);
    s->at = 0;
    if (status != STREAM_OK)
        drop_input(s);
    return status;
}

static int
push_unread(lua_State *L, enum stream_status status)
{
    if (status == STREAM_AGAIN)
        return push_again(L);
    return status == STREAM_EOF ? push_failure(L, "closed") : push_errno(L);
}

static void
take(struct sock *s, size_t n)
{
    s->at += n;
    if (s->at == s->end)
        drop_input(s);
}

/* receive(n) -> 1 to n octets; false; nil and why */
static int
l_receive(lua_State *L)
{
    struct sock *s = check_sock(L);
    lua_Integer n = luaL_checkinteger(L, 2);
    enum stream_status status = fill(s);
    size_t have;

    if (status != STREAM_OK)
        return push_unread(L, status);
    have = s->end - s->at;
    have = n >= 0 && (size_t)n < have ? (size_t)n : have;
    lua_pushlstring(L, s->in + s->at, have);
    take(s, have);
    return 1;
}

/* Pushes octets without the CRs among them, as LuaSocket does for lines. */
static void
push_without_cr(lua_State *L, const char *octets, size_t n)
{
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, n);
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (octets[i] != '\r')
            to[kept++] = octets[i];
    luaL_pushresultsize(&b, kept);
}

/* line() -> a line or a part of one, and whether its end was there; false; nil and why */
static int
l_line(lua_State *L)
{
    struct sock *s = check_sock(L);
    enum stream_status status = fill(s);
    const char *lf;
    size_t n;

    if (status != STREAM_OK)
        return push_unread(L, status);
    lf = memchr(s->in + s->at, '\n', s->end - s->at);
    n = lf ? (size_t)(lf - (s->in + s->at)) : s->end - s->at;
    push_without_cr(L, s->in + s->at, n);
    take(s, n + (lf != NULL));
    lua_pushboolean(L, lf != NULL);
    return 2;
}

/* send(octets, from, to) -> how many left; false: none, and the same are to be
 * offered again; nil and why.  from and to are within the octets. */
static int
l_send(lua_State *L)
{
    struct sock *s = check_sock(L);
    size_t len, put = 0;
    const char *octets = luaL_checklstring(L, 2, &len);
    lua_Integer from = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
    enum stream_status status;

    luaL_argcheck(L, from >= 1 && from <= to && (size_t)to <= len, 3, "no such octets");
    status = stream_write(&s->stream, octets + from - 1, (size_t)(to - from) + 1, false, &put);
    if (status == STREAM_AGAIN)
        return push_again(L);
    if (status != STREAM_OK)
        return push_errno(L);
    lua_pushinteger(L, (lua_Integer)put);
    return 1;
}

/* pending() -> whether octets, or the end, can be read at once */
static int
l_pending(lua_State *L)
{
    struct sock *s = check_sock(L);

    lua_pushboolean(L, s->at < s->end || stream_has_more(&s->stream) || dial_is_readable(s->stream.fd));
    return 1;
}

/* What there is to tell */

/* name(other) -> address, port, family; of a Unix socket "", 0, "unix" */
static int
l_name(lua_State *L)
{
    struct sock *s = check_sock(L);
    struct net_address name;
    char text[NET_TEXT] = "";

    if (!dial_name(s->stream.fd, lua_toboolean(L, 2), &name))
        return push_errno(L);
    if (!name.local)
        net_address_text(&name, text);
    lua_pushstring(L, text);
    lua_pushinteger(L, name.port);
    lua_pushstring(L, families[s->family]);
    return 3;
}

/* option(name [, value]) -> it, or true once it is set; nil and why */
static int
l_option(lua_State *L)
{
    struct sock *s = check_sock(L);
    const char *name = luaL_checkstring(L, 2);
    int value = 0;

    if (!lua_isnoneornil(L, 3))
        return push_done(L, dial_set_option(s->stream.fd, name, (int)luaL_checkinteger(L, 3)) == 0);
    if (dial_get_option(s->stream.fd, name, &value) != 0)
        return push_errno(L);
    lua_pushinteger(L, value);
    return 1;
}

static int
l_fd(lua_State *L)
{
    lua_pushinteger(L, check_sock(L)->stream.fd);
    return 1;
}

/* counts() -> octets received, octets sent */
static int
l_counts(lua_State *L)
{
    struct sock *s = check_sock(L);

    lua_pushinteger(L, (lua_Integer)(s->stream.bytes_in - (s->end - s->at)));
    lua_pushinteger(L, (lua_Integer)s->stream.bytes_out);
    return 2;
}

/* TLS */

static const char *
text_field(lua_State *L, const char *name)
{
    const char *text = lua_getfield(L, 1, name) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;

    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static bool
flag_field(lua_State *L, const char *name)
{
    bool on;

    lua_getfield(L, 1, name);
    on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

/* tls_client{ verify = [, ca =] [, cert =, key =] [, tls13_only =] } -> what TLS is
 * spoken with, or nil and why */
static int
l_tls_client(lua_State *L)
{
    struct tlsclient **c = lua_newuserdatauv(L, sizeof *c, 0);
    struct tlsclient_spec spec;
    char why[TLSKIT_WHY] = "";

    luaL_checktype(L, 1, LUA_TTABLE);
    *c = NULL;
    luaL_setmetatable(L, CLIENT);
    spec = (struct tlsclient_spec){text_field(L, "ca"), text_field(L, "cert"), text_field(L, "key"),
                                   flag_field(L, "verify"), flag_field(L, "tls13_only")};
    luaL_argcheck(L, !spec.cert == !spec.key, 1, "cert and key go together");
    *c = tlsclient_new(&spec, why);
    return *c ? 1 : push_failure(L, why);
}

static int
l_client_gc(lua_State *L)
{
    struct tlsclient **c = luaL_checkudata(L, 1, CLIENT);

    tlsclient_drop(*c);
    *c = NULL;
    return 0;
}

/* secure(tls_client, host) -> true, or nil and why: from here on it is TLS */
static int
l_secure(lua_State *L)
{
    struct sock *s = check_sock(L);
    struct tlsclient **c = luaL_checkudata(L, 2, CLIENT);
    const char *host = luaL_optstring(L, 3, NULL);

    if (s->stream.tls || s->at < s->end || s->stream.fd < 0)
        return push_failure(L, s->stream.tls ? "this is TLS already"
                               : s->stream.fd < 0
                                   ? "closed"
                                   : "octets that came in the clear wait to be read: they are not TLS");
    s->stream.tls = tls_new_client(*c, s->stream.fd, host);
    if (!s->stream.tls)
        return push_failure(L,
                            host ? "out of memory"
                                 : "the certificate cannot be verified without the server's name: connect by "
                                   "name, or call sni(name)");
    lua_pushboolean(L, 1);
    return 1;
}

/* handshake() -> true; false and "r" or "w": what to wait for; nil and why */
static int
l_handshake(lua_State *L)
{
    struct tls *t = check_sock(L)->stream.tls;
    char why[TLS_WHY] = "closed";

    switch (t ? tls_handshake(t) : STREAM_ERROR) {
    case STREAM_OK:
        lua_pushboolean(L, 1);
        return 1;
    case STREAM_AGAIN:
        lua_pushboolean(L, 0);
        lua_pushstring(L, tls_wants_write(t) ? "w" : "r");
        return 2;
    default:
        if (t)
            tls_why(t, why);
        return push_failure(L, why);
    }
}

/* tls() -> version and suite, or nil */
static int
l_tls(lua_State *L)
{
    const struct tls *t = check_sock(L)->stream.tls;

    lua_pushstring(L, t && tls_is_done(t) ? tls_version(t) : NULL);
    lua_pushstring(L, t && tls_is_done(t) ? tls_suite(t) : NULL);
    return 2;
}

void
sock_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"sock", l_sock}, {"tls_client", l_tls_client}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"connect", l_connect},
        {"connected", l_connected},
        {"bind", l_bind},
        {"receive", l_receive},
        {"line", l_line},
        {"send", l_send},
        {"pending", l_pending},
        {"name", l_name},
        {"option", l_option},
        {"fd", l_fd},
        {"counts", l_counts},
        {"secure", l_secure},
        {"handshake", l_handshake},
        {"tls", l_tls},
        {"shutdown", l_shutdown},
        {"close", l_close},
        {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
    class_new(L, SOCK, methods, l_close);
    class_new(L, CLIENT, NULL, l_client_gc);
}
