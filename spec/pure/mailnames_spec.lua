local sha256 = require("popd.fs").sha256
local testing = require("popd.testing")

local function files(list, times)
   local order = {}
   for i, one in ipairs(testing.mailnames(list, times)) do
      order[i] = one.file
   end
   return order
end

local function only(file)
   return testing.mailnames({ file })[1]
end

describe("names of a Maildir", function()
   -- files, as they are read, and as they are in order
   local orders = {
      { { "new/1000000003.b", "new/999999999.a", "cur/1000000003.a:2,S", "cur/10000000000.a:2," },
         { "new/999999999.a", "cur/1000000003.a:2,S", "new/1000000003.b", "cur/10000000000.a:2," } },
      { { "new/name", "new/0005", "new/10" }, { "new/0005", "new/10", "new/name" } },
      { { "new/1.a", "cur/1.a" }, { "cur/1.a", "new/1.a" } },
      { { "new/1.b", "new/01.c", "new/1.a" }, { "new/01.c", "new/1.a", "new/1.b" } },
      { { "new/200000000000000000000000.a", "new/30000000000000000000000.a", "new/x" },
         { "new/30000000000000000000000.a", "new/200000000000000000000000.a", "new/x" } },
      { { "new/18446744073709551615.a", "new/18446744073709551614.a" },
         { "new/18446744073709551614.a", "new/18446744073709551615.a" } },
      { {}, {} },
   }
   for i, case in ipairs(orders) do
      it(("are in order of delivery, then name (%d)"):format(i), function()
         assert.same(case[2], files(case[1]))
      end)
   end

   it("are in the order of other times where these are given", function()
      assert.same({ "new/3.a", "new/1.a", "new/2.a" }, files({ "new/1.a", "new/2.a", "new/3.a" }, { 20, 30, 10 }))
   end)

   for _, count in ipairs { 63, 64, 65, 5000 } do -- few are sorted otherwise than many
      it(("of %d messages are in order, whatever order they came in"):format(count), function()
         local list, expected = {}, {}
         for i = 1, count do
            expected[i] = ("new/%d.%d.x"):format(1000 + i // 7, i)
            list[i] = expected[(i * 3571) % count + 1] or expected[i]
         end
         for i = 1, count do
            list[i] = expected[(i * 3571) % count + 1]
         end
         table.sort(expected, function(a, b)
            local x, y = tonumber(a:match("%d+")), tonumber(b:match("%d+"))
            return x < y or x == y and a < b
         end)
         assert.same(expected, files(list))
      end)
   end

   -- name                  stored, sent
   local sizes = {
      { "1.a,S=4,W=6", 4, 6 },
      { "1.a,W=6,S=4", 4, 6 },
      { "1.a,S=4,W=6:2,S", 4, 6 },
      { "1.a,x,S=4,y=3,W=10", 4, 10 },
      { "1.a,S=0,W=2", 0, 2 },
      { "1.a,S=4x,W=7,S=5", 5, 7 },   -- the first that is whole
      { "1.a,S=4" },
      { "1.a,W=6" },
      { "1.a" },
      { "1.a,S=4,W=4" },               -- CRLF already: rare, so it is looked at
      { "1.a,S=4,W=3" },
      { "1.a,S=4,W=11" },              -- more lines than octets
      { "1.a,S=,W=6" },
      { "1.a,S=4,W=6x" },
      { "1.aS=4,W=6" },
      { "1.a:2,S=4,W=6" },             -- flags
      { "1.a,S=99999999999999999999,W=7" },
      { "1.a,S=274877906943,W=274877906944", 274877906943, 274877906944 },
      { "1.a,S=274877906944,W=274877906945" }, -- more than can be kept
   }
   for _, case in ipairs(sizes) do
      it(("tell sizes that can be: %s"):format(case[1]), function()
         local one = only("cur/" .. case[1])
         assert.same({ case[2], case[3] }, { one.stored, one.sent })
      end)
   end

   -- name, unique-id (none: its SHA-256)
   local uids = {
      { "1.a:2,S", "1.a" },
      { "1.a,S=4,W=6:2,S", "1.a,S=4,W=6" },
      { ("a"):rep(70), ("a"):rep(70) },
      { ("a"):rep(71) },
      { "1.b c" },
      { "1.\xc3\xa4" },
      { "1.\127" },
      { ":2,S" },
   }
   for _, case in ipairs(uids) do
      it(("have unique-ids that POP3 can send: %q"):format(case[1]), function()
         local base = case[1]:match("^[^:]*")
         assert.equal(case[2] or sha256(base), only("new/" .. case[1]).uid)
      end)
   end

   it("of more than 255 octets are none", function()
      assert.same({ "new/" .. ("a"):rep(255) }, files({ "new/" .. ("a"):rep(255), "new/" .. ("a"):rep(256), "new/" }))
   end)

   it("say which ones share their base", function()
      local same = {}
      local names = { "new/1.a", "cur/1.a:2,S", "cur/1.a,S=3:2,S", "new/1.b", "new/1.a:2," }
      for _, one in ipairs(testing.mailnames(names)) do
         same[one.file] = one.same
      end
      assert.same({ ["new/1.a"] = true, ["cur/1.a:2,S"] = true, ["new/1.a:2,"] = true, ["cur/1.a,S=3:2,S"] = false,
         ["new/1.b"] = false }, same)
   end)

   -- the session's, those that are there now, what each of the former is among the latter
   local follows = {
      { { "new/1.a" }, { "cur/1.a:2,S" }, { 1 } },
      { { "new/1.a", "new/2.a" }, { "new/2.a" }, { 0, 1 } },
      { { "new/2.a" }, { "new/1.a", "cur/2.a:2,", "new/3.a" }, { 2 } },
      { { "new/1.a" }, { "cur/1.a:2,S", "new/1.a" }, { "several" } },
      { { "new/1.a", "cur/1.a:2,S" }, { "new/1.a" }, { "several", "several" } },
      { { "new/1.a" }, {}, { 0 } },
      { {}, { "new/1.a" }, {} },
      { { "new/1.ab", "new/1.a" }, { "new/1.b", "new/1.a" }, { 1, 0 } },
   }
   for i, case in ipairs(follows) do
      it(("are found again by their base (%d)"):format(i), function()
         assert.same(case[3], testing.mailfollow(case[1], case[2]))
      end)
   end

   for name, expected in pairs { ["1.a:2,ST"] = true, ["1.a:2,S"] = false, ["1.aT"] = false, ["1.a:2,"] = false,
      ["T:2,S"] = false, ["1.a:1,T"] = false, ["1.a:2"] = false } do
      it(("have the flag T or not: %s"):format(name), function()
         assert.equal(expected, testing.mailname_has_flag(name, "T"))
      end)
   end
end)

describe("sizes in one number", function()
   for _, case in ipairs { { 0, 0 }, { 0, 2 }, { 10, 22 }, { 274877906943, 274945015805 } } do
      it(("are stored and sent octets: %d, %d"):format(case[1], case[2]), function()
         assert.same(case, { testing.mailsize(case[1], case[2]) })
      end)
   end

   for _, case in ipairs { { 1, 0 }, { 10, 23 }, { 274877906944, 274877906944 }, { 100000000, 167108864 },
      { 5, -1 } } do
      it(("are none where no file can have them: %d, %d"):format(case[1], case[2]), function()
         assert.is_nil((testing.mailsize(case[1], case[2])))
      end)
   end
end)
