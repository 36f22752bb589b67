/* Running what is asked of Lua, and answering with what came of it. */
#include "steps.h"

#include "fault.h"
#include "log.h"
#include "reply.h"

#include <lauxlib.h>
#include <string.h>

/* Running a step */

void
step_push(lua_State *L, struct conn *c, const char *name)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, c->host);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    view_push(L, c);
}

/* Runs protected: the step's function, the connection's view, arguments. */
static int
push_step(lua_State *L, void *owner)
{
    struct conn *c = owner;

    step_push(L, c, c->step->name);
    return 1 + (c->step->push ? c->step->push(L, c) : 0);
}

void
step_log_failure(lua_State *L, struct conn *c, const char *step)
{
    lua_settop(L, 1);
    view_push(L, c);
    fault_tell(L, "a callback failed", step);
}

static void
end_step(lua_State *L, enum task_status status, void *owner)
{
    struct conn *c = owner;
    const struct step *step = c->step;

    c->active = loop_now();
    conn_wake(c);
    if (status != TASK_DONE) {
        if (step->fail)
            step->fail(c);
        c->settled = true;
        if (status == TASK_STOPPED)
            conn_end(c, !step->fail);
        step_log_failure(L, c, step->name);
    } else if (step->take) {
        step->take(L, c);
    }
    c->settled = true;
}

void
step_go_on(struct conn *c, bool (*next)(struct conn *))
{
    if (!c->gone)
        c->next = next;
}

bool
step_run_function(struct conn *c, const struct step *step, task_push *push)
{
    struct task_limits limits = c->host->limits.callback;

    c->step = step;
    c->settled = false;
    limits.ours = push == push_step;
    task_start(c->host->tasks, &limits, (uint64_t)c->id, push, end_step, c, &c->task);
    return !c->task;
}

bool
step_run(struct conn *c, const struct step *step)
{
    return step_run_function(c, step, push_step);
}

bool
step_run_then(struct conn *c, const struct step *step, bool (*next)(struct conn *))
{
    c->next = next;
    return step_run(c, step);
}

/* Answers */

const char *
step_text(lua_State *L, int index, size_t *len)
{
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, len) : NULL;

    if (!text)
        *len = 0;
    return text;
}

const char *
step_code(lua_State *L, int index, unsigned *faults)
{
    size_t len;
    const char *code = step_text(L, index, &len);

    if (!code || strlen(code) == len)
        return code;
    *faults |= REPLY_BAD_CODE;
    return NULL;
}

void
step_answer(lua_State *L, struct conn *c, bool ok, int index)
{
    size_t len;
    const char *text = step_text(L, index, &len);
    unsigned faults = REPLY_CLEAN, more = REPLY_CLEAN;
    const char *code = step_code(L, index + 1, &faults);

    conn_say(c, session_answer(&c->session, ok, code, text ? text : "", len, &more, conn_reply(c)));
    conn_log_faults(c, faults | more);
}

void
step_fail_command(struct conn *c)
{
    static const char text[] = CONN_NEUTRAL;

    conn_say(c, session_answer(&c->session, false, "SYS/TEMP", text, sizeof text - 1, NULL, conn_reply(c)));
}

void
step_protect(struct conn *c, lua_CFunction f)
{
    lua_State *L = c->host->tasks->L;

    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
        return;
    conn_log(c, LOG_ERROR, "out of memory", "error", lua_tostring(L, -1));
    lua_pop(L, 1);
}

bool
steps_serve(struct conn *c)
{
    switch (c->need) {
    case NEED_LOGIN:
        return enter_login(c);
    case NEED_OCTETS:
        return enter_octets(c);
    case NEED_UIDS:
        return enter_uids(c);
    case NEED_CAPA:
        return deliver_capa(c);
    case NEED_MESSAGE:
        return deliver_message(c);
    case NEED_COMMAND:
        return deliver_command(c);
    default:
        return leave_quit(c);
    }
}

const char *
steps_name(const struct conn *c)
{
    return c->step ? c->step->name : "none";
}
