#include "ticket.h"

#include "digest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct tickets {
    unsigned held;
    size_t count;
    struct ticket_key keys[TICKET_KEYS_MAX];
};

static bool
random_octets(void *to, size_t n)
{
    return getrandom(to, n, 0) == (ssize_t)n;
}

static bool
make_key(struct ticket_key *k)
{
    k->made = time(NULL);
    return random_octets(k->name, sizeof k->name) && random_octets(k->secret, sizeof k->secret);
}

struct tickets *
tickets_new(void)
{
    struct tickets *ts = calloc(1, sizeof *ts);

    if (!ts)
        return NULL;
    ts->held = ts->count = 1;
    if (make_key(&ts->keys[0]))
        return ts;
    tickets_drop(ts);
    return NULL;
}

struct tickets *
tickets_of_keys(const unsigned char *keys, size_t n)
{
    struct tickets *ts = calloc(1, sizeof *ts);

    if (!ts)
        return NULL;
    ts->held = 1;
    ts->count = n < TICKET_KEYS_MAX ? n : TICKET_KEYS_MAX;
    for (size_t i = 0; i < ts->count; i++) {
        memcpy(ts->keys[i].name, keys + i * TICKET_KEY, TICKET_NAME);
        memcpy(ts->keys[i].secret, keys + i * TICKET_KEY + TICKET_NAME, TICKET_SECRET);
    }
    return ts;
}

struct tickets *
tickets_hold(struct tickets *ts)
{
    ts->held++;
    return ts;
}

void
tickets_drop(struct tickets *ts)
{
    if (!ts || --ts->held > 0)
        return;
    digest_wipe(ts, sizeof *ts);
    free(ts);
}

/* One of our own that is old enough becomes the second, which opens what it
 * sealed for as long as that may be used. */
const struct ticket_key *
tickets_sealing(struct tickets *ts)
{
    struct ticket_key fresh;

    if (ts->keys[0].made == 0 || time(NULL) - ts->keys[0].made < TICKET_LIFETIME || !make_key(&fresh))
        return &ts->keys[0];
    ts->keys[1] = ts->keys[0];
    ts->keys[0] = fresh;
    ts->count = 2;
    digest_wipe(&fresh, sizeof fresh);
    return &ts->keys[0];
}

const struct ticket_key *
tickets_find(const struct tickets *ts, const unsigned char name[TICKET_NAME])
{
    for (size_t i = 0; i < ts->count; i++)
        if (memcmp(ts->keys[i].name, name, TICKET_NAME) == 0)
            return &ts->keys[i];
    return NULL;
}
