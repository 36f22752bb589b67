-- Scripts that misbehave in the worst place: whatever they do, the lock is given
-- back once, the next login works, and the others are served.
local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")

local function raise()
   error("tostring raises")
end

local hostile = setmetatable({}, { __tostring = raise })

-- A server over one message whose storage counts its locks.
local function serve(changes, options)
   local s = { locks = 0, unlocks = 0, held = false }
   local storage = {
      lock = function()
         if s.held then
            return false
         end
         s.held, s.locks = true, s.locks + 1
         return true
      end,
      unlock = function()
         s.held, s.unlocks = false, s.unlocks + 1
      end,
      stat = function() return 1 end,
      size = function() return 17 end,
      get = function() return "Subject: a\n\nbody\n" end,
      dele = function() return true end,
   }
   for name, f in pairs(changes) do
      storage[name] = f
   end
   local all = {
      auth = { lookup = function(name) return "secret", name end },
      storage = storage, callback_instructions = 1000000, callback_timeout = 0.2,
   }
   for name, value in pairs(options or {}) do
      all[name] = value
   end
   s.server = client.server(all)
   return s
end

-- Something that misbehaves at its first call only.
local function once(bad, good)
   local called = false
   return function(...)
      if called then
         return good(...)
      end
      called = true
      return bad(...)
   end
end

local function one()
   return 1
end

local function forever()
   while true do end
end

describe("a login that fails behind its lock", function()
   after_each(client.finish)

   for what, changes in pairs {
      ["scan yields by itself"] = { scan = once(function() coroutine.yield("x") end, function() return { 17 } end) },
      ["scan gives what cannot be shown"] = { scan = once(function() return { hostile } end,
         function() return { 17 } end) },
      ["stat raises a code that cannot be shown"] = { stat = once(function() error { code = hostile } end, one) },
      ["stat raises what cannot be shown"] = { stat = once(function() error(hostile) end, one) },
   } do
      it("gives the lock back where " .. what, function()
         local s = serve(changes)
         local c = client.connect(s.server)
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find("^%-ERR %[SYS/TEMP%]"))
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find("^%+OK"))
         c:command("QUIT")
         assert.is_true(c:closed())
         assert.same({ 2, 2, false }, { s.locks, s.unlocks, s.held })
      end)
   end

   for what, changes in pairs {
      ["scan loops"] = { scan = once(forever, function() return { 17 } end) },
      ["stat waits too long"] = { stat = once(function() client.never() end, one) },
      ["stat loops in pcall"] = { stat = once(function() while true do pcall(forever) end end, one) },
   } do
      it("ends, and gives the lock back where " .. what, function()
         local s = serve(changes)
         local c = client.connect(s.server)
         c:command("USER joe")
         c:stopped("PASS secret")
         c = client.login(s.server, "joe", "secret")
         c:command("QUIT")
         assert.is_true(c:closed())
         assert.same({ 2, 2, false }, { s.locks, s.unlocks, s.held })
      end)
   end

   for what, answer in pairs {
      ["endless seconds"] = { math.huge }, ["no number"] = { 0 / 0 }, ["too many seconds"] = { 1e300 },
      ["a text that cannot be shown"] = { false, hostile }, ["a code that is none"] = { false, "no", hostile },
   } do
      it("gives the lock back where logged_in returns " .. what, function()
         local hook = once(function() return table.unpack(answer) end, function() end)
         local s = serve({}, { on = { logged_in = hook } })
         local c = client.connect(s.server)
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find("^%-ERR"))
         c:command("QUIT")
         assert.is_true(c:closed())
         assert.same({ 1, 1, false }, { s.locks, s.unlocks, s.held })
      end)
   end

   it("lets unlock wait although the login's time is up", function()
      local s
      s = serve {
         stat = function() client.never() end,
         unlock = function()
            client.turn()
            s.held, s.unlocks = false, s.unlocks + 1
         end,
      }
      local c = client.connect(s.server)
      c:command("USER joe")
      c:stopped("PASS secret")
      client.wait_for("the unlock", function() return s.unlocks == 1 end)
      assert.is_false(s.held)
   end)

   it("does not count as a session of its user, where unlock fails too", function()
      local s
      s = serve({ unlock = function()
         s.held = false
         coroutine.yield("x")
      end }, { max_per_user = 2 })
      for _ = 1, 4 do
         local c = client.login(s.server, "joe", "secret")
         c:command("QUIT")
         assert.is_true(c:closed())
      end
   end)
end)

describe("a guard", function()
   after_each(client.finish)

   it("counts for each callback, not for all that a command needs", function()
      local s = serve {
         stat = function() return 30 end,
         size = function(_, id)
            popd.sleep(id and 0.01 or 0)
            return id and 17 or 510
         end,
      }
      local c = client.login(s.server, "joe", "secret")
      local _, list = c:command("LIST")
      assert.equal(30, #list)
   end)

   it("names the callback that it stopped", function()
      local s = serve { get = forever }
      local c = client.login(s.server, "joe", "secret")
      c:stopped("RETR 1")
      assert.equal(1, #client.logged("callback=storage.get"))
   end)

   it("holds in what a failed callback leaves to be closed", function()
      local s = serve { get = function()
         return function()
            local guard <close> = setmetatable({}, { __close = forever })
            error("x" .. tostring(guard ~= nil))
         end
      end }
      local c = client.login(s.server, "joe", "secret")
      c:send("RETR 1\r\n")
      assert.is_true(c:closed())
      assert.is_false(s.held)
   end)

   it("lets what is to be closed wait, behind an error", function()
      local closed = false
      popd.spawn(function()
         local guard <close> = setmetatable({}, { __close = function()
            client.turn()
            closed = true
         end })
         error("x" .. tostring(guard ~= nil))
      end)
      client.drain()
      assert.is_true(closed)
   end)

   it("ends a source that gives nothing for ever, and its lock", function()
      for _, waits in ipairs { false, true } do
         local s = serve { get = function()
            return function()
               if waits then
                  client.turn()
               end
               return ""
            end
         end }
         local c = client.login(s.server, "joe", "secret")
         c:send("RETR 1\r\n")
         assert.is_true(c:closed())
         client.wait_for("the unlock", function() return not s.held end)
      end
   end)

   it("ends a spawned function that loops where it cannot be paused", function()
      local ended
      popd.spawn(function()
         ended = not pcall(function()
            table.sort({ 1, 2, 3 }, forever)
         end)
      end)
      client.wait_for("its end", function() return ended ~= nil or core.count() == 0 end)
      client.drain()
      assert.equal(0, core.count())
   end)

   it("takes no forced yield for one by the script, while an inner coroutine waits", function()
      local failed = false
      local rounds = 0
      popd.spawn(function()
         local ok = pcall(function()
            local wait = coroutine.wrap(function()
               while true do
                  client.turn()
                  coroutine.yield(true)
               end
            end)
            for _ = 1, 3000 do
               wait()
               rounds = rounds + 1
               for _ = 1, 50 do
                  rounds = rounds + 0
               end
            end
         end)
         failed = not ok
      end)
      client.drain()
      assert.is_false(failed)
      assert.equal(3000, rounds)
   end)
end)

describe("cancelling", function()
   after_each(client.finish)

   it("goes down a chain of twenty thousand jobs", function()
      local jobs, cancelled = {}, 0
      for i = 1, 20000 do
         jobs[i] = popd.spawn(function()
            if not pcall(client.never) then
               cancelled = cancelled + 1
            end
            if jobs[i + 1] then
               jobs[i + 1]:cancel()
            end
         end)
      end
      popd.step(0)
      jobs[1]:cancel()
      client.drain()
      assert.equal(20000, cancelled)
   end)

   it("itself makes the next wait of a job raise", function()
      local job, waited
      job = popd.spawn(function()
         job:cancel()
         waited = pcall(client.never)
      end)
      client.drain()
      assert.is_false(waited)
   end)
end)

describe("a callback's coroutine", function()
   after_each(client.finish)

   it("is not given to another callback once a script has it", function()
      local stale, answer
      local latch = core.latch()
      popd.spawn(function() stale = coroutine.running() end)
      client.drain()
      popd.spawn(function() answer = latch:wait() end)
      popd.step(0)
      coroutine.resume(stale, true, "alien")
      assert.is_nil(answer)
      latch:fire()
      client.drain()
      assert.is_true(answer)
   end)

   -- The guard looks at it more seldom than at coroutines of a script's.
   it("is what its guard watches, also behind a guard in a coroutine that is gone", function()
      local usual, count
      local function looks()
         for _ = 1, 10000 do end -- luacheck: ignore 542
         return select(3, debug.gethook())
      end
      popd.spawn(function()
         usual = looks()
         coroutine.wrap(core.guard)(type, type, 1)
         count = looks()
      end)
      client.drain()
      assert.equal(usual, count)
   end)
end)

describe("a lost lock", function()
   after_each(client.finish)

   it("deletes nothing, also where it is lost while QUIT waits for that answer", function()
      local deleted, answers = false, { false, true }
      local asked = 0
      local wait, open = client.gate()
      local s = serve({
         renew = function()
            asked = asked + 1
            local answer = answers[asked]
            wait()
            return answer
         end,
         dele = function()
            deleted = true
            return true
         end,
      }, { renew_interval = 0.02 })
      local c = client.login(s.server, "joe", "secret")
      c:command("DELE 1")
      client.wait_for("renew", function() return asked == 1 end)
      c:send("QUIT\r\n")
      client.wait_for("QUIT", function()
         return s.server:conn_state(s.server:conn_list()[1]).state == "update"
      end)
      open()
      assert.truthy(c:line():find("^%-ERR"))
      assert.is_false(deleted)
   end)

   it("is asked for no more once renew_interval is false", function()
      local asked = 0
      local s = serve({ renew = function()
         asked = asked + 1
         return true
      end }, { renew_interval = 0.01 })
      local c = client.login(s.server, "joe", "secret")
      client.wait_for("renew", function() return asked == 1 end)
      s.server:configure { renew_interval = false }
      for _ = 1, 20 do
         c:command("NOOP")
      end
      assert.is_true(asked <= 2, asked)
   end)
end)

describe("conn:mark", function()
   after_each(client.finish)

   it("refuses where DELE is refused", function()
      local storage = { stat = one, size = function() return 17 end, get = function() return "x\n" end }
      local server = client.server {
         auth = { lookup = function(name) return "secret", name end },
         storage = storage,
         commands = { XMARK = function(conn) return tostring(conn:mark(1)) end },
      }
      local c = client.login(server, "joe", "secret")
      assert.equal("+OK nil", c:command("XMARK"))
      assert.truthy(c:command("QUIT"):find("^%+OK"))
   end)
end)
