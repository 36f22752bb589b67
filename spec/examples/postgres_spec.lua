local popd = require("popd")
local postgres = require("spec.support.postgres")
local program = require("spec.support.program")

describe("the example postgres.lua", function()
   local missing = postgres.missing()
   local server, database
   local programs = {}

   lazy_setup(function()
      if not missing then
         server = postgres.new()
         server:start()
      end
   end)

   lazy_teardown(function()
      if server then
         server:remove()
      end
   end)

   after_each(function()
      for _, one in ipairs(programs) do
         one:stop()
      end
      programs = {}
   end)

   --- A spec with a database of its own.
   local function it_with_database(name, f)
      it(name, function()
         if missing then
            return pending(missing)
         end
         database = server:database()
         f()
      end)
   end

   --- Starts the example: a function that connects to it, and its process.
   local function start(dir)
      local words = program.popd_lua()
      local script = "examples/postgres.lua"
      if dir then
         local here = os.getenv("PWD")
         words = { "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", dir, table.unpack(words) }
         script = here .. "/" .. script
      end
      local one = program.start(words, script, database, 0)
      programs[#programs + 1] = one
      local port = one:port()
      return function()
         return program.connect(port)
      end, one
   end

   local function login(connect)
      local c = connect()
      local reply = c:login("joe", "secret")
      assert.equal("+OK", reply:sub(1, 3), reply)
      return c
   end

   local function query(sql)
      return server:query(database, sql)
   end

   local function refused(connect)
      return connect():login("joe", "secret"):sub(1, 13) == "-ERR [IN-USE]"
   end

   it_with_database("serves messages octet for octet", function()
      local c = login(start())
      assert.same({ "1 1", "2 2" }, c:multi("UIDL"))
      assert.same({ "1 36", "2 41" }, c:multi("LIST"))
      assert.equal("Subject: one\r\n\r\nFrom the database.\r\n", c:fetch(1))
      assert.equal("Subject: two\r\n\r\n.a dot, and no line end\r\n", c:fetch(2))
   end)

   it_with_database("finds its module from any working directory", function()
      local c = login(start("/"))
      assert.equal("+OK 2 77", c:say("STAT"))
   end)

   it_with_database("serves octets of every value", function()
      local connect = start()
      login(connect):say("QUIT")
      local octets = {}
      for value = 0, 255 do
         octets[#octets + 1] = (value == 10 or value == 13) and "" or string.char(value)
      end
      local message = "Subject: octets\r\n\r\n" .. table.concat(octets) .. "\r\n"
      query(("INSERT INTO mail (owner, octets, message) SELECT id, %d, '\\x%s' FROM users"):format(#message,
         message:gsub(".", function(octet) return ("%02x"):format(octet:byte()) end)))
      assert.equal(message, login(connect):fetch(3))
   end)

   it_with_database("takes names with quotes, and what is no text, as names", function()
      local connect = start()
      for _, name in ipairs { "joe'OR'a'='a", "joe\\", "jo\xffe", "%s%d" } do
         assert.equal("-ERR [AUTH]", connect():login(name, "secret"):sub(1, 11), name)
      end
      login(connect):say("QUIT")
      query("INSERT INTO users (name, password) VALUES ('o''neill', 'it''s')")
      assert.equal("+OK", connect():login("o'neill", "it's"):sub(1, 3))
   end)

   it_with_database("keeps a second session out, whichever thread has the first one", function()
      local connect = start()
      local first = login(connect)
      for _ = 1, 10 do
         assert.is_true(refused(connect))
      end
      assert.equal("+OK 2 77", first:say("STAT"))
      first:say("QUIT")
      login(connect)
   end)

   it_with_database("keeps out a second session of another program, until the first one ends or is killed", function()
      local one, first = start()
      local other = start()
      local c = login(one)
      assert.is_true(refused(other))
      c:say("QUIT")
      c = login(other)
      assert.is_true(refused(one))
      c:say("QUIT")
      c = login(one)
      assert.is_true(refused(other))
      first:stop() -- a SIGKILL
      c:close()
      local n = 0
      while refused(other) do -- until the database has seen its connection's end
         n = n + 1
         assert.is_true(n < 10000, "the lock outlives its program")
      end
   end)

   it_with_database("deletes in the database, and gives no number again", function()
      local connect = start()
      assert.equal("+OK", login(connect):say("DELE 2", "QUIT"):sub(1, 3))
      assert.equal("1", query("SELECT count(*) FROM mail"))
      query("INSERT INTO mail (owner, octets, message) SELECT id, 2, '\\x0d0a' FROM users")
      assert.same({ "1 1", "2 3" }, login(connect):multi("UIDL"))
   end)

   it_with_database("deletes all or nothing", function()
      local connect = start()
      login(connect):say("QUIT")
      query("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'kept'; END $$")
      query("CREATE TRIGGER keep BEFORE DELETE ON mail FOR EACH ROW WHEN (old.number = 2) EXECUTE FUNCTION keep()")
      assert.equal("-ERR [SYS/TEMP]", login(connect):say("DELE 1", "DELE 2", "QUIT"):sub(1, 15))
      assert.equal("2", query("SELECT count(*) FROM mail"))
      assert.equal("+OK", login(connect):say("DELE 1", "QUIT"):sub(1, 3))
      assert.equal("1", query("SELECT count(*) FROM mail"))
   end)

   it_with_database("answers the others while one query waits", function()
      local connect = start()
      login(connect):say("QUIT")
      query("INSERT INTO users (name, password) VALUES ('ann', 'open')")
      local slow, quick = login(connect), connect()
      assert.equal("+OK", quick:login("ann", "open"):sub(1, 3))
      local db = server:connect(database)
      db.query("BEGIN")
      db.query("LOCK TABLE mail")
      assert(slow.socket:send("RETR 1\r\n"))
      local function waiting()
         return db.query("SELECT count(*) FROM pg_locks WHERE relation = 'mail'::regclass AND NOT granted")
      end
      local limit = os.time() + 20
      while waiting() ~= "1" and os.time() < limit do
         assert.equal("+OK", quick:say("NOOP"):sub(1, 3))
      end
      for _ = 1, 50 do
         assert.equal("+OK", quick:say("NOOP"):sub(1, 3))
      end
      assert.equal("1", waiting())
      slow.socket:settimeout(0)
      assert.equal("timeout", (select(2, slow.socket:receive("*l"))))
      slow.socket:settimeout(30)
      db.query("COMMIT")
      db.close()
      assert.equal("+OK", slow:line():sub(1, 3))
   end)

   it_with_database("goes on when the database comes back, without a word to who logs in then", function()
      local connect = start()
      login(connect):say("QUIT")
      for _ = 1, 2 do
         server:restart()
         for _ = 1, 10 do -- more than threads
            login(connect):say("QUIT")
         end
      end
   end)

   it_with_database("deletes nothing in a session whose lock went with the database", function()
      local connect, other = start(), start()
      local late = login(connect)
      server:restart()
      local next_one = login(other)
      assert.equal("-ERR [SYS/TEMP]", late:say("DELE 1", "QUIT"):sub(1, 15))
      assert.equal("+OK 2 77", next_one:say("STAT"))
      assert.is_true(refused(connect))
      assert.equal("2", query("SELECT count(*) FROM mail"))
   end)

   it_with_database("passes popd.check", function()
      local before, path = arg, package.path
      rawset(_G, "arg", { database })
      package.path = "examples/?.lua;" .. path
      local store = popd.thread("postgres_store", { threads = 2 })
      rawset(_G, "arg", before)
      package.path = path
      popd.log_to(nil, "none")
      local _, mbox = store.lookup("joe")
      local ok, report = popd.check(store, { mbox = mbox, destructive = true })
      assert.is_true(ok, tostring(report))
   end)

   it_with_database("starts without the database, and says so to who logs in", function()
      server:stop()
      local ok, why = pcall(function()
         local connect = start()
         assert.equal("-ERR [SYS/TEMP]", connect():login("joe", "secret"):sub(1, 15))
         server:start()
         login(connect)
      end)
      pcall(server.start, server)
      assert(ok, why)
   end)
end)
