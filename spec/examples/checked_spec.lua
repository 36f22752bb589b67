-- The examples' back ends, checked as a user's own are.
local files = require("spec.support.files")
local popd = require("popd")

-- Runs f with this command line and a package.path that it may change: threads
-- are given both.
local function with_arg(words, f)
   local before, path = arg, package.path
   rawset(_G, "arg", words)
   local ok, why = pcall(f)
   rawset(_G, "arg", before)
   package.path = path
   assert(ok, why)
end

-- Runs an example with a popd whose servers do not go up; the options of its server.
local function options_of(name, ...)
   local words = { [0] = "examples/" .. name, ... }
   local taken
   local function new(first, second)
      taken = second or first
      return { up = function() end }
   end
   local stand_in = setmetatable({ new = new, run = function() end }, { __index = popd })
   local env = setmetatable({
      arg = words,
      require = function(module)
         return module == "popd" and stand_in or require(module)
      end,
   }, { __index = _G })
   with_arg(words, assert(loadfile("examples/" .. name, "t", env)))
   return taken
end

-- The storage, and the mbox that a user of it logs in to.
local function site_of(user, name, ...)
   local options = options_of(name, ...)
   local auth = options.auth
   local _, mbox
   if type(auth) == "function" then
      _, mbox = auth("lookup", user)
   else
      _, mbox = auth.lookup(user)
   end
   return options.storage, mbox
end

describe("popd.check passes the back end of", function()
   local dir

   before_each(function()
      popd.log_to(nil, "none")
      dir = files.new_dir()
   end)

   after_each(function()
      files.remove(dir)
   end)

   for _, name in ipairs { "ten_lines.lua", "tcl_style.lua" } do
      it(name, function()
         local storage, mbox = site_of("joe", name)
         local ok, report = popd.check(storage, { mbox = mbox, destructive = true })
         assert.is_true(ok, tostring(report))
      end)
   end

   it("maildir.lua", function()
      files.run("mkdir -p %s/joe/new", dir)
      files.put(dir .. "/users", "joe:secret\n")
      local n, storage, mbox = 0, site_of("joe", "maildir.lua", dir, dir .. "/users")
      local ok, report = popd.check(storage, { mbox = mbox, put = function(_, text)
         n = n + 1
         files.put(("%s/joe/new/%d.x.host"):format(dir, 1700000000 + n), text)
      end })
      assert.is_true(ok, tostring(report))
   end)

   it("sqlite.lua", function()
      if not pcall(require, "luasql.sqlite3") then
         pending("LuaSQL for SQLite is not installed")
         return
      end
      local storage, mbox = site_of("joe", "sqlite.lua", dir .. "/mail.db")
      local ok, report = popd.check(storage, { mbox = mbox, destructive = true })
      assert.is_true(ok, tostring(report))
   end)
end)
