-- A process that is killed at each system call of a deletion from a dbox.
local files = require("support.files")
local traced = require("support.traced")

local MESSAGES = 6
local MARKED = { [2] = true, [3] = true, [6] = true }

describe("SIGKILL at each system call of a deletion from a dbox", function()
   it("loses nothing that was not marked, and leaves no lock", function()
      if not traced.works() then
         return pending("strace cannot be used here")
      end
      local dir = files.new_dir()
      finally(function()
         files.remove(dir)
      end)
      files.run("mkdir %s", dir .. "/box")
      local box = assert(require("popd.dbox").new { base = dir .. "/box" })

      local function text_of(i)
         return ("Subject: %d\n\ntext of %d\n"):format(i, i)
      end

      local function fill()
         files.run("rm -rf %s; mkdir %s", dir .. "/box", dir .. "/box")
         assert(box.add("joe"))
         for i = 1, MESSAGES do
            assert(box.deliver("joe", text_of(i)))
         end
      end

      -- What the next session has, each message whole, by its text.
      local function left(what)
         assert.is_true(box.lock("joe"), what)
         local found = {}
         for id = 1, box.stat("joe") do
            local text = files.text(box.get("joe", id).path)
            found[text] = true
         end
         box.unlock("joe")
         return found
      end

      local line = files.lua(files.put(dir .. "/script.lua", ([[
         local box = require("popd.dbox").new { base = %q }
         assert(box.lock("joe"))
         io.open("/popd-begin")
         assert(box.dele("joe", { 2, 3, 6 }))
         box.unlock("joe")
      ]]):format(dir .. "/box")))

      fill()
      local calls, some = traced.calls(line, { from = "/popd%-begin", changing = true }), 0
      for n, call in ipairs(calls) do
         local what = ("call %d of %d, %s %d"):format(n, #calls, call.name, call.nth)
         fill()
         assert.is_true(traced.kill(call, line), what)
         local found, gone = left(what), 0
         for i = 1, MESSAGES do
            assert.is_true(found[text_of(i)] or MARKED[i], what)
            gone = gone + (found[text_of(i)] and 0 or 1)
         end
         some = some + (gone > 0 and gone < 3 and 1 or 0)
      end
      print(("\n%d of %d kills came between the first deletion and the last"):format(some, #calls))
      assert.is_true(some > 0)
   end)
end)
