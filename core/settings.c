#include "settings.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define LANGUAGES_MAX 64

static double
number_field(lua_State *L, const char *name)
{
    double value;

    lua_getfield(L, 2, name);
    value = lua_tonumber(L, -1); /* false and nil: 0, no limit */
    lua_pop(L, 1);
    return value > 0 ? value : 0;
}

static bool
flag_field(lua_State *L, const char *name)
{
    bool on;

    lua_getfield(L, 2, name);
    on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static void
set_limits(lua_State *L, struct conn_host *host, struct settings *own)
{
    struct conn_limits *limits = &host->limits;

    limits->login_timeout = number_field(L, "login_timeout");
    limits->handshake_timeout = number_field(L, "handshake_timeout");
    limits->idle_timeout = number_field(L, "idle_timeout");
    limits->write_timeout = number_field(L, "write_timeout");
    limits->renew_interval = number_field(L, "renew_interval");
    limits->callback.seconds = number_field(L, "callback_timeout");
    limits->callback.instructions = (uint64_t)number_field(L, "callback_instructions");
    limits->line_limit = (size_t)number_field(L, "line_limit");
    own->max_connections = (size_t)number_field(L, "max_connections");
    own->max_per_address = (size_t)number_field(L, "max_per_address");
    host->config.max_failures = (unsigned)number_field(L, "max_failures");
    host->config.max_bad_commands = (unsigned)number_field(L, "max_bad_commands");
}

static void
set_plain(lua_State *L, struct conn_host *host)
{
    const char *plain;

    lua_getfield(L, 2, "plain");
    plain = lua_tostring(L, -1);
    host->plain = !plain || strcmp(plain, "local") == 0 ? PLAIN_LOCAL
                  : strcmp(plain, "always") == 0        ? PLAIN_ALWAYS
                                                        : PLAIN_TLS;
    lua_pop(L, 1);
}

/* A list of keywords, as bits of the verbs that they name. */
static unsigned
verbs_field(lua_State *L, const char *name)
{
    unsigned bits = 0;

    if (lua_getfield(L, 2, name) == LUA_TTABLE)
        for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING; i++, lua_pop(L, 1)) {
            size_t len;
            const char *keyword = lua_tolstring(L, -1, &len);
            enum verb verb = verb_find(keyword, len);

            if (verb != VERB_OTHER)
                bits |= VERB_BIT(verb);
        }
    lua_settop(L, 2);
    return bits;
}

static void
set_capa(lua_State *L, struct session_config *config, struct settings *own)
{
    const char *capa;

    lua_getfield(L, 2, "capa");
    capa = lua_tostring(L, -1);
    free(own->capa);
    own->capa = capa ? strdup(capa) : NULL;
    config->capa = own->capa;
    lua_pop(L, 1);
}

static bool
flag_of(lua_State *L, const char *name)
{
    bool on;

    lua_getfield(L, -1, name);
    on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

/* Takes { name=, plain=, tls=, cert= } at the top of the stack; false: its name
 * is none. */
static bool
take_mechanism(lua_State *L, struct session_mechanism *m)
{
    size_t len = 0;
    const char *name;

    lua_getfield(L, -1, "name");
    name = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    *m = (struct session_mechanism){.plain = false};
    if (name && len <= SESSION_MECHANISM_MAX)
        memcpy(m->name, name, len);
    lua_pop(L, 1);
    m->plain = flag_of(L, "plain");
    m->tls = flag_of(L, "tls");
    m->cert = flag_of(L, "cert");
    return m->name[0] != '\0';
}

/* mechanisms = { { name=, plain=, tls=, cert= }, … } */
static void
set_mechanisms(lua_State *L, struct session_config *config, struct settings *own)
{
    size_t n = 0;

    if (lua_getfield(L, 2, "mechanisms") == LUA_TTABLE)
        for (lua_Integer i = 1; n < SETTINGS_MECHANISMS && lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
            n += take_mechanism(L, &own->mechanisms[n]);
            lua_pop(L, 1);
        }
    config->mechanisms = own->mechanisms;
    config->mechanism_count = n;
    lua_settop(L, 2);
}

/* Languages: what C reads is a block of structs that points into Lua's strings.
 * Both are held by a table, the server's user value, so that the next set lets
 * go of all of it; sessions keep a tag, and look it up at each reply. */

/* Copies the text at the top of the stack, popped, into the held table (index
 * 3): a string does not move as long as it is held. */
static struct slice
hold_text(lua_State *L)
{
    struct slice s = {.at = ""};

    if (lua_type(L, -1) == LUA_TSTRING)
        s.at = lua_tolstring(L, -1, &s.len);
    lua_rawseti(L, 3, (lua_Integer)lua_rawlen(L, 3) + 1);
    return s;
}

/* A block that is held. */
static void *
hold_block(lua_State *L, size_t count, size_t size)
{
    void *block = lua_newuserdatauv(L, count * size + 1, 0);

    lua_rawseti(L, 3, (lua_Integer)lua_rawlen(L, 3) + 1);
    return block;
}

static size_t
count_pairs(lua_State *L, int index)
{
    size_t n = 0;

    if (!lua_istable(L, index))
        return 0;
    index = lua_absindex(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        n++;
    return n;
}

/* { [english] = local } at the top of the stack */
static void
take_texts(lua_State *L, struct language *l)
{
    size_t n = count_pairs(L, -1);
    struct text *texts = hold_block(L, n, sizeof *texts);

    l->texts = texts;
    l->count = 0;
    if (n == 0)
        return;
    for (lua_pushnil(L); l->count < n && lua_next(L, -2);) {
        texts[l->count].local = hold_text(L);
        lua_pushvalue(L, -1);
        texts[l->count++].english = hold_text(L);
    }
}

/* tag, then { name=, texts= } at the top of the stack */
static void
take_language(lua_State *L, struct language *l)
{
    lua_pushvalue(L, -2);
    l->tag = hold_text(L).at;
    lua_getfield(L, -1, "name");
    l->name = hold_text(L).at;
    lua_getfield(L, -1, "texts");
    take_texts(L, l);
    lua_settop(L, 6); /* 3: what holds, 4: all languages, 5: the tag, 6: this one */
}

static int
by_tag(const void *a, const void *b)
{
    return strcmp(((const struct language *)a)->tag, ((const struct language *)b)->tag);
}

/* languages = { [tag] = { name=, texts = { [english] = local } } } */
static void
set_languages(lua_State *L, struct session_config *config)
{
    struct language *all;
    size_t n = 0;

    lua_newtable(L);
    lua_getfield(L, 2, "languages");
    all = hold_block(L, LANGUAGES_MAX, sizeof *all);
    if (lua_istable(L, 4))
        for (lua_pushnil(L); n < LANGUAGES_MAX && lua_next(L, 4); lua_settop(L, 5))
            take_language(L, &all[n++]);
    qsort(all, n, sizeof *all, by_tag);
    lua_settop(L, 3);
    lua_setiuservalue(L, 1, 1);
    config->languages = all;
    config->language_count = n;
}

static void
set_hooks(lua_State *L, struct conn_host *host)
{
    host->hooks.connect = flag_field(L, "on_connect");
    host->hooks.retrieved = flag_field(L, "on_retrieved");
    host->hooks.quit = flag_field(L, "on_quit");
    host->hooks.disconnect = flag_field(L, "on_disconnect");
}

void
settings_take(lua_State *L, struct conn_host *host, struct settings *own)
{
    struct session_config *config = &host->config;

    lua_settop(L, 2);
    set_languages(L, config); /* first: it may run out of memory */
    set_limits(L, host, own);
    set_mechanisms(L, config, own);
    set_capa(L, config, own);
    set_plain(L, host);
    set_hooks(L, host);
    config->off = verbs_field(L, "off");
    config->own = verbs_field(L, "own");
    config->commands = flag_field(L, "commands");
    config->capa_hook = flag_field(L, "on_capa");
    host->apop = flag_field(L, "apop");
}

void
settings_clear(struct settings *own)
{
    free(own->capa);
    own->capa = NULL;
}
