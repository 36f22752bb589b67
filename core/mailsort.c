#include "mailsort.h"

#include <stdlib.h>

#define DIGIT 11
#define FEW 64 /* keys */
#define DIGITS (1 << DIGIT)
#define PASSES 6

/* By key -------------------------------------------------------------------- */
static void
count_digits(const struct mailkey *keys, size_t n, size_t (*counts)[DIGITS])
{
    for (size_t i = 0; i < n; i++)
        for (int pass = 0; pass < PASSES; pass++)
            counts[pass][keys[i].key >> (pass * DIGIT) & (DIGITS - 1)]++;
}

/* One pass by one digit; false: all have the same, nothing was done. */
static bool
sort_digit(const struct mailkey *from, struct mailkey *to, size_t n, int shift, size_t *counts)
{
    size_t at = 0;

    if (counts[from[0].key >> shift & (DIGITS - 1)] == n)
        return false;
    for (size_t i = 0; i < DIGITS; i++) {
        size_t here = counts[i];

        counts[i] = at;
        at += here;
    }
    for (size_t i = 0; i < n; i++)
        to[counts[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
    return true;
}

/* Two arrays for keys: what is sorted goes from one to the other and back. */
struct sorter {
    struct mailkey *keys, *other; /* ours */
    size_t n;
};

static bool
sorter_init(struct sorter *s, size_t n)
{
    s->n = n;
    s->keys = malloc((n ? n : 1) * sizeof *s->keys);
    s->other = malloc((n ? n : 1) * sizeof *s->other);
    return s->keys && s->other;
}

static void
sorter_clear(struct sorter *s)
{
    free(s->keys);
    free(s->other);
    *s = (struct sorter){0};
}

static void
sorter_swap(struct sorter *s)
{
    struct mailkey *keys = s->keys;

    s->keys = s->other;
    s->other = keys;
}

static void
sort_few(struct mailkey *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct mailkey one = keys[i];
        size_t at = i;

        for (; at > 0 && keys[at - 1].key > one.key; at--)
            keys[at] = keys[at - 1];
        keys[at] = one;
    }
}

static bool
sort_many(struct sorter *s)
{
    size_t(*counts)[DIGITS] = calloc(PASSES, sizeof *counts);

    if (!counts)
        return false;
    count_digits(s->keys, s->n, counts);
    for (int pass = 0; s->n && pass < PASSES; pass++)
        if (sort_digit(s->keys, s->other, s->n, pass * DIGIT, counts[pass]))
            sorter_swap(s);
    free(counts);
    return true;
}

/* Sorts by key, keeping the order of equals: the least digit first, where there
 * are more than counting them costs.  Time does not depend on what the keys are.
 * False: out of memory. */
static bool
sort_keys(struct sorter *s)
{
    if (s->n > FEW)
        return sort_many(s);
    sort_few(s->keys, s->n);
    return true;
}

/* By name ------------------------------------------------------------------- */

/* For qsort_r: keys whose times are equal. */
static int
compare_names(const void *x, const void *y, void *names)
{
    const struct mailnames *m = names;
    const struct mailkey *kx = x, *ky = y;
    const struct mailname *a = &m->rows[kx->row], *b = &m->rows[ky->row];
    const char *a_text = mailname_text(m, a), *b_text = mailname_text(m, b);
    int order = 0;

    if (kx->key == UINT64_MAX - 1)
        order = mailname_compare_numbers(a_text, a->len, b_text, b->len);
    if (!order)
        order = mailname_compare(a_text, a->len, b_text, b->len);
    return order ? order : (b->flags & MAILNAME_CUR) - (a->flags & MAILNAME_CUR);
}

/* Sorts each run of equal keys. */
static void
sort_runs(const struct mailnames *m, struct mailkey *keys, int (*compare)(const void *, const void *, void *))
{
    for (size_t from = 0, to; from < m->count; from = to) {
        for (to = from + 1; to < m->count && keys[to].key == keys[from].key;)
            to++;
        if (to - from > 1)
            qsort_r(keys + from, to - from, sizeof *keys, compare, (void *)(uintptr_t)m);
    }
}

/* Puts rows and inodes into the keys' order, where they are: each cycle of the
 * permutation is gone through once.  `to_do` marks rows that are not there yet. */
static void
arrange(struct mailnames *m, const struct mailkey *keys, struct mailkey *to_do)
{
    for (size_t i = 0; i < m->count; i++)
        to_do[i].row = true;
    for (size_t i = 0; i < m->count; i++) {
        struct mailname row = m->rows[i];
        uint64_t inode = m->inodes ? m->inodes[i] : 0;
        size_t to = i;

        if (!to_do[i].row)
            continue;
        for (size_t from = keys[to].row; from != i; to = from, from = keys[to].row) {
            m->rows[to] = m->rows[from];
            if (m->inodes)
                m->inodes[to] = m->inodes[from];
            to_do[to].row = false;
        }
        m->rows[to] = row;
        if (m->inodes)
            m->inodes[to] = inode;
        to_do[to].row = false;
    }
}

bool
mailsort_arrange(struct mailnames *m, const uint32_t *from)
{
    struct sorter s;
    bool good = sorter_init(&s, m->count);

    for (size_t i = 0; good && i < m->count; i++)
        s.other[i].row = false;
    for (size_t i = 0; good && i < m->count; i++) {
        good = from[i] < m->count && !s.other[from[i]].row;
        if (good) {
            s.other[from[i]].row = true;
            s.keys[i].row = from[i];
        }
    }
    if (good)
        arrange(m, s.keys, s.other);
    sorter_clear(&s);
    return good;
}

/* By time, then name. */
static bool
sort_by_time(struct mailnames *m, struct sorter *s)
{
    for (size_t i = 0; i < m->count; i++)
        s->keys[i] = (struct mailkey){m->sorts[i].time, (uint32_t)i};
    if (!sort_keys(s))
        return false;
    sort_runs(m, s->keys, compare_names);
    arrange(m, s->keys, s->other);
    return true;
}

static int
compare_bases(const void *x, const void *y, void *names)
{
    const struct mailnames *m = names;
    const struct mailkey *kx = x, *ky = y;
    const struct mailname *a = &m->rows[kx->row], *b = &m->rows[ky->row];
    int order = mailname_compare(mailname_text(m, a), a->base, mailname_text(m, b), b->base);

    return order ? order : (kx->row > ky->row) - (kx->row < ky->row);
}

/* Hands out the keys in s, sorted, or NULL. */
static struct mailkey *
finish_keys(const struct mailnames *m, struct sorter *s, bool good)
{
    struct mailkey *keys = NULL;

    if (good && sort_keys(s)) {
        sort_runs(m, s->keys, compare_bases);
        keys = s->keys;
        s->keys = NULL;
    }
    sorter_clear(s);
    return keys;
}

struct mailkey *
mailsort_names(struct mailnames *m)
{
    struct sorter s;
    bool good = sorter_init(&s, m->count) && sort_by_time(m, &s);

    for (size_t i = 0; good && i < m->count; i++)
        s.other[i] = (struct mailkey){m->sorts[s.keys[i].row].hash, (uint32_t)i};
    sorter_swap(&s);
    free(m->sorts);
    m->sorts = NULL;
    return finish_keys(m, &s, good);
}

struct mailkey *
mailsort_keys(const struct mailnames *m)
{
    struct sorter s;
    bool good = sorter_init(&s, m->count);

    for (size_t i = 0; good && i < m->count; i++) {
        const struct mailname *row = &m->rows[i];

        s.keys[i] = (struct mailkey){mailname_hash(mailname_text(m, row), row->base), (uint32_t)i};
    }
    return finish_keys(m, &s, good);
}
