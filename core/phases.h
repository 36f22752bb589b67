/*
 * phases - what session.h's files share: the commands, and what they all ask.
 *
 * session.c    lines, which command may run, QUIT
 * authorize.c  before the login, and what may be said at any time
 * transact.c   the maildrop
 * phases.c     what these ask of a session
 */
#ifndef POPD_PHASES_H
#define POPD_PHASES_H

#include "say.h"

typedef enum need run_command(struct session *s, struct buf *out);

run_command phase_run_user, phase_run_pass, phase_run_apop, phase_run_auth, phase_run_stls, phase_run_utf8,
    phase_run_lang, phase_run_capa;
run_command phase_run_stat, phase_run_list, phase_run_retr, phase_run_dele, phase_run_noop, phase_run_rset,
    phase_run_top, phase_run_uidl;

/* The one place where the state changes (RFC 1939, section 3). */
void phase_enter(struct session *s, enum session_state state);

/* A command that cannot be run as it stands. */
enum need phase_bad(struct session *s, const char *why, struct buf *out);

/* An answer to a challenge of AUTH. */
enum need phase_answer(struct session *s, char *line, size_t len, struct buf *out);

/* +OK: how many messages there are. */
enum need phase_entered(const struct session *s, struct buf *out);

/* Whether a count is at its limit; 0: there is none. */
bool phase_is_reached(unsigned count, unsigned max);

/* Whether it is a command here. */
bool phase_has_verb(const struct session *s, enum verb verb);

/* Whether STLS would be accepted now (RFC 2595, section 4). */
bool phase_takes_stls(const struct session *s);

/* Whether a password may come as it is. */
bool phase_takes_plain(const struct session *s);

#endif
