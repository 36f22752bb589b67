/*
 * proxyproto - a PROXY header, version 1 or 2, in; addresses out (the PROXY
 * protocol of HAProxy, sections 2.1 and 2.2).
 *
 * Pure.
 */
#ifndef POPD_PROXYPROTO_H
#define POPD_PROXYPROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest header that is taken: a v2 header with its TLVs. */
#define PROXYPROTO_MAX 1024

struct proxyproto {
    bool local;          /* LOCAL or UNKNOWN: the connection's own addresses hold */
    bool v6;             /* else IPv4 */
    uint8_t address[16]; /* the client's, network order; 4 or 16 of them */
    uint16_t port;       /* the client's, host order */
};

enum proxyproto_status {
    PROXYPROTO_MORE, /* so far it may become one */
    PROXYPROTO_DONE, /* *used octets were the header */
    PROXYPROTO_BAD   /* it is none */
};

enum proxyproto_status proxyproto_parse(struct proxyproto *p, const void *bytes, size_t n, size_t *used);

#endif
