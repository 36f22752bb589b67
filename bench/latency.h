/*
 * latency - times in a histogram of a fixed size, exact to three in a hundred.
 *
 * Pure.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stddef.h>
#include <stdint.h>

#define LATENCY_PARTS 32 /* of each power of two */

/* Zeroed, it is empty. */
struct latency {
    uint64_t counts[64 * LATENCY_PARTS];
    uint64_t total, max;
};

/* Adds a time in nanoseconds. */
void latency_add(struct latency *l, uint64_t ns);

/* The time that `share` (0 to 1) of all do not exceed, in milliseconds. */
double latency_at(const struct latency *l, double share);

#endif
