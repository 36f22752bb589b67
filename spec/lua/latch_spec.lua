-- What the package's own waiting functions are built on.
local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")

-- Runs f as a task and the loop until it ended; returns pcall's results.
local function run(f, ...)
   local results
   popd.spawn(function(...)
      results = table.pack(pcall(f, ...))
   end, ...)
   client.wait_for("the task", function() return results end)
   return table.unpack(results, 1, results.n)
end

describe("a latch", function()
   after_each(client.finish)

   it("lets its waiter go on once it is fired", function()
      local latch, order = core.latch(), {}
      popd.spawn(function()
         order[#order + 1] = "waits"
         local fired = latch:wait()
         order[#order + 1] = tostring(fired)
      end)
      popd.spawn(function()
         latch:fire()
         order[#order + 1] = "fired" -- the waiter does not run inside the one who fires
      end)
      client.drain()
      assert.same({ "waits", "fired", "true" }, order)
   end)

   it("remembers that it was fired", function()
      local latch = core.latch()
      latch:fire()
      assert.same({ true, true }, { run(latch.wait, latch) })
      assert.is_true(latch:wait())
   end)

   it("is waited for no longer than asked", function()
      local latch = core.latch()
      assert.same({ true, nil, "timeout" }, { run(latch.wait, latch, 0.001) })
      assert.same({ nil, "timeout" }, { latch:wait(0.001) })
   end)

   it("takes one waiter at a time", function()
      local latch, why = core.latch(), nil
      popd.spawn(latch.wait, latch)
      popd.spawn(function()
         why = select(2, pcall(latch.wait, latch))
         latch:fire()
      end)
      client.drain()
      assert.truthy(why:find("another callback waits for this already", 1, true))
   end)

   it("can be waited for again after a wait that was given up", function()
      local latch, order = core.latch(), {}
      local first = popd.spawn(function()
         order[1] = select(2, pcall(latch.wait, latch))
      end)
      popd.spawn(function()
         first:cancel()
         order[2] = latch:wait()
      end)
      popd.spawn(latch.fire, latch)
      client.drain()
      assert.truthy(order[1]:find("cancelled", 1, true))
      assert.is_true(order[2])
   end)

   it("goes on although nobody else holds it", function()
      local ended = false
      popd.spawn(function()
         core.latch():wait(0.001)
         ended = true
      end)
      popd.spawn(collectgarbage)
      client.drain()
      assert.is_true(ended)
   end)

   it("is waited for in a main chunk while the loop turns", function()
      local latch = core.latch()
      popd.spawn(latch.fire, latch)
      assert.is_true(latch:wait(10))
   end)

   it("ends a main chunk's wait where nothing is left that could fire it", function()
      assert.same({ nil, "timeout" }, { core.latch():wait() })
   end)
end)

describe("core.later", function()
   after_each(client.finish)

   it("runs a function with its arguments, which may wait", function()
      local got
      core.later(0.001, function(...)
         client.turn()
         got = { ... }
      end, 1, nil, 3)
      client.wait_for("the function", function() return got end)
      assert.same({ 1, nil, 3 }, got)
   end)

   it("keeps the loop not going", function()
      core.later(1000, error)
      assert.is_false(popd.step(0))
      popd.run()
   end)

   it("is no task until its time has come", function()
      core.later(1000, error)
      assert.equal(0, core.count())
   end)

   it("never runs once it is cancelled, and the loop is as it was", function()
      local ran = false
      local handle = core.later(0, function() ran = true end)
      handle:cancel()
      handle:cancel()
      popd.after(0.002, function() end)
      client.drain()
      assert.is_false(ran)
      popd.spawn(function() ran = true end)
      assert.is_true(popd.step(0) or ran)
      client.drain()
      assert.is_true(ran)
   end)
end)
