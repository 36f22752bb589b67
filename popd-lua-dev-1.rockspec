rockspec_format = "3.0"
package = "popd-lua"
version = "dev-1"
source = {
   url = "git+https://example.invalid/popd-lua.git",
}
description = {
   summary = "A POP3 server whose storage, login and policy are Lua functions",
   detailed = [[
      A C core owns bytes, protocol, time and limits; Lua functions that read
      like blocking code and never block decide who may log in and what the
      mail is.  Brings the module popd and the program popd-lua.
   ]],
   license = "MIT",
   labels = { "pop3", "mail", "server", "network" },
}
supported_platforms = { "unix" }
dependencies = {
   "lua >= 5.4, < 5.5",
}
external_dependencies = {
   EV = { header = "ev.h" },
   MBEDTLS = { header = "mbedtls/md.h" },
   CRYPT = { header = "crypt.h" },
   UTF8PROC = { header = "utf8proc.h" },
}
build = {
   type = "make",
   build_target = "module",
   build_variables = {
      CC = "$(CC)",
      CFLAGS = "$(CFLAGS) -I$(EV_INCDIR) -I$(MBEDTLS_INCDIR) -I$(CRYPT_INCDIR) -I$(UTF8PROC_INCDIR)",
      LIBFLAG = "$(LIBFLAG)",
      LUA = "$(LUA)",
      LUA_INCDIR = "$(LUA_INCDIR)",
   },
   install_variables = {
      PREFIX = "$(PREFIX)",
      BINDIR = "$(BINDIR)",
      CONFDIR = "$(CONFDIR)",
      LIBDIR = "$(LIBDIR)",
      LUADIR = "$(LUADIR)",
      LUA_INCDIR = "$(LUA_INCDIR)",
   },
}
