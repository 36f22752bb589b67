/*
 * dirs - directories that stay open for a moment, so that the files of somebody
 * who fetches many are not looked for from the root on each time.
 *
 * They are few, whoever they are for, and what nobody used for a second is
 * closed: a mailbox at rest holds no descriptor.  For the loop's thread.
 */
#ifndef POPD_DIRS_H
#define POPD_DIRS_H

#include "loop.h"

#include <stddef.h>
#include <stdint.h>

#define DIRS_MAX 64

struct dirs {
    struct alarm alarm;
    uint64_t keys; /* given so far */
    struct dir {
        uint64_t key; /* 0: nothing is open here */
        int fd;       /* ours */
        bool used;    /* since the alarm last rang */
    } all[DIRS_MAX];
};

void dirs_init(struct dirs *d, struct loop *loop);
void dirs_clear(struct dirs *d);

/* A key that nobody had, and the one behind it, for two directories. */
uint64_t dirs_new_keys(struct dirs *d);

/* open(2) of dir/name, where the path has its slash at an index.  The directory is
 * looked for when its key is used first, and again once it was closed. */
int dirs_open(struct dirs *d, uint64_t key, const char *path, size_t slash, int flags);

/* Nobody asks for it any more. */
void dirs_drop(struct dirs *d, uint64_t key);

#endif
