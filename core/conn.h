/*
 * conn - one client, from accept to the last free: the only part that knows
 * the pure core, the sockets and Lua.
 *
 * conn.c   moves bytes and keeps time: reading, writing, turns, the end
 * secure.c shakes hands for TLS
 * send.c   moves a message, a piece at a time
 * steps.h  what the session needs, done by calls into Lua (popd.backend)
 * view.c   the connection as scripts see it
 *
 * A connection does one thing at a time: `next` is what it does when it can go
 * on.  It stops for one of three reasons: the client must write, the client
 * must read, a callback waits.  When the client is gone, `next` becomes the
 * winding up, which waits for a callback under way, gives the lock back and
 * frees the connection, in that order, once.
 */
#ifndef POPD_CONN_H
#define POPD_CONN_H

#include "dotstuff.h"
#include "linebuf.h"
#include "net.h"
#include "outq.h"
#include "session.h"
#include "source.h"
#include "task.h"

/* Message bytes read at a time, and output above which nothing more is made
 * until the client takes some. */
#define CONN_PIECE 32768
#define CONN_HIGH_WATER 65536

/* Seconds, octets, counts; 0: no limit. */
struct conn_limits {
    double login_timeout; /* from accept to login, in all */
    double handshake_timeout;
    double idle_timeout;  /* between complete commands */
    double write_timeout; /* a reply that the client does not take */
    double renew_interval;
    struct task_limits callback;
    size_t line_limit;
};

struct conn;

/* What a server lends its connections; outlives them.  The registry holds, by
 * the host's address, the table of steps (popd.backend), and by a connection's
 * address its view. */
struct conn_host {
    struct loop *loop;   /* borrowed */
    struct tasks *tasks; /* borrowed */
    struct pool *files;  /* borrowed: threads for what is on a disk */
    struct dirs *dirs;   /* borrowed: directories that stay open for a moment */
    struct session_config config;
    struct conn_limits limits;
    bool apop;                                           /* offered: greet with a stamp */
    enum { PLAIN_ALWAYS, PLAIN_LOCAL, PLAIN_TLS } plain; /* from where a password may come as it is */
    struct {
        bool connect, retrieved, quit, disconnect;
    } hooks;
    struct buf scratch; /* a reply on its way into a queue */
    struct outq_spare spare;
    char *piece; /* CONN_PIECE octets on their way, of a file or from a client */
    /* The client's address is known: NULL, or why it may not come in. */
    const char *(*admit)(void *owner, struct conn *c);
    void (*gone)(void *owner, struct conn *c); /* about to be freed */
    void *owner;                               /* the server, borrowed */
};

struct step; /* steps.h */

/* What a listener gives a connection on its way. */
struct conn_entry {
    bool proxied;         /* a PROXY header comes first */
    bool implicit;        /* then TLS */
    struct tlssite *site; /* borrowed: TLS can be had; NULL: it cannot */
    bool mock;            /* a script plays the client: it begins when it is woken */
};

struct conn {
    struct conn_host *host;              /* borrowed */
    struct conn *next_conn, **link;      /* the server's list */
    struct conn *next_peer, **peer_link; /* the server's list by address */
    lua_Integer id;
    struct net_address peer; /* behind PROXY the client's */
    uint64_t stamp[2];       /* APOP's, where the session has that */

    struct stream stream;
    struct tlssite *site;            /* held; NULL: no TLS here */
    bool (*secured)(struct conn *c); /* next, once hands are shaken */
    struct linebuf in;
    struct outq out;
    struct session session;
    char command[COMMAND_SHOWN]; /* the last one, as it may be shown */
    enum need need;
    unsigned close_tries;

    bool (*next)(struct conn *c); /* what to do; false: stop for now */
    struct turn turn;
    const struct step *step; /* under way, or done just now */
    struct task *task;       /* while the step waits */
    struct task *renewing;   /* a renew on the side */

    struct source *source; /* held (source_hold) */
    struct dotstuff dots;
    uint64_t sending;    /* RETR: the number; 0: TOP or a command's */
    double silent_since; /* the source gives empty chunks; 0: it does not */
    size_t untaken;      /* octets at the end of `out` that steps_take_back can take back */
    size_t spent;        /* octets made in this turn */

    ev_io io;
    struct alarm alarm, *renewal; /* ours; NULL: the storage has no renew */
    double since, active;         /* loop time: accepted; last command, piece of a message, or reply ended */
    double shaking_at;            /* since when hands are shaken; 0: they are not */
    double blocked_at;            /* since when the client takes too little; 0: it does not */
    uint64_t blocked_mark;        /* bytes_out then */

    struct buf *close_text; /* ours: told before a close that was asked for; NULL: nothing is */
    const char *gone;       /* why it ended; NULL: it lives */
    bool implicit;          /* TLS comes before all else */
    bool mock;              /* a script plays the client, and says where it is */
    bool settled;           /* the step's outcome was taken */
    bool update_failed;     /* QUIT is answered with -ERR */
    bool stuck;             /* the client must read before more can be sent */
    bool winding;           /* it is being wound up */
    bool running;           /* in conn_run */
    bool eof;               /* the client sends no more */
    bool close_asked;       /* close once the present command is answered */
    bool ending;            /* for a guard has tripped */
    bool untold;            /* which no reply has told the client */
    bool lost;              /* renew failed: the lock is not ours any more */
    bool entered;           /* the login step ran: there may be a lock */
    bool renews;            /* the storage has renew */
    bool dead;              /* wound up */
};

/* Takes over a client's socket.  NULL: out of memory; the socket is closed. */
struct conn *conn_new(struct conn_host *host, lua_Integer id, int fd, const struct net_address *peer,
                      const struct conn_entry *entry);

/* Ends it from outside: one that waits for a command is told `text` (as an
 * -ERR) first, if that is not empty; one in UPDATE ends by itself; any other is
 * cut off. */
void conn_close(struct conn *c, const char *text, size_t len);

/* Ends it once the command that is being served is answered. */
void conn_ask_close(struct conn *c, const char *text, size_t len);

/* A guard has tripped in one of its callbacks: ends it once the command is
 * answered.  `tell`: the answer does not say so, so a line of its own does. */
void conn_end(struct conn *c, bool tell);

/* What a client reads of a fault. */
#define CONN_NEUTRAL "the server had a problem with this; try again later"

/* Ends it at once, without a word; callbacks and the unlock follow. */
void conn_gone(struct conn *c, const char *why);

/* Frees it without a word to Lua, which is ending. */
void conn_drop(struct conn *c);

/* Lets it go on at the loop's next turn. */
void conn_wake(struct conn *c);

/* One event of this connection in the log; pairs as for log_event. */
void conn_log(const struct conn *c, int level, const char *text, const char *key, const char *value);

/* What a script's text or code lost on its way (reply_fault bits). */
void conn_log_faults(const struct conn *c, unsigned faults);

/* conn.c for steps.c: where a reply is written to, and its end: into the
 * queue, and what the session needs then. */
struct buf *conn_reply(struct conn *c);
void conn_say(struct conn *c, enum need need);
bool conn_serve(struct conn *c); /* next: what the session needs */
bool conn_flush(struct conn *c); /* sends what the client takes; false: it must read first */

/* secure.c: hands are shaken, then `then` is what comes next.  What was read
 * before is the handshake's first octets, or (STLS) dropped. */
void secure_begin(struct conn *c, bool (*then)(struct conn *));
bool secure_stls(struct conn *c); /* next: the reply to STLS leaves, then TLS */
bool secure_shakes(const struct conn *c);

/* time.c: the alarm is set for when the client's time is up, as things stand; then time_is_up
 * rings.  The client must read: what it took since the last look counts if it is not a
 * trickle. */
void time_watch(struct conn *c);
void time_is_up(void *conn);
void time_note_blocked(struct conn *c);

/* send.c */
bool send_pieces(struct conn *c); /* next: pieces of the source, until it ends */

/* steps.h's files for conn.c */
bool steps_begin(struct conn *c);        /* next: limits, TLS, the connect hook, the greeting */
void steps_place(struct conn *c);        /* what may be offered, by where the client is */
bool steps_serve(struct conn *c);        /* what the session needs of Lua */
bool steps_pull(struct conn *c);         /* a pull function's next chunk */
bool steps_sent(struct conn *c);         /* next: after the last piece */
bool steps_take_back(struct conn *c);    /* a message failed at once: -ERR instead */
bool steps_message_anew(struct conn *c); /* it is not as it was listed: the storage is asked */
bool steps_wind_up(struct conn *c);      /* next: after the client is gone */
void steps_stop_renewing(struct conn *c);
const char *steps_name(const struct conn *c); /* of the step under way or done last; for log lines */

/* view.c: the userdata that scripts see; [-0, +1, e].  Closing it makes it
 * answer nil from then on. */
void view_open(lua_State *L);
void view_push(lua_State *L, struct conn *c);
void view_push_private(lua_State *L, struct conn *c); /* popd.backend's table */
void view_push_state(lua_State *L, struct conn *c);   /* conn_state's table */
void view_close(lua_State *L, struct conn *c);

#endif
