/* How a client comes in: the connect hook, the greeting, the login, and what a
 * session learns of its maildrop. */
#include "steps.h"

#include "base64.h"
#include "digest.h"
#include "log.h"
#include "maillist.h"
#include "reply.h"

#include <string.h>
#include <sys/random.h>

/* Octets of a challenge: as much as an answer may have. */
#define CHALLENGE_MAX BASE64_OCTETS(SESSION_ANSWER_MAX)

/* connect, and the greeting */

static void
refuse_connection(struct conn *c, const char *code, const char *text)
{
    reply_err(conn_reply(c), code, text);
    conn_say(c, NEED_CLOSE);
    step_go_on(c, conn_serve);
}

static void
take_connect(lua_State *L, struct conn *c)
{
    size_t len, code_len;
    const char *text, *code;

    if (lua_type(L, 1) != LUA_TBOOLEAN || lua_toboolean(L, 1))
        return;
    text = step_text(L, 2, &len);
    code = step_text(L, 3, &code_len);
    conn_log_faults(c, reply_text(conn_reply(c), false, code, code_len, text ? text : "", len));
    conn_say(c, NEED_CLOSE);
    step_go_on(c, conn_serve);
}

static void
fail_connect(struct conn *c)
{
    refuse_connection(c, "SYS/TEMP", CONN_NEUTRAL);
}

static const struct step step_connect = {"connect", NULL, take_connect, fail_connect};

#define STAMP_TEXT 48

/* Of letters, digits, dots and one '@' only: mpop and nmap ignore others. */
static const char *
stamp_text(const struct conn *c, char text[STAMP_TEXT])
{
    text[0] = '<';
    digest_to_hex(c->stamp, sizeof c->stamp, text + 1);
    strcat(text, "@popd.lua>");
    return text;
}

static bool
make_stamp(struct conn *c)
{
    return c->host->apop && getrandom(c->stamp, sizeof c->stamp, 0) == (ssize_t)sizeof c->stamp;
}

static bool
greet(struct conn *c)
{
    char text[STAMP_TEXT];
    const char *stamp = make_stamp(c) ? stamp_text(c, text) : NULL;

    conn_say(c, session_greet(&c->session, stamp, conn_reply(c)));
    step_go_on(c, conn_serve);
    return true;
}

static bool
takes_plain(const struct conn *c)
{
    return c->host->plain == PLAIN_ALWAYS || (c->host->plain == PLAIN_LOCAL && net_is_loopback(&c->peer));
}

void
steps_place(struct conn *c)
{
    c->session.no_plain = !takes_plain(c);
}

static bool
welcome(struct conn *c)
{
    if (c->host->hooks.connect)
        return step_run_then(c, &step_connect, greet);
    return greet(c);
}

/* Where TLS comes first, no word can be said before it. */
static bool
refuse(struct conn *c, const char *why)
{
    conn_log(c, LOG_WARNING, "a connection was refused", "reason", why);
    if (c->implicit)
        conn_gone(c, "refused");
    else
        refuse_connection(c, "SYS/TEMP", why);
    return true;
}

bool
steps_begin(struct conn *c)
{
    const char *refusal = c->host->admit(c->host->owner, c);

    steps_place(c);
    c->session.stls = c->site && !c->implicit;
    if (refusal)
        return refuse(c, refusal);
    if (!c->implicit)
        return welcome(c);
    secure_begin(c, welcome);
    return true;
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

static void
log_wrong_total(const struct conn *c)
{
    conn_log(c, LOG_WARNING, "size(mbox) is not the sum of its messages' sizes; the sum is told", NULL, NULL);
}

static bool
set_octets(lua_State *L, struct conn *c, size_t number)
{
    uint64_t octets = octets_at(L, -1);

    if (octets != MAILDROP_UNKNOWN && !maildrop_set_octets(&c->session.maildrop, number, octets))
        log_wrong_total(c);
    return octets != MAILDROP_UNKNOWN;
}

static bool
set_uid(lua_State *L, struct conn *c, size_t number)
{
    size_t len;
    const char *uid = step_text(L, -1, &len);

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
        step_answer(L, c, false, 2);
    else if (set_wanted(L, c, lacks, set))
        conn_say(c, session_resume(&c->session, conn_reply(c)));
    else
        step_fail_command(c);
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

static const struct step step_octets = {"octets", push_octets, take_octets, step_fail_command};
static const struct step step_uids = {"uids", push_uids, take_uids, step_fail_command};

/* login */

/* kind, name, secret, stamp, first.  A mechanism's kind is its name, and its
 * secret nil where AUTH came without a response. */
static int
push_login(lua_State *L, struct conn *c)
{
    const struct session *s = &c->session;
    const struct slice *secret = &s->command.secret;
    char stamp[STAMP_TEXT];

    lua_pushstring(L, session_logon(s));
    lua_pushlstring(L, s->name.data ? s->name.data : "", s->name.len);
    if (secret->at)
        lua_pushlstring(L, secret->at, secret->len);
    else
        lua_pushnil(L);
    lua_pushstring(L, s->apop ? stamp_text(c, stamp) : "");
    lua_pushboolean(L, s->kind != LOGIN_SASL || s->first);
    return 5;
}

/* Sets what the array at the top of the stack knows; false is for unknown. */
static void
set_each(lua_State *L, struct conn *c, bool (*set)(lua_State *, struct conn *, size_t))
{
    for (size_t i = 1; lua_istable(L, -1) && i <= c->session.maildrop.count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i);
        if (lua_toboolean(L, -1))
            set(L, c, i);
        lua_pop(L, 1);
    }
}

/* What a list knows (see maillist.h) takes no look at each message. */
static void
set_sizes(lua_State *L, struct conn *c)
{
    const struct mailnames *names = maillist_lend(L, -1);

    if (!names)
        set_each(L, c, set_octets);
    else if (!maildrop_take_sizes(&c->session.maildrop, names))
        log_wrong_total(c);
}

static void
set_uids(lua_State *L, struct conn *c)
{
    struct mailnames *names = maillist_lend(L, -1);

    if (names)
        maildrop_take_uids(&c->session.maildrop, names);
    else
        set_each(L, c, set_uid);
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
    set_sizes(L, c);
    lua_getfield(L, 2, "uids");
    set_uids(L, c);
    c->session.no_dele = flag_of(L, 2, "no_dele");
    c->renews = flag_of(L, 2, "renews");
    return true;
}

static void
fail_login(struct conn *c)
{
    static const char text[] = CONN_NEUTRAL;

    conn_say(c, session_refused(&c->session, "SYS/TEMP", text, sizeof text - 1, false, NULL, conn_reply(c)));
}

/* false, code, text, whether it counts as a failed try */
static void
refuse_login(lua_State *L, struct conn *c)
{
    size_t len;
    const char *text = step_text(L, 3, &len);
    unsigned faults = REPLY_CLEAN, more = REPLY_CLEAN;
    const char *code = step_code(L, 2, &faults);

    conn_say(c, session_refused(&c->session, code, text ? text : "", len, lua_toboolean(L, 4), &more,
                                conn_reply(c)));
    conn_log_faults(c, faults | more);
}

/* "challenge", octets: the exchange goes on, and nothing was locked yet. */
static void
take_challenge(lua_State *L, struct conn *c)
{
    size_t n;
    const char *octets = step_text(L, 2, &n);

    c->entered = false;
    if (c->ending) { /* no more of the exchange: the client is to read -ERR */
        fail_login(c);
        return;
    }
    if (octets && n <= CHALLENGE_MAX && c->session.kind == LOGIN_SASL) {
        conn_say(c, session_challenge(&c->session, octets, n, conn_reply(c)));
        return;
    }
    conn_log(c, LOG_ERROR, "a mechanism's challenge is no text, or too long", "mechanism",
             session_logon(&c->session));
    fail_login(c);
}

/* The name by which who entered is known: as the site's, if it told one. */
static bool
take_name(lua_State *L, struct conn *c)
{
    size_t len;
    const char *name;
    bool good;

    lua_getfield(L, 2, "name");
    name = step_text(L, -1, &len);
    good = !name || session_set_name(&c->session, name, len);
    lua_pop(L, 1);
    return good;
}

static void
take_login(lua_State *L, struct conn *c)
{
    if (lua_type(L, 1) == LUA_TSTRING) {
        take_challenge(L, c);
        return;
    }
    if (!lua_toboolean(L, 1)) {
        refuse_login(L, c);
        return;
    }
    if (!lua_istable(L, 2) || !take_name(L, c) || !open_maildrop(L, c)) {
        conn_gone(c, "out of memory");
        return;
    }
    conn_say(c, session_opened(&c->session, conn_reply(c)));
    leave_renew(c);
}

static const struct step step_login = {"login", push_login, take_login, fail_login};

/* A login that failed may have the lock all the same: `close` gives it back, in
 * a task of its own, because this one's time may be up. */
static bool
after_login(struct conn *c)
{
    if (c->session.state == SESSION_AUTHORIZATION && c->entered)
        return leave_close(c);
    c->next = conn_serve;
    return true;
}

bool
enter_login(struct conn *c)
{
    struct slice secret =
        c->session.command.secret; /* the session drops its own when the login ends at once */
    bool ended;

    c->entered = true;
    ended = step_run_then(c, &step_login, after_login);
    /* Lua has it now; here it is not needed any more. */
    digest_wipe((void *)(uintptr_t)secret.at, secret.len);
    c->session.command.secret = (struct slice){"", 0};
    return ended;
}

bool
enter_octets(struct conn *c)
{
    return step_run(c, &step_octets);
}

bool
enter_uids(struct conn *c)
{
    return step_run(c, &step_uids);
}
