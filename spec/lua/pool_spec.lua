local client = require("support.client")
local core = require("popd.core")
local files = require("support.files")
local popd = require("popd")
local program = require("support.program")

-- About a millisecond of a thread, a tenth of a second, and a second.
local QUICK, LONG, ENDLESS = 1000, 100000, 1000000

local function work(iterations)
   return core.pbkdf2("SHA-256", "password", "salt", iterations or QUICK, 32)
end

-- What a process says that runs this text (`before`: before popd is loaded), and how it ended.
local function process(text, before)
   local script = files.put(os.tmpname(), (before or "") .. [[

      local core, popd = require("popd.core"), require("popd")
   ]] .. text)
   local status, out, err = program.run({ "sh", "-c", files.lua(script) })
   os.remove(script)
   return out, err, status
end

describe("work in threads", function()
   after_each(client.finish)

   it("has the result that it has in a main chunk, where it blocks", function()
      local expected, made = work(), nil
      popd.spawn(function() made = work() end)
      client.wait_for("the result", function() return made end)
      assert.equal(expected, made)
   end)

   it("goes on beside the loop", function()
      local order = {}
      popd.spawn(function()
         work(LONG)
         order[#order + 1] = "work"
      end)
      popd.spawn(function()
         for _ = 1, 5 do
            client.turn()
            order[#order + 1] = "turn"
         end
      end)
      client.drain()
      assert.equal("turn turn turn turn turn work", table.concat(order, " "))
   end)

   it("may be asked for by many at once, and each gets its own", function()
      local results, done = {}, 0
      for i = 1, 500 do
         popd.spawn(function()
            results[i] = core.pbkdf2("SHA-1", "password" .. i, "salt", 10, 20)
            done = done + 1
         end)
      end
      client.drain()
      assert.equal(500, done)
      for i = 1, 500 do
         assert.equal(core.pbkdf2("SHA-1", "password" .. i, "salt", 10, 20), results[i])
      end
   end)

   it("is refused when too much of it waits", function()
      local ended, jobs = { done = 0, refused = 0, cancelled = 0, wrong = 0 }, {}
      local function one()
         local ok, made, why = pcall(work, LONG) -- so long that the threads take few meanwhile
         local how = not ok and "cancelled" or made and "done" or why:find("too many", 1, true) and "refused" or "wrong"
         ended[how] = ended[how] + 1
      end
      for i = 1, 10500 do
         jobs[i] = popd.spawn(one)
      end
      popd.step(0)
      for _, job in ipairs(jobs) do
         job:cancel()
      end
      client.drain()
      assert.equal(10500, ended.done + ended.refused + ended.cancelled)
      assert.is_true(ended.refused > 0 and ended.refused <= 500, ended.refused)
      assert.is_true(ended.cancelled > 9000, ended.cancelled)
   end)

   it("is taken in the order in which it was asked for", function()
      local out = process([[
         local first = {}
         for i = 1, 40 do
            popd.spawn(function()
               core.pbkdf2("SHA-1", "x", "y", 20000, 20)
               first[#first + 1] = i
            end)
         end
         popd.run()
         -- the threads overtake each other, but what came late does not come first
         local early = 0
         for at = 1, 20 do
            early = early + (first[at] <= 20 and 1 or 0)
         end
         print(#first, early)]])
      local all, early = out:match("^(%d+)%s+(%d+)")
      assert.equal("40", all, out)
      assert.is_true(tonumber(early) >= 15, out)
   end)

   it("ends for a cancelled task, which does not wait for the thread", function()
      local ok, why
      local job = popd.spawn(function() ok, why = pcall(work, ENDLESS) end)
      popd.step(0)
      assert.equal(1, core.count())
      job:cancel()
      while popd.step(0) do -- nothing is left to wait for, though the thread works on
         assert.is_nil(ok)
      end
      assert.is_false(ok)
      assert.truthy(why:find("cancelled", 1, true), why)
      local after
      popd.spawn(function() after = work() end)
      client.drain()
      assert.equal(work(), after)
   end)

   it("that waits for a thread is taken out when its task is cancelled", function()
      local ended, jobs = 0, {}
      for i = 1, 100 do
         jobs[i] = popd.spawn(function()
            local ok = pcall(work, i <= 8 and LONG or ENDLESS)
            ended = ended + (ok and 1 or 1000)
         end)
      end
      popd.step(0)
      for i = 9, 100 do
         jobs[i]:cancel()
      end
      client.drain() -- in the time of the first: the others never reach a thread
      assert.equal(8 + 92000, ended)
   end)

   it("may be cancelled by a task whose own is done at the same time", function()
      local ended, jobs = 0, {}
      for i = 1, 20 do
         jobs[i] = popd.spawn(function()
            work(QUICK)
            ended = ended + 1
            for _, job in ipairs(jobs) do
               job:cancel()
            end
         end)
      end
      client.drain()
      assert.is_true(ended >= 1 and ended <= 20)
   end)

   it("ends the wait when the callback's time is up", function()
      local server = client.server { callback_timeout = 0.05, auth = { verify = function()
         return work(ENDLESS) and "joe"
      end } }
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS x"):find("^%-ERR %[SYS/TEMP%]"))
      assert.equal(1, #client.logged("^error.*callback_timeout"))
   end)

   it("goes to its end for a client that has left", function()
      local made
      local server = client.server { auth = { verify = function()
         made = work(LONG)
         return "joe"
      end } }
      local c = client.connect(server)
      c:command("USER joe")
      c:send("PASS x\r\n")
      popd.step(0)
      c:close()
      client.wait_for("the result", function() return made end)
   end)

   it("cannot be waited for inside table.sort, and says so", function()
      local why
      popd.spawn(function()
         why = select(2, pcall(table.sort, { 1, 2, 3 }, function() return work() == nil end))
      end)
      client.drain()
      assert.truthy(why:find("popd.scheme cannot wait here", 1, true), why)
   end)

   it("can be waited for inside a coroutine of the callback's own", function()
      local made
      popd.spawn(function()
         made = coroutine.wrap(function() return work() end)()
      end)
      client.drain()
      assert.equal(work(), made)
   end)

   it("leaves no memory behind", function()
      local function many()
         for i = 1, 50 do
            local job = popd.spawn(work, i % 2 == 0 and 1 or 10 * QUICK)
            if i % 5 == 1 then
               popd.spawn(function() job:cancel() end)
            end
         end
         client.drain()
         collectgarbage()
         collectgarbage()
         return collectgarbage("count")
      end
      many()
      local before = many()
      many()
      assert.is_true(many() - before < 100)
   end)
end)

describe("work in threads, in a process of its own,", function()
   it("makes no thread before it is asked for, and a bounded number then", function()
      if not files.exists("/proc/self/status") then
         pending("this system has no /proc")
         return
      end
      local out = process([[
         local function threads()
            return io.open("/proc/self/status"):read("a"):match("Threads:%s*(%d+)")
         end
         local before = threads()
         for _ = 1, 50 do
            popd.spawn(core.pbkdf2, "SHA-1", "x", "y", 20000, 20)
         end
         popd.step(0)
         popd.step(0)
         print(before, tonumber(threads()) - before)
         popd.run()]])
      local before, more = out:match("^(%d+)%s+(%d+)")
      assert.is_true(tonumber(before) <= 2, out) -- a sanitizer has one of its own
      assert.is_true(tonumber(more) >= 2 and tonumber(more) <= 4, out)
   end)

   it("holds popd.run until it is done, and no longer", function()
      assert.equal("done\nend\n", (process([[
         popd.spawn(function() core.pbkdf2("SHA-1", "x", "y", 50000, 20) print("done") end)
         popd.run()
         print("end")]])))
   end)

   it("makes popd.fd readable when it is done", function()
      assert.equal("done\n", (process([[
         local socket, done = require("socket"), false
         local fd = assert(popd.fd())
         local watched = { getfd = function() return fd end }
         popd.spawn(function() core.pbkdf2("SHA-1", "x", "y", 100000, 20) done = true end)
         while popd.step(0) do
            -- nothing but the descriptor wakes this loop
            if not socket.select({ watched }, nil, 20)[1] then
               print("the descriptor stayed silent")
               break
            end
         end
         print(done and "done" or "not done")]])))
   end)

   it("does not outlive the Lua state, whatever runs, waits or has finished", function()
      local out, err, status = process([[
         for i = 1, 60 do
            popd.spawn(pcall, core.pbkdf2, "SHA-256", "x", "y", i % 3 == 0 and 1 or 200000, 32)
            popd.spawn(pcall, core.crypt, "x", "$y$j9T$LdJMENpBABJJ3hIHjB1Bi.")
         end
         for _ = 1, 5 do
            popd.step(0)
         end
         print("closing")
         os.exit(0, true)]])
      assert.equal("closing\n", out)
      assert.equal("", err)
      assert.equal(0, status)
   end)

   it("cannot be asked for when the Lua state has ended it", function()
      local out, err, status = process([[
         -- what was made first is finalized last: after popd
         pbkdf2 = core.pbkdf2
         popd.spawn(function() core.pbkdf2("SHA-1", "x", "y", 10, 20) end)
         popd.run()
         os.exit(0, true)]], [[
         early = setmetatable({}, { __gc = function()
            local ok, why = pcall(pbkdf2, "SHA-1", "x", "y", 1, 20)
            print(ok and "made" or why)
         end })]])
      assert.equal("", err)
      assert.equal(0, status)
      -- the program itself loads popd before any script, and closes it last
      assert.truthy(out:find(os.getenv("POPD_INTERPRETER") and "made" or "popd is closed", 1, true), out)
   end)
end)
