/*
 * maillist - the messages of a Maildir as Lua has them: a userdata over
 * mailnames, to be asked and changed.
 *
 * Lua decides what is a message, whose a name is, and what is refused; see
 * lua/popd/maildir.lua and its parts, which alone use this.  How a list comes to be, and what
 * becomes of it, is done in threads: mailread, maillearn, mailchore.
 */
#ifndef POPD_MAILLIST_H
#define POPD_MAILLIST_H

#include "dirs.h"
#include "mailindex.h"

#include <lua.h>

/* Zeroed, it is closed. */
struct maillist {
    struct mailnames *names; /* held */
    uint32_t *of;            /* ours; rows by another list's numbers, see mailnames_follow; NULL: its own */
    struct mailindex_entry *learned; /* ours */
    uint32_t followed;               /* of `of` */
    uint32_t learned_count, room;
    uint32_t stale, wrong; /* of the index */
    bool serves;           /* a session has it, and the files are called so as far as is known */
    uint64_t stamp;        /* of the Maildir that it is all of, see mailscan_stamp; 0: it is not */
    uint64_t cost;         /* octets that were read */
    struct dirs *dirs;     /* borrowed; NULL: no message was opened yet */
    uint64_t key;          /* there, of new; that of cur is one more */
};

/* Pushes the table `mail`, which mailread, maillearn and mailchore add to.
 * Numbers count from 1; a file is "new/name" or "cur/name".  [-0, +1, e]
 *
 *   count(list)                how many messages there are, also #list; nil: that is no list
 *   file(list, n), base(list, n), uid(list, n)
 *   size(list, n)              octets as sent, and as stored; nil: not known
 *   sizes(list), uids(list)    arrays; an unknown size is false
 *   total(list)                the sum as sent; nil: not known
 *   same(list)                 arrays of numbers that share their base; nil: none do
 *   files_of(list, base)       array of files; of a list of names only
 *   remove(list, numbers)      ascending; the others move up
 *   keep_last(list, n)
 *   arrange(list, numbers)     message i is from then on what numbers[i] was
 *   set_uid(list, n, uid)
 *   close(list)                gives its memory back; what is lent stays
 */
void maillist_open(lua_State *L);

/* Pushes a list that is closed until it gets names.  [-0, +1, e] */
struct maillist *maillist_push(lua_State *L);

/* The list at an index, which is not closed; or raises. */
struct maillist *maillist_check(lua_State *L, int arg);

/* A message's row, 0 and up, by its number at an index; raises where there is none. */
size_t maillist_check_number(lua_State *L, int arg, size_t count);

struct maillist_file {
    int fd;          /* the caller's; -1: it cannot be opened */
    uint64_t octets; /* that it should have */
};

/* Opens a message, by its number, of the list at an index below the Maildir whose path is
 * at another; no symbolic link.  False: there is no such list or message, the list does
 * not serve, or the size is not known. */
bool maillist_open_file(lua_State *L, int list, uint64_t number, int dir, struct dirs *dirs,
                        struct maillist_file *file);

/* The descriptors that a list has for the time being are closed. */
void maillist_rest(struct maillist *l);

/* The list at an index, or NULL.  Lent, its names stay as they are. */
struct mailnames *maillist_lend(lua_State *L, int index);

#endif
