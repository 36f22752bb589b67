#include "slab.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Pages come from regions that start at a multiple of their size, so that a
 * block's address tells its page.  A region's first page describes the others. */
#define PAGE ((size_t)16384)
#define REGION ((size_t)1 << 20)
#define PAGES (REGION / PAGE)

/* Sizes: every multiple of 8 up to FINE_MOST, then those of `coarse`. */
#define FINE_MOST 512
#define FINE (FINE_MOST / 8)

static const uint16_t coarse[] = {640, 768, 1024, 1360, 1808, 2336, SLAB_MOST};

#define SIZES (FINE + sizeof coarse / sizeof coarse[0])

struct page {
    struct page *next, **link; /* among those of its size that have room, or the empty ones */
    void *free;                /* blocks that were given back: each starts with the address of the next */
    char *start;
    uint32_t fresh, used; /* octets never handed out yet start at `fresh`; blocks in use */
    uint16_t size, sort;  /* of a block; index of `room` */
};

struct region {
    struct region *next;
    struct page pages[PAGES]; /* the first one is this */
};

_Static_assert(sizeof(struct region) <= PAGE, "a region's description fits its first page");

struct slab {
    struct region *regions;    /* ours */
    struct page *room[SIZES];  /* by size: pages with room */
    struct page *empty, *bare; /* nothing is in them; nor has the system memory behind them */
};

static size_t
sort_of(size_t size)
{
    size_t sort = FINE;

    if (size <= FINE_MOST)
        return (size - 1) / 8;
    while (coarse[sort - FINE] < size)
        sort++;
    return sort;
}

static size_t
size_of(size_t sort)
{
    return sort < FINE ? (sort + 1) * 8 : coarse[sort - FINE];
}

static struct page *
page_of(void *block)
{
    uintptr_t at = (uintptr_t)block;
    struct region *region = (struct region *)(at & ~(uintptr_t)(REGION - 1));

    return &region->pages[(at & (REGION - 1)) / PAGE];
}

static void
link_page(struct page *p, struct page **list)
{
    p->next = *list;
    p->link = list;
    if (p->next)
        p->next->link = &p->next;
    *list = p;
}

static void
unlink_page(struct page *p)
{
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
}

/* Memory that starts at a multiple of REGION; NULL: there is none. */
static char *
map_region(void)
{
    char *got = mmap(NULL, 2 * REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (got == MAP_FAILED)
        return NULL;
    before = (REGION - (uintptr_t)got % REGION) % REGION;
    if (before)
        munmap(got, before);
    munmap(got + before + REGION, REGION - before);
    return got + before;
}

static bool
add_region(struct slab *s)
{
    char *start = map_region();
    struct region *region = (struct region *)start;

    if (!region)
        return false;
    region->next = s->regions;
    s->regions = region;
    for (size_t i = PAGES - 1; i > 0; i--) {
        region->pages[i].start = start + i * PAGE;
        link_page(&region->pages[i], &s->bare);
    }
    return true;
}

/* A page for blocks of one size; NULL: out of memory. */
static struct page *
take_page(struct slab *s, size_t sort)
{
    struct page *p = s->empty;

    if (!p && !s->bare && !add_region(s))
        return NULL;
    p = p ? p : s->bare;
    unlink_page(p);
    p->free = NULL;
    p->fresh = p->used = 0;
    p->sort = (uint16_t)sort;
    p->size = (uint16_t)size_of(sort);
    link_page(p, &s->room[sort]);
    return p;
}

static bool
is_full(const struct page *p)
{
    return !p->free && p->fresh + p->size > PAGE;
}

static void *
take(struct slab *s, size_t size)
{
    size_t sort = sort_of(size);
    struct page *p = s->room[sort] ? s->room[sort] : take_page(s, sort);
    void *block;

    if (!p)
        return NULL;
    block = p->free;
    if (block) {
        memcpy(&p->free, block, sizeof p->free);
    } else {
        block = p->start + p->fresh;
        p->fresh += p->size;
    }
    p->used++;
    if (is_full(p))
        unlink_page(p);
    return block;
}

static void
give_back(struct slab *s, void *block)
{
    struct page *p = page_of(block);
    bool was_full = is_full(p);

    memcpy(block, &p->free, sizeof p->free);
    p->free = block;
    if (was_full)
        link_page(p, &s->room[p->sort]);
    if (--p->used)
        return;
    unlink_page(p);
    link_page(p, &s->empty);
}

/* Where a sanitizer looks at each block, all are malloc's. */
static bool
is_small(size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    (void)size;
    return false;
#else
    return size <= SLAB_MOST;
#endif
}

static void *
make(struct slab *s, size_t size)
{
    return is_small(size) ? take(s, size) : malloc(size);
}

static void
release(struct slab *s, void *block, size_t size)
{
    if (is_small(size))
        give_back(s, block);
    else
        free(block);
}

/* Whether a block of one size serves as one of the other. */
static bool
is_same(size_t old, size_t size)
{
    return is_small(old) && is_small(size) && sort_of(old) == sort_of(size);
}

void *
slab_resize(void *slab, void *block, size_t old, size_t size)
{
    struct slab *s = slab;
    void *moved;

    if (!block)
        return size ? make(s, size) : NULL;
    if (!size) {
        release(s, block, old);
        return NULL;
    }
    if (is_same(old, size))
        return block;
    if (!is_small(old) && !is_small(size))
        return realloc(block, size);
    moved = make(s, size);
    if (!moved)
        return NULL;
    memcpy(moved, block, old < size ? old : size);
    release(s, block, old);
    return moved;
}

size_t
slab_used(const struct slab *s)
{
    size_t used = 0;

    for (const struct region *r = s->regions; r; r = r->next)
        for (size_t i = 1; i < PAGES; i++)
            used += (size_t)r->pages[i].used * r->pages[i].size;
    return used;
}

bool
slab_trim(struct slab *s)
{
    struct page *p = s->empty;

    if (!p)
        return false;
    unlink_page(p);
    madvise(p->start, PAGE, MADV_DONTNEED);
    link_page(p, &s->bare);
    return true;
}

struct slab *
slab_new(void)
{
    return calloc(1, sizeof(struct slab));
}

void
slab_free(struct slab *s)
{
    struct region *next;

    for (struct region *r = s ? s->regions : NULL; r; r = next) {
        next = r->next;
        munmap(r, REGION);
    }
    free(s);
}
