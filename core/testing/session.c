#include "testing.h"

#include "../session.h"

#include <stdio.h>
#include <string.h>

#define SESSION "popd.testing.session"

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
    testing_push_buf(L, out);
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
            *flags[i].flag = testing_opt_boolean(L, 3, true);
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

    if (!maildrop_open(&s->maildrop, (size_t)luaL_checkinteger(L, 2), testing_opt_octets(L, 3)))
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

    return push_need(L, session_refused(s, code, text, len, testing_opt_boolean(L, 4, true), NULL, &out),
                     &out);
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
    return testing_push_buf(L, &out);
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

    testing_lend_maildrop(L, &s->maildrop);
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
    lua_pushstring(L, testing_verb(s->command.verb));
    lua_setfield(L, -2, "verb");
    testing_set_slice(L, "name", name);
    testing_set_slice(L, "args", s->command.args);
    testing_set_slice(L, "secret", s->command.secret);
    testing_set_boolean(L, "named", s->named);
    testing_set_boolean(L, "first", s->first);
    testing_set_boolean(L, "asking", s->asking);
    testing_set_boolean(L, "utf8", s->utf8);
    testing_set_boolean(L, "tls", s->tls);
    lua_pushstring(L, s->mechanism);
    lua_setfield(L, -2, "mechanism");
    lua_pushstring(L, session_lang(s));
    lua_setfield(L, -2, "lang");
    testing_set_number(L, "number", s->number);
    testing_set_number(L, "lines", s->command.lines);
    testing_set_number(L, "failures", s->failures);
    testing_set_number(L, "bad", s->bad);
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

void
testing_session(lua_State *L)
{
    testing_class(L, "session", SESSION, session_methods, l_session_new, l_session_gc);
}
