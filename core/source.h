/*
 * source - a message as bytes, a file's range, or a pull function.
 *
 * Made by Lua (popd.handle), read by C.  A source is a full userdata; whoever
 * holds it holds a reference to it.  Bytes and files are read here; a pull
 * function is called by the holder as a task (it may wait), which hands each
 * chunk in with source_feed.
 */
#ifndef POPD_SOURCE_H
#define POPD_SOURCE_H

#include "pool.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum source_status {
    SOURCE_BYTES, /* *bytes, *n: some of the message, there until the next call */
    SOURCE_AWAY,  /* they are not in memory: source_fetch, and ask again */
    SOURCE_PULL,  /* call the function, then source_feed its result */
    SOURCE_END,   /* that was all */
    SOURCE_OTHER, /* the file is not the one that was listed; nothing of it was told */
    SOURCE_FAILED /* *why: it cannot be read to its end */
};

struct source;

/* Octets below which a file comes in one piece: whoever asks has room for that. */
#define SOURCE_SHORT 16384

/* The functions that make sources, into the table on top of the stack:
 *   source_bytes(string); source_file(path, offset, length or nil) -> source,
 *   or nil and the reason; source_pull(function [, close function]).
 * And read(source): the next chunk, "" for "pull", nil at the end, nil and an
 * error.  [-0, +0, e] */
void source_open(lua_State *L);

/* With these a file is opened that a source reads: nobody can have it wait. */
#define SOURCE_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* The source of an open file, which is the source's from now on, and should be a regular
 * one of just so many octets.  A short one is read without a look at it: what is
 * read tells.  Lua does not know of it.  NULL: it is not so, or cannot be had. */
struct source *source_of_file(int fd, uint64_t octets);

/* Takes hold of the source at an index: it lives until source_drop, which also
 * closes its file.  NULL: there is none.  [-0, +0, e] */
struct source *source_hold(lua_State *L, int index);
void source_drop(lua_State *L, struct source *s);

/* Closes and frees what source_of_file has made.  False: it is none of these. */
bool source_free(struct source *s);

/* The next bytes, at most n; from a file they are read into room.  It does not
 * wait for a disk, where the file system can tell. */
enum source_status source_next(struct source *s, char *room, size_t n, const char **bytes, size_t *got,
                               const char **why);

/* Reads what was away in a thread: at most n octets; `ready` is called when they are
 * there.  False: that cannot be had, ask again and wait for them. */
bool source_fetch(struct source *s, struct pool *pool, size_t n, void (*ready)(void *owner), void *owner);

/* Pushes the pull function.  Then hands in its result, the value at index 1 of
 * L: a string, or nil for the end.  Allocates: called protected. */
void source_push_pull(lua_State *L, struct source *s);
void source_feed(lua_State *L, struct source *s);

/* Whether there is a close function that was not taken yet; pushes it, once. */
void source_push_close(lua_State *L, struct source *s);
bool source_has_close(const struct source *s);

#endif
