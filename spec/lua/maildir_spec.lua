local files = require("spec.support.files")
local fs = require("popd.fs")
local core = require("popd.core")
local maildir = require("popd.maildir")

describe("popd.maildir", function()
   local root, storage

   before_each(function()
      root = files.new_dir()
      storage = maildir.new({ root = root .. "/%s" })
      files.run("mkdir -p %s %s", root .. "/joe/new", root .. "/joe/cur")
   end)

   after_each(function()
      files.remove(root)
   end)

   local function path(name)
      return root .. "/joe/" .. name
   end

   local function put(name, text)
      return files.put(path(name), text or "a\n")
   end

   local function lock()
      assert.is_true(storage.lock("joe"))
   end

   local function relock()
      storage.unlock("joe")
      lock()
   end

   local function texts()
      local found = {}
      for id = 1, storage.stat("joe") do
         found[id] = files.text(storage.get("joe", id).path)
      end
      return found
   end

   local function uids()
      local _, found = storage.scan("joe")
      return found
   end

   local function sizes()
      local found = {}
      for id = 1, storage.stat("joe") do
         found[id] = storage.size("joe", id)
      end
      return found
   end

   -- Runs Lua text with a storage of the same root, as somebody whom file modes
   -- bind; says what it returns.  nil: there is no way.
   local function without_rights(text)
      local drop = files.unprivileged()
      if not drop then
         return nil
      end
      local result = files.put(root .. "/result", "")
      local script = files.put(root .. "/script.lua", ([[
         local storage = require("popd.maildir").new { root = %q }
         local got = table.pack((function() %s end)())
         for i = 1, got.n do
            got[i] = type(got[i]) == "table" and table.concat(got[i], ",") or tostring(got[i])
         end
         io.open(%q, "w"):write(table.concat(got, "|")):close()
      ]]):format(root .. "/%s", text, result))
      files.run("chmod 755 %s; touch %s; chmod 666 %s %s", root, root .. "/.popd-lock", root .. "/.popd-lock", result)
      assert(os.execute(drop .. files.lua(script)))
      return files.text(result)
   end

   describe("messages", function()
      it("are those of new and cur, by delivery time, then name", function()
         put("new/1000000003.b.host", "3")
         put("new/999999999.a.host", "1")
         put("cur/1000000003.a.host:2,S", "2")
         put("cur/10000000000.a.host:2,", "4")
         lock()
         assert.equal(4, storage.stat("joe"))
         assert.same({ "1", "2", "3", "4" }, texts())
      end)

      it("may have names that are no numbers, behind the others", function()
         put("new/name", "2")
         put("new/0005", "1")
         lock()
         assert.same({ "1", "2" }, texts())
      end)

      it("are regular files that no dot hides", function()
         put("new/1.a")
         put("new/.hidden")
         files.run("mkdir %s; ln -s 1.a %s; mkfifo %s", path("new/2.dir"), path("new/3.link"), path("cur/4.fifo"))
         files.run("mkdir %s; touch %s", path("tmp"), path("tmp/5.a"))
         lock()
         assert.equal(1, storage.stat("joe"))
      end)

      it("that have changed since their size was told are a fault of their own", function()
         put("new/1.a", "Subject: x\n\nbody\n")
         put("new/2.a", "other\n")
         lock()
         assert.equal(20, storage.size("joe", 1))
         put("new/1.a", "Subje")
         local handle, why = storage.get("joe", 1)
         assert.is_nil(handle)
         assert.truthy(why:find("has changed", 1, true))
         assert.same({ path = path("new/2.a"), follow = false }, storage.get("joe", 2))
      end)

      for what, replace in pairs {
         ["a symbolic link"] = "ln -sf /etc/passwd %s",
         ["a FIFO"] = "rm %s && mkfifo %s",
         ["a directory"] = "rm %s && mkdir %s",
      } do
         it("that were replaced by " .. what .. " have no octets, and the others are served", function()
            put("new/1.a", "one\n")
            put("new/2.a", "two\n")
            lock()
            files.run(replace, path("new/1.a"), path("new/1.a"))
            local told
            core.log_to(function(_, line) told = line end, "warning")
            finally(function() core.log_to(nil, "warning") end)
            assert.same({ 0, 5, 5 }, { storage.size("joe", 1), storage.size("joe", 2), storage.size("joe") })
            assert.truthy(told:find("cannot be read", 1, true))
         end)
      end

      it("are served from files", function()
         put("new/1.a", "text")
         lock()
         assert.same({ path = path("new/1.a"), follow = false }, storage.get("joe", 1))
         assert.is_true(files.exists(path("new/1.a")))
      end)

      it("do not shift when mail comes meanwhile", function()
         put("new/2.a", "2")
         lock()
         put("new/1.a", "1")
         put("new/3.a", "3")
         assert.same({ "2" }, texts())
         assert.equal(1, #storage.scan("joe"))
         relock()
         assert.same({ "1", "2", "3" }, texts())
      end)

      it("are found under new names", function()
         put("new/1.a", "1")
         put("cur/2.a:2,", "2")
         put("new/3.a", "3")
         lock()
         files.run("mv %s %s; mv %s %s", path("new/1.a"), path("cur/1.a:2,S"), path("cur/2.a:2,"), path("cur/2.a:2,RS"))
         assert.same({ "1", "2", "3" }, texts())
         files.run("mv %s %s", path("cur/1.a:2,S"), path("cur/1.a:2,ST"))
         assert.equal(path("cur/1.a:2,ST"), storage.get("joe", 1).path)
      end)

      it("that are gone are nil, and the others stay", function()
         put("new/1.a", "1")
         put("new/2.a", "2")
         lock()
         os.remove(path("new/1.a"))
         assert.equal(0, select("#", storage.get("joe", 1)) - 1)
         assert.is_nil(storage.get("joe", 1))
         assert.equal(path("new/2.a"), storage.get("joe", 2).path)
         assert.equal(2, storage.stat("joe"))
      end)

      it("that are gone before they were counted have no octets", function()
         put("new/1.a")
         put("new/2.a")
         lock()
         os.remove(path("new/1.a"))
         assert.same({ 0, 3 }, sizes())
         assert.equal(3, storage.size("joe"))
      end)
   end)

   describe("sizes", function()
      -- name                    text            as sent
      local cases = {
         { "1.a", "a\nb\n", 6 },
         { "1.a", "a\r\nb\r\n", 6 },
         { "1.a", "a\nb", 6 },
         { "1.a", "", 0 },
         { "1.a", ".\n", 3 },
         { "1.a,S=4,W=6", "a\nb\n", 6 },
         { "1.a,W=6,S=4", "a\nb\n", 6 },
         { "1.a,S=4", "a\nb\n", 6 },
         { "1.a,S=5,W=7", "a\nb\n", 6 },  -- S is wrong
         { "1.a,S=4,W=4", "a\nb\n", 6 },  -- W is S: looked at
         { "1.a,S=6,W=6", "a\r\nb\r\n", 6 },
         { "1.a,S=4,W=3", "a\nb\n", 6 },
         { "1.a,S=4,W=11", "a\nb\n", 6 }, -- more lines than octets
         { "1.a,S=4x,W=7", "a\nb\n", 6 },
         { "1.a,S=99999999999999999999,W=7", "a\nb\n", 6 },
      }
      for _, case in ipairs(cases) do
         for _, name in ipairs({ "new/" .. case[1], "cur/" .. case[1] .. ":2,S" }) do
            it(("of %q in %s are exact"):format(case[2], name), function()
               put(name, case[2])
               lock()
               local told = storage.scan("joe")[1]
               assert.is_true(told == false or told == case[3])
               assert.equal(case[3], storage.size("joe", 1))
               assert.equal(case[3], storage.size("joe"))
               assert.equal(case[3], storage.scan("joe")[1])
            end)
         end
      end

      it("are taken from the name without reading", function()
         put("new/1.a,S=4,W=7", "a\nb\n") -- wrong, which shows where it is from
         lock()
         assert.same({ 7 }, (storage.scan("joe")))
      end)

      it("are counted once a session", function()
         put("new/1.a", "a\n")
         lock()
         assert.equal(3, storage.size("joe", 1))
         put("new/1.a", "a\nb\n")
         assert.equal(3, storage.size("joe", 1))
         relock()
         assert.equal(6, storage.size("joe", 1))
      end)

      it("add up", function()
         put("new/1.a", "a\n")
         put("new/2.a", "bc")
         put("cur/3.a,S=2,W=3:2,", "d\n")
         lock()
         assert.equal(10, storage.size("joe"))
      end)
   end)

   describe("unique-ids", function()
      it("are base names, whatever the flags, in scan and uidl", function()
         put("new/1.a,S=2,W=3")
         put("cur/2.a:2,S")
         lock()
         assert.same({ "1.a,S=2,W=3", "2.a" }, uids())
         assert.equal("2.a", storage.uidl("joe", 2))
         files.run("mv %s %s", path("new/1.a,S=2,W=3"), path("cur/1.a,S=2,W=3:2,F"))
         relock()
         assert.same({ "1.a,S=2,W=3", "2.a" }, uids())
      end)

      it("are hashed where POP3 cannot send the name", function()
         local names = { "1." .. ("a"):rep(69), "2.b c", "3.\xc3\xa4", "4." .. ("d"):rep(68) }
         for _, name in ipairs(names) do
            put("new/" .. name)
         end
         lock()
         assert.same({ fs.sha256(names[1]), fs.sha256(names[2]), fs.sha256(names[3]), names[4] }, uids())
      end)

      it("stay with the files when others go and come", function()
         put("new/1.a")
         put("new/2.a")
         lock()
         storage.dele("joe", { 1 })
         put("new/3.a")
         relock()
         assert.same({ "2.a", "3.a" }, uids())
      end)

      it("of two messages of one base name differ, and stay through renaming", function()
         put("new/1.a", "new")
         put("cur/1.a:2,S", "cur")
         lock()
         local before, after = {}, {}
         for id, text in ipairs(texts()) do
            before[text] = uids()[id]
         end
         assert.not_equal(before.new, before.cur)
         files.run("mv %s %s; mv %s %s", path("cur/1.a:2,S"), path("cur/1.a:2,RS"), path("new/1.a"), path("cur/1.a:2,"))
         assert.equal("cur", texts()[uids()[1] == before.cur and 1 or 2])
         relock()
         for id, text in ipairs(texts()) do
            after[text] = uids()[id]
         end
         assert.same(before, after)
      end)
   end)

   it("takes two names of one file for one message, and deletes both", function()
      put("new/1.a", "1")
      put("new/2.a", "2")
      files.run("ln %s %s", path("new/1.a"), path("cur/1.a:2,S"))
      lock()
      assert.same({ "1.a", "2.a" }, uids())
      assert.is_true(storage.dele("joe", { 1 }))
      assert.is_false(files.exists(path("new/1.a")))
      assert.is_false(files.exists(path("cur/1.a:2,S")))
   end)

   describe("dele", function()
      it("deletes exactly what is asked for", function()
         for i = 1, 5 do
            put(("new/%d.a"):format(i), tostring(i))
         end
         lock()
         assert.is_true(storage.dele("joe", { 2, 4 }))
         relock()
         assert.same({ "1", "3", "5" }, texts())
      end)

      it("finds messages under new names, and counts those that are gone as deleted", function()
         put("new/1.a")
         put("new/2.a")
         put("new/3.a")
         lock()
         files.run("mv %s %s; rm %s", path("new/1.a"), path("cur/1.a:2,S"), path("new/2.a"))
         assert.is_true(storage.dele("joe", { 1, 2 }))
         relock()
         assert.same({ "3.a" }, uids())
      end)

      it("deletes one of two messages of one base name", function()
         put("new/1.a", "new")
         put("cur/1.a:2,S", "cur")
         lock()
         local id = texts()[1] == "new" and 1 or 2
         files.run("mv %s %s", path("new/1.a"), path("cur/1.a:2,"))
         assert.is_true(storage.dele("joe", { id }))
         relock()
         assert.same({ "cur" }, texts())
      end)

      it("deletes nothing when it cannot tell which message is meant", function()
         put("new/1.a", "old")
         put("new/2.a")
         lock()
         files.run("mv %s %s", path("new/1.a"), path("cur/1.a:2,RS"))
         put("new/1.a", "other")
         put("cur/1.a:2,S", "third")
         os.remove(path("new/2.a")) -- makes it look again
         assert.is_nil(storage.get("joe", 2))
         local ok, why, left = storage.dele("joe", { 1, 2 })
         assert.is_nil(ok)
         assert.equal("new/1.a: other messages of the same name have come", why)
         assert.same({ 1 }, left)
         assert.equal("old", files.text(path("cur/1.a:2,RS")))
         assert.equal("other", files.text(path("new/1.a")))
      end)

      it("tells what it could not delete, and goes on with the rest", function()
         put("new/1.a")
         put("cur/2.a")
         put("new/3.a")
         files.run("chmod 755 %s; chmod 777 %s; chmod 555 %s", path(""), path("cur"), path("new"))
         local said = without_rights([[
            assert(storage.lock("joe"))
            return storage.dele("joe", { 1, 2, 3 })
         ]])
         if not said then
            return pending("modes bind nobody here")
         end
         assert.equal(("nil|unlink %s: Permission denied|1,3"):format(path("new/1.a")), said)
         assert.is_false(files.exists(path("cur/2.a")))
         assert.is_true(files.exists(path("new/3.a")))
      end)

      it("deletes nothing at all for an id that is none", function()
         put("new/1.a")
         lock()
         assert.error_matches(function()
            storage.dele("joe", { 1, 2 })
         end, "no message 2")
         assert.is_true(files.exists(path("new/1.a")))
      end)
   end)

   it("is empty, and makes nothing, where there is no Maildir yet", function()
      assert.is_true(storage.lock("ann"))
      assert.equal(0, storage.stat("ann"))
      assert.equal(0, storage.size("ann"))
      assert.same({}, (storage.scan("ann")))
      assert.is_true(storage.dele("ann", {}))
      assert.is_false(storage.lock("ann"))
      assert.is_false(maildir.new({ root = root .. "/%s" }).lock("ann"))
      assert.is_nil(fs.stat(root .. "/ann"))
      files.run("mkdir -p %s", root .. "/ann/new")
      files.put(root .. "/ann/new/1.a", "a")
      assert.equal(0, storage.stat("ann"))
      storage.unlock("ann")
      assert.is_true(storage.lock("ann"))
      assert.equal(1, storage.stat("ann"))
   end)

   it("is a fault where new or cur cannot be read, and keeps no lock", function()
      for _, sub in ipairs({ "new", "cur" }) do
         files.run("rmdir %s; touch %s", path(sub), path(sub))
         local ok, why = storage.lock("joe")
         assert.is_nil(ok)
         assert.equal(("scandir %s: Not a directory"):format(path(sub)), why)
         files.run("rm %s; mkdir %s", path(sub), path(sub))
         lock()
         storage.unlock("joe")
      end
      files.run("chmod 000 %s", path("cur"))
      local said = without_rights('return storage.lock("joe")')
      if not said then
         return pending("modes bind nobody here")
      end
      assert.equal(("nil|scandir %s: Permission denied"):format(path("cur")), said)
   end)

   describe("root", function()
      local function served(template, mbox)
         local made = maildir.new({ root = (template:gsub("^/", root .. "/")), lock = root .. "/lock" })
         local ok, why = made.lock(mbox)
         if ok then
            local got = made.stat(mbox)
            made.unlock(mbox)
            return got
         end
         return ok, why
      end

      it("takes the mbox apart", function()
         files.run("mkdir -p %s", root .. "/example.org/ann%b/new")
         files.put(root .. "/example.org/ann%b/new/1.a", "a")
         assert.equal(1, served("/%d/%n", "ann%b@example.org"))
         assert.equal(1, served("/example.org/%s", "ann%b"))
         assert.equal(1, served("/example.org/%n", "ann%b"))
         assert.equal(1, served("/example.org/ann%%b", "whoever"))
         assert.equal(1, served("/example.org/%n%%b", "ann@example.org"))
         files.run("mkdir -p %s", root .. "/org/a@b/new")
         files.put(root .. "/org/a@b/new/1.a", "a")
         assert.equal(1, served("/%d/%n/", "a@b@org"))
      end)

      it("is not left", function()
         files.run("mkdir -p %s %s", root .. "/new", root .. "/x/y/new")
         for _, mbox in ipairs({ "", ".", "..", "../x", "x/y", "/x", ".x", "x\0y", "x\ny", "\127", "x/../x" }) do
            local ok, why = served("/%s", mbox)
            assert.is_nil(ok)
            assert.matches("its part %%s is no name for a directory", why)
         end
         for _, mbox in ipairs({ "x", "@x", "x@", "@", "..@x", "x@..", "a/b@x", "x@a/b", ".x@x", "x@.x" }) do
            local ok, why = served("/%d/%n", mbox)
            assert.is_nil(ok)
            assert.matches("its part %%[dn] is no name for a directory", why)
         end
         assert.is_nil((served("/%s", 12)))
         assert.is_nil((served("/%s", {})))
      end)

      it("may be a single Maildir, with its lock inside", function()
         put("new/1.a")
         local one = maildir.new({ root = root .. "/joe/" })
         assert.is_true(one.lock("whoever"))
         assert.equal(1, one.stat("whoever"))
         assert.is_true(files.exists(path(".popd-lock")))
         assert.is_false(maildir.new({ root = root .. "/joe" }).lock("another"))
         one.unlock("whoever")
      end)

      it("may be a single Maildir that is yet to come", function()
         local one = maildir.new({ root = root .. "/ann" })
         assert.is_true(one.lock("ann"))
         assert.equal(0, one.stat("ann"))
         assert.is_false(one.lock("ann"))
         one.unlock("ann")
         assert.is_nil(fs.stat(root .. "/ann"))
      end)

      it("must be there as far as it is fixed", function()
         local made = maildir.new({ root = root .. "/no/%s" })
         local ok, why = made.lock("joe")
         assert.is_nil(ok)
         assert.equal(("lock %s/no/.popd-lock: No such file or directory"):format(root), why)
      end)
   end)

   it("raises a caller's mistake at the caller's line", function()
      local cases = {
         { "a table of options expected", nil },
         { "option 'root' is missing", {} },
         { "option 'root' is missing", { root = "" } },
         { "option 'root' takes a string", { root = 1 } },
         { "unknown option 'path'; there are: lock, root, uidl", { root = "/x", path = "/y" } },
         { "option 'root' knows %s, %n, %d and %%", { root = "/x/%u" } },
         { "option 'root' knows %s, %n, %d and %%", { root = "/x/%" } },
         { "a path cannot contain NUL", { root = "/x\0" } },
      }
      for _, case in ipairs(cases) do
         local ok, why = pcall(function()
            maildir.new(case[2])
         end)
         assert.is_false(ok)
         assert.equal("maildir.new: " .. case[1], (why:match("maildir_spec.lua:%d+: (" .. "maildir.new: .*)"):sub(1,
            #case[1] + 13)))
      end
   end)

   it("raises for a maildrop that is not locked and for a message that is not there", function()
      put("new/1.a")
      for _, name in ipairs({ "stat", "size", "scan", "get", "uidl", "dele" }) do
         assert.error_matches(function()
            storage[name]("joe", 1)
         end, "maildrop 'joe' is not locked")
      end
      lock()
      for _, name in ipairs({ "get", "uidl", "size" }) do
         for _, id in ipairs({ 0, 2, -1, "1" }) do
            assert.error_matches(function()
               storage[name]("joe", id)
            end, "no message " .. id, 1, true)
         end
      end
   end)

   describe("lock", function()
      local function hold(how)
         return files.other_process(([[
            storage = require("popd.maildir").new { root = %q }
            say(storage.lock(%q))
         ]]):format(root .. "/%s", how or "joe"))
      end

      it("keeps out a second session, and other back ends of the process", function()
         lock()
         assert.is_false(storage.lock("joe"))
         local other = maildir.new({ root = root .. "/%n" })
         assert.is_false(other.lock("joe"))
         assert.is_true(other.lock("ann"))
         storage.unlock("joe")
         assert.is_true(other.lock("joe"))
         assert.is_false(storage.lock("joe"))
         other.unlock("joe")
         other.unlock("ann")
      end)

      it("is of the directory, whatever its name", function()
         files.run("ln -s joe %s", root .. "/link")
         lock()
         assert.is_false(storage.lock("link"))
         storage.unlock("link")
         assert.is_false(storage.lock("joe"))
         storage.unlock("joe")
         assert.is_true(storage.lock("link"))
      end)

      it("is freed by its holder only", function()
         local other = maildir.new({ root = root .. "/%s" })
         lock()
         assert.is_false(other.lock("joe"))
         other.unlock("joe")
         assert.is_false(other.lock("joe"))
         storage.unlock("joe")
         storage.unlock("joe")
         assert.is_true(other.lock("joe"))
      end)

      it("keeps out other processes, and dies with its holder", function()
         local other = hold()
         assert.equal("true", other.said)
         assert.is_false(storage.lock("joe"))
         assert.is_true(storage.lock("ann"))
         other.kill()
         lock()
         other = hold()
         assert.equal("false", other.said)
         other.stop()
      end)

      it("is given back when listing the messages raises", function()
         local scan = core.mail.scan
         core.mail.scan = function()
            error("deadline")
         end
         local ok, why = pcall(storage.lock, "joe")
         core.mail.scan = scan
         assert.is_false(ok)
         assert.matches("deadline", why)
         lock()
         storage.unlock("joe")
      end)

      it("is one file for all maildrops", function()
         for i = 1, 50 do
            files.run("mkdir -p %s", ("%s/u%d/new"):format(root, i))
            assert.is_true(storage.lock("u" .. i))
         end
         local count = files.first_line("ls -l /proc/$PPID/fd 2>/dev/null | grep -c " .. files.quote(root))
         assert.equal(files.exists("/proc/self/stat") and "1" or "0", count)
         for i = 1, 50 do
            storage.unlock("u" .. i)
         end
      end)

      it("can be elsewhere", function()
         local made = maildir.new({ root = root .. "/%s", lock = root .. "/elsewhere" })
         assert.is_true(made.lock("joe"))
         made.unlock("joe")
         assert.is_true(files.exists(root .. "/elsewhere"))
         assert.is_false(files.exists(root .. "/.popd-lock"))
      end)
   end)

   it("keeps thousands of messages in order", function()
      files.run([[cd %s && for i in $(seq 1 2000); do echo $i > "new/$i.a"; done]], root .. "/joe")
      lock()
      assert.equal(2000, storage.stat("joe"))
      for id = 1, 2000, 97 do
         assert.equal(id .. "\n", files.text(storage.get("joe", id).path))
      end
      local ids = {}
      for id = 1, 2000, 2 do
         ids[#ids + 1] = id
         os.rename(path(("new/%d.a"):format(id)), path(("cur/%d.a:2,S"):format(id)))
      end
      assert.is_true(storage.dele("joe", ids))
      relock()
      assert.equal(1000, storage.stat("joe"))
      assert.equal("2.a", storage.uidl("joe", 1))
   end)
end)
