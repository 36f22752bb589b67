#include "secret.h"

#include "digest.h"

#include <crypt.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define SECRET "popd.secret"

/* A call of crypt or pbkdf2, a userdata.  The registry holds it, by its
 * address, while it is the pool's: the script that waited may be gone before
 * the thread is through with it. */
struct secret {
    struct pool_job job;
    bool given;                    /* it is the pool's */
    struct tasks *tasks;           /* borrowed */
    struct task *task;             /* who waits; borrowed */
    void (*make)(struct secret *); /* fills result, or sets why */
    const char *why;               /* a literal; NULL: there is a result */
    enum digest_kind kind;
    unsigned iterations;
    size_t password_len, salt_len, result_len;
    char password[SECRET_PASSWORD_MAX + 1];
    char salt[SECRET_SALT_MAX + 1]; /* crypt's: the setting */
    char result[CRYPT_OUTPUT_SIZE];
};

/* In a thread ---------------------------------------------------------------- */

/* The 32 KB that crypt works in are on the heap: threads' stacks are small. */
static void
make_crypt(struct secret *s)
{
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *hash = data ? crypt_rn(s->password, s->salt, data, sizeof *data) : NULL;

    if (!hash || hash[0] == '*') {
        s->why = data ? "crypt(3) does not take this setting or this password" : "out of memory";
    } else {
        s->result_len = strlen(hash);
        memcpy(s->result, hash, s->result_len);
    }
    if (data)
        digest_wipe(data, sizeof *data);
    free(data);
}

static void
make_pbkdf2(struct secret *s)
{
    if (!digest_pbkdf2(s->kind, s->password, s->password_len, s->salt, s->salt_len, s->iterations,
                       (unsigned char *)s->result, s->result_len))
        s->why = "mbedTLS refuses this digest";
}

static void
make(void *owner)
{
    struct secret *s = owner;

    s->make(s);
    digest_wipe(s->password, sizeof s->password);
}

/* On the loop's thread -------------------------------------------------------- */

static void
wipe(struct secret *s)
{
    digest_wipe(s->password, sizeof s->password);
    digest_wipe(s->result, sizeof s->result);
}

/* It is Lua's collector's from here on.  Clearing a key that is there raises nothing. */
static void
let_go(lua_State *L, struct secret *s)
{
    s->given = false;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
}

static int
push_secret(lua_State *L, void *owner)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, owner);
    let_go(L, owner);
    return 1;
}

static void
secret_done(void *owner)
{
    struct secret *s = owner;

    task_resume(s->task, push_secret, s);
}

static void
secret_drop(void *owner)
{
    struct secret *s = owner;

    wipe(s);
    let_go(s->tasks->L, s);
}

static void
secret_cancel(void *owner)
{
    struct secret *s = owner;

    pool_cancel(&s->job);
}

/* As Lua has them -------------------------------------------------------------- */

static int
l_gc(lua_State *L)
{
    struct secret *s = luaL_checkudata(L, 1, SECRET);

    if (!s->given) /* at the state's end a thread may be at it */
        wipe(s);
    return 0;
}

/* Pushes one.  [-0, +1, e] */
static struct secret *
new_secret(lua_State *L, void (*how)(struct secret *))
{
    struct secret *s = lua_newuserdatauv(L, sizeof *s, 0);

    memset(s, 0, sizeof *s);
    s->tasks = lua_touserdata(L, lua_upvalueindex(1));
    s->make = how;
    s->job = (struct pool_job){.work = make, .done = secret_done, .drop = secret_drop, .owner = s};
    luaL_setmetatable(L, SECRET);
    return s;
}

/* Copies a string, with a NUL behind it.  False: it is too long. */
static bool
take_octets(lua_State *L, int index, size_t max, char *to, size_t *len)
{
    const char *octets = luaL_checklstring(L, index, len);

    if (*len > max)
        return false;
    memcpy(to, octets, *len);
    to[*len] = '\0';
    return true;
}

static int
refuse(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* The result of the secret on top of the stack: octets, or nil and the reason. */
static int
finish(lua_State *L, int status, lua_KContext context)
{
    struct secret *s = lua_touserdata(L, -1);

    (void)status, (void)context;
    if (s->why)
        return refuse(L, s->why);
    lua_pushlstring(L, s->result, s->result_len);
    wipe(s);
    return 1;
}

/* (secret) -> the same, when a thread is through with it */
static int
l_start(lua_State *L)
{
    struct pool *pool = lua_touserdata(L, lua_upvalueindex(1));
    struct secret *s = lua_touserdata(L, 1);

    s->task = task_running(L, s->tasks, "scheme");
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    s->given = true;
    if (pool_start(pool, &s->job, &s->why))
        return task_wait(L, s->task, secret_cancel, s);
    return push_secret(L, s);
}

/* Works on the secret on top of the stack, which ends the calling C function.
 * A function of its own does the waiting: what it leads to may raise, so that it
 * cannot be done where the loop wakes us. */
static int
run(lua_State *L, struct secret *s)
{
    if (!s->tasks->loop)
        return luaL_error(L, "popd is closed: the Lua state ends");
    if (!s->tasks->running && !s->tasks->loop->running) {
        make(s);
        return finish(L, LUA_OK, 0);
    }
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, -2);
    lua_callk(L, 1, 1, 0, finish);
    return finish(L, LUA_OK, 0);
}

/* crypt(password, setting) -> hash, or nil and the reason */
static int
l_crypt(lua_State *L)
{
    struct secret *s = new_secret(L, make_crypt);

    if (!take_octets(L, 2, SECRET_SALT_MAX, s->salt, &s->salt_len) || strlen(s->salt) != s->salt_len)
        return refuse(L, "that is no setting of crypt(3)");
    if (!take_octets(L, 1, CRYPT_MAX_PASSPHRASE_SIZE - 1, s->password, &s->password_len))
        return refuse(L, "the password is too long for crypt(3)");
    if (strlen(s->password) != s->password_len)
        return refuse(L, "a password with a NUL cannot be hashed by crypt(3)");
    return run(L, s);
}

static enum digest_kind
check_kind(lua_State *L, int index)
{
    enum digest_kind kind = DIGEST_SHA256;

    luaL_argcheck(L, digest_find(luaL_checkstring(L, index), &kind), index, "a digest's name expected");
    return kind;
}

/* pbkdf2(kind, password, salt, iterations, length) -> octets, or nil and the reason */
static int
l_pbkdf2(lua_State *L)
{
    enum digest_kind kind = check_kind(L, 1);
    lua_Integer iterations = luaL_checkinteger(L, 4), length = luaL_checkinteger(L, 5);
    struct secret *s;

    luaL_argcheck(L, iterations >= 1 && iterations <= SECRET_ITERATIONS_MAX, 4,
                  "from 1 to 10000000 expected");
    luaL_argcheck(L, length >= 1 && length <= SECRET_LENGTH_MAX, 5, "from 1 to 256 octets expected");
    s = new_secret(L, make_pbkdf2);
    s->kind = kind;
    s->iterations = (unsigned)iterations;
    s->result_len = (size_t)length;
    if (!take_octets(L, 3, SECRET_SALT_MAX, s->salt, &s->salt_len))
        return refuse(L, "the salt is too long");
    if (!take_octets(L, 2, SECRET_PASSWORD_MAX, s->password, &s->password_len))
        return refuse(L, "the password is too long");
    return run(L, s);
}

/* crypt_salt(prefix or nil [, cost]) -> a setting with random salt, or nil and the reason */
static int
l_crypt_salt(lua_State *L)
{
    const char *prefix = luaL_optstring(L, 1, NULL);
    lua_Integer cost = luaL_optinteger(L, 2, 0);
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];

    luaL_argcheck(L, cost >= 0 && cost <= SECRET_ITERATIONS_MAX, 2, "from 0 to 10000000 expected");
    if (!crypt_gensalt_rn(prefix, (unsigned long)cost, NULL, 0, setting, sizeof setting))
        return refuse(L, "crypt(3) does not know this method or this cost");
    lua_pushstring(L, setting);
    return 1;
}

/* crypt_known(setting) -> whether this crypt(3) takes it */
static int
l_crypt_known(lua_State *L)
{
    int state = crypt_checksalt(luaL_checkstring(L, 1));

    lua_pushboolean(L, state != CRYPT_SALT_INVALID && state != CRYPT_SALT_METHOD_DISABLED);
    return 1;
}

void
secret_open(lua_State *L, struct tasks *tasks, struct pool *pool)
{
    static const luaL_Reg functions[] = {
        {"crypt", l_crypt},
        {"pbkdf2", l_pbkdf2},
        {"crypt_salt", l_crypt_salt},
        {"crypt_known", l_crypt_known},
        {NULL, NULL},
    };

    luaL_newmetatable(L, SECRET);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushlightuserdata(L, tasks);
    lua_pushlightuserdata(L, pool);
    lua_pushcclosure(L, l_start, 1);
    luaL_setfuncs(L, functions, 2);
}
