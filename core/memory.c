#include "memory.h"

#include "slab.h"

#include <stdint.h>
#include <stdio.h>

/* A collection is not worth its time before so many octets were used anew. */
#define LEAST 65536

static bool
has_room(const struct memory *m, size_t growth)
{
    return m->used <= m->cap && growth <= m->cap - m->used;
}

static void *
refuse(struct memory *m, size_t growth)
{
    m->refused(m->owner, growth, m->again);
    m->again = true;
    return NULL;
}

/* A lua_Alloc.  For a new block `old` says of what kind it is. */
static void *
allocate(void *owner, void *block, size_t old, size_t size)
{
    struct memory *m = owner;
    size_t had = block ? old : 0, growth = size > had ? size - had : 0;
    void *got;

    if (growth && m->strict && !has_room(m, growth))
        return refuse(m, growth);
    got = m->below(m->below_owner, block, old, size);
    if (!got && size > 0)
        return NULL;
    /* Not below 0: buffers that were there before we counted are not known. */
    m->used = m->used + size > had ? m->used + size - had : 0;
    m->again = m->again && !growth;
    if (m->strict && m->used > m->soon)
        m->refused(m->owner, 0, false);
    return got;
}

size_t
memory_used(const struct memory *m, lua_State *L)
{
    if (m->below)
        return m->used;
    return (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB);
}

void
memory_limit(struct memory *m, lua_State *L, size_t cap)
{
    if (!cap) {
        memory_clear(m, L);
        return;
    }
    m->cap = cap;
    m->soon = 0;
    snprintf(m->why, sizeof m->why,
             "the callback needed more memory than the Lua state may have: %zu octets (popd.memory_limit)",
             cap);
    lua_pushstring(L, m->why);
    lua_rawsetp(L, LUA_REGISTRYINDEX, m->why);
    if (m->below)
        return;
    m->used = memory_used(m, L);
    m->below = lua_getallocf(L, &m->below_owner);
    lua_setallocf(L, allocate, m);
}

/* Lua's own pace knows nothing of the cap: it may let garbage grow to it, and
 * the standard library's buffers would be refused what a collection could give. */
static void
collect(struct memory *m, lua_State *L)
{
    size_t left;

    lua_gc(L, LUA_GCCOLLECT);
    left = m->used < m->cap ? m->cap - m->used : 0;
    m->soon = m->used + (left / 2 > LEAST ? left / 2 : LEAST);
}

void
memory_tidy(struct memory *m, lua_State *L)
{
    if (m->below && m->used > m->soon)
        collect(m, L);
}

bool
memory_fits(struct memory *m, lua_State *L, size_t growth)
{
    collect(m, L);
    return has_room(m, growth);
}

/* Of the state's own allocator; NULL: it is another. */
static struct slab *
slab_of(const struct memory *m, lua_State *L)
{
    void *owner;
    lua_Alloc own = lua_getallocf(L, &owner);

    if (m->below) {
        own = m->below;
        owner = m->below_owner;
    }
    return own == slab_resize ? owner : NULL;
}

size_t
memory_in_slab(const struct memory *m, lua_State *L)
{
    const struct slab *s = slab_of(m, L);

    return s ? slab_used(s) : 0;
}

bool
memory_trim(const struct memory *m, lua_State *L)
{
    struct slab *s = slab_of(m, L);

    return s && slab_trim(s);
}

/* Whoever has put one in front of ours keeps it, and ours with it. */
void
memory_clear(struct memory *m, lua_State *L)
{
    void *owner;

    m->cap = SIZE_MAX;
    if (!m->below || lua_getallocf(L, &owner) != allocate || owner != m)
        return;
    lua_setallocf(L, m->below, m->below_owner);
    m->below = NULL;
}
