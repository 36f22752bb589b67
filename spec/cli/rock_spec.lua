local files = require("spec.support.files")
local program = require("spec.support.program")

local LUAROCKS = "env -u LD_PRELOAD -u MAKEFLAGS -u MAKELEVEL -u TLS -u LUA_PATH -u LUA_CPATH"
   .. " luarocks --lua-version 5.4"

local function is_there()
   return os.execute("command -v luarocks >/dev/null 2>&1") == true
end

describe("the rock", function()
   local dir, tree

   -- A folder of its own for mbedTLS, as somebody has it who built it.
   local function put_mbedtls(opt)
      files.run("mkdir -p %s/include %s/lib && ln -s /usr/include/mbedtls %s/include", opt, opt, opt)
      files.run([[ln -s "$(dirname "$(cc -print-file-name=libmbedtls.so)")"/libmbed*.so* %s/lib]], opt)
   end

   -- Once for all: a copy of what the rock is made of, built and installed.
   setup(function()
      if not is_there() then
         return
      end
      dir = files.new_dir()
      tree = dir .. "/tree"
      local source, log = dir .. "/src", dir .. "/log"
      files.run("mkdir %s && cp -R Makefile popd-lua-dev-1.rockspec LICENSE core lua bin %s", source, source)
      put_mbedtls(dir .. "/opt")
      files.run("cd %s && " .. LUAROCKS .. " --tree %s make MBEDTLS_DIR=%s >%s 2>&1 || { cat %s; false; }",
         source, tree, dir .. "/opt", log, log)
   end)

   teardown(function()
      if dir then
         files.remove(dir)
      end
   end)

   local function rule(name, f)
      it(name, function()
         if not is_there() then
            return pending("luarocks is not installed")
         end
         f()
      end)
   end

   local function output_of(command)
      local pipe = assert(io.popen(command))
      local text = pipe:read("a")
      pipe:close()
      return text
   end

   --- lua5.4 that finds what the tree holds and what is installed beside, nothing of this project.
   local function lua()
      return {
         "env", "-u", "LD_PRELOAD", "-u", "POPD_INTERPRETER",
         ("LUA_PATH=%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;;"):format(tree, tree),
         ("LUA_CPATH=%s/lib/lua/5.4/?.so;;"):format(tree), "POPD_LUA=" .. tree .. "/bin/popd-lua", "lua5.4",
      }
   end

   rule("installs every module of lua/popd, and the core", function()
      for name in output_of("cd lua && ls popd/*.lua"):gmatch("%S+") do
         assert.equal(files.text("lua/" .. name), files.text(tree .. "/share/lua/5.4/" .. name))
      end
      assert.is_true(files.exists(tree .. "/lib/lua/5.4/popd/core.so"))
   end)

   rule("is linked with the mbedTLS whose headers it was told of", function()
      local linked = output_of(("ldd %s/lib/lua/5.4/popd/core.so"):format(files.quote(tree)))
      for _, name in ipairs { "mbedtls", "mbedx509", "mbedcrypto" } do
         assert.is_truthy(linked:find(("%s/opt/lib/lib%s.so"):format(dir, name), 1, true), linked)
      end
   end)

   rule("leaves nothing beside the sources", function()
      local left = output_of(("cd %s && find . -name build -prune -o -name '*.o' -print -o -name '*.so' -print")
         :format(files.quote(dir .. "/src")))
      assert.equal("", left)
   end)

   rule("brings popd-lua", function()
      local bare = { "env", "-u", "LUA_PATH", "-u", "LUA_CPATH", tree .. "/bin/popd-lua" }
      local status, out = program.run(bare, "--version")
      assert.equal(0, status)
      assert.is_truthy(out:find("^popd%-lua %S+ %(Lua 5%.4, mbedTLS [%d.]+%)"))
   end)

   rule("gives popd-lua's exit status on", function()
      assert.equal(2, (program.run({ tree .. "/bin/popd-lua" }, "--what")))
      assert.equal(7, (program.run({ tree .. "/bin/popd-lua" }, "-e", "os.exit(7)")))
   end)

   rule("loads the installed module, not another", function()
      local status, out, err = program.run(lua(), "-e", [[
         require("popd")
         print(package.searchpath("popd", package.path), package.searchpath("popd.core", package.cpath))]])
      assert.equal(0, status, err)
      assert.equal(("%s/share/lua/5.4/popd/init.lua\t%s/lib/lua/5.4/popd/core.so\n"):format(tree, tree), out)
   end)

   -- Each for itself: what runs for too long is ended.
   local specs = { "spec/lua/fs_spec.lua", "spec/lua/memory_spec.lua" }
   for path in output_of("ls spec/examples/*_spec.lua"):gmatch("%S+") do
      specs[#specs + 1] = path
   end

   for _, spec in ipairs(specs) do
      rule("passes " .. spec, function()
         local busted = output_of("command -v busted"):match("%S+")
         local status, out, err = program.run(lua(), busted, "--lpath=", "--cpath=", "-o", "plainTerminal", spec)
         assert.equal(0, status, out .. err)
      end)
   end
end)
