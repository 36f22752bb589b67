local files = require("spec.support.files")
local fs = require("popd.fs")
local maildir = require("popd.maildir")
local program = require("spec.support.program")

local has_driver = pcall(require, "luasql.sqlite3")

describe("popd-lua import and export", function()
   if not has_driver then
      pending("LuaSQL's sqlite3 driver is not installed")
      return
   end

   local dir, store

   before_each(function()
      dir = files.new_dir()
      files.run("mkdir -p %s %s %s", dir .. "/in/new", dir .. "/in/cur", dir .. "/in/tmp")
      store = require("popd.sqlite").new { file = dir .. "/mail.db", threads = 1 }
      assert(store.add("joe", "{PLAIN}secret"))
   end)

   after_each(function()
      store = nil -- and its thread
      files.remove(dir)
   end)

   local function run(command, ...)
      local words = { program.path(), command }
      table.move(files.as_oneself(), 1, 2, 3, words)
      return program.run(words, "--store", "sqlite:" .. dir .. "/mail.db", ...)
   end

   -- Behind the path, the user and flags.
   local function moves(moved, known, command, path, user, ...)
      local words = table.pack(...)
      words[#words + 1], words[#words + 2] = user or "joe", dir .. path
      local status, out, err = run(command, table.unpack(words))
      assert.same({ 0, ("%d moved, %d were there already\n"):format(moved, known), "" }, { status, out, err })
   end

   local function put(name, text)
      return files.put(dir .. "/in/" .. name, text)
   end

   -- A few of each kind.
   local function fill()
      put("new/1700000003.c.host", "three\n")
      put("cur/1700000001.a.host,S=4,W=5:2,FRS", "one\n")
      put("cur/1700000002.b.host:2,", "two\r\n'\0\255")
      put("cur/odd name", "odd\n")
      put("new/" .. ("1700000004." .. ("x"):rep(80)), ("large\n"):rep(100000))
      put("tmp/1700000005.tmp.host", "half")
   end

   local function octets_of(handle)
      if type(handle) == "table" then
         return files.text(handle.path)
      elseif type(handle) == "string" then
         return handle
      end
      local parts = {}
      for part in handle do
         parts[#parts + 1] = part
      end
      return table.concat(parts)
   end

   -- What a session sees: unique-id and octets of each message.
   local function seen(storage)
      assert.is_true(storage.lock("joe"))
      local _, uids = storage.scan("joe")
      local list = {}
      for i, uid in ipairs(uids) do
         list[i] = { uid, octets_of(storage.get("joe", i)) }
      end
      storage.unlock("joe")
      return list
   end

   -- Without printing large messages.
   local function is_same(wanted, found)
      local short = {}
      for i, list in ipairs { wanted, found } do
         short[i] = {}
         for n, one in ipairs(list) do
            short[i][n] = one[1] .. " " .. fs.sha256(one[2])
         end
      end
      assert.same(short[1], short[2])
   end

   local function in_maildir(path)
      return seen(maildir.new { root = dir .. path, lock = dir .. "/lock" })
   end

   it("show the same messages by the same unique-ids in the same order", function()
      fill()
      moves(5, 0, "import", "/in")
      is_same(in_maildir("/in"), seen(store))
      moves(5, 0, "export", "/out")
      is_same(in_maildir("/in"), in_maildir("/out"))
   end)

   local UIDLIST = "3 V1700000000 N10 Gaa\n7 :1700000001.a.host,S=4,W=5\n9 :1700000003.c.host\n"

   it("take over the unique-ids that another server told", function()
      fill()
      put("dovecot-uidlist", UIDLIST)
      moves(5, 0, "import", "/in", "joe", "--uidl", "dovecot:%u-%v")
      local wanted = seen(maildir.new { root = dir .. "/in", lock = dir .. "/lock", uidl = "dovecot:%u-%v" })
      is_same(wanted, seen(store))
      assert.equal("7-1700000000", wanted[1][1])
      moves(5, 0, "export", "/out")
      local exported = {}
      for _, one in ipairs(in_maildir("/out")) do
         exported[one[1]] = one[2]
      end
      for _, one in ipairs(wanted) do
         assert.equal(one[2], exported[one[1]], one[1])
      end
      moves(0, 5, "import", "/in", "joe", "--uidl", "dovecot:%u-%v")
   end)

   it("tell of messages whose unique-id another message has", function()
      put("cur/1:2,", "one\n")
      put("cur/2:2,", "two\n")
      moves(2, 0, "import", "/in")
      put("cur/1:2,", "of another Maildir\n")
      put("cur/3:2,", "three\n")
      local status, out, err = run("import", "joe", dir .. "/in")
      assert.same({ 1, "1 moved, 1 were there already\n" }, { status, out })
      assert.equal("popd-lua: import: 1: another message of this user has that unique-id\n", err)
      is_same({ { "1", "one\n" }, { "2", "two\n" }, { "3", "three\n" } }, seen(store))
   end)

   it("leave the Maildir as it was", function()
      fill()
      put("dovecot-uidlist", UIDLIST)
      files.run("touch -d @1 %s", put("tmp/1600000000.old.host", "old"))
      local most = 1100 -- an index is worth while
      for i = 1, most do
         put(("cur/17000000%d.n.host:2,"):format(10 + i), "one\n")
      end
      local function listed()
         local pipe = assert(io.popen(("cd %s && find . -type f -printf '%%p %%T@ %%s\\n' | sort"):format(
            files.quote(dir .. "/in"))))
         local text = pipe:read("a")
         pipe:close()
         return text
      end
      local before = listed()
      moves(5 + most, 0, "import", "/in")
      moves(0, 5 + most, "import", "/in", "joe", "--uidl", "name")
      moves(2, 3 + most, "import", "/in", "joe", "--uidl", "dovecot:%v-%u-%f")
      assert.equal(before, listed())
   end)

   it("keep flags, and what was not seen yet", function()
      fill()
      moves(5, 0, "import", "/in")
      moves(5, 0, "export", "/out")
      assert.equal("one\n", files.text(dir .. "/out/cur/1700000001.a.host,S=4,W=5:2,FRS"))
      assert.equal("three\n", files.text(dir .. "/out/new/1700000003.c.host"))
      assert.equal("odd\n", files.text(dir .. "/out/cur/odd name:2,"))
   end)

   it("keep the time of delivery where a name tells it, else the file's", function()
      fill()
      files.run("touch -d @1600000000 %s", dir .. "/in/cur/odd name")
      moves(5, 0, "import", "/in")
      local times = {}
      for one in store.export("joe", {}) do
         times[one.message:sub(1, 3)] = one.time
      end
      assert.same({ one = 1700000001, two = 1700000002, thr = 1700000003, lar = 1700000004, odd = 1600000000 }, times)
   end)

   it("do nothing twice, and add what has come since", function()
      fill()
      moves(5, 0, "import", "/in")
      moves(0, 5, "import", "/in")
      put("new/1700000006.d.host", "new\n")
      files.run("mv %s %s", dir .. "/in/new/1700000003.c.host", dir .. "/in/cur/1700000003.c.host:2,S")
      moves(1, 5, "import", "/in")
      moves(6, 0, "export", "/out")
      moves(0, 6, "export", "/out")
      assert(store.deliver("joe", "own\n"))
      moves(1, 6, "export", "/out")
      assert.equal(7, #in_maildir("/out"))
   end)

   it("do not bring back what was deleted in the store", function()
      fill()
      moves(5, 0, "import", "/in")
      assert.is_true(store.lock("joe"))
      store.scan("joe")
      assert.is_true(store.dele("joe", { 1, 2 }))
      store.unlock("joe")
      moves(0, 5, "import", "/in")
      assert.equal(3, #seen(store))
   end)

   it("take what the store made itself back by its unique-id", function()
      assert(store.deliver("joe", "own\n"))
      moves(1, 0, "export", "/out")
      assert.same(seen(store), in_maildir("/out"))
      moves(0, 1, "import", "/out")
   end)

   it("take and make a Maildir whose path has a percent sign", function()
      files.run("mv %s %s", dir .. "/in", dir .. "/100%s")
      files.put(dir .. "/100%s/new/1.a", "a\n")
      moves(1, 0, "import", "/100%s")
      moves(1, 0, "export", "/out%n")
      assert.equal("a\n", files.text(dir .. "/out%n/new/1.a"))
   end)

   it("keep two messages of one name apart", function()
      put("new/1700000001.a.host", "one\n")
      put("cur/1700000001.a.host:2,S", "two\n")
      moves(2, 0, "import", "/in")
      assert.same(in_maildir("/in"), seen(store))
   end)

   it("name a message that cannot be read, and move the others", function()
      local drop = files.unprivileged()
      if not drop then
         return pending("nobody can be become here")
      end
      put("new/1700000001.a.host", "one\n")
      files.run("chmod 0 %s", put("new/1700000002.b.host", "two\n"))
      files.run("chmod 777 %s && chmod 666 %s/mail.db*", dir, dir)
      local words = { "sh", "-c", "exec " .. drop .. '"$@"', "sh", program.path(), "import" }
      local status, out, err = program.run(words, "--store", "sqlite:" .. dir .. "/mail.db", "joe", dir .. "/in")
      assert.same({ 1, "1 moved, 0 were there already\n" }, { status, out })
      assert.matches("b%.host: Permission denied\n$", err)
      assert.equal(1, #seen(store))
   end)

   describe("refuse", function()
      -- what, status, words, what is said
      for _, case in ipairs {
         { "a user who is not there", 1, { "ann", "/in" }, "there is no user 'ann'" },
         { "a Maildir that is not there", 1, { "joe", "/absent" }, "No such file" },
         { "too few words", 2, { "joe" }, "a user and a Maildir expected" },
         { "a style that there is not", 2, { "--uidl=new", "joe", "/in" }, "--uidl: unknown style 'new'" },
         { "a format that Dovecot has not", 2, { "--uidl=dovecot:%q", "joe", "/in" }, "'%q' is not known" },
      } do
         it(case[1], function()
            local words = {}
            for i, word in ipairs(case[3]) do
               words[i] = word:gsub("^/", dir .. "/")
            end
            local status, out, err = run("import", table.unpack(words))
            assert.same({ case[2], "" }, { status, out })
            assert.is_truthy(err:find(case[4], 1, true), err)
         end)
      end

      it("a style of unique-ids for an export", function()
         local status, _, err = run("export", "--uidl", "dovecot", "joe", dir .. "/out")
         assert.equal(2, status)
         assert.is_truthy(err:find("--uidl goes with import", 1, true), err)
      end)

      it("a store of another kind", function()
         local status, _, err = program.run({ program.path() }, "export", "--store", "maildir:/x", "joe", dir)
         assert.equal(2, status)
         assert.is_truthy(err:find("sqlite:FILE is what there is", 1, true), err)
      end)

      it("to go on when the disk is full, and have nothing half", function()
         fill()
         local words = { "sh", "-c", 'ulimit -f 200; exec "$@"', "sh", program.path(), "export" }
         table.move(files.as_oneself(), 1, 2, #words + 1, words)
         moves(5, 0, "import", "/in")
         local status, _, err = program.run(words, "--store", "sqlite:" .. dir .. "/mail.db", "joe", dir .. "/out")
         assert.equal(1, status)
         assert.is_truthy(err:find("File too large", 1, true), err)
         assert.same({}, fs.scandir(dir .. "/out/tmp"))
         moves(2, 3, "export", "/out")
         is_same(in_maildir("/in"), in_maildir("/out"))
      end)
   end)
end)
