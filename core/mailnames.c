#include "mailnames.h"

#include "digest.h"

#include <stdlib.h>
#include <string.h>

#define NAME_MOST 255
#define PACK_MOST 4096 /* octets that are copied rather than cut to size where they are */

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

static void
free_content(struct mailnames *m)
{
    if (m->packed)
        return;
    free(m->rows);
    buf_clear(&m->text);
}

void
mailnames_drop(struct mailnames *m)
{
    if (!m || --m->holders)
        return;
    free_content(m);
    free(m->inodes);
    free(m->sorts);
    free(m->keys);
    free(m);
}

/* Copies rows and text to `room`. */
static void
move_content(struct mailnames *m, char *room)
{
    size_t rows = m->count * sizeof *m->rows, text = m->text.len;

    memcpy(room, m->rows, rows);
    memcpy(room + rows, m->text.data, text);
    m->rows = (struct mailname *)room;
    m->room = m->count;
    m->text = (struct buf){.data = room + rows, .len = text, .cap = text};
}

static size_t
size_of(const struct mailnames *m)
{
    return m->count * sizeof *m->rows + m->text.len;
}

static bool
is_small(const struct mailnames *m)
{
    return m->count > 0 && size_of(m) <= PACK_MOST;
}

struct mailnames *
mailnames_pack(struct mailnames *m)
{
    bool may = m->holders == 1 && !m->packed && is_small(m);
    struct mailnames *packed = may ? malloc(sizeof *packed + size_of(m)) : NULL;

    if (!packed)
        return m;
    *packed = *m;
    move_content(packed, (char *)(packed + 1));
    packed->packed = true;
    free_content(m);
    free(m);
    return packed;
}

/* What has been packed is to grow.  False: out of memory. */
static bool
unpack(struct mailnames *m)
{
    struct mailname *rows = m->packed ? malloc(m->count * sizeof *rows + 1) : NULL;
    struct buf text = {0};

    if (!m->packed)
        return true;
    buf_add(&text, m->text.data, m->text.len);
    if (!rows || text.failed) {
        free(rows);
        buf_clear(&text);
        return false;
    }
    m->rows = memcpy(rows, m->rows, m->count * sizeof *rows);
    m->text = text;
    m->packed = false;
    return true;
}

void
mailnames_trim(struct mailnames *m)
{
    bool may = m->count > 0 && !m->packed && !is_small(m);
    struct mailname *rows = may ? realloc(m->rows, m->count * sizeof *rows) : NULL;
    char *text = may ? realloc(m->text.data, m->text.len) : NULL;

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
    m->room = (uint32_t)n;
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
    size_t base = mailname_base(name, len), at = m->text.len;
    bool plain = mailname_is_uid(name, base);
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

const char *
mailname_text(const struct mailnames *m, const struct mailname *row)
{
    return m->text.data + row->at;
}

const char *
mailname_uid(const struct mailnames *m, const struct mailname *row)
{
    return m->text.data + mailname_uid_at(row);
}

bool
mailnames_set_uid(struct mailnames *m, size_t row, const char *uid, size_t len)
{
    struct mailname *r;
    char name[NAME_MOST];
    size_t at = m->text.len;

    if (m->lent || !mailname_is_uid(uid, len) || !unpack(m))
        return false;
    r = &m->rows[row];
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
    m->count = (uint32_t)to;
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
    m->count -= (uint32_t)from;
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
    return mailname_compare(mailname_text(m, x), x->base, mailname_text(n, y), y->base);
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
