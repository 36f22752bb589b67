local linebuf = require("popd.testing").linebuf

--- Feeds bytes in pieces, and takes the lines after each.
-- @treturn table lines as strings, "too long" as true
local function lines_of(bytes, piece, limit)
   local lb, out, at = linebuf.new(limit), {}, 1
   while at <= #bytes do
      at = at + lb:feed(bytes:sub(at, at + piece - 1))
      local status, line = lb:next()
      while status ~= "none" do
         out[#out + 1] = status == "too_long" or line
         status, line = lb:next()
      end
   end
   return out
end

-- with a limit of 8        lines; true: one that was too long
local cases = {
   { "",                    {} },
   { "NOOP",                {} },
   { "NOOP\r",              {} },
   { "NOOP\r\n",            { "NOOP" } },
   { "NOOP\n",              { "NOOP" } },
   { "\r\n\n",              { "", "" } },
   { "a\r\r\n",             { "a\r" } },
   { "a\rb\n",              { "a\rb" } },
   { "\0\255\n",            { "\0\255" } },
   { "123456\r\n",          { "123456" } },
   { "1234567\n",           { "1234567" } },
   { "1234567\r\n",         { true } },
   { "12345678\n",          { true } },
   { "12345678",            { true } },
   { "1234567",             {} },
   { ("x"):rep(50) .. "\r\nA\r\n", { true, "A" } },
   { "A\n" .. ("x"):rep(50) .. "\nB\n" .. ("y"):rep(9) .. "\n\nC\r\n", { "A", true, "B", true, "", "C" } },
}

describe("linebuf", function()
   for _, case in ipairs(cases) do
      local bytes, expected = case[1], case[2]
      it(("takes %q apart alike however it was cut"):format(bytes), function()
         for piece = 1, #bytes + 1 do
            assert.same(expected, lines_of(bytes, piece, 8), "pieces of " .. piece)
         end
      end)
   end

   it("takes random bytes apart as a naive reference does", function()
      math.randomseed(1939)
      local alphabet = { "a", "b", "\r", "\n", "\n", "\r\n", "\0" }
      for _ = 1, 400 do
         local limit, text, expected = math.random(3, 12), {}, {}
         for i = 1, math.random(0, 60) do
            text[i] = alphabet[math.random(#alphabet)]
         end
         local bytes = table.concat(text)
         for line in bytes:gmatch("[^\n]*\n") do
            expected[#expected + 1] = #line > limit or (line:gsub("\r?\n$", ""))
         end
         if #bytes:match("[^\n]*$") >= limit then
            expected[#expected + 1] = true
         end
         for piece = 1, 9 do
            assert.same(expected, lines_of(bytes, piece, limit), ("%q, limit %d"):format(bytes, limit))
         end
      end
   end)

   it("tells of a line that is too long before its end has come, and once", function()
      local lb = linebuf.new(8)
      lb:feed("12345678")
      assert.equal("too_long", lb:next())
      assert.equal("none", lb:next())
      for _ = 1, 10 do
         lb:feed(("x"):rep(4000))
         assert.equal("none", lb:next())
      end
      lb:feed("\nA\n")
      assert.same({ "ready", "A" }, { lb:next() })
   end)

   it("takes no more than its room while lines are not taken", function()
      local lb = linebuf.new(255)
      assert.equal(4096, lb:feed(("NOOP\r\n"):rep(1000)))
      assert.equal(0, lb:feed("NOOP\r\n"))
      assert.same({ "ready", "NOOP" }, { lb:next() })
      assert.equal(6, lb:feed("NOOP\r\n"))
   end)

   --- Feeds bytes as there is room, looking for a line after each.
   local function feed_all(lb, bytes)
      local at, status, line = 1, "none", nil
      while status == "none" and at <= #bytes do
         at = at + lb:feed(bytes:sub(at))
         status, line = lb:next()
      end
      return status, line, at - 1
   end

   for _, limit in ipairs { 4097, 8192, 12288, 16384, 100000 } do
      it(("takes a line of %d octets, its room growing with it"):format(limit), function()
         local lb = linebuf.new(limit)
         local line = ("z"):rep(limit - 2)
         assert.same({ "ready", line, limit }, { feed_all(lb, line .. "\r\n") })
         assert.same({ "too_long", nil, limit }, { feed_all(lb, line .. "zz") })
         assert.is_true(#lb:held() <= limit)
      end)
   end

   it("holds no more for short lines where long ones may come", function()
      local lb = linebuf.new(16384)
      for _ = 1, 1000 do
         assert.equal(6, lb:feed("NOOP\r\n"))
         assert.same({ "ready", "NOOP" }, { lb:next() })
      end
      assert.is_true(#lb:held() < 100)
   end)

   it("has another limit for a line that is looked at before it is taken", function()
      local lb = linebuf.new(8)
      lb:feed("LONG 12345678\n1234567\n12345678\n")
      assert.equal("LONG ", lb:peek():sub(1, 5))
      lb:limit(20)
      assert.same({ "ready", "LONG 12345678" }, { lb:next() })
      lb:limit(8)
      assert.same({ "ready", "1234567" }, { lb:next() })
      assert.equal("too_long", (lb:next()))
      assert.equal("", lb:peek())
   end)

   it("shows nothing of a line that it skips", function()
      local lb = linebuf.new(8)
      lb:feed("123456789")
      assert.equal("too_long", (lb:next()))
      lb:feed("AUTH x")
      assert.equal("", lb:peek())
      assert.equal("none", (lb:next()))
      lb:feed("\nB")
      assert.equal("none", (lb:next()))
      assert.equal("B", lb:peek())
   end)

   it("shows the line behind one that was skipped, whose limit it may be", function()
      local lb = linebuf.new(8)
      lb:feed("123456789\nLONG 12345678\n")
      assert.equal("too_long", (lb:next()))
      lb:feed("x")
      assert.equal("LONG 12345678\nx", lb:peek())
      lb = linebuf.new(8)
      lb:feed("123456789")
      assert.equal("too_long", (lb:next()))
      lb:feed("\nLONG 12345678\n")
      assert.equal("LONG 12345678\n", lb:peek())
      lb:limit(20)
      assert.same({ "ready", "LONG 12345678" }, { lb:next() })
   end)

   it("wipes what was too long", function()
      local lb = linebuf.new(8)
      lb:feed("PASS secret1")
      assert.equal("too_long", (lb:next()))
      lb:feed("secret2\nA")
      lb:next()
      assert.is_nil(lb:held():find("ecret", 1, true))
   end)

   it("keeps what it holds when its limit grows", function()
      local lb = linebuf.new(255)
      lb:feed("A\nB\nlong ")
      assert.same({ "ready", "A" }, { lb:next() })
      lb:limit(8000)
      assert.same({ "ready", "B" }, { lb:next() })
      assert.same({ "ready", "long " .. ("x"):rep(7000), 7001 }, { feed_all(lb, ("x"):rep(7000) .. "\n") })
   end)

   it("gives its memory back at rest, and only then", function()
      local lb = linebuf.new(255)
      assert.is_false(lb:rest())
      lb:feed("NOOP\r\nNO")
      lb:next()
      assert.is_true(lb:rest())
      lb:feed("OP\r\n")
      assert.same({ "ready", "NOOP" }, { lb:next() })
      assert.is_false(lb:rest())
      lb:feed("QUIT\n")
      assert.same({ "ready", "QUIT" }, { lb:next() })
   end)

   it("goes on skipping a long line across a rest", function()
      local lb = linebuf.new(8)
      lb:feed(("x"):rep(20))
      assert.equal("too_long", lb:next())
      assert.is_false(lb:rest())
      lb:feed("yyy\nA\n")
      assert.same({ "ready", "A" }, { lb:next() })
   end)

   it("leaves nothing behind where the begin of a line was, once that moved", function()
      local lb = linebuf.new(255)
      lb:feed(("NOOP\r\n"):rep(9) .. "PASS sec")
      for _ = 1, 9 do
         assert.same({ "ready", "NOOP" }, { lb:next() })
      end
      assert.equal("none", lb:next())
      lb:feed("ret")
      assert.same({ 1, #"PASS secret" }, { lb:held():find("PASS secret", 1, true) })
      assert.is_nil(lb:held():find("PASS", 2, true))
   end)

   it("forgets what was pipelined when it is told to", function()
      local lb = linebuf.new(255)
      lb:feed("STLS\r\nUSER eve\r\nPASS")
      lb:next()
      assert.equal(#"USER eve\r\nPASS", lb:drop())
      assert.equal("none", lb:next())
      lb:feed(" x\r\n")
      assert.same({ "ready", " x" }, { lb:next() })
   end)

   it("forgets the long line it was within, too", function()
      local lb = linebuf.new(8)
      lb:feed(("x"):rep(20))
      lb:next()
      assert.equal(0, lb:drop())
      lb:feed("A\n")
      assert.same({ "ready", "A" }, { lb:next() })
   end)
end)
