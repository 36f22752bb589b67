local lists = require("popd.uidl_list")
local map = require("popd.uidl_map")

-- What a list says, as text: one line an entry.
local function shown(list)
   local lines = {}
   for k = 1, list.count do
      if list.name[k] then
         assert(list.index:get(list.name[k]) == k)
         local line = { list.uid[k], list.name[k] }
         if list.uidvalidities then
            line = { lists.courier_id(list, k), list.name[k] }
         end
         for _, field in ipairs { "pop3", "order", "guid", "sent", "stored" } do
            local value = list[field] and list[field][k]
            line[#line + 1] = value and field .. "=" .. value
         end
         lines[#lines + 1] = table.concat(line, " ")
      end
   end
   return lines
end

local function in_pieces(text, size)
   local at = 1
   return function()
      local piece = text:sub(at, at + size - 1)
      at = at + size
      return piece ~= "" and piece or nil
   end
end

local HEADER = "3 V1795740690 N9 G2b1fb90112d4086bbd3f000083ecc375\n"

describe("a dovecot-uidlist", function()
   -- the list; its entries; the first line that is broken
   local cases = {
      { HEADER, {} },
      { HEADER .. "1 :a\n2 :b:2,S\n", { "1 a", "2 b" } },
      { HEADER .. "1 W19 :a\n", { "1 a sent=19" } },
      { HEADER .. "1 S17 W20 :a,S=1:2,\n", { "1 a,S=1 sent=20 stored=17" } },
      { HEADER .. "1 P O7 Gabc :a\n", { "1 a pop3= order=7 guid=abc" } },
      { HEADER .. "1 PUID7-12 :a\n", { "1 a pop3=UID7-12" } },
      { HEADER .. "1 Pold:id P2 :a\n", { "1 a pop3=old:id" } },
      { HEADER .. "1  W19   :a\n", { "1 a sent=19" } },
      { HEADER .. "1 Zfuture :a\n", { "1 a" } },
      { HEADER .. "1 Ox W-1 S99999999999999999999 :a\n", { "1 a" } },
      { HEADER .. "1 :a b\n", { "1 a b" } },
      { HEADER .. "1 :\255\1\n", { "1 \255\1" } },
      { HEADER .. "4294967294 :a\n", { "4294967294 a" } },
      { "3 N9 V17 Xnew\n1 :a\n", { "1 a" } },
      { "3 V17  N9 \n1 :a\n", { "1 a" } },
      { "1 1795740690 9\n1 a:2,S\n2 b\n", { "1 a", "2 b" } },
      -- an expunged file that came back: Dovecot takes the newer entry
      { HEADER .. "1 :a\n2 :b\n3 :a:2,S\n", { "2 b", "3 a" } },
      -- broken lines: the others count
      { HEADER .. "1 :a\n\n3 :c\n", { "1 a", "3 c" }, 3 },
      { HEADER .. "1 :a\nx :b\n3 :c\n", { "1 a", "3 c" }, 3 },
      { HEADER .. "0 :a\n1 :b\n", { "1 b" }, 2 },
      { HEADER .. "-1 :a\n", {}, 2 },
      { HEADER .. "2 :a\n1 :b\n3 :c\n", { "2 a", "3 c" }, 3 },
      { HEADER .. "1 :a\n1 :b\n", { "1 a" }, 3 },
      { HEADER .. "4294967295 :a\n", {}, 2 },
      { HEADER .. "99999999999999999999 :a\n", {}, 2 },
      { HEADER .. "1 a\n2 W9\n3 :c\n", { "3 c" }, 2 },
      { HEADER .. "1 :\n2 ::2,S\n", {}, 2 },
      { HEADER .. "1 :a/b\n2 :../x\n", {}, 2 },
      { HEADER .. "1 w19 :a\n", {}, 2 },
      { HEADER .. "1 W19", {}, 2 },
      { HEADER .. "1 :a\n2 :b", { "1 a" }, 3 },
      { HEADER .. "1 :" .. ("x"):rep(5000) .. "\n2 :b\n", { "2 b" }, 2 },
      { HEADER .. ("9"):rep(100000) .. "\n2 :b\n", { "2 b" }, 2 },
      { HEADER .. "1 " .. ("W1 "):rep(50000) .. ":a\n2 :b\n", { "2 b" }, 2 },
      { HEADER .. "1 " .. ("X "):rep(33) .. ":a\n2 :b\n", { "2 b" }, 2 },
      { HEADER .. ("\0"):rep(9000), {}, 2 },
   }

   for _, case in ipairs(cases) do
      it(("says what it says: %q"):format(case[1]:sub(1, 80)), function()
         local list = assert(lists.dovecot(case[1]))
         assert.same(case[2], shown(list))
         assert.equal(case[3], list.first_bad)
         for _, size in ipairs { 1, 7, 4096 } do
            local cut = assert(lists.dovecot(in_pieces(case[1], size)))
            assert.same(case[2], shown(cut))
            assert.equal(case[3], cut.first_bad)
         end
      end)
   end

   local no_lists = {
      { "", "it is empty" },
      { "3 V17 N9", "its first line has no end" },
      { "\n", "no list of version 1 or 3" },
      { "2 17 9\n", "no list of version 1 or 3" },
      { "4 V17 N9\n", "no list of version 1 or 3" },
      { "3\n", "no list of version 1 or 3" },
      { "3 \n", "its header is broken" },
      { "3 V17\n", "its header is broken" },
      { "3 N9\n", "its header is broken" },
      { "3 V0 N9\n", "its header is broken" },
      { "3 V4294967296 N9\n", "its header is broken" },
      { "3 Vx N9\n", "its header is broken" },
      { "1 17\n", "its header is broken" },
      { "1 a 9\n", "its header is broken" },
      { ("3 "):rep(5000) .. "\n", "no list of version 1 or 3" },
      { ("3"):rep(100000), "no list of version 1 or 3" },
   }

   for _, case in ipairs(no_lists) do
      it(("is none: %q"):format(case[1]:sub(1, 40)), function()
         local list, why = lists.dovecot(case[1])
         assert.is_nil(list)
         assert.equal(case[2], why)
         assert.same({ nil, why }, { lists.dovecot(in_pieces(case[1], 100)) })
      end)
   end
end)

describe("a courierpop3dsizelist", function()
   local cases = {
      { "/3 9 1795741633\n", {} },
      { "/3 9 17\na:2,S 17 1:1795741633:0\nb 20 2:17:1\n", { "UID1-1795741633 a", "UID2-17 b" } },
      { "/2 9 17\na:2, 17 1:1795741633\n", { "UID1-1795741633 a" } },
      { "/2 9 17\na 17 7:0\nb 17 0:0\nc 17 007:00\n", { "UID7 a", "b b", "UID7 c" } },
      { "/1 9\na 17 7\n", { "UID7 a" } },
      { "a:2,S 17\nb 18\n", { "a a", "b b" } },
      { "/3 9 17\na b 17 1:17:0\n", { "UID1-17 a b" } },
      { "/3 9 17\na'\"+\127\255 b 17 0:17:0\n", { "a+27+22+2B+7F+FF+20b a'\"+\127\255 b" } },
      { "/3 9 17\na 17 1:17:0\na:2,S 17 2:17:0\n", { "UID2-17 a" } },
      -- broken lines: the others count
      { "/3 9 17\na 17 1:17\nb 17 2:17:0\n", { "UID2-17 b" }, 2 },
      { "/2 9 17\na 17 1:17:0\nb 17 2:17\n", { "UID2-17 b" }, 2 },
      { "/3 9 17\n 17 1:17:0\na 1:17:0\n\nb x 2:17:0\n", {}, 2 },
      { "/3 9 17\na/b 17 1:17:0\n", { "UID1-17 a" } },
      { "/3 9 17\na 17 1:17:0", {}, 2 },
      { "/3 9 17\na 17 -1:17:0\n", {}, 2 },
      { "/3 9 17\na 17 99999999999999999999:17:0\n", {}, 2 },
      { "/3 9 17\na" .. (" 1"):rep(5000) .. "\n", {}, 2 },
      { "a 17\nb\nc 17\n", { "a a", "c c" }, 2 },
   }

   for _, case in ipairs(cases) do
      it(("says what it says: %q"):format(case[1]:sub(1, 80)), function()
         local list = assert(lists.courier(case[1]))
         assert.same(case[2], shown(list))
         assert.equal(case[3], list.first_bad)
         assert.same(case[2], shown(assert(lists.courier(in_pieces(case[1], 3)))))
      end)
   end

   for _, text in ipairs {
      "", "\n", "/4 9 17\n", "/3 9\n", "/3 x y\n", "/\n", "/1\n", "a\n", "/3 9 17", ("/3 "):rep(5000),
   } do
      it(("is none: %q"):format(text:sub(1, 40)), function()
         assert.is_nil((lists.courier(text)))
      end)
   end
end)

-- Whatever is done to a list, reading it neither fails nor makes anything up.
for kind, parse in pairs { dovecot = lists.dovecot, courier = lists.courier } do
   describe("a list that is damaged (" .. kind .. ")", function()
      local lines = { kind == "dovecot" and HEADER or "/3 99 17\n" }
      for i = 1, 40 do
         local name = ("17%08d.M%dP1.host:2,S"):format(i, i)
         lines[i + 1] = kind == "courier" and ("%s 17 %d:17:0\n"):format(name, i)
            or ("%d %s:%s\n"):format(i, i % 3 == 0 and "PUID3-7 " or "", name)
      end
      local text = table.concat(lines)
      local whole = shown(assert(parse(text)))

      it("says what it said before the place where it is cut off", function()
         for n = 0, #text do
            local list = parse(text:sub(1, n))
            local before = select(2, text:sub(1, n):gsub("\n", ""))
            assert.same(table.move(whole, 1, math.max(before - 1, 0), 1, {}), list and shown(list) or {})
         end
      end)

      it("can be read with any octets in it", function()
         local state = 12345
         local function random(n)
            state = (state * 1103515245 + 12345) & 0x7fffffff
            return (state >> 8) % n
         end
         for _ = 1, 2000 do
            local damaged = text
            for _ = 1, random(4) + 1 do
               local at = random(#text) + 1
               local octets = string.char(random(256)):rep(random(3))
               damaged = damaged:sub(1, at - 1) .. octets .. damaged:sub(at + random(3))
            end
            local list = parse(damaged)
            for _, line in ipairs(list and shown(list) or {}) do
               assert.is_nil(line:find("/"))
            end
         end
      end)
   end)
end

describe("a map of many strings", function()
   it("has what was set last, by keys of any length", function()
      local m, plain = map.new(), {}
      for i = 1, 5000 do
         local key = ("x"):rep(i % 20 + 1) .. i % 900
         m:set(key, i)
         plain[key] = i
      end
      m:set("x", "one")
      for key, value in pairs(plain) do
         assert.equal(value, m:get(key))
      end
      assert.equal("one", m:get("x"))
      assert.is_nil(m:get("y"))
   end)
end)
