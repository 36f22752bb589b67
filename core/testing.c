/*
 * testing - popd.testing: the pure parts for specs; test builds only.
 *
 * Every function is as thin as it can be: it takes Lua values, calls the pure
 * part, and gives back all that it said.
 */
#include "base64.h"
#include "buf.h"
#include "command.h"
#include "copy.h"
#include "digest.h"
#include "dotstuff.h"
#include "linebuf.h"
#include "maildrop.h"
#include "mailindex.h"
#include "mailsort.h"
#include "proxyproto.h"
#include "reply.h"
#include "session.h"
#include "texts.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int luaopen_popd_testing(lua_State *L);

#define LINEBUF "popd.testing.linebuf"
#define MAILDROP "popd.testing.maildrop"
#define SESSION "popd.testing.session"
#define BUF "popd.testing.buf"

/* Pushes what is in b, and empties it.  [-0, +1, m] */
static int
push_buf(lua_State *L, struct buf *b)
{
    if (b->failed)
        lua_pushnil(L);
    else
        lua_pushlstring(L, b->data ? b->data : "", b->len);
    buf_clear(b);
    return 1;
}

/* Pushes a number, or nil for MAILDROP_UNKNOWN.  [-0, +1, -] */
static int
push_octets(lua_State *L, uint64_t octets)
{
    if (octets == MAILDROP_UNKNOWN)
        lua_pushnil(L);
    else
        lua_pushinteger(L, (lua_Integer)octets);
    return 1;
}

static uint64_t
opt_octets(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) ? MAILDROP_UNKNOWN : (uint64_t)luaL_checkinteger(L, arg);
}

static bool
opt_boolean(lua_State *L, int arg, bool otherwise)
{
    return lua_isnoneornil(L, arg) ? otherwise : lua_toboolean(L, arg);
}

/* Makes the metatable of a class: its methods, and how it is given back. */
static void
new_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

/* --- buf --- */

static int
l_buf_new(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);

    *b = (struct buf){0};
    luaL_setmetatable(L, BUF);
    return 1;
}

static struct buf *
check_buf(lua_State *L)
{
    return luaL_checkudata(L, 1, BUF);
}

static int
l_buf_gc(lua_State *L)
{
    buf_clear(check_buf(L));
    return 0;
}

static int
l_buf_add(lua_State *L)
{
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);

    buf_add(check_buf(L), bytes, n);
    return 0;
}

/* printf(text, number): "text number" */
static int
l_buf_printf(lua_State *L)
{
    buf_printf(check_buf(L), "%s %d", luaL_checkstring(L, 2), (int)luaL_checkinteger(L, 3));
    return 0;
}

/* reserve(n) -> whether there is room; n may be negative: a huge number. */
static int
l_buf_reserve(lua_State *L)
{
    lua_pushboolean(L, buf_reserve(check_buf(L), (size_t)luaL_checkinteger(L, 2)) != NULL);
    return 1;
}

static int
l_buf_bytes(lua_State *L)
{
    struct buf *b = check_buf(L);

    lua_pushlstring(L, b->data ? b->data : "", b->len);
    lua_pushboolean(L, b->failed);
    return 2;
}

/* wipe() -> all the memory that the buffer keeps */
static int
l_buf_wipe(lua_State *L)
{
    struct buf *b = check_buf(L);

    buf_wipe(b);
    lua_pushlstring(L, b->data ? b->data : "", b->cap);
    return 1;
}

static int
l_buf_clear(lua_State *L)
{
    buf_clear(check_buf(L));
    return 0;
}

static const luaL_Reg buf_methods[] = {
    {"add", l_buf_add},     {"printf", l_buf_printf}, {"reserve", l_buf_reserve},
    {"bytes", l_buf_bytes}, {"wipe", l_buf_wipe},     {"clear", l_buf_clear},
    {NULL, NULL},
};

/* --- linebuf --- */

static int
l_linebuf_new(lua_State *L)
{
    size_t limit = (size_t)luaL_checkinteger(L, 1);
    struct linebuf *lb = lua_newuserdatauv(L, sizeof *lb, 0);

    linebuf_init(lb, limit);
    luaL_setmetatable(L, LINEBUF);
    return 1;
}

static struct linebuf *
check_linebuf(lua_State *L)
{
    return luaL_checkudata(L, 1, LINEBUF);
}

static int
l_linebuf_gc(lua_State *L)
{
    linebuf_clear(check_linebuf(L));
    return 0;
}

/* feed(bytes) -> how many were taken */
static int
l_linebuf_feed(lua_State *L)
{
    struct linebuf *lb = check_linebuf(L);
    size_t n, room;
    const char *bytes = luaL_checklstring(L, 2, &n);
    char *to = linebuf_room(lb, &room);

    n = n < room ? n : room;
    if (n) {
        memcpy(to, bytes, n);
        linebuf_filled(lb, n);
    }
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

/* next() -> "none" | "too_long" | "ready", line */
static int
l_linebuf_next(lua_State *L)
{
    static const char *const names[] = {"none", "ready", "too_long"};
    char *line;
    size_t len;
    enum linebuf_status status = linebuf_next(check_linebuf(L), &line, &len);

    lua_pushstring(L, names[status]);
    if (status != LINEBUF_READY)
        return 1;
    lua_pushlstring(L, line, len);
    return 2;
}

/* rest() -> whether it holds memory still */
static int
l_linebuf_rest(lua_State *L)
{
    struct linebuf *lb = check_linebuf(L);

    linebuf_rest(lb);
    lua_pushboolean(L, lb->data != NULL);
    return 1;
}

static int
l_linebuf_drop(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)linebuf_drop(check_linebuf(L)));
    return 1;
}

/* limit(n): from the next line on */
static int
l_linebuf_limit(lua_State *L)
{
    linebuf_limit(check_linebuf(L), (size_t)luaL_checkinteger(L, 2));
    return 0;
}

/* peek() -> what there is of the next line */
static int
l_linebuf_peek(lua_State *L)
{
    size_t n;
    const char *line = linebuf_peek(check_linebuf(L), &n);

    lua_pushlstring(L, line, n);
    return 1;
}

/* held() -> all octets of its memory */
static int
l_linebuf_held(lua_State *L)
{
    struct linebuf *lb = check_linebuf(L);

    lua_pushlstring(L, lb->data ? lb->data : "", lb->cap);
    return 1;
}

static const luaL_Reg linebuf_methods[] = {
    {"feed", l_linebuf_feed},   {"next", l_linebuf_next}, {"rest", l_linebuf_rest}, {"drop", l_linebuf_drop},
    {"limit", l_linebuf_limit}, {"peek", l_linebuf_peek}, {"held", l_linebuf_held}, {NULL, NULL},
};

/* --- command --- */

static void
set_slice(lua_State *L, const char *field, struct slice s)
{
    if (!s.at)
        return;
    lua_pushlstring(L, s.at, s.len);
    lua_setfield(L, -2, field);
}

static void
set_number(lua_State *L, const char *field, uint64_t number)
{
    lua_pushinteger(L, (lua_Integer)number);
    lua_setfield(L, -2, field);
}

static const char *
name_of(enum verb verb)
{
    const char *name = verb_name(verb);

    return name ? name : "OTHER";
}

/* command(line) -> table, or nil, why, verb.  A saturated number is -1. */
static int
l_command(lua_State *L)
{
    size_t len;
    const char *line = luaL_checklstring(L, 1, &len), *why = NULL;
    struct command c;

    if (command_parse(&c, line, len, &why) == COMMAND_BAD) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        lua_pushstring(L, name_of(c.verb));
        return 3;
    }
    lua_newtable(L);
    lua_pushstring(L, name_of(c.verb));
    lua_setfield(L, -2, "verb");
    set_slice(L, "keyword", c.keyword);
    set_slice(L, "args", c.args);
    set_slice(L, "name", c.name);
    set_slice(L, "secret", c.secret);
    set_number(L, "number", c.number);
    set_number(L, "lines", c.lines);
    return 1;
}

/* --- reply --- */

/* Pushes a reply and, as a table of booleans, what its text lost. */
static int
push_reply(lua_State *L, struct buf *out, unsigned faults)
{
    push_buf(L, out);
    lua_newtable(L);
    lua_pushboolean(L, (faults & REPLY_CONTROLS) != 0);
    lua_setfield(L, -2, "controls");
    lua_pushboolean(L, (faults & REPLY_CUT) != 0);
    lua_setfield(L, -2, "cut");
    lua_pushboolean(L, (faults & REPLY_BAD_CODE) != 0);
    lua_setfield(L, -2, "bad_code");
    return 2;
}

static int
l_reply_ok(lua_State *L)
{
    struct buf out = {0};

    reply_ok(&out, luaL_checkstring(L, 1));
    return push_buf(L, &out);
}

static int
l_reply_err(lua_State *L)
{
    struct buf out = {0};

    reply_err(&out, luaL_optstring(L, 1, NULL), luaL_checkstring(L, 2));
    return push_buf(L, &out);
}

/* reply_text(ok, code, text) -> bytes, faults */
static int
l_reply_text(lua_State *L)
{
    size_t code_len = 0, len;
    const char *code = luaL_optlstring(L, 2, NULL, &code_len);
    const char *text = luaL_checklstring(L, 3, &len);
    struct buf out = {0};
    unsigned faults = reply_text(&out, lua_toboolean(L, 1), code, code_len, text, len);

    return push_reply(L, &out, faults);
}

static int
l_reply_line(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf out = {0};
    unsigned faults = reply_line(&out, text, len);

    return push_reply(L, &out, faults);
}

static int
l_reply_item(lua_State *L)
{
    uint64_t number = (uint64_t)luaL_checkinteger(L, 1);
    size_t len;
    const char *value = luaL_checklstring(L, 2, &len);
    struct buf out = {0};

    reply_item(&out, number, value, len);
    return push_buf(L, &out);
}

static int
l_reply_end(lua_State *L)
{
    struct buf out = {0};

    reply_end(&out);
    return push_buf(L, &out);
}

static int
l_reply_code_ok(lua_State *L)
{
    size_t len;
    const char *code = luaL_checklstring(L, 1, &len);

    lua_pushboolean(L, reply_code_ok(code, len));
    return 1;
}

/* --- dotstuff --- */

static uint64_t
opt_lines(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) ? DOTSTUFF_ALL : (uint64_t)luaL_checkinteger(L, arg);
}

/* The size of the next piece of a message of which `at` octets are gone. */
static size_t
next_piece(size_t at, size_t len, size_t piece)
{
    return len - at < piece ? len - at : piece;
}

/* dotstuff(message, piece [, lines]) -> wire, octets, done */
static int
l_dotstuff(lua_State *L)
{
    size_t len, piece = (size_t)luaL_checkinteger(L, 2);
    const char *message = luaL_checklstring(L, 1, &len);
    struct dotstuff d;
    struct buf out = {0};
    bool done;

    luaL_argcheck(L, piece > 0, 2, "a piece has an octet at least");
    dotstuff_init(&d, opt_lines(L, 3));
    for (size_t at = 0; at < len; at += piece) {
        size_t n = next_piece(at, len, piece);

        out.len += dotstuff_feed(&d, message + at, n, buf_reserve(&out, DOTSTUFF_MAX(n)));
    }
    done = d.done;
    out.len += dotstuff_end(&d, buf_reserve(&out, DOTSTUFF_END_MAX));
    push_buf(L, &out);
    lua_pushinteger(L, (lua_Integer)d.octets);
    lua_pushboolean(L, done);
    return 3;
}

/* dotstuff_count(message, piece [, lines]) -> octets */
static int
l_dotstuff_count(lua_State *L)
{
    size_t len, piece = (size_t)luaL_checkinteger(L, 2);
    const char *message = luaL_checklstring(L, 1, &len);
    struct dotstuff d;

    luaL_argcheck(L, piece > 0, 2, "a piece has an octet at least");
    dotstuff_init(&d, opt_lines(L, 3));
    for (size_t at = 0; at < len; at += piece)
        dotstuff_count(&d, message + at, next_piece(at, len, piece));
    dotstuff_count_end(&d);
    lua_pushinteger(L, (lua_Integer)d.octets);
    return 1;
}

/* --- texts --- */

/* texts() -> every text there is */
static int
l_texts(lua_State *L)
{
    lua_newtable(L);
    for (size_t i = 0; texts_known(i); i++) {
        lua_pushstring(L, texts_known(i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* texts_fill(room, text, values…) -> what was written */
static int
l_texts_fill(lua_State *L)
{
    char out[256];
    size_t room = (size_t)luaL_checkinteger(L, 1), n = 0;
    struct slice text, values[9];

    luaL_argcheck(L, room <= sizeof out, 1, "at most 256");
    text.at = luaL_checklstring(L, 2, &text.len);
    for (int i = 3; i <= lua_gettop(L) && n < 9; i++, n++)
        values[n].at = luaL_checklstring(L, i, &values[n].len);
    lua_pushlstring(L, out, texts_fill(out, room, text, values, n));
    return 1;
}

static int
l_texts_utf8(lua_State *L)
{
    size_t n;
    const char *octets = luaL_checklstring(L, 1, &n);

    lua_pushboolean(L, texts_utf8(octets, n));
    return 1;
}

/* language_find(range, tags…) -> the tag that is found, or nil */
static int
l_language_find(lua_State *L)
{
    struct language all[16] = {{0}};
    const struct language *l;
    struct slice range;
    size_t n = 0;

    range.at = luaL_checklstring(L, 1, &range.len);
    for (int i = 2; i <= lua_gettop(L) && n < 16; i++)
        all[n++].tag = luaL_checkstring(L, i);
    l = language_find(all, n, range);
    lua_pushstring(L, l ? l->tag : NULL);
    return 1;
}

/* --- base64 --- */

static int
l_base64(lua_State *L)
{
    size_t n;
    const char *octets = luaL_checklstring(L, 1, &n);
    luaL_Buffer b;

    base64_encode(octets, n, luaL_buffinitsize(L, &b, BASE64_TEXT(n)));
    luaL_pushresultsize(&b, BASE64_TEXT(n));
    return 1;
}

/* unbase64(text) -> octets, or nil; decoded where the text stands */
static int
l_unbase64(lua_State *L)
{
    size_t n, len;
    const char *text = luaL_checklstring(L, 1, &n);
    char *copy = lua_newuserdatauv(L, n + 1, 0);

    memcpy(copy, text, n);
    if (base64_decode(copy, n, copy, &len))
        lua_pushlstring(L, copy, len);
    else
        lua_pushnil(L);
    return 1;
}

/* --- digest --- */

static int
l_md5(lua_State *L)
{
    size_t n;
    const char *data = luaL_checklstring(L, 1, &n);
    char hex[DIGEST_MD5_HEX + 1];

    lua_pushstring(L, digest_md5(data, n, hex) ? hex : NULL);
    return 1;
}

static int
l_sha256(lua_State *L)
{
    size_t n;
    const char *data = luaL_checklstring(L, 1, &n);
    char hex[DIGEST_SHA256_HEX + 1];

    lua_pushstring(L, digest_sha256(data, n, hex) ? hex : NULL);
    return 1;
}

/* sha256_pieces(…) -> the digest of all of them together */
static int
l_sha256_pieces(lua_State *L)
{
    char hex[DIGEST_SHA256_HEX + 1];
    struct digest *d = digest_new();
    bool ok = d != NULL;

    for (int i = 1; ok && i <= lua_gettop(L); i++) {
        size_t n;
        const char *data = lua_tolstring(L, i, &n);

        ok = data && digest_add(d, data, n);
    }
    ok = ok && digest_hex(d, hex);
    digest_free(d);
    lua_pushstring(L, ok ? hex : NULL);
    return 1;
}

/* --- proxyproto --- */

static void
set_boolean(lua_State *L, const char *field, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, field);
}

/* proxyproto(bytes) -> "more" | "bad" | "done", used, table */
static int
l_proxyproto(lua_State *L)
{
    static const char *const names[] = {"more", "done", "bad"};
    size_t n, used;
    const char *bytes = luaL_checklstring(L, 1, &n);
    struct proxyproto p;
    enum proxyproto_status status = proxyproto_parse(&p, bytes, n, &used);

    lua_pushstring(L, names[status]);
    if (status != PROXYPROTO_DONE)
        return 1;
    lua_pushinteger(L, (lua_Integer)used);
    lua_newtable(L);
    set_boolean(L, "local", p.local);
    set_boolean(L, "v6", p.v6);
    set_number(L, "port", p.port);
    lua_pushlstring(L, (const char *)p.address, p.v6 ? 16 : 4);
    lua_setfield(L, -2, "address");
    return 3;
}

/* --- maildrop --- */

/* Of its own, or a session's, which is its user value then. */
struct l_maildrop {
    struct maildrop *at;
    struct maildrop own;
};

static struct l_maildrop *
new_maildrop(lua_State *L)
{
    struct l_maildrop *m = lua_newuserdatauv(L, sizeof *m, 1);

    m->own = (struct maildrop){0};
    m->at = &m->own;
    luaL_setmetatable(L, MAILDROP);
    return m;
}

/* maildrop.new(count [, total]) -> maildrop, or nil */
static int
l_maildrop_new(lua_State *L)
{
    size_t count = (size_t)luaL_checkinteger(L, 1);
    uint64_t total = opt_octets(L, 2);

    if (!maildrop_open(new_maildrop(L)->at, count, total))
        lua_pushnil(L);
    return 1;
}

static struct maildrop *
check_maildrop(lua_State *L)
{
    return ((struct l_maildrop *)luaL_checkudata(L, 1, MAILDROP))->at;
}

static int
l_maildrop_gc(lua_State *L)
{
    maildrop_clear(&((struct l_maildrop *)luaL_checkudata(L, 1, MAILDROP))->own);
    return 0;
}

/* has(number) -> boolean; -1 is the greatest number there can be */
static int
l_maildrop_has(lua_State *L)
{
    lua_pushboolean(L, maildrop_has(check_maildrop(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int
l_maildrop_set_octets(lua_State *L)
{
    size_t number = (size_t)luaL_checkinteger(L, 2);

    lua_pushboolean(L, maildrop_set_octets(check_maildrop(L), number, opt_octets(L, 3)));
    return 1;
}

static int
l_maildrop_octets(lua_State *L)
{
    return push_octets(L, maildrop_octets(check_maildrop(L), (size_t)luaL_checkinteger(L, 2)));
}

static int
l_maildrop_set_uid(lua_State *L)
{
    size_t len, number = (size_t)luaL_checkinteger(L, 2);
    const char *uid = luaL_checklstring(L, 3, &len);

    lua_pushboolean(L, maildrop_set_uid(check_maildrop(L), number, uid, len));
    return 1;
}

static int
l_maildrop_uid(lua_State *L)
{
    size_t len = 0;
    const char *uid = maildrop_uid(check_maildrop(L), (size_t)luaL_checkinteger(L, 2), &len);

    if (uid)
        lua_pushlstring(L, uid, len);
    else
        lua_pushnil(L);
    return 1;
}

static int
l_maildrop_mark(lua_State *L)
{
    lua_pushboolean(L, maildrop_mark(check_maildrop(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int
l_maildrop_unmark(lua_State *L)
{
    lua_pushboolean(L, maildrop_unmark(check_maildrop(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int
l_maildrop_reset(lua_State *L)
{
    maildrop_reset(check_maildrop(L));
    return 0;
}

static int
l_maildrop_next_marked(lua_State *L)
{
    size_t after = (size_t)luaL_optinteger(L, 2, 0);

    lua_pushinteger(L, (lua_Integer)maildrop_next_marked(check_maildrop(L), after));
    return 1;
}

/* totals() -> kept, octets of those or nil, sized, identified, count */
static int
l_maildrop_totals(lua_State *L)
{
    const struct maildrop *m = check_maildrop(L);

    lua_pushinteger(L, (lua_Integer)m->kept);
    push_octets(L, m->kept_octets);
    lua_pushinteger(L, (lua_Integer)m->sized);
    lua_pushinteger(L, (lua_Integer)m->identified);
    lua_pushinteger(L, (lua_Integer)m->count);
    return 5;
}

static const luaL_Reg maildrop_methods[] = {
    {"has", l_maildrop_has},
    {"set_octets", l_maildrop_set_octets},
    {"octets", l_maildrop_octets},
    {"set_uid", l_maildrop_set_uid},
    {"uid", l_maildrop_uid},
    {"mark", l_maildrop_mark},
    {"unmark", l_maildrop_unmark},
    {"reset", l_maildrop_reset},
    {"next_marked", l_maildrop_next_marked},
    {"totals", l_maildrop_totals},
    {NULL, NULL},
};

/* --- session --- */

/* A session with its server; user value 1 is the line its command points
 * into, 2 the table of its server, whose texts are used. */
#define L_MECHANISMS 8
#define L_LANGUAGES 4
#define L_TEXTS 128

struct l_session {
    struct session s;
    struct session_config config;
    struct session_mechanism mechanisms[L_MECHANISMS];
    struct language languages[L_LANGUAGES];
    struct text texts[L_LANGUAGES][L_TEXTS];
    size_t line_len; /* of the line of user value 1 */
};

static unsigned
verb_bits(lua_State *L, const char *field)
{
    unsigned bits = 0;

    if (lua_getfield(L, 1, field) == LUA_TTABLE)
        for (lua_Integer i = 1; lua_geti(L, -1, i) == LUA_TSTRING; i++) {
            size_t len;
            const char *name = lua_tolstring(L, -1, &len);

            bits |= VERB_BIT(verb_find(name, len));
            lua_pop(L, 1);
        }
    lua_settop(L, 2);
    return bits;
}

static bool
boolean_field(lua_State *L, const char *field)
{
    bool value;

    lua_getfield(L, 1, field);
    value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static unsigned
number_field(lua_State *L, const char *field)
{
    unsigned value;

    lua_getfield(L, 1, field);
    value = (unsigned)luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return value;
}

/* mechanisms = { { name=, plain=, tls=, cert= }, … } of the table at index 1 */
static void
take_mechanisms(lua_State *L, struct l_session *session)
{
    size_t n = 0;

    if (lua_getfield(L, 1, "mechanisms") == LUA_TTABLE)
        for (; n < L_MECHANISMS && lua_geti(L, -1, (lua_Integer)n + 1) == LUA_TTABLE; n++) {
            struct session_mechanism *m = &session->mechanisms[n];

            lua_replace(L, 1);
            lua_getfield(L, 1, "name");
            snprintf(m->name, sizeof m->name, "%s", luaL_checkstring(L, -1));
            lua_pop(L, 1);
            m->plain = boolean_field(L, "plain");
            m->tls = boolean_field(L, "tls");
            m->cert = boolean_field(L, "cert");
        }
    session->config.mechanisms = session->mechanisms;
    session->config.mechanism_count = n;
}

/* texts = { { english, local }, … }: at the top of the stack */
static size_t
take_texts(lua_State *L, struct text *texts)
{
    size_t n = 0;

    for (; n < L_TEXTS && lua_geti(L, -1, (lua_Integer)n + 1) == LUA_TTABLE; n++) {
        struct text *t = &texts[n];

        lua_geti(L, -1, 1);
        lua_geti(L, -2, 2);
        t->english.at = luaL_checklstring(L, -2, &t->english.len);
        t->local.at = luaL_checklstring(L, -1, &t->local.len);
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
    return n;
}

/* languages = { { tag=, name=, texts= }, … } of the table at index 1 */
static void
take_languages(lua_State *L, struct l_session *session)
{
    size_t n = 0;

    if (lua_getfield(L, 1, "languages") == LUA_TTABLE)
        for (; n < L_LANGUAGES && lua_geti(L, -1, (lua_Integer)n + 1) == LUA_TTABLE; n++) {
            struct language *l = &session->languages[n];

            lua_getfield(L, -1, "tag");
            l->tag = luaL_checkstring(L, -1);
            lua_getfield(L, -2, "name");
            l->name = luaL_checkstring(L, -1);
            lua_getfield(L, -3, "texts");
            l->count = take_texts(L, session->texts[n]);
            l->texts = session->texts[n];
            lua_pop(L, 4);
        }
    session->config.languages = session->languages;
    session->config.language_count = n;
}

/* session.new { off={…}, own={…}, commands=, capa_hook=, capa=, max_failures=,
 * max_bad_commands=, mechanisms=, languages= } */
static int
l_session_new(lua_State *L)
{
    struct l_session *session;
    struct session_config config = {0};

    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    session = lua_newuserdatauv(L, sizeof *session, 2);
    memset(session, 0, sizeof *session);
    config.off = verb_bits(L, "off");
    config.own = verb_bits(L, "own");
    config.commands = boolean_field(L, "commands");
    config.capa_hook = boolean_field(L, "capa_hook");
    config.max_failures = number_field(L, "max_failures");
    config.max_bad_commands = number_field(L, "max_bad_commands");
    lua_getfield(L, 1, "capa");
    config.capa = lua_tostring(L, -1);
    session->config = config;
    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 2);
    take_languages(L, session);
    lua_settop(L, 2);
    take_mechanisms(L, session);
    lua_settop(L, 2);
    session_init(&session->s, &session->config);
    luaL_setmetatable(L, SESSION);
    return 1;
}

static struct session *
check_session(lua_State *L)
{
    return &((struct l_session *)luaL_checkudata(L, 1, SESSION))->s;
}

static int
l_session_gc(lua_State *L)
{
    session_clear(check_session(L));
    return 0;
}

/* Pushes what it needs, and its reply. */
static int
push_need(lua_State *L, enum need need, struct buf *out)
{
    static const char *const names[] = {"line",    "login", "octets", "uids", "capa", "message",
                                        "command", "more",  "update", "tls",  "close"};

    lua_pushstring(L, names[need]);
    push_buf(L, out);
    return 2;
}

static int
l_session_greet(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_greet(check_session(L), luaL_optstring(L, 2, NULL), &out), &out);
}

static int
l_session_line(lua_State *L)
{
    struct session *s = check_session(L);
    size_t len;
    const char *line = luaL_checklstring(L, 2, &len);
    char *copy = lua_newuserdatauv(L, len + 1, 0);
    struct buf out = {0};

    memcpy(copy, line, len);
    ((struct l_session *)lua_touserdata(L, 1))->line_len = len;
    lua_setiuservalue(L, 1, 1);
    return push_need(L, session_line(s, copy, len, &out), &out);
}

static int
l_session_too_long(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_too_long(check_session(L), &out), &out);
}

static int
l_session_unknown(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_unknown(check_session(L), &out), &out);
}

/* held() -> what is left in memory of the last line */
static int
l_session_held(lua_State *L)
{
    struct l_session *session = luaL_checkudata(L, 1, SESSION);

    lua_getiuservalue(L, 1, 1);
    lua_pushlstring(L, lua_touserdata(L, -1), session->line_len);
    return 1;
}

/* line_max(begin, limit) -> octets */
static int
l_session_line_max(lua_State *L)
{
    struct session *s = check_session(L);
    size_t n;
    const char *line = luaL_checklstring(L, 2, &n);

    lua_pushinteger(L, (lua_Integer)session_line_max(s, line, n, (size_t)luaL_checkinteger(L, 3)));
    return 1;
}

/* challenge(octets) */
static int
l_session_challenge(lua_State *L)
{
    struct session *s = check_session(L);
    size_t n;
    const char *octets = luaL_checklstring(L, 2, &n);
    struct buf out = {0};

    return push_need(L, session_challenge(s, octets, n, &out), &out);
}

static int
l_session_secured(lua_State *L)
{
    session_secured(check_session(L));
    return 0;
}

static int
l_session_set_name(lua_State *L)
{
    struct session *s = check_session(L);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);

    lua_pushboolean(L, session_set_name(s, name, len));
    return 1;
}

/* set(flag [, value = true]): what the driver tells it at the start */
static int
l_session_set(lua_State *L)
{
    struct session *s = check_session(L);
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"stls", &s->stls}, {"tls", &s->tls}, {"cert", &s->cert}, {"no_plain", &s->no_plain}};
    const char *name = luaL_checkstring(L, 2);

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(name, flags[i].name) == 0)
            *flags[i].flag = opt_boolean(L, 3, true);
    return 0;
}

/* forget(): the server has no language any more */
static int
l_session_forget(lua_State *L)
{
    struct l_session *session = luaL_checkudata(L, 1, SESSION);

    session->config.languages = NULL;
    session->config.language_count = 0;
    return 0;
}

/* opened(count [, total]) */
static int
l_session_opened(lua_State *L)
{
    struct session *s = check_session(L);
    struct buf out = {0};

    if (!maildrop_open(&s->maildrop, (size_t)luaL_checkinteger(L, 2), opt_octets(L, 3)))
        return luaL_error(L, "the maildrop cannot be opened");
    return push_need(L, session_opened(s, &out), &out);
}

/* refused(code, text [, counts = true]) */
static int
l_session_refused(lua_State *L)
{
    struct session *s = check_session(L);
    size_t len;
    const char *code = luaL_optstring(L, 2, NULL), *text = luaL_checklstring(L, 3, &len);
    struct buf out = {0};

    return push_need(L, session_refused(s, code, text, len, opt_boolean(L, 4, true), NULL, &out), &out);
}

static int
l_session_resume(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_resume(check_session(L), &out), &out);
}

static int
l_session_sending(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_sending(check_session(L), &out), &out);
}

/* answer(ok, code, text) */
static int
l_session_answer(lua_State *L)
{
    struct session *s = check_session(L);
    size_t len;
    const char *code = luaL_optstring(L, 3, NULL), *text = luaL_checklstring(L, 4, &len);
    struct buf out = {0};

    return push_need(L, session_answer(s, lua_toboolean(L, 2), code, text, len, NULL, &out), &out);
}

static int
l_session_done(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_done(check_session(L)), &out);
}

/* more(room) */
static int
l_session_more(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_more(check_session(L), (size_t)luaL_checkinteger(L, 2), &out), &out);
}

/* updated([text]) */
static int
l_session_updated(lua_State *L)
{
    struct buf out = {0};

    return push_need(L, session_updated(check_session(L), luaL_optstring(L, 2, NULL), &out), &out);
}

static int
l_session_capa(lua_State *L)
{
    struct buf out = {0};

    session_capa(check_session(L), &out);
    return push_buf(L, &out);
}

static int
l_session_no_dele(lua_State *L)
{
    check_session(L)->no_dele = true;
    return 0;
}

static int
l_session_no_plain(lua_State *L)
{
    check_session(L)->no_plain = true;
    return 0;
}

/* maildrop() -> the session's maildrop; good as long as the session */
static int
l_session_maildrop(lua_State *L)
{
    struct session *s = check_session(L);

    new_maildrop(L)->at = &s->maildrop;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* info() -> a table: state, name, named, kind, verb, args, secret, number,
 * lines, failures, bad, first, asking, utf8, tls, mechanism, lang */
static int
l_session_info(lua_State *L)
{
    static const char *const states[] = {"authorization", "transaction", "update"};
    static const char *const kinds[] = {"user", "apop", "sasl"};
    const struct session *s = check_session(L);
    struct slice name = {s->name.data, s->name.len};

    lua_newtable(L);
    lua_pushstring(L, states[s->state]);
    lua_setfield(L, -2, "state");
    lua_pushstring(L, kinds[s->kind]);
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, name_of(s->command.verb));
    lua_setfield(L, -2, "verb");
    set_slice(L, "name", name);
    set_slice(L, "args", s->command.args);
    set_slice(L, "secret", s->command.secret);
    set_boolean(L, "named", s->named);
    set_boolean(L, "first", s->first);
    set_boolean(L, "asking", s->asking);
    set_boolean(L, "utf8", s->utf8);
    set_boolean(L, "tls", s->tls);
    lua_pushstring(L, s->mechanism);
    lua_setfield(L, -2, "mechanism");
    lua_pushstring(L, session_lang(s));
    lua_setfield(L, -2, "lang");
    set_number(L, "number", s->number);
    set_number(L, "lines", s->command.lines);
    set_number(L, "failures", s->failures);
    set_number(L, "bad", s->bad);
    return 1;
}

static const luaL_Reg session_methods[] = {
    {"greet", l_session_greet},
    {"line", l_session_line},
    {"too_long", l_session_too_long},
    {"unknown", l_session_unknown},
    {"opened", l_session_opened},
    {"refused", l_session_refused},
    {"resume", l_session_resume},
    {"sending", l_session_sending},
    {"answer", l_session_answer},
    {"done", l_session_done},
    {"more", l_session_more},
    {"updated", l_session_updated},
    {"capa", l_session_capa},
    {"no_dele", l_session_no_dele},
    {"no_plain", l_session_no_plain},
    {"maildrop", l_session_maildrop},
    {"info", l_session_info},
    {"held", l_session_held},
    {"challenge", l_session_challenge},
    {"secured", l_session_secured},
    {"set_name", l_session_set_name},
    {"set", l_session_set},
    {"forget", l_session_forget},
    {"line_max", l_session_line_max},
    {NULL, NULL},
};

/* --- mailnames --- */

/* The list of an array of files, and an array of their times (nil: as the names
 * say); inodes are the numbers in the array.  Raises without memory. */
static struct mailnames *
list_files(lua_State *L, int files, int times)
{
    struct mailnames *m = mailnames_new();

    for (lua_Integer i = 1; m && i <= luaL_len(L, files); i++) {
        size_t len;
        const char *file;
        uint64_t time;

        lua_rawgeti(L, files, i);
        file = lua_tolstring(L, -1, &len);
        time = mailname_time(file + 4, len - 4);
        if (lua_istable(L, times)) {
            lua_rawgeti(L, times, i);
            time = (uint64_t)lua_tointeger(L, -1);
            lua_pop(L, 1);
        }
        mailnames_add(m, file + 4, len - 4, file[0] == 'c', (uint64_t)i, time);
        lua_pop(L, 1);
    }
    return m;
}

static void
push_name(lua_State *L, const struct mailnames *m, const struct mailname *row)
{
    lua_newtable(L);
    lua_pushfstring(L, "%s/%s", row->flags & MAILNAME_CUR ? "cur" : "new", mailname_text(m, row));
    lua_setfield(L, -2, "file");
    lua_pushlstring(L, mailname_uid(m, row), row->uid_len);
    lua_setfield(L, -2, "uid");
    lua_pushboolean(L, row->flags & MAILNAME_SAME);
    lua_setfield(L, -2, "same");
    if (row->size == MAILSIZE_UNKNOWN)
        return;
    lua_pushinteger(L, (lua_Integer)mailsize_sent(row->size));
    lua_setfield(L, -2, "sent");
    lua_pushinteger(L, (lua_Integer)mailsize_stored(row->size));
    lua_setfield(L, -2, "stored");
}

/* mailnames(files [, times]) -> { file, uid, same, sent, stored } of each, in order */
static int
l_mailnames(lua_State *L)
{
    struct mailnames *m;
    struct mailkey *keys;

    lua_settop(L, 2);
    m = list_files(L, 1, 2);
    keys = mailsort_names(m);
    mailnames_mark_same(m, keys);
    lua_newtable(L);
    for (size_t i = 0; i < m->count; i++) {
        push_name(L, m, &m->rows[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    free(keys);
    mailnames_drop(m);
    return 1;
}

/* mailname_has_flag(name, flag) */
static int
l_mailname_has_flag(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);

    lua_pushboolean(L, mailname_has_flag(name, len, luaL_checkstring(L, 2)[0]));
    return 1;
}

/* mailsize(stored, sent) -> the same out of one number, or nil */
static int
l_mailsize(lua_State *L)
{
    uint64_t size = mailsize_pack((uint64_t)luaL_checkinteger(L, 1), (uint64_t)luaL_checkinteger(L, 2));

    if (size == MAILSIZE_UNKNOWN)
        return 0;
    lua_pushinteger(L, (lua_Integer)mailsize_stored(size));
    lua_pushinteger(L, (lua_Integer)mailsize_sent(size));
    return 2;
}

/* mailfollow(old, now) -> for each old file, in order: its place among the new
 * ones, 0, or "several" */
static int
l_mailfollow(lua_State *L)
{
    struct mailnames *old, *now;
    struct mailkey *old_keys, *now_keys;
    uint32_t *of;

    lua_settop(L, 2);
    old = list_files(L, 1, 3);
    now = list_files(L, 2, 3);
    old_keys = mailsort_names(old);
    now_keys = mailsort_names(now);
    mailnames_mark_same(old, old_keys);
    mailnames_mark_same(now, now_keys);
    of = malloc((old->count + 1) * sizeof *of);
    mailnames_follow(old, old_keys, now, now_keys, of);
    lua_newtable(L);
    for (size_t i = 0; i < old->count; i++) {
        if (of[i] == MAILNAMES_SEVERAL)
            lua_pushliteral(L, "several");
        else
            lua_pushinteger(L, of[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    free(of);
    free(old_keys);
    free(now_keys);
    mailnames_drop(old);
    mailnames_drop(now);
    return 1;
}

/* --- mailindex --- */

static lua_Integer
take_field(lua_State *L, const char *name)
{
    lua_Integer n;

    lua_getfield(L, -1, name);
    n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

/* The entries of an array of { base, inode, stored, sent, mtime }, in memory of
 * Lua's with room for a head; no sizes: unknown. */
static struct mailindex_entry *
take_entries(lua_State *L, int array, size_t *n)
{
    struct mailindex_entry *entries;

    *n = lua_istable(L, array) ? (size_t)luaL_len(L, array) : 0;
    entries = lua_newuserdatauv(L, MAILINDEX_SIZE(*n), 0);
    entries += MAILINDEX_HEAD / sizeof *entries;
    for (size_t i = 0; i < *n; i++) {
        size_t len;
        const char *base;

        lua_rawgeti(L, array, (lua_Integer)i + 1);
        lua_getfield(L, -1, "base");
        base = lua_tolstring(L, -1, &len);
        entries[i].hash = mailname_hash(base, len);
        lua_pop(L, 1);
        entries[i].inode = (uint64_t)take_field(L, "inode");
        entries[i].mtime = take_field(L, "mtime");
        entries[i].size = MAILSIZE_UNKNOWN;
        if (lua_getfield(L, -1, "stored") != LUA_TNIL) {
            lua_pop(L, 1);
            entries[i].size =
                mailsize_pack((uint64_t)take_field(L, "stored"), (uint64_t)take_field(L, "sent"));
            lua_pushnil(L);
        }
        lua_pop(L, 2);
    }
    return entries;
}

/* mailindex_write(entries) -> octets */
static int
l_mailindex_write(lua_State *L)
{
    size_t n;
    struct mailindex_entry *entries = take_entries(L, 1, &n);
    char *head = (char *)entries - MAILINDEX_HEAD;

    n = mailindex_sort(entries, n);
    mailindex_head(entries, n, head);
    lua_pushlstring(L, head, MAILINDEX_SIZE(n));
    return 1;
}

static void
set_known(void *owner, uint32_t row, const struct mailindex_entry *entry)
{
    (void)owner, (void)row, (void)entry;
}

/* mailindex_read(octets, files) -> how many entries are somebody's, and the files as
 * mailnames has them; nil: it is no index */
static int
l_mailindex_read(lua_State *L)
{
    size_t len, n;
    const char *octets = luaL_checklstring(L, 1, &len);
    void *copy = lua_newuserdatauv(L, len + 1, 0);
    const struct mailindex_entry *entries;
    struct mailnames *m;
    struct mailkey *keys;

    memcpy(copy, octets, len);
    entries = mailindex_read(copy, len, &n);
    if (!entries)
        return 0;
    m = list_files(L, 2, 1);
    keys = mailsort_names(m);
    lua_pushinteger(L, (lua_Integer)mailindex_match(entries, n, m, keys, set_known, NULL));
    lua_newtable(L);
    for (size_t i = 0; i < m->count; i++) {
        push_name(L, m, &m->rows[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    free(keys);
    mailnames_drop(m);
    return 2;
}

/* mailindex_join(older, newer, files) -> octets */
static int
l_mailindex_join(lua_State *L)
{
    size_t a, b, n;
    struct mailindex_entry *older, *newer, *out;
    struct mailnames *m;
    struct mailkey *keys;

    lua_settop(L, 3);
    older = take_entries(L, 1, &a);
    newer = take_entries(L, 2, &b);
    out = lua_newuserdatauv(L, MAILINDEX_SIZE(a + b), 0);
    m = list_files(L, 3, 4);
    keys = mailsort_names(m);
    a = mailindex_sort(older, a);
    b = mailindex_sort(newer, b);
    n = mailindex_join(older, a, newer, b, keys, m->count, out + 1);
    mailindex_head(out + 1, n, out);
    lua_pushlstring(L, (const char *)out, MAILINDEX_SIZE(n));
    free(keys);
    mailnames_drop(m);
    return 1;
}

/* --- copy --- */

/* copy(…) -> the values as another Lua state would get them */
static int
l_copy(lua_State *L)
{
    int n = lua_gettop(L);
    struct buf *b;

    lua_pushcfunction(L, l_buf_new);
    lua_call(L, 0, 1);
    lua_insert(L, 1);
    b = lua_touserdata(L, 1);
    copy_write(L, 2, "argument", "to a thread", b);
    lua_settop(L, 1);
    luaL_checkstack(L, n, "too many values");
    return copy_read(L, b);
}

static const luaL_Reg functions[] = {
    {"mailnames", l_mailnames},
    {"mailname_has_flag", l_mailname_has_flag},
    {"mailsize", l_mailsize},
    {"mailfollow", l_mailfollow},
    {"mailindex_write", l_mailindex_write},
    {"mailindex_read", l_mailindex_read},
    {"mailindex_join", l_mailindex_join},
    {"command", l_command},
    {"copy", l_copy},
    {"reply_ok", l_reply_ok},
    {"reply_err", l_reply_err},
    {"reply_text", l_reply_text},
    {"reply_line", l_reply_line},
    {"reply_item", l_reply_item},
    {"reply_end", l_reply_end},
    {"reply_code_ok", l_reply_code_ok},
    {"dotstuff", l_dotstuff},
    {"dotstuff_count", l_dotstuff_count},
    {"texts", l_texts},
    {"texts_fill", l_texts_fill},
    {"texts_utf8", l_texts_utf8},
    {"language_find", l_language_find},
    {"base64", l_base64},
    {"unbase64", l_unbase64},
    {"md5", l_md5},
    {"sha256", l_sha256},
    {"sha256_pieces", l_sha256_pieces},
    {"proxyproto", l_proxyproto},
    {NULL, NULL},
};

static const struct class
{
    const char *field, *name;
    const luaL_Reg *methods;
    lua_CFunction create, gc;
} classes[] = {
    {"buf", BUF, buf_methods, l_buf_new, l_buf_gc},
    {"linebuf", LINEBUF, linebuf_methods, l_linebuf_new, l_linebuf_gc},
    {"maildrop", MAILDROP, maildrop_methods, l_maildrop_new, l_maildrop_gc},
    {"session", SESSION, session_methods, l_session_new, l_session_gc},
};

int
luaopen_popd_testing(lua_State *L)
{
    luaL_newlib(L, functions);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        new_class(L, classes[i].name, classes[i].methods, classes[i].gc);
        lua_newtable(L);
        lua_pushcfunction(L, classes[i].create);
        lua_setfield(L, -2, "new");
        lua_setfield(L, -2, classes[i].field);
    }
    return 1;
}
