/* The table of what is asked of Lua, and the order in which it is asked. */
#include "conn.h"

#include "digest.h"
#include "log.h"
#include "reply.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NEUTRAL "the server had a problem with this; try again later"

/* Running a step */

/* Runs protected: the step's function, the connection's view, arguments. */
static int
push_step(lua_State *L, void *owner)
{
    struct conn *c = owner;

    lua_rawgetp(L, LUA_REGISTRYINDEX, c->host);
    lua_getfield(L, -1, c->step->name);
    lua_remove(L, -2);
    view_push(L, c);
    return 1 + (c->step->push ? c->step->push(L, c) : 0);
}

static void
log_failure(lua_State *L, struct conn *c, const char *step)
{
    conn_log(c, LOG_ERROR, step, "error", luaL_tolstring(L, 1, NULL));
}

static void
end_step(lua_State *L, enum task_status status, void *owner)
{
    struct conn *c = owner;
    const struct step *step = c->step;

    c->active = loop_now();
    conn_wake(c);
    if (status == TASK_FAILED) {
        if (step->fail)
            step->fail(c);
        c->settled = true;
        log_failure(L, c, step->name);
    } else if (step->take) {
        step->take(L, c);
    }
    c->settled = true;
}

/* What comes next, unless the client is gone meanwhile: then it is winding up. */
static void
go_on(struct conn *c, bool (*next)(struct conn *))
{
    if (!c->gone)
        c->next = next;
}

/* Starts a step; what c->next is now comes after it.  False: it waits. */
static bool
run(struct conn *c, const struct step *step)
{
    c->step = step;
    c->settled = false;
    task_start(c->host->tasks, &c->host->limits.callback, push_step, end_step, c, &c->task);
    return !c->task;
}

/* Runs a step, then goes on with next. */
static bool
run_then(struct conn *c, const struct step *step, bool (*next)(struct conn *))
{
    c->next = next;
    return run(c, step);
}

/* Answers */

static const char *
text_at(lua_State *L, int index, size_t *len)
{
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, len) : NULL;

    if (!text)
        *len = 0;
    return text;
}

/* A code as C's string, or NULL where it cannot be one; then *faults says so. */
static const char *
code_at(lua_State *L, int index, unsigned *faults)
{
    size_t len;
    const char *code = text_at(L, index, &len);

    if (!code || strlen(code) == len)
        return code;
    *faults |= REPLY_BAD_CODE;
    return NULL;
}

/* Ends the command with the text at an index and the code behind it. */
static void
answer(lua_State *L, struct conn *c, bool ok, int index)
{
    size_t len;
    const char *text = text_at(L, index, &len);
    unsigned faults = REPLY_CLEAN, more = REPLY_CLEAN;
    const char *code = code_at(L, index + 1, &faults);

    conn_say(c, session_answer(&c->session, ok, code, text ? text : "", len, &more, conn_reply(c)));
    conn_log_faults(c, faults | more);
}

static void
fail_command(struct conn *c)
{
    static const char text[] = NEUTRAL;

    conn_say(c, session_answer(&c->session, false, "SYS/TEMP", text, sizeof text - 1, NULL, conn_reply(c)));
}

/* connect, and the greeting */

static void
refuse_connection(struct conn *c, const char *code, const char *text)
{
    reply_err(conn_reply(c), code, text);
    conn_say(c, NEED_CLOSE);
    go_on(c, conn_serve);
}

static void
take_connect(lua_State *L, struct conn *c)
{
    size_t len, code_len;
    const char *text, *code;

    if (lua_type(L, 1) != LUA_TBOOLEAN || lua_toboolean(L, 1))
        return;
    text = text_at(L, 2, &len);
    code = text_at(L, 3, &code_len);
    conn_log_faults(c, reply_text(conn_reply(c), false, code, code_len, text ? text : "", len));
    conn_say(c, NEED_CLOSE);
    go_on(c, conn_serve);
}

static void
fail_connect(struct conn *c)
{
    refuse_connection(c, "SYS/TEMP", NEUTRAL);
}

static const struct step step_connect = {"connect", NULL, take_connect, fail_connect};

/* Of letters, digits, dots and one '@' only: mpop and nmap ignore others. */
static const char *
make_stamp(struct conn *c)
{
    unsigned long long r[2];

    c->stamp[0] = '\0';
    if (!c->host->apop || getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return NULL;
    snprintf(c->stamp, sizeof c->stamp, "<%016llx.%016llx@popd.lua>", r[0], r[1]);
    return c->stamp;
}

static bool
greet(struct conn *c)
{
    const char *stamp = make_stamp(c);

    conn_say(c, session_greet(&c->session, stamp, conn_reply(c)));
    go_on(c, conn_serve);
    return true;
}

static bool
takes_plain(const struct conn *c)
{
    return c->host->plain == PLAIN_ALWAYS || (c->host->plain == PLAIN_LOCAL && net_is_loopback(&c->peer));
}

bool
steps_begin(struct conn *c)
{
    const char *refusal = c->host->admit(c->host->owner, c);

    c->session.no_plain = !takes_plain(c);
    if (refusal) {
        conn_log(c, LOG_WARNING, "a connection was refused", "reason", refusal);
        refuse_connection(c, "SYS/TEMP", refusal);
        return true;
    }
    if (c->host->hooks.connect)
        return run_then(c, &step_connect, greet);
    return greet(c);
}

/* octets and uids */

static uint64_t
octets_at(lua_State *L, int index)
{
    int is = 0;
    lua_Integer n = lua_tointegerx(L, index, &is);

    return is && n >= 0 ? (uint64_t)n : MAILDROP_UNKNOWN;
}

static bool
lacks_octets(const struct maildrop *m, size_t number)
{
    return maildrop_octets(m, number) == MAILDROP_UNKNOWN;
}

static bool
lacks_uid(const struct maildrop *m, size_t number)
{
    size_t len;

    return !maildrop_uid(m, number, &len);
}

/* The numbers whose size or unique-id is wanted. */
static int
push_wanted(lua_State *L, struct conn *c, bool (*lacks)(const struct maildrop *, size_t))
{
    const struct maildrop *m = &c->session.maildrop;
    size_t from = c->session.number ? (size_t)c->session.number : 1;
    size_t to = c->session.number ? (size_t)c->session.number : m->count;
    lua_Integer n = 0;

    lua_newtable(L);
    for (size_t i = from; i <= to; i++) {
        if (!lacks(m, i))
            continue;
        lua_pushinteger(L, (lua_Integer)i);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int
push_octets(lua_State *L, struct conn *c)
{
    return push_wanted(L, c, lacks_octets);
}

static int
push_uids(lua_State *L, struct conn *c)
{
    return push_wanted(L, c, lacks_uid);
}

static bool
set_octets(lua_State *L, struct conn *c, size_t number)
{
    uint64_t octets = octets_at(L, -1);

    if (octets != MAILDROP_UNKNOWN && !maildrop_set_octets(&c->session.maildrop, number, octets))
        conn_log(c, LOG_WARNING, "size(mbox) is not the sum of its messages' sizes; the sum is told", NULL,
                 NULL);
    return octets != MAILDROP_UNKNOWN;
}

static bool
set_uid(lua_State *L, struct conn *c, size_t number)
{
    size_t len;
    const char *uid = text_at(L, -1, &len);

    return uid && maildrop_set_uid(&c->session.maildrop, number, uid, len);
}

/* Sets the values of the array at index 2, in the order in which they were
 * asked for: to the messages that lack one. */
static bool
set_wanted(lua_State *L, struct conn *c, bool (*lacks)(const struct maildrop *, size_t),
           bool (*set)(lua_State *, struct conn *, size_t))
{
    const struct maildrop *m = &c->session.maildrop;
    size_t from = c->session.number ? (size_t)c->session.number : 1;
    size_t to = c->session.number ? (size_t)c->session.number : m->count;
    lua_Integer n = 0;
    bool good = lua_istable(L, 2);

    for (size_t i = from; good && i <= to; i++) {
        if (!lacks(m, i))
            continue;
        lua_rawgeti(L, 2, ++n);
        good = set(L, c, i);
        lua_pop(L, 1);
    }
    return good;
}

static void
take_wanted(lua_State *L, struct conn *c, bool (*lacks)(const struct maildrop *, size_t),
            bool (*set)(lua_State *, struct conn *, size_t))
{
    if (!lua_toboolean(L, 1))
        answer(L, c, false, 2);
    else if (set_wanted(L, c, lacks, set))
        conn_say(c, session_resume(&c->session, conn_reply(c)));
    else
        fail_command(c);
}

static void
take_octets(lua_State *L, struct conn *c)
{
    take_wanted(L, c, lacks_octets, set_octets);
}

static void
take_uids(lua_State *L, struct conn *c)
{
    take_wanted(L, c, lacks_uid, set_uid);
}

static const struct step step_octets = {"octets", push_octets, take_octets, fail_command};
static const struct step step_uids = {"uids", push_uids, take_uids, fail_command};

/* login */

static int
push_login(lua_State *L, struct conn *c)
{
    const struct session *s = &c->session;

    lua_pushstring(L, s->kind == LOGIN_APOP ? "apop" : "user");
    lua_pushlstring(L, s->name.data ? s->name.data : "", s->name.len);
    lua_pushlstring(L, s->command.secret.at, s->command.secret.len);
    lua_pushstring(L, c->stamp);
    return 4;
}

/* Sets what the array at the top of the stack knows; false is for unknown. */
static void
set_known(lua_State *L, struct conn *c, bool (*set)(lua_State *, struct conn *, size_t))
{
    for (size_t i = 1; lua_istable(L, -1) && i <= c->session.maildrop.count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i);
        if (lua_toboolean(L, -1))
            set(L, c, i);
        lua_pop(L, 1);
    }
}

static bool
flag_of(lua_State *L, int index, const char *name)
{
    bool on;

    lua_pushstring(L, name);
    lua_rawget(L, index);
    on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

/* The table { count, total, sizes, uids, no_dele, renews } at index 2. */
static bool
open_maildrop(lua_State *L, struct conn *c)
{
    struct maildrop *m = &c->session.maildrop;

    lua_getfield(L, 2, "count");
    lua_getfield(L, 2, "total");
    if (!maildrop_open(m, (size_t)lua_tointeger(L, -2), octets_at(L, -1)))
        return false;
    lua_getfield(L, 2, "sizes");
    set_known(L, c, set_octets);
    lua_getfield(L, 2, "uids");
    set_known(L, c, set_uid);
    c->session.no_dele = flag_of(L, 2, "no_dele");
    c->renews = flag_of(L, 2, "renews");
    return true;
}

static void
fail_login(struct conn *c)
{
    static const char text[] = NEUTRAL;

    conn_say(c, session_refused(&c->session, "SYS/TEMP", text, sizeof text - 1, false, NULL, conn_reply(c)));
}

/* false, code, text, whether it counts as a failed try */
static void
refuse_login(lua_State *L, struct conn *c)
{
    size_t len;
    const char *text = text_at(L, 3, &len);
    unsigned faults = REPLY_CLEAN, more = REPLY_CLEAN;
    const char *code = code_at(L, 2, &faults);

    conn_say(c, session_refused(&c->session, code, text ? text : "", len, lua_toboolean(L, 4), &more,
                                conn_reply(c)));
    conn_log_faults(c, faults | more);
}

static void
take_login(lua_State *L, struct conn *c)
{
    if (!lua_toboolean(L, 1)) {
        refuse_login(L, c);
        return;
    }
    if (!lua_istable(L, 2) || !open_maildrop(L, c)) {
        conn_gone(c, "out of memory");
        return;
    }
    conn_say(c, session_opened(&c->session, conn_reply(c)));
    if (c->renews && c->host->limits.renew_interval > 0 && !c->gone)
        alarm_set(&c->renewal, c->host->limits.renew_interval);
}

static const struct step step_login = {"login", push_login, take_login, fail_login};

static bool
login(struct conn *c)
{
    struct slice *secret = &c->session.command.secret;

    c->entered = true;
    c->next = conn_serve;
    run(c, &step_login);
    /* Lua has it now; here it is not needed any more. */
    digest_wipe((void *)(uintptr_t)secret->at, secret->len);
    *secret = (struct slice){"", 0};
    return !c->task;
}

/* capa */

static int
push_capa(lua_State *L, struct conn *c)
{
    struct buf *lines = conn_reply(c);

    session_capa(&c->session, lines);
    lua_pushlstring(L, lines->data ? lines->data : "", lines->len);
    return 1;
}

static void
take_capa(lua_State *L, struct conn *c)
{
    struct buf *reply = conn_reply(c);
    unsigned faults = REPLY_CLEAN;

    reply_ok(reply, "capabilities follow");
    lua_settop(L, 1);
    for (lua_Integer i = 1; lua_istable(L, 1) && lua_rawgeti(L, 1, i) == LUA_TSTRING; i++) {
        size_t len;
        const char *line = lua_tolstring(L, -1, &len);

        faults |= reply_line(reply, line, len);
        lua_pop(L, 1);
    }
    reply_end(reply);
    conn_log_faults(c, faults);
    conn_say(c, session_done(&c->session));
}

static const struct step step_capa = {"capa", push_capa, take_capa, fail_command};

/* messages */

static int
push_message(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, (lua_Integer)c->session.number);
    if (c->session.command.verb != VERB_TOP)
        return 1;
    lua_pushinteger(L,
                    c->session.command.lines > INT64_MAX ? INT64_MAX : (lua_Integer)c->session.command.lines);
    return 2;
}

/* The source at an index is what is sent next, behind the line in `reply`. */
static void
send_source(struct conn *c, uint64_t lines, uint64_t number)
{
    dotstuff_init(&c->dots, lines);
    c->sending = number;
    go_on(c, conn_send);
}

static void
take_message(lua_State *L, struct conn *c)
{
    bool top = c->session.command.verb == VERB_TOP;

    c->source = source_hold(L, 1);
    if (!c->source) {
        answer(L, c, false, 2);
        return;
    }
    if (!outq_room(&c->out, DOTSTUFF_MAX(CONN_PIECE) + REPLY_MAX + DOTSTUFF_END_MAX)) /* one write for both */
        conn_gone(c, "out of memory");
    conn_say(c, session_sending(&c->session, conn_reply(c)));
    send_source(c, top ? c->session.command.lines : DOTSTUFF_ALL, top ? 0 : c->session.number);
}

static const struct step step_message = {"message", push_message, take_message, fail_command};

/* A function of the source itself is called, not one of the server's. */
static int
push_pull(lua_State *L, void *owner)
{
    struct conn *c = owner;

    source_push_pull(L, c->source);
    return 0;
}

static void
take_pull(lua_State *L, struct conn *c)
{
    lua_settop(L, 1);
    source_feed(L, c->source);
}

static void
fail_pull(struct conn *c)
{
    conn_gone(c, "a message failed midway");
}

static const struct step step_pull = {"get's function", NULL, take_pull, fail_pull};

bool
steps_pull(struct conn *c)
{
    c->step = &step_pull;
    c->settled = false;
    task_start(c->host->tasks, &c->host->limits.callback, push_pull, end_step, c, &c->task);
    return !c->task;
}

static int
push_close(lua_State *L, void *owner)
{
    struct conn *c = owner;

    source_push_close(L, c->source);
    return 0;
}

static const struct step step_release = {"a handle's close", NULL, NULL, NULL};

static bool
run_close(struct conn *c)
{
    c->step = &step_release;
    c->settled = false;
    task_start(c->host->tasks, &c->host->limits.callback, push_close, end_step, c, &c->task);
    return !c->task;
}

static int
call_drop(lua_State *L)
{
    struct conn *c = lua_touserdata(L, 1);

    source_drop(L, c->source);
    return 0;
}

static void
protect(struct conn *c, lua_CFunction f)
{
    lua_State *L = c->host->tasks->L;

    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
        return;
    conn_log(c, LOG_ERROR, "out of memory", "error", lua_tostring(L, -1));
    lua_pop(L, 1);
}

static void
drop_source(struct conn *c)
{
    protect(c, call_drop);
    c->source = NULL;
}

/* retrieved */

static int
push_sent(lua_State *L, struct conn *c)
{
    lua_pushinteger(L, (lua_Integer)c->sending);
    return 1;
}

static const struct step step_retrieved = {"retrieved", push_sent, NULL, NULL};

static bool
done(struct conn *c)
{
    conn_reply(c);
    conn_say(c, session_done(&c->session));
    go_on(c, conn_serve);
    return true;
}

static bool
after_source(struct conn *c)
{
    drop_source(c);
    if (c->sending && c->host->hooks.retrieved)
        return run_then(c, &step_retrieved, done);
    return done(c);
}

static void
check_octets(struct conn *c)
{
    char told[24], sent[24], text[80];
    uint64_t octets = c->sending ? maildrop_octets(&c->session.maildrop, (size_t)c->sending) : c->dots.octets;

    if (octets == c->dots.octets)
        return;
    snprintf(told, sizeof told, "%llu", (unsigned long long)octets);
    snprintf(sent, sizeof sent, "%llu", (unsigned long long)c->dots.octets);
    snprintf(text, sizeof text, "message %llu: told %s, sent %s", (unsigned long long)c->sending, told, sent);
    conn_log(c, LOG_WARNING, "the storage told a wrong size; the message was sent whole", "octets", text);
}

bool
steps_sent(struct conn *c)
{
    check_octets(c);
    if (source_has_close(c->source)) {
        c->next = after_source;
        return run_close(c);
    }
    return after_source(c);
}

/* the site's own commands */

static int
push_command(lua_State *L, struct conn *c)
{
    const struct command *command = &c->session.command;

    lua_pushlstring(L, command->keyword.at, command->keyword.len);
    lua_pushlstring(L, command->args.at ? command->args.at : "", command->args.len);
    lua_pushboolean(L, c->session.state == SESSION_TRANSACTION);
    return 3;
}

static void
take_command(lua_State *L, struct conn *c)
{
    size_t len;
    const char *text = text_at(L, 2, &len);

    if (lua_isnil(L, 1) || lua_isnone(L, 1)) {
        conn_say(c, session_unknown(&c->session, conn_reply(c)));
        return;
    }
    c->source = source_hold(L, 3);
    if (!c->source) {
        answer(L, c, lua_toboolean(L, 1), 2);
        return;
    }
    conn_log_faults(c, reply_text(conn_reply(c), true, NULL, 0, text ? text : "", len));
    conn_say(c, c->need);
    send_source(c, DOTSTUFF_ALL, 0);
}

static const struct step step_command = {"command", push_command, take_command, fail_command};

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
    size_t len;
    const char *text = text_at(L, 2, &len);

    if (lua_toboolean(L, 1) && lua_type(L, 1) == LUA_TBOOLEAN)
        return;
    c->update_error = strdup(text ? text : NEUTRAL);
}

static void
fail_update(struct conn *c)
{
    c->update_error = strdup("some deleted messages not removed");
}

static const struct step step_quit = {"quit", NULL, NULL, NULL};
static const struct step step_update = {"update", push_marked, take_update, fail_update};
static const struct step step_close = {"close", NULL, NULL, NULL};

static bool
quit_told(struct conn *c)
{
    conn_say(c, session_updated(&c->session, c->update_error, conn_reply(c)));
    go_on(c, conn_serve);
    return true;
}

/* The lock is given back before the reply: a client may open its next session
 * as soon as it has read that. */
static bool
quit_close(struct conn *c)
{
    c->entered = false;
    return run_then(c, &step_close, quit_told);
}

static bool
quit_update(struct conn *c)
{
    if (c->renewing) { /* a renew on the side, and close, in this order */
        c->next = quit_update;
        return false;
    }
    if (c->session.maildrop.kept == c->session.maildrop.count)
        return quit_close(c);
    return run_then(c, &step_update, quit_close);
}

static bool
quit(struct conn *c)
{
    alarm_stop(&c->renewal);
    if (c->host->hooks.quit)
        return run_then(c, &step_quit, quit_update);
    return quit_update(c);
}

bool
steps_serve(struct conn *c)
{
    switch (c->need) {
    case NEED_LOGIN:
        return login(c);
    case NEED_OCTETS:
        return run(c, &step_octets);
    case NEED_UIDS:
        return run(c, &step_uids);
    case NEED_CAPA:
        return run(c, &step_capa);
    case NEED_MESSAGE:
        return run(c, &step_message);
    case NEED_COMMAND:
        return run(c, &step_command);
    default:
        return quit(c);
    }
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
    else if (!c->gone && c->session.state == SESSION_TRANSACTION)
        alarm_set(&c->renewal, c->host->limits.renew_interval);
    conn_wake(c);
    if (status == TASK_FAILED)
        log_failure(L, c, "renew");
}

void
steps_renew(void *owner)
{
    struct conn *c = owner;

    if (!c->gone && !c->renewing)
        task_start(c->host->tasks, &c->host->limits.callback, push_renew, end_renew, c, &c->renewing);
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
    protect(c, call_view_close);
    c->dead = true;
    return false;
}

static bool
wind_close(struct conn *c)
{
    if (c->source)
        drop_source(c);
    if (c->renewing) {
        c->next = wind_close;
        return false;
    }
    if (c->entered) {
        c->entered = false;
        return run_then(c, &step_close, wind_close);
    }
    if (c->host->hooks.disconnect)
        return run_then(c, &step_disconnect, die);
    return die(c);
}

bool
steps_wind_up(struct conn *c)
{
    if (c->source && source_has_close(c->source)) {
        c->next = wind_close;
        return run_close(c);
    }
    return wind_close(c);
}
