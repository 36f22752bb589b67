/* main - the popd-lua program: an interpreter with popd inside. */
#include "slab.h"
#include "worker.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

int luaopen_popd_core(lua_State *L);

/* A Lua file of lua/popd, made part of the program by the Makefile. */
struct embedded {
    const char *name; /* the module's */
    const unsigned char *text;
    size_t len;
};

extern const struct embedded embedded_modules[]; /* ended by a NULL name */

/* A searcher of package.searchers: the modules that the program carries. */
static int
search_embedded(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);

    for (const struct embedded *e = embedded_modules; e->name; e++) {
        if (strcmp(e->name, name) != 0)
            continue;
        lua_pushfstring(L, "@%s", name);
        if (luaL_loadbufferx(L, (const char *)e->text, e->len, lua_tostring(L, -1), "t") != LUA_OK)
            return lua_error(L);
        lua_pushliteral(L, ":embedded:");
        return 2;
    }
    lua_pushfstring(L, "no module '%s' in popd-lua", name);
    return 1;
}

/* package.preload comes first, then what the program carries: a copy of the
 * program never mixes with modules of another version that are installed. */
static void
add_searcher(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search_embedded);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}

static void
set_arguments(lua_State *L, int argc, char **argv)
{
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
}

static int
add_traceback(lua_State *L)
{
    const char *text = lua_tostring(L, 1);

    luaL_traceback(L, L, text ? text : luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static void
on_pipe(int number)
{
    (void)number;
}

/* The libraries of this program, also for Lua states in threads. */
static int
prepare(lua_State *L)
{
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_popd_core);
    lua_setfield(L, -2, "popd.core");
    add_searcher(L);
    lua_pushcfunction(L, prepare);
    lua_setfield(L, LUA_REGISTRYINDEX, WORKER_PREPARE);
    return 0;
}

/* popd.cli's main: returns the status to exit with. */
static int
run(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);

    prepare(L);
    set_arguments(L, argc, argv);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "popd.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_getglobal(L, "arg");
    lua_call(L, 1, 1);
    return 1;
}

/* Big blocks, those of big maildrops, go back to the system when they are freed,
 * and grow without being copied; else they would stay as holes in the heap. */
static void
tell_malloc(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

/* What luaL_newstate does besides. */
struct warnings {
    bool on, continued; /* shown; the text goes on */
};

static void
on_warning(void *owner, const char *text, int continues)
{
    struct warnings *w = owner;

    if (!w->continued && !continues && text[0] == '@')
        w->on = strcmp(text, "@on") == 0 || (w->on && strcmp(text, "@off") != 0);
    else if (w->on)
        fprintf(stderr, "%s%s%s", w->continued ? "" : "Lua warning: ", text, continues ? "" : "\n");
    w->continued = continues;
}

static int
on_panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);

    fprintf(stderr, "popd-lua: an error that nobody catches: %s\n", text ? text : "no text");
    return 0;
}

/* The heap grows by half between two collections, not to twice its size: what a crowd
 * leaves behind lies between what its sessions keep. */
#define GC_PAUSE 150

/* A step of the collector for each 2 KiB (2 to this power) of what is allocated, with ten
 * thousand sessions half a millisecond of it; Lua's own choice, 8 KiB, is three or four.  All
 * steps together cost the same. */
#define GC_STEP 11

static lua_State *
new_state(struct slab *slab, struct warnings *warnings)
{
    lua_State *L = slab ? lua_newstate(slab_resize, slab) : NULL;

    if (!L)
        return NULL;
    lua_gc(L, LUA_GCINC, GC_PAUSE, 0, GC_STEP);
    lua_atpanic(L, on_panic);
    lua_setwarnf(L, on_warning, warnings);
    return L;
}

int
main(int argc, char **argv)
{
    struct warnings warnings = {0};
    struct slab *slab;
    lua_State *L;
    int status = EXIT_FAILURE;

    tell_malloc();
    slab = slab_new();
    L = new_state(slab, &warnings);

    /* A log that nobody reads any more is no reason to end.  Not SIG_IGN, which
     * the programs that a script starts would inherit. */
    signal(SIGPIPE, on_pipe);
    if (!L) {
        fputs("popd-lua: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    lua_pushcfunction(L, add_traceback);
    lua_pushcfunction(L, run);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 2, 1, 1) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        fprintf(stderr, "popd-lua: %s\n", lua_tostring(L, -1));
    lua_close(L);
    slab_free(slab);
    return status;
}
