/* mailnames: whatever files are called, the order is one, unique-ids are of POP3's
 * form, sizes are possible ones, and a list followed by itself finds each file. */
#include "../core/mailsort.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* A name for each line; those whose first octet is odd are in cur.  Names of files
 * have no NUL. */
static struct mailnames *
list_lines(const uint8_t *data, size_t n)
{
    struct mailnames *m = mailnames_new();

    must(m != NULL);
    while (n > 0) {
        const uint8_t *end = memchr(data, '\n', n);
        size_t len = end ? (size_t)(end - data) : n;
        char *name = malloc(len + 1);

        must(name != NULL);
        memcpy(name, data, len);
        if (!memchr(name, '\0', len))
            must(mailnames_add(m, name, len, len && (name[0] & 1), n, mailname_time(name, len)));
        free(name);
        data += end ? len + 1 : len;
        n -= end ? len + 1 : len;
    }
    return m;
}

static void
check_row(const struct mailnames *m, const struct mailname *row)
{
    const char *uid = mailname_uid(m, row);

    must(row->len >= 1 && row->base <= row->len && mailname_text(m, row)[row->len] == '\0');
    must(row->uid_len >= 1 && row->uid_len <= 70);
    for (size_t i = 0; i < row->uid_len; i++)
        must(uid[i] >= 0x21 && uid[i] <= 0x7e);
    if (row->size != MAILSIZE_UNKNOWN)
        must(mailsize_sent(row->size) > mailsize_stored(row->size) &&
             mailsize_sent(row->size) <= 2 * mailsize_stored(row->size) + 2);
}

static void
check_order(const struct mailnames *m)
{
    for (size_t i = 0; i + 1 < m->count; i++) {
        const struct mailname *a = &m->rows[i], *b = &m->rows[i + 1];

        must(mailname_time(mailname_text(m, a), a->len) <= mailname_time(mailname_text(m, b), b->len));
    }
}

static void
check_following(const struct mailnames *m, const struct mailkey *keys)
{
    uint32_t *of = malloc((m->count + 1) * sizeof *of);

    must(of != NULL);
    mailnames_follow(m, keys, m, keys, of);
    for (size_t i = 0; i < m->count; i++)
        must(of[i] == (m->rows[i].flags & MAILNAME_SAME ? MAILNAMES_SEVERAL : i + 1));
    free(of);
}

/* Turned round twice it is what it was; what is no order is refused. */
static void
check_arranging(struct mailnames *m)
{
    uint32_t *from = malloc((m->count + 1) * sizeof *from);
    uint32_t first = m->count ? m->rows[0].at : 0;

    must(from != NULL);
    for (size_t i = 0; i < m->count; i++)
        from[i] = (uint32_t)(m->count - 1 - i);
    must(mailsort_arrange(m, from));
    must(!m->count || m->rows[m->count - 1].at == first);
    must(mailsort_arrange(m, from));
    must(!m->count || m->rows[0].at == first);
    if (m->count) {
        from[0] = m->count > 1 ? from[1] : 1;
        must(!mailsort_arrange(m, from));
    }
    free(from);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mailnames *m = list_lines(data, n);
    struct mailkey *keys = mailsort_names(m);

    must(keys != NULL);
    mailnames_mark_same(m, keys);
    for (size_t i = 0; i < m->count; i++)
        check_row(m, &m->rows[i]);
    check_order(m);
    check_following(m, keys);
    check_arranging(m);
    if (m->count)
        must(mailnames_set_uid(m, m->count / 2, "a", 1));
    mailnames_keep_last(m, m->count / 2);
    mailnames_trim(m);
    m = mailnames_pack(m);
    if (m->count)
        must(mailnames_set_uid(m, m->count / 2, "b", 1) && *mailname_uid(m, &m->rows[m->count / 2]) == 'b');
    for (size_t i = 0; i < m->count; i++)
        check_row(m, &m->rows[i]);
    free(keys);
    mailnames_drop(m);
    return 0;
}
