/*
 * secret - what is slow by intent, off the loop: crypt(3) and PBKDF2.
 *
 * Waiting functions over pool: start, done, cancel.  In a script's main chunk
 * they simply block.  A password is copied into the job and wiped there as soon
 * as it was used, or its job given up.  libcrypt's static buffer is never used.
 */
#ifndef POPD_SECRET_H
#define POPD_SECRET_H

#include "pool.h"
#include "task.h"

#define SECRET_PASSWORD_MAX 1024       /* octets; crypt(3) itself takes 511 */
#define SECRET_SALT_MAX 512            /* octets of a salt, or of crypt(3)'s setting */
#define SECRET_LENGTH_MAX 256          /* octets that pbkdf2 makes at most */
#define SECRET_ITERATIONS_MAX 10000000 /* seconds of a thread, not hours */

/* Adds to the table on top of the stack: crypt, crypt_salt, crypt_known,
 * pbkdf2.  Both must outlive the Lua state's last call of them.  [-0, +0, e] */
void secret_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
