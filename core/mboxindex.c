#include "mboxindex.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 64

/* What a scan calls knows the index, and who feeds it. */
struct feeding {
    struct mboxindex *index;
    void *owner;
};

static bool
make_room(struct mboxindex *x)
{
    size_t room = x->room ? x->room * 2 : FIRST_ROOM;
    struct mboxscan_mail *mail;

    if (x->count < x->room)
        return true;
    mail = realloc(x->mail, room * sizeof *mail);
    if (!mail)
        return false;
    x->mail = mail;
    x->room = room;
    return true;
}

static bool
on_found(void *owner, const struct mboxscan_mail *mail)
{
    struct mboxindex *x = ((struct feeding *)owner)->index;

    if (!make_room(x))
        return false;
    x->mail[x->count++] = *mail;
    x->octets += mail->octets;
    return true;
}

static bool
on_ends_at(void *owner, uint64_t offset)
{
    struct feeding *feeding = owner;

    return feeding->index->ends_at(feeding->owner, offset);
}

static void
begin(struct mboxindex *x, uint64_t offset)
{
    mboxscan_clear(&x->scan);
    mboxscan_init(&x->scan, x->scan.format, offset);
    x->scan.found = on_found;
    x->scan.ends_at = on_ends_at;
}

void
mboxindex_init(struct mboxindex *x, enum mboxscan_format format, bool (*ends_at)(void *, uint64_t))
{
    *x = (struct mboxindex){.scan = {.format = format}, .ends_at = ends_at};
    begin(x, 0);
}

void
mboxindex_clear(struct mboxindex *x)
{
    mboxscan_clear(&x->scan);
    free(x->mail);
    mboxindex_init(x, x->scan.format, x->ends_at);
}

void
mboxindex_cut(struct mboxindex *x, size_t kept)
{
    uint64_t outside = x->count ? x->scan.outside : 0;
    uint64_t start = kept < x->count ? x->mail[kept].start : 0;

    if (kept >= x->count && x->count)
        return;
    for (size_t i = kept; i < x->count; i++)
        x->octets -= x->mail[i].octets;
    begin(x, start);
    x->scan.outside = outside;
    x->count = kept < x->count ? kept : 0;
}

bool
mboxindex_feed(struct mboxindex *x, void *owner, const char *in, size_t n)
{
    struct feeding feeding = {x, owner};
    bool ok;

    x->scan.owner = &feeding;
    ok = mboxscan_feed(&x->scan, in, n);
    x->scan.owner = NULL;
    return ok;
}

/* By id; those of one id as they stand in the file. */
static int
compare(const void *a, const void *b)
{
    const struct mboxscan_mail *x = *(struct mboxscan_mail *const *)a, *y = *(struct mboxscan_mail *const *)b;
    int order = memcmp(x->id, y->id, sizeof x->id);

    return order ? order : x->start < y->start ? -1 : x->start > y->start;
}

/* Messages of one id are counted in their order. */
static bool
number(struct mboxindex *x)
{
    struct mboxscan_mail **sorted = malloc((x->count + 1) * sizeof *sorted);

    if (!sorted)
        return false;
    for (size_t i = 0; i < x->count; i++)
        sorted[i] = &x->mail[i];
    qsort(sorted, x->count, sizeof *sorted, compare);
    if (x->count > 0)
        sorted[0]->nth = 1;
    for (size_t i = 1; i < x->count; i++) { /* from 1: gcc 14 loads what is before the first all the same */
        bool again = memcmp(sorted[i]->id, sorted[i - 1]->id, sizeof sorted[i]->id) == 0;

        sorted[i]->nth = again ? sorted[i - 1]->nth + 1 : 1;
    }
    free(sorted);
    return true;
}

bool
mboxindex_end(struct mboxindex *x)
{
    struct feeding feeding = {x, NULL};
    bool ok;

    x->scan.owner = &feeding;
    ok = mboxscan_end(&x->scan) && number(x);
    x->scan.owner = NULL;
    return ok;
}

uint64_t
mboxindex_next(const struct mboxindex *x, size_t i)
{
    return i + 1 < x->count ? x->mail[i + 1].start : x->scan.at;
}
