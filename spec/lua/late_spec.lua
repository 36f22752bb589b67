-- A callback whose time was up while its answer was on the way: the answer comes, and
-- nobody gets it, neither what is called next for that connection nor another's.
local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")
local socket = require("socket")
local store = require("support.store")

local PROBE = 0.15 -- seconds; the late answers come within

-- Two ends of a connection: `a` does not block.
local function pair()
   local listener = assert(socket.bind("127.0.0.1", 0))
   local a = assert(socket.connect("127.0.0.1", (select(2, listener:getsockname()))))
   local b = assert(listener:accept())
   listener:close()
   a:settimeout(0)
   return { a = a, b = b }
end

-- Waits for what never comes: whatever ends it before its time is not its own.
local function probe(fd)
   local from = core.now()
   local answer = table.pack(popd.wait(fd, "r", PROBE))
   local slept = table.pack(popd.sleep(0.001))
   return { answer = answer, slept = slept, enough = core.now() - from >= PROBE }
end

local OWN = { answer = { nil, "timeout", n = 2 }, slept = { true, n = 1 }, enough = true }

local slow = "{PBKDF2-SHA256}150000$AAAAAAAAAAAAAAAAAAAAAA$" .. ("A"):rep(43)

-- Each waits for longer than it may; `late` has the answer come.
local kinds = {
   ["popd.sleep"] = function()
      return { wait = function() return popd.sleep(0.08) end, late = function() end }
   end,
   ["popd.wait"] = function()
      local two = pair()
      return { wait = function() return popd.wait(two.a, "r") end, late = function() two.b:send("late") end }
   end,
   ["popd.wait with a timeout"] = function()
      local two = pair()
      return { wait = function() return popd.wait(two.a, "r", 0.08) end, late = function() end }
   end,
   ["a hash in a thread"] = function()
      return { wait = function() return popd.scheme.verify(slow, "secret") end, late = function() end }
   end,
   ["what popd.spawn does for it"] = function()
      local latch = core.latch()
      local wait, open = client.gate()
      popd.spawn(function()
         wait()
         latch:fire()
      end)
      return { wait = function() return latch:wait() end, late = open }
   end,
   ["a wait in a coroutine of its own"] = function()
      local two = pair()
      return {
         wait = coroutine.wrap(function() return popd.wait(two.a, "r") end),
         late = function() two.b:send("late") end,
      }
   end,
}

describe("an answer that comes late", function()
   after_each(client.finish)

   for name, make in pairs(kinds) do
      for _, caught in ipairs { false, true } do
         it(("to %s%s reaches nobody else"):format(name, caught and " in pcall" or ""), function()
            local kind, idle = make(), pair()
            local seen, got = {}, nil
            local auth = { lookup = function(user) return "secret", user end }
            local first, s
            first, s = store.server({ "a" }, { auth = auth, callback_timeout = 0.05 }, { get = function()
               first:configure { callback_timeout = 30 } -- for what is called next
               got = table.pack((caught and pcall or kind.wait)(kind.wait))
               return "a"
            end, unlock = function()
               s.plain.unlock()
               seen.unlock = probe(idle.a)
            end })
            local second = store.server({ "a" }, { auth = auth }, { get = function()
               seen.other = probe(idle.a)
               return "a"
            end })
            local c, other = client.login(first), client.login(second)
            c:send("RETR 1\r\n")
            client.wait_for("the end of its time", function() return client.logged("callback_timeout")[1] end)
            other:send("RETR 1\r\n")
            kind.late()
            client.wait_for("both", function() return seen.unlock and seen.other end)
            assert.same({ unlock = OWN, other = OWN }, seen)
            assert.is_true(caught and got[1] == false or got == nil)
            assert.equal(1, s.unlocks)
            assert.truthy(c:line():find("^%-ERR %[SYS/TEMP%]"))
            assert.equal("+OK 3 octets", other:line())
            assert.equal("a\r\n", other:body())
         end)
      end
   end
end)
