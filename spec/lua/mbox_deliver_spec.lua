-- popd.mbox's own deliveries: what a message looks like in the file, and what a
-- failure leaves.
local client = require("support.client")
local files = require("spec.support.files")
local fs = require("popd.fs")
local handles = require("support.handles")
local mbox = require("popd.mbox")
local mboxdelivery = require("popd.mboxdelivery")
local popd = require("popd")
local store = require("support.store")
local traced = require("support.traced")

local FROM = "From a@b Thu Jan  1 00:00:00 1970\n"
local OLD = FROM .. "Subject: old\n\nold\n\n"

describe("popd.mbox's deliver", function()
   local dir, path, logged

   before_each(function()
      dir, logged = files.new_dir(), {}
      path = dir .. "/joe"
      popd.log_to(function(_, line)
         logged[#logged + 1] = line
      end, "info")
   end)

   after_each(function()
      client.finish()
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

   -- What a session serves.
   local function served(options)
      local storage, found = new(options), {}
      assert(storage.lock("joe"))
      for id = 1, storage.stat("joe") do
         found[id] = handles.text(storage.get("joe", id))
         assert.equal(#store.wire(found[id]), storage.size("joe", id))
      end
      storage.unlock("joe")
      return found
   end

   describe("has in the file", function()
      -- what, message, what stands behind the From_ line, what is served (nil: the message) [, format]
      for _, case in ipairs {
         { "a message and a blank line", "S: 1\n\nx\n", "S: 1\n\nx\n\n" },
         { "a line end that was missing", "S: 1\n\nx", "S: 1\n\nx\n\n", "S: 1\n\nx\n" },
         { "CRLF line ends as they are", "S: 1\r\n\r\nx\r\n", "S: 1\r\n\r\nx\r\n\n" },
         { "NULs and octets above 127", "S: \0\n\n\0\255\195\n", "S: \0\n\n\0\255\195\n\n" },
         { "blank lines of a body", "S: 1\n\n\n\nx\n\n\n", "S: 1\n\n\n\nx\n\n\n\n" },
         { "a body that is empty", "S: 1\n\n", "S: 1\n\n\n" },
         { "a header that is empty", "\nx\n", "\nx\n\n" },
         { "a header alone, with a blank line", "S: 1\n", "S: 1\n\n", "S: 1\n\n" },
         { "a header alone without a line end", "S: 1", "S: 1\n\n", "S: 1\n\n" },
         { "a message that is empty", "", "\n", "\n" },
         { "no second From_ line", FROM .. "S: 1\n\nx\n", "S: 1\n\nx\n\n", "S: 1\n\nx\n" },
         { "a quote before one that comes second", FROM .. FROM .. "S: 1\n\nx\n", ">" .. FROM .. "S: 1\n\nx\n\n",
            ">" .. FROM .. "S: 1\n\nx\n" },
         { "a quote before one in a header", "S: 1\n" .. FROM .. "T: 2\n\nx\n", "S: 1\n>" .. FROM .. "T: 2\n\nx\n\n",
            "S: 1\n>" .. FROM .. "T: 2\n\nx\n", "mboxrd" },
         { "a quote in a header as it is", ">From x\nS: 1\n\nx\n", ">From x\nS: 1\n\nx\n\n", nil, "mboxrd" },
         { "mboxo's quotes", "S: 1\n\nFrom me\n>From you\nFrom\n From \nx From \n",
            "S: 1\n\n>From me\n>From you\nFrom\n From \nx From \n\n",
            "S: 1\n\n>From me\n>From you\nFrom\n From \nx From \n" },
         { "mboxrd's quotes, which are taken off", "S: 1\n\nFrom me\n>From you\n>>From him\n>\n> From \n",
            "S: 1\n\n>From me\n>>From you\n>>>From him\n>\n> From \n\n", nil, "mboxrd" },
         { "a quote in the body's last line", "S: 1\n\nFrom me", "S: 1\n\n>From me\n\n",
            "S: 1\n\nFrom me\n", "mboxrd" },
         { "quotes behind CRLF", "S: 1\r\n\r\nFrom me\r\n>From you\r\n",
            "S: 1\r\n\r\n>From me\r\n>>From you\r\n\n", nil, "mboxrd" },
         { "Content-Length that came along", "Content-Length: 7\n\nx\n", "Content-Length: 7\n\nx\n\n" },
         { "the octets of a body in mboxcl", "S: 1\n\nx\n\nFrom me", "S: 1\nContent-Length: 12\n\nx\n\n>From me\n\n",
            "S: 1\nContent-Length: 12\n\nx\n\n>From me\n", "mboxcl" },
         { "only that number of mboxcl", "Content-Length:\n\t7\nS: 1\nCONTENT-LENGTH : 9\nT: 2\n\nx\n",
            "S: 1\nT: 2\nContent-Length: 2\n\nx\n\n", "S: 1\nT: 2\nContent-Length: 2\n\nx\n", "mboxcl" },
         { "no body in mboxcl", "S: 1", "S: 1\nContent-Length: 0\n\n", "S: 1\nContent-Length: 0\n\n", "mboxcl" },
      } do
         it(case[1] .. (case[5] and " in " .. case[5] or ""), function()
            local storage = new { format = case[5] }
            assert.is_true(storage.deliver("joe", case[2]))
            assert.is_true(storage.deliver("joe", case[2]))
            local rest = files.text(path):match("^From MAILER%-DAEMON [^\n]*\n(.*)$")
            assert.equal(case[3], rest:sub(1, #case[3]))
            assert.matches("^From MAILER%-DAEMON ", rest:sub(#case[3] + 1))
            assert.equal(case[3], rest:sub(-#case[3]))
            assert.same({ case[4] or case[2], case[4] or case[2] }, served { format = case[5] })
         end)
      end

      it("what was served before, after mail came that is as long as a mailbox", function()
         local long = ("%s\n\n%s"):format(("F: 1\n"):rep(20000), ("0123456789abcdef\n"):rep(200000))
         local storage = new()
         assert.is_true(storage.deliver("joe", "S: 1\n\nx\n"))
         assert.is_true(storage.deliver("joe", long))
         assert.is_true(storage.deliver("joe", "S: 2\n\ny\n"))
         assert.is_true(("S: 1\n\nx\n" .. long .. "S: 2\n\ny\n") == table.concat(served()))
      end)

      -- what the first line of the message is, the sender in the From_ line
      for _, case in ipairs {
         { "Return-Path: <a@b.example>\n", "a@b.example" },
         { "Return-Path:<a@b>\r\n", "a@b" },
         { "Return-Path: <>\n", "MAILER-DAEMON" },
         { "Return-Path: \n<a@b>\n", "MAILER-DAEMON" },
         { "Subject: x\n", "MAILER-DAEMON" },
         { 'Return-Path: <"a b\t c"@d>\n', '"a-b-c"@d' },
         { "Return-Path: <" .. ("x"):rep(2000) .. ">\n", ("x"):rep(320) },
      } do
         it(("%s as the sender by %q"):format(case[2]:sub(1, 20), case[1]:sub(1, 30)), function()
            local text = mboxdelivery.text(case[1] .. "\nbody", "mboxo", 86400 * 58 + 3661)
            assert.equal("From " .. case[2] .. " Sat Feb 28 01:01:01 1970\n", text:match("^[^\n]*\n"))
            files.put(path, OLD .. text)
            assert.equal(2, #served())
         end)
      end

      it("the envelope that it is told", function()
         assert.is_true(new().deliver("joe", "S: 1\n\nx\n", { from = "a@b", to = "joe@c" }))
         assert.matches("^From a@b %u%l%l %u%l%l [ %d]%d %d%d:%d%d:%d%d %d%d%d%d\n"
            .. "Return%-Path: <a@b>\nDelivered%-To: joe@c\nS: 1\n\nx\n\n$", files.text(path))
      end)
   end)

   describe("begins a message of its own", function()
      -- what the file ends with, what is put between
      for _, case in ipairs {
         { "", "" }, { "\n", "\n" }, { "x", "\n\n" }, { "x\n", "\n" }, { "x\n\n", "" }, { "x\r\n", "\n" },
         { "x\r\n\r\n", "" }, { "x\n\n\n", "" }, { "\0", "\n\n" },
      } do
         it(("behind %q"):format(case[1]), function()
            local old = case[1]:find("%S") and FROM .. "S: 1\n\n" .. case[1] or case[1]
            files.put(path, old)
            assert.is_true(new().deliver("joe", "S: 2\n\ny\n"))
            local text = files.text(path)
            assert.equal(old .. case[2], text:sub(1, #old + #case[2]))
            assert.matches("^From %S+ [^\n]+\nS: 2\n\ny\n\n$", text:sub(#old + #case[2] + 1))
            assert.equal("S: 2\n\ny\n", table.remove(served()))
         end)
      end

      it("behind one that was cut off at any octet", function()
         local text = mboxdelivery.text("Return-Path: <c@d>\nS: 2\n\nFrom me\r\n\n\0y\n", "mboxo", 0)
         for n = 0, #text - 1 do
            files.put(path, OLD .. text:sub(1, n))
            assert.is_true(new().deliver("joe", "S: 3\n\nz\n"))
            assert.equal(OLD .. text:sub(1, n), files.text(path):sub(1, #OLD + n))
            local found = served()
            assert.equal("S: 3\n\nz\n", found[#found], n)
            assert.equal("Subject: old\n\nold\n", found[1]:sub(1, 18), n)
            if n == 0 or n >= #text:match("^[^\n]*") then -- before, nobody can tell it from the old one's text
               assert.equal("Subject: old\n\nold\n", found[1])
            end
         end
      end)
   end)

   describe("makes a file that is absent", function()
      it("for its owner alone, and the directories behind the first %", function()
         local storage = new { root = dir .. "/%d/mail/%n" }
         assert.is_true(storage.deliver("joe@example.org", "S: 1\n\nx\n"))
         assert.equal(tonumber("600", 8), fs.stat(dir .. "/example.org/mail/joe").mode)
         assert.equal(tonumber("700", 8), fs.stat(dir .. "/example.org").mode)
      end)

      it("but not the directory in front", function()
         for _, root in ipairs { dir .. "/absent/%s", dir .. "/absent/joe" } do
            local ok, why, sort = new { root = root }.deliver("joe", "x")
            assert.same({ nil, nil }, { ok, sort })
            assert.matches("No such file", why)
         end
         assert.same({}, fs.scandir(dir))
      end)

      it("while somebody has it locked, who does not see it", function()
         local storage = new { lock = { "fcntl" } }
         assert.is_true(storage.lock("joe"))
         assert.is_nil((storage.deliver("joe", "S: 1\n\nx\n")))
         assert.is_true(new({ lock = { "fcntl" } }).lock("joe") == false)
         assert.equal(0, storage.stat("joe"))
         storage.unlock("joe")
         assert.is_true(storage.deliver("joe", "S: 1\n\nx\n"))
         assert.same({ "S: 1\n\nx\n" }, served())
      end)
   end)

   it("serves popd.check, though a session keeps it out", function()
      for _, format in ipairs { "mboxo", "mboxrd" } do
         local storage = new { format = format }
         local ok, report = popd.check(storage, { mbox = format, put = function(name, text)
            return storage.deliver(name, text)
         end })
         assert.is_true(ok, tostring(report))
      end
   end)

   describe("refuses", function()
      -- what, mbox, sort, reason, what is there
      for _, case in ipairs {
         { "a name that leads out of the root", "../joe", "NOUSER", "no name" },
         { "a name whose file would be a lock", "joe.lock", "NOUSER", "lock" },
         { "a symbolic link", "joe", "CANTCREAT", "not a regular file", function()
            files.run("ln -s other %s", path)
         end },
         { "a symbolic link to a mailbox", "joe", "CANTCREAT", "not a regular file", function()
            files.put(dir .. "/other", OLD)
            files.run("ln -s other %s", path)
         end },
         { "a directory", "joe", "CANTCREAT", "not a regular file", function()
            files.run("mkdir %s", path)
         end },
         { "a FIFO", "joe", "CANTCREAT", "not a regular file", function()
            files.run("mkfifo %s", path)
         end },
         { "a name that is too long", ("x"):rep(300), "CANTCREAT", "too long" },
      } do
         it(case[1], function()
            if case[5] then
               case[5]()
            end
            local before = fs.scandir(dir)
            local ok, why, sort = new().deliver(case[2], "S: 1\n\nx\n")
            assert.same({ nil, case[3] }, { ok, sort }, why)
            assert.matches(case[4], why)
            assert.same(before, fs.scandir(dir))
         end)
      end

      it("a source that fails, and leaves nothing", function()
         local ok, why, sort = new().deliver("joe", function() error("no source", 0) end)
         assert.same({ nil, "no source", "NOINPUT" }, { ok, why, sort })
         assert.same({}, fs.scandir(dir))
      end)
   end)

   describe("into a mailbox that is locked", function()
      it("says by whom, and that it may work later", function()
         files.put(path, OLD)
         local other = files.other_process(([[
            local storage = require("popd.mbox").new { root = %q }
            say(storage.lock("joe"))
         ]]):format(dir .. "/%s"))
         local ok, why, sort = new { lock = { "dotlock" } }.deliver("joe", "S: 1\n\nx\n")
         other.stop()
         assert.same({ nil, nil }, { ok, sort })
         assert.matches("^" .. path .. ": it is locked by process %d+$", why)
         assert.equal(OLD, files.text(path))
         assert.is_true(new().deliver("joe", "S: 1\n\nx\n"))
      end)

      it("ends no idle session, whoever may take it over", function()
         files.put(path, OLD)
         local storage = new { lock = { "fcntl", "dotlock", take_over = 0 } }
         local c = client.login(client.server { auth = store.auth, storage = storage })
         assert.is_nil((storage.deliver("joe", "S: 1\n\nx\n")))
         assert.matches("^%+OK", c:command("NOOP"))
         assert.matches("^%+OK", c:command("QUIT"))
         assert.is_true(storage.deliver("joe", "S: 1\n\nx\n"))
      end)

      it("waits as it is told to, and comes behind what the session leaves", function()
         files.put(path, OLD .. FROM .. "S: 2\n\ny\n\n")
         local storage = new { lock = { "fcntl", "dotlock", wait = 30 } }
         local c = client.login(client.server { auth = store.auth, storage = storage })
         local result
         popd.spawn(function()
            result = { storage.deliver("joe", "S: 3\n\nz\n") }
         end)
         c:command("DELE 1")
         assert.is_nil(result)
         assert.matches("^%+OK", c:command("QUIT"))
         while not result do
            popd.step(1)
         end
         assert.same({ true }, result)
         assert.same({ "S: 2\n\ny\n", "S: 3\n\nz\n" }, served())
      end)
   end)

   describe("that fails", function()
      local function line_of()
         return files.lua(files.put(dir .. "/script.lua", ([[
            require("popd").log_to(function(_, line) print(line) end)
            local storage = require("popd.mbox").new { root = %q, lock = { "fcntl" } }
            print(storage.deliver("joe", "S: 1\n\n" .. ("x\n"):rep(100000)))
         ]]):format(dir .. "/%s")))
      end

      -- what, what strace injects, the reason, what was there
      for _, case in ipairs {
         { "for want of room", "pwrite64:error=ENOSPC:when=1", "No space left", OLD },
         { "by a disk's fault", "pwrite64:error=EIO:when=1", "Input/output error", OLD },
         { "when it is to be on the disk", "fsync:error=EIO:when=1", "Input/output error", OLD },
         { "when a new file's name is to be on the disk", "fsync:error=EIO:when=2", "Input/output error", "" },
      } do
         it(case[1] .. " leaves the file as it was", function()
            if not traced.works() then
               return pending("strace cannot be used here")
            end
            files.put(path, case[4])
            local ok, said = traced.run(case[2], line_of())
            assert.is_true(ok, said)
            assert.matches("^nil\t" .. path .. ": .*" .. case[3] .. "[^\n]*\n$", said)
            assert.equal(case[4], files.text(path))
            assert.is_true(new().deliver("joe", "S: 2\n\ny\n"))
            assert.equal("S: 2\n\ny\n", table.remove(served()))
         end)
      end

      it("and cannot be taken back is told in the log, and is nobody's end", function()
         if not traced.works() then
            return pending("strace cannot be used here")
         end
         files.put(path, OLD)
         local ok, said = traced.run("fsync,ftruncate:error=EIO", line_of())
         assert.is_true(ok, said)
         assert.matches("^[^\n]*could not be taken back[^\n]*\nnil\t", said)
         assert.equal(OLD, files.text(path):sub(1, #OLD))
         assert.is_true(new().deliver("joe", "S: 2\n\ny\n"))
         local found = served()
         assert.equal("Subject: old\n\nold\n", found[1])
         assert.equal("S: 2\n\ny\n", found[#found])
      end)
   end)

   it("first ends a deletion that was cut off", function()
      if not traced.works() then
         return pending("strace cannot be used here")
      end
      files.put(path, OLD .. FROM .. "S: 2\n\ny\n\n")
      local script = files.put(dir .. "/cut.lua", ([[
         local storage = require("popd.mbox").new { root = %q, lock = { "fcntl" } }
         assert(storage.lock("joe"))
         storage.dele("joe", { 1 })
      ]]):format(dir .. "/%s"))
      traced.run("pwrite64:error=EIO:when=3", files.lua(script)) -- the journal is there, nothing was copied back
      assert.is_truthy(files.exists(dir .. "/.joe.popd-journal"))
      assert.is_true(new().deliver("joe", "S: 3\n\nz\n"))
      assert.is_falsy(files.exists(dir .. "/.joe.popd-journal"))
      assert.same({ "S: 2\n\ny\n", "S: 3\n\nz\n" }, served())
   end)

   describe("in a callback", function()
      local LARGE = "S: 1\n\n" .. ("0123456789abcdef\n"):rep(2000000)

      it("lets others go on while it writes", function()
         local storage, turns, result = new(), 0, nil
         popd.spawn(function()
            result = { storage.deliver("joe", LARGE) }
         end)
         popd.spawn(function()
            while not result do
               client.turn()
               turns = turns + 1
            end
         end)
         while not result do
            popd.step(1)
         end
         assert.same({ true }, result)
         assert.is_true(turns > 3, turns)
         assert.equal(#LARGE, #served()[1])
      end)

      it("comes to its end whatever time the callback has", function()
         local storage = new { lock = { "dotlock" } }
         local server, s = store.server({}, { callback_timeout = 0.05 })
         function s.storage.dele()
            return storage.deliver("joe", LARGE)
         end
         s.messages[1] = "x"
         local c = client.login(server)
         c:command("DELE 1")
         assert.matches("^%-ERR", c:command("QUIT"))
         while files.exists(path .. ".lock") do
            popd.step(0.01)
         end
         assert.same({ "joe" }, (fs.scandir(dir)))
         assert.equal(#LARGE, #served()[1])
      end)
   end)
end)
