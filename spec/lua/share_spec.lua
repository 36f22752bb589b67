-- popd.mutex and popd.pool: what callbacks share.
local client = require("support.client")
local peer = require("support.peer")
local popd = require("popd")
local socket = require("popd.socket")

local gate = client.gate

-- A pool of numbered clients; what was opened and closed is in `order`.
local function numbered(options)
   local order, n = {}, 0
   local all = {
      open = function()
         n = n + 1
         order[#order + 1] = "open " .. n
         return { number = n }
      end,
      close = function(c) order[#order + 1] = "close " .. c.number end,
   }
   for key, value in pairs(options or {}) do
      all[key] = value
   end
   return popd.pool(all), order
end

local function number_of(c)
   return c.number
end

-- A login that spends all its instructions in what it holds; the next one gets it all the same.
local function spend_in(shared)
   local tries = 0
   local server = client.server {
      auth = { lookup = function(name)
         return shared:with(function()
            tries = tries + 1
            while tries == 1 do
               pcall(error)
            end
            return "secret", name
         end)
      end },
      storage = { stat = function() return 0 end, get = error }, callback_instructions = 1000000,
   }
   for _, answer in ipairs { "^%-ERR %[SYS/TEMP%]", "^%+OK" } do
      local c = client.connect(server)
      c:command("USER joe")
      assert.matches(answer, (c:command("PASS secret")))
   end
   assert.equal(2, tries)
end

describe("a mutex", function()
   after_each(client.finish)

   it("lets one in at a time, in the order in which they came", function()
      local one, order, opens = popd.mutex(), {}, {}
      for i = 1, 5 do
         local wait
         wait, opens[i] = gate()
         peer.task(one.with, one, function(name)
            order[#order + 1] = name
            wait()
         end, "t" .. i)
      end
      for i, open in ipairs(opens) do
         peer.settle()
         assert.equal(i, #order)
         open()
      end
      client.drain()
      assert.same({ "t1", "t2", "t3", "t4", "t5" }, order)
   end)

   it("returns what the function returns, and raises what it raises as it was", function()
      local one, raised = popd.mutex(), {}
      assert.same({ 1, nil, 3, n = 3 }, table.pack(one:with(function(...) return ... end, 1, nil, 3)))
      assert.same({ false, raised }, { pcall(one.with, one, error, raised) })
      assert.same({ false, "text" }, { pcall(one.with, one, error, "text", 0) })
      assert.equal("free", one:with(function() return "free" end))
   end)

   it("keeps the traceback of where an error was raised", function()
      local one = popd.mutex()
      local function broken() error("broken") end
      local _, text = xpcall(function() one:with(function() broken() end) end, debug.traceback)
      assert.truthy(text:find("in upvalue 'broken'", 1, true) or text:find("function 'broken'", 1, true), text)
   end)

   it("is free again after an error, a cancel and a deadline of its holder", function()
      local one = popd.mutex()
      local wait = gate()
      local holder = peer.task(one.with, one, wait)
      local waiter = peer.task(one.with, one, function() return "in" end)
      peer.settle()
      assert.is_nil(waiter.packed)
      holder.job:cancel()
      assert.equal("in", waiter:values())
      peer.task(one.with, one, error, "x"):wait()
      assert.equal("in", peer.run(one.with, one, function() return "in" end))
   end)

   it("passes over who was cancelled while it waited, also at the very moment of its turn", function()
      local one = popd.mutex()
      local wait, open = gate()
      local holder = peer.task(one.with, one, wait)
      local first = peer.task(one.with, one, function() return "first" end)
      local second = peer.task(one.with, one, function() return "second" end)
      local third = peer.task(one.with, one, function() return "third" end)
      peer.settle()
      first.job:cancel()
      first:wait()
      peer.task(function()
         open()
         client.turn()
         second.job:cancel()
      end)
      holder:wait()
      second:wait()
      assert.equal("third", third:values())
      assert.equal("in", one:with(function() return "in" end))
   end)

   it("is free again where its holder used up its instructions", function()
      spend_in(popd.mutex())
   end)

   it("is free again where its holder hoarded memory", function()
      local one, tries = popd.mutex(), 0
      local server = client.server {
         auth = { lookup = function(name)
            return one:with(function()
               tries = tries + 1
               local hoard = {}
               while tries == 1 do
                  hoard[#hoard + 1] = ("x"):rep(100000) .. #hoard
               end
               return "secret", name
            end)
         end },
         storage = { stat = function() return 0 end, get = error },
      }
      finally(function() popd.memory_limit(false) end)
      collectgarbage()
      popd.memory_limit(popd.memory_limit() + 8000000)
      local a = client.connect(server)
      a:command("USER joe")
      assert.truthy(a:command("PASS secret"):find("^%-ERR %[SYS/TEMP%]"))
      a = client.connect(server)
      a:command("USER joe")
      assert.truthy(a:command("PASS secret"):find("^%+OK"))
   end)

   it("is free again where nobody holds the coroutine any more that held it", function()
      local one = popd.mutex()
      peer.run(function()
         local co = coroutine.wrap(function() one:with(coroutine.yield, "inside") end)
         assert.equal("inside", co())
      end)
      collectgarbage()
      collectgarbage()
      assert.equal("in", peer.run(one.with, one, function() return "in" end))
   end)

   it("serves a main chunk, which waits while the loop turns", function()
      local one = popd.mutex()
      local wait, open = gate()
      local holder = peer.task(one.with, one, wait)
      popd.step(0)
      popd.spawn(open)
      assert.equal("in", one:with(function() return "in" end))
      holder:wait()
      assert.is_false(pcall(one.with, one, error))
      assert.equal("in", one:with(function() return "in" end))
   end)

   it("says in a main chunk that nobody is left who could end its wait", function()
      local one = popd.mutex()
      one:with(function()
         local ok, why = pcall(one.with, one, function() end)
         assert.is_false(ok)
         assert.truthy(why:find("nobody is left", 1, true), why)
      end)
      assert.equal("in", one:with(function() return "in" end))
   end)
end)

describe("a pool", function()
   after_each(client.finish)

   it("lends a client that is there, and opens one where there is none", function()
      local pool, order = numbered()
      assert.equal(1, pool:with(number_of))
      assert.equal(1, peer.run(pool.with, pool, number_of))
      pool:with(function(first)
         assert.equal(1, first.number)
         assert.equal(2, peer.task(pool.with, pool, number_of):values())
      end)
      assert.same({ "open 1", "open 2" }, order)
      assert.same({ 1, "a", nil, n = 3 }, table.pack(pool:with(function(c, ...) return c.number, ... end, "a", nil)))
   end)

   it("lends at most so many, and has others wait in order", function()
      local pool, order = numbered { max = 2 }
      local got, opens = {}, {}
      for i = 1, 9 do
         local wait
         wait, opens[i] = gate()
         peer.task(pool.with, pool, function()
            got[#got + 1] = i
            wait()
         end)
      end
      for i, open in ipairs(opens) do
         peer.settle()
         assert.equal(math.min(i + 1, 9), #got)
         open()
      end
      client.drain()
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, got)
      assert.same({ "open 1", "open 2" }, order)
   end)

   it("closes a client whose use raised, and opens another for who waits", function()
      local pool, order = numbered { max = 1 }
      local wait, open = gate()
      local one = peer.task(pool.with, pool, function()
         wait()
         error("broken")
      end)
      local two = peer.task(pool.with, pool, number_of)
      peer.settle()
      open()
      assert.truthy(one:raised():find("broken", 1, true))
      assert.equal(2, two:values())
      assert.same({ "close 1", "open 2" }, { table.unpack(order, 2) })
   end)

   it("gives the slot back where open fails, raises, or is cancelled while it waits", function()
      local results = { {}, { nil, "no server" }, "raise", "wait", { { number = 9 } } }
      local pool
      pool = popd.pool { max = 1, open = function()
         local result = table.remove(results, 1)
         if result == "raise" then
            error("open raised")
         elseif result == "wait" then
            client.never()
         end
         return table.unpack(result, 1, 2)
      end }
      assert.truthy(peer.task(pool.with, pool, number_of):raised():find("open failed: nil", 1, true))
      assert.truthy(peer.task(pool.with, pool, number_of):raised():find("open failed: no server", 1, true))
      assert.truthy(peer.task(pool.with, pool, number_of):raised():find("open raised", 1, true))
      local waits = peer.task(pool.with, pool, number_of)
      local next_one = peer.task(pool.with, pool, number_of)
      peer.settle()
      waits.job:cancel()
      assert.equal(9, next_one:values())
   end)

   it("passes a client on where its receiver is cancelled at that very moment", function()
      local pool, order = numbered { max = 1 }
      local wait, open = gate()
      local holder = peer.task(pool.with, pool, wait)
      local first = peer.task(pool.with, pool, number_of)
      local second = peer.task(pool.with, pool, number_of)
      peer.settle()
      peer.task(function()
         open()
         client.turn()
         first.job:cancel()
      end)
      holder:wait()
      first:wait()
      assert.equal(1, second:values())
      assert.equal(1, pool:with(number_of))
      assert.same({ "open 1" }, order)
   end)

   it("has slots again after its users used up their instructions", function()
      spend_in(numbered { max = 1 })
   end)

   it("logs a close that raises, and goes on", function()
      client.server {}
      local pool = numbered { max = 1, close = function() error("cannot close") end }
      peer.task(pool.with, pool, error, "x"):wait()
      assert.equal(2, peer.run(pool.with, pool, number_of))
      assert.equal(1, #client.logged("a pool's close failed.*cannot close"))
   end)

   it("closes those that nobody has used for its idle time", function()
      local pool, order = numbered { idle = 0.005 }
      pool:with(function()
         peer.task(pool.with, pool, number_of):wait()
      end)
      client.wait_for("both to be closed", function() return #order == 4 end)
      table.sort(order)
      assert.same({ "close 1", "close 2", "open 1", "open 2" }, order)
      assert.equal(3, pool:with(number_of))
      pool:close()
   end)

   it("once closed closes what is there, then what comes back, and lends nothing", function()
      local pool, order = numbered { max = 2 }
      local wait, open = gate()
      local user = peer.task(pool.with, pool, wait)
      peer.settle()
      assert.equal(2, pool:with(number_of))
      local more = { peer.task(pool.with, pool, function() client.never() end), peer.task(pool.with, pool,
         number_of) }
      peer.settle()
      pool:close()
      open()
      user:wait()
      assert.truthy(more[2]:raised():find("the pool is closed", 1, true))
      more[1].job:cancel()
      client.drain()
      assert.is_false(pcall(pool.with, pool, number_of))
      table.sort(order)
      assert.same({ "close 1", "close 2", "open 1", "open 2" }, order)
   end)

   it("keeps the traceback of where an error was raised, and its value", function()
      local pool, raised = numbered(), {}
      local function broken() error("broken") end
      local _, text = xpcall(function() pool:with(function() broken() end) end, debug.traceback)
      assert.truthy(text:find("in upvalue 'broken'", 1, true) or text:find("function 'broken'", 1, true), text)
      assert.same({ false, raised }, { pcall(pool.with, pool, function() error(raised) end) })
      assert.same({ false, nil }, { pcall(pool.with, pool, function() error(nil) end) })
      assert.equal(4, pool:with(number_of))
   end)

   it("raises a caller's mistake at the caller's line", function()
      for what, f in pairs {
         ["a table"] = function() popd.pool() end,
         ["unknown option 'size'; there are: close, idle, max, open"] = function()
            popd.pool { open = print, size = 1 }
         end,
         ["open is a function"] = function() popd.pool {} end,
         ["max is an integer"] = function() popd.pool { open = print, max = 0 } end,
         ["idle is seconds"] = function() popd.pool { open = print, idle = -1 } end,
         ["pool:with: a function expected, got a nil"] = function() numbered():with() end,
         ["mutex:with: a function expected, got a number"] = function() popd.mutex():with(1) end,
      } do
         local ok, err = pcall(f)
         assert.is_false(ok)
         assert.truthy(err:find("^spec/lua/share_spec.lua:%d+: ") and err:find(what, 1, true), err)
      end
   end)
end)

describe("a pool of sockets", function()
   after_each(client.finish)

   local function of_sockets(options)
      local listener = peer.listen()
      return popd.pool {
         open = function() return socket.connect("127.0.0.1", listener.port) end,
         close = function(c) c:close() end, max = options and options.max,
      }, listener
   end

   local function ask(c, tag)
      assert(c:send(tag .. "\r\n"))
      return (c:receive())
   end

   it("hands one from callback to callback, also while the first goes on", function()
      local pool, listener = of_sockets()
      local wait, open = gate()
      local one = peer.task(require("popd.use").run, function()
         local answer = pool:with(ask, "A")
         wait()
         return answer
      end)
      local p = listener:accept()
      p:line()
      p:send("for A\r\n")
      peer.settle()
      local two = peer.task(pool.with, pool, ask, "B")
      assert.equal("B", p:line())
      p:send("for B\r\n")
      assert.equal("for B", two:values())
      open()
      assert.equal("for A", one:values())
   end)

   for what, misuse in pairs {
      ["timed out"] = function(c)
         c:settimeout(0.001)
         ask(c, "A")
         c:settimeout()
      end,
      ["did not read the answer"] = function(c) c:send("A\r\n") end,
      ["closed it"] = function(c)
         c:send("A\r\n")
         c:close()
      end,
   } do
      it("does not lend one again whose user " .. what .. ", though it returned normally", function()
         local pool, listener = of_sockets { max = 1 }
         local one = peer.task(pool.with, pool, misuse)
         local p = listener:accept()
         p:line()
         one:results()
         assert.is_true(p:closed())
         local two = peer.task(pool.with, pool, ask, "B")
         p = listener:accept()
         assert.equal("B", p:line())
         p:send("for B\r\n")
         assert.equal("for B", two:values())
      end)
   end

   it("does not lend one again on which octets are left", function()
      local pool, listener = of_sockets { max = 1 }
      local one = peer.task(pool.with, pool, ask, "A")
      local p = listener:accept()
      p:line()
      p:send("for A\r\nand more\r\n")
      assert.equal("for A", one:values())
      assert.is_true(p:closed())
   end)
end)

describe("a mutex around a socket", function()
   after_each(client.finish)

   it("hands it from callback to callback, and spoils it for others where one raised", function()
      local listener, mutex = peer.listen(), popd.mutex()
      local c = peer.run(socket.connect, "127.0.0.1", listener.port)
      local p = listener:accept()
      local function ask(tag)
         return mutex:with(function()
            local sent, why = c:send(tag .. "\r\n")
            local line = sent and c:receive() or error(why, 0)
            return line ~= "bad" and line or error("bad")
         end)
      end
      for _, tag in ipairs { "A", "B", "C" } do
         local task = peer.task(ask, tag)
         assert.equal(tag, p:line())
         p:send(tag == "C" and "bad\r\n" or "for " .. tag .. "\r\n")
         task:wait()
         assert.equal(tag ~= "C", task.packed[1])
      end
      assert.truthy(peer.task(ask, "D"):raised():find("closed", 1, true))
      assert.is_true(p:closed())
   end)
end)
