/*
 * steps - the calls into Lua that serve a connection.
 *
 * steps.c    runs a step, takes texts from its results, answers
 * enter.c    the connect hook, the greeting, sizes and unique-ids, the login
 * deliver.c  messages, CAPA's lines, the site's own commands
 * leave.c    QUIT, renew, and the winding up of a client that is gone
 *
 * A step is a function of the server's table (popd.backend), run as a task: it
 * may wait.  Its results are taken under lua_pcall, so nothing here raises into
 * the loop.
 */
#ifndef POPD_STEPS_H
#define POPD_STEPS_H

#include "conn.h"

struct step {
    const char *name;                           /* of the function in the server's steps */
    int (*push)(lua_State *L, struct conn *c);  /* its arguments behind conn; how many; NULL: none */
    void (*take)(lua_State *L, struct conn *c); /* its results, from index 1; NULL: none are wanted */
    void (*fail)(struct conn *c);               /* it raised; NULL: the log line is enough */
};

/* Starts a step; what c->next is now comes after it.  False: it waits. */
bool step_run(struct conn *c, const struct step *step);

/* Runs a step, then goes on with next. */
bool step_run_then(struct conn *c, const struct step *step, bool (*next)(struct conn *));

/* The same for a function that `push` pushes, with its arguments. */
bool step_run_function(struct conn *c, const struct step *step, task_push *push);

/* What comes next, unless the client is gone meanwhile: then it is winding up. */
void step_go_on(struct conn *c, bool (*next)(struct conn *));

/* Pushes the server's function of that name, and the connection.  [-0, +2, e] */
void step_push(lua_State *L, struct conn *c, const char *name);

/* Calls f(light conn) where it may raise; what it raises is logged. */
void step_protect(struct conn *c, lua_CFunction f);

/* Has the error at index 1 logged. */
void step_log_failure(lua_State *L, struct conn *c, const char *step);

/* A text among the results, or NULL; a code as C's string, or NULL where it
 * cannot be one (then *faults says so). */
const char *step_text(lua_State *L, int index, size_t *len);
const char *step_code(lua_State *L, int index, unsigned *faults);

/* Ends the command: with the text at an index and the code behind it; with the
 * neutral -ERR of a fault. */
void step_answer(lua_State *L, struct conn *c, bool ok, int index);
void step_fail_command(struct conn *c);

/* enter.c: needs of the session */
bool enter_login(struct conn *c);
bool enter_octets(struct conn *c);
bool enter_uids(struct conn *c);

/* deliver.c */
bool deliver_message(struct conn *c);
bool deliver_capa(struct conn *c);
bool deliver_command(struct conn *c);
bool deliver_release(struct conn *c, bool (*next)(struct conn *)); /* calls the source's close, if any */
void deliver_drop(struct conn *c);                                 /* lets go of the source */

/* leave.c */
bool leave_quit(struct conn *c);
bool leave_close(struct conn *c); /* gives a lock back, then serves on */
void leave_renew(struct conn *c); /* after a while, again and again, where there is something to renew */

#endif
