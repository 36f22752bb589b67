/*
 * session - the states of a POP3 session (RFC 1939, sections 3 to 7; RFC 2449
 * CAPA; RFC 2595 STLS; RFC 3206 codes; RFC 5034 AUTH; RFC 6856 UTF8, LANG).
 *
 * Pure: it takes one input, appends its reply and returns what it needs next.
 * It does nothing itself: whoever drives it (conn) reads lines, asks the site
 * who may enter, loads sizes and sends messages, and tells it the outcome.
 *
 *     NEED_LINE     session_line or session_too_long with the next line
 *     NEED_LOGIN    is the client who it says?  then session_opened, session_refused, session_challenge
 *     NEED_OCTETS   set the size of message `number` (0: all) in `maildrop`;
 *     NEED_UIDS     likewise the unique-ids;        then session_resume, session_answer
 *     NEED_CAPA     session_capa, let the site edit, send, then session_done
 *     NEED_MESSAGE  have message `number` ready;    then session_sending, session_answer
 *     NEED_COMMAND  run the site's own command;     then session_answer, session_done, session_unknown
 *     NEED_MORE     session_more when there is room for output
 *     NEED_UPDATE   delete what is marked, unlock;  then session_updated
 *     NEED_TLS      send, forget what is buffered, shake hands; then session_secured
 *     NEED_CLOSE    send what there is, then close; no further call
 *
 * A secret is in the caller's line, at command.secret; the caller wipes it once
 * it was used.  What of such a line is not at command.secret, or is refused
 * here, was wiped here.
 */
#ifndef POPD_SESSION_H
#define POPD_SESSION_H

#include "buf.h"
#include "command.h"
#include "maildrop.h"
#include "texts.h"

enum session_state { SESSION_AUTHORIZATION, SESSION_TRANSACTION, SESSION_UPDATE };

enum need {
    NEED_LINE,
    NEED_LOGIN,
    NEED_OCTETS,
    NEED_UIDS,
    NEED_CAPA,
    NEED_MESSAGE,
    NEED_COMMAND,
    NEED_MORE,
    NEED_UPDATE,
    NEED_TLS,
    NEED_CLOSE
};

/* Octets of an AUTH line or an answer with its end that a driver must take,
 * however short other lines are to be (RFC 5034, section 4). */
#define SESSION_ANSWER_MAX 16384

/* Answers to challenges in one exchange; no mechanism has that many. */
#define SESSION_ROUNDS_MAX 10

#define SESSION_MECHANISM_MAX 20 /* octets of a name: RFC 4422, section 3.1 */

#define VERB_BIT(verb) (1u << (verb))

/* A SASL mechanism, and where it may be used. */
struct session_mechanism {
    char name[SESSION_MECHANISM_MAX + 1]; /* upper case */
    bool plain;                           /* carries a secret as it is: as for PASS */
    bool tls;                             /* over encrypted connections only */
    bool cert;                            /* where the client's certificate was verified */
};

/* What a server offers; one for many sessions, and constant for a session's
 * step.  Borrowed by session. */
struct session_config {
    unsigned off;                               /* VERB_BITs switched off: unknown commands */
    unsigned own;                               /* VERB_BITs that the site replaced: NEED_COMMAND */
    bool commands;                              /* the site has commands of its own */
    bool capa_hook;                             /* the site edits CAPA's lines */
    const char *capa;                           /* further CAPA lines, each ended by '\n'; or NULL */
    unsigned max_failures;                      /* logins; 0: no limit */
    unsigned max_bad_commands;                  /* in a row; 0: no limit */
    const struct session_mechanism *mechanisms; /* in the order in which they are told; none: no AUTH */
    size_t mechanism_count;
    const struct language *languages; /* besides the English that is built in */
    size_t language_count;
};

enum login_kind { LOGIN_USER, LOGIN_APOP, LOGIN_SASL };

struct session {
    const struct session_config *config; /* borrowed from the server */
    enum session_state state;
    struct maildrop maildrop;
    struct command command; /* while it is being served; its slices are the caller's line's */
    uint64_t number;        /* what the need is about */
    struct buf name;        /* USER's argument, or the name that entered; ours; SASL: empty until then */
    bool named;             /* USER was the command before */
    enum login_kind kind;   /* NEED_LOGIN; afterwards how it entered */
    bool apop;              /* APOP is offered: the greeting had a stamp */
    bool no_dele;           /* the storage cannot delete */
    bool no_plain;          /* a password may not come as it is over this connection, unless `tls` */
    bool stls;              /* set by the caller at the start: STLS would be accepted */
    bool tls;               /* encrypted; set by the caller where it is from the start */
    bool cert;              /* set by the caller: the client's certificate was verified */
    bool utf8;              /* RFC 6856: the client said UTF8 */
    char lang[LANGUAGE_TAG_MAX + 1];           /* LANG's; "": the default */
    char mechanism[SESSION_MECHANISM_MAX + 1]; /* LOGIN_SASL: its name, upper case */
    bool first;        /* NEED_LOGIN, LOGIN_SASL: this is AUTH itself; else an answer to a challenge */
    bool asking;       /* the next line is an answer to a challenge */
    unsigned round;    /* challenges sent in this exchange */
    unsigned failures; /* refused logins */
    unsigned bad;      /* bad commands in a row */
    uint64_t cursor;   /* NEED_MORE: the last item told */
};

void session_init(struct session *s, const struct session_config *config);
void session_clear(struct session *s);

/* The greeting; stamp "<…@…>" where APOP is offered, else NULL. */
enum need session_greet(struct session *s, const char *stamp, struct buf *out);

/* How long the line may be, with its end, that begins with these octets: the
 * limit for lines, or SESSION_ANSWER_MAX where that is more and it belongs to a
 * SASL exchange.  May change until its first five octets are there. */
size_t session_line_max(const struct session *s, const char *line, size_t n, size_t limit);

/* A line without its end; an answer to a challenge, if `asking`.  The slices of s->command point into it
 * until the session needs the next line. */
enum need session_line(struct session *s, char *line, size_t len, struct buf *out);

/* A line was longer than the limit. */
enum need session_too_long(struct session *s, struct buf *out);

/* NEED_COMMAND's outcome where the site has no such command. */
enum need session_unknown(struct session *s, struct buf *out);

/* The name that a SASL exchange has shown, or by which a user is known; before
 * session_opened.  False: out of memory. */
bool session_set_name(struct session *s, const char *name, size_t len);

/* NEED_LOGIN's outcomes.  opened: `maildrop` was opened by the caller.
 * refused: code may be NULL; `counts` tells whether it was a wrong secret.
 * challenge: the exchange goes on; any octets, of any number.  For LOGIN_SASL
 * command.secret is the response, decoded; its `at` is NULL where AUTH came
 * without one, which is not an empty one. */
enum need session_opened(struct session *s, struct buf *out);
enum need session_refused(struct session *s, const char *code, const char *text, size_t len, bool counts,
                          unsigned *fault, struct buf *out);

enum need session_challenge(struct session *s, const char *octets, size_t n, struct buf *out);

/* NEED_TLS's outcome: the connection is encrypted.  What the client said
 * before is forgotten (RFC 2595, section 4). */
void session_secured(struct session *s);

/* How the client logs in, or has: "user", "apop" or the mechanism's name. */
const char *session_logon(const struct session *s);

/* The language that was chosen, a tag; LANGUAGE_DEFAULT: none was. */
const char *session_lang(const struct session *s);

/* What was needed is there: goes on with the command. */
enum need session_resume(struct session *s, struct buf *out);

/* The message is there: appends the +OK that goes before it, and still needs
 * the message, which follows (dotstuff); then session_done. */
enum need session_sending(struct session *s, struct buf *out);

/* The command ends with this one line; of a script, of any bytes.  *fault gets
 * reply_fault bits; may be NULL. */
enum need session_answer(struct session *s, bool ok, const char *code, const char *text, size_t len,
                         unsigned *fault, struct buf *out);

/* The command's whole reply was sent by the caller. */
enum need session_done(struct session *s);

/* CAPA's lines, each ended by '\n', as they are offered now. */
void session_capa(const struct session *s, struct buf *lines);

/* The next items of a list, about `room` octets of them. */
enum need session_more(struct session *s, size_t room, struct buf *out);

/* NEED_UPDATE's outcome: text NULL for success, else what failed. */
enum need session_updated(struct session *s, const char *text, struct buf *out);

#endif
