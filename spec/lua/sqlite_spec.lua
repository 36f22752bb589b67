local client = require("spec.support.client")
local files = require("spec.support.files")
local fs = require("popd.fs")
local popd = require("popd")
local scheme = require("popd.scheme")
local sqlite = require("popd.sqlite")

local has_driver = pcall(require, "luasql.sqlite3")

describe("popd.sqlite", function()
   if not has_driver then
      pending("LuaSQL's sqlite3 driver is not installed")
      return
   end

   local dir, file, store

   before_each(function()
      dir = files.new_dir()
      file = dir .. "/mail.db"
      store = sqlite.new { file = file, threads = 2 }
   end)

   after_each(function()
      client.finish()
      store = nil -- and its threads
      files.remove(dir)
   end)

   -- Runs a statement beside the store; the first value, or how many rows changed.
   local function query(sql, path)
      local env = require("luasql.sqlite3").sqlite3()
      local db = assert(env:connect(path or file))
      local result = assert(db:execute(sql))
      local value = result
      if type(result) == "userdata" then
         value = result:fetch()
         result:close()
      end
      db:close()
      env:close()
      return value
   end

   local function with_joe(...)
      assert(store.add("joe", "{PLAIN}secret"))
      for _, text in ipairs { ... } do
         assert(store.deliver("joe", text))
      end
   end

   local function serve(other)
      return client.server { auth = other or store, storage = other or store }
   end

   local function uids()
      assert.is_true(store.lock("joe"))
      local _, found = store.scan("joe")
      store.unlock("joe")
      return found
   end

   it("passes the check", function()
      with_joe()
      popd.log_to(nil, "none")
      local ok, report = popd.check(store, { mbox = "joe", put = function(mbox, text)
         assert(store.deliver(mbox, text))
      end })
      assert.is_true(ok, tostring(report))
   end)

   describe("mail", function()
      local octets = {}
      for i = 0, 255 do
         octets[i] = string.char(i)
      end
      local every = table.concat(octets, "", 0)

      -- what, message, octets as sent
      for _, case in ipairs {
         { "nothing at all", "", 0 },
         { "every octet, quotes and NULs", "'" .. every .. "''\n", 262 },
         { "8-bit text that is not UTF-8", "\xff\xfe\xe4'\n", 6 },
         { "just one piece", ("0123456789abcde\n"):rep(16384), 17 * 16384 },
         { "one octet more than a piece", ("0123456789abcde\n"):rep(16384) .. "x", 17 * 16384 + 3 },
         { "many pieces, with NULs in some", ("0123456789abcde\n"):rep(50000) .. every:rep(2000),
            17 * 50000 + (256 + 1) * 2000 + 2 },
      } do
         it("is served as it was delivered: " .. case[1], function()
            with_joe(case[2])
            local c = client.login(serve())
            assert.same({ ("1 %d"):format(case[3]) }, select(2, c:command("LIST")))
            c:send("RETR 1\r\n")
            assert.equal("+OK", c:line():sub(1, 3))
            local body = c:body()
            assert.equal(case[3], #body)
            local ended = case[2]:find("^$") or case[2]:find("\n$")
            assert.is_true((body:gsub("\r\n", "\n")) == (case[2] .. (ended and "" or "\n")):gsub("\r\n", "\n"))
         end)
      end

      it("is taken from any kind of message handle", function()
         local parts = { "a\n", "b\n" }
         with_joe(function()
            return table.remove(parts, 1)
         end, { headers = { Subject = "hi" }, body = "c\n" })
         assert.is_true(store.lock("joe"))
         assert.same({ 6, 18 }, (store.scan("joe")))
         assert.equal("a\nb\n", store.get("joe", 1))
      end)

      it("is not added in part when its source fails", function()
         with_joe()
         local said
         local ok, why, sort = store.deliver("joe", function()
            if said then
               return nil, "broken"
            end
            said = true
            return "a\n"
         end)
         assert.same({ nil, "broken", "NOINPUT" }, { ok, why, sort })
         assert.same({}, uids())
      end)

      it("has unique-ids that stay, and differ for equal messages", function()
         with_joe("a\n", "a\n", "a\n")
         local first = uids()
         assert.equal(3, #first)
         assert.is_true(first[1] ~= first[2] and first[2] ~= first[3] and first[1] ~= first[3])
         local again = sqlite.new { file = file, threads = 1 }
         assert.is_true(again.lock("joe"))
         assert.same(first, select(2, again.scan("joe")))
      end)

      it("comes in the order of delivery, page after page", function()
         with_joe()
         local list = {}
         for i = 1, 4500 do
            list[i] = { message = "\n", uid = ("%d"):format(i), time = 9999 - i }
         end
         assert.equal(4500, store.import("joe", list))
         for i, uid in ipairs(uids()) do
            assert.equal(tostring(i), uid)
         end
         assert.equal(4500, #uids())
      end)

      it("that comes during a session shows in the next one, and its deletion leaves it", function()
         with_joe("one\n", "two\n")
         local server = serve()
         local c = client.login(server)
         assert(store.deliver("joe", "three\n"))
         assert.equal("+OK 2 10", c:command("STAT"))
         c:command("DELE 1")
         c:command("DELE 2")
         assert(store.deliver("joe", "four\n"))
         assert.matches("^%+OK", c:command("QUIT"))
         c = client.login(server)
         assert.equal("three\r\n", c:fetch("RETR 1"))
         assert.equal("four\r\n", c:fetch("RETR 2"))
         assert.equal("+OK 2 13", c:command("STAT"))
      end)

      it("that somebody else removed is gone for that message alone", function()
         with_joe("one\n", "two\n")
         local c = client.login(serve())
         query("DELETE FROM mail WHERE number = 1")
         assert.equal("-ERR", c:command("RETR 1"):sub(1, 4))
         assert.equal("two\r\n", c:fetch("RETR 2"))
      end)

      it("never ends as if it were whole when the rest was deleted", function()
         with_joe(("0123456789abcde\n"):rep(100000))
         local c = client.login(serve())
         query("DELETE FROM pieces WHERE id > 1 << 20")
         c:send("RETR 1\r\n")
         local _, rest = c:closed()
         assert.is_nil(rest:find("\r\n.\r\n", 1, true))
      end)
   end)

   describe("a deletion", function()
      it("removes what is marked, pieces and all", function()
         with_joe(("x\n"):rep(300000), "two\n")
         local server = serve()
         local c = client.login(server)
         c:command("DELE 1")
         assert.matches("^%+OK", c:command("QUIT"))
         assert.equal(1, math.tointeger(query("SELECT count(*) FROM mail")))
         assert.equal(1, math.tointeger(query("SELECT count(*) FROM pieces")))
         assert.equal("two\r\n", client.login(server):fetch("RETR 1"))
      end)

      it("removes nothing when a part of it fails", function()
         with_joe("one\n", "two\n")
         query("CREATE TRIGGER keep BEFORE DELETE ON mail WHEN old.number = 2 BEGIN SELECT RAISE(ABORT, 'kept'); END")
         local c = client.login(serve())
         c:command("DELE 1")
         c:command("DELE 2")
         assert.equal("-ERR [SYS/TEMP]", c:command("QUIT"):sub(1, 15))
         assert.equal(2, math.tointeger(query("SELECT count(*) FROM mail")))
         assert.equal(2, math.tointeger(query("SELECT count(*) FROM pieces")))
         assert.equal(1, #client.logged("mail%.db: .*kept"))
      end)

      it("of thousands removes just these", function()
         with_joe()
         local list, ids = {}, {}
         for i = 1, 3000 do
            list[i] = { message = "\n", uid = ("%d"):format(i) }
            ids[#ids + 1] = i % 2 == 0 and i or nil
         end
         store.import("joe", list)
         assert.is_true(store.lock("joe"))
         store.scan("joe")
         assert.is_true(store.dele("joe", ids))
         store.unlock("joe")
         local found = uids()
         assert.equal(1500, #found)
         assert.same({ "1", "3", "2999" }, { found[1], found[2], found[1500] })
      end)
   end)

   describe("a lock", function()
      it("keeps out sessions of this store, of another, and of another process", function()
         with_joe()
         client.login(serve())
         local c = client.connect(serve(sqlite.new { file = file, threads = 1 }))
         c:command("USER joe")
         assert.equal("-ERR [IN-USE]", c:command("PASS secret"):sub(1, 13))
         local other = files.other_process(([[
            say(tostring(require("popd.sqlite").new({ file = %q }).lock("joe")))
         ]]):format(file))
         assert.equal("false", other.said)
         other.stop()
      end)

      it("of a process that was killed is free once the lease has run out", function()
         with_joe("one\n")
         local other = files.other_process(([[
            say(require("popd.sqlite").new({ file = %q, lease = 3600 }).lock("joe"))
         ]]):format(file))
         assert.equal("true", other.said)
         other.kill()
         assert.is_false(store.lock("joe"))
         query("UPDATE leases SET ends = ends - 3601")
         assert.is_true(store.lock("joe"))
      end)

      it("is prolonged by renew", function()
         with_joe()
         assert.is_true(store.lock("joe"))
         query("UPDATE leases SET ends = 5")
         assert.is_true(store.renew("joe"))
         assert.is_true(math.tointeger(query("SELECT ends FROM leases")) >= os.time() + 59)
      end)

      it("that ran out and was taken over lets its former owner delete nothing, nor give it back", function()
         with_joe("one\n", "two\n")
         local server = serve()
         local late = client.login(server)
         query("UPDATE leases SET ends = 0")
         local next_one = client.login(server)
         late:command("DELE 1")
         assert.equal("-ERR [SYS/TEMP]", late:command("QUIT"):sub(1, 15))
         assert.equal("+OK 2 10", next_one:command("STAT"))
         assert.equal(1, math.tointeger(query("SELECT count(*) FROM leases")))
      end)

      it("is given back at a session's end", function()
         with_joe()
         local server = serve()
         for _ = 1, 3 do
            assert.matches("^%+OK", client.login(server):command("QUIT"))
         end
         assert.equal(0, math.tointeger(query("SELECT count(*) FROM leases")))
      end)

      it("of one session is no other's, although lookups and deliveries go on", function()
         with_joe()
         assert(store.add("ann", "{PLAIN}open"))
         local server = serve()
         local joe, ann = client.login(server), client.login(server, "ann", "open")
         assert(store.deliver("joe", "one\n"))
         joe:command("QUIT")
         assert.equal("+OK 0 0", ann:command("STAT"))
         assert.equal(1, math.tointeger(query("SELECT count(*) FROM leases")))
      end)
   end)

   describe("users", function()
      it("log in by what popd.scheme makes", function()
         assert.is_true(store.add("joe", scheme.make("SCRAM-SHA-256", "secret", { iterations = 4096 })))
         local c = client.connect(serve())
         c:command("USER joe")
         assert.equal("-ERR [AUTH]", c:command("PASS wrong"):sub(1, 11))
         c:command("USER joe")
         assert.matches("^%+OK", c:command("PASS secret"))
         assert.equal("scram", store.secrets)
      end)

      it("are added once, changed, listed and removed with their mail", function()
         with_joe("one\n")
         assert.is_true(store.add("ann", "{PLAIN}open"))
         assert.same({ nil, "there is a user 'joe' already" }, { store.add("joe", "{PLAIN}x") })
         assert.is_true(store.password("joe", "{PLAIN}new"))
         assert.same({ "{PLAIN}new", "joe" }, { store.lookup("joe") })
         assert.same({ "ann", "joe" }, store.users())
         assert.is_true(store.remove("joe"))
         assert.same({ "ann" }, store.users())
         assert.is_nil(store.lookup("joe"))
         assert.equal(0, math.tointeger(query("SELECT count(*) FROM pieces")))
      end)

      it("that are not there cannot be changed, removed or delivered to", function()
         with_joe()
         assert.same({ nil, "there is no user 'ann'" }, { store.password("ann", "{PLAIN}x") })
         assert.same({ nil, "there is no user 'ann'" }, { store.remove("ann") })
         assert.same({ nil, "there is no user 'ann'", "NOUSER" }, { store.deliver("ann", "x") })
      end)

      it("are not removed while a session is open", function()
         with_joe("one\n")
         assert.is_true(store.lock("joe"))
         assert.same({ nil, "maildrop 'joe' is locked" }, { store.remove("joe") })
         store.unlock("joe")
         assert.is_true(store.remove("joe"))
      end)

      it("may have names with quotes, which stay names", function()
         with_joe()
         assert.is_nil(store.lookup("x' OR 'a'='a"))
         assert.is_true(store.add("o'neil'); DROP TABLE users; --", "{PLAIN}x"))
         assert.same({ "joe", "o'neil'); DROP TABLE users; --" }, store.users())
      end)

      for _, case in ipairs { { "secret", "stored password" }, { "{NONE}x", "cannot be used" } } do
         it("have no password such as " .. case[1], function()
            local ok, why = pcall(function()
               store.add("joe", case[1])
            end)
            assert.is_false(ok)
            assert.is_truthy(why:find(case[2], 1, true), why)
         end)
      end
   end)

   describe("the file", function()
      it("is its owner's alone, and has a write-ahead log", function()
         with_joe()
         assert.equal(tonumber("600", 8), fs.stat(file).mode)
         assert.equal("wal", query("PRAGMA journal_mode"))
      end)

      it("is not opened before it is needed", function()
         assert.is_nil((fs.stat(file)))
      end)

      local function refused(reason)
         local before = files.text(file)
         local ok, why = store.users()
         assert.is_nil(ok)
         assert.is_truthy(why:find(file .. ": ", 1, true) == 1 and why:find(reason, 1, true), why)
         assert.is_nil(why:find("\n"))
         assert.equal(before, files.text(file))
      end

      it("of a newer version is left alone", function()
         assert(sqlite.new({ file = file, threads = 1 }).users())
         query("PRAGMA user_version = 2")
         refused("a newer popd-lua made it (version 2; this one knows 1)")
      end)

      it("of another program is left alone", function()
         query("CREATE TABLE x (y)")
         refused("it is another program's database")
      end)

      it("that is no database is left alone", function()
         files.put(file, ("no database\n"):rep(100))
         refused("not a database")
      end)

      it("that is damaged is a fault, and other mail is served", function()
         with_joe(("a\n"):rep(50000), "two\n")
         query("PRAGMA wal_checkpoint(TRUNCATE)")
         assert.is_true(store.lock("joe"))
         store.scan("joe")
         -- The message's octets hang on a chain of pages; one of them now leads nowhere.
         local text = files.text(file)
         local page = text:find(("a\n"):rep(1000), 1, true) // 4096 + 2
         store.unlock("joe")
         files.put(file, text:sub(1, page * 4096) .. ("\255"):rep(4096) .. text:sub(page * 4096 + 4097))
         local c = client.login(serve(sqlite.new { file = file, threads = 1 }))
         assert.equal("-ERR [SYS/TEMP]", c:command("RETR 1"):sub(1, 15))
         assert.equal("two\r\n", c:fetch("RETR 2"))
         assert.equal(1, #client.logged("mail%.db: .*malformed"))
      end)

      it("in no directory is a fault that says so", function()
         local other = sqlite.new { file = dir .. "/absent/mail.db", threads = 1 }
         local ok, why = other.users()
         assert.is_nil(ok)
         assert.is_truthy(why:find("unable to open", 1, true), why)
      end)

      it("is made once by many at a time", function()
         local stores, done = {}, 0
         for i = 1, 6 do
            stores[i] = sqlite.new { file = file, threads = 1 }
         end
         for i, one in ipairs(stores) do
            popd.spawn(function()
               assert(one.add("u" .. i, "{PLAIN}x"))
               done = done + 1
            end)
         end
         client.wait_for("all to be added", function()
            return done == 6
         end)
         assert.equal(6, #store.users())
      end)
   end)

   describe("new", function()
      it("says what to install where the driver is missing", function()
         local before = package.cpath
         finally(function()
            package.cpath = before
         end)
         package.cpath = before:match("[^;]*/build[^;]*") or before:match("[^;]+")
         local ok, why = pcall(function()
            return sqlite.new { file = file }, nil
         end)
         assert.is_false(ok)
         assert.matches("sqlite_spec.lua:%d+: popd.sqlite needs LuaSQL's driver", why)
      end)

      for _, case in ipairs {
         { nil, "a table of options" }, { {}, "a table of options" }, { { file = "" }, "path of a file" },
         { { file = "a", size = 1 }, "unknown option 'size'; there are: file, lease, secrets, threads" },
         { { file = "a", threads = 65 }, "an integer from 1 to 64" }, { { file = "a", lease = 0 }, "whole number" },
         { { file = ":memory:" }, "path of a file" },
      } do
         it("raises: " .. case[2], function()
            local ok, why = pcall(sqlite.new, case[1])
            assert.is_false(ok)
            assert.is_truthy(why:find(case[2], 1, true), why)
         end)
      end
   end)
end)
