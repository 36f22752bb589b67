#include "mailscan.h"

#include "disk.h"
#include "mailsort.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define LOOKS_BETWEEN 256 /* looks between two at the clock */

/* Names that are read, a third of a millisecond, before others may have the processor:
 * where it is the loop's too, that would else wait for the end of the system's slice. */
#define NAMES_BETWEEN 1000

/* Octets of directories for which it is worth while to plan ahead. */
#define BIG_LEAST (4 << 20)
#define BIG_MOST (256 << 20)

/* A much longer index is another Maildir's, or of a time that is over. */
#define INDEX_MOST(n) (4 * (n) + 1024)

/* A Maildir that is being read. */
struct reading {
    struct mailscan *scan;
    DIR *dirs[2];         /* ours: new, cur; NULL: there is none */
    struct stat stats[2]; /* of these, before they were read */
    struct buf index;     /* ours: the file */
    const struct mailindex_entry
        *again[MAILSCAN_AGAIN]; /* in `index`: of the rows that are looked at again */
    size_t first;               /* of them; the last row is followed by the first */
    size_t room;                /* of scan->learned */
};

/* In this order: a message that is moved from new to cur meanwhile is seen
 * twice, never missed. */
static const char *const subs[2] = {"new", "cur"};

static time_t
seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static int64_t
nanoseconds(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

/* dir/name, on the heap; NULL: out of memory. */
static char *
join(const char *dir, const char *name)
{
    size_t room = strlen(dir) + strlen(name) + 2;
    char *path = malloc(room);

    if (path)
        snprintf(path, room, "%s/%s", dir, name);
    return path;
}

/* Names --------------------------------------------------------------------- */

static bool
is_file(DIR *dir, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_REG;
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* What a file is sorted by, and left out by: seconds. */
static uint64_t
time_of(const struct mailscan *s, DIR *dir, const char *name, size_t len)
{
    struct stat st;

    if (!s->by_mtime)
        return mailname_time(name, len);
    return fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_mtime : UINT64_MAX;
}

static bool
add_entry(struct mailscan *s, DIR *dir, const struct dirent *entry, bool cur)
{
    const char *name = entry->d_name;
    size_t len = strlen(name);
    uint64_t time;

    if (name[0] == '.' || !is_file(dir, entry) || (s->hide_trashed && mailname_has_flag(name, len, 'T')))
        return true;
    time = time_of(s, dir, name, len);
    return time < s->since || mailnames_add(s->names, name, len, cur, entry->d_ino, time);
}

/* An errno, or 0. */
static int
read_names(struct mailscan *s, DIR *dir, bool cur)
{
    for (size_t n = 1;; n++) {
        const struct dirent *entry;

        if (n % NAMES_BETWEEN == 0)
            sched_yield();
        errno = 0;
        entry = readdir(dir);
        if (!entry)
            return errno;
        if (!add_entry(s, dir, entry, cur))
            return ENOMEM;
    }
}

/* A big directory tells by its own size how much text comes: reserved at once,
 * and in big pages, it costs a tenth of a login less. */
static void
expect_names(struct mailscan *s, off_t size)
{
    const uintptr_t page = 4096;
    uintptr_t from, to;

    if (size < BIG_LEAST || size > BIG_MOST)
        return;
    from = (uintptr_t)buf_reserve(&s->names->text, (size_t)size);
    to = (from + (size_t)size) & ~(page - 1);
    from = (from + page - 1) & ~(page - 1);
    if (from)
        madvise((void *)from, to - from, MADV_HUGEPAGE);
    s->names->text.failed = false; /* it may do with less */
}

/* Sets what failed, and how; a directory that is not there is an empty one. */
static bool
read_sub(struct reading *r, int i)
{
    struct mailscan *s = r->scan;
    char *path = join(s->dir, subs[i]);

    r->dirs[i] = path ? opendir(path) : NULL;
    if (r->dirs[i]) {
        if (fstat(dirfd(r->dirs[i]), &r->stats[i]) == 0)
            expect_names(s, r->stats[i].st_size);
        s->code = read_names(s, r->dirs[i], i == 1);
    } else if (!path || errno != ENOENT)
        s->code = errno;
    free(path);
    if (s->code && s->code != ENOMEM)
        s->failed = subs[i];
    return s->code == 0;
}

/* Stamps -------------------------------------------------------------------- */

/* Seconds that no file system's clock takes for one tick. */
#define TICK 2

/* File systems of this machine alone (ZFS has its number from itself): the time
 * of a directory's last change is by our clock, and seen at once. */
static bool
is_local(int fd)
{
    static const uint32_t local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                     F2FS_SUPER_MAGIC, TMPFS_MAGIC,     OVERLAYFS_SUPER_MAGIC,
                                     0x2fc12fc1};
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return false;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if ((uint32_t)fs.f_type == local[i])
            return true;
    return false;
}

/* Never 0. */
static uint64_t
mix(uint64_t sum, uint64_t more)
{
    sum = (sum ^ more) * 0x9e3779b97f4a7c15;
    return (sum ^ (sum >> 29)) | 1;
}

/* By the time of change, not of modification: that one anybody can set back. */
static uint64_t
stamp_of(const struct stat stats[2])
{
    uint64_t sum = 1;

    for (int i = 0; i < 2; i++) {
        sum = mix(sum, (uint64_t)stats[i].st_dev);
        sum = mix(sum, (uint64_t)stats[i].st_ino);
        sum = mix(sum, (uint64_t)nanoseconds(&stats[i].st_ctim));
    }
    return sum;
}

uint64_t
mailscan_stamp(const char *dir)
{
    struct stat stats[2];

    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX];

        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, subs[i]) >= sizeof path ||
            stat(path, &stats[i]) != 0)
            return 0;
    }
    return stamp_of(stats);
}

/* A change in the tick of the last one, which was before the reading, could have the same time. */
static uint64_t
lasting_stamp(const struct reading *r, time_t begun)
{
    if (r->scan->by_mtime || r->scan->since || r->scan->names_only)
        return 0;
    for (int i = 0; i < 2; i++)
        if (!r->dirs[i] || r->stats[i].st_ctim.tv_sec > begun - TICK || !is_local(dirfd(r->dirs[i])))
            return 0;
    return stamp_of(r->stats);
}

/* What the index knows ------------------------------------------------------ */

/* Whoever may write the index may tell sizes: none but the server's user. */
static bool
is_ours(int fd, size_t most, struct stat *st)
{
    return fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid() && !(st->st_mode & 022) &&
           (uint64_t)st->st_size <= MAILINDEX_SIZE((uint64_t)INDEX_MOST(most));
}

/* Returns how many octets there are; 0 also where they cannot be read. */
static size_t
read_at_most(int fd, char *room, size_t n)
{
    size_t at = 0;
    ssize_t got = 1;

    while (at < n && got > 0) {
        got = disk_read_at(fd, room + at, n - at, at);
        at += got > 0 ? (size_t)got : 0;
    }
    return got < 0 ? 0 : at;
}

static const struct mailindex_entry *
load_index(const char *dir, size_t messages, struct buf *octets, size_t *count)
{
    char *path = join(dir, MAILSCAN_INDEX);
    int fd = path ? disk_open(path, O_NOFOLLOW) : -1;
    const struct mailindex_entry *entries = NULL;
    struct stat st;

    if (fd >= 0 && is_ours(fd, messages, &st) && buf_reserve(octets, (size_t)st.st_size + 1))
        octets->len = read_at_most(fd, octets->data, (size_t)st.st_size);
    if (octets->len)
        entries = mailindex_read(octets->data, octets->len, count);
    if (fd >= 0)
        close(fd);
    free(path);
    return entries;
}

/* The place of a row among those that are looked at again. */
static size_t
place_of(const struct reading *r, size_t row)
{
    size_t count = r->scan->names->count;

    return (row + count - r->first) % count;
}

static void
note_known(void *owner, uint32_t row, const struct mailindex_entry *entry)
{
    struct reading *r = owner;
    size_t place = place_of(r, row);

    if (place < MAILSCAN_AGAIN)
        r->again[place] = entry;
}

static void
match_index(struct reading *r)
{
    struct mailscan *s = r->scan;
    size_t count = 0;
    const struct mailindex_entry *entries = load_index(s->dir, s->names->count, &r->index, &count);

    if (entries)
        s->stale = count - mailindex_match(entries, count, s->names, s->names->keys, note_known, r);
}

/* Looking ------------------------------------------------------------------- */

/* Something that the index does not know; without memory it stays so. */
static void
learn(struct reading *r, size_t row, uint64_t size, int64_t mtime)
{
    struct mailscan *s = r->scan;
    const struct mailname *name = &s->names->rows[row];
    struct mailindex_entry *more;

    if (s->learned_count == r->room) {
        size_t room = r->room ? r->room * 2 : 64;

        more = realloc(s->learned, room * sizeof *more);
        if (!more)
            return;
        s->learned = more;
        r->room = room;
    }
    s->learned[s->learned_count++] = (struct mailindex_entry){
        .hash = mailname_hash(mailname_text(s->names, name), name->base),
        .inode = s->names->inodes[row],
        .size = size,
        .mtime = mtime,
    };
}

/* It is kept as long as the session. */
static void
trim_learned(struct mailscan *s)
{
    struct mailindex_entry *less = NULL;

    if (s->learned_count > 0)
        less = realloc(s->learned, s->learned_count * sizeof *less);
    if (less)
        s->learned = less;
}

/* Whether a row's file is a regular one of so many octets. */
static bool
look(const struct reading *r, const struct mailname *row, struct stat *st)
{
    DIR *dir = r->dirs[(row->flags & MAILNAME_CUR) != 0];

    return dir && fstatat(dirfd(dir), mailname_text(r->scan->names, row), st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st->st_mode) && (uint64_t)st->st_size == mailsize_stored(row->size);
}

/* A size that the name tells counts if the file is as long as it says. */
static void
look_told(struct reading *r, size_t i)
{
    struct mailname *row = &r->scan->names->rows[i];
    struct stat st;

    row->flags &= (uint8_t)~MAILNAME_TOLD;
    if (!look(r, row, &st))
        row->size = MAILSIZE_UNKNOWN;
    else if (st.st_ino == r->scan->names->inodes[i])
        learn(r, i, row->size, nanoseconds(&st.st_mtim));
}

/* A file that has changed is as unknown as a new one. */
static void
look_again(struct reading *r, size_t i, const struct mailindex_entry *known)
{
    struct mailname *row = &r->scan->names->rows[i];
    struct stat st;

    if (look(r, row, &st) && nanoseconds(&st.st_mtim) == known->mtime)
        return;
    learn(r, i, MAILSIZE_UNKNOWN, 0);
    r->scan->wrong++;
    row->size = mailname_told(mailname_text(r->scan->names, row), row->base);
    row->flags |= row->size == MAILSIZE_UNKNOWN ? 0 : MAILNAME_TOLD;
}

static void
look_at_some(struct reading *r)
{
    size_t count = r->scan->names->count;

    for (size_t i = 0; i < MAILSCAN_AGAIN && i < count; i++)
        if (r->again[i])
            look_again(r, (r->first + i) % count, r->again[i]);
}

static void
look_at_new(struct reading *r)
{
    const struct mailnames *m = r->scan->names;
    time_t until = seconds_now() + (time_t)r->scan->patience;
    size_t looks = 0;

    for (size_t i = 0; i < m->count; i++) {
        if (!(m->rows[i].flags & MAILNAME_TOLD))
            continue;
        if (++looks % LOOKS_BETWEEN == 0 && seconds_now() >= until)
            return;
        look_told(r, i);
    }
}

static void
find_sizes(struct reading *r)
{
    if (r->scan->names->count == 0)
        return;
    r->first = r->scan->random % r->scan->names->count;
    match_index(r);
    look_at_some(r);
    look_at_new(r);
}

static bool
read_all(struct reading *r)
{
    struct mailscan *s = r->scan;
    time_t begun = time(NULL);

    if (!read_sub(r, 0) || !read_sub(r, 1))
        return false;
    s->stamp = lasting_stamp(r, begun);
    s->names->keys = mailsort_names(s->names);
    if (!s->names->keys) {
        s->code = ENOMEM;
        return false;
    }
    mailnames_mark_same(s->names, s->names->keys);
    if (!s->names_only)
        find_sizes(r);
    mailnames_trim(s->names);
    trim_learned(s);
    return true;
}

void
mailscan_run(struct mailscan *s)
{
    struct reading r = {.scan = s};

    s->names = mailnames_new();
    if (s->names)
        read_all(&r);
    else
        s->code = ENOMEM;
    for (int i = 0; i < 2; i++)
        if (r.dirs[i])
            closedir(r.dirs[i]);
    buf_clear(&r.index);
}

void
mailscan_clear(struct mailscan *s)
{
    free(s->dir);
    mailnames_drop(s->names);
    free(s->learned);
    *s = (struct mailscan){0};
}

/* The index's file ---------------------------------------------------------- */

/* Under a name of its own in tmp, where what a crash leaves is swept away; then
 * in the old one's place. */
static void
replace_index(const char *dir, const char *octets, size_t len)
{
    struct timespec now;
    char name[96];
    char *new, *path = join(dir, MAILSCAN_INDEX);

    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, sizeof name, "tmp/%lld.N%ldP%ld.popd-index", (long long)now.tv_sec, now.tv_nsec,
             (long)getpid());
    new = join(dir, name);
    if (new &&path && disk_write_new(new, octets, len, 0600) == 0 && rename(new, path) != 0)
        unlink(new);
    free(new);
    free(path);
}

void
mailscan_update(const char *dir, const struct mailnames *names, struct mailindex_entry *learned, size_t n)
{
    struct mailkey *keys = mailsort_keys(names);
    struct buf octets = {0};
    size_t count = 0, newer = mailindex_sort(learned, n);
    const struct mailindex_entry *older = load_index(dir, names->count, &octets, &count);
    char *out = malloc(MAILINDEX_SIZE(count + newer));

    if (keys && out) {
        struct mailindex_entry *entries = (void *)(out + MAILINDEX_HEAD);
        size_t joined = mailindex_join(older, count, learned, newer, keys, names->count, entries);

        mailindex_head(entries, joined, out);
        replace_index(dir, out, MAILINDEX_SIZE(joined));
    }
    free(out);
    free(keys);
    buf_clear(&octets);
}

/* Single files -------------------------------------------------------------- */

static int
count(int fd, uint64_t told, struct mailfile *file)
{
    struct dotstuff d;
    struct stat st;
    int code;

    if (fstat(fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    *file = (struct mailfile){
        .stored = (uint64_t)st.st_size, .inode = st.st_ino, .mtime = nanoseconds(&st.st_mtim)};
    if (told != MAILSIZE_UNKNOWN && mailsize_stored(told) == file->stored) {
        file->sent = mailsize_sent(told);
        return 0;
    }
    dotstuff_init(&d, DOTSTUFF_ALL);
    code = disk_count(fd, 0, false, file->stored, &d);
    dotstuff_count_end(&d);
    file->sent = d.octets;
    return code == DISK_TOO_SHORT ? EAGAIN : code;
}

int
mailscan_count(const char *path, uint64_t told, struct mailfile *file)
{
    int fd = disk_open(path, O_NOFOLLOW);
    int code = fd < 0 ? errno : count(fd, told, file);

    if (fd >= 0)
        close(fd);
    return code;
}

/* A tmp that is a symbolic link leads to files that are not ours to remove. */
void
mailscan_sweep(const char *dir, int64_t seconds, int64_t now)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    struct stat st;

    while (d && (entry = readdir(d)))
        if (entry->d_name[0] != '.' && fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode) && st.st_mtime < now - seconds && st.st_atime < now - seconds)
            unlinkat(fd, entry->d_name, 0);
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
}
