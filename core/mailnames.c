#include "mailnames.h"

#include "digest.h"

#include <stdlib.h>
#include <string.h>

#define NAME_MOST 255
#define UID_MOST 70
#define STORED_BITS (64 - MAILSIZE_ADDED_BITS)

/* Sizes --------------------------------------------------------------------- */

uint64_t
mailsize_pack(uint64_t stored, uint64_t sent)
{
    uint64_t added = sent - stored;

    if (sent < stored || stored >> STORED_BITS || added >> MAILSIZE_ADDED_BITS || added > stored + 2)
        return MAILSIZE_UNKNOWN;
    return stored << MAILSIZE_ADDED_BITS | added;
}

uint64_t
mailsize_stored(uint64_t size)
{
    return size >> MAILSIZE_ADDED_BITS;
}

uint64_t
mailsize_sent(uint64_t size)
{
    return mailsize_stored(size) + (size & ((UINT64_C(1) << MAILSIZE_ADDED_BITS) - 1));
}

/* Names --------------------------------------------------------------------- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The number at name[*at], which moves behind it.  One that is too big is as
 * big as can be. */
static uint64_t
take_number(const char *name, size_t len, size_t *at)
{
    uint64_t n = 0;

    for (; *at < len && is_digit(name[*at]); ++*at) {
        unsigned digit = (unsigned)(name[*at] - '0');

        n = n > (UINT64_MAX - 1 - digit) / 10 ? UINT64_MAX - 1 : n * 10 + digit;
    }
    return n;
}

uint64_t
mailname_time(const char *name, size_t len)
{
    size_t at = 0;

    return len && is_digit(name[0]) ? take_number(name, len, &at) : UINT64_MAX;
}

static size_t
base_len(const char *name, size_t len)
{
    const char *colon = memchr(name, ':', len);

    return colon ? (size_t)(colon - name) : len;
}

bool
mailname_has_flag(const char *name, size_t len, char flag)
{
    size_t at = base_len(name, len);

    return len - at > 3 && memcmp(name + at, ":2,", 3) == 0 && memchr(name + at + 3, flag, len - at - 3);
}

/* The number of a field ",X=n" that ends with the base or at another; false: none. */
static bool
field(const char *base, size_t len, char letter, uint64_t *n)
{
    const char *comma = memchr(base, ',', len);

    for (; comma; comma = memchr(comma + 1, ',', len - (size_t)(comma + 1 - base))) {
        size_t at = (size_t)(comma - base) + 3;

        if (at >= len || comma[1] != letter || comma[2] != '=' || !is_digit(base[at]))
            continue;
        *n = take_number(base, len, &at);
        if (at == len || base[at] == ',')
            return true;
    }
    return false;
}

/* No line end makes a message longer than twice its octets and two more, and
 * one that is sent as it is stored is rare enough to look. */
uint64_t
mailname_told(const char *base, size_t len)
{
    uint64_t stored, sent;

    if (!field(base, len, 'S', &stored) || !field(base, len, 'W', &sent) || sent <= stored)
        return MAILSIZE_UNKNOWN;
    return mailsize_pack(stored, sent);
}

/* RFC 1939, section 7. */
static bool
is_unique_id(const char *text, size_t len)
{
    if (len < 1 || len > UID_MOST)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return false;
    return true;
}

bool
mailname_is_known(const struct mailname *row)
{
    return row->size != MAILSIZE_UNKNOWN && !(row->flags & MAILNAME_TOLD);
}

const char *
mailname_text(const struct mailnames *m, const struct mailname *row)
{
    return m->text.data + row->at;
}

size_t
mailname_uid_at(const struct mailname *row)
{
    return row->at + (row->flags & MAILNAME_HASHED ? (size_t)row->len + 1 : 0);
}

const char *
mailname_uid(const struct mailnames *m, const struct mailname *row)
{
    return m->text.data + mailname_uid_at(row);
}

/* The list ------------------------------------------------------------------ */

struct mailnames *
mailnames_new(void)
{
    struct mailnames *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->holders = 1;
    return m;
}

void
mailnames_hold(struct mailnames *m)
{
    m->holders++;
}

void
mailnames_drop(struct mailnames *m)
{
    if (!m || --m->holders)
        return;
    free(m->rows);
    free(m->inodes);
    free(m->sorts);
    free(m->keys);
    buf_clear(&m->text);
    free(m);
}

void
mailnames_trim(struct mailnames *m)
{
    struct mailname *rows = m->count ? realloc(m->rows, m->count * sizeof *rows) : NULL;
    char *text = m->text.len ? realloc(m->text.data, m->text.len) : NULL;

    if (rows) {
        m->rows = rows;
        m->room = m->count;
    }
    if (text) {
        m->text.data = text;
        m->text.cap = m->text.len;
    }
}

static bool
grow_array(void *array, size_t size, size_t n)
{
    void **at = array, *bigger = realloc(*at, size * n);

    if (bigger)
        *at = bigger;
    return bigger != NULL;
}

static bool
make_room(struct mailnames *m)
{
    size_t n = m->room ? m->room * 2 : 64;

    if (m->count < m->room)
        return true;
    if (n >= MAILNAMES_SEVERAL || !grow_array(&m->rows, sizeof *m->rows, n) ||
        !grow_array(&m->inodes, sizeof *m->inodes, n) || !grow_array(&m->sorts, sizeof *m->sorts, n))
        return false;
    m->room = n;
    return true;
}

/* Puts a name into the text, and behind it what it is hashed to. */
static bool
add_text(struct mailnames *m, const char *name, size_t len, const char *uid, size_t uid_len)
{
    size_t at = m->text.len;

    buf_add(&m->text, name, len);
    buf_add(&m->text, "", 1);
    if (uid)
        buf_add(&m->text, uid, uid_len);
    if (!m->text.failed && m->text.len < UINT32_MAX)
        return true;
    m->text.len = at;
    return false;
}

bool
mailnames_add(struct mailnames *m, const char *name, size_t len, bool cur, uint64_t inode, uint64_t time)
{
    char hex[DIGEST_SHA256_HEX + 1];
    size_t base = base_len(name, len), at = m->text.len;
    bool plain = is_unique_id(name, base);
    uint64_t told;

    if (len < 1 || len > NAME_MOST)
        return true;
    if (!make_room(m) || (!plain && !digest_sha256(name, base, hex)) ||
        !add_text(m, name, len, plain ? NULL : hex, DIGEST_SHA256_HEX))
        return false;
    told = mailname_told(name, base);
    m->inodes[m->count] = inode;
    m->sorts[m->count] = (struct mailsort){time, mailname_hash(name, base)};
    m->rows[m->count++] = (struct mailname){
        .size = told,
        .at = (uint32_t)at,
        .len = (uint8_t)len,
        .base = (uint8_t)base,
        .flags = (uint8_t)((cur ? MAILNAME_CUR : 0) | (plain ? 0 : MAILNAME_HASHED) |
                           (told == MAILSIZE_UNKNOWN ? 0 : MAILNAME_TOLD)),
        .uid_len = (uint8_t)(plain ? base : DIGEST_SHA256_HEX),
    };
    return true;
}

bool
mailnames_set_uid(struct mailnames *m, size_t row, const char *uid, size_t len)
{
    struct mailname *r = &m->rows[row];
    char name[NAME_MOST];
    size_t at = m->text.len;

    if (m->lent || !is_unique_id(uid, len))
        return false;
    memcpy(name, mailname_text(m, r), r->len);
    if (!add_text(m, name, r->len, uid, len))
        return false;
    r->at = (uint32_t)at;
    r->flags |= MAILNAME_HASHED;
    r->uid_len = (uint8_t)len;
    return true;
}

void
mailnames_remove(struct mailnames *m, const uint32_t *numbers, size_t n)
{
    size_t to = 0, next = 0;

    for (size_t i = 0; i < m->count; i++) {
        if (next < n && numbers[next] == i) {
            next++;
            continue;
        }
        m->rows[to] = m->rows[i];
        if (m->inodes)
            m->inodes[to] = m->inodes[i];
        to++;
    }
    m->count = to;
}

void
mailnames_keep_last(struct mailnames *m, size_t n)
{
    size_t from = n < m->count ? m->count - n : 0;

    if (from == 0)
        return;
    memmove(m->rows, m->rows + from, (m->count - from) * sizeof *m->rows);
    if (m->inodes)
        memmove(m->inodes, m->inodes + from, (m->count - from) * sizeof *m->inodes);
    m->count -= from;
}

/* Sorting ------------------------------------------------------------------- */

#define DIGIT 11
#define FEW 64 /* keys */
#define DIGITS (1 << DIGIT)
#define PASSES 6

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

/* Numbers that are longer than 64 bits are told apart by their digits. */
static int
compare_numbers(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t from_a = 0, from_b = 0, to_a, to_b;

    while (from_a < a_len && a[from_a] == '0')
        from_a++;
    while (from_b < b_len && b[from_b] == '0')
        from_b++;
    for (to_a = from_a; to_a < a_len && is_digit(a[to_a]);)
        to_a++;
    for (to_b = from_b; to_b < b_len && is_digit(b[to_b]);)
        to_b++;
    if (to_a - from_a != to_b - from_b)
        return to_a - from_a < to_b - from_b ? -1 : 1;
    return memcmp(a + from_a, b + from_b, to_a - from_a);
}

static int
compare_octets(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order ? order : (a_len > b_len) - (a_len < b_len);
}

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
        order = compare_numbers(a_text, a->len, b_text, b->len);
    if (!order)
        order = compare_octets(a_text, a->len, b_text, b->len);
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
mailnames_arrange(struct mailnames *m, const uint32_t *from)
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
    int order = compare_octets(mailname_text(m, a), a->base, mailname_text(m, b), b->base);

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
mailnames_sort(struct mailnames *m)
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
mailnames_keys(const struct mailnames *m)
{
    struct sorter s;
    bool good = sorter_init(&s, m->count);

    for (size_t i = 0; good && i < m->count; i++) {
        const struct mailname *row = &m->rows[i];

        s.keys[i] = (struct mailkey){mailname_hash(mailname_text(m, row), row->base), (uint32_t)i};
    }
    return finish_keys(m, &s, good);
}

/* Mixes eight octets at a time.  It need not withstand anybody: lists are
 * joined in sorted order, which takes the same time whatever the hashes are. */
uint64_t
mailname_hash(const char *base, size_t len)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ len, word;

    for (; len >= 8; base += 8, len -= 8) {
        memcpy(&word, base, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, base, len);
    h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 32;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 29;
}

/* By base ------------------------------------------------------------------- */

static bool
same_base(const struct mailnames *m, const struct mailname *a, const struct mailnames *n,
          const struct mailname *b)
{
    return a->base == b->base && memcmp(mailname_text(m, a), mailname_text(n, b), a->base) == 0;
}

size_t
mailnames_mark_same(struct mailnames *m, const struct mailkey *keys)
{
    size_t n = 0;

    for (size_t i = 0; i + 1 < m->count; i++) {
        struct mailname *a = &m->rows[keys[i].row], *b = &m->rows[keys[i + 1].row];

        if (keys[i].key != keys[i + 1].key || !same_base(m, a, m, b))
            continue;
        n += a->flags & MAILNAME_SAME ? 1 : 2;
        a->flags |= MAILNAME_SAME;
        b->flags |= MAILNAME_SAME;
    }
    return n;
}

size_t
mailnames_find(const struct mailkey *keys, size_t count, uint64_t hash)
{
    size_t from = 0, to = count;

    while (from < to) {
        size_t mid = from + (to - from) / 2;

        if (keys[mid].key < hash)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

/* Where a row stands in keys against another list's: by hash, then by base. */
static int
compare_places(const struct mailnames *m, const struct mailkey *a, const struct mailnames *n,
               const struct mailkey *b)
{
    const struct mailname *x = &m->rows[a->row], *y = &n->rows[b->row];

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return compare_octets(mailname_text(m, x), x->base, mailname_text(n, y), y->base);
}

void
mailnames_follow(const struct mailnames *old, const struct mailkey *old_keys, const struct mailnames *now,
                 const struct mailkey *now_keys, uint32_t *of)
{
    size_t at = 0;

    for (size_t i = 0; i < old->count; i++) {
        const struct mailkey *key = &old_keys[i];
        int order = 1;

        while (at < now->count && (order = compare_places(now, &now_keys[at], old, key)) < 0)
            at++;
        if (at == now->count || order != 0)
            of[key->row] = 0;
        else if ((old->rows[key->row].flags | now->rows[now_keys[at].row].flags) & MAILNAME_SAME)
            of[key->row] = MAILNAMES_SEVERAL;
        else
            of[key->row] = now_keys[at].row + 1;
    }
}
