-- A process that is killed at each system call of a deletion from an mbox file,
-- and one that is killed at each of what makes up for that.
local files = require("support.files")
local fs = require("popd.fs")
local mbox = require("popd.mbox")
local popd = require("popd")
local traced = require("support.traced")

local function message(i, octets)
   local line = ("%d "):format(i):rep(12):sub(1, 40) .. "\n"
   return ("From sender%d Thu Jan  1 00:00:%02d 1970\nSubject: %d\n\n%s\n"):format(i, i, i,
      line:rep(octets // #line + 1))
end

-- what is deleted of messages of which sizes
local cases = {
   { what = "the first of several", sizes = { 100, 3000, 50, 9000 }, ids = { 1 } },
   { what = "some in the middle", sizes = { 9000, 100, 3000, 50, 200 }, ids = { 2, 4 }, again = true },
   { what = "a large one before larger ones", sizes = { 100, 400000, 700000, 50 }, ids = { 2 } },
   { what = "the last", sizes = { 100, 3000, 50 }, ids = { 3 } },
   { what = "all", sizes = { 100, 3000, 50 }, ids = { 1, 2, 3 } },
}

local NEW = message(99, 60)

-- What programs open that mark where they begin and end.
local BETWEEN = { from = "/popd%-begin", to = "/popd%-end" }

describe("SIGKILL at each system call of a deletion from an mbox file:", function()
   if not traced.works() then
      pending("strace cannot be used here")
      return
   end

   local dir, box, script, recovery

   -- One directory with the mailbox, and what belongs to it.
   local function fill(texts)
      files.run("rm -rf %s && mkdir %s", box, box)
      files.put(box .. "/joe", table.concat(texts))
   end

   local function copy_to(other)
      files.run("rm -rf %s && cp -pr %s %s", other, box, other)
   end

   local function copy_from(other)
      files.run("rm -rf %s && cp -pr %s %s", box, other, box)
   end

   -- The mailbox and what lies beside it, without what is of a lock.
   local function everything()
      local parts = {}
      local names = assert(fs.scandir(box))
      table.sort(names)
      for _, name in ipairs(names) do
         if not name:find("%.lock") then
            parts[#parts + 1] = files.text(box .. "/" .. name)
         end
      end
      return table.concat(parts, "\0")
   end

   -- The mailbox after a session that does nothing, which must work at once.
   local function after_session()
      local storage = mbox.new { root = box .. "/%s" }
      local ok, why = storage.lock("joe")
      assert(ok, why or "the lock is still taken")
      storage.unlock("joe")
      return files.text(box .. "/joe")
   end

   local function remove_ids(texts, ids)
      local marked, kept = {}, {}
      for _, id in ipairs(ids) do
         marked[id] = true
      end
      for i, text in ipairs(texts) do
         if not marked[i] then
            kept[#kept + 1] = text
         end
      end
      return kept
   end

   -- What is wrong after a kill; nil: nothing.
   local function fault(before, kept, came)
      local there = everything()
      for _, text in ipairs(kept) do
         if not there:find(text, 1, true) then
            return "a message is lost: " .. text:sub(1, 60)
         end
      end
      if came then
         files.put(box .. "/joe", files.text(box .. "/joe") .. came)
      end
      local after = after_session()
      if after ~= before .. (came or "") and after ~= table.concat(kept) .. (came or "") then
         return ("the next session finds %d octets that are neither the old ones nor what is to stay"):format(#after)
      end
      for _, name in ipairs((fs.scandir(box))) do
         if name:find("popd") then
            return "it leaves " .. name
         end
      end
      return nil
   end

   lazy_setup(function()
      popd.log_to(function() end)
      dir = files.new_dir()
      box = dir .. "/box"
      recovery = files.lua(files.put(dir .. "/recovery.lua", ([[
         require("popd").log_to(function() end)
         local storage = require("popd.mbox").new { root = %q }
         io.open("/popd-begin")
         assert(storage.lock("joe"))
         storage.unlock("joe")
         io.open("/popd-end")
      ]]):format(box .. "/%s")))
   end)

   lazy_teardown(function()
      popd.log_to(nil)
      files.remove(dir)
   end)

   for _, case in ipairs(cases) do
      describe(case.what, function()
         local texts, kept, before, calls
         local states = {} -- half-done mailboxes: directories, by content

         -- Kills at each call; look says what is wrong after it.
         local function kill_at_each(start, list, program, look)
            local faults, killed = {}, 0
            for _, call in ipairs(list) do
               start()
               if traced.kill(call, program) then
                  killed = killed + 1
               end
               local wrong = look()
               if wrong then
                  faults[#faults + 1] = ("%s %d: %s"):format(call.name, call.nth, wrong)
               end
            end
            assert.same({}, faults)
            return killed
         end

         lazy_setup(function()
            texts = {}
            for i, size in ipairs(case.sizes) do
               texts[i] = message(i, size)
            end
            kept, before = remove_ids(texts, case.ids), table.concat(texts)
            script = files.lua(files.put(dir .. "/deletion.lua", ([[
               local storage = require("popd.mbox").new { root = %q }
               assert(storage.lock("joe"))
               io.open("/popd-begin")
               assert(storage.dele("joe", { %s }))
               storage.unlock("joe")
               io.open("/popd-end")
            ]]):format(box .. "/%s", table.concat(case.ids, ", "))))
            fill(texts)
            calls = traced.calls(script, BETWEEN)
            assert.equal(table.concat(kept), files.text(box .. "/joe"))
         end)

         it("loses nothing, and the next session ends what was begun", function()
            local killed = kill_at_each(function()
               fill(texts)
            end, calls, script, function()
               local state = fs.sha256(everything())
               if not states[state] then
                  states[state] = ("%s/state-%s"):format(dir, state)
                  copy_to(states[state])
               end
               return fault(before, kept)
            end)
            print(("\n%s: %d system calls, %d kills"):format(case.what, #calls, killed))
            assert.is_true(killed >= #calls - 1 and killed >= 10)
         end)

         it("keeps what is delivered before the next session", function()
            for _, state in pairs(states) do
               copy_from(state)
               assert.is_nil(fault(before, kept, NEW))
            end
         end)

         it("loses nothing if that session is killed too, with mail that came or without", function()
            for _, state in pairs(case.again and states or {}) do
               for _, came in ipairs { "", NEW } do
                  local function start()
                     copy_from(state)
                     files.put(box .. "/joe", files.text(box .. "/joe") .. came)
                  end
                  start()
                  if fs.stat(box .. "/.joe.popd-journal") then
                     local list, with = traced.calls(recovery, BETWEEN), { table.unpack(kept) }
                     with[#with + 1] = came ~= "" and came or nil
                     kill_at_each(start, list, recovery, function()
                        return fault(before .. came, with)
                     end)
                  end
               end
            end
         end)
      end)
   end
end)
