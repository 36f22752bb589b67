/*
 * filelock - an open file that many programs write to, and the locks on it.
 *
 * Counted: whoever holds it keeps it open and locked.  The last one to let it go
 * gives its locks back.  The counting is for one thread; reading and writing
 * are for any.
 */
#ifndef POPD_FILELOCK_H
#define POPD_FILELOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Besides an errno: a file that ends before it should. */
#define FILELOCK_SHORT (-1)

struct filelock {
    unsigned refs;
    int fd;        /* ours; -1: there is no such file, only a dot-lock */
    char *dotlock; /* ours: the name of a lock file that is ours; NULL: none */
    dev_t dev;     /* what that name stands for */
    ino_t ino;
    struct timespec mtime; /* another one may get the same inode */
};

enum filelock_how { FILELOCK_FILE, FILELOCK_NEW, FILELOCK_DIRECTORY };

enum filelock_got { FILELOCK_GOT, FILELOCK_TAKEN, FILELOCK_FAILED };

/* One without a file, held once; NULL: out of memory. */
struct filelock *filelock_new(void);
struct filelock *filelock_hold(struct filelock *f);
void filelock_drop(struct filelock *f); /* NULL is fine */

/* Opens a regular file or a directory; follows no symbolic link at the path's end.
 * Returns an errno, or 0. */
int filelock_open(struct filelock *f, const char *path, enum filelock_how how);

/* Whether the path is this file's; of one without a file: whether there is none. */
bool filelock_is(const struct filelock *f, const char *path);

/* Locks the whole file.  fcntl's lock belongs to the open file where the system can do
 * that; `process` is who has it, if the system tells, or 0.  FAILED: see errno. */
enum filelock_got filelock_fcntl(struct filelock *f, pid_t *process);
enum filelock_got filelock_flock(struct filelock *f);

/* Makes a lock file with the text in it (on a full disk without), over NFS too; temp
 * is a name of nobody's in the same directory.  Returns an errno, EEXIST where
 * somebody has the lock, or 0.  *now is what time the file system has. */
int filelock_dot(struct filelock *f, const char *name, const char *temp, const char *text, size_t len,
                 time_t *now);

/* Whether the dot-lock is there still; then others see by its time that it is in
 * use.  True where there is none. */
bool filelock_keep(struct filelock *f);

/* Removes a lock file that was left behind, if it is just that one: of all who do so
 * by this function one alone gets to it.  Whether that was done. */
bool filelock_break(const char *path, dev_t dev, ino_t ino, time_t mtime);

/* Past signals.  Read returns how many octets, fewer at the end, or -1; write and copy an
 * errno or 0. */
ssize_t filelock_read(int fd, char *room, size_t n, uint64_t at);
int filelock_write(int fd, const char *data, size_t n, uint64_t at);

struct filelock_range {
    uint64_t from, len;
};

/* Writes the ranges of one file to another, one behind the other; FILELOCK_SHORT:
 * there is less. */
int filelock_copy(int to, uint64_t at, int from, const struct filelock_range *range, size_t count);

#endif
