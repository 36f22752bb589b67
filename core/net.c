#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

/* Whom it accepts has that from it.  A reply is one write: there is nothing to gather, and
 * Nagle's rule would hold it for 40 ms. */
static void
send_at_once(int fd)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a Unix socket needs none */
}

static int
listen_on(const struct sockaddr *address, socklen_t len, const char **why)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, off = 0;

    if (fd >= 0 && address->sa_family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd >= 0 && address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (fd >= 0)
        send_at_once(fd);
    if (fd >= 0 && bind(fd, address, len) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    *why = strerror(errno);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int
listen_all(unsigned port, const char **why)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = listen_on((struct sockaddr *)&six, sizeof six, why);

    if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
        fd = listen_on((struct sockaddr *)&four, sizeof four, why);
    return fd;
}

int
net_listen(const char *address, unsigned port, const char **why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[12];
    int fd, err;

    if (!address)
        return listen_all(port, why);
    snprintf(service, sizeof service, "%u", port);
    err = getaddrinfo(address, service, &hints, &found);
    if (err) {
        *why = gai_strerror(err);
        return -1;
    }
    fd = listen_on(found->ai_addr, found->ai_addrlen, why);
    freeaddrinfo(found);
    return fd;
}

/* A socket file that nobody answers behind is left over from a dead process. */
static void
remove_stale(const struct sockaddr_un *address)
{
    struct stat st;
    int fd;

    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED)
        unlink(address->sun_path);
    close(fd);
}

int
net_listen_unix(const char *path, const char **why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof address.sun_path) {
        *why = "the path is empty or longer than a socket's may be (107 octets)";
        return -1;
    }
    memcpy(address.sun_path, path, n);
    remove_stale(&address);
    return listen_on((struct sockaddr *)&address, sizeof address, why);
}

bool
net_adopt(int fd, const char **why)
{
    int listening = 0;
    socklen_t len = sizeof listening;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0) {
        *why = strerror(errno);
        return false;
    }
    if (!listening) {
        *why = "the descriptor is not a listening socket";
        return false;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    send_at_once(fd);
    return true;
}

/* A socket's address in our form. */
static void
take_address(struct net_address *a, const struct sockaddr_storage *from)
{
    const struct sockaddr_in *four = (const void *)from;
    const struct sockaddr_in6 *six = (const void *)from;

    *a = (struct net_address){.local = true};
    if (from->ss_family == AF_INET)
        net_address_set(a, false, (const uint8_t *)&four->sin_addr, ntohs(four->sin_port));
    else if (from->ss_family == AF_INET6)
        net_address_set(a, true, six->sin6_addr.s6_addr, ntohs(six->sin6_port));
}

unsigned
net_port(int fd)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof from;
    struct net_address a;

    if (getsockname(fd, (struct sockaddr *)&from, &len) != 0)
        return 0;
    take_address(&a, &from);
    return a.port;
}

int
net_accept(int fd, struct net_address *peer)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof from;
    int client = accept4(fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0)
        return -1;
    take_address(peer, &from);
    return client;
}

static bool
is_v4(const uint8_t ip[16])
{
    return memcmp(ip, v4_prefix, sizeof v4_prefix) == 0;
}

void
net_address_text(const struct net_address *a, char text[NET_TEXT])
{
    if (a->local)
        snprintf(text, NET_TEXT, "unix");
    else if (is_v4(a->ip))
        inet_ntop(AF_INET, a->ip + 12, text, NET_TEXT);
    else
        inet_ntop(AF_INET6, a->ip, text, NET_TEXT);
}

void
net_address_set(struct net_address *a, bool v6, const uint8_t *ip, uint16_t port)
{
    *a = (struct net_address){.port = port};
    if (!v6)
        memcpy(a->ip, v4_prefix, sizeof v4_prefix);
    memcpy(v6 ? a->ip : a->ip + 12, ip, v6 ? 16 : 4);
}

bool
net_address_parse(struct net_address *a, const char *text)
{
    bool v6 = strchr(text, ':') != NULL;
    uint8_t ip[16];

    if (strcmp(text, "unix") == 0) {
        *a = (struct net_address){.local = true};
        return true;
    }
    if (inet_pton(v6 ? AF_INET6 : AF_INET, text, ip) != 1)
        return false;
    net_address_set(a, v6, ip, a->port);
    return true;
}

bool
net_is_loopback(const struct net_address *a)
{
    static const uint8_t one[16] = {[15] = 1};

    return a->local || (is_v4(a->ip) ? a->ip[12] == 127 : memcmp(a->ip, one, sizeof one) == 0);
}

bool
net_same_host(const struct net_address *a, const struct net_address *b)
{
    return a->local == b->local && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

bool
net_network_parse(struct net_network *n, const char *text)
{
    char host[NET_TEXT];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    bool v6 = memchr(text, ':', len) != NULL;
    unsigned long bits = v6 ? 128 : 32;
    char *end;

    if (len >= sizeof host)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    if (slash && (slash[1] < '0' || slash[1] > '9'))
        return false;
    if (slash) {
        bits = strtoul(slash + 1, &end, 10);
        if (*end || bits > (v6 ? 128 : 32))
            return false;
    }
    memcpy(n->ip, v4_prefix, sizeof v4_prefix);
    n->bits = (unsigned)bits + (v6 ? 0 : 96);
    return inet_pton(v6 ? AF_INET6 : AF_INET, host, v6 ? n->ip : n->ip + 12) == 1;
}

bool
net_network_has(const struct net_network *n, const struct net_address *a)
{
    unsigned whole = n->bits / 8, rest = n->bits % 8;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));

    if (a->local || memcmp(n->ip, a->ip, whole) != 0)
        return false;
    return rest == 0 || (n->ip[whole] & mask) == (a->ip[whole] & mask);
}
