/*
 * fs - the file system as back ends need it: names, sizes, durable writes,
 * octet counts and locks.
 *
 * Lua's side of it is popd.fs.  Every failure is nil, "what path: reason" and
 * the error's name ("ENOENT"; nil for a rare one); only an argument that no
 * program should pass raises.  Descriptors are closed over exec and given back
 * also when Lua runs out of memory.
 *
 * Those that take their time (scandir, read, octets, fsync, write: fscall.c) wait
 * in a callback while a thread works, and block where nothing can wait.  The
 * others are one system call each, which costs less than handing it over.
 */
#ifndef POPD_FS_H
#define POPD_FS_H

#include "pool.h"
#include "task.h"

/* Pushes a table of these functions.  [-0, +1, m]
 *
 *   scandir(dir) -> names, types      without "." and ".."; see stat for types
 *   stat(path [, follow])             { type = "file" | "directory" | "link" |
 *                                     "other", size, mtime, ino, dev, nlink,
 *                                     mode, uid, gid }; links are not followed
 *   size(path)                        octets of a regular file, as stored
 *   rename(a, b), link(a, b), unlink(path), mkdir(path [, mode]), rmdir(path)
 *   chmod(path, mode), chown(path, uid, gid)
 *   append(path, data)                by one write, to a file that is there
 *   fsync(path)                       a file or a directory
 *   write(path, data [, mode])        a new file, whole and on disk, or none
 *   read(path [, max])                all of it; more than max is a failure
 *   octets(path [, offset [, length [, follow]]])  as POP3 sends it, dots not stuffed
 *   octets_of(string)                 the same of a string
 *   generation(path)                  what tells two users of an inode apart
 *   sha256(string)                    in hex
 *   hash62(string)                    an integer of 62 bits
 *   lockfile(path)                    opens or makes it; an object with
 *       :lock(offset)    true, or false: somebody has it, this object included
 *       :unlock(offset)
 *       :holder(offset)  nil, or a process id (-1: the system does not tell)
 *       :is(path)        whether path still names this very file
 *       :close()         gives every lock back, as do __gc and __close
 */
int fs_open(lua_State *L, struct tasks *tasks, struct pool *pool);

/* A failure's three results; one without a code has two.  [-0, +3, m] */
int fs_fail(lua_State *L, const char *what, const char *path, int code);
int fs_fail_text(lua_State *L, const char *what, const char *path, const char *why);

/* An argument that is a path, or raises: one with a NUL would name another file
 * than its first half. */
const char *fs_check_path(lua_State *L, int arg);
mode_t fs_opt_mode(lua_State *L, int arg, mode_t otherwise);

#endif
