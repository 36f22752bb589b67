#include "testing.h"

#include "../slab.h"

#include <string.h>

#define SLAB "popd.testing.slab"
#define BLOCKS 1000

struct blocks {
    struct slab *slab; /* ours */
    struct {
        unsigned char *at;
        size_t size;
    } block[BLOCKS];
};

static int
l_slab_new(lua_State *L)
{
    struct blocks *b = lua_newuserdatauv(L, sizeof *b, 0);

    memset(b, 0, sizeof *b);
    b->slab = slab_new();
    luaL_setmetatable(L, SLAB);
    return 1;
}

static int
l_slab_gc(lua_State *L)
{
    struct blocks *b = luaL_checkudata(L, 1, SLAB);

    for (size_t i = 0; i < BLOCKS; i++)
        if (b->block[i].at)
            slab_resize(b->slab, b->block[i].at, b->block[i].size, 0);
    slab_free(b->slab);
    b->slab = NULL;
    memset(b->block, 0, sizeof b->block);
    return 0;
}

/* set(i, size) -> whether the block still had what was written to it, each octet
 * its number, and has of it what its new size takes */
static int
l_slab_set(lua_State *L)
{
    struct blocks *b = luaL_checkudata(L, 1, SLAB);
    size_t i = (size_t)luaL_checkinteger(L, 2) % BLOCKS, size = (size_t)luaL_checkinteger(L, 3);
    size_t old = b->block[i].size, kept = old < size ? old : size;
    unsigned char fill = (unsigned char)(i + 1);
    bool good = true;

    for (size_t k = 0; k < old; k++)
        good = good && b->block[i].at[k] == fill;
    b->block[i].at = slab_resize(b->slab, b->block[i].at, old, size);
    b->block[i].size = size;
    for (size_t k = 0; k < kept; k++)
        good = good && b->block[i].at[k] == fill;
    if (size)
        memset(b->block[i].at, fill, size);
    lua_pushboolean(L, good && (size != 0) == (b->block[i].at != NULL));
    return 1;
}

/* trim() -> how many pages were empty */
static int
l_slab_trim(lua_State *L)
{
    struct blocks *b = luaL_checkudata(L, 1, SLAB);
    lua_Integer n = 0;

    while (slab_trim(b->slab))
        n++;
    lua_pushinteger(L, n);
    return 1;
}

static const luaL_Reg slab_methods[] = {{"set", l_slab_set}, {"trim", l_slab_trim}, {NULL, NULL}};

void
testing_slab(lua_State *L)
{
    testing_class(L, "slab", SLAB, slab_methods, l_slab_new, l_slab_gc);
}
