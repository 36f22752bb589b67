-- A guard that trips ends the session, whatever callback it was: the client reads
-- [SYS/TEMP], nothing is deleted, the lock is given back once, and others go on.
local client = require("support.client")
local core = require("popd.core")
local faults = require("popd.faults")
local popd = require("popd")
local store = require("support.store")

local MB = 1024 * 1024

local function forever()
   while true do end
end

-- What each guard stops; `options` and `limit` (octets above what is in use) make it strict.
local guards = {
   { name = "the deadline", options = { callback_timeout = 0.05 }, text = "callback_timeout",
      trip = function() client.never() end },
   { name = "the budget", options = { callback_instructions = 1e6 }, text = "callback_instructions", trip = forever },
   { name = "the memory cap", limit = 8 * MB, text = "popd.memory_limit",
      trip = function() return #("x"):rep(64 * MB) end },
   { name = "the bound on nested calls", text = "nested too deep", trip = function()
      local function deeper()
         return 1 + deeper()
      end
      return deeper()
   end },
}

local function limit_memory(guard)
   if guard.limit then
      collectgarbage()
      popd.memory_limit(popd.memory_limit() + guard.limit)
   end
end

local function serve(guard, changes, options)
   local all = {}
   for _, values in ipairs { guard.options or {}, options or {} } do
      for key, value in pairs(values) do
         all[key] = value
      end
   end
   limit_memory(guard)
   return store.server({ "a", "b" }, all, changes)
end

local function wait_for_unlock(s)
   client.wait_for("the unlock", function() return s.held == 0 end)
   assert.equal(1, s.unlocks)
end

after_each(function()
   popd.memory_limit(false)
   client.finish()
end)

for _, guard in ipairs(guards) do
   describe(guard.name, function()
      local function tripping()
         return guard.trip()
      end

      -- Twice: where memory lacked the code is stopped right behind what failed.
      local function caught()
         return pcall(function()
            pcall(tripping)
            return nil
         end)
      end

      -- callback          its command
      for name, command in pairs { get = "RETR 1", top = "TOP 1 0", uidl = "UIDL", size = "STAT" } do
         it("ends the session in " .. name .. ": [SYS/TEMP], then the end", function()
            local server, s = serve(guard, { [name] = name ~= "size" and tripping or function(_, id)
               return id and tripping() or 3
            end, scan = name == "size" and function() return { false, 3 } end or nil })
            local other = client.connect(server)
            local c = client.login(server)
            c:command("DELE 2")
            c:stopped(command)
            wait_for_unlock(s)
            assert.equal(2, #s.messages)
            assert.equal("+OK", other:command("CAPA"):sub(1, 3))
            assert.equal(1, #client.logged("^error.*callback=storage." .. name .. ".*" .. guard.text))
         end)
      end

      it("in a site's command ends the session likewise", function()
         local server, s = serve(guard, nil, { commands = { XTRIP = tripping } })
         local c = client.login(server)
         c:stopped("XTRIP now")
         wait_for_unlock(s)
         assert.equal(1, #client.logged("callback=commands.XTRIP command=XTRIP conn="))
      end)

      it("runs no command that was sent behind", function()
         local server, s = serve(guard, { get = tripping })
         local c = client.login(server)
         c:send("DELE 2\r\nRETR 1\r\nNOOP\r\nQUIT\r\n")
         local _, all = c:closed()
         assert.truthy(all:find("^%+OK [^\n]*\n%-ERR %[SYS/TEMP%] [^\n]*\n$"), all)
         wait_for_unlock(s)
         assert.equal(2, #s.messages)
      end)

      it("is not passed by an answer that comes all the same", function()
         local server, s = serve(guard, { get = function()
            caught()
            return "a"
         end })
         client.login(server):stopped("RETR 1")
         wait_for_unlock(s)
      end)

      it("is not passed by an error of the script's own words", function()
         local server = serve(guard, { get = function()
            caught()
            error { code = "AUTH", text = "no" }
         end })
         client.login(server):stopped("RETR 1")
      end)

      it("in dele is told, and unlocks once", function()
         local server, s = serve(guard, { dele = function()
            caught()
            return true
         end })
         local c = client.login(server)
         c:command("DELE 1")
         assert.equal("-ERR [SYS/TEMP] some deleted messages not removed", c:command("QUIT"))
         wait_for_unlock(s)
      end)

      it("in a pull function cuts the connection, also where that goes on with a chunk", function()
         for _, pull in ipairs { tripping, function() caught() return "x" end } do
            local server, s = serve(guard, { size = function() return 3 end, get = function() return pull end })
            local c = client.login(server)
            c:send("RETR 1\r\n")
            local _, all = c:closed()
            assert.is_nil(all:find("\r\n.\r\n", 1, true))
            wait_for_unlock(s)
         end
      end)

      it("in a source that is read to be counted is a fault of get, and ends the session", function()
         local server, s = serve(guard, { size = false, get = function() return tripping end })
         client.login(server):stopped("LIST 1")
         wait_for_unlock(s)
      end)

      for name, options in pairs {
         login = { on = { login = tripping } },
         lookup = { auth = { lookup = tripping } },
         exists = { auth = { exists = tripping, lookup = store.auth.lookup } },
         verify = { auth = { verify = tripping } },
      } do
         it("in " .. name .. " refuses the login, and ends the connection", function()
            local server, s = serve(guard, nil, options)
            local c = client.connect(server)
            c:command("USER joe")
            c:stopped("PASS secret")
            assert.equal(0, s.locks)
         end)
      end

      it("in logged_in refuses the login, gives the lock back and ends the connection", function()
         local server, s = serve(guard, nil, { on = { logged_in = tripping } })
         local c = client.connect(server)
         c:command("USER joe")
         c:stopped("PASS secret")
         wait_for_unlock(s)
      end)

      it("in connect refuses the connection", function()
         local server = serve(guard, nil, { on = { connect = tripping } })
         local c, greeting = client.connect(server)
         assert.truthy(greeting:find("^%-ERR %[SYS/TEMP%]"))
         assert.same({ true, "" }, { c:closed() })
      end)

      it("in token ends the exchange with [SYS/TEMP], not with one more challenge", function()
         local server = serve(guard, nil, { auth = { token = tripping }, plain_login = "always" })
         local c = client.connect(server)
         c:stopped("AUTH XOAUTH2 " .. core.base64("user=joe\1auth=Bearer x\1\1"))
      end)

      for name, case in pairs {
         capa = { "CAPA", "^%+OK .*\r\n%.\r\n%-ERR %[SYS/TEMP%] [^\n]*\n$" },
         retrieved = { "RETR 1", "^%+OK 3 octets\r\na\r\n%.\r\n%-ERR %[SYS/TEMP%] [^\n]*\n$" },
         quit = { "QUIT", "^%-ERR %[SYS/TEMP%] some deleted messages not removed\r\n$" },
         disconnect = { "QUIT", "^%+OK bye\r\n$" },
      } do
         it(("in the hook %s: %s is answered, then the session ends"):format(name, case[1]), function()
            local server, s = serve(guard, nil, { on = { [name] = tripping } })
            local c = client.login(server)
            c:command("DELE 2")
            c:send(case[1] .. "\r\n")
            local _, all = c:closed()
            assert.truthy(all:find(case[2]), all)
            wait_for_unlock(s)
            assert.equal(name == "disconnect" and 1 or 2, #s.messages)
            client.wait_for("the end", function() return #server:conn_list() == 0 end)
            assert.equal(1, #client.logged("callback=on." .. name))
         end)
      end

      it("in the hook quit says [SYS/TEMP] also where nothing is marked", function()
         local server, s = serve(guard, nil, { on = { quit = tripping } })
         client.login(server):stopped("QUIT")
         wait_for_unlock(s)
      end)

      it("in unlock, behind a login that fails, ends the connection", function()
         local s, server
         server, s = serve(guard, { stat = function() error("x") end, unlock = function()
            s.held, s.unlocks = s.held - 1, s.unlocks + 1
            tripping()
         end })
         local c = client.connect(server)
         c:command("USER joe")
         c:send("PASS secret\r\n")
         local _, all = c:closed()
         assert.truthy(all:find("^%-ERR %[SYS/TEMP%] [^\n]*\n%-ERR %[SYS/TEMP%] [^\n]*\n$"), all)
         wait_for_unlock(s)
      end)

      it("in lock that has not answered leaves no lock", function()
         local server, s = serve(guard, { lock = tripping })
         local c = client.connect(server)
         c:command("USER joe")
         c:stopped("PASS secret")
         assert.equal(0, s.unlocks)
      end)

      it("in lock that answers true all the same: the lock is given back, once", function()
         local s, server
         server, s = serve(guard, { lock = function()
            caught()
            return s.plain.lock()
         end })
         local c = client.connect(server)
         c:command("USER joe")
         c:stopped("PASS secret")
         wait_for_unlock(s)
         assert.equal(1, s.locks)
      end)

      it("in renew, on the side, loses the lock, and nothing is deleted", function()
         local server, s = serve(guard, { renew = tripping }, { renew_interval = 0.01 })
         local c = client.login(server)
         c:send("DELE 1\r\n")
         local _, all = c:closed()
         assert.truthy(all:find("%-ERR %[SYS/TEMP%] [^\n]*\n$"), all)
         wait_for_unlock(s)
         assert.equal(2, #s.messages)
      end)

      it("says where the callback was, though it is caught on its way", function()
         local server = serve(guard, { get = function()
            caught()
            error("another error")
         end })
         client.login(server):stopped("RETR 1")
         local line = client.logged("^error")[1]
         assert.truthy(line:find('error="the callback[^"]*' .. guard.text .. "[^\"]*stack traceback:"), line)
         assert.truthy(guard.limit or line:find("in function 'pcall'", 1, true), line)
      end)

      it("leaves no mutex held, and no place of a pool taken", function()
         local mutex = popd.mutex()
         local pool = popd.pool { open = function() return {} end, close = function() end, max = 1, idle = false }
         local stop = true
         local server = serve(guard, { lock = false, get = function()
            return mutex:with(function()
               return pool:with(function()
                  while stop do caught() end
                  return "a"
               end)
            end)
         end })
         client.login(server):stopped("RETR 1")
         stop = false
         assert.equal("a\r\n", (client.login(server):fetch("RETR 1")))
      end)

      it("is counted when it repeats", function()
         local server = serve(guard, { lock = false, get = tripping })
         for _ = 1, 3 do
            client.login(server):stopped("RETR 1")
         end
         faults.flush()
         assert.equal(2, #client.logged("^error.*callback=storage.get"))
         assert.equal(1, #client.logged("callback=storage.get error=\".*" .. guard.text .. '[^\\]*" repeated=2$'))
      end)
   end)
end

describe("a stopped callback", function()
   it("has its <close> run, also where the budget is spent", function()
      local closed = 0
      local server, s = store.server({ "a" }, { callback_instructions = 1e6 }, { get = function()
         local guard <close> = setmetatable({}, { __close = function()
            for _ = 1, 1000 do
               closed = closed + 1
            end
         end })
         return forever(guard)
      end })
      client.login(server):stopped("RETR 1")
      wait_for_unlock(s)
      assert.equal(1000, closed)
   end)

   it("of popd.every is logged, and the next run comes", function()
      client.server()
      collectgarbage()
      popd.memory_limit(popd.memory_limit() + 8 * MB)
      local n = 0
      local job = popd.every(0.001, function()
         n = n + 1
         return n == 1 and ("x"):rep(64 * MB)
      end)
      client.wait_for("two runs", function() return n >= 2 end)
      job:cancel()
      assert.equal(1, #client.logged("a function of popd.every failed.*popd.memory_limit"))
   end)
end)

describe("calls inside each other", function()
   -- Each catch costs as much as there are calls around it: without a bound on
   -- these the server stood still for minutes.
   for _, inner in ipairs { false, true } do
      it("are bounded also where each catches twice" .. (inner and ", in a coroutine" or ""), function()
         local function deeper()
            pcall(deeper)
            pcall(deeper)
         end
         local server, s = store.server({ "a" }, nil, {
            get = inner and function() coroutine.wrap(deeper)() end or deeper,
         })
         local other = client.connect(server)
         local c = client.login(server)
         c:stopped("RETR 1")
         wait_for_unlock(s)
         assert.equal("+OK", other:command("CAPA"):sub(1, 3))
         assert.equal(1, #client.logged("nested too deep"))
      end)
   end

   it("are no concern up to some thousand", function()
      local function sum(n)
         return n == 0 and 0 or n + sum(n - 1)
      end
      local server = store.server({ "a" }, nil, { get = function() return tostring(sum(4000)) end })
      assert.equal("8002000\r\n", (client.login(server):fetch("RETR 1")))
   end)
end)
