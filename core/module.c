/* module - luaopen_popd_core: what popd's Lua part is built on, under names. */
#include "await.h"
#include "class.h"
#include "crypto.h"
#include "dotstuff.h"
#include "errand.h"
#include "fault.h"
#include "fs.h"
#include "job.h"
#include "latch.h"
#include "log.h"
#include "looplua.h"
#include "lookup.h"
#include "mailchore.h"
#include "maillearn.h"
#include "maillist.h"
#include "mailread.h"
#include "pair.h"
#include "reply.h"
#include "saslua.h"
#include "sandbox.h"
#include "secret.h"
#include "server.h"
#include "signals.h"
#include "sock.h"
#include "mboxlua.h"
#include "spool.h"
#include "source.h"
#include "tasklua.h"
#include "tlslua.h"
#include "command.h"
#include "texts.h"
#include "ward.h"

#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#ifndef POPD_VERSION
#define POPD_VERSION "dev"
#endif

#define CORE "popd.core.state"

/* One for each Lua state; the registry holds it. */
struct core {
    struct loop loop;
    struct tasks tasks;
    struct pool pool;
    struct errands errands;
    struct pool names; /* for name servers alone, which may be slow to answer */
    struct pool files; /* for disks, so that a slow one delays no login elsewhere */
    struct dirs dirs;
    struct server_common servers;
};

static const char sink_key, module_key;

/* What closes last: tasks that wait, the threads, then the loop. */
static int
l_gc(lua_State *L)
{
    struct core *core = luaL_checkudata(L, 1, CORE);

    log_forget_sink(core);
    memory_clear(&core->tasks.guards.memory, L);
    tasks_close(&core->tasks);
    errand_close(&core->errands);
    pool_clear(&core->pool);
    pool_clear(&core->names);
    pool_clear(&core->files);
    dirs_clear(&core->dirs);
    loop_clear(&core->loop);
    if (core->servers.spare >= 0)
        close(core->servers.spare);
    core->servers.spare = -1;
    return 0;
}

static struct core *
new_core(lua_State *L)
{
    struct core *core = lua_newuserdatauv(L, sizeof *core, 0);

    memset(core, 0, sizeof *core);
    core->servers.spare = -1;
    if (!loop_init(&core->loop)) {
        luaL_error(L, "popd: the system gives no event loop (descriptors or memory)");
        return NULL;
    }
    luaL_newmetatable(L, CORE);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, core);
    tasks_open(&core->tasks, &core->loop, L);
    pool_init(&core->pool, &core->loop, POOL_NICE);
    pool_init(&core->names, &core->loop, POOL_NICE);
    pool_init(&core->files, &core->loop, 0); /* short work, mostly the kernel's */
    dirs_init(&core->dirs, &core->loop);
    core->servers.loop = &core->loop;
    core->servers.tasks = &core->tasks;
    core->servers.files = &core->files;
    core->servers.dirs = &core->dirs;
    return core;
}

/* log(level, text [, fields]): fields in the order of their names. */
#define FIELDS_MAX 16

static size_t
take_fields(lua_State *L, struct log_pair *pairs)
{
    size_t n = 0;

    if (!lua_istable(L, 3))
        return 0;
    lua_pushnil(L);
    while (n < FIELDS_MAX && lua_next(L, 3)) {
        struct log_pair *p = &pairs[n];

        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 1);
            continue;
        }
        p->key = lua_tostring(L, -2);
        p->value = luaL_tolstring(L, -1, &p->len);
        lua_rawsetp(L, 4, &pairs[n++]); /* keeps the text alive */
        lua_pop(L, 1);
    }
    return n;
}

static void
sort_pairs(struct log_pair *pairs, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && strcmp(pairs[j - 1].key, pairs[j].key) > 0; j--) {
            struct log_pair p = pairs[j];

            pairs[j] = pairs[j - 1];
            pairs[j - 1] = p;
        }
}

static int
check_level(lua_State *L, int index)
{
    const char *name = luaL_checkstring(L, index);
    int level = log_level_find(name);

    if (level < 0)
        luaL_error(L, "unknown log level '%s': expected debug, info, warning, error or none", name);
    return level;
}

static int
l_log(lua_State *L)
{
    struct log_pair pairs[FIELDS_MAX];
    int level = check_level(L, 1);
    size_t len, n;
    const char *text = luaL_checklstring(L, 2, &len);

    if (!log_wants((enum log_level)level))
        return 0;
    lua_settop(L, 3);
    lua_newtable(L);
    n = take_fields(L, pairs);
    sort_pairs(pairs, n);
    log_pairs((enum log_level)level, text, len, pairs, n);
    return 0;
}

/* log_wants(level) -> whether a line of that level is written */
static int
l_log_wants(lua_State *L)
{
    lua_pushboolean(L, log_wants((enum log_level)check_level(L, 1)));
    return 1;
}

static int
call_sink(lua_State *L)
{
    const char *const *line = lua_touserdata(L, 1);
    const size_t *len = lua_touserdata(L, 2);

    lua_rawgetp(L, LUA_REGISTRYINDEX, &sink_key);
    lua_pushstring(L, log_level_name((enum log_level)lua_tointeger(L, 3)));
    lua_pushlstring(L, *line, *len);
    lua_call(L, 2, 0);
    return 0;
}

/* The sink is the script's: what it raises goes nowhere but to standard error. */
static void
on_line(void *owner, enum log_level level, const char *line, size_t len)
{
    struct core *core = owner;
    lua_State *L = core->tasks.L;
    struct guard *before;
    bool good;

    if (!lua_checkstack(L, 6))
        return;
    log_set_sink(NULL, NULL); /* what the sink itself logs goes to standard error */
    lua_pushcfunction(L, call_sink);
    lua_pushlightuserdata(L, &line);
    lua_pushlightuserdata(L, &len);
    lua_pushinteger(L, level);
    before = guards_run(&core->tasks.guards, NULL); /* a callback's memory is not the log's */
    good = lua_pcall(L, 3, 0, 0) == LUA_OK;
    guards_run(&core->tasks.guards, before);
    if (good) {
        log_set_sink(on_line, owner);
        return;
    }
    log_event(LOG_ERROR, "the log's function failed; the log goes to standard error again", "error",
              lua_tostring(L, -1), NULL);
    lua_pop(L, 1);
}

/* log_to(function or nil [, least level]) */
static int
l_log_to(lua_State *L)
{
    struct core *core = lua_touserdata(L, lua_upvalueindex(1));

    if (!lua_isnoneornil(L, 2))
        log_set_least((enum log_level)check_level(L, 2));
    if (lua_isnoneornil(L, 1)) {
        log_set_sink(NULL, NULL);
        return 0;
    }
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &sink_key);
    log_set_sink(on_line, core);
    return 0;
}

/* octets(dots or nil, chunk or nil) -> dots: counts a message's octets piece
 * by piece; without a chunk returns how many there are. */
static int
l_octets(lua_State *L)
{
    struct dotstuff *d;
    size_t n;
    const char *chunk;

    if (lua_isnoneornil(L, 1)) {
        d = lua_newuserdatauv(L, sizeof *d, 0);
        dotstuff_init(d, DOTSTUFF_ALL);
        luaL_setmetatable(L, "popd.octets");
        return 1;
    }
    d = luaL_checkudata(L, 1, "popd.octets");
    if (lua_isnoneornil(L, 2)) {
        dotstuff_count_end(d);
        lua_pushinteger(L, (lua_Integer)d->octets);
        return 1;
    }
    chunk = luaL_checklstring(L, 2, &n);
    dotstuff_count(d, chunk, n);
    lua_settop(L, 1);
    return 1;
}

/* verb(keyword) -> it in upper case if the core serves it, or nil */
static int
l_verb(lua_State *L)
{
    size_t len;
    const char *keyword = luaL_checklstring(L, 1, &len);

    lua_pushstring(L, verb_name(verb_find(keyword, len)));
    return 1;
}

/* texts() -> every English text that a client may be told, for translators */
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

/* heap() -> octets that malloc has handed out (in its main arena), and Lua's in pages of
 * their own, or 0 where malloc does not tell: for what counts what is left behind */
static int
l_heap(lua_State *L)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    const struct core *core = lua_touserdata(L, lua_upvalueindex(1));

    lua_pushinteger(L, (lua_Integer)(mallinfo2().uordblks + memory_in_slab(&core->tasks.guards.memory, L)));
#else
    lua_pushinteger(L, 0);
#endif
    return 1;
}

static int
l_nothing(lua_State *L)
{
    (void)L;
    return 0;
}

__attribute__((visibility("default"))) int luaopen_popd_core(lua_State *L);

int
luaopen_popd_core(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"log", l_log},   {"log_wants", l_log_wants}, {"octets", l_octets},
        {"verb", l_verb}, {"texts", l_texts},         {NULL, NULL},
    };
    struct core *core;

    luaL_checkversion(L);
    /* A program may load popd anew (its test runner, say): the loop, and what
     * waits on it, stay the same. */
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &module_key) == LUA_TTABLE)
        return 1;
    core = new_core(L);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &module_key);
    luaL_setfuncs(L, functions, 0);
    lua_pushlightuserdata(L, core);
    lua_pushcclosure(L, l_log_to, 1);
    lua_setfield(L, -2, "log_to");
    lua_pushlightuserdata(L, core);
    lua_pushcclosure(L, l_heap, 1);
    lua_setfield(L, -2, "heap");
    lua_pushliteral(L, POPD_VERSION);
    lua_setfield(L, -2, "version");
    class_new(L, "popd.octets", NULL, l_nothing);
    crypto_open(L);
    saslua_open(L);
    secret_open(L, &core->tasks, &core->pool);
    sock_open(L);
    lookup_open(L, &core->tasks, &core->names);
    spool_open(L, &core->tasks, &core->pool);
    mboxlua_open(L, &core->tasks, &core->pool);
    maillist_open(L);
    mailread_open(L, &core->tasks, &core->files);
    maillearn_open(L, &core->tasks, &core->files);
    mailchore_open(L, &core->tasks, &core->files);
    lua_setfield(L, -2, "mail");
    tasklua_open(L, &core->tasks);
    looplua_open(L, &core->tasks);
    await_open(L, &core->tasks);
    latch_open(L, &core->tasks);
    job_open(L, &core->tasks);
    ward_open(L, &core->tasks);
    signals_open(L, &core->tasks);
    errand_open(L, &core->errands, &core->tasks);
    fault_open(L);
    source_open(L);
    pair_open(L);
    tlslua_open(L);
    server_open(L, &core->servers);
    sandbox_open(L);
    fs_open(L, &core->tasks, &core->files);
    lua_setfield(L, -2, "fs");
    return 1;
}
