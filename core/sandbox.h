/*
 * sandbox - what a process that was started as root gives up before it serves.
 *
 * The order that holds: bind the ports and read the keys as root, drop, then
 * serve the first client.  What is opened before stays open; what is opened
 * after is opened as the user.
 */
#ifndef POPD_SANDBOX_H
#define POPD_SANDBOX_H

#include <lua.h>
#include <stdbool.h>
#include <sys/types.h>

#define SANDBOX_NAME_MAX 255

struct sandbox_user {
    char name[SANDBOX_NAME_MAX + 1];
    uid_t uid;
    gid_t gid; /* of its main group */
};

/* Finds a user of the system.  False: *why says that there is none of that
 * name, or what the system says. */
bool sandbox_find_user(const char *name, struct sandbox_user *user, const char **why);

/* Makes the whole process that user's for good: its groups and no others, its
 * ids as real, effective and saved ones, and (on Linux) no programs that give
 * more rights.  Threads that run already keep the last of these; start them
 * after.  A process that is that user's already keeps its ids and groups.
 * False: *why says what failed, and the process may have given up a part: it
 * should end. */
bool sandbox_drop(const struct sandbox_user *user, const char **why);

/* Adds to the table on top of the stack:
 *   user_id(name) -> a number, or nil and the reason
 *   own_id() -> the process's effective user id; 0: root
 *   drop(name) -> true, or nil and the reason
 * [-0, +0, e] */
void sandbox_open(lua_State *L);

#endif
