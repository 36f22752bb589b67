local fs = require("popd.fs")
local memory = require("popd.memory")

describe("popd.memory", function()
   local function uids_of(storage, name)
      assert.is_true(storage.lock(name))
      local _, uids = storage.scan(name)
      storage.unlock(name)
      return uids
   end

   it("serves the messages of a maildrop", function()
      local storage = memory.new({ ann = { "Subject: hi\r\n\r\nhello\r\n", "a\nb" } })
      assert.is_true(storage.lock("ann"))
      assert.equal(2, storage.stat("ann"))
      assert.equal("a\nb", storage.get("ann", 2))
      storage.unlock("ann")
   end)

   it("tells sizes as sent", function()
      local storage = memory.new({ ann = { "a\nb", "", "c\r\n" } })
      storage.lock("ann")
      assert.equal(6, storage.size("ann", 1))
      assert.equal(0, storage.size("ann", 2))
      assert.equal(3, storage.size("ann", 3))
      assert.equal(9, storage.size("ann"))
      assert.same({ 6, 0, 3 }, (storage.scan("ann")))
   end)

   it("has an empty maildrop for a name that it does not know", function()
      local storage = memory.new({})
      assert.is_true(storage.lock("ann"))
      assert.equal(0, storage.stat("ann"))
      assert.equal(0, storage.size("ann"))
      assert.is_true(storage.dele("ann", {}))
   end)

   it("lets one session in", function()
      local storage = memory.new({ ann = {} })
      assert.is_true(storage.lock("ann"))
      assert.is_false(storage.lock("ann"))
      assert.is_true(storage.lock("joe"))
      storage.unlock("ann")
      assert.is_true(storage.lock("ann"))
   end)

   it("shows what is appended in the next session only", function()
      local maildrops = { ann = { "one" } }
      local storage = memory.new(maildrops)
      storage.lock("ann")
      table.insert(maildrops.ann, "two")
      assert.equal(1, storage.stat("ann"))
      storage.unlock("ann")
      storage.lock("ann")
      assert.equal(2, storage.stat("ann"))
      maildrops.joe = { "for joe" }
      storage.lock("joe")
      assert.equal("for joe", storage.get("joe", 1))
   end)

   it("deletes exactly what is asked for", function()
      local maildrops = { ann = { "one", "two", "three", "two" } }
      local storage = memory.new(maildrops)
      storage.lock("ann")
      assert.is_true(storage.dele("ann", { 1, 4 }))
      assert.same({ "two", "three" }, maildrops.ann)
   end)

   it("deletes the right ones although the list has changed meanwhile", function()
      local maildrops = { ann = { "one", "two", "three" } }
      local storage = memory.new(maildrops)
      storage.lock("ann")
      table.remove(maildrops.ann, 1)
      table.insert(maildrops.ann, 1, "new")
      table.insert(maildrops.ann, 1, "newer")
      assert.is_true(storage.dele("ann", { 1, 2 }))
      assert.same({ "newer", "new", "three" }, maildrops.ann)
   end)

   it("keeps numbers until unlock, also behind dele", function()
      local storage = memory.new({ ann = { "one", "two", "three" } })
      storage.lock("ann")
      storage.dele("ann", { 1 })
      assert.equal("two", storage.get("ann", 2))
      assert.equal(3, storage.stat("ann"))
   end)

   it("can be read only", function()
      assert.is_nil(memory.new({}, { dele = false }).dele)
   end)

   describe("unique-ids", function()
      it("are 1 to 70 octets that can be seen", function()
         local path = os.tmpname()
         for _, uid in ipairs(uids_of(memory.new({ ann = { "", ("x"):rep(1000), { path = path } } }), "ann")) do
            assert.matches("^[!-~]+$", uid)
            assert.is_true(#uid <= 70)
         end
         os.remove(path)
      end)

      it("differ between identical messages and are stable over sessions", function()
         local storage = memory.new({ ann = { "same", "same", "other" } })
         local uids = uids_of(storage, "ann")
         assert.not_equal(uids[1], uids[2])
         assert.same(uids, uids_of(storage, "ann"))
         storage.lock("ann")
         assert.equal(uids[2], storage.uidl("ann", 2))
      end)

      it("stay with their messages when others go", function()
         local maildrops = { ann = { "one", "two", "three" } }
         local storage = memory.new(maildrops)
         local before = uids_of(storage, "ann")
         table.remove(maildrops.ann, 1)
         table.insert(maildrops.ann, 2, "between")
         local after = uids_of(storage, "ann")
         assert.equal(before[2], after[1])
         assert.equal(before[3], after[3])
      end)

      it("stay with identical messages when a session deletes the first", function()
         local storage = memory.new({ ann = { "same", "same" } })
         local before = uids_of(storage, "ann")
         storage.lock("ann")
         storage.dele("ann", { 1 })
         storage.unlock("ann")
         assert.same({ before[2] }, uids_of(storage, "ann"))
      end)

      it("do not come back with an identical message", function()
         local maildrops = { ann = { "same" } }
         local storage = memory.new(maildrops)
         local before = uids_of(storage, "ann")
         storage.lock("ann")
         storage.dele("ann", { 1 })
         storage.unlock("ann")
         table.insert(maildrops.ann, "same")
         assert.not_equal(before[1], uids_of(storage, "ann")[1])
      end)

      it("are the same in a process that starts with the same messages", function()
         local list = { "one", "two", "one" }
         assert.same(uids_of(memory.new({ ann = list }), "ann"), uids_of(memory.new({ ann = list }), "ann"))
         assert.equal(fs.sha256("one"):sub(1, 40) .. ".1", uids_of(memory.new({ ann = list }), "ann")[1])
      end)
   end)

   it("raises a caller's mistake at the caller's line", function()
      local cases = {
         { "a table of maildrops expected", nil },
         { "unknown option 'del'; there is: dele", {}, { del = false } },
         { "option 'dele' takes a boolean", {}, { dele = 1 } },
      }
      for _, case in ipairs(cases) do
         local ok, why = pcall(function()
            memory.new(case[2], case[3])
         end)
         assert.is_false(ok)
         assert.matches("memory_spec.lua:%d+: memory.new: " .. case[1], why)
      end
   end)

   it("raises for a maildrop that is not locked and for a message that is not there", function()
      local storage = memory.new({ ann = { "one" } })
      for _, name in ipairs({ "stat", "size", "scan" }) do
         assert.error_matches(function()
            storage[name]("ann")
         end, "maildrop 'ann' is not locked")
      end
      storage.lock("ann")
      for _, name in ipairs({ "get", "uidl", "size" }) do
         assert.error_matches(function()
            storage[name]("ann", 2)
         end, "no message 2")
      end
      assert.error_matches(function()
         storage.dele("ann", { 1, 2 })
      end, "no message 2")
      assert.equal("one", storage.get("ann", 1))
   end)
end)
