/* The connection as scripts see it: reads like conn_state's table, cannot be
 * written but for `data`, and can mark, unmark and close. */
#include "conn.h"

#include "copy.h"
#include "tls.h"
#include "tlslua.h"

#include <lauxlib.h>
#include <string.h>
#include <time.h>

#define VIEW "popd.conn"

/* User values: the back end's state for this session, the script's own data;
 * of a mock also what it says of TLS. */
enum { VALUE_STATE = 1, VALUE_DATA, VALUE_TLS, VALUE_COUNT = 2, VALUE_COUNT_MOCK = 3 };

struct view {
    struct conn *conn; /* borrowed; NULL once the connection is freed */
};

void
view_push(lua_State *L, struct conn *c)
{
    struct view *v;

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, c) == LUA_TUSERDATA)
        return;
    lua_pop(L, 1);
    v = lua_newuserdatauv(L, sizeof *v, c->mock ? VALUE_COUNT_MOCK : VALUE_COUNT);
    v->conn = c;
    luaL_setmetatable(L, VIEW);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, c);
}

void
view_push_private(lua_State *L, struct conn *c)
{
    view_push(L, c);
    lua_getiuservalue(L, -1, VALUE_STATE);
    lua_remove(L, -2);
}

void
view_close(lua_State *L, struct conn *c)
{
    struct view *v;

    lua_rawgetp(L, LUA_REGISTRYINDEX, c);
    v = luaL_testudata(L, -1, VIEW);
    if (v)
        v->conn = NULL;
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, c);
}

/* The fields */

static void
push_id(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, c->id);
}

static void
push_state(lua_State *L, struct conn *c)
{
    static const char *const names[] = {"auth", "trans", "update"};

    lua_pushstring(L, names[c->session.state]);
}

static void
push_name(lua_State *L, struct conn *c)
{
    lua_pushlstring(L, c->session.name.data ? c->session.name.data : "", c->session.name.len);
}

static void
push_command(lua_State *L, struct conn *c)
{
    lua_pushstring(L, c->command);
}

static void
push_logon(lua_State *L, struct conn *c)
{
    lua_pushstring(L, c->session.state == SESSION_AUTHORIZATION ? "" : session_logon(&c->session));
}

static void
push_storage(lua_State *L, struct conn *c)
{
    view_push_private(L, c);
    if (lua_istable(L, -1))
        lua_getfield(L, -1, "mbox");
    else
        lua_pushnil(L);
    lua_remove(L, -2);
}

static void
push_deleted(lua_State *L, struct conn *c)
{
    const struct maildrop *m = &c->session.maildrop;
    lua_Integer n = 0;

    lua_newtable(L);
    for (size_t i = maildrop_next_marked(m, 0); i; i = maildrop_next_marked(m, i)) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_rawseti(L, -2, ++n);
    }
}

static void
push_msg(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, (lua_Integer)c->session.maildrop.count);
}

/* As at login, so with what is marked; nil until something asked for it. */
static void
push_size(lua_State *L, struct conn *c)
{
    const struct maildrop *m = &c->session.maildrop;
    uint64_t octets = m->kept_octets;

    if (octets == MAILDROP_UNKNOWN) {
        lua_pushnil(L);
        return;
    }
    for (size_t i = maildrop_next_marked(m, 0); i; i = maildrop_next_marked(m, i))
        octets += maildrop_octets(m, i);
    lua_pushinteger(L, (lua_Integer)octets);
}

static void
push_remotehost(lua_State *L, struct conn *c)
{
    char text[NET_TEXT];

    net_address_text(&c->peer, text);
    lua_pushstring(L, text);
}

static void
push_remoteport(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, c->peer.port);
}

static void
push_server(lua_State *L, struct conn *c)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, c->host);
    lua_getfield(L, -1, "server_name");
    lua_remove(L, -2);
}

static void
push_mock_tls(lua_State *L, struct conn *c)
{
    view_push(L, c);
    if (lua_getiuservalue(L, -1, VALUE_TLS) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_pushboolean(L, 0);
    }
    lua_remove(L, -2);
}

static void
push_tls(lua_State *L, struct conn *c)
{
    if (c->mock)
        push_mock_tls(L, c);
    else
        tlslua_push(L, c->stream.tls);
}

static void
push_utf8(lua_State *L, struct conn *c)
{
    lua_pushboolean(L, c->session.utf8);
}

static void
push_lang(lua_State *L, struct conn *c)
{
    lua_pushstring(L, session_lang(&c->session));
}

static void
push_since(lua_State *L, struct conn *c)
{
    lua_pushnumber(L, (double)time(NULL) - (loop_now() - c->since));
}

static void
push_idle(lua_State *L, struct conn *c)
{
    lua_pushnumber(L, loop_now() - c->active);
}

static void
push_bytes_in(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, (lua_Integer)c->stream.bytes_in);
}

static void
push_bytes_out(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, (lua_Integer)c->stream.bytes_out);
}

static const struct field {
    const char *name;
    void (*push)(lua_State *L, struct conn *c);
} fields[] = {
    {"id", push_id},
    {"state", push_state},
    {"name", push_name},
    {"logon", push_logon},
    {"command", push_command},
    {"storage", push_storage},
    {"deleted", push_deleted},
    {"msg", push_msg},
    {"size", push_size},
    {"remotehost", push_remotehost},
    {"remoteport", push_remoteport},
    {"server", push_server},
    {"tls", push_tls},
    {"utf8", push_utf8},
    {"lang", push_lang},
    {"since", push_since},
    {"idle", push_idle},
    {"bytes_in", push_bytes_in},
    {"bytes_out", push_bytes_out},
};

void
view_push_state(lua_State *L, struct conn *c)
{
    lua_newtable(L);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        fields[i].push(L, c);
        lua_setfield(L, -2, fields[i].name);
    }
}

/* Methods */

static struct conn *
check_conn(lua_State *L)
{
    struct view *v = luaL_checkudata(L, 1, VIEW);

    return v->conn;
}

static bool
in_transaction(const struct conn *c)
{
    return c && c->session.state == SESSION_TRANSACTION;
}

static int
refuse_mark(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* conn:mark(id) -> true, or nil and why: as DELE would. */
static int
l_mark(lua_State *L)
{
    struct conn *c = check_conn(L);
    lua_Integer number = luaL_checkinteger(L, 2);
    struct maildrop *m;

    if (!in_transaction(c))
        return refuse_mark(L, "the session is not in TRANSACTION");
    if (c->session.no_dele)
        return refuse_mark(L, "messages cannot be deleted here");
    m = &c->session.maildrop;
    if (number < 1 || !maildrop_has(m, (uint64_t)number))
        return refuse_mark(L, "no such message");
    if (maildrop_octets(m, (size_t)number) == MAILDROP_UNKNOWN)
        m->kept_octets = MAILDROP_UNKNOWN; /* found out when STAT asks */
    lua_pushboolean(L, maildrop_mark(m, (uint64_t)number));
    return 1;
}

/* conn:unmark(id) -> true, or nil and why. */
static int
l_unmark(lua_State *L)
{
    struct conn *c = check_conn(L);
    lua_Integer number = luaL_checkinteger(L, 2);

    if (!in_transaction(c))
        return refuse_mark(L, "the session is not in TRANSACTION");
    if (number < 1 || !maildrop_unmark(&c->session.maildrop, (uint64_t)number))
        return refuse_mark(L, "no such message is marked");
    lua_pushboolean(L, 1);
    return 1;
}

/* conn:close([text]): once the command is answered. */
static int
l_close(lua_State *L)
{
    struct conn *c = check_conn(L);
    size_t len;
    const char *text = luaL_optlstring(L, 2, "", &len);

    if (c)
        conn_ask_close(c, text, len);
    return 0;
}

static int
push_data(lua_State *L)
{
    if (lua_getiuservalue(L, 1, VALUE_DATA) == LUA_TTABLE)
        return 1;
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, VALUE_DATA);
    return 1;
}

static int
l_index(lua_State *L)
{
    struct conn *c = check_conn(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    if (strcmp(name, "data") == 0)
        return push_data(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    for (size_t i = 0; c && i < sizeof fields / sizeof *fields; i++)
        if (strcmp(name, fields[i].name) == 0) {
            fields[i].push(L, c);
            return 1;
        }
    return 0;
}

/* What a mock may set: (view, name, value). */

static void
set_remotehost(lua_State *L, struct conn *c)
{
    const char *text = lua_type(L, 3) == LUA_TSTRING ? lua_tostring(L, 3) : "";

    if (!net_address_parse(&c->peer, text))
        luaL_error(L, "conn.remotehost: a numeric address or \"unix\" expected, got '%s'",
                   luaL_tolstring(L, 3, NULL));
    steps_place(c);
}

static void
set_tls(lua_State *L, struct conn *c)
{
    bool on = lua_istable(L, 3);

    if (!on && lua_toboolean(L, 3))
        luaL_error(L, "conn.tls: a table { version =, cipher =, sni =, client = } or false expected");
    c->session.tls = on;
    c->session.cert = on && lua_getfield(L, 3, "client") == LUA_TTABLE;
    lua_settop(L, 3);
    lua_setiuservalue(L, 1, VALUE_TLS);
}

static const struct {
    const char *name;
    void (*set)(lua_State *L, struct conn *c);
} settable[] = {{"remotehost", set_remotehost}, {"tls", set_tls}};

/* While a callback of the connection runs nobody may set anything: the callback
 * would see what no real connection shows. */
static bool
may_set(const struct conn *c)
{
    return c && c->mock && !c->running && !c->task;
}

static int
l_newindex(lua_State *L)
{
    struct conn *c = check_conn(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    for (size_t i = 0; may_set(c) && i < sizeof settable / sizeof *settable; i++)
        if (strcmp(name, settable[i].name) == 0) {
            settable[i].set(L, c);
            return 0;
        }
    return luaL_error(L, "conn.%s cannot be set; conn.data is the script's own", luaL_tolstring(L, 2, NULL));
}

/* What another Lua state gets of it. */
static int
l_copy(lua_State *L)
{
    struct conn *c = check_conn(L);

    if (c)
        view_push_state(L, c);
    else
        lua_newtable(L);
    return 1;
}

static int
l_tostring(lua_State *L)
{
    struct conn *c = check_conn(L);

    if (c)
        lua_pushfstring(L, "conn %I", (LUAI_UACINT)c->id);
    else
        lua_pushliteral(L, "conn (closed)");
    return 1;
}

/* conn_private(conn [, table]) -> the table: popd.backend's own state. */
static int
l_private(lua_State *L)
{
    luaL_checkudata(L, 1, VIEW);
    if (lua_istable(L, 2)) {
        lua_settop(L, 2);
        lua_setiuservalue(L, 1, VALUE_STATE);
        return 0;
    }
    lua_getiuservalue(L, 1, VALUE_STATE);
    return 1;
}

/* conn_end(conn [, tell]): a guard has tripped in a callback of this session. */
static int
l_end(lua_State *L)
{
    struct conn *c = check_conn(L);

    if (c)
        conn_end(c, lua_toboolean(L, 2));
    return 0;
}

/* conn_binding(conn, kind) -> octets that name this TLS connection, or nil */
static int
l_binding(lua_State *L)
{
    struct conn *c = check_conn(L);
    const char *kind = luaL_checkstring(L, 2);
    unsigned char octets[TLS_BINDING_MAX];
    bool is_tls = c && c->stream.tls && tls_is_done(c->stream.tls);
    size_t n = is_tls ? tls_binding(c->stream.tls, kind, octets) : 0;

    if (n)
        lua_pushlstring(L, (const char *)octets, n);
    else
        lua_pushnil(L);
    return 1;
}

void
view_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"mark", l_mark}, {"unmark", l_unmark}, {"close", l_close}, {NULL, NULL}};

    lua_pushcfunction(L, l_private);
    lua_setfield(L, -2, "conn_private");
    lua_pushcfunction(L, l_end);
    lua_setfield(L, -2, "conn_end");
    lua_pushcfunction(L, l_binding);
    lua_setfield(L, -2, "conn_binding");
    luaL_newmetatable(L, VIEW);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, l_copy);
    lua_setfield(L, -2, COPY_FIELD);
    lua_pushliteral(L, "popd.conn");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
