/* How a session ends: QUIT, a lost lock, a client that is gone. */
#include "steps.h"

#include "log.h"

#include <lauxlib.h>
#include <stdlib.h>

#define CLOSE_TRIES 10

/* QUIT */

static int
push_marked(lua_State *L, struct conn *c)
{
    const struct maildrop *m = &c->session.maildrop;
    lua_Integer n = 0;

    lua_createtable(L, (int)(m->count - m->kept), 0);
    for (size_t i = maildrop_next_marked(m, 0); i; i = maildrop_next_marked(m, i)) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static void
take_update(lua_State *L, struct conn *c)
{
    c->update_failed = !(lua_isboolean(L, 1) && lua_toboolean(L, 1));
}

static void
fail_update(struct conn *c)
{
    c->update_failed = true;
}

static const struct step step_quit = {"quit", NULL, NULL, NULL};
static const struct step step_update = {"update", push_marked, take_update, fail_update};
/* Not even begun, for want of memory: it is tried again. */
static void
fail_close(struct conn *c)
{
    c->entered = c->close_tries++ < CLOSE_TRIES;
}

static const struct step step_close = {"close", NULL, NULL, fail_close};

static bool
has_marked(const struct conn *c)
{
    return c->session.maildrop.kept < c->session.maildrop.count;
}

static bool
quit_told(struct conn *c)
{
    const char *failure = has_marked(c) ? "some deleted messages not removed" : CONN_NEUTRAL;

    conn_say(c, session_updated(&c->session, c->update_failed ? failure : NULL, conn_reply(c)));
    step_go_on(c, conn_serve);
    return true;
}

/* The lock is given back before the reply: a client may open its next session
 * as soon as it has read that. */
static bool
quit_close(struct conn *c)
{
    c->entered = false;
    return step_run_then(c, &step_close, quit_told);
}

bool
leave_close(struct conn *c)
{
    c->entered = false;
    return step_run_then(c, &step_close, conn_serve);
}

static bool
quit_update(struct conn *c)
{
    if (c->renewing) { /* a renew on the side, and close, in this order */
        c->next = quit_update;
        return false;
    }
    /* A guard has tripped, or the lock is not ours any more: nothing is deleted. */
    c->update_failed = c->ending || (c->lost && has_marked(c));
    if (c->update_failed || !has_marked(c))
        return quit_close(c);
    return step_run_then(c, &step_update, quit_close);
}

bool
leave_quit(struct conn *c)
{
    steps_stop_renewing(c);
    if (c->host->hooks.quit)
        return step_run_then(c, &step_quit, quit_update);
    return quit_update(c);
}

/* renew */

static int
push_renew(lua_State *L, void *owner)
{
    struct conn *c = owner;

    lua_rawgetp(L, LUA_REGISTRYINDEX, c->host);
    lua_getfield(L, -1, "renew");
    lua_remove(L, -2);
    view_push(L, c);
    return 1;
}

static void
end_renew(lua_State *L, enum task_status status, void *owner)
{
    struct conn *c = owner;

    if (status != TASK_DONE || !lua_toboolean(L, 1))
        c->lost = true;
    leave_renew(c);
    conn_wake(c);
    if (status != TASK_DONE)
        step_log_failure(L, c, "renew");
}

static void
renew(void *owner)
{
    struct conn *c = owner;

    if (!c->gone && !c->renewing)
        task_start(c->host->tasks, &c->host->limits.callback, (uint64_t)c->id, push_renew, end_renew, c,
                   &c->renewing);
}

void
leave_renew(struct conn *c)
{
    double interval = c->host->limits.renew_interval;

    if (c->gone || c->lost || !c->renews || interval <= 0 || c->session.state != SESSION_TRANSACTION)
        return;
    if (!c->renewal && (c->renewal = malloc(sizeof *c->renewal)))
        alarm_init(c->renewal, c->host->loop, renew, c);
    if (c->renewal)
        alarm_set(c->renewal, interval);
    else
        conn_gone(c, "out of memory");
}

void
steps_stop_renewing(struct conn *c)
{
    if (c->renewal)
        alarm_stop(c->renewal);
    free(c->renewal);
    c->renewal = NULL;
}

/* the end */

static int
push_reason(lua_State *L, struct conn *c)
{
    lua_pushstring(L, c->gone);
    return 1;
}

static const struct step step_disconnect = {"disconnect", push_reason, NULL, NULL};

static int
call_view_close(lua_State *L)
{
    view_close(L, lua_touserdata(L, 1));
    return 0;
}

static bool
die(struct conn *c)
{
    step_protect(c, call_view_close);
    c->dead = true;
    return false;
}

static bool
wind_close(struct conn *c)
{
    if (c->source)
        deliver_drop(c);
    if (c->renewing) {
        c->next = wind_close;
        return false;
    }
    if (c->entered) {
        c->entered = false;
        return step_run_then(c, &step_close, wind_close);
    }
    if (c->host->hooks.disconnect)
        return step_run_then(c, &step_disconnect, die);
    return die(c);
}

bool
steps_wind_up(struct conn *c)
{
    return deliver_release(c, wind_close);
}
