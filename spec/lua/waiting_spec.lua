local client = require("support.client")
local core = require("popd.core")
local faults = require("popd.faults")
local popd = require("popd")
local process = require("support.process")
local socket = require("socket")
local store = require("support.store")

local pause = client.turn

-- Runs f as a task and the loop until it ended; returns pcall's results.
local function run(f, ...)
   local results
   popd.spawn(function(...)
      results = table.pack(pcall(f, ...))
   end, ...)
   client.wait_for("the task", function() return results end)
   return table.unpack(results, 1, results.n)
end

-- A session of a server whose get is f.
local function with_get(f, options)
   local server, s = store.server({ "a" }, options, { size = function() return 1 end, get = f })
   return client.login(server), s, server
end

-- A listening socket, and both ends of a connection.
local function pair()
   local server = assert(socket.bind("127.0.0.1", 0))
   local _, port = server:getsockname()
   local a = assert(socket.connect("127.0.0.1", port))
   return server, a, server:accept()
end

describe("waiting", function()
   after_each(client.finish)

   it("in a main chunk blocks", function()
      assert.is_true(popd.sleep(0))
      local server, a, b = pair()
      assert.same({ nil, "timeout" }, { popd.wait(a, "r", 0) })
      b:send("x")
      assert.is_true(popd.wait(a, "r", 5))
      assert.is_true(popd.wait(a:getfd(), "w"))
      a:close()
      b:close()
      server:close()
   end)

   it("in a task returns true, or nil and timeout", function()
      local server, a, b = pair()
      assert.same({ true, true }, { run(popd.sleep, 0.001) })
      assert.same({ true, nil, "timeout" }, { run(popd.wait, a, "r", 0.001) })
      popd.after(0.005, function() b:send("x") end)
      assert.same({ true, true }, { run(popd.wait, a, "r") })
      assert.same({ true, true }, { run(popd.wait, a, "w", 5) })
      a:close()
      b:close()
      server:close()
   end)

   for what, f in pairs {
      ["popd.wait for what is no descriptor"] = function() popd.wait(987654, "r") end,
      ["popd.wait for a negative descriptor"] = function() popd.wait(-1, "r") end,
      ["popd.wait in an unknown mode"] = function() popd.wait(0, "x") end,
      ["popd.sleep for a negative time"] = function() popd.sleep(-1) end,
      ["popd.sleep for ever"] = function() popd.sleep(math.huge) end,
      ["popd.sleep for no number"] = function() popd.sleep(0 / 0) end,
      ["popd.sleep for a text"] = function() popd.sleep("long") end,
      ["popd.spawn of no function"] = function() popd.spawn(5) end,
      ["popd.after of no function"] = function() popd.after(1, 5) end,
      ["popd.every of no function"] = function() popd.every(1, 5) end,
      ["popd.every 0 seconds"] = function() popd.every(0, print) end,
      ["popd.after a negative time"] = function() popd.after(-1, print) end,
      ["popd.after a text"] = function() popd.after("soon", print) end,
   } do
      it(what .. " raises", function()
         assert.is_false((pcall(f)))
      end)
   end

   -- The places where it works; each returns what came of popd.sleep.
   local works = {
      ["pcall"] = function() return select(2, pcall(pause)) end,
      ["xpcall"] = function() return select(2, xpcall(pause, print)) end,
      ["nested pcalls"] = function() return select(3, pcall(pcall, pause)) end,
      ["a metamethod"] = function()
         return setmetatable({}, { __index = function() return pause() end }).x
      end,
      ["an operator"] = function()
         return setmetatable({}, { __add = function() return pause() end }) + 1
      end,
      ["a comparison"] = function()
         local mt = { __lt = function() return pause() end }
         return setmetatable({}, mt) < setmetatable({}, mt)
      end,
      ["a concatenation"] = function()
         return setmetatable({}, { __concat = function() return pause() end }) .. "x"
      end,
      ["an iterator"] = function()
         local last
         for slept in function() return not last and pause() or nil end do
            last = slept
         end
         return last
      end,
      ["__close"] = function()
         local slept
         do
            local guard <close> = setmetatable({}, { __close = function() slept = pause() end })
            assert(guard)
         end
         return slept
      end,
      ["table.unpack's caller"] = function() return table.unpack { pause() } end,
      ["a generator by wrap"] = function()
         local generator = coroutine.wrap(function()
            for i = 1, 3 do
               pause()
               coroutine.yield(i)
            end
         end)
         local sum = 0
         for i in generator do
            sum = sum + i
         end
         return sum == 6
      end,
      ["a coroutine by resume"] = function()
         local co = coroutine.create(function(a)
            local slept = pause()
            local b = coroutine.yield(a + 1)
            pause()
            return slept and b + 1
         end)
         local ok, one = coroutine.resume(co, 1)
         local good, two = coroutine.resume(co, 10)
         return ok and good and one == 2 and two == 11 and coroutine.status(co) == "dead"
      end,
      ["a coroutine in a coroutine in a pcall"] = function()
         return select(2, pcall(coroutine.wrap(function()
            return coroutine.wrap(function()
               return select(2, pcall(pause))
            end)()
         end)))
      end,
      ["an iterator over a generator in a metamethod"] = function()
         return setmetatable({}, { __call = function()
            local last
            for v in coroutine.wrap(function() pause() coroutine.yield(true) end) do last = v end
            return last
         end })()
      end,
      ["dofile's caller"] = function() return load("return (...)()")(pause) end,
   }
   for place, f in pairs(works) do
      it("works in " .. place, function()
         assert.same({ true, true }, { run(f) })
      end)

      it("works in " .. place .. " inside a callback", function()
         local c = with_get(function() return tostring(f()) end)
         assert.equal("true\r\n", (c:fetch("RETR 1")))
      end)
   end

   it("in a generator that raises leaves its error", function()
      local ok, err = run(coroutine.wrap(function()
         pause()
         error("kaboom")
      end))
      assert.is_false(ok)
      assert.truthy(err:find("kaboom"))
   end)

   -- The places where it cannot; each returns the error.
   local refused = {
      ["table.sort"] = function() table.sort({ 1, 2, 3 }, function() pause() end) end,
      ["string.gsub"] = function() return (("x"):gsub("x", function() pause() end)) end,
      ["require"] = function()
         package.preload["popd.spec.waits"] = function() pause() end
         require("popd.spec.waits")
      end,
      ["a generator inside table.sort"] = function()
         table.sort({ 1, 2, 3 }, coroutine.wrap(function() pause() end))
      end,
      ["a coroutine inside string.gsub"] = function()
         return (("x"):gsub("x", function()
            local ok, err = coroutine.resume(coroutine.create(function() pause() end))
            return ok or error(err)
         end))
      end,
      ["a pcall inside string.gsub"] = function()
         return (("x"):gsub("x", function()
            local _, err = pcall(pause)
            error(err)
         end))
      end,
   }
   for place, f in pairs(refused) do
      it("is refused inside " .. place .. " with a text that says so, and the task goes on", function()
         local first, err, slept
         first, err, slept = select(2, run(function()
            local ok, why = pcall(f)
            return ok, why, pause()
         end))
         package.preload["popd.spec.waits"] = nil
         assert.is_false(first)
         assert.truthy(tostring(err):find("cannot wait here", 1, true), tostring(err))
         assert.truthy(tostring(err):find("table.sort", 1, true))
         assert.is_true(slept)
      end)
   end

   it("in a finalizer raises there", function()
      local err
      run(function()
         setmetatable({}, { __gc = function() err = select(2, pcall(pause)) end })
         collectgarbage()
         collectgarbage()
      end)
      assert.truthy(tostring(err):find("cannot wait here", 1, true))
   end)

   it("does not disturb coroutines outside of callbacks", function()
      local co = coroutine.wrap(function(a)
         local b, c = coroutine.yield(a, nil)
         return b, c, nil
      end)
      assert.same({ 1, n = 2 }, table.pack(co(1)))
      assert.same({ 2, 3, n = 3 }, table.pack(co(2, 3)))
      assert.is_false((pcall(co)))
      assert.is_false((coroutine.resume(coroutine.create(function() error("x") end))))
   end)

   it("of one callback does not delay the others", function()
      local wait, open = client.gate()
      local server, s = store.server({ "a" }, nil, { lock = false, get = function()
         wait()
         return "a"
      end })
      local slow, quick = client.login(server), client.login(server)
      local order = {}
      slow:send("RETR 1\r\nNOOP\r\n")
      client.wait_for("get", function() return s.calls[#s.calls]:find("^get") end)
      for _ = 1, 20 do
         assert.equal("+OK 1 3", quick:command("STAT"))
         slow:fill()
         order[#order + 1] = slow.buffer
      end
      assert.equal("", table.concat(order))
      open()
      assert.equal("+OK 3 octets", slow:line())
   end)

   it("by coroutine.yield alone is an error that says what to do", function()
      local c = with_get(function() coroutine.yield(5) return "a" end)
      assert.truthy(c:command("RETR 1"):find("^%-ERR %[SYS/TEMP%]"))
      assert.equal(1, #client.logged("^error.*yield.*popd.sleep"))
      assert.equal("+OK", c:command("NOOP"))
   end)

   it("by coroutine.yield without values gives others their turn at most", function()
      local c = with_get(function() coroutine.yield() return "a" end)
      assert.equal("a\r\n", (c:fetch("RETR 1")))
      assert.equal("+OK", c:command("NOOP"))
   end)

   for _, what in ipairs { "run", "step" } do
      it("popd." .. what .. " in a callback raises, and the session goes on", function()
         local err
         local c = with_get(function()
            err = select(2, pcall(popd[what], 0))
            return "a"
         end)
         c:fetch("RETR 1")
         assert.truthy(tostring(err):find("popd." .. what, 1, true), tostring(err))
         assert.equal("+OK", c:command("NOOP"))
      end)
   end

   it("leaves children to the script: popen's status comes across turns of the loop", function()
      local function status(number, turn)
         local pipe = io.popen("echo $$; exit " .. number)
         local pid = pipe:read("l")
         repeat turn(0) until process.is_over(pid)
         for _ = 1, 5 do
            turn(0)
         end
         return { pipe:close() }
      end
      local got
      local c = with_get(function()
         got = status(3, popd.sleep)
         return "a"
      end)
      c:fetch("RETR 1")
      assert.same({ nil, "exit", 3 }, got)
      assert.same({ nil, "exit", 4 }, status(4, popd.step))
   end)
end)

describe("spawn", function()
   after_each(client.finish)

   it("runs a function with its arguments, nils included, at the next turn", function()
      local got
      popd.spawn(function(...) got = table.pack(...) end, 1, nil, "x", nil)
      assert.is_nil(got)
      popd.step(0.01)
      assert.same({ 1, nil, "x", nil, n = 4 }, got)
   end)

   it("logs what the function raises, with its traceback", function()
      client.server()
      popd.spawn(function() error("kaboom") end)
      client.wait_for("the log", function() return client.logged("kaboom")[1] end)
      assert.truthy(client.logged("kaboom")[1]:find("traceback"))
   end)

   it("gives a handle that cancels before the start", function()
      local ran = false
      popd.spawn(function() ran = true end):cancel()
      popd.step(0.01)
      assert.is_false(ran)
   end)

   it("gives a handle that cancels a wait, which raises there, so that <close> runs", function()
      local closed, err = false, nil
      local job = popd.spawn(function()
         local guard <close> = setmetatable({}, { __close = function(_, why) closed, err = true, why end })
         assert(guard)
         client.never()
      end)
      popd.step(0.01)
      job:cancel()
      job:cancel()
      assert.is_true(closed)
      assert.truthy(tostring(err):find("cancel"))
      client.drain()
      assert.equal(0, core.count())
   end)

   it("may be cancelled by itself", function()
      local reached
      local job
      job = popd.spawn(function()
         job:cancel()
         reached = true
      end)
      client.wait_for("the task", function() return reached end)
      client.drain()
   end)

   it("after its end may be cancelled", function()
      local job = popd.spawn(function() end)
      client.drain()
      job:cancel()
   end)

   it("runs many that wait at once", function()
      local n = 0
      for _ = 1, 500 do
         popd.spawn(function()
            client.turn()
            n = n + 1
         end)
      end
      client.wait_for("500 tasks", function() return n == 500 end)
   end)
end)

describe("after and every", function()
   after_each(client.finish)

   it("run in the order of their times", function()
      local order = {}
      popd.after(0.03, function() order[#order + 1] = "c" end)
      popd.after(0.01, function() order[#order + 1] = "a" end)
      popd.after(0.02, function() order[#order + 1] = "b" end)
      client.wait_for("all", function() return #order == 3 end)
      assert.equal("abc", table.concat(order))
   end)

   it("after may be cancelled", function()
      local ran = false
      popd.after(0.01, function() ran = true end):cancel()
      client.drain()
      assert.is_false(ran)
   end)

   it("every runs until it is cancelled, and never overlaps itself", function()
      local n, inside, most = 0, 0, 0
      local wait, go_on = client.gate()
      popd.after(0.02, go_on) -- the first takes ten of its intervals
      local job = popd.every(0.002, function()
         inside = inside + 1
         most = math.max(most, inside)
         if n == 0 then
            wait()
         end
         inside = inside - 1
         n = n + 1
      end)
      client.wait_for("three runs", function() return n >= 3 end)
      job:cancel()
      client.drain()
      assert.equal(1, most)
   end)

   it("every goes on after a run that raises", function()
      client.server()
      local n = 0
      local job = popd.every(0.002, function()
         n = n + 1
         error("kaboom")
      end)
      client.wait_for("three runs", function() return n >= 3 end)
      job:cancel()
      faults.flush()
      assert.equal(1, #client.logged("kaboom.*traceback"))
      assert.equal(1, #client.logged("kaboom.* repeated=" .. n - 1))
   end)

   it("every may be cancelled in its own run", function()
      local n, job = 0, nil
      job = popd.every(0.001, function()
         n = n + 1
         job:cancel()
      end)
      client.drain()
      assert.equal(1, n)
   end)
end)

describe("a deadline", function()
   after_each(client.finish)

   local function begin(changes, auth)
      local server, s = store.server({ "a" }, { callback_timeout = 0.05, auth = auth }, changes)
      return client.connect(server), s
   end

   it("raises inside the callback, runs <close>, answers [SYS/TEMP], and unlocks once", function()
      local err, closed = nil, false
      local c, s = begin { get = function()
         local guard <close> = setmetatable({}, { __close = function() closed = true end })
         assert(guard)
         local ok, why = pcall(client.never)
         err = why
         assert.is_false(ok)
         error(why, 0)
      end }
      c:login("joe", "secret")
      c:stopped("RETR 1")
      assert.truthy(tostring(err):find("callback_timeout", 1, true))
      assert.is_true(closed)
      client.wait_for("the unlock", function() return s.held == 0 end)
      assert.equal(1, s.unlocks)
   end)

   it("does not let what comes after wait again", function()
      local tries = 0
      local c = begin { get = function()
         for _ = 1, 5 do
            tries = tries + (pcall(client.never) and 0 or 1)
         end
         return "a"
      end }
      c:login("joe", "secret")
      c:stopped("RETR 1")
      assert.equal(5, tries)
   end)

   for _, name in ipairs { "lock", "stat", "size" } do
      it("of " .. name .. " refuses the login, and leaves no lock", function()
         local c, s = begin { [name] = function() client.never() end }
         c:command("USER joe")
         c:stopped("PASS secret")
         assert.equal(name == "lock" and 0 or 1, s.unlocks)
      end)
   end

   for _, name in ipairs { "exists", "lookup", "verify" } do
      it("of " .. name .. " refuses the login", function()
         local auth = { lookup = store.auth.lookup }
         auth[name] = function() client.never() end
         local c = begin(nil, auth)
         c:command("USER joe")
         c:stopped("PASS secret")
      end)
   end

   it("of dele is told, and unlocks once", function()
      local c, s = begin { dele = function() client.never() end }
      c:login("joe", "secret")
      c:command("DELE 1")
      assert.equal("-ERR [SYS/TEMP] some deleted messages not removed", c:command("QUIT"))
      assert.equal(1, s.unlocks)
   end)

   it("of unlock is logged, and QUIT is answered", function()
      local s, c
      c, s = begin { unlock = function()
         s.held, s.unlocks = s.held - 1, s.unlocks + 1
         client.never()
      end }
      c:login("joe", "secret")
      assert.equal("+OK bye", c:command("QUIT"))
      assert.equal(1, #client.logged("unlock.*callback_timeout"))
   end)

   it("is each pull's own", function()
      local c = begin { size = function() return 3 end, get = function()
         local n = 0
         return function()
            popd.sleep(0.02)
            n = n + 1
            return n < 6 and "x\n" or nil
         end
      end }
      c:login("joe", "secret")
      assert.equal(("x\r\n"):rep(5), (c:fetch("RETR 1")))
   end)

   it("of a pull cuts the connection", function()
      local c, s = begin { get = function()
         return function() client.never() end
      end }
      c:login("joe", "secret")
      c:send("RETR 1\r\n")
      local _, all = c:closed()
      assert.is_nil(all:find("\r\n.\r\n", 1, true))
      client.wait_for("unlock", function() return s.held == 0 end)
   end)

   it("holds also for what computes where it cannot be paused", function()
      local c, s = begin { get = function()
         coroutine.wrap(function() while true do pcall(error) end end)()
      end }
      c:login("joe", "secret")
      c:stopped("RETR 1")
      assert.equal(1, #client.logged("callback=storage.get.*callback_timeout"))
      client.wait_for("the unlock", function() return s.unlocks == 1 end)
   end)

   it("of a wait inside a coroutine raises there", function()
      local err
      local c = begin { get = function()
         coroutine.wrap(function()
            err = select(2, pcall(client.never))
         end)()
         return "a"
      end }
      c:login("joe", "secret")
      c:stopped("RETR 1")
      assert.truthy(tostring(err):find("callback_timeout", 1, true))
   end)
end)

describe("xpcall with popd loaded", function()
   it("calls its handler for a script's errors, with their traceback", function()
      local function fail() error("why", 0) end
      assert.same({ false, "why!" }, { xpcall(fail, function(why) return why .. "!" end) })
      local _, text = xpcall(fail, debug.traceback)
      assert.truthy(text:find("^why\nstack traceback:\n\t%[C%]: in function 'error'"), text)
      assert.same({ true, 1, nil, 3 }, { xpcall(function(...) return ... end, print, 1, nil, 3) })
      assert.error_matches(function() xpcall(fail, 1) end, "bad argument #2 to 'xpcall'")
   end)
end)

describe("an endless loop", function()
   after_each(client.finish)

   local loops = {
      plain = function() while true do end end,
      ["in pcall"] = function() while true do pcall(function() while true do end end) end end,
      ["in xpcall with a handler"] = function()
         while true do xpcall(function() while true do end end, function(e) return e end) end
      end,
      ["in xpcall and in its handler"] = function()
         local function loop() while true do end end
         xpcall(loop, loop)
      end,
      ["in the handler of an error"] = function() xpcall(error, function() while true do end end) end,
      ["in __close of a coroutine that was stopped"] = function()
         local function loop() while true do end end
         coroutine.wrap(function()
            local guard <close> = setmetatable({}, { __close = loop })
            loop(guard)
         end)()
      end,
      ["in __close when a stopped coroutine is closed"] = function()
         local function loop() while true do end end
         local co = coroutine.create(function()
            local guard <close> = setmetatable({}, { __close = loop })
            loop(guard)
         end)
         coroutine.resume(co)
         coroutine.close(co)
      end,
      ["in a coroutine"] = function() coroutine.wrap(function() while true do end end)() end,
      ["in a coroutine in pcall"] = function()
         while true do
            pcall(coroutine.wrap(function() while true do pcall(error) end end))
         end
      end,
      ["of coroutines"] = function()
         while true do coroutine.resume(coroutine.create(function() while true do end end)) end
      end,
      ["in a metamethod"] = function() return setmetatable({}, { __index = function() while true do end end }).x end,
      ["in table.sort"] = function() table.sort({ 1, 2, 3 }, function() while true do end end) end,
      ["in __close"] = function()
         local guard <close> = setmetatable({}, { __close = function() while true do end end })
         assert(guard)
      end,
      ["of sleeps"] = function() while true do popd.sleep(0) for _ = 1, 20000 do local _ = 1 end end end,
      ["of recursion"] = function() local function f() return f() end f() end,
   }

   for what, loop in pairs(loops) do
      it(what .. " in get ends, and costs that session only", function()
         local server, s = store.server({ "a" }, { callback_instructions = 1e6 }, { get = loop })
         local c, other = client.login(server), client.connect(server)
         c:stopped("RETR 1")
         assert.equal("+OK", other:command("CAPA"):sub(1, 3))
         assert.equal(1, #client.logged("^error.*callback_instructions"))
         client.wait_for("the unlock", function() return s.held == 0 end)
         assert.equal(1, s.unlocks)
      end)
   end

   for _, name in ipairs { "lock", "stat", "size", "uidl", "dele", "unlock" } do
      it("in " .. name .. " ends, and the lock is given back", function()
         local s, server
         server, s = store.server({ "a" }, { callback_instructions = 1e6 }, { [name] = function()
            if name == "unlock" then
               s.held, s.unlocks = s.held - 1, s.unlocks + 1
            end
            while true do end
         end })
         local c = client.connect(server)
         c:send("USER joe\r\nPASS secret\r\nUIDL\r\nDELE 1\r\nQUIT\r\n")
         local _, all = c:closed()
         assert.truthy(all:find(name == "unlock" and "%+OK bye\r\n$" or "%-ERR %[SYS/TEMP%] [^\n]*\r\n$"), all)
         client.wait_for("unlock", function() return s.held == 0 end)
         assert.equal(name == "lock" and 0 or 1, s.unlocks)
         assert.equal(1, #client.logged("^error.*callback_instructions"))
         assert.equal(name == "unlock" and 0 or 1, #s.messages)
      end)
   end

   for _, name in ipairs { "exists", "lookup", "verify" } do
      it("in " .. name .. " ends", function()
         local auth = { lookup = store.auth.lookup }
         auth[name] = function() while true do end end
         local c = client.connect((store.server({}, { callback_instructions = 1e6, auth = auth })))
         c:command("USER joe")
         c:stopped("PASS secret")
      end)
   end

   it("lets others go on meanwhile", function()
      local server, s = store.server({ "a" }, { callback_instructions = 3e7 }, { lock = false, get = loops.plain })
      local c, other = client.login(server), client.login(server)
      c:send("RETR 1\r\n")
      client.wait_for("get", function() return s.calls[#s.calls]:find("^get") end)
      for _ = 1, 5 do
         assert.equal("+OK 1 3", other:command("STAT"))
      end
      c:fill()
      assert.equal("", c.buffer)
      assert.truthy(c:line():find("^%-ERR %[SYS/TEMP%]"))
      assert.is_true(c:closed())
   end)

   it("in a pulled function cuts the connection", function()
      local server, s = store.server({ "a" }, { callback_instructions = 1e6 },
         { get = function() return loops.plain end,
         size = function() return 1 end })
      local c = client.login(server)
      c:send("RETR 1\r\n")
      local _, all = c:closed()
      assert.is_nil(all:find("\r\n.\r\n", 1, true))
      client.wait_for("unlock", function() return s.held == 0 end)
   end)
end)

describe("a client that leaves while a callback waits", function()
   after_each(client.finish)

   for _, name in ipairs { "lookup", "lock", "stat", "size", "get", "uidl" } do
      it("in " .. name .. ": the callback ends, and the lock is given back once", function()
         local wait, open = client.gate()
         local began, ended = false, false
         local function waits(f)
            return function(...)
               began = true
               wait()
               ended = true
               return f(...)
            end
         end
         local auth = store.auth
         if name == "lookup" then
            auth = { lookup = waits(store.auth.lookup) }
         end
         local server, s = store.server({ "a" }, { auth = auth })
         if name ~= "lookup" then
            local storage = {}
            for key, f in pairs(s.plain) do
               storage[key] = key == name and waits(f) or f
            end
            server:configure { storage = storage }
         end
         local c = client.connect(server)
         c:send("USER joe\r\nPASS secret\r\nRETR 1\r\nUIDL\r\n")
         client.wait_for("the callback", function() return began end)
         c:close()
         popd.step(0.01)
         assert.is_false(ended)
         open()
         client.wait_for("its end", function() return #server:conn_list() == 0 end)
         assert.is_true(ended)
         assert.equal(s.locks, s.unlocks)
         assert.equal(0, s.held)
      end)
   end

   it("in QUIT's dele: it runs to its end", function()
      local wait, open = client.gate()
      local server, s = store.server({ "a", "b" })
      local storage = {}
      for key, f in pairs(s.plain) do
         storage[key] = f
      end
      function storage.dele(...)
         s.calls[#s.calls + 1] = "dele"
         wait()
         return s.plain.dele(...)
      end
      server:configure { storage = storage }
      local c = client.login(server)
      c:command("DELE 1")
      c:send("QUIT\r\n")
      client.wait_for("dele", function() return s.calls[#s.calls] == "dele" end)
      c:close()
      popd.step(0.01)
      open()
      client.wait_for("its end", function() return #server:conn_list() == 0 end)
      assert.same({ "b" }, s.messages)
      assert.equal(1, s.unlocks)
   end)
end)

describe("popd.fd", function()
   after_each(client.finish)

   local function readable(seconds)
      local fd = assert(popd.fd())
      local ready = socket.select({ { getfd = function() return fd end, dirty = function() return false end } }, nil,
         seconds)
      return #ready > 0
   end

   it("is one descriptor", function()
      assert.equal(popd.fd(), popd.fd())
      assert.equal("integer", math.type(popd.fd()))
   end)

   it("is not readable while there is nothing to do", function()
      client.server()
      popd.fd()
      popd.step(0)
      assert.is_false(readable(0))
   end)

   it("becomes readable for a timer", function()
      local rang = false
      popd.fd()
      popd.after(0.02, function() rang = true end)
      popd.step(0)
      while not rang do
         assert.is_true(readable(5))
         popd.step(0)
      end
   end)

   it("becomes readable for a turn", function()
      local ran = false
      popd.fd()
      popd.step(0)
      popd.spawn(function() ran = true end)
      assert.is_true(readable(5))
      popd.step(0)
      assert.is_true(ran)
   end)

   it("becomes readable for sockets: a session served by it alone", function()
      local server = store.server({ "a" })
      popd.fd()
      popd.step(0)
      local sock = socket.connect("127.0.0.1", server:cget("port"))
      sock:settimeout(0)
      local got, sent = "", false
      local limit = socket.gettime() + 10
      while not got:find("bye") and socket.gettime() < limit do
         if got:find("^%+OK") and not sent then
            sock:send("USER joe\r\nPASS secret\r\nRETR 1\r\nQUIT\r\n")
            sent = true
         end
         if readable(0.05) then
            popd.step(0)
         end
         local all, _, part = sock:receive("*a")
         got = got .. (all or part or "")
      end
      sock:close()
      assert.truthy(got:find("bye"))
   end)

   it("step tells whether anything is left", function()
      assert.is_false(popd.step(0))
      local job = popd.after(1000, print)
      popd.step(0)
      assert.is_true(popd.step(0))
      job:cancel()
      assert.is_false(popd.step(0))
   end)
end)
