local testing = require("popd.testing")

-- The inode of a file is its place in the array.
local FILES = { "new/1.a", "cur/2.b:2,S", "new/3.c" }

local ENTRIES = {
   { base = "1.a", inode = 1, stored = 10, sent = 12, mtime = 5 },
   { base = "2.b", inode = 2, stored = 20, sent = 20, mtime = 6 },
   { base = "gone", inode = 9, stored = 1, sent = 3, mtime = 7 },
}

local function sent(octets, files)
   local matched, rows = testing.mailindex_read(octets, files or FILES)
   if not matched then
      return nil
   end
   local sizes = {}
   for i, row in ipairs(rows) do
      sizes[i] = row.sent or false
   end
   return sizes
end

describe("an index", function()
   it("tells the sizes of those whose base name and inode it knows", function()
      local octets = testing.mailindex_write(ENTRIES)
      assert.same({ 12, 20, false }, sent(octets))
      assert.equal(2, (testing.mailindex_read(octets, FILES)))
   end)

   it("knows nothing of a file that has another inode, or another's base", function()
      local octets = testing.mailindex_write(ENTRIES)
      assert.same({ false, false }, sent(octets, { "cur/2.b:2,S", "new/1.a" }))
      assert.same({ false }, sent(octets, { "new/2.b" }))
   end)

   it("is believed over what the name tells, which it was read against", function()
      local octets = testing.mailindex_write { { base = "1.a,S=5,W=7", inode = 1, stored = 4, sent = 6, mtime = 1 } }
      assert.same({ 6 }, sent(octets, { "new/1.a,S=5,W=7" }))
   end)

   it("may be empty", function()
      assert.same({ false, false, false }, sent(testing.mailindex_write {}))
   end)

   it("is none when any octet of it is another", function()
      local octets = testing.mailindex_write(ENTRIES)
      for at = 1, #octets do
         for _, bit in ipairs { 1, 128 } do
            local other = octets:sub(1, at - 1) .. string.char(octets:byte(at) ~ bit) .. octets:sub(at + 1)
            assert.is_nil(sent(other), ("octet %d"):format(at))
         end
      end
   end)

   it("is none when it is cut, or longer", function()
      local octets = testing.mailindex_write(ENTRIES)
      for n = 0, #octets - 1 do
         assert.is_nil(sent(octets:sub(1, n)))
      end
      assert.is_nil(sent(octets .. "\0"))
      assert.is_nil(sent(octets .. octets:sub(-32)))
   end)

   it("is none of another byte order", function()
      local octets = testing.mailindex_write(ENTRIES)
      local swapped = octets:sub(1, 8) .. octets:sub(9, 12):reverse() .. octets:sub(13, 16):reverse()
      for at = 17, #octets, 8 do
         swapped = swapped .. octets:sub(at, at + 7):reverse()
      end
      assert.is_nil(sent(swapped))
   end)

   it("keeps the last of two entries of one message", function()
      assert.same({ 15, false, false }, sent(testing.mailindex_write { ENTRIES[1],
         { base = "1.a", inode = 1, stored = 15, sent = 15, mtime = 8 } }))
   end)

   -- older, newer, what is known of FILES then
   local newer = { { base = "3.c", inode = 3, stored = 30, sent = 31, mtime = 1 } }
   local joins = {
      { ENTRIES, newer, { 12, 20, 31 } },
      { {}, newer, { false, false, 31 } },
      { ENTRIES, {}, { 12, 20, false } },
      { ENTRIES, { { base = "1.a", inode = 1, stored = 11, sent = 11, mtime = 9 } }, { 11, 20, false } },
      { ENTRIES, { { base = "1.a", inode = 1 } }, { false, 20, false } }, -- forgotten
      { {}, {}, { false, false, false } },
   }
   for i, case in ipairs(joins) do
      it(("is brought up to date by what is newer, for the messages that are left (%d)"):format(i), function()
         local octets = testing.mailindex_join(case[1], case[2], FILES)
         assert.same(case[3], sent(octets))
         local matched = testing.mailindex_read(octets, FILES)
         assert.equal(32 + 32 * matched, #octets) -- nothing of "gone"
      end)
   end
end)
