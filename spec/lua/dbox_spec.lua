local files = require("spec.support.files")
local dbox = require("popd.dbox")
local fs = require("popd.fs")

describe("popd.dbox", function()
   local base, box

   before_each(function()
      base = files.new_dir()
      box = dbox.new({ base = base })
      assert(box.add("joe"))
   end)

   after_each(function()
      files.remove(base)
   end)

   local function path(name)
      return base .. "/" .. name
   end

   local function put(name, text)
      return files.put(path("joe/" .. name), text or name)
   end

   local function lock()
      assert.is_true(box.lock("joe"))
   end

   local function relock()
      box.unlock("joe")
      lock()
   end

   local function texts()
      local found = {}
      for id = 1, box.stat("joe") do
         found[id] = files.text(box.get("joe", id).path)
      end
      return found
   end

   local function refuses(reason, ok, why)
      assert.is_nil(ok)
      assert.equal(reason, why)
   end

   local function hold()
      return files.other_process(([[
         box = require("popd.dbox").new { base = %q }
         say(box.lock("joe"))
      ]]):format(base))
   end

   describe("maildrops", function()
      it("are added, listed, moved and removed", function()
         assert.is_true(box.add("ann"))
         assert.equal(tonumber("700", 8), fs.stat(path("ann")).mode)
         assert.same({ "ann", "joe" }, box.list())
         assert.is_true(box.exists("ann"))
         put("1")
         assert.is_true(box.move("joe", "jim"))
         assert.same({ "ann", "jim" }, box.list())
         assert.equal("1", files.text(path("jim/1")))
         files.run("mkdir -p %s; touch %s", path("jim/a/b"), path("jim/a/.c"))
         files.run("ln -s %s %s", path("ann"), path("jim/link"))
         assert.is_true(box.remove("jim"))
         assert.same({ "ann" }, box.list())
         assert.is_nil(fs.stat(path("jim")))
         assert.is_true(box.exists("ann"))
      end)

      it("are refused by a reason", function()
         refuses("there is a maildrop 'joe' already", box.add("joe"))
         refuses("no maildrop 'ann'", box.remove("ann"))
         refuses("no maildrop 'ann'", box.move("ann", "eve"))
         refuses("no maildrop 'ann'", box.lock("ann"))
         assert.is_false(box.exists("ann"))
         assert.is_false(box.locked("ann"))
      end)

      it("are directories, and links to some are not", function()
         files.put(path("file"), "")
         files.run("ln -s joe %s; mkdir %s", path("link"), path(".hidden"))
         assert.same({ "joe" }, box.list())
         assert.is_false(box.exists("file"))
         refuses("no maildrop 'link'", box.lock("link"))
         refuses("no maildrop 'file'", box.remove("file"))
      end)

      it("are never overwritten by moving", function()
         box.add("ann")
         refuses("there is a maildrop 'ann' already", box.move("joe", "ann"))
         refuses("there is a maildrop 'joe' already", box.move("joe", "joe"))
         files.put(path("file"), "text")
         refuses("there is a maildrop 'file' already", box.move("joe", "file"))
         assert.equal("text", files.text(path("file")))
         assert.same({ "ann", "joe" }, box.list())
      end)

      it("cannot be outside the base", function()
         for _, name in ipairs({ "", ".", "..", "../x", "x/y", "/x", ".x", "x\0y", "x\n", "joe/../joe", "joe/" }) do
            local reason = ("%q is no name for a maildrop"):format(name)
            refuses(reason, box.add(name))
            refuses(reason, box.remove(name))
            refuses(reason, box.move(name, "ann"))
            refuses(reason, box.move("joe", name))
            refuses(reason, box.lock(name))
            assert.is_false(box.exists(name))
            assert.is_false(box.locked(name))
         end
         refuses("a maildrop's name is a string, not a nil", box.add())
         assert.same({ "joe" }, box.list())
      end)

      it("are not removed or moved while they are locked", function()
         lock()
         refuses("maildrop 'joe' is locked", box.remove("joe"))
         refuses("maildrop 'joe' is locked", box.move("joe", "ann"))
         box.unlock("joe")
         local other = hold()
         assert.equal("true", other.said)
         refuses("maildrop 'joe' is locked", box.remove("joe"))
         refuses("maildrop 'joe' is locked", box.move("joe", "ann"))
         other.stop()
         assert.same({ "joe" }, box.list())
         assert.is_true(box.move("joe", "ann"))
         assert.is_true(box.remove("ann"))
      end)
   end)

   describe("base", function()
      it("must be a directory", function()
         files.put(path("file"), "")
         local empty = dbox.new()
         refuses(("scandir %s: No such file or directory"):format(path("no")), empty.base(path("no")))
         refuses(("scandir %s: Not a directory"):format(path("file")), dbox.new({ base = path("file") }))
         assert.is_nil(empty.base())
         assert.is_true(empty.base(base))
         assert.equal(base, empty.base())
         assert.same({ "joe" }, empty.list())
      end)

      it("must be set first, and stays while a maildrop is locked", function()
         local empty = dbox.new()
         for _, name in ipairs({ "add", "remove", "move", "list", "exists", "locked", "lock" }) do
            local ok, why = pcall(function()
               empty[name]("joe", "ann")
            end)
            assert.is_false(ok)
            assert.matches("dbox_spec.lua:%d+: no base directory", why)
         end
         lock()
         assert.error_matches(function()
            box.base(base)
         end, "cannot change while a maildrop is locked")
      end)
   end)

   describe("lock", function()
      it("keeps out other sessions, back ends and processes", function()
         lock()
         assert.is_true(box.locked("joe"))
         assert.is_false(box.lock("joe"))
         local second = dbox.new({ base = base .. "/." })
         assert.is_false(second.lock("joe"))
         assert.is_true(second.locked("joe"))
         second.unlock("joe")
         local other = hold()
         assert.equal("false", other.said)
         other.stop()
         box.unlock("joe")
         box.unlock("joe")
         assert.is_false(box.locked("joe"))
         assert.is_true(second.lock("joe"))
         second.unlock("joe")
      end)

      it("is given back when listing the messages raises", function()
         local scandir = fs.scandir
         fs.scandir = function()
            error("deadline")
         end
         local ok, why = pcall(box.lock, "joe")
         fs.scandir = scandir
         assert.is_false(ok)
         assert.matches("deadline", why)
         lock()
         box.unlock("joe")
      end)

      it("dies with its holder", function()
         local other = hold()
         assert.is_true(box.locked("joe"))
         assert.is_false(box.lock("joe"))
         other.kill()
         assert.is_false(box.locked("joe"))
         lock()
      end)
   end)

   describe("messages", function()
      it("are files by number, then by name", function()
         for _, name in ipairs({ "10", "2", "1", "b", "a", "007", "7", "99999999999999999999", "3x", "A" }) do
            put(name)
         end
         lock()
         assert.same({ "1", "2", "007", "7", "10", "99999999999999999999", "3x", "A", "a", "b" }, texts())
      end)

      it("are regular files that no dot hides", function()
         put("1")
         put(".hidden")
         files.run("mkdir %s; ln -s 1 %s; mkfifo %s", path("joe/2"), path("joe/3"), path("joe/4"))
         lock()
         assert.same({ "1" }, texts())
      end)

      it("do not shift when others come", function()
         put("2")
         lock()
         put("1")
         put("3")
         assert.same({ "2" }, texts())
         assert.equal(1, #box.scan("joe"))
         relock()
         assert.same({ "1", "2", "3" }, texts())
      end)

      it("that are gone are nil, have no octets, and keep their ids", function()
         put("1")
         put("2")
         lock()
         local uid = box.uidl("joe", 1)
         os.remove(path("joe/1"))
         assert.is_nil(box.get("joe", 1))
         assert.equal(0, box.size("joe", 1))
         assert.equal(3, box.size("joe"))
         assert.equal(uid, box.uidl("joe", 1))
         assert.equal(path("joe/2"), box.get("joe", 2).path)
      end)

      it("that were replaced are neither served nor deleted", function()
         put("1", "old")
         put("2", "old")
         lock()
         os.remove(path("joe/1"))
         put("1", "another")
         put("2", "changed")
         assert.is_nil(box.get("joe", 1))
         assert.is_nil(box.get("joe", 2))
         local ok, why, left = box.dele("joe", { 1, 2 })
         refuses(path("joe/1") .. ": the file has changed since it was listed", ok, why)
         assert.same({ 1, 2 }, left)
         assert.equal("another", files.text(path("joe/1")))
         assert.equal("changed", files.text(path("joe/2")))
      end)

      it("have the size that is sent, counted once a session", function()
         put("1", "a\nb")
         put("2", "a\r\n")
         put("3", "")
         lock()
         assert.same({ false, false, false }, (box.scan("joe")))
         assert.equal(9, box.size("joe"))
         assert.equal(6, box.size("joe", 1))
         assert.same({ 6, 3, 0 }, (box.scan("joe")))
         put("2", "a\nb\n")
         assert.equal(3, box.size("joe", 2))
      end)
   end)

   describe("unique-ids", function()
      local function uids()
         relock()
         local _, found = box.scan("joe")
         return found
      end

      it("are 1 to 70 octets that can be seen, in scan and uidl", function()
         put("1")
         put(("x"):rep(200))
         put("with blanks \xc3\xa4")
         for id, uid in ipairs(uids()) do
            assert.matches("^[!-~]+$", uid)
            assert.is_true(#uid <= 70)
            assert.equal(uid, box.uidl("joe", id))
         end
      end)

      it("are stable over sessions, in other processes and when the maildrop moves", function()
         put("1")
         put("2")
         local before = uids()
         local other = files.other_process(([[
            box = require("popd.dbox").new { base = %q }
            box.add("ann")
            say(box.lock("ann"))
         ]]):format(base))
         other.stop()
         assert.same(before, uids())
         box.unlock("joe")
         box.move("joe", "jim")
         box.lock("jim")
         assert.same(before, (select(2, box.scan("jim"))))
         box.unlock("jim")
         box.move("jim", "joe")
         other = files.other_process(([[
            box = require("popd.dbox").new { base = %q }
            box.lock("joe")
            say(box.uidl("joe", 2))
         ]]):format(base))
         other.stop()
         assert.equal(before[2], other.said)
      end)

      it("differ between identical messages", function()
         put("1", "same")
         put("2", "same")
         local found = uids()
         assert.not_equal(found[1], found[2])
      end)

      it("never come back with a new message of the same name", function()
         put("1", "first")
         local seen = uids()
         assert.is_true(box.dele("joe", { 1 }))
         for i = 1, 20 do
            put("1", ("x"):rep(i))
            local uid = uids()[1]
            for _, old in ipairs(seen) do
               assert.not_equal(old, uid)
            end
            seen[#seen + 1] = uid
            assert.is_true(box.dele("joe", { 1 }))
         end
      end)

      it("never come back even with the same text at once, where the file system can tell", function()
         put("1", "same")
         if not fs.generation(path("joe/1")) then
            return pending("the file system tells no generation")
         end
         local before = uids()[1]
         assert.is_true(box.dele("joe", { 1 }))
         put("1", "same")
         assert.not_equal(before, uids()[1])
      end)
   end)

   describe("dele", function()
      it("deletes exactly what is asked for", function()
         for i = 1, 5 do
            put(tostring(i))
         end
         lock()
         assert.is_true(box.dele("joe", { 2, 4 }))
         relock()
         assert.same({ "1", "3", "5" }, texts())
      end)

      it("counts what is gone as deleted", function()
         put("1")
         put("2")
         lock()
         os.remove(path("joe/1"))
         assert.is_true(box.dele("joe", { 1, 2 }))
         relock()
         assert.equal(0, box.stat("joe"))
      end)

      it("tells what it could not delete", function()
         put("1")
         put("2")
         local drop = files.unprivileged()
         if not drop then
            return pending("modes bind nobody here")
         end
         local script, result = path("script"), files.put(path("result"), "")
         files.put(path(".popd-lock"), "")
         files.put(script, ([[
            local box = require("popd.dbox").new { base = %q }
            assert(box.lock("joe"))
            local ok, why, left = box.dele("joe", { 1, 2 })
            io.open(%q, "w"):write(tostring(ok), "|", why, "|", table.concat(left, ",")):close()
         ]]):format(base, result))
         files.run("chmod 755 %s; chmod 666 %s %s; chmod 555 %s", base, result, path(".popd-lock"), path("joe"))
         assert(os.execute(drop .. files.lua(script)))
         assert.equal(("nil|unlink %s: Permission denied|1,2"):format(path("joe/1")), files.text(result))
         assert.is_true(files.exists(path("joe/1")))
      end)

      it("deletes nothing at all for an id that is none", function()
         put("1")
         lock()
         assert.error_matches(function()
            box.dele("joe", { 1, 2 })
         end, "no message 2")
         assert.is_true(files.exists(path("joe/1")))
      end)
   end)

   it("raises a caller's mistake at the caller's line", function()
      local cases = {
         { "a table of options expected", "x" },
         { "unknown option 'dir'; there is: base", { dir = "x" } },
         { "option 'base' takes a string", { base = 1 } },
      }
      for _, case in ipairs(cases) do
         local ok, why = pcall(function()
            dbox.new(case[2])
         end)
         assert.is_false(ok)
         assert.matches("dbox_spec.lua:%d+: dbox.new: " .. case[1], why)
      end
   end)

   it("raises for a maildrop that is not locked and for a message that is not there", function()
      put("1")
      for _, name in ipairs({ "stat", "size", "scan", "get", "uidl", "dele" }) do
         assert.error_matches(function()
            box[name]("joe", 1)
         end, "maildrop 'joe' is not locked")
      end
      lock()
      for _, name in ipairs({ "get", "uidl", "size" }) do
         for _, id in ipairs({ 0, 2, "1" }) do
            assert.error_matches(function()
               box[name]("joe", id)
            end, "no message " .. id)
         end
      end
   end)
end)
