#include "latency.h"

/* Small numbers are their own bucket; others are told by their first six bits. */
static size_t
bucket_of(uint64_t ns)
{
    unsigned shift = 0;

    while (ns >> shift >= 2 * LATENCY_PARTS)
        shift++;
    return shift * LATENCY_PARTS + (size_t)(ns >> shift);
}

/* The most that a bucket holds. */
static uint64_t
bucket_top(size_t bucket)
{
    size_t shift = bucket < 2 * LATENCY_PARTS ? 0 : bucket / LATENCY_PARTS - 1;

    return ((uint64_t)(bucket - shift * LATENCY_PARTS + 1) << shift) - 1;
}

void
latency_add(struct latency *l, uint64_t ns)
{
    l->counts[bucket_of(ns)]++;
    l->total++;
    if (ns > l->max)
        l->max = ns;
}

double
latency_at(const struct latency *l, double share)
{
    uint64_t seen = 0, wanted = (uint64_t)(share * (double)l->total);
    size_t bucket = 0;

    while (bucket < sizeof l->counts / sizeof *l->counts - 1 && (seen += l->counts[bucket]) <= wanted)
        bucket++;
    return (double)(bucket_top(bucket) < l->max ? bucket_top(bucket) : l->max) / 1e6;
}
