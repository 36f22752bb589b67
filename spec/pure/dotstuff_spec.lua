local testing = require("popd.testing")
local dotstuff, dotstuff_count = testing.dotstuff, testing.dotstuff_count

-- message as stored        bytes on the wire
local whole = {
   { "",                    ".\r\n" },
   { "a",                   "a\r\n.\r\n" },
   { "a\nb\r\n",            "a\r\nb\r\n.\r\n" },
   { ".",                   "..\r\n.\r\n" },
   { ".\r\n",               "..\r\n.\r\n" },
   { ".\n.\n..\n",          "..\r\n..\r\n...\r\n.\r\n" },
   { ".a\n.\nno end",       "..a\r\n..\r\nno end\r\n.\r\n" },
   { "a.b\r\n.c.\r\n",      "a.b\r\n..c.\r\n.\r\n" },
   { "\n",                  "\r\n.\r\n" },
   { "\r\n",                "\r\n.\r\n" },
   { "\n\n.\n\n",           "\r\n\r\n..\r\n\r\n.\r\n" },
   { "abc\r",               "abc\r\r\n.\r\n" },
   { "\r",                  "\r\r\n.\r\n" },
   { "a\rb\r\n",            "a\rb\r\n.\r\n" },
   { "a\r\r\n",             "a\r\r\n.\r\n" },
   { "\r.\n",               "\r.\r\n.\r\n" },
   { "\r\r.\r\n",           "\r\r.\r\n.\r\n" },
   { "a\n\r",               "a\r\n\r\r\n.\r\n" },
   { "\0\n.\0\255\n\0",     "\0\r\n..\0\255\r\n\0\r\n.\r\n" },
   { "gr\195\188n\r\n",     "gr\195\188n\r\n.\r\n" },
   { "a\r\n.\r\nQUIT\r\n",  "a\r\n..\r\nQUIT\r\n.\r\n" },
}

-- message                     lines   bytes on the wire
local tops = {
   { "H: 1\n\nb1\nb2\nb3\n",    0,     "H: 1\r\n\r\n.\r\n" },
   { "H: 1\n\nb1\nb2\nb3\n",    1,     "H: 1\r\n\r\nb1\r\n.\r\n" },
   { "H: 1\n\nb1\nb2\nb3\n",    2,     "H: 1\r\n\r\nb1\r\nb2\r\n.\r\n" },
   { "H: 1\n\nb1\nb2\nb3\n",    3,     "H: 1\r\n\r\nb1\r\nb2\r\nb3\r\n.\r\n" },
   { "H: 1\n\nb1\nb2\nb3\n",    9,     "H: 1\r\n\r\nb1\r\nb2\r\nb3\r\n.\r\n" },
   { "H: 1\r\n\r\nb1\r\nb2",    2,     "H: 1\r\n\r\nb1\r\nb2\r\n.\r\n" },
   { "H: 1\r\n\r\nb1\r\nb2",    1,     "H: 1\r\n\r\nb1\r\n.\r\n" },
   { "H: 1\n\n\n\nb3\n",        2,     "H: 1\r\n\r\n\r\n\r\n.\r\n" },
   { "H: 1\n\n.\n.x\nb3\n",     2,     "H: 1\r\n\r\n..\r\n..x\r\n.\r\n" },
   -- all headers: no blank line
   { "H: 1\nH: 2\n",            0,     "H: 1\r\nH: 2\r\n.\r\n" },
   { "H: 1\nH: 2",              0,     "H: 1\r\nH: 2\r\n.\r\n" },
   { "H: 1\n \nH: 2\n",         0,     "H: 1\r\n \r\nH: 2\r\n.\r\n" },
   { "H: 1\n\r\r\nH: 2\n",      0,     "H: 1\r\n\r\r\nH: 2\r\n.\r\n" },
   -- no headers: the blank line is the first
   { "\nb1\nb2\n",              1,     "\r\nb1\r\n.\r\n" },
   { "\r\nb1\nb2\n",            0,     "\r\n.\r\n" },
   { "",                        0,     ".\r\n" },
   { "H: 1\n\nb1\rb1\nb2\n",    1,     "H: 1\r\n\r\nb1\rb1\r\n.\r\n" },
}

--- What goes over the wire, line by line.
-- @treturn string the bytes
-- @treturn number octets of them that are the message's
local function reference(message, lines)
   local wire, octets, in_body = {}, 0, false
   for line, lf in message:gmatch("([^\n]*)(\n?)") do
      if line == "" and lf == "" or in_body and lines == 0 then
         break
      end
      local text = lf ~= "" and line:gsub("\r$", "") or line
      octets = octets + #text + 2
      wire[#wire + 1] = (text:sub(1, 1) == "." and "." or "") .. text .. "\r\n"
      if in_body then
         lines = lines and lines - 1
      end
      in_body = in_body or text == ""
   end
   return table.concat(wire) .. ".\r\n", octets
end

--- Lines whose lengths lie around those of the blocks that are copied at once.
local function long_message()
   local lengths = { 0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65 }
   local breaks, parts = { "\n", "\r\n", "\n.", "\r", "\r\r\n", "\n\n", "\0\n" }, {}
   for i = 1, math.random(2, 10), 2 do
      parts[i] = ("x"):rep(lengths[math.random(#lengths)])
      parts[i + 1] = breaks[math.random(#breaks)]
   end
   return table.concat(parts)
end

--- A message of the octets that matter.
local function random_message(max)
   local alphabet, octets = { ".", "\r", "\n", "\n", "\r\n", "\r\n", "a", "bc", "\n.", "\n\n" }, {}
   for i = 1, math.random(0, max) do
      octets[i] = alphabet[math.random(#alphabet)]
   end
   return table.concat(octets)
end

describe("dotstuff", function()
   for _, case in ipairs(whole) do
      local message, wire = case[1], case[2]
      it(("sends %q alike however it was cut"):format(message), function()
         for piece = 1, #message + 1 do
            assert.equal(wire, (dotstuff(message, piece)), "pieces of " .. piece)
         end
      end)
   end

   for _, case in ipairs(tops) do
      local message, lines, wire = case[1], case[2], case[3]
      it(("sends the top %d of %q alike however it was cut"):format(lines, message), function()
         for piece = 1, #message + 1 do
            assert.equal(wire, (dotstuff(message, piece, lines)), "pieces of " .. piece)
         end
      end)
   end

   it("says when it needs no more", function()
      local message = "H: 1\n\nb1\nb2\n"
      local expected = { [0] = true, true, true, false }
      for lines = 0, 3 do
         assert.equal(expected[lines], (select(3, dotstuff(message, 1, lines))))
      end
      assert.is_false((select(3, dotstuff(message, 1))))
   end)

   it("counts the octets of the message as RFC 1939 does: without the added dots", function()
      for _, case in ipairs { { "", 0 }, { ".", 3 }, { "a\n.\n", 6 }, { "abc\r", 6 }, { "a\r\n", 3 } } do
         assert.equal(case[2], (select(2, dotstuff(case[1], 1))))
         assert.equal(case[2], dotstuff_count(case[1], 1))
      end
   end)

   it("sends what a naive reference sends, and counts what it counts", function()
      math.randomseed(5322)
      for _ = 1, 1500 do
         local message = random_message(30)
         local lines = math.random(3) > 1 and math.random(0, 5) or nil
         local wire, octets = reference(message, lines)
         for _, piece in ipairs { 1, 2, 3, math.random(1, #message + 1), #message + 1 } do
            local sent, counted = dotstuff(message, piece, lines)
            assert.equal(wire, sent, ("%q in pieces of %d"):format(message, piece))
            assert.equal(octets, counted, message)
            assert.equal(octets, dotstuff_count(message, piece, lines), message)
         end
      end
   end)

   it("sends lines of any length as a naive reference does, however they were cut", function()
      math.randomseed(1939)
      for _ = 1, 300 do
         local message = long_message()
         local wire, octets = reference(message)
         for piece = 1, #message + 1 do
            local sent, counted = dotstuff(message, piece)
            assert.equal(wire, sent, ("%q in pieces of %d"):format(message, piece))
            assert.equal(octets, counted, message)
         end
      end
   end)

   it("never sends the final dot before the end", function()
      math.randomseed(821)
      for _ = 1, 500 do
         local wire = "\r\n" .. dotstuff(random_message(40), math.random(1, 9))
         assert.equal(#wire - 4, (wire:find("\r\n.\r\n", 1, true)))
      end
   end)
end)
