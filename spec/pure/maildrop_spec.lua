local maildrop = require("popd.testing").maildrop

--- A maildrop of messages of these sizes.
local function of(sizes, total)
   local m = maildrop.new(#sizes, total)
   for number, octets in ipairs(sizes) do
      m:set_octets(number, octets)
   end
   return m
end

local function kept(m)
   local count, octets = m:totals()
   return { count, octets }
end

describe("a maildrop", function()
   it("that is empty has no messages and no octets", function()
      local m = maildrop.new(0)
      assert.same({ 0, 0 }, kept(m))
      assert.is_false(m:has(0))
      assert.is_false(m:has(1))
      assert.equal(0, m:next_marked())
   end)

   it("has the messages from 1 to its count", function()
      local m = maildrop.new(3)
      for number, expected in pairs { [0] = false, true, true, true, false, [-1] = false } do
         assert.equal(expected, m:has(number))
      end
   end)

   it("does not know its octets until it knows every size", function()
      local m = maildrop.new(3)
      assert.same({ 3 }, kept(m))
      m:set_octets(3, 30)
      m:set_octets(1, 10)
      assert.same({ 3 }, kept(m))
      assert.is_nil(m:octets(2))
      assert.is_true(m:set_octets(2, 0))
      assert.same({ 3, 40 }, kept(m))
   end)

   it("believes the total it was told until it knows better", function()
      local m = maildrop.new(2, 100)
      assert.same({ 2, 100 }, kept(m))
      assert.is_true(m:set_octets(1, 60))
      assert.same({ 2, 100 }, kept(m))
      assert.is_false(m:set_octets(2, 50))
      assert.same({ 2, 110 }, kept(m))
   end)

   it("says nothing of a total that was right", function()
      local m = maildrop.new(2, 100)
      m:set_octets(1, 60)
      assert.is_true(m:set_octets(2, 40))
      assert.same({ 2, 100 }, kept(m))
   end)

   it("compares a total that was told with what is not marked", function()
      local m = maildrop.new(2, 100)
      m:set_octets(1, 60)
      m:mark(1)
      assert.same({ 1, 40 }, kept(m))
      assert.is_true(m:set_octets(2, 40))
      assert.same({ 1, 40 }, kept(m))
   end)

   it("does not count below zero where a told total was too small", function()
      local m = maildrop.new(2, 10)
      m:set_octets(1, 60)
      m:mark(1)
      assert.same({ 1 }, kept(m))
      m:unmark(1)
      assert.same({ 2 }, kept(m))
      m:set_octets(2, 40)
      assert.same({ 2, 100 }, kept(m))
   end)

   it("forgets its octets where a message of unknown size is marked", function()
      local m = maildrop.new(2, 100)
      m:mark(2)
      assert.same({ 1 }, kept(m))
      m:set_octets(1, 60)
      m:set_octets(2, 40)
      assert.same({ 1, 60 }, kept(m))
   end)

   it("takes a size that is put right", function()
      local m = of { 10, 20 }
      m:set_octets(1, 15)
      assert.same({ 2, 35 }, kept(m))
      m:mark(1)
      m:set_octets(1, 5)
      assert.same({ 1, 20 }, kept(m))
      m:reset()
      assert.same({ 2, 25 }, kept(m))
   end)

   it("ignores sizes of messages that there are not", function()
      local m = of { 10 }
      m:set_octets(0, 5)
      m:set_octets(2, 5)
      assert.same({ 1, 10 }, kept(m))
      assert.is_nil(m:octets(0))
      assert.is_nil(m:octets(2))
   end)

   it("keeps every number when messages are marked", function()
      local m = of { 10, 20, 30 }
      assert.is_true(m:mark(2))
      assert.same({ 2, 40 }, kept(m))
      assert.is_true(m:has(1))
      assert.is_false(m:has(2))
      assert.is_true(m:has(3))
      assert.equal(30, m:octets(3))
   end)

   it("marks and unmarks only once, and only what there is", function()
      local m = of { 10, 20 }
      assert.is_false(m:unmark(1))
      assert.is_true(m:mark(1))
      assert.is_false(m:mark(1))
      assert.is_false(m:mark(0))
      assert.is_false(m:mark(3))
      assert.is_false(m:mark(-1))
      assert.is_true(m:unmark(1))
      assert.is_false(m:unmark(3))
      assert.same({ 2, 30 }, kept(m))
   end)

   it("tells the marked in ascending order", function()
      local m = of { 1, 1, 1, 1, 1 }
      m:mark(5)
      m:mark(2)
      assert.equal(2, m:next_marked())
      assert.equal(5, m:next_marked(2))
      assert.equal(0, m:next_marked(5))
      m:reset()
      assert.equal(0, m:next_marked())
   end)

   it("keeps unique-ids apart, whatever their order", function()
      local m = maildrop.new(3)
      assert.is_true(m:set_uid(3, "1"))
      assert.is_true(m:set_uid(1, "11"))
      assert.is_nil(m:uid(2))
      assert.is_true(m:set_uid(2, ("~"):rep(70)))
      assert.same({ "11", ("~"):rep(70), "1" }, { m:uid(1), m:uid(2), m:uid(3) })
      assert.equal(3, (select(4, m:totals())))
   end)

   it("takes another unique-id for a message without counting it twice", function()
      local m = maildrop.new(1)
      m:set_uid(1, "a")
      m:set_uid(1, "bcd")
      assert.equal("bcd", m:uid(1))
      assert.equal(1, (select(4, m:totals())))
   end)

   for _, uid in ipairs { "", ("x"):rep(71), "a b", "a\0", "a\n", "a\127", "\195\188" } do
      it(("refuses the unique-id %q"):format(uid), function()
         local m = maildrop.new(1)
         assert.is_false(m:set_uid(1, uid))
         assert.is_nil(m:uid(1))
      end)
   end

   it("refuses unique-ids of messages that there are not", function()
      local m = maildrop.new(1)
      assert.is_false(m:set_uid(0, "a"))
      assert.is_false(m:set_uid(2, "a"))
   end)

   it("of more messages than can be numbered is refused", function()
      assert.is_nil(maildrop.new(1 << 40))
   end)

   it("counts as a naive reference does, whatever is done to it", function()
      math.randomseed(1725)
      for _ = 1, 100 do
         local count = math.random(0, 12)
         local m, sizes, marked = maildrop.new(count), {}, {}
         for _ = 1, 80 do
            local number, what = math.random(0, count + 1), math.random(6)
            local there = number >= 1 and number <= count
            if what <= 2 then
               local octets = math.random(0, 1000)
               m:set_octets(number, octets)
               sizes[number] = there and octets or nil
            elseif what <= 4 then
               assert.equal(there and not marked[number], m:mark(number))
               marked[number] = there or nil
            elseif what == 5 then
               assert.equal(marked[number] or false, m:unmark(number))
               marked[number] = nil
            elseif math.random(10) == 1 then
               m:reset()
               marked = {}
            end
            local left, sum = 0, 0
            for i = 1, count do
               left = left + (marked[i] and 0 or 1)
               sum = sum and sizes[i] and sum + (marked[i] and 0 or sizes[i])
            end
            assert.same({ left, sum or nil }, kept(m))
         end
      end
   end)
end)
