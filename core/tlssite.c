#include "tlssite.h"

#include "host.h"
#include "tlsserver.h"

#include <stdlib.h>
#include <string.h>

static char *
lower_copy(const char *text)
{
    char *copy = strdup(text);

    for (char *c = copy; c && *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return copy;
}

static bool
take_hosts(struct tlssite_setup *s, const struct tlssite_spec *spec)
{
    s->hosts = calloc(spec->pair_count, sizeof *s->hosts);
    if (!s->hosts)
        return false;
    s->pair_count = spec->pair_count;
    for (size_t i = 0; i < spec->pair_count; i++)
        if (spec->pairs[i].host && !(s->hosts[i] = lower_copy(spec->pairs[i].host)))
            return false;
    return true;
}

bool
tlssite_each_suite(const char *suites, bool (*f)(void *owner, const char *name, size_t len), void *owner)
{
    size_t len;

    for (const char *at = suites; at && *at; at += len) {
        at += strspn(at, " ");
        len = strcspn(at, " ");
        if (len > 0 && !f(owner, at, len))
            return false;
    }
    return true;
}

/* Tickets */

static struct tickets *
load_ticket_keys(const char *path, char why[TLSKIT_WHY])
{
    size_t n;
    unsigned char *keys = tlskit_read(path, &n, why);
    struct tickets *tickets;

    if (!keys)
        return NULL;
    n--; /* the NUL */
    if (n == 0 || n % TICKET_KEY || n / TICKET_KEY > TICKET_KEYS_MAX) {
        tlskit_refuse(why, "%s: ticket keys are 1 to %d times %d random octets; it has %zu", path,
                      TICKET_KEYS_MAX, TICKET_KEY, n);
        tickets = NULL;
    } else if (!(tickets = tickets_of_keys(keys, n / TICKET_KEY))) {
        tlskit_refuse(why, "out of memory");
    }
    tlskit_free(keys);
    return tickets;
}

static uint64_t
mix(uint64_t sum, unsigned octet)
{
    return (sum ^ octet) * 1099511628211u;
}

/* One number for what decides which suite is chosen: the list, and each name's
 * kind of key, in whatever order the names stand. */
static uint64_t
fit_of(const struct tlssite_setup *s)
{
    uint64_t sum = 14695981039346656037u, fit;

    for (const int *suite = tlsserver_suites(s->server); *suite; suite++)
        sum = mix(mix(sum, (unsigned)*suite >> 8), (unsigned)*suite & 255);
    fit = sum;
    for (size_t i = 0; i < s->pair_count; i++) {
        uint64_t one = mix(sum, tlsserver_key_kind(s->server, i));

        for (const char *at = s->hosts[i]; at && *at; at++)
            one = mix(one, (unsigned char)*at);
        fit += one;
    }
    return fit;
}

/* A client that shows a certificate is not given tickets: TLS 1.3 would bring
 * back its session without its name. */
static bool
load_tickets(struct tlssite_setup *s, const struct tlssite_spec *spec, const struct tlssite_setup *before,
             char why[TLSKIT_WHY])
{
    if (spec->client_ca)
        return true;
    if (spec->ticket_keys)
        s->tickets = load_ticket_keys(spec->ticket_keys, why);
    else if (before && before->tickets)
        s->tickets = tickets_hold(before->tickets);
    else if (!(s->tickets = tickets_new()))
        tlskit_refuse(why, "out of memory");
    if (!s->tickets)
        return false;
    s->ticket_context = (struct ticket_context){.tickets = s->tickets, .fit = fit_of(s)};
    tlsserver_give_tickets(s->server, &s->ticket_context);
    return true;
}

/* Setups */

static bool
set_up(struct tlssite_setup *s, const struct tlssite_spec *spec, const struct tlssite_setup *before,
       char why[TLSKIT_WHY])
{
    if (!take_hosts(s, spec))
        return tlskit_refuse(why, "out of memory");
    s->server = tlsserver_new(spec, s, why);
    return s->server && load_tickets(s, spec, before, why);
}

struct tlssite_setup *
tlssite_setup_hold(struct tlssite_setup *setup)
{
    setup->held++;
    return setup;
}

void
tlssite_setup_drop(struct tlssite_setup *s)
{
    if (!s || --s->held > 0)
        return;
    tlsserver_free(s->server);
    for (size_t i = 0; i < s->pair_count; i++)
        free(s->hosts[i]);
    free(s->hosts);
    tickets_drop(s->tickets);
    free(s);
}

size_t
tlssite_pair_for(const struct tlssite_setup *s, const char *host, size_t len)
{
    size_t found = 0;

    for (size_t i = 1; i < s->pair_count; i++) {
        if (!host_is(s->hosts[i], host, len))
            continue;
        if (s->hosts[i][0] != '*')
            return i;
        found = i;
    }
    return found;
}

/* Sites */

struct tlssite *
tlssite_new(void)
{
    struct tlssite *site = calloc(1, sizeof *site);

    if (site)
        site->held = 1;
    return site;
}

struct tlssite *
tlssite_hold(struct tlssite *site)
{
    site->held++;
    return site;
}

void
tlssite_drop(struct tlssite *site)
{
    if (!site || --site->held > 0)
        return;
    tlssite_setup_drop(site->setup);
    free(site);
}

bool
tlssite_load(struct tlssite *site, const struct tlssite_spec *spec, char why[TLSKIT_WHY])
{
    struct tlssite_setup *fresh = calloc(1, sizeof *fresh);

    if (!fresh)
        return tlskit_refuse(why, "out of memory");
    fresh->held = 1;
    if (!set_up(fresh, spec, site->setup, why)) {
        tlssite_setup_drop(fresh);
        return false;
    }
    tlssite_setup_drop(site->setup);
    site->setup = fresh;
    return true;
}
