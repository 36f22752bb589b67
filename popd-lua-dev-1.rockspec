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
   EV = { header = "ev.h", library = "ev" },
   MBEDTLS = { header = "mbedtls/md.h", library = "mbedtls" },
   CRYPT = { header = "crypt.h", library = "crypt" },
   UTF8PROC = { header = "utf8proc.h", library = "utf8proc" },
}
build = {
   type = "make",
   build_target = "module",
   build_variables = {
      CC = "$(CC)",
      CFLAGS = "$(CFLAGS) -I$(EV_INCDIR) -I$(MBEDTLS_INCDIR) -I$(CRYPT_INCDIR) -I$(UTF8PROC_INCDIR)",
      LIBFLAG = "$(LIBFLAG)",
      -- mbedTLS first: its headers and its library must be of one release, and
      -- the others' folder may hold another.
      LDFLAGS = "-L$(MBEDTLS_LIBDIR) -L$(EV_LIBDIR) -L$(CRYPT_LIBDIR) -L$(UTF8PROC_LIBDIR)"
         .. " -Wl,-rpath,$(MBEDTLS_LIBDIR):$(EV_LIBDIR):$(CRYPT_LIBDIR):$(UTF8PROC_LIBDIR)",
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
