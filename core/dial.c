#include "dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un local;
};

int
dial_open(enum dial_family family)
{
    static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX};

    return socket(families[family], SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* "fe80::1%eth0": without the scope, which goes to *scope. */
static bool
parse_six(const char *text, struct in6_addr *ip, uint32_t *scope)
{
    char host[NET_TEXT];
    size_t len = strcspn(text, "%");

    if (len >= sizeof host)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    *scope = text[len] ? (uint32_t)if_nametoindex(text + len + 1) : 0;
    return inet_pton(AF_INET6, host, ip) == 1;
}

enum dial_family
dial_family_of(const char *text)
{
    union address a;
    uint32_t scope;

    return inet_pton(AF_INET, text, &a.four.sin_addr) == 1 ? DIAL_INET
           : parse_six(text, &a.six.sin6_addr, &scope)     ? DIAL_INET6
                                                           : DIAL_ANY;
}

/* The system's form, and its length; 0 with errno: it is no address. */
static socklen_t
fill(const struct dial_address *from, union address *to)
{
    enum dial_family family = from->family == DIAL_ANY ? dial_family_of(from->text) : from->family;
    size_t n = strlen(from->text);

    memset(to, 0, sizeof *to);
    errno = EINVAL;
    switch (family) {
    case DIAL_INET:
        to->four.sin_family = AF_INET;
        to->four.sin_port = htons(from->port);
        return inet_pton(AF_INET, from->text, &to->four.sin_addr) == 1 ? sizeof to->four : 0;
    case DIAL_INET6:
        to->six.sin6_family = AF_INET6;
        to->six.sin6_port = htons(from->port);
        return parse_six(from->text, &to->six.sin6_addr, &to->six.sin6_scope_id) ? sizeof to->six : 0;
    case DIAL_UNIX:
        to->local.sun_family = AF_UNIX;
        errno = ENAMETOOLONG;
        if (n == 0 || n >= sizeof to->local.sun_path)
            return 0;
        memcpy(to->local.sun_path, from->text, n);
        return sizeof to->local;
    default:
        return 0;
    }
}

enum dial_status
dial_connect(int fd, const struct dial_address *to)
{
    union address address;
    socklen_t len = fill(to, &address);

    if (!len)
        return DIAL_FAILED;
    if (connect(fd, &address.any, len) == 0)
        return DIAL_DONE;
    return errno == EINPROGRESS ? DIAL_UNDER_WAY : errno == EAGAIN ? DIAL_FULL : DIAL_FAILED;
}

enum dial_status
dial_status(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;

    if (poll(&p, 1, 0) == 0)
        return DIAL_UNDER_WAY;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return DIAL_FAILED;
    errno = error;
    return error ? DIAL_FAILED : DIAL_DONE;
}

bool
dial_bind(int fd, const struct dial_address *from)
{
    union address address;
    socklen_t len = fill(from, &address);

    return len && bind(fd, &address.any, len) == 0;
}

bool
dial_name(int fd, bool other, struct net_address *name)
{
    union address a = {.any.sa_family = AF_UNSPEC};
    socklen_t len = sizeof a;

    if ((other ? getpeername : getsockname)(fd, &a.any, &len) != 0)
        return false;
    if (a.any.sa_family == AF_INET)
        net_address_set(name, false, (const uint8_t *)&a.four.sin_addr, ntohs(a.four.sin_port));
    else if (a.any.sa_family == AF_INET6)
        net_address_set(name, true, a.six.sin6_addr.s6_addr, ntohs(a.six.sin6_port));
    else
        *name = (struct net_address){.local = true};
    return true;
}

bool
dial_is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

static const struct option {
    const char *name;
    int level, number;
} options[] = {
    {"keepalive", SOL_SOCKET, SO_KEEPALIVE},
    {"reuseaddr", SOL_SOCKET, SO_REUSEADDR},
    {"reuseport", SOL_SOCKET, SO_REUSEPORT},
    {"recv-buffer-size", SOL_SOCKET, SO_RCVBUF},
    {"send-buffer-size", SOL_SOCKET, SO_SNDBUF},
    {"error", SOL_SOCKET, SO_ERROR},
    {"linger", SOL_SOCKET, SO_LINGER},
    {"tcp-nodelay", IPPROTO_TCP, TCP_NODELAY},
#ifdef TCP_KEEPIDLE
    {"tcp-keepidle", IPPROTO_TCP, TCP_KEEPIDLE},
    {"tcp-keepcnt", IPPROTO_TCP, TCP_KEEPCNT},
    {"tcp-keepintvl", IPPROTO_TCP, TCP_KEEPINTVL},
#endif
    {"ipv6-v6only", IPPROTO_IPV6, IPV6_V6ONLY},
};

static const struct option *
find_option(const char *name)
{
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    errno = EINVAL;
    return NULL;
}

int
dial_set_option(int fd, const char *name, int value)
{
    const struct option *o = find_option(name);
    struct linger linger = {.l_onoff = value >= 0, .l_linger = value >= 0 ? value : 0};

    if (!o)
        return -1;
    if (o->number == SO_LINGER && o->level == SOL_SOCKET)
        return setsockopt(fd, o->level, o->number, &linger, sizeof linger);
    return setsockopt(fd, o->level, o->number, &value, sizeof value);
}

int
dial_get_option(int fd, const char *name, int *value)
{
    const struct option *o = find_option(name);
    struct linger linger = {0};
    socklen_t len = sizeof linger, short_len = sizeof *value;

    if (!o)
        return -1;
    if (o->number != SO_LINGER || o->level != SOL_SOCKET)
        return getsockopt(fd, o->level, o->number, value, &short_len);
    if (getsockopt(fd, o->level, o->number, &linger, &len) != 0)
        return -1;
    *value = linger.l_onoff ? linger.l_linger : -1;
    return 0;
}
