/*
 * net - addresses, listening, accepting.
 *
 * All sockets are non-blocking and close-on-exec.  Addresses are IPv6; IPv4
 * stands in it as ::ffff:a.b.c.d, as the kernel has it.
 */
#ifndef POPD_NET_H
#define POPD_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_TEXT 64 /* room for an address as text */

struct net_address {
    uint8_t ip[16];
    uint16_t port;
    bool local; /* a Unix socket: no ip, no port */
};

/* A set of addresses, "10.0.0.0/8" or "::1". */
struct net_network {
    uint8_t ip[16];
    unsigned bits; /* 0 to 128 */
};

/* Listens on a TCP address: a name or number, NULL for all of both families;
 * port 0 lets the system choose.  Returns the socket, or -1 and the reason. */
int net_listen(const char *address, unsigned port, const char **why);

/* Listens on a Unix socket, in place of one that nobody listens on. */
int net_listen_unix(const char *path, const char **why);

/* Whether fd is a listening stream socket; makes it fit for us. */
bool net_adopt(int fd, const char **why);

/* The port that a socket is bound to; 0 for none. */
unsigned net_port(int fd);

/* The next connection, or -1 with errno (EAGAIN: none). */
int net_accept(int fd, struct net_address *peer);

/* Numeric, IPv4 in dots; "unix" for a Unix socket. */
void net_address_text(const struct net_address *a, char text[NET_TEXT]);
void net_address_set(struct net_address *a, bool v6, const uint8_t *ip, uint16_t port);
bool net_address_parse(struct net_address *a, const char *text); /* such a text; the port stays */
bool net_is_loopback(const struct net_address *a);               /* a Unix socket is, too */
bool net_same_host(const struct net_address *a, const struct net_address *b);

bool net_network_parse(struct net_network *n, const char *text);
bool net_network_has(const struct net_network *n, const struct net_address *a);

#endif
