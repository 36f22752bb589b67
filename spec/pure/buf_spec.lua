local buf = require("popd.testing").buf

describe("buf", function()
   it("holds nothing at first", function()
      assert.equal("", (buf.new():bytes()))
   end)

   it("keeps what is added, however much", function()
      local b, expected = buf.new(), {}
      for i = 1, 2000 do
         local piece = ("x"):rep(i % 7) .. i
         b:add(piece)
         expected[i] = piece
      end
      assert.equal(table.concat(expected), (b:bytes()))
   end)

   for _, len in ipairs { 0, 1, 60, 61, 62, 63, 64, 65, 200, 10000 } do
      it(("prints %d octets and a number"):format(len), function()
         local b = buf.new()
         b:add("before ")
         b:printf(("t"):rep(len), 42)
         assert.equal("before " .. ("t"):rep(len) .. " 42", (b:bytes()))
      end)
   end

   it("remembers that memory was refused, and ignores what comes after", function()
      local b = buf.new()
      b:add("kept")
      assert.is_false(b:reserve(-1))
      b:add("lost")
      b:printf("lost", 1)
      assert.is_false(b:reserve(1))
      assert.same({ "kept", true }, { b:bytes() })
   end)

   it("leaves no octet of a secret behind when it is wiped", function()
      local b = buf.new()
      for _ = 1, 100 do
         b:add("secret")
      end
      local memory = b:wipe()
      assert.equal(("\0"):rep(#memory), memory)
      assert.is_true(#memory >= 600)
      assert.equal("", (b:bytes()))
   end)

   it("can be used again after clearing and wiping", function()
      local b = buf.new()
      b:reserve(-1)
      b:clear()
      b:add("one")
      assert.same({ "one", false }, { b:bytes() })
      b:wipe()
      b:add("two")
      assert.same({ "two", false }, { b:bytes() })
   end)
end)
