/*
 * fscall - what of fs takes its time: off the loop (see fs.h).
 */
#ifndef POPD_FSCALL_H
#define POPD_FSCALL_H

#include "fs.h"

/* Adds to the table on top of the stack: scandir, fsync, write, read, octets,
 * and
 *
 *   change(froms, tos) -> results, reasons
 *       renames each of an array of paths, replacing nothing, or removes it where
 *       the other array has false; results are true, or an error's name (false:
 *       a rare one), and then there is a reason
 *
 * [-0, +0, e] */
void fscall_open(lua_State *L, struct tasks *tasks, struct pool *pool);

#endif
