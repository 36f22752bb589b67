local files = require("spec.support.files")
local program = require("spec.support.program")

describe("the example", function()
   local dir, server

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      if server then
         server:stop()
         server = nil
      end
      files.remove(dir)
   end)

   local function path(name)
      return dir .. "/" .. name
   end

   --- Starts it; a function that connects to it.
   local function start(name, ...)
      server = program.start(program.popd_lua(), "examples/" .. name, ...)
      local port = server:port()
      return function()
         return program.connect(port)
      end
   end

   describe("ten_lines.lua", function()
      it("serves its message", function()
         local c = start("ten_lines.lua", 0)()
         assert.equal("+OK", c:login("joe", "secret"):sub(1, 3))
         assert.equal("From: ann@example.org\r\nSubject: hello\r\n\r\nYour first message.\r\n", c:fetch(1))
      end)

      it("refuses who is not its user", function()
         local c = start("ten_lines.lua", 0)()
         assert.equal("-ERR [AUTH]", c:login("eve", "secret"):sub(1, 11))
      end)

      it("has ten lines", function()
         local lines = 0
         for line in io.lines("examples/ten_lines.lua") do
            lines = lines + (line:find("^%-%-") and 0 or 1)
         end
         assert.is_true(lines <= 10, lines .. " lines")
      end)
   end)

   describe("maildir.lua", function()
      local connect

      before_each(function()
         files.run("mkdir -p %s %s", path("joe/new"), path("example.org/ann/cur"))
         files.put(path("joe/new/1.a.host"), "Subject: joe's\n\n.x\n")
         files.put(path("example.org/ann/cur/2.b.host:2,S"), "Subject: ann's\n\nno end")
         files.put(path("users"), "joe:secret\nann@example.org:{PLAIN}hush:ann@example.org\n")
         connect = start("maildir.lua", dir, path("users"), 0)
      end)

      local cases = {
         { "joe",             "secret", "1.a.host", "Subject: joe's\r\n\r\n.x\r\n" },
         { "ann@example.org", "hush",   "2.b.host", "Subject: ann's\r\n\r\nno end\r\n" },
      }

      for _, case in ipairs(cases) do
         local user, password, uid, message = table.unpack(case)
         it("serves the Maildir of " .. user, function()
            local c = connect()
            c:login(user, password)
            assert.equal(("+OK 1 %d"):format(#message), c:say("STAT"))
            assert.equal("+OK 1 " .. uid, c:say("UIDL 1"))
            assert.equal(message, c:fetch(1))
         end)
      end

      it("deletes at QUIT", function()
         local c = connect()
         c:login("joe", "secret")
         c:say("DELE 1")
         assert.is_true(files.exists(path("joe/new/1.a.host")))
         assert.equal("+OK", c:say("QUIT"):sub(1, 3))
         assert.is_false(files.exists(path("joe/new/1.a.host")))
      end)

      it("takes users that were added to the file", function()
         files.put(path("users"), "joe:secret\ntom:cat\n")
         assert.equal("+OK", connect():login("tom", "cat"):sub(1, 3))
      end)

      it("says in CAPA that mail does not expire", function()
         assert.is_truthy(table.concat(connect():multi("CAPA"), "\n"):find("EXPIRE NEVER", 1, true))
      end)
   end)

   describe("feed.lua", function()
      local connect, feed

      before_each(function()
         feed = path("feed.txt")
         files.put(feed, files.text("examples/feed.txt"))
         connect = start("feed.lua", feed, 0)
      end)

      local function login(user)
         local c = connect()
         assert.equal("+OK", c:login(user, "news"):sub(1, 3))
         return c
      end

      it("makes a message of every entry, with the entry's id", function()
         assert.same({ "1 2026-001", "2 2026-002", "3 2026-003" }, login("ann"):multi("UIDL"))
      end)

      it("tells sizes that are the octets it sends", function()
         local c = login("ann")
         local sum = 0
         for id = 1, 3 do
            local size = tonumber(c:say("LIST " .. id):match("^%+OK %d+ (%d+)"))
            assert.equal(size, #c:fetch(id))
            sum = sum + size
         end
         assert.equal("+OK 3 " .. sum, c:say("STAT"))
      end)

      it("composes headers and text", function()
         local text = login("ann"):fetch(2)
         assert.is_truthy(text:find("\r\nSubject: Grüße\r\n", 1, true))
         assert.is_truthy(text:find("\r\n\r\nText may hold anything:\r\n.a dot at a line's start,\r\n.\r\n", 1, true))
      end)

      it("shows a new entry at the next login, not in a session that is open", function()
         local before = login("ann")
         files.put(feed, files.text(feed) .. "--\nid: new\ntitle: New\n\ntext\n")
         assert.equal("+OK 3", before:say("STAT"):sub(1, 5))
         assert.equal("+OK 4 new", login("joe"):say("UIDL 4"))
      end)

      it("does not show again what a reader deleted, and shows it to the others", function()
         local c = login("ann")
         c:say("DELE 1", "DELE 2", "QUIT")
         assert.same({ "1 2026-003" }, login("ann"):multi("UIDL"))
         assert.equal("+OK 3", login("joe"):say("STAT"):sub(1, 5))
      end)

      it("answers with a fault while the feed cannot be read, and recovers", function()
         os.rename(feed, path("away"))
         local c = connect()
         assert.equal("-ERR [SYS/TEMP]", c:login("ann", "news"):sub(1, 15))
         os.rename(path("away"), feed)
         assert.equal("+OK", c:login("ann", "news"):sub(1, 3))
      end)
   end)

   describe("sqlite.lua", function()
      local has_driver = pcall(require, "luasql.sqlite3")

      local function database(name, f)
         it(name, function()
            if not has_driver then
               return pending("LuaSQL's sqlite3 driver is not installed")
            end
            f()
         end)
      end

      local function query(sql)
         local env = require("luasql.sqlite3").sqlite3()
         local db = env:connect(path("mail.db"))
         local result = assert(db:execute(sql))
         local value = type(result) == "userdata" and result:fetch() or result
         if type(result) == "userdata" then
            result:close()
         end
         db:close()
         env:close()
         return value
      end

      database("serves messages octet for octet", function()
         local c = start("sqlite.lua", path("mail.db"), 0)()
         c:login("joe", "secret")
         assert.same({ "1 36", "2 41" }, c:multi("LIST"))
         assert.equal("Subject: one\r\n\r\nFrom the database.\r\n", c:fetch(1))
         assert.equal("Subject: two\r\n\r\n.a dot, and no line end\r\n", c:fetch(2))
      end)

      database("keeps what is deleted in the mail of the user trash", function()
         local connect = start("sqlite.lua", path("mail.db"), 0)
         local c = connect()
         c:login("joe", "secret")
         assert.equal("+OK", c:say("DELE 2", "QUIT"):sub(1, 3))
         c = connect()
         c:login("trash", "old mail")
         assert.equal("Delivered-To: joe\r\nSubject: two\r\n\r\n.a dot, and no line end\r\n", c:fetch(1))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         c = connect()
         c:login("joe", "secret")
         assert.equal("+OK 1 36", c:say("STAT"))
         assert.equal(1, math.tointeger(query("SELECT count(*) FROM mail")))
      end)

      database("removes nothing when one deletion fails", function()
         local connect = start("sqlite.lua", path("mail.db"), 0)
         query("CREATE TRIGGER keep BEFORE DELETE ON mail WHEN old.number = 2 BEGIN SELECT RAISE(ABORT, 'kept'); END")
         local c = connect()
         c:login("joe", "secret")
         assert.equal("-ERR [SYS/TEMP]", c:say("DELE 1", "DELE 2", "QUIT"):sub(1, 15))
         c = connect()
         c:login("joe", "secret")
         assert.equal("+OK 2 77", c:say("STAT"))
      end)

      database("keeps a second session out, also one of another process", function()
         local connect = start("sqlite.lua", path("mail.db"), 0)
         connect():login("joe", "secret")
         assert.equal("-ERR [IN-USE]", connect():login("joe", "secret"):sub(1, 13))
         local first = server
         local other = start("sqlite.lua", path("mail.db"), 0)
         finally(function()
            first:stop()
         end)
         assert.equal("-ERR [IN-USE]", other():login("joe", "secret"):sub(1, 13))
      end)
   end)

   describe("tcl_style.lua", function()
      it("serves, excludes and deletes through one function", function()
         local connect = start("tcl_style.lua", 0)
         local c = connect()
         assert.equal("+OK", c:login("joe", "secret"):sub(1, 3))
         assert.equal("+OK 2 47", c:say("STAT"))
         assert.equal("Subject: second\r\n\r\ntwo\r\n", c:fetch(2))
         assert.equal("-ERR [IN-USE]", connect():login("joe", "secret"):sub(1, 13))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         c = connect()
         c:login("joe", "secret")
         assert.equal("Subject: second\r\n\r\ntwo\r\n", c:fetch(1))
      end)
   end)

   describe("hooks.lua", function()
      local function site(seconds)
         files.run("mkdir -p %s", path("joe/new"))
         files.put(path("joe/new/1.a"), "Subject: a\n\na\n")
         files.put(path("joe/new/2.b"), "Subject: b\n\nb\n")
         files.put(path("users"), "joe:secret\n")
         return start("hooks.lua", dir, path("users"), 0, seconds)
      end

      it("sends a new address away, again and again until its time has come", function()
         local connect = site(3600)
         assert.equal("-ERR [SYS/TEMP] your address is new here", connect().greeting:sub(1, 40))
         assert.equal("-ERR [SYS/TEMP]", connect().greeting:sub(1, 15))
      end)

      it("lets it in then", function()
         local connect = site(0)
         local first = connect().greeting
         assert.equal("+OK", first:sub(1, 3))
      end)

      it("moves what is deleted to the trash", function()
         local c = site(0)()
         c:login("joe", "secret")
         assert.equal("+OK 0 messages in the trash", select(2, c:multi("XTRASH")))
         assert.equal("+OK", c:say("DELE 2", "QUIT"):sub(1, 3))
         assert.is_false(files.exists(path("joe/new/2.b")))
         assert.equal("Subject: b\n\nb\n", files.text(path("joe/Trash/2.b")))
         assert.is_true(files.exists(path("joe/new/1.a")))
      end)

      it("lists the trash, and tells of it in CAPA", function()
         local connect = site(0)
         local c = connect()
         c:login("joe", "secret")
         c:say("DELE 1", "DELE 2", "QUIT")
         c = connect()
         assert.is_truthy(table.concat(c:multi("CAPA"), " "):find("XTRASH", 1, true))
         c:login("joe", "secret")
         local lines, first = c:multi("XTRASH")
         assert.equal("+OK 2 messages in the trash", first)
         assert.same({ "1.a", "2.b" }, lines)
      end)
   end)

   describe("tls_login.lua", function()
      local core = require("popd.core")
      local key = ("k"):rep(32)
      local plain, tls

      -- What an example's user does: fetches a message, or nil.
      local function fetch(port)
         local status, said = program.run { "curl", "--silent", "--max-time", "20", "--cacert", path("cert.pem"),
            "--ssl-reqd", "--user", "joe:secret",
            (port == tls and "pop3s" or "pop3") .. "://localhost:" .. port .. "/1" }
         return status == 0 and said or nil
      end

      -- Comes with a token; what reads the reply to it.
      local function bear(bearer)
         local first = core.base64("n,a=joe,\1auth=Bearer " .. bearer .. "\1\1")
         local pipe = assert(io.popen(([[printf '%%s\r\n' 'AUTH OAUTHBEARER %s' '*' QUIT |
            timeout 20 openssl s_client -quiet -connect localhost:%d 2>/dev/null]]):format(first, tls)))
         return function()
            local said = pipe:read("a")
            pipe:close()
            return said:match("\n([^\r\n]*)")
         end
      end

      local function token(name, ends)
         local seal = core.hmac("SHA-256", key, name .. "." .. ends)
         return ("%s.%s.%s"):format(core.base64(name), ends, core.base64(seal))
      end

      before_each(function()
         files.run("mkdir -p %s", path("mail/joe/new"))
         files.put(path("mail/joe/new/1.a"), "Subject: a\n\na\n")
         files.put(path("users"), "joe:secret\n")
         files.put(path("token.key"), key)
         program.run({ program.path() }, "cert", "--out", dir, "localhost")
         server = program.start(program.popd_lua(), "examples/tls_login.lua", dir, 0, 0)
         plain, tls = server:port(), server:port()
      end)

      it("takes no password in the clear", function()
         local c = program.connect(plain)
         assert.is_truthy(c:say("USER joe"):find("say STLS first", 1, true))
      end)

      it("takes it by STLS and over TLS", function()
         for _, port in ipairs { plain, tls } do
            assert.equal("Subject: a\r\n\r\na\r\n", fetch(port))
         end
      end)

      it("takes a good token", function()
         assert.equal("+OK 1 messages", bear(token("joe", "9999999999"))():sub(1, 14))
      end)

      -- At once, since the answers are late by intent.
      it("refuses other tokens", function()
         local wrong = {
            over = token("joe", "1"), altered = token("joe", "1"):gsub("%.1%.", ".9999999999."),
            another = token("eve", "9999999999"), none = "secret",
         }
         local replies = {}
         for what, bearer in pairs(wrong) do
            replies[what] = bear(bearer)
         end
         for what, reply in pairs(replies) do
            assert.equal("+ ", reply():sub(1, 2), what)
         end
      end)

      -- Begins a login and gives it up, which costs no delay but is a try.
      local function try()
         local c = program.connect(plain)
         local reply = c:say("AUTH SCRAM-SHA-256 " .. core.base64("n,,n=joe,r=nonce"))
         if reply:sub(1, 1) == "+" then
            c:say("*")
         end
         c:close()
         return reply
      end

      it("lets an address try ten times, over however many connections", function()
         for _ = 1, 10 do
            assert.equal("+ ", try():sub(1, 2))
         end
         assert.equal("-ERR [SYS/TEMP] too many tries", try():sub(1, 30))
      end)

      it("does not count a try that turned out well", function()
         for _ = 1, 9 do
            try()
         end
         for _ = 1, 3 do
            assert.is_string(fetch(tls))
         end
         assert.equal("+ ", try():sub(1, 2))
      end)
   end)

   describe("demo.lua", function()
      it("makes a Maildir and serves it to the user demo", function()
         local c = start("demo.lua", path("demo"), 0)()
         assert.equal("+OK", c:login("demo", "demo"):sub(1, 3))
         local uids = c:multi("UIDL")
         assert.is_true(#uids > 0)
         for id in ipairs(uids) do
            local size = tonumber(c:say("LIST " .. id):match("^%+OK %d+ (%d+)"))
            assert.equal(size, #c:fetch(id))
         end
      end)
   end)

   describe("of README.md", function()
      before_each(function()
         local blocks = {}
         for text in files.text("README.md"):gmatch("\n```lua\n(.-)```\n") do
            blocks[#blocks + 1] = text
         end
         files.put(path("store.lua"), blocks[1])
         files.put(path("server.lua"), (blocks[2]:gsub("port = %d+", "port = 0"):gsub('"store.lua"',
            ("%q"):format(path("store.lua")))))
      end)

      it("serves and deletes as it stands there", function()
         server = program.start(program.popd_lua(), path("server.lua"))
         local port = server:port()
         local c = program.connect(port)
         c:login("joe", "secret")
         assert.equal("Subject: hi\r\n\r\nhello\r\n", c:fetch(1))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         c = program.connect(port)
         c:login("joe", "secret")
         assert.equal("+OK 0 0", c:say("STAT"))
      end)

      it("passes the check", function()
         local status, out = program.run({ program.path() }, "check", path("store.lua"))
         assert.equal(0, status, out)
         assert.is_nil(out:find("FAIL", 1, true), out)
      end)
   end)

   describe("of docs/guide.md", function()
      local core = require("popd.core")

      local function answer(text)
         return core.base64(text)
      end

      it("logs in by a mechanism of one's own", function()
         local text = files.text("docs/guide.md"):match("\n```lua\n(mechanisms = .-)```\n")
         files.put(path("server.lua"), ([[
            local pins = { joe = "1234" }
            require("popd").new({ port = 0, auth = { %s } }):up()]]):format(text))
         server = program.start(program.popd_lua(), path("server.lua"))
         local port = server:port()
         local c = program.connect(port)
         assert.same({ "X-PIN" }, c:multi("AUTH"))
         assert.equal("+ " .. answer("name"), c:say("AUTH X-PIN"))
         assert.equal("+ " .. answer("PIN"), c:say(answer("joe")))
         assert.equal("+OK", c:say(answer("1234")):sub(1, 3))
         c = program.connect(port)
         assert.equal("+ " .. answer("PIN"), c:say("AUTH X-PIN " .. answer("joe")))
         assert.equal("-ERR [AUTH]", c:say(answer("4321")):sub(1, 11))
      end)

      it("makes and verifies a stored password", function()
         local text = files.text("docs/guide.md"):match("\n```lua\n(local stored = .-)```\n")
         files.put(path("stored.lua"), 'local popd = require("popd")\n' .. text)
         assert.equal(0, (program.run(program.popd_lua(), path("stored.lua"))))
      end)
   end)
end)
