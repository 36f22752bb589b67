/*
 * settings - a server's options, as the core has them.
 *
 * Lua has checked them (popd.options); here they become what connections read:
 * limits, what is offered, languages.
 */
#ifndef POPD_SETTINGS_H
#define POPD_SETTINGS_H

#include "conn.h"

#define SETTINGS_MECHANISMS 64

/* What a server keeps of its options; zeroed, there are none. */
struct settings {
    size_t max_connections, max_per_address; /* 0: no limit */
    char *capa;                              /* ours: config.capa */
    struct session_mechanism mechanisms[SETTINGS_MECHANISMS];
};

/* Takes the table at index 2 of the stack; index 1 is the server, a userdata
 * whose first user value comes to hold what languages are made of.
 * [-0, +0, e] */
void settings_take(lua_State *L, struct conn_host *host, struct settings *own);

void settings_clear(struct settings *own);

#endif
