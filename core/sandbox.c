#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <lauxlib.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define ENTRY_ROOM 16384 /* for one user's texts in the system's list */

static bool
is_root(void)
{
    return geteuid() == 0;
}

bool
sandbox_find_user(const char *name, struct sandbox_user *user, const char **why)
{
    struct passwd entry, *found = NULL;
    char *room = malloc(ENTRY_ROOM);
    int code = room ? getpwnam_r(name, &entry, room, ENTRY_ROOM, &found) : ENOMEM;

    *why = found || code == 0 ? "there is no such user" : strerror(code);
    if (found && strlen(name) > SANDBOX_NAME_MAX)
        found = NULL;
    if (found) {
        *user = (struct sandbox_user){.uid = entry.pw_uid, .gid = entry.pw_gid};
        memcpy(user->name, name, strlen(name) + 1);
    }
    free(room);
    return found != NULL;
}

/* Programs with the setuid bit, or with capabilities, give no rights any more. */
static bool
gain_nothing(void)
{
#ifdef PR_SET_NO_NEW_PRIVS
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
#else
    return true;
#endif
}

/* Real, effective and saved ids; without the last, root could be had again. */
static bool
set_ids(uid_t uid, gid_t gid)
{
#ifdef __linux__
    return setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;
#else
    return setgid(gid) == 0 && setuid(uid) == 0; /* of root's: all three */
#endif
}

static bool
has_ids(uid_t uid, gid_t gid)
{
#ifdef __linux__
    uid_t u[3];
    gid_t g[3];

    return getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0 && u[0] == uid &&
           u[1] == uid && u[2] == uid && g[0] == gid && g[1] == gid && g[2] == gid;
#else
    return getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid;
#endif
}

/* Believes what the system does, not what it says: a way back to root must fail. */
static bool
is_dropped(const struct sandbox_user *user)
{
    return has_ids(user->uid, user->gid) &&
           (user->uid == 0 || (setuid(0) != 0 && seteuid(0) != 0 && geteuid() == user->uid));
}

static bool
become(const struct sandbox_user *user, const char **why)
{
    if (initgroups(user->name, user->gid) != 0)
        *why = "cannot set the user's groups";
    else if (!set_ids(user->uid, user->gid))
        *why = "cannot change to that user";
    else if (!is_dropped(user))
        *why = "the system left a way back to root";
    else
        return true;
    return false;
}

bool
sandbox_drop(const struct sandbox_user *user, const char **why)
{
    if (!is_root() && geteuid() != user->uid) {
        *why = "only root can change to another user";
        return false;
    }
    if (is_root() && !become(user, why))
        return false;
    if (gain_nothing())
        return true;
    *why = "the system refuses to give up further rights";
    return false;
}

/* nil and "user 'name': reason".  [-0, +2, m] */
static int
fail(lua_State *L, const char *name, const char *why)
{
    lua_pushnil(L);
    lua_pushfstring(L, "user '%s': %s", name, why);
    return 2;
}

static int
l_user_id(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *why;
    struct sandbox_user user;

    if (!sandbox_find_user(name, &user, &why))
        return fail(L, name, why);
    lua_pushinteger(L, (lua_Integer)user.uid);
    return 1;
}

static int
l_own_id(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)geteuid());
    return 1;
}

static int
l_drop(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *why;
    struct sandbox_user user;

    if (!sandbox_find_user(name, &user, &why) || !sandbox_drop(&user, &why))
        return fail(L, name, why);
    lua_pushboolean(L, 1);
    return 1;
}

void
sandbox_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"user_id", l_user_id},
        {"own_id", l_own_id},
        {"drop", l_drop},
        {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
}
