#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define READ_ROOM 65536

int
disk_open(const char *path, int flags)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
}

ssize_t
disk_read_at(int fd, void *room, size_t n, uint64_t offset)
{
    ssize_t got;

    do
        got = pread(fd, room, n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

int
disk_read(int fd, struct buf *b, uint64_t max)
{
    uint64_t at = 0;

    for (;;) {
        char *room = buf_reserve(b, READ_ROOM);
        ssize_t n = room ? disk_read_at(fd, room, READ_ROOM, at) : 0;

        if (!room)
            return ENOMEM;
        if (n <= 0)
            return n < 0 ? errno : 0;
        at += (uint64_t)n;
        if (at > max)
            return EFBIG;
        b->len += (size_t)n;
    }
}

int
disk_write(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int
disk_write_new(const char *path, const void *data, size_t len, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    int code;

    if (fd < 0)
        return errno;
    code = disk_write(fd, data, len);
    if (code == 0 && fsync(fd) != 0)
        code = errno;
    if (close(fd) != 0 && code == 0)
        code = errno;
    if (code != 0)
        unlink(path);
    return code;
}

int
disk_count(int fd, uint64_t offset, bool whole, uint64_t length, struct dotstuff *d)
{
    char room[READ_ROOM];

    while (whole || length > 0) {
        size_t want = whole || length > sizeof room ? sizeof room : (size_t)length;
        ssize_t n = disk_read_at(fd, room, want, offset);

        if (n < 0)
            return errno;
        if (n == 0)
            return whole ? 0 : DISK_TOO_SHORT;
        dotstuff_count(d, room, (size_t)n);
        offset += (uint64_t)n;
        length -= whole ? 0 : (uint64_t)n;
    }
    return 0;
}
