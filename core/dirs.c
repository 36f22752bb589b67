#include "dirs.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define SECONDS 1.0

static void
close_one(struct dir *dir)
{
    if (dir->key)
        close(dir->fd);
    *dir = (struct dir){0};
}

static void
on_alarm(void *owner)
{
    struct dirs *d = owner;
    bool any = false;

    for (struct dir *dir = d->all; dir < d->all + DIRS_MAX; dir++) {
        if (!dir->used)
            close_one(dir);
        dir->used = false;
        any = any || dir->key;
    }
    if (any)
        alarm_set(&d->alarm, SECONDS);
}

void
dirs_init(struct dirs *d, struct loop *loop)
{
    *d = (struct dirs){0};
    alarm_init(&d->alarm, loop, on_alarm, d);
    d->alarm.weak = true;
}

void
dirs_clear(struct dirs *d)
{
    alarm_stop(&d->alarm);
    for (size_t i = 0; i < DIRS_MAX; i++)
        close_one(&d->all[i]);
}

uint64_t
dirs_new_keys(struct dirs *d)
{
    return (d->keys += 2) - 1;
}

static bool
open_dir(struct dirs *d, struct dir *dir, uint64_t key, const char *path, size_t slash)
{
    char name[PATH_MAX];
    int fd;

    if (slash >= sizeof name)
        return false;
    memcpy(name, path, slash);
    name[slash] = '\0';
    fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    *dir = (struct dir){.key = key, .fd = fd};
    if (!d->alarm.link)
        alarm_set(&d->alarm, SECONDS);
    return true;
}

/* A place that another has for the time being stays its own: where there are many
 * more of them than places, to change about would cost more than it saves. */
int
dirs_open(struct dirs *d, uint64_t key, const char *path, size_t slash, int flags)
{
    struct dir *dir = &d->all[key % DIRS_MAX];

    if (dir->key != key && (dir->key || !open_dir(d, dir, key, path, slash)))
        return open(path, flags);
    dir->used = true;
    return openat(dir->fd, path + slash + 1, flags);
}

void
dirs_drop(struct dirs *d, uint64_t key)
{
    if (d->all[key % DIRS_MAX].key == key)
        close_one(&d->all[key % DIRS_MAX]);
}
