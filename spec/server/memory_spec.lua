-- popd.memory_limit: a callback that hoards is stopped, its session ends, the others
-- are served, and what it took comes back.
local client = require("support.client")
local popd = require("popd")
local program = require("spec.support.program")
local store = require("support.store")

local MB = 1024 * 1024
local ROOM = 8 * MB -- what callbacks may take here

-- The cap is ROOM above what is in use.
local function limit()
   collectgarbage()
   collectgarbage()
   local cap = popd.memory_limit() + ROOM
   popd.memory_limit(cap)
   return cap
end

after_each(function()
   popd.memory_limit(false)
   client.finish()
   collectgarbage()
end)

local function hoard()
   local all = {} -- luacheck: ignore 241
   while true do
      all[#all + 1] = { #all }
   end
end

-- Ways to take more than there is; each would go on for ever.
local ways = {
   ["a huge string"] = function()
      local s = "x"
      while true do s = s .. s end
   end,
   ["a huge table"] = function()
      local t = {} -- luacheck: ignore 241
      while true do t[#t + 1] = true end
   end,
   ["many small tables"] = hoard,
   ["many small tables, in pcall"] = function()
      local all = {}
      local function add() all[#all + 1] = { #all } end
      while true do pcall(add) end
   end,
   ["tables again and again, in pcall"] = function() while true do pcall(hoard) end end,
   ["string.rep in pcall"] = function() while true do pcall(string.rep, "x", 1e9) end end,
   ["table.concat in xpcall"] = function()
      local t = {}
      for i = 1, 100 do t[i] = ("x"):rep(MB // 4) end
      while true do xpcall(table.concat, print, t) end
   end,
   ["string.rep in a coroutine"] = function()
      while true do coroutine.resume(coroutine.create(string.rep), "x", 1e9) end
   end,
   ["a coroutine that hoards in pcall"] = function()
      local all = {}
      local function add() all[#all + 1] = { #all } end
      coroutine.wrap(function() while true do pcall(add) end end)()
   end,
   ["coroutines"] = function()
      local all = {}
      while true do all[#all + 1] = coroutine.create(hoard) end
   end,
   ["deep recursion"] = function()
      local function f(...) return (f(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)) end
      while true do pcall(f) end
   end,
   ["a string in __close"] = function()
      local guard <close> = setmetatable({}, { __close = function()
         while true do pcall(string.rep, "x", 1e9) end
      end })
      error("x" .. tostring(guard ~= nil))
   end,
   ["a buffer, between waits"] = function()
      local parts = {}
      while true do
         parts[#parts + 1] = ("x"):rep(65536)
         client.turn()
      end
   end,
}

describe("a callback that takes too much memory", function()
   for what, f in pairs(ways) do
      it("by " .. what .. " is stopped in get, and what it took comes back", function()
         local cap = limit()
         local options = what == "deep recursion" and { callback_timeout = 1 } or nil
         local server, s = store.server({ "a" }, options, { lock = false, get = f })
         local c, other = client.login(server), client.login(server)
         c:send("RETR 1\r\n")
         client.wait_for("its end", function()
            assert.equal("+OK 1 3", other:command("STAT"))
            c:fill()
            return c.eof
         end)
         assert.truthy(c.buffer:find("^%-ERR %[SYS/TEMP%] [^\n]*\n$"), c.buffer)
         local told = client.logged('^error.*callback=storage.get command="RETR 1"')
         assert.equal(1, #told)
         -- Newer ones of Lua 5.4 do not collect for a stack: what was refused is there
         -- once the calls have ended, and others may be tried, until the time is up.
         assert.truthy(told[1]:find("popd.memory_limit", 1, true)
            or what == "deep recursion" and told[1]:find("callback_timeout", 1, true), told[1])
         assert.equal(0, s.held)
         collectgarbage()
         collectgarbage()
         assert.is_true(popd.memory_limit() < cap - ROOM + MB)
      end)
   end

   it("is stopped in lookup", function()
      limit()
      local server = client.server { auth = { lookup = hoard } }
      local c = client.connect(server)
      c:command("USER joe")
      c:stopped("PASS secret")
   end)

   it("is stopped in a pull function, which cuts the connection", function()
      limit()
      local server, s = store.server({ "a" }, nil, { size = function() return 3 end, get = function()
         return function() return hoard() end
      end })
      local c = client.login(server)
      c:send("RETR 1\r\n")
      local _, all = c:closed()
      assert.is_nil(all:find("\r\n.\r\n", 1, true))
      client.wait_for("the unlock", function() return s.unlocks == 1 end)
      assert.equal(1, #client.logged("callback=\"get's function\".*popd.memory_limit"))
   end)

   it("is stopped in popd.spawn, and logged", function()
      client.server()
      limit()
      popd.spawn(hoard)
      client.wait_for("the log", function()
         return #client.logged("a spawned function failed.*popd.memory_limit") == 1
      end)
   end)

   it("leaves the others their work, also where it keeps what it took", function()
      limit()
      local kept = {}
      local server = store.server({ "a" }, nil, { lock = false, get = function()
         while true do kept[#kept + 1] = { #kept } end
      end })
      local c, other = client.login(server), client.login(server)
      c:stopped("RETR 1")
      for _ = 1, 20 do
         assert.equal("+OK", other:command("NOOP"))
      end
      assert.is_true(#kept > 1000)
      kept = {} -- luacheck: ignore
      assert.equal("+OK 1 3", other:command("STAT"))
   end)
end)

describe("the cap on memory", function()
   it("counts no garbage: many short-lived strings may pass", function()
      limit()
      local server = store.server({ "a" }, nil, { get = function()
         local n = 0
         for i = 1, 60 do
            n = n + #(("x"):rep(MB // 2) .. i)
         end
         local t = {}
         for i = 1, 200000 do
            t = { i, t[1] }
         end
         return n > 60 * MB // 2 and "a" or nil
      end })
      assert.equal("a\r\n", (client.login(server):fetch("RETR 1")))
   end)

   it("may be met and got over: what fits after a collection is given", function()
      limit()
      local server = store.server({ "a" }, nil, { get = function()
         local most = 0
         for _ = 1, 5 do
            local t = table.move({}, 1, 0, 1, {})
            for i = 1, 70000 do t[i] = { i } end -- about half of what there is, then garbage
            most = math.max(most, #t)
         end
         return most == 70000 and "a" or nil
      end })
      assert.equal("a\r\n", (client.login(server):fetch("RETR 1")))
   end)

   it("is none for the main chunk", function()
      limit()
      assert.equal(2 * ROOM, #("x"):rep(2 * ROOM))
   end)

   it("is gone after false", function()
      limit()
      popd.memory_limit(false)
      local server = store.server({ "a" }, nil, { get = function()
         return #("x"):rep(2 * ROOM) > 0 and "a" or nil
      end })
      assert.equal("a\r\n", (client.login(server):fetch("RETR 1")))
   end)

   it("may be changed by a callback, and is exact", function()
      local used = popd.memory_limit(popd.memory_limit() + 64 * MB)
      local s = ("x"):rep(4 * MB)
      assert.is_true(popd.memory_limit() >= used + #s)
      local server = store.server({ "a" }, nil, { get = function()
         popd.memory_limit(popd.memory_limit() + 2 * MB)
         return ("x"):rep(16 * MB)
      end })
      client.login(server):stopped("RETR 1")
   end)

   for what, value in pairs { ["0"] = 0, ["a negative number"] = -1, ["a fraction"] = 1.5, ["true"] = true,
      ["a text"] = "much" } do
      it("cannot be " .. what, function()
         assert.has_error(function() popd.memory_limit(value) end)
      end)
   end

   it("cannot be below what is in use", function()
      local ok, err = pcall(popd.memory_limit, 1000)
      assert.is_false(ok)
      assert.truthy(err:find("already", 1, true), err)
   end)

   it("ends with the Lua state, in the program and in a host's own", function()
      for _, command in ipairs { program.popd_lua(), program.lua() } do
         local status, out, err = program.run(command, "-e", [[
            local popd = require "popd"
            popd.memory_limit(64 * 1024 * 1024)
            keep = setmetatable({}, { __gc = function() io.write("gone ", #("x"):rep(100)) end })
            popd.spawn(function() return ("x"):rep(1e9) end)
            popd.run()]])
         assert.equal(0, status, err)
         assert.equal("gone 100", out)
         assert.truthy(err:find("popd.memory_limit", 1, true), err)
      end
   end)
end)
