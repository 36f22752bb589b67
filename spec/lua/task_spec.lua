local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")

describe("a task", function()
   after_each(client.finish)

   it("is counted while it lives", function()
      local job = popd.spawn(client.never)
      popd.step(0)
      assert.equal(1, core.count())
      job:cancel()
      client.drain()
      assert.equal(0, core.count())
   end)

   it("sleeps its whole time, also where the loop did not run for a while before", function()
      popd.step(0)
      popd.sleep(0.1) -- blocks here
      local from, slept
      popd.spawn(function()
         from = core.now()
         popd.sleep(0.05)
         slept = core.now() - from
      end)
      client.drain()
      assert.is_true(slept >= 0.049, slept)
   end)

   it("sleeps its whole time, also behind work that took long", function()
      local slept
      popd.spawn(function()
         local from = core.now()
         while core.now() < from + 0.1 do
            from = from + 0
         end
         from = core.now()
         popd.sleep(0.05)
         slept = core.now() - from
      end)
      client.drain()
      assert.is_true(slept >= 0.049, slept)
   end)

   it("leaves no memory behind", function()
      local function hundred()
         for _ = 1, 100 do
            popd.spawn(client.turn)
            popd.spawn(function() error("x") end)
            popd.spawn(client.never):cancel()
            popd.after(1000, print):cancel()
         end
         client.drain()
         collectgarbage()
         collectgarbage()
         return collectgarbage("count")
      end
      popd.log_to(nil, "none")
      hundred()
      local before = hundred()
      for _ = 1, 10 do
         hundred()
      end
      assert.is_true(collectgarbage("count") - before < 100)
   end)

   it("may return any number of values", function()
      popd.spawn(function() return table.unpack({}, 1, 200) end)
      client.drain()
   end)

   it("may be started by a task", function()
      local order = {}
      popd.spawn(function()
         order[#order + 1] = "a"
         popd.spawn(function() order[#order + 1] = "c" end)
         order[#order + 1] = "b"
      end)
      client.drain()
      assert.equal("abc", table.concat(order))
   end)

   it("may be cancelled by another", function()
      local closed = false
      local one = popd.spawn(function()
         local guard <close> = setmetatable({}, { __close = function() closed = true end })
         assert(guard)
         client.never()
      end)
      popd.spawn(function() one:cancel() end)
      client.drain()
      assert.is_true(closed)
   end)

   it("may cancel one that is about to go on", function()
      local ended = 0
      local a, b
      a = popd.spawn(function()
         client.turn()
         b:cancel()
         ended = ended + 1
      end)
      b = popd.spawn(function()
         client.turn()
         a:cancel()
         ended = ended + 1
      end)
      client.drain()
      assert.equal(1, ended)
   end)

   it("whose handle is collected goes on", function()
      local done = false
      popd.spawn(function()
         client.turn()
         done = true
      end)
      collectgarbage()
      collectgarbage()
      client.drain()
      assert.is_true(done)
   end)

   it("that raises something that is no text is logged", function()
      client.server()
      for _, value in ipairs { {}, 5, true } do
         popd.spawn(function() error(value) end)
      end
      popd.spawn(function() error() end)
      client.wait_for("the log", function() return #client.logged("spawned") == 4 end)
   end)

   it("runs popd.run to its end", function()
      local n = 0
      popd.after(0.005, function() n = n + 1 end)
      popd.run()
      assert.equal(1, n)
   end)

   it("ends popd.run by popd.stop, which leaves what waits", function()
      local job = popd.after(1000, print)
      popd.spawn(popd.stop)
      popd.run()
      assert.equal(1, core.count())
      job:cancel()
   end)

   it("has its own time: thousand alarms ring in order", function()
      local last, good = 0, true
      for i = 1, 1000 do
         local seconds = (i * 7919 % 1000) / 5000
         popd.spawn(function()
            local due = core.now() + seconds -- each counts from its own start
            popd.sleep(seconds)
            good = good and due >= last - 0.02
            last = due
         end)
      end
      client.drain()
      assert.is_true(good)
   end)
end)
