-- What must be done however a stretch of code ends.
local client = require("support.client")
local core = require("popd.core")
local peer = require("support.peer")
local popd = require("popd")

describe("a ward", function()
   after_each(client.finish)

   local done

   before_each(function()
      done = {}
   end)

   local function note(...)
      done[#done + 1] = table.concat({ ... }, " ")
   end

   it("runs its function in a task of its own once its variable is left, by an error too", function()
      do
         local ward <close> = core.ward(note, "left", 1)
         assert.is_userdata(ward)
      end
      pcall(function()
         local ward <close> = core.ward(note, "raised")
         error(ward)
      end)
      assert.same({}, done)
      client.drain()
      assert.same({ "left 1", "raised" }, done)
   end)

   it("runs it once a cancelled task is through, and it may wait", function()
      local task = peer.task(function()
         local ward <close> = core.ward(function()
            client.turn()
            note("waited")
         end)
         client.never(ward)
      end)
      peer.settle()
      task.job:cancel()
      client.drain()
      assert.same({ "waited" }, done)
   end)

   it("runs it once nobody holds it any more", function()
      core.ward(note, "collected")
      collectgarbage()
      collectgarbage()
      client.drain()
      assert.same({ "collected" }, done)
   end)

   it("does not run it once it is disarmed", function()
      do
         local ward <close> = core.ward(note, "never")
         ward:disarm()
         ward:disarm()
      end
      collectgarbage()
      client.drain()
      assert.same({}, done)
      assert.is_false(popd.step(0))
   end)
end)
