local client = require("support.client")
local core = require("popd.core")
local files = require("spec.support.files")
local fs = require("popd.fs")
local handles = require("support.handles")
local mbox = require("popd.mbox")
local popd = require("popd")
local store = require("support.store")
local traced = require("support.traced")

local DATE = " Thu Jan  1 00:00:00 1970"

describe("popd.mbox", function()
   local dir, path, logged

   before_each(function()
      dir, logged = files.new_dir(), {}
      path = dir .. "/joe"
      popd.log_to(function(_, line)
         logged[#logged + 1] = line
      end, "info")
   end)

   after_each(function()
      popd.log_to(nil)
      files.remove(dir)
   end)

   local function new(options)
      local all = { root = dir .. "/%s" }
      for name, value in pairs(options or {}) do
         all[name] = value
      end
      return mbox.new(all)
   end

   local function texts(storage)
      local found = {}
      for id = 1, storage.stat("joe") do
         found[id] = handles.text(storage.get("joe", id))
      end
      return found
   end

   -- Opens a session, which ends with what f did.
   local function session(storage, f)
      local ok, why = storage.lock("joe")
      assert(ok, why)
      local results = table.pack(pcall(f, storage))
      storage.unlock("joe")
      assert(results[1], results[2])
      return table.unpack(results, 2, results.n)
   end

   local function texts_in(spool, options)
      files.put(path, spool)
      return session(new(options), texts)
   end

   local function uids(storage)
      return session(storage, function()
         return (select(2, storage.scan("joe")))
      end)
   end

   local function dele(storage, ids)
      return session(storage, function()
         return storage.dele("joe", ids)
      end)
   end

   local function message(name, body)
      return ("From %s%s\nSubject: %s\n\n%s\n\n"):format(name, DATE, name, body or name)
   end

   local function stored(name, body)
      return ("Subject: %s\n\n%s\n"):format(name, body or name)
   end

   describe("messages", function()
      local A = "From a@b" .. DATE .. "\n"
      local cases = {
         -- what, spool, messages [, format]
         { "an empty file", "", {} },
         { "one message", A .. "S: 1\n\nx\n\n", { "S: 1\n\nx\n" } },
         { "two", A .. "S: 1\n\nx\n\n" .. A .. "S: 2\n\ny\n\n", { "S: 1\n\nx\n", "S: 2\n\ny\n" } },
         { "no final line end", A .. "S: 1\n\nx", { "S: 1\n\nx" } },
         { "no final blank line", A .. "S: 1\n\nx\n", { "S: 1\n\nx\n" } },
         { "no blank line between", A .. "S: 1\n\nx\n" .. A .. "S: 2\n\ny\n", { "S: 1\n\nx\n", "S: 2\n\ny\n" } },
         { "blank lines at a body's end", A .. "S: 1\n\nx\n\n\n\n" .. A .. "S: 2\n\ny\n\n",
            { "S: 1\n\nx\n\n\n", "S: 2\n\ny\n" } },
         { "CRLF line ends", (A .. "S: 1\n\nx\n\n" .. A .. "S: 2\n\ny\n\n"):gsub("\n", "\r\n"),
            { "S: 1\r\n\r\nx\r\n", "S: 2\r\n\r\ny\r\n" } },
         { "a line in a body that only begins as a From_ line", A .. "S: 1\n\n\nFrom here on\nFrom me\n\n",
            { "S: 1\n\n\nFrom here on\nFrom me\n" } },
         { "a From_ line that was quoted", A .. "S: 1\n\n>" .. A .. "\n", { "S: 1\n\n>" .. A } },
         { "headers only", A .. "S: 1\n\n" .. A .. "S: 2\n", { "S: 1\n\n", "S: 2\n" } },
         { "headers without a blank line", A .. "S: 1\n" .. A .. "S: 2\n\ny\n", { "S: 1\n", "S: 2\n\ny\n" } },
         { "nothing but a From_ line", A, { "" } },
         { "nothing but From_ lines", A .. A .. "\n" .. A, { "", "\n", "" } },
         { "NULs and octets above 127", A .. "S: \0\n\n\0\255\195\n\n" .. A .. "\n\0\n\n",
            { "S: \0\n\n\0\255\195\n", "\n\0\n" } },
         { "blank lines before the first From_ line", "\n\n" .. A .. "S: 1\n\nx\n\n", { "S: 1\n\nx\n" } },
         { "garbage before the first From_ line", "Hello\nFrom you\n" .. A .. "S: 1\n\nx\n\n", { "S: 1\n\nx\n" } },
         { "garbage alone", "Hello\n\nFrom you\n", {} },
         { "a first From_ line with a date that is none", "From ???@??? once\nS: 1\n\nx\n\n", { "S: 1\n\nx\n" } },
         { "senders with blanks, zones, and dates without seconds",
            "From A B <a@b> Fri Feb 13 23:31 2009\nS: 1\n\nx\n\nFrom b Fri Feb 13 23:31:30 +0200 2009\nS: 2\n\ny\n\n"
               .. "From c  Fri Feb 13 23:31:30 MET DST 2009 remote from d\nS: 3\n\nz\n\n",
            { "S: 1\n\nx\n", "S: 2\n\ny\n", "S: 3\n\nz\n" } },
         { "dates that are none", A .. "S: 1\n\nFrom b Fri Feb 13 2009\nFrom b Fry Feb 13 23:31:30 2009\n"
               .. "From b Fri Feb 13 23:31:30\nFrom Fri Feb 13 23:31:30 20099\n\n",
            { "S: 1\n\nFrom b Fri Feb 13 2009\nFrom b Fry Feb 13 23:31:30 2009\n"
               .. "From b Fri Feb 13 23:31:30\nFrom Fri Feb 13 23:31:30 20099\n" } },
         { "mboxo's quotes", A .. "S: 1\n\n>From a\n>>From b\n", { "S: 1\n\n>From a\n>>From b\n" }, "mboxo" },
         { "mboxrd's quotes", A .. "S: 1\n\n>From a\n>>From b\n> From c\n >From d\n>Frome\n",
            { "S: 1\n\nFrom a\n>From b\n> From c\n >From d\n>Frome\n" }, "mboxrd" },
         { "mboxrd's quotes in a header", A .. ">From a\nS: 1\n\n>From b", { ">From a\nS: 1\n\nFrom b" }, "mboxrd" },
         { "a quote behind a long line", A .. "S: 1\n\n" .. ("x"):rep(70000) .. "\n>From b\n>From c\n",
            { "S: 1\n\n" .. ("x"):rep(70000) .. "\nFrom b\nFrom c\n" }, "mboxrd" },
         { "no quote inside a long line", A .. "S: 1\n\n" .. ("x"):rep(65535) .. ">From b\n>From c\n",
            { "S: 1\n\n" .. ("x"):rep(65535) .. ">From b\nFrom c\n" }, "mboxrd" },
         { "Content-Length that nobody asked for", A .. ("Content-Length: %d\n\n"):format(#A + 2) .. A .. "x\n\n" .. A
               .. "S: 2\n\ny\n",
            { ("Content-Length: %d\n\n"):format(#A + 2), "x\n\n", "S: 2\n\ny\n" }, "mboxo" },
         { "Content-Length that is right", A .. ("Content-Length: %d\n\n"):format(#A + 2) .. A .. "x\n\n" .. A
               .. "S: 2\n\ny\n",
            { ("Content-Length: %d\n\n"):format(#A + 2) .. A .. "x\n", "S: 2\n\ny\n" }, "mboxcl" },
         { "Content-Length up to the file's end", A .. ("Content-Length: %d\n\n"):format(#A + 2) .. A .. "x\n",
            { ("Content-Length: %d\n\n"):format(#A + 2) .. A .. "x\n" }, "mboxcl" },
         { "Content-Length that counts a blank line", A .. "Content-Length: 3\n\nx\n\n\n" .. A .. "S: 2\n\ny\n",
            { "Content-Length: 3\n\nx\n\n", "S: 2\n\ny\n" }, "mboxcl" },
         { "Content-Length that is wrong", A .. "Content-Length: 3\n\nxxxxxxx\n\n" .. A .. "S: 2\n\ny\n",
            { "Content-Length: 3\n\nxxxxxxx\n", "S: 2\n\ny\n" }, "mboxcl" },
         { "Content-Length behind the end", A .. "Content-Length: 3000\n\nx\n\n" .. A .. "Content-Length: x\n\ny\n",
            { "Content-Length: 3000\n\nx\n", "Content-Length: x\n\ny\n" }, "mboxcl" },
      }

      for _, case in ipairs(cases) do
         local what, spool, expected, format = case[1], case[2], case[3], case[4]

         it(("of %s%s"):format(what, format and " in " .. format or ""), function()
            assert.same(expected, texts_in(spool, { format = format }))
         end)

         it(("of %s%s have the sizes that are sent"):format(what, format and " in " .. format or ""), function()
            local sizes, total = {}, 0
            for i, text in ipairs(expected) do
               sizes[i] = fs.octets_of(text)
               total = total + sizes[i]
            end
            files.put(path, spool)
            local storage = new { format = format }
            session(storage, function()
               assert.same(sizes, (storage.scan("joe")))
               assert.equal(total, storage.size("joe"))
               for id, size in ipairs(sizes) do
                  assert.equal(size, storage.size("joe", id))
               end
            end)
            assert.equal(spool, files.text(path))
         end)
      end

      it("of a file that does not exist are none", function()
         local storage = new()
         assert.same({}, session(storage, texts))
         assert.same({}, uids(storage))
         assert.is_false(files.exists(path))
      end)

      it("that a file begins without are told in the log", function()
         texts_in("Hello\n" .. message("a"))
         assert.matches("does not begin with a message", table.concat(logged))
      end)

      it("may be larger than what is read at once, with lines of any length", function()
         local long, lines = ("x"):rep(300000), ("y\n"):rep(200000)
         assert.same({ stored("a", long), stored("b", lines), stored("c") },
            texts_in(message("a", long) .. message("b", lines) .. message("c")))
      end)

      it("may be a hundred thousand", function()
         local parts = {}
         for i = 1, 100000 do
            parts[i] = message("n" .. i)
         end
         files.put(path, table.concat(parts))
         local storage = new()
         session(storage, function()
            assert.equal(100000, storage.stat("joe"))
            local sizes, ids = storage.scan("joe")
            assert.equal(100000, #sizes)
            local seen = {}
            for _, uid in ipairs(ids) do
               seen[uid] = true
            end
            local different = 0
            for _ in pairs(seen) do
               different = different + 1
            end
            assert.equal(100000, different)
            assert.equal(stored("n77777"), handles.text(storage.get("joe", 77777)))
         end)
      end)
   end)

   it("refuses what is no regular file", function()
      for what, make in pairs { ["a directory"] = "mkdir %s", ["a FIFO"] = "mkfifo %s", ["a link"] = "ln -s x %s" } do
         files.run(make, path)
         local ok, why = new().lock("joe")
         assert.is_nil(ok, what)
         assert.is_string(why)
         files.run("rm -rf %s", path)
      end
   end)

   it("never leaves its root", function()
      local storage = new()
      for _, name in ipairs { "../joe", "a/b", "", ".", "..", ".hidden", "a\nb", 5 } do
         local ok, why = storage.lock(name)
         assert.is_nil(ok)
         assert.is_string(why)
      end
   end)

   it("puts the parts of an mbox into the root", function()
      files.run("mkdir %s", dir .. "/example.org")
      files.put(dir .. "/example.org/joe", message("a"))
      local storage = mbox.new { root = dir .. "/%d/%n" }
      assert.is_true(storage.lock("joe@example.org"))
      assert.equal(1, storage.stat("joe@example.org"))
      storage.unlock("joe@example.org")
   end)

   local mistakes = {
      { nil, "a table of options" },
      { {}, "'root' is missing" },
      { { root = "/x/%u" }, "knows %s, %n, %d and %%" },
      { { root = 1 }, "option 'root' takes a string" },
      { { root = "/x/%s", from = 1 }, "unknown option 'from'" },
      { { root = "/x/%s", format = "mmdf" }, "unknown format 'mmdf'" },
      { { root = "/x/%s", lock = { "lockf" } }, "unknown kind 'lockf'" },
   }

   for _, case in ipairs(mistakes) do
      it(("raises at the caller's line: %s"):format(case[2]), function()
         local ok, err = pcall(function()
            mbox.new(case[1])
         end)
         assert.is_false(ok)
         assert.matches("mbox_spec.lua:%d+:", err)
         assert.matches(case[2], err, 1, true)
      end)
   end

   describe("unique-ids", function()
      local function three()
         files.put(path, message("a") .. message("b") .. message("c"))
         return uids(new())
      end

      it("stay when other messages go or come", function()
         local before = three()
         assert.is_true(dele(new(), { 1 }))
         files.put(path, files.text(path) .. message("d"))
         local after = uids(new())
         assert.same({ before[2], before[3] }, { after[1], after[2] })
         assert.not_equal(before[1], after[3])
      end)

      it("stay when mail programs write what they write into headers", function()
         local before = three()
         local text = files.text(path)
         text = text:gsub("\nSubject: b\n", "\nStatus: RO\nSubject: b\nX-Status: A\nX-UID: 17\nX-Keywords: a\n b\n"
            .. "Content-Length: 2\nLines: 1\nX-IMAPbase: 1 2\nX-UIDL: abc\nx-mozilla-status: 0001\n")
         files.put(path, text)
         assert.same(before, uids(new()))
      end)

      it("stay when a message that had no end gets one by the next", function()
         files.put(path, "From a" .. DATE .. "\nSubject: a\n\nbody")
         local storage = new()
         local before = uids(storage)
         files.put(path, files.text(path) .. "\n\n" .. message("b"))
         assert.equal(before[1], uids(storage)[1])
         assert.equal(before[1], uids(new())[1])
      end)

      local differences = {
         { "the From_ line", "From a", "From b" },
         { "a field", "Subject: a", "Subject: b" },
         { "a field's next line", "a\n two", "a\n too" },
         { "the body", "body", "Body" },
         { "the body's last line", "end", "ent" },
         { "a blank line", "body\n\nend", "body\nend" },
         { "more than one blank line", "body\n\nend", "body\n\n\nend" },
         { "where lines end", "body", "bo\ndy" },
         { "a NUL", "end", "end\0" },
      }

      for _, case in ipairs(differences) do
         it(("tell messages apart by %s"):format(case[1]), function()
            local text = "From a" .. DATE .. "\nSubject: a\n two\n\nbody\n\nend\n\n"
            local at, stop = text:find(case[2], 1, true)
            files.put(path, text .. text:sub(1, at - 1) .. case[3] .. text:sub(stop + 1))
            local ids = uids(new())
            assert.equal(2, #ids)
            assert.not_equal(ids[1], ids[2])
            assert.matches("^%x+$", ids[2])
         end)
      end

      it("of messages that are the same are made different, in the order of the file", function()
         files.put(path, message("a") .. message("b") .. message("a") .. message("a"))
         local storage = new()
         local ids = uids(storage)
         assert.same({ ids[1], ids[2], ids[1] .. ".2", ids[1] .. ".3" }, ids)
         session(storage, function()
            for id, uid in ipairs(ids) do
               assert.equal(uid, storage.uidl("joe", id))
            end
         end)
         assert.is_true(dele(storage, { 1 }))
         assert.same({ ids[2], ids[1], ids[1] .. ".2" }, uids(storage))
      end)

      it("are what an X-UIDL field says where the site wants that, if it can be one", function()
         local function with(name, field)
            return ("From %s%s\nSubject: %s\nX-UIDL: %s\n\nbody\n\n"):format(name, DATE, name, field)
         end
         files.put(path, with("a", "one") .. with("b", " two\t") .. with("c", "one") .. with("d", "a b")
            .. with("e", ("x"):rep(71)) .. with("f", "") .. message("g"))
         local digests, fields = uids(new()), uids(new { x_uidl = true })
         assert.same({ "one", "two", table.unpack(digests, 3) }, fields)
         local storage = new { x_uidl = true }
         session(storage, function()
            assert.equal("two", storage.uidl("joe", 2))
            assert.equal(digests[3], storage.uidl("joe", 3))
         end)
      end)

      it("of a field cannot be those of another message", function()
         files.put(path, message("a"))
         local digest = uids(new())[1]
         files.put(path, ("From z%s\nX-UIDL: %s\n\nx\n\n"):format(DATE, digest) .. message("a"))
         local ids = uids(new { x_uidl = true })
         assert.equal(digest, ids[2])
         assert.not_equal(digest, ids[1])
      end)
   end)

   describe("what is known of a file", function()
      -- What a storage that has seen the file before finds, and one that has not.
      local function both(storage)
         local function all(one)
            return session(one, function()
               local sizes, ids = one.scan("joe")
               return { sizes, ids, texts(one) }
            end)
         end
         local again = all(storage)
         assert.same(all(new()), again)
         return again[3]
      end

      local changes = {
         { "nothing", function(text) return text end },
         { "mail that came", function(text) return text .. message("d") end },
         { "mail behind one without a line end", function(text) return text .. "\nend\n\n" .. message("d") end },
         { "a message that went", function(text) return text:sub(#message("a") + 1) end },
         { "one that went and one as long that came", function(text)
            return text:sub(#message("a") + 1) .. message("d")
         end },
         { "a message that became longer, and mail", function(text)
            return text:gsub("Subject: b", "Status: R\nSubject: b") .. message("d")
         end },
         { "all that went", function() return "" end },
         { "all that went, and mail", function() return message("d") .. message("e") .. message("f") end },
      }

      for _, case in ipairs(changes) do
         it(("holds for %s"):format(case[1]), function()
            files.put(path, message("a") .. message("b") .. "From c" .. DATE .. "\nSubject: c\n\nc\n")
            local storage = new()
            both(storage)
            files.put(path, (case[2](files.text(path))))
            both(storage)
         end)
      end

      it("holds after deletions", function()
         local all = { "a", "b", "c", "d", "e", "f" }
         local storage = new()
         local parts = {}
         for i, name in ipairs(all) do
            parts[i] = message(name)
         end
         files.put(path, table.concat(parts))
         for _, ids in ipairs { { 6 }, { 2, 4 }, { 1 }, { 1, 2 } } do
            assert.is_true(dele(storage, ids))
            for i = #ids, 1, -1 do
               table.remove(all, ids[i])
            end
            local expected = {}
            for i, name in ipairs(all) do
               expected[i] = stored(name)
            end
            assert.same(expected, both(storage))
         end
         files.put(path, files.text(path) .. message("g"))
         assert.same({ stored("g") }, both(storage))
      end)
   end)

   describe("a session", function()
      it("keeps out another process, also after messages were fetched twice", function()
         files.put(path, message("a"))
         local storage = new { lock = { "fcntl" } }
         assert.is_true(storage.lock("joe"))
         for _ = 1, 2 do
            assert.equal(stored("a"), handles.text(storage.get("joe", 1)))
            files.text(path)
         end
         local other = files.other_process(([[
            require("popd").log_to(function() end)
            say(tostring(require("popd.mbox").new({ root = %q, lock = { "fcntl" } }).lock("joe")))
         ]]):format(dir .. "/%s"))
         assert.equal("false", other.said)
         other.stop()
         storage.unlock("joe")
      end)

      it("tells who has the lock", function()
         files.put(path, message("a"))
         local other = files.other_process(([[
            say(tostring(require("popd.mbox").new({ root = %q, lock = { "dotlock" } }).lock("joe")))
         ]]):format(dir .. "/%s"))
         local got, holder = new().lock("joe")
         assert.is_false(got)
         assert.same({ "dotlock", path .. ".lock" }, { holder.kind, holder.path })
         assert.is_true(holder.process > 1 and holder.age >= 0)
         other.stop()
      end)

      it("does not see mail that came meanwhile, and neither loses it", function()
         files.put(path, message("a") .. message("b"))
         local storage = new()
         session(storage, function()
            files.put(path, files.text(path) .. message("c")) -- by somebody who does not lock
            assert.equal(2, storage.stat("joe"))
            assert.equal(stored("b"), handles.text(storage.get("joe", 2)))
            assert.is_true(storage.dele("joe", { 1, 2 }))
         end)
         assert.equal(message("c"), files.text(path))
         assert.same({ stored("c") }, session(storage, texts))
      end)

      it("that finds the file changed under its lock reads and deletes nothing", function()
         files.put(path, message("a") .. message("b"))
         local storage = new()
         session(storage, function()
            local other = message("a") .. message("x")
            client.wait_for("another time", function()
               local before = fs.stat(path).mtime
               files.put(path, other)
               return fs.stat(path).mtime ~= before
            end)
            local h, why = storage.get("joe", 1)
            assert.is_nil(h)
            assert.matches("changed although it is locked", why)
            local ok, reason, left = storage.dele("joe", { 1 })
            assert.is_nil(ok)
            assert.matches("changed although it is locked", reason)
            assert.same({ 1 }, left)
            assert.equal(other, files.text(path))
         end)
      end)

      it("deletes nothing once its lock is lost", function()
         files.put(path, message("a"))
         local storage = new()
         session(storage, function()
            assert.is_true(storage.renew("joe"))
            files.run("rm %s", path .. ".lock")
            local ok, why = storage.dele("joe", { 1 })
            assert.is_nil(ok)
            assert.matches("the lock is lost", why)
         end)
         assert.equal(message("a"), files.text(path))
      end)
   end)

   describe("deleting", function()
      local names = { "a", "b", "c", "d" }

      local function spool_of(list)
         local parts = {}
         for i, name in ipairs(list) do
            parts[i] = message(name, name:rep(50))
         end
         return table.concat(parts)
      end

      for mask = 1, 15 do
         local ids, kept = {}, {}
         for i, name in ipairs(names) do
            if mask & 1 << (i - 1) ~= 0 then
               ids[#ids + 1] = i
            else
               kept[#kept + 1] = name
            end
         end

         it(("messages %s leaves the others as they were"):format(table.concat(ids, ", ")), function()
            files.put(path, spool_of(names))
            assert.is_true(dele(new(), ids))
            assert.equal(spool_of(kept), files.text(path))
            assert.same({ "joe" }, (fs.scandir(dir)))
         end)
      end

      it("leaves the file's owner, mode and inode", function()
         files.put(path, spool_of(names))
         files.run("chmod 660 %s", path)
         local before = fs.stat(path)
         dele(new(), { 1 })
         local after = fs.stat(path)
         for _, key in ipairs { "ino", "mode", "uid", "gid", "nlink" } do
            assert.equal(before[key], after[key])
         end
      end)

      it("leaves what stands before the first message", function()
         files.put(path, "garbage\n" .. message("a"))
         dele(new(), { 1 })
         assert.equal("garbage\n", files.text(path))
      end)

      it("where the journal cannot be written changes nothing, and says why", function()
         files.put(path, spool_of(names))
         files.run("mkdir -p %s", dir .. "/.joe.popd-journal.new/x")
         local ok, why, left = dele(new(), { 1, 3 })
         assert.is_nil(ok)
         assert.matches("popd-journal.new", why, 1, true)
         assert.same({ 1, 3 }, left)
         assert.equal(spool_of(names), files.text(path))
      end)

      it("in a directory that cannot be written to can only cut off, and says so", function()
         local drop = files.unprivileged()
         if not drop then
            pending("there is no user to change to")
            return
         end
         local result = files.put(dir .. "/result", "")
         local script = files.put(dir .. "/script.lua", ([[
            require("popd").log_to(function() end)
            local storage = require("popd.mbox").new { root = %q, lock = { "fcntl" } }
            local file = io.open(%q, "w")
            for _, ids in ipairs { { 1 }, { 3, 4 }, { 1, 2 } } do
               assert(storage.lock("joe"))
               local ok, why = storage.dele("joe", ids)
               file:write(tostring(ok), " ", tostring(why), " ", storage.unlock("joe") or "", "\n")
            end
         ]]):format(dir .. "/box/%s", result))
         files.run("mkdir %s", dir .. "/box")
         files.put(dir .. "/box/joe", spool_of(names))
         files.run("chmod 755 %s %s %s; chmod 666 %s %s", dir, dir .. "/box", script, dir .. "/box/joe", result)
         files.run("chmod 555 %s", dir .. "/box")
         assert(os.execute(drop .. files.lua(script)))
         assert.matches("^nil open [^\n]*journal.new: Permission denied \ntrue nil \ntrue nil \n$", files.text(result))
         assert.equal("", files.text(dir .. "/box/joe"))
      end)

      it("on a disk that is full changes nothing, and the next session works", function()
         if not traced.works() then
            pending("strace cannot be used here")
            return
         end
         files.put(path, spool_of(names))
         local script = files.put(dir .. "/full.lua", ([[
            local storage = require("popd.mbox").new { root = %q, lock = { "fcntl" } }
            assert(storage.lock("joe"))
            print(storage.dele("joe", { 1 }))
            storage.unlock("joe")
         ]]):format(dir .. "/%s"))
         local ok, said = traced.run("pwrite64:error=ENOSPC:when=1", files.lua(script))
         assert.is_true(ok, said)
         assert.matches("^nil\t.*No space left", said)
         assert.equal(spool_of(names), files.text(path))
         assert.is_true(dele(new(), { 1 }))
         assert.equal(spool_of { "b", "c", "d" }, files.text(path))
      end)

      it("that a full disk cuts off while the file is rewritten is ended by the next session", function()
         if not traced.works() then
            pending("strace cannot be used here")
            return
         end
         files.put(path, spool_of(names))
         local script = files.put(dir .. "/full.lua", ([[
            local storage = require("popd.mbox").new { root = %q, lock = { "fcntl" } }
            assert(storage.lock("joe"))
            print(storage.dele("joe", { 1 }))
            storage.unlock("joe")
         ]]):format(dir .. "/%s"))
         local ok, said = traced.run("pwrite64:error=ENOSPC:when=3", files.lua(script))
         assert.is_true(ok, said)
         assert.matches("^nil\t.*No space left", said)
         assert.same({ stored("b", ("b"):rep(50)), stored("c", ("c"):rep(50)), stored("d", ("d"):rep(50)) },
            session(new(), texts))
         assert.equal(spool_of { "b", "c", "d" }, files.text(path))
      end)

      it("takes no journal that somebody else has put there", function()
         files.put(path, spool_of(names))
         local script = files.put(dir .. "/cut.lua", ([[
            local storage = require("popd.mbox").new { root = %q, lock = { "fcntl" } }
            assert(storage.lock("joe"))
            storage.dele("joe", { 1 })
         ]]):format(dir .. "/%s"))
         local journal = dir .. "/.joe.popd-journal"
         if not traced.works() or not fs.chown(script, 65534, 65534) then
            pending("strace cannot be used here, or files not be given away")
            return
         end
         traced.run("pwrite64:error=EIO:when=3", files.lua(script)) -- the journal is there, nothing was copied back
         assert.equal(spool_of(names), files.text(path))
         assert(fs.chown(journal, 65534, 65534))
         assert.equal(4, #session(new(), texts))
         assert.equal(spool_of(names), files.text(path))
         assert.matches("it is not ours", table.concat(logged))
         assert.is_false(files.exists(journal))
      end)

      it("leaves a journal that does not fit for people, and says so", function()
         files.put(path, message("a"))
         files.put(dir .. "/.joe.popd-journal", "C nonsense\n" .. message("kept"))
         assert.same({ stored("a") }, session(new(), texts))
         assert.matches("does not fit its mailbox", table.concat(logged))
         local kept
         for _, name in ipairs((fs.scandir(dir))) do
            kept = name:find("%.kept") and name or kept
         end
         assert.matches("kept", files.text(dir .. "/" .. kept))
      end)
   end)

   describe("by the rules of popd.check", function()
      -- An MTA that quotes as mboxrd does, and locks or does not.
      local function put(mbox_name, text)
         local quoted = ("\n" .. text):gsub("\n(>*From )", "\n>%1"):sub(2)
         local file = assert(io.open(dir .. "/" .. mbox_name, "ab"))
         file:write("From mta" .. DATE .. "\n", quoted, quoted:sub(-1) == "\n" and "\n" or "\n\n")
         file:close()
      end

      for what, options in pairs {
         ["with both locks"] = {},
         ["with dot-locks"] = { lock = { "dotlock" } },
         ["with X-UIDL"] = { x_uidl = true },
      } do
         it(("holds %s"):format(what), function()
            options.format = "mboxrd"
            local ok, report = popd.check(new(options), {
               mbox = "joe", other = "ann", put = put, destructive = true,
            })
            assert.is_true(ok, tostring(report))
         end)
      end
   end)

   describe("in a server", function()
      after_each(client.finish)

      local function server_of(options, more)
         local all = { auth = store.auth, storage = new(options) }
         for name, value in pairs(more or {}) do
            all[name] = value
         end
         return client.server(all)
      end

      it("serves and deletes", function()
         files.put(path, message("a") .. "From b" .. DATE .. "\nSubject: b\n\n>From there\n.\n\n" .. message("c"))
         local server = server_of { format = "mboxrd" }
         local c = client.login(server)
         assert.equal("+OK 3 63", c:command("STAT"))
         assert.equal("Subject: b\r\n\r\nFrom there\r\n.\r\n", (c:fetch("RETR 2")))
         local _, ids = c:command("UIDL")
         assert.equal(3, #ids)
         c:command("DELE 1")
         assert.matches("^%+OK", c:command("QUIT"))
         c = client.login(server)
         local _, left = c:command("UIDL")
         assert.equal(ids[2]:match(" (.*)"), left[1]:match(" (.*)"))
         assert.equal(2, #left)
      end)

      it("deletes to the end whatever time a callback has", function()
         local parts = {}
         for i = 1, 20000 do
            parts[i] = message("n" .. i, ("x"):rep(4000))
         end
         files.put(path, table.concat(parts))
         local server = server_of({ lock = { "dotlock" } })
         local c = client.login(server)
         c:command("DELE 1")
         server:configure { callback_timeout = 0.1 }
         assert.matches("^%+OK", c:command("QUIT"))
         server:configure { callback_timeout = 10 }
         assert.same({ "joe" }, (fs.scandir(dir)))
         assert.equal(table.concat(parts, "", 2), files.text(path))
         c = client.login(server)
         assert.matches("^%+OK 19999 ", c:command("STAT"))
      end)

      it("lets others go on while a large file is scanned and rewritten", function()
         local part = message("big", ("0123456789abcdef\n"):rep(60000))
         local file = assert(io.open(path, "wb"))
         for _ = 1, 100 do
            file:write(part)
         end
         file:close()
         files.put(dir .. "/ann", message("ann"))
         local server = server_of()
         local ann = client.login(server, "ann", "open")
         local worst, stop, last = 0, false, core.now()
         popd.spawn(function()
            while not stop do
               client.turn()
               worst, last = math.max(worst, core.now() - last), core.now()
            end
         end)
         local c = client.connect(server)
         c:send("USER joe\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
         for _ = 1, 5 do
            if c.buffer == "" then
               assert.equal("+OK", ann:command("NOOP"):sub(1, 3))
            end
         end
         for _ = 1, 4 do
            assert.matches("^%+OK", c:line())
         end
         stop = true
         assert.is_true(worst < 0.25, worst) -- scanning and copying take longer
         assert.equal(99 * #part, fs.stat(path).size)
      end)
   end)
end)
