/* What a client gets: messages, CAPA's lines where the site edits them, the
 * replies of the site's own commands. */
#include "steps.h"

#include "digest.h"
#include "log.h"
#include "maillist.h"
#include "reply.h"
#include "say.h"

#include <stdio.h>

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
    c->untaken = c->gone ? 0 : c->host->scratch.len;
    c->silent_since = 0;
    c->sending = number;
    step_go_on(c, send_pieces);
}

/* One chunk for the status line and the first piece, so that they leave in one
 * write; no more of it than a small message needs. */
static bool
make_room(struct conn *c)
{
    uint64_t octets = maildrop_octets(&c->session.maildrop, (size_t)c->session.number);
    size_t first = octets < CONN_PIECE ? (size_t)octets : octets == MAILDROP_UNKNOWN ? 0 : CONN_PIECE;

    return outq_room(&c->out, REPLY_MAX + DOTSTUFF_MAX(first) + DOTSTUFF_END_MAX, &c->host->spare) != NULL;
}

static void
send_message(struct conn *c)
{
    bool top = c->session.command.verb == VERB_TOP;

    if (!make_room(c))
        conn_gone(c, "out of memory");
    conn_say(c, session_sending(&c->session, conn_reply(c)));
    send_source(c, top ? c->session.command.lines : DOTSTUFF_ALL, top ? 0 : c->session.number);
}

static void
take_message(lua_State *L, struct conn *c)
{
    c->source = source_hold(L, 1);
    if (c->source)
        send_message(c);
    else
        step_answer(L, c, false, 2);
}

static const struct step step_message = {"message", push_message, take_message, step_fail_command};

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
    if (!steps_take_back(c))
        conn_gone(c, "a message failed midway");
}

static const struct step step_pull = {"get's function", NULL, take_pull, fail_pull};

bool
steps_pull(struct conn *c)
{
    return step_run_function(c, &step_pull, push_pull);
}

static int
push_close(lua_State *L, void *owner)
{
    struct conn *c = owner;

    source_push_close(L, c->source);
    return 0;
}

static const struct step step_release = {"a handle's close", NULL, NULL, NULL};

/* An object's close is always called, once. */
bool
deliver_release(struct conn *c, bool (*next)(struct conn *))
{
    if (!c->source || !source_has_close(c->source))
        return next(c);
    c->next = next;
    return step_run_function(c, &step_release, push_close);
}

static bool
after_failure(struct conn *c)
{
    deliver_drop(c);
    step_go_on(c, conn_serve);
    return true;
}

static bool
give_up(struct conn *c)
{
    return deliver_release(c, after_failure);
}

static void
take_back(struct conn *c)
{
    outq_take_back(&c->out, c->untaken);
    c->untaken = 0;
}

bool
steps_take_back(struct conn *c)
{
    if (c->untaken == 0)
        return false;
    take_back(c);
    step_fail_command(c);
    step_go_on(c, give_up);
    return true;
}

static int
call_drop(lua_State *L)
{
    struct conn *c = lua_touserdata(L, 1);

    source_drop(L, c->source);
    return 0;
}

void
deliver_drop(struct conn *c)
{
    if (!source_free(c->source))
        step_protect(c, call_drop);
    c->source = NULL;
}

bool
steps_message_anew(struct conn *c)
{
    take_back(c);
    deliver_drop(c);
    step_go_on(c, conn_serve);
    return step_run(c, &step_message);
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
    step_go_on(c, conn_serve);
    return true;
}

static bool
after_source(struct conn *c)
{
    deliver_drop(c);
    if (c->sending && c->host->hooks.retrieved)
        return step_run_then(c, &step_retrieved, done);
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
    return deliver_release(c, after_source);
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
    static const char follow[] = "capabilities follow";
    struct buf *reply = conn_reply(c);
    unsigned faults = REPLY_CLEAN;

    say_text(&c->session, true, NULL, follow, sizeof follow - 1, reply);
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

static const struct step step_capa = {"capa", push_capa, take_capa, step_fail_command};

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
    const char *text = step_text(L, 2, &len);

    if (lua_isnil(L, 1) || lua_isnone(L, 1)) {
        snprintf(c->command, sizeof c->command, "unknown");
        conn_say(c, session_unknown(&c->session, conn_reply(c)));
        return;
    }
    c->source = source_hold(L, 3);
    if (!c->source) {
        step_answer(L, c, lua_toboolean(L, 1), 2);
        return;
    }
    conn_log_faults(c, say_text(&c->session, true, NULL, text ? text : "", len, conn_reply(c)));
    conn_say(c, c->need);
    send_source(c, DOTSTUFF_ALL, 0);
}

static const struct step step_command = {"command", push_command, take_command, step_fail_command};

/* What steps.place notes in the session's table. */
enum { PLACE_STORAGE = 1, PLACE_GET, PLACE_LIST, PLACE_DIR };

/* Whether that is good still: of a storage that is a plain table, without a `top` of its own
 * if that is asked for, and whose `get` is the one that it was noted of. */
static bool
is_placed(lua_State *L, const struct conn *c)
{
    lua_settop(L, 2);
    if (lua_rawgeti(L, 2, PLACE_STORAGE) != LUA_TTABLE || lua_getmetatable(L, 3))
        return false;
    if (c->session.command.verb == VERB_TOP && lua_getfield(L, 3, "top") != LUA_TNIL)
        return false;
    lua_rawgeti(L, 2, PLACE_GET);
    lua_getfield(L, 3, "get");
    return lua_rawequal(L, -1, -2);
}

/* Has it noted anew.  False: there is nothing to note. */
static bool
place(lua_State *L, const struct conn *c)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, c->host);
    lua_getfield(L, -1, "place");
    lua_pushvalue(L, 2);
    lua_call(L, 1, 0);
    return is_placed(L, c);
}

/* Runs protected: what a storage of ours offers in place of its `get` runs no script and
 * does not wait, so that it needs no task. */
static int
call_open(lua_State *L)
{
    struct conn *c = lua_touserdata(L, 1);
    struct maillist_file file;

    view_push_private(L, c);
    if (!lua_istable(L, 2) || !(is_placed(L, c) || place(L, c)))
        return 0;
    lua_rawgeti(L, 2, PLACE_LIST);
    lua_rawgeti(L, 2, PLACE_DIR);
    if (maillist_open_file(L, -2, c->session.number, -1, c->host->dirs, &file) && file.fd >= 0)
        c->source = source_of_file(file.fd, file.octets);
    return 0;
}

bool
deliver_message(struct conn *c)
{
    step_protect(c, call_open);
    if (!c->source)
        return step_run(c, &step_message);
    send_message(c);
    return true;
}

bool
deliver_capa(struct conn *c)
{
    return step_run(c, &step_capa);
}

bool
deliver_command(struct conn *c)
{
    struct slice args = c->session.command.args;
    bool ended = step_run(c, &step_command);

    /* Lua has it now; where the site runs PASS or AUTH itself it is a secret. */
    digest_wipe((void *)(uintptr_t)args.at, args.len);
    c->session.command.args = (struct slice){"", 0};
    return ended;
}
