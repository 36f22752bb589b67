local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")
local store = require("support.store")

describe("many who have something to compute", function()
   after_each(client.finish)

   it("do not all come before a client that has asked meanwhile", function()
      local c = client.login((store.server({ "a\n" })))
      local ran, most = 0, 40
      for _ = 1, most do
         popd.spawn(function()
            local stop = core.now() + 0.002
            repeat until core.now() >= stop
            ran = ran + 1
         end)
      end
      c:send("NOOP\r\n")
      assert.equal("+OK", c:line())
      assert.is_true(ran < most / 2, ran .. " came before")
      client.wait_for("the others", function() return ran == most end)
   end)
end)
