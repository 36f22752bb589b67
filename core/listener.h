/*
 * listener - a listening socket as Lua has it, and its accepting.
 */
#ifndef POPD_LISTENER_H
#define POPD_LISTENER_H

#include "loop.h"
#include "net.h"
#include <lua.h>
#include <sys/types.h>

struct tlssite;

struct listener {
    int fd; /* ours; -1: closed */
    ev_io io;
    struct loop *loop;            /* borrowed */
    char *path;                   /* ours: of a Unix socket, removed with it; NULL: none */
    ino_t inode;                  /* of that path, when it was made */
    bool proxied;                 /* a PROXY header comes first, from one of networks */
    struct net_network *networks; /* ours */
    size_t networks_count;
    struct tlssite *site;                           /* held: TLS can be had; NULL: it cannot */
    bool implicit;                                  /* TLS comes before all else */
    void (*ready)(void *owner, struct listener *l); /* a client waits; NULL: nobody listens */
    void *owner;                                    /* borrowed */
    struct listener *next, **link;                  /* the owner's list */
};

/* listen_tcp, listen_unix, listen_fd; see server.h. */
void listener_open(lua_State *L, struct loop *loop);

/* The listener at an index; raises if there is none, or it is closed. */
struct listener *listener_check(lua_State *L, int index);

/* Calls ready(owner, l) whenever a client waits.  The registry holds the
 * listener until it is closed.  [-0, +0, e] */
void listener_start(lua_State *L, int index, void (*ready)(void *, struct listener *), void *owner);

/* Stops accepting and closes the socket; once. */
void listener_close(struct listener *l);

/* Whether the PROXY header of this peer is believed. */
bool listener_trusts(const struct listener *l, const struct net_address *peer);

#endif
