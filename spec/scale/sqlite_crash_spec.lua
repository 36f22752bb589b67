-- A process that is killed at each system call of a deletion from an SQLite file.
local files = require("support.files")
local traced = require("support.traced")

local has_driver = pcall(require, "luasql.sqlite3")

local PIECE = 256 * 1024
local MESSAGES = { ("small\n"):rep(10), ("large\n"):rep(60000), "third\n", ("fourth\n"):rep(20000), "last\n" }
local MARKED = { [2] = true, [3] = true }

describe("SIGKILL at each system call of a deletion from an SQLite file", function()
   it("loses nothing that was not marked, deletes all or none, and leaves the file sound", function()
      if not has_driver or not traced.works() then
         return pending(has_driver and "strace cannot be used here" or "LuaSQL's sqlite3 driver is not installed")
      end
      local store, driver = require("popd.sqlite_store"), require("luasql.sqlite3").sqlite3()
      local dir = files.new_dir()
      finally(function()
         files.remove(dir)
      end)
      local template, file = dir .. "/template", dir .. "/mail.db"
      store.add("joe", template, "{PLAIN}secret")
      for _, text in ipairs(MESSAGES) do
         local pieces = {}
         for at = 1, #text, PIECE do
            pieces[#pieces + 1] = text:sub(at, at + PIECE - 1)
         end
         store.put("joe", template, { { pieces = pieces } })
      end
      local script = files.put(dir .. "/script.lua", ([[
         local store, file = require("popd.sqlite_store"), %q
         assert(store.lock("joe", file, "me", 60))
         local _, _, numbers = store.scan("joe", file, 0, 100)
         io.open("/popd-begin")
         -- Longer than before: SQLite writes a row only if it changes, and it would
         -- or not as the clock's second does.
         assert(store.dele("joe", file, "me", 120, { numbers[2], numbers[3] }))
         store.unlock("joe", file, "me")
      ]]):format(file))

      local function copy(from, to)
         files.run("rm -f %s*; cp %s %s; [ ! -e %s-wal ] || cp %s-wal %s-wal", to, from, to, from, from, to)
      end

      local function check_sound(look, what)
         local connection = assert(driver:connect(look))
         local cursor = assert(connection:execute("PRAGMA integrity_check"))
         assert.equal("ok", cursor:fetch(), what)
         cursor:close()
         cursor = assert(connection:execute(
            "SELECT count(*) FROM pieces WHERE (id >> 20) NOT IN (SELECT number FROM mail)"))
         assert.equal(0, math.tointeger(cursor:fetch()), what)
         cursor:close()
         connection:close()
      end

      -- The messages that are left, whole, by their numbers.  The module keeps what it
      -- opened: each look has a module of its own, which is collected now and then.
      local function left(look, turn)
         package.loaded["popd.sqlite_store"] = nil
         if turn % 20 == 0 then
            collectgarbage()
         end
         local fresh = require("popd.sqlite_store")
         local _, _, numbers = fresh.scan("joe", look, 0, 100)
         local found = {}
         for _, number in ipairs(numbers) do
            local parts = { (fresh.first("joe", look, number)) }
            for n = 1, 3 do
               parts[#parts + 1] = fresh.piece("joe", look, number, n)
            end
            found[number] = table.concat(parts)
         end
         return found
      end

      copy(template, file)
      local line = files.lua(script)
      local all, some = 0, 0
      local calls = traced.calls(line, { from = "/popd%-begin", changing = true })
      for n, call in ipairs(calls) do
         local what = ("call %d of %d, %s %d"):format(n, #calls, call.name, call.nth)
         copy(template, file)
         assert.is_true(traced.kill(call, line), what)
         local look = ("%s/look%d."):format(dir, n)
         copy(file, look)
         check_sound(look, what)
         local found = left(look, n)
         for number, text in ipairs(MESSAGES) do
            local gone = MARKED[number] and found[2] == nil
            assert.equal(not gone and text or nil, found[number], what)
         end
         all, some = all + (found[2] and 1 or 0), some + (found[2] and 0 or 1)
      end
      print(("\n%d times nothing was deleted, %d times all that was marked"):format(all, some))
      assert.is_true(all > 5 and some > 5)
   end)
end)
