local files = require("spec.support.files")
local fs = require("popd.fs")
local maildir = require("popd.maildir")
local program = require("spec.support.program")

local has_driver = pcall(require, "luasql.sqlite3")

describe("popd-lua deliver", function()
   local dir, root

   before_each(function()
      dir = files.new_dir()
      root = dir .. "/vmail"
      files.run("mkdir %s", root)
   end)

   after_each(function()
      files.remove(dir)
   end)

   -- Runs it with that on its standard input; `before` are commands of the shell.
   local function run(before, input, ...)
      files.put(dir .. "/input", input)
      local line = before .. ' input=$1; shift; exec "$@" <"$input"'
      local words = { "deliver", table.unpack(files.as_oneself()) }
      return program.run({ "sh", "-c", line, "sh", dir .. "/input", program.path(), table.unpack(words) }, ...)
   end

   local function deliver(input, ...)
      return run("", input, ...)
   end

   local function names(path)
      local found = assert(fs.scandir(path))
      table.sort(found)
      return found
   end

   -- The one file of a directory: its text and its name.
   local function only(path)
      local found = names(path)
      assert.equal(1, #found, table.concat(found, " "))
      return files.text(path .. "/" .. found[1]), found[1]
   end

   local function succeeds(status, out, err)
      assert.same({ 0, "", "" }, { status, out, err })
   end

   local function fails(wanted, reason, status, out, err)
      assert.same({ wanted, "" }, { status, out })
      assert.is_truthy(err:find("^popd%-lua: deliver: [^\n]+\n$") and err:find(reason, 1, true), err)
   end

   describe("into a Maildir", function()
      local function store()
         return "--store=maildir:" .. root .. "/%d/%n"
      end

      it("puts a whole message into new, and leaves nothing in tmp", function()
         succeeds(deliver("Subject: hi\n\nhello\n", store(), "joe@example.org"))
         assert.equal("Subject: hi\n\nhello\n", (only(root .. "/example.org/joe/new")))
         assert.same({}, names(root .. "/example.org/joe/tmp"))
         assert.same({}, names(root .. "/example.org/joe/cur"))
      end)

      it("makes folders and files that are their owner's alone", function()
         succeeds(deliver("a\n", store(), "joe@example.org"))
         local _, name = only(root .. "/example.org/joe/new")
         for _, path in ipairs { "/example.org", "/example.org/joe", "/example.org/joe/tmp" } do
            assert.equal(tonumber("700", 8), fs.stat(root .. path).mode)
         end
         assert.equal(tonumber("600", 8), fs.stat(root .. "/example.org/joe/new/" .. name).mode)
      end)

      -- message, octets as stored, octets as sent
      for _, case in ipairs {
         { "a\nb\n", 4, 6 }, { "a\r\nb\r\n", 6, 6 }, { "a\nb", 3, 6 }, { "", 0, 0 }, { "\0\255\r.\n", 5, 6 },
      } do
         it(("says in the name how long %q is, stored and sent"):format(case[1]), function()
            succeeds(deliver(case[1], store(), "joe@example.org"))
            local text, name = only(root .. "/example.org/joe/new")
            assert.equal(case[1], text)
            assert.equal((",S=%d,W=%d"):format(case[2], case[3]), name:match(",.*"))
            local box = maildir.new { root = root .. "/%d/%n" }
            assert.is_true(box.lock("joe@example.org"))
            assert.equal(case[3], box.size("joe@example.org", 1))
            box.unlock("joe@example.org")
         end)
      end

      it("gives each message a name that begins with the time", function()
         local before = os.time()
         for _ = 1, 3 do
            succeeds(deliver("a\n", store(), "joe@example.org"))
         end
         local found = names(root .. "/example.org/joe/new")
         assert.equal(3, #found)
         local time = tonumber(found[1]:match("^%d+"))
         assert.is_true(time >= before and time <= os.time())
      end)

      it("leaves out a first line of an mbox, and no other", function()
         succeeds(deliver("From joe Mon\nA: b\n\nFrom here\n", store(), "joe@example.org"))
         assert.equal("A: b\n\nFrom here\n", (only(root .. "/example.org/joe/new")))
      end)

      it("puts the envelope in front where it is told to, with the message's line ends", function()
         succeeds(deliver("A: b\r\n\r\n", store(), "--from", "a@b", "--delivered-to=c@d", "joe@example.org"))
         assert.equal("Return-Path: <a@b>\r\nDelivered-To: c@d\r\nA: b\r\n\r\n", (only(root .. "/example.org/joe/new")))
      end)

      it("adds what has come to the quota file, and makes none", function()
         succeeds(deliver("a\n", store(), "joe@example.org"))
         local quota = root .. "/example.org/joe/maildirsize"
         assert.is_false(files.exists(quota) or false)
         files.put(quota, "1000S\n2 1\n")
         succeeds(deliver("bcd\n", store(), "joe@example.org"))
         assert.equal("1000S\n2 1\n4 1\n", files.text(quota))
      end)

      it("makes a Maildir that a path without parts names, if its parent is there", function()
         succeeds(deliver("a\n", "--store", "maildir:" .. root .. "/joe", "whoever"))
         assert.equal("a\n", (only(root .. "/joe/new")))
         fails(75, "No such file", deliver("a\n", "--store", "maildir:" .. root .. "/absent/joe", "whoever"))
         succeeds(deliver("b\n", "--store", "maildir:" .. root .. "/100%%", "whoever"))
         assert.equal("b\n", (only(root .. "/100%/new")))
      end)

      it("takes a message that is larger than a pipe", function()
         local text = ("0123456789abcde\n"):rep(300000)
         succeeds(deliver(text, store(), "joe@example.org"))
         assert.equal(text, (only(root .. "/example.org/joe/new")))
      end)

      it("has the MTA try again when the disk is full, and shows nothing", function()
         fails(75, "File too large", run("ulimit -f 16;", ("a"):rep(100000), store(), "joe@example.org"))
         assert.same({}, names(root .. "/example.org/joe/new"))
         assert.same({}, names(root .. "/example.org/joe/tmp"))
      end)

      it("has the MTA try again when the disk is not mounted", function()
         fails(75, "No such file", deliver("a\n", "--store", "maildir:" .. dir .. "/absent/%n", "joe"))
         assert.is_false(files.exists(dir .. "/absent") or false)
      end)

      it("has the MTA try again when it may not write", function()
         local drop = files.unprivileged()
         if not drop then
            return pending("nobody can be become here")
         end
         files.run("chmod 755 %s %s", dir, root)
         local words = { "sh", "-c", "exec " .. drop .. '"$@"', "sh", program.path(), "deliver" }
         fails(75, "Permission denied", program.run(words, "--store", "maildir:" .. root .. "/%n", "joe"))
      end)
   end)

   describe("into a maildrop directory", function()
      it("gives a message the next number", function()
         files.run("mkdir %s", root .. "/joe")
         files.put(root .. "/joe/9", "old\n")
         succeeds(deliver("a\n", "--store", "dbox:" .. root, "joe"))
         succeeds(deliver("b\n", "--store", "dbox:" .. root, "joe"))
         assert.same({ "10", "11", "9" }, names(root .. "/joe"))
         assert.equal("b\n", files.text(root .. "/joe/11"))
      end)

      it("says that nobody has that name", function()
         fails(67, "no maildrop 'ann'", deliver("a\n", "--store", "dbox:" .. root, "ann"))
         fails(67, "no name", deliver("a\n", "--store", "dbox:" .. root, ".."))
      end)

      it("shows nothing when the disk is full", function()
         files.run("mkdir %s", root .. "/joe")
         fails(75, "File too large", run("ulimit -f 16;", ("a"):rep(100000), "--store", "dbox:" .. root, "joe"))
         assert.same({}, names(root .. "/joe"))
      end)
   end)

   describe("into an mbox file", function()
      local function store(kind)
         return ("--store=%s:%s/%%n"):format(kind or "mbox", root)
      end

      -- kind, the message's lines behind the From_ line
      for _, case in ipairs {
         { "mbox", "A: b\n\n>From me\n>From you\n\n" },
         { "mboxrd", "A: b\n\n>From me\n>>From you\n\n" },
         { "mboxcl", "A: b\nContent-Length: 19\n\n>From me\n>From you\n\n" },
      } do
         it("adds a message to its end as is usual for " .. case[1], function()
            files.put(root .. "/joe", "From x\nold\n")
            succeeds(deliver("A: b\n\nFrom me\n>From you\n", store(case[1]), "joe@example.org"))
            local before, from, after = files.text(root .. "/joe"):match("^(.-\n\n)(From [^\n]*\n)(.*)$")
            assert.equal("From x\nold\n\n", before)
            assert.matches("^From MAILER%-DAEMON %u%l%l %u%l%l [ %d]%d %d%d:%d%d:%d%d %d%d%d%d\n$", from)
            assert.equal(case[2], after)
         end)
      end

      it("makes one that is its owner's alone, and leaves nothing beside it", function()
         succeeds(deliver("a\n", store(), "--from", "a@b", "joe"))
         assert.matches("^From a@b [^\n]*\nReturn%-Path: <a@b>\na\n\n$", (only(root)))
         assert.equal(tonumber("600", 8), fs.stat(root .. "/joe").mode)
      end)

      it("has the MTA try again when the disk is full, and leaves nothing of the message", function()
         succeeds(deliver("old\n", store(), "joe"))
         local before = files.text(root .. "/joe")
         fails(75, root .. "/joe: write", run("ulimit -f 16;", ("a"):rep(100000), store(), "joe"))
         fails(75, "File too large", run("ulimit -f 16;", ("a"):rep(100000), store(), "joe"))
         assert.equal(before, files.text(root .. "/joe"))
         assert.same({ "joe" }, names(root))
         succeeds(deliver("new\n", store(), "joe"))
         assert.matches("^From [^\n]*\nnew\n\n$", files.text(root .. "/joe"):sub(#before + 1))
      end)

      it("says that a name can be nobody's, or what is no mailbox", function()
         fails(67, "no name", deliver("a\n", store(), "../joe"))
         fails(67, "lock", deliver("a\n", store(), "joe.lock"))
         fails(73, "not a regular file", deliver("a\n", "--store", "mbox:/dev/null", "joe"))
         assert.same({}, names(root))
      end)
   end)

   describe("into an SQLite file", function()
      local function on_database(name, f)
         it(name, function()
            if not has_driver then
               return pending("LuaSQL's sqlite3 driver is not installed")
            end
            local store = require("popd.sqlite").new { file = dir .. "/mail.db", threads = 1 }
            assert(store.add("joe", "{PLAIN}secret"))
            f(store, "--store=sqlite:" .. dir .. "/mail.db")
         end)
      end

      local function texts(store)
         local found = {}
         for one in store.export("joe", {}) do
            found[#found + 1] = one.message
         end
         return found
      end

      on_database("adds a message to a user's mail", function(store, word)
         succeeds(deliver("A: 'b'\n\n\0\255\n", word, "joe"))
         succeeds(deliver("From x\nsecond\n", word, "--from", "a@b", "joe"))
         assert.same({ "A: 'b'\n\n\0\255\n", "Return-Path: <a@b>\nsecond\n" }, texts(store))
      end)

      on_database("says that nobody has that name", function(_, word)
         fails(67, "there is no user 'ann'", deliver("a\n", word, "ann"))
      end)

      on_database("makes no file, and has the MTA try again", function(_, word)
         fails(75, "No such file", deliver("a\n", word .. "2", "joe"))
         assert.is_false(files.exists(dir .. "/mail.db2") or false)
      end)

      on_database("has the MTA try again when the disk is full, and keeps what was there", function(store, word)
         succeeds(deliver("first\n", word, "joe"))
         fails(75, dir .. "/mail.db: ", run("ulimit -f 300;", ("a"):rep(1000000), word, "joe"))
         assert.same({ "first\n" }, texts(store))
         succeeds(deliver("second\n", word, "joe"))
         assert.same({ "first\n", "second\n" }, texts(store))
      end)

      on_database("has the MTA try again when the file is no database, and leaves it", function(_, word)
         files.put(dir .. "/mail.db2", ("no database\n"):rep(100))
         fails(75, "not a database", deliver("a\n", word .. "2", "joe"))
         assert.equal(("no database\n"):rep(100), files.text(dir .. "/mail.db2"))
      end)
   end)

   describe("during a session", function()
      -- kind, what the store is called, how it is served
      for _, case in ipairs {
         { "maildir", function() return "maildir:" .. root .. "/%s" end, function()
            return maildir.new { root = root .. "/%s" }
         end },
         { "dbox", function() return "dbox:" .. root end, function()
            files.run("mkdir %s", root .. "/joe")
            return require("popd.dbox").new { base = root }
         end },
         { "sqlite", function() return "sqlite:" .. dir .. "/mail.db" end, function()
            local store = require("popd.sqlite").new { file = dir .. "/mail.db", threads = 1 }
            assert(store.add("joe", "{PLAIN}secret"))
            return store
         end },
      } do
         it("changes nothing of that, and is kept by its deletions: " .. case[1], function()
            if case[1] == "sqlite" and not has_driver then
               return pending("LuaSQL's sqlite3 driver is not installed")
            end
            local storage, name = case[3](), case[2]()
            local function sizes()
               local found = {}
               for id = 1, storage.stat and storage.stat("joe") or #storage.scan("joe") do
                  found[id] = storage.size and storage.size("joe", id) or storage.scan("joe")[id]
               end
               return found
            end
            succeeds(deliver("1\n", "--store", name, "joe"))
            succeeds(deliver("22\n", "--store", name, "joe"))
            assert.is_true(storage.lock("joe"))
            assert.same({ 3, 4 }, sizes())
            succeeds(deliver("333\n", "--store", name, "joe"))
            assert.is_true(storage.dele("joe", { 1, 2 }))
            succeeds(deliver("4444\n", "--store", name, "joe"))
            storage.unlock("joe")
            assert.is_true(storage.lock("joe"))
            assert.same({ 5, 6 }, sizes())
            storage.unlock("joe")
         end)
      end
   end)

   describe("tells by its status that", function()
      local function store()
         return "maildir:" .. root .. "/%n"
      end

      -- what is wrong, status, what is said, words
      for _, case in ipairs {
         { "no store is named", 64, "where to?", function() return "joe" end },
         { "no maildrop is named", 64, "to whom?", function() return "--store", store() end },
         { "two are named", 64, "one maildrop", function() return "--store", store(), "a", "b" end },
         { "a flag is unknown", 64, "unknown option --x", function() return "--x", "--store", store(), "joe" end },
         { "an address would forge a line", 64, "control", function()
            return "--from", "a\nb", "--store", store(), "joe"
         end },
         { "the store is of no kind", 75, "none of", function() return "--store", "nfs:/x", "joe" end },
         { "a path has an unknown part", 75, "knows %s", function() return "--store", "maildir:/x/%u", "joe" end },
         { "a name would leave the root", 67, "no name", function() return "--store", store(), "../joe" end },
         { "a domain is missing", 67, "no name", function()
            return "--store", "maildir:" .. root .. "/%d/%n", "joe"
         end },
         { "a file is where the Maildir should be", 73, "ot a directory", function()
            files.put(root .. "/joe", "")
            return "--store", store(), "joe"
         end },
      } do
         it(case[1], function()
            fails(case[2], case[3], deliver("a\n", case[4]()))
            assert.same({}, fs.scandir(root .. "/joe") or {})
         end)
      end

      it("a name that looks like a flag is nobody, or somebody, behind --", function()
         fails(67, "no name", deliver("a\n", "--store", store(), "--", "--store=maildir:" .. dir .. "/x"))
         succeeds(deliver("a\n", "--store", store(), "--", "--user=root"))
         assert.equal(1, #names(root .. "/--user=root/new"))
      end)

      it("its input cannot be read", function()
         local words = { "sh", "-c", '"$@" <"$0"', dir, program.path(), "deliver" }
         local own = files.as_oneself()
         fails(66, "standard input: Is a directory",
            program.run(words, "--store", store(), own[1] or "joe", own[2], own[1] and "joe"))
         assert.same({}, names(root))
      end)

      it("root did not say whose the mail is to be, and delivers nothing", function()
         if #files.as_oneself() == 0 then
            return pending("this is not root")
         end
         fails(75, "--user NAME", program.run({ program.path() }, "deliver", "--store", store(), "joe"))
         assert.same({}, names(root))
      end)

      it("root became that user", function()
         if #files.as_oneself() == 0 then
            return pending("this is not root")
         end
         files.run("chmod 711 %s && chown nobody %s", dir, root)
         succeeds(program.run({ program.path() }, "deliver", "--user", "nobody", "--store", store(), "joe"))
         assert.equal(fs.stat(root).uid, fs.stat(root .. "/joe/new").uid)
      end)
   end)
end)
