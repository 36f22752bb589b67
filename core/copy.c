#include "copy.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#define PLACE_MAX 200 /* octets of the text that says where in a value something is */

/* What an octet says that the next value is. */
enum {
    TAG_NIL = 'z',
    TAG_FALSE = 'f',
    TAG_TRUE = 't',
    TAG_INTEGER = 'i',
    TAG_NUMBER = 'n',
    TAG_STRING = 's',
    TAG_TABLE = '{',
    TAG_END = '}'
};

/* Writing --------------------------------------------------------------------- */

struct writer {
    lua_State *L;
    struct buf *to;
    const char *what, *where;
    int number;                     /* of the value, from 1 */
    const void *within[COPY_DEPTH]; /* the tables that the present one is in */
    int key[COPY_DEPTH];            /* where each of them has its present key on the stack */
    size_t depth;
};

struct place {
    char text[PLACE_MAX];
    size_t len; /* never passes PLACE_MAX - 1 */
};

static void
add(struct place *p, const char *format, const char *text)
{
    size_t room = sizeof p->text - p->len;
    int n = snprintf(p->text + p->len, room, format, text);

    p->len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static bool
is_word(const char *text, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    return len > 0 && strspn(text, letters) == len && (text[0] < '0' || text[0] > '9');
}

/* ".x", "[3]", or whatever the key is. */
static void
add_key(struct place *p, lua_State *L, int index)
{
    size_t len = 0;
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;

    if (text) {
        add(p, is_word(text, len) ? ".%s" : "[\"%s\"]", text);
        return;
    }
    add(p, "[%s]", luaL_tolstring(L, index, NULL));
    lua_pop(L, 1);
}

/* Raises: "argument 2.x.y: a function cannot be passed to a thread". */
static void
refuse(struct writer *w, const char *what)
{
    char number[16];
    struct place p = {.len = 0};

    snprintf(number, sizeof number, " %d", w->number);
    add(&p, "%s", w->what);
    add(&p, "%s", number);
    for (size_t i = 0; i < w->depth; i++)
        add_key(&p, w->L, w->key[i]);
    luaL_error(w->L, "%s: %s cannot be passed %s", p.text, what, w->where);
}

static void
add_tag(struct writer *w, char tag)
{
    buf_add(w->to, &tag, 1);
}

/* Raises if there would be more than can be had. */
static void
check_room(struct writer *w, size_t n)
{
    if (w->to->failed)
        luaL_error(w->L, "out of memory");
    if (n > COPY_MAX || w->to->len > COPY_MAX - n)
        refuse(w, "more than 256 MB in one call");
}

static void
write_string(struct writer *w, int index)
{
    size_t len;
    const char *octets = lua_tolstring(w->L, index, &len);

    check_room(w, len);
    add_tag(w, TAG_STRING);
    buf_add(w->to, &len, sizeof len);
    buf_add(w->to, octets, len);
}

static void
write_number(struct writer *w, int index)
{
    lua_Integer integer = lua_tointeger(w->L, index);
    lua_Number number = lua_tonumber(w->L, index);

    if (lua_isinteger(w->L, index)) {
        add_tag(w, TAG_INTEGER);
        buf_add(w->to, &integer, sizeof integer);
    } else {
        add_tag(w, TAG_NUMBER);
        buf_add(w->to, &number, sizeof number);
    }
}

static void write_value(struct writer *w, int index);

/* The key and the value on top of the stack.  Within a key nothing is nested. */
static void
write_field(struct writer *w)
{
    int type = lua_type(w->L, -2);

    w->key[w->depth - 1] = lua_gettop(w->L) - 1;
    if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
        refuse(w, "a key that is neither a string, a number nor a boolean");
    write_value(w, lua_gettop(w->L) - 1);
    write_value(w, lua_gettop(w->L));
}

static void
enter(struct writer *w, const void *table)
{
    for (size_t i = 0; i < w->depth; i++)
        if (w->within[i] == table)
            refuse(w, "a table that contains itself");
    if (w->depth == COPY_DEPTH)
        refuse(w, "a table nested so deeply");
    check_room(w, 0);
}

static void
write_table(struct writer *w, int index)
{
    enter(w, lua_topointer(w->L, index));
    luaL_checkstack(w->L, 8, "too many tables in tables");
    w->within[w->depth++] = lua_topointer(w->L, index);
    add_tag(w, TAG_TABLE);
    lua_pushnil(w->L);
    while (lua_next(w->L, index)) {
        write_field(w);
        lua_pop(w->L, 1);
    }
    add_tag(w, TAG_END);
    w->depth--;
}

/* A userdata may say how it is to be copied; nothing else can be. */
static void
write_other(struct writer *w, int index)
{
    char what[40];

    if (lua_type(w->L, index) == LUA_TUSERDATA && luaL_getmetafield(w->L, index, COPY_FIELD) != LUA_TNIL) {
        lua_pushvalue(w->L, index);
        lua_call(w->L, 1, 1);
        write_table(w, lua_gettop(w->L));
        lua_pop(w->L, 1);
        return;
    }
    snprintf(what, sizeof what, "a %s", lua_typename(w->L, lua_type(w->L, index)));
    refuse(w, what);
}

static void
write_value(struct writer *w, int index)
{
    switch (lua_type(w->L, index)) {
    case LUA_TNIL:
        add_tag(w, TAG_NIL);
        break;
    case LUA_TBOOLEAN:
        add_tag(w, lua_toboolean(w->L, index) ? TAG_TRUE : TAG_FALSE);
        break;
    case LUA_TNUMBER:
        write_number(w, index);
        break;
    case LUA_TSTRING:
        write_string(w, index);
        break;
    case LUA_TTABLE:
        write_table(w, index);
        break;
    default:
        write_other(w, index);
    }
}

void
copy_write(lua_State *L, int first, const char *what, const char *where, struct buf *b)
{
    struct writer w = {.L = L, .to = b, .what = what, .where = where};
    int last = lua_gettop(L);

    luaL_checkstack(L, 8, "too many values");
    for (int i = first; i <= last; i++) {
        w.number = i - first + 1;
        write_value(&w, i);
    }
    if (b->failed)
        luaL_error(L, "out of memory");
}

void
copy_text(struct buf *b, const char *text)
{
    char tag = TAG_STRING;
    size_t len = strlen(text);

    buf_add(b, &tag, 1);
    buf_add(b, &len, sizeof len);
    buf_add(b, text, len);
}

/* Reading --------------------------------------------------------------------- */

struct reader {
    lua_State *L;
    const char *at, *end;
};

static void
take(struct reader *r, void *to, size_t n)
{
    memcpy(to, r->at, n);
    r->at += n;
}

static void
read_string(struct reader *r)
{
    size_t len;

    take(r, &len, sizeof len);
    lua_pushlstring(r->L, r->at, len);
    r->at += len;
}

static void
read_integer(struct reader *r)
{
    lua_Integer integer;

    take(r, &integer, sizeof integer);
    lua_pushinteger(r->L, integer);
}

static void
read_number(struct reader *r)
{
    lua_Number number;

    take(r, &number, sizeof number);
    lua_pushnumber(r->L, number);
}

static void read_value(struct reader *r);

static void
read_table(struct reader *r)
{
    luaL_checkstack(r->L, 4, "too many tables in tables");
    lua_newtable(r->L);
    while (*r->at != TAG_END) {
        read_value(r);
        read_value(r);
        lua_rawset(r->L, -3);
    }
    r->at++;
}

static void
read_value(struct reader *r)
{
    switch (*r->at++) {
    case TAG_NIL:
        lua_pushnil(r->L);
        break;
    case TAG_FALSE:
        lua_pushboolean(r->L, 0);
        break;
    case TAG_TRUE:
        lua_pushboolean(r->L, 1);
        break;
    case TAG_INTEGER:
        read_integer(r);
        break;
    case TAG_NUMBER:
        read_number(r);
        break;
    case TAG_STRING:
        read_string(r);
        break;
    default:
        read_table(r);
    }
}

int
copy_read(lua_State *L, const struct buf *b)
{
    struct reader r = {.L = L, .at = b->data};
    int n = 0;

    if (b->len == 0)
        return 0;
    r.end = b->data + b->len;
    for (; r.at < r.end; n++) {
        luaL_checkstack(L, 8, "too many values");
        read_value(&r);
    }
    return n;
}

bool
copy_is_true(const struct buf *b)
{
    return b->len > 0 && b->data[0] == TAG_TRUE;
}

void
copy_discard(struct buf *b)
{
    buf_wipe(b);
    buf_clear(b);
}
