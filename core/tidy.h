/*
 * tidy - what is done once a Lua state has become quiet: its garbage is
 * collected, and memory that nothing is left in goes back to the system.
 *
 * Lua collects as it allocates, so what the last of a crowd left would stay as
 * long as nobody comes.  Turns of it are short, all of them take a small part of
 * the time, and where more comes again it lets that go first.
 */
#ifndef POPD_TIDY_H
#define POPD_TIDY_H

#include "loop.h"
#include "memory.h"

struct tidy {
    struct loop *loop;           /* borrowed; NULL: the state ends */
    lua_State *L;                /* borrowed */
    const struct memory *memory; /* borrowed */
    struct alarm alarm;
    struct turn turn;
    unsigned runs; /* of callbacks, since the alarm was set */
    bool fresh;    /* this time begins */
    int cycles;    /* of the collector, still to come */
    double spent;  /* seconds that this time took */
    double resume; /* loop time: not before this */
};

void tidy_init(struct tidy *t, struct loop *loop, lua_State *L, const struct memory *memory);
void tidy_stop(struct tidy *t);

/* A callback runs, or goes on: it may leave garbage. */
void tidy_stir(struct tidy *t);

#endif
