#include "tidy.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* So few callbacks run in so many seconds: then it is quiet. */
#define FEW 10
#define QUIET 0.1

/* Seconds of a turn; and the least time from one tidying to the next, in its own. */
#define TURN 0.0005
#define SHARE 20

/* The one under way, which passes over what became garbage since it began; a whole
 * one; and one for what finalizers let go of. */
#define CYCLES 3

static void
trim_malloc(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void
set_alarm(struct tidy *t)
{
    double left = t->resume - loop_now();

    t->runs = 0;
    alarm_set(&t->alarm, left > QUIET ? left : QUIET);
}

static void
end(struct tidy *t)
{
    t->resume = loop_now() + t->spent * SHARE;
    t->spent = 0;
    t->cycles = 0;
}

/* In generations a step has no end to wait for: all at once, as Lua does then. */
static bool
by_steps(lua_State *L)
{
    if (lua_gc(L, LUA_GCINC, 0, 0, 0) == LUA_GCINC)
        return true;
    lua_gc(L, LUA_GCGEN, 0, 0); /* a whole collection */
    return false;
}

/* One that the script has stopped stays so. */
static int
cycles_of(lua_State *L)
{
    return lua_gc(L, LUA_GCISRUNNING) && by_steps(L) ? CYCLES : 0;
}

/* False: all is done. */
static bool
go_on(struct tidy *t, double until)
{
    if (t->fresh)
        t->cycles = cycles_of(t->L);
    t->fresh = false;
    while (t->cycles > 0 || memory_trim(t->memory, t->L)) {
        if (t->cycles > 0)
            t->cycles -= lua_gc(t->L, LUA_GCSTEP, 0);
        if (loop_now() >= until)
            return true;
    }
    trim_malloc();
    return false;
}

static void
on_turn(void *owner)
{
    struct tidy *t = owner;
    double began = loop_now();
    bool goes_on;

    if (t->runs > FEW) {
        end(t);
        set_alarm(t);
        return;
    }
    goes_on = go_on(t, began + TURN);
    t->spent += loop_now() - began;
    if (goes_on)
        turn_queue(&t->turn, t->loop);
    else
        end(t);
}

static void
on_alarm(void *owner)
{
    struct tidy *t = owner;

    if (t->runs > FEW) {
        set_alarm(t);
        return;
    }
    t->runs = 0;
    t->fresh = true;
    turn_queue(&t->turn, t->loop);
}

void
tidy_init(struct tidy *t, struct loop *loop, lua_State *L, const struct memory *memory)
{
    *t = (struct tidy){.loop = loop, .L = L, .memory = memory, .turn = {.run = on_turn, .owner = t}};
    alarm_init(&t->alarm, loop, on_alarm, t);
    t->alarm.weak = true;
}

void
tidy_stop(struct tidy *t)
{
    if (!t->loop)
        return;
    alarm_stop(&t->alarm);
    turn_cancel(&t->turn, t->loop);
    t->loop = NULL;
}

void
tidy_stir(struct tidy *t)
{
    if (t->loop && !t->alarm.link && !t->turn.link)
        set_alarm(t);
    t->runs++;
}
