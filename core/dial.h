/*
 * dial - sockets that this side opens: connecting, binding, names, options.
 *
 * All are non-blocking and close-on-exec.  Addresses are numeric (resolve finds
 * them); a Unix socket's is its path.
 */
#ifndef POPD_DIAL_H
#define POPD_DIAL_H

#include "net.h"

enum dial_family { DIAL_ANY, DIAL_INET, DIAL_INET6, DIAL_UNIX };

enum dial_status { DIAL_DONE, DIAL_UNDER_WAY, DIAL_FULL, DIAL_FAILED };

/* Where to: text is "192.0.2.1", "::1" (with a scope, too) or a path. */
struct dial_address {
    enum dial_family family; /* DIAL_ANY: of whichever family the text is */
    const char *text;
    uint16_t port;
};

/* A socket of a family, not DIAL_ANY; -1: errno tells why. */
int dial_open(enum dial_family family);

/* The family of an address; DIAL_ANY: it is no address. */
enum dial_family dial_family_of(const char *text);

/* FAILED: errno tells why.  UNDER_WAY: once fd can be written to, dial_status
 * tells how it ended.  FULL: a Unix socket's queue is; nothing tells when it is not. */
enum dial_status dial_connect(int fd, const struct dial_address *to);
enum dial_status dial_status(int fd);
bool dial_bind(int fd, const struct dial_address *from);

/* This end's address, or the other one's.  False: errno tells why. */
bool dial_name(int fd, bool other, struct net_address *name);

/* Whether octets, or the end, wait to be read. */
bool dial_is_readable(int fd);

/* An option by LuaSocket's name, of an integer value; -1 with errno, which is
 * EINVAL where there is no such option.  linger: seconds, -1 for off. */
int dial_set_option(int fd, const char *name, int value);
int dial_get_option(int fd, const char *name, int *value);

#endif
