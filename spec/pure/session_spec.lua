local session = require("popd.testing").session

--- A session before its login.
local function fresh(config)
   return session.new(config or {})
end

--- A session of ann's, with messages of these sizes and the unique-ids u1, u2, …
local function entered(sizes, config)
   local s = fresh(config)
   s:line("USER ann")
   s:line("PASS secret")
   s:opened(#sizes)
   for number, octets in ipairs(sizes) do
      s:maildrop():set_octets(number, octets)
      s:maildrop():set_uid(number, "u" .. number)
   end
   return s
end

--- Sends a line; the whole reply, also of several pieces.
local function say(s, line, room)
   local need, reply = s:line(line)
   while need == "more" do
      local more
      need, more = s:more(room or 4096)
      reply = reply .. more
   end
   return reply, need
end

describe("a session's greeting", function()
   it("is +OK", function()
      assert.same({ "line", "+OK POP3 server ready\r\n" }, { fresh():greet() })
   end)

   it("ends with the stamp where APOP is offered", function()
      assert.same({ "line", "+OK POP3 server ready <1.2@host>\r\n" }, { fresh():greet("<1.2@host>") })
   end)
end)

describe("a session in AUTHORIZATION", function()
   it("asks who it is after USER and PASS", function()
      local s = fresh()
      local need, reply = s:line("USER ann")
      assert.equal("line", need)
      assert.matches("^%+OK[^\r]*\r\n$", reply)
      assert.same({ "login", "" }, { s:line("PASS a secret ") })
      local info = s:info()
      assert.same({ "user", "ann", "a secret ", "authorization" }, { info.kind, info.name, info.secret, info.state })
   end)

   it("says nothing of the name to USER", function()
      assert.is_nil(say(fresh(), "USER ann"):find("ann", 1, true))
   end)

   it("asks who it is after APOP, if it was offered", function()
      local s = fresh()
      s:greet("<1@x>")
      assert.equal("login", (s:line("APOP ann 00112233")))
      local info = s:info()
      assert.same({ "apop", "ann", "00112233" }, { info.kind, info.name, info.secret })
   end)

   it("does not know APOP where it was not offered", function()
      local s = fresh()
      s:greet()
      assert.equal("-ERR unknown command\r\n", say(s, "APOP ann 00112233"))
   end)

   it("enters, and tells how many messages there are", function()
      local s = fresh()
      s:line("USER ann")
      s:line("PASS secret")
      assert.same({ "line", "+OK 2 messages (320 octets)\r\n" }, { s:opened(2, 320) })
      local info = s:info()
      assert.equal("transaction", info.state)
      assert.is_nil(info.secret)
   end)

   it("does not tell octets that it does not know", function()
      local s = fresh()
      s:line("USER ann")
      s:line("PASS secret")
      assert.same({ "line", "+OK 2 messages\r\n" }, { s:opened(2) })
   end)

   it("stays where a login is refused", function()
      local s = fresh()
      s:line("USER ann")
      s:line("PASS wrong")
      assert.same({ "line", "-ERR [AUTH] no\r\n" }, { s:refused("AUTH", "no") })
      local info = s:info()
      assert.same({ "authorization", 1 }, { info.state, info.failures })
      assert.is_nil(info.secret)
      assert.matches("^%-ERR", say(s, "PASS again"))
   end)

   it("closes after as many refused logins as there may be", function()
      local s = fresh { max_failures = 3 }
      local expected = { need = "line", reply = "-ERR [AUTH] no\r\n" }
      for i = 1, 3 do
         if i == 3 then
            expected = { need = "close", reply = "-ERR [AUTH] no; too many failed logins, closing the connection\r\n" }
         end
         s:line("USER ann")
         assert.equal("login", (s:line("PASS wrong")))
         local need, reply = s:refused("AUTH", "no")
         assert.same(expected, { need = need, reply = reply })
      end
   end)

   it("does not count a refusal that is no wrong secret", function()
      local s = fresh { max_failures = 1 }
      s:line("USER ann")
      s:line("PASS secret")
      assert.same({ "line", "-ERR [IN-USE] locked\r\n" }, { s:refused("IN-USE", "locked", false) })
      assert.equal(0, s:info().failures)
   end)

   it("never closes for refused logins where there is no limit", function()
      local s = fresh()
      for _ = 1, 50 do
         s:line("USER ann")
         s:line("PASS wrong")
         assert.equal("line", (s:refused("AUTH", "no")))
      end
   end)

   -- RFC 1939, section 7: PASS only directly behind USER
   for _, between in ipairs { "NOOP", "CAPA", "STAT", "XYZZY", "USER", "PASS", "PASS \0", "", "LIST 0", "QUIT 1" } do
      it(("forgets the name where %q stands between USER and PASS"):format(between), function()
         local s = fresh()
         s:line("USER ann")
         s:line(between)
         local need, reply = s:line("PASS secret")
         assert.equal("line", need)
         assert.matches("^%-ERR .*USER", reply)
      end)
   end

   it("forgets the name where a too long line stands between USER and PASS", function()
      local s = fresh()
      s:line("USER ann")
      s:too_long()
      assert.equal("line", (s:line("PASS secret")))
   end)

   it("takes the last of several names", function()
      local s = fresh()
      s:line("USER ann")
      s:line("USER bob")
      assert.equal("login", (s:line("PASS x")))
      assert.equal("bob", s:info().name)
   end)

   it("takes no password, and tells no USER, where it may not come as it is", function()
      local s = fresh()
      s:no_plain()
      assert.matches("^%-ERR .*encryption[^\r\n]*\r\n$", say(s, "USER ann"))
      assert.matches("^%-ERR", say(s, "PASS secret"))
      assert.is_nil(say(s, "CAPA"):find("\nUSER", 1, true))
   end)

   it("takes APOP where a password may not come as it is", function()
      local s = fresh()
      s:no_plain()
      s:greet("<1@x>")
      assert.equal("login", (s:line("APOP ann 0123")))
   end)

   it("refuses PASS where nobody said USER", function()
      assert.same({ "line", "-ERR say USER and your name directly before PASS\r\n" }, { fresh():line("PASS x") })
   end)

   for _, line in ipairs { "STAT", "LIST", "LIST 1", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 1", "UIDL" } do
      it(("says what to do first, to %s"):format(line), function()
         assert.same({ "line", "-ERR log in first\r\n" }, { fresh():line(line) })
      end)
   end

   it("closes at QUIT, and has nothing to update", function()
      local s = fresh()
      assert.same({ "close", "+OK bye\r\n" }, { s:line("QUIT") })
      assert.equal("authorization", s:info().state)
   end)
end)

describe("a session in TRANSACTION", function()
   for _, line in ipairs { "USER bob", "PASS x" } do
      it(("refuses another login, %s"):format(line), function()
         assert.same({ "line", "-ERR already logged in\r\n" }, { entered({}):line(line) })
      end)
   end

   it("refuses another login, APOP", function()
      local s = entered {}
      s:greet("<1@x>")
      assert.same({ "line", "-ERR already logged in\r\n" }, { s:line("APOP ann 0123") })
   end)

   -- with messages of 120, 200 and 0 octets, the second marked
   -- what the client says   what it reads
   local cases = {
      { "STAT",              "+OK 2 120\r\n" },
      { "LIST",              "+OK 2 messages (120 octets)\r\n1 120\r\n3 0\r\n.\r\n" },
      { "LIST 1",            "+OK 1 120\r\n" },
      { "LIST 3",            "+OK 3 0\r\n" },
      { "LIST 2",            "-ERR no such message\r\n" },
      { "LIST 4",            "-ERR no such message\r\n" },
      { "LIST 0",            "-ERR no such message\r\n" },
      { "LIST 18446744073709551617", "-ERR no such message\r\n" },
      { "LIST 4294967297",   "-ERR no such message\r\n" },
      { "UIDL",              "+OK\r\n1 u1\r\n3 u3\r\n.\r\n" },
      { "UIDL 3",            "+OK 3 u3\r\n" },
      { "UIDL 2",            "-ERR no such message\r\n" },
      { "UIDL 4",            "-ERR no such message\r\n" },
      { "RETR 2",            "-ERR no such message\r\n" },
      { "RETR 4",            "-ERR no such message\r\n" },
      { "TOP 2 0",           "-ERR no such message\r\n" },
      { "TOP 4 0",           "-ERR no such message\r\n" },
      { "DELE 2",            "-ERR no such message\r\n" },
      { "DELE 4",            "-ERR no such message\r\n" },
      { "DELE 3",            "+OK message 3 marked\r\n" },
      { "NOOP",              "+OK\r\n" },
      { "RSET",              "+OK 3 messages (320 octets)\r\n" },
      { "LAST",              "-ERR unknown command\r\n" },
   }

   for _, case in ipairs(cases) do
      local line, reply = case[1], case[2]
      it(("answers %s with %q"):format(line, reply), function()
         local s = entered { 120, 200, 0 }
         s:line("DELE 2")
         assert.same({ reply, "line" }, { say(s, line) })
      end)
   end

   it("lists an empty maildrop", function()
      assert.equal("+OK 0 messages (0 octets)\r\n.\r\n", say(entered {}, "LIST"))
      assert.equal("+OK\r\n.\r\n", say(entered {}, "UIDL"))
      assert.equal("+OK 0 0\r\n", say(entered {}, "STAT"))
   end)

   it("sends a message, its octets first", function()
      local s = entered { 120, 200 }
      assert.same({ "message", "" }, { s:line("RETR 2") })
      assert.equal(2, s:info().number)
      assert.equal("+OK 200 octets\r\n", (select(2, s:sending())))
      assert.equal("line", (s:done()))
   end)

   it("sends the top of a message without knowing its size", function()
      local s = fresh()
      s:line("USER ann")
      s:line("PASS x")
      s:opened(1)
      assert.same({ "message", "" }, { s:line("TOP 1 7") })
      assert.same({ 1, 7 }, { s:info().number, s:info().lines })
      assert.equal("+OK\r\n", (select(2, s:sending())))
      assert.equal("line", (s:done()))
   end)

   it("answers for a message that cannot be had", function()
      local s = entered { 120 }
      s:line("RETR 1")
      assert.same({ "line", "-ERR [SYS/TEMP] gone\r\n" }, { s:answer(false, "SYS/TEMP", "gone") })
      assert.equal("+OK 1 120\r\n", say(s, "STAT"))
   end)

   it("keeps marked messages from being read, listed or counted until RSET", function()
      local s = entered { 10, 20 }
      s:line("DELE 1")
      assert.equal("+OK 1 20\r\n", say(s, "STAT"))
      assert.equal("+OK 1 messages (20 octets)\r\n2 20\r\n.\r\n", say(s, "LIST"))
      assert.matches("^%-ERR", say(s, "RETR 1"))
      say(s, "RSET")
      assert.equal("+OK 2 30\r\n", say(s, "STAT"))
      assert.equal("message", (s:line("RETR 1")))
   end)

   it("refuses DELE where the storage cannot delete", function()
      local s = entered { 10 }
      s:no_dele()
      assert.matches("^%-ERR", say(s, "DELE 1"))
      assert.equal("+OK 1 10\r\n", say(s, "STAT"))
   end)

   it("tells lists in pieces of about the room there is", function()
      local sizes = {}
      for i = 1, 500 do
         sizes[i] = i
      end
      local s = entered(sizes)
      for _, line in ipairs { "LIST", "UIDL" } do
         local whole = say(s, line)
         for _, room in ipairs { 0, 1, 50, 1000 } do
            assert.equal(whole, (say(s, line, room)))
            local need = s:line(line)
            while need == "more" do
               local reply
               need, reply = s:more(room)
               assert.is_true(#reply <= room + 100)
            end
         end
         assert.equal(502, select(2, whole:gsub("\r\n", "")))
      end
   end)

   it("goes on with a list of which every message is marked", function()
      local s = entered { 1, 2 }
      say(s, "DELE 1")
      say(s, "DELE 2")
      assert.equal("+OK 0 messages (0 octets)\r\n.\r\n", say(s, "LIST", 1))
   end)
end)

describe("a session whose sizes are not known", function()
   local function unsized(count, total)
      local s = fresh()
      s:line("USER ann")
      s:line("PASS x")
      s:opened(count, total)
      return s, s:maildrop()
   end

   for _, line in ipairs { "STAT", "LIST" } do
      it(("needs every size for %s"):format(line), function()
         local s, m = unsized(2)
         assert.same({ "octets", "" }, { s:line(line) })
         assert.equal(0, s:info().number)
         m:set_octets(1, 5)
         m:set_octets(2, 6)
         local need, reply = s:resume()
         assert.matches(line == "STAT" and "^%+OK 2 11\r\n$" or "^%+OK 2 messages %(11 octets%)\r\n$", reply)
         assert.equal(line == "STAT" and "line" or "more", need)
      end)
   end

   it("needs none for STAT where the total was told", function()
      assert.equal("+OK 2 99\r\n", say(unsized(2, 99), "STAT"))
   end)

   it("needs every size for LIST, also where the total was told", function()
      assert.equal("octets", (unsized(2, 99):line("LIST")))
   end)

   it("needs one size for LIST with a number", function()
      local s, m = unsized(2)
      assert.equal("octets", (s:line("LIST 2")))
      assert.equal(2, s:info().number)
      m:set_octets(2, 6)
      assert.same({ "line", "+OK 2 6\r\n" }, { s:resume() })
   end)

   it("needs one size for RETR, then the message", function()
      local s, m = unsized(2)
      assert.equal("octets", (s:line("RETR 2")))
      assert.equal(2, s:info().number)
      m:set_octets(2, 6)
      assert.same({ "message", "" }, { s:resume() })
      assert.equal(2, s:info().number)
      assert.equal("+OK 6 octets\r\n", (select(2, s:sending())))
   end)

   it("needs one size for DELE where the total is told, to keep it right", function()
      local s, m = unsized(2, 99)
      assert.equal("octets", (s:line("DELE 2")))
      assert.is_true(m:has(2))
      m:set_octets(2, 9)
      assert.same({ "line", "+OK message 2 marked\r\n" }, { s:resume() })
      assert.equal("+OK 1 90\r\n", say(s, "STAT"))
   end)

   it("needs none for DELE where no total is told", function()
      local s = unsized(2)
      assert.equal("+OK message 1 marked\r\n", say(s, "DELE 1"))
      assert.equal("octets", (s:line("STAT")))
   end)

   it("needs no size of a message that there is not", function()
      for _, line in ipairs { "LIST 3", "RETR 3", "DELE 3" } do
         assert.equal("-ERR no such message\r\n", say(unsized(2), line))
      end
   end)

   it("needs every unique-id for UIDL, one for UIDL with a number", function()
      local s, m = unsized(2)
      assert.equal("uids", (s:line("UIDL 2")))
      assert.equal(2, s:info().number)
      m:set_uid(2, "b")
      assert.same({ "line", "+OK 2 b\r\n" }, { s:resume() })
      assert.equal("uids", (s:line("UIDL")))
      assert.equal(0, s:info().number)
      m:set_uid(1, "a")
      assert.same({ "more", "+OK\r\n" }, { s:resume() })
      assert.same({ "line", "1 a\r\n2 b\r\n.\r\n" }, { s:more(4096) })
   end)

   it("does not ask a second time for what was not set", function()
      for _, line in ipairs { "STAT", "LIST", "LIST 1", "RETR 1", "UIDL", "UIDL 1" } do
         local s = unsized(1)
         s:line(line)
         local need, reply = s:resume()
         assert.equal("line", need)
         assert.matches("^%-ERR %[SYS/TEMP%]", reply)
      end
   end)

   it("answers for sizes that cannot be had", function()
      local s = unsized(1)
      s:line("STAT")
      assert.same({ "line", "-ERR [SYS/TEMP] later\r\n" }, { s:answer(false, "SYS/TEMP", "later") })
      assert.equal("octets", (s:line("STAT")))
   end)
end)

describe("a session in UPDATE", function()
   it("comes from QUIT, also where nothing is marked, and says +OK only when it is done", function()
      local s = entered { 1 }
      assert.same({ "update", "" }, { s:line("QUIT") })
      assert.equal("update", s:info().state)
      assert.same({ "close", "+OK bye\r\n" }, { s:updated() })
   end)

   it("says what failed", function()
      local s = entered { 1 }
      s:line("DELE 1")
      s:line("QUIT")
      assert.equal(1, s:maildrop():next_marked())
      assert.same({ "close", "-ERR [SYS/TEMP] some deleted messages not removed\r\n" },
         { s:updated("some deleted messages not removed") })
   end)

   it("runs no command", function()
      for _, line in ipairs { "NOOP", "RSET", "DELE 1", "QUIT", "XYZZY", "CAPA" } do
         local s = entered { 1, 2 }
         s:line("DELE 2")
         s:line("QUIT")
         assert.same({ "close", "" }, { s:line(line) })
         assert.same({ "close", "" }, { s:too_long() })
         assert.equal(2, s:maildrop():next_marked())
      end
   end)
end)

describe("a session's bad commands", function()
   for _, line in ipairs { "XYZZY", "", "STAT 1", "RETR x", "NOOP\0", "STAT", "PASS x" } do
      it(("close it after as many in a row as there may be: %q"):format(line), function()
         local s = fresh { max_bad_commands = 3 }
         for i = 1, 3 do
            local need, reply = s:line(line)
            assert.equal(i < 3 and "line" or "close", need)
            assert.matches("^%-ERR [^\r\n]+\r\n$", reply)
            assert.equal(i == 3, reply:find("too many bad commands", 1, true) ~= nil)
         end
      end)
   end

   it("are too long lines, too", function()
      local s = fresh { max_bad_commands = 2 }
      assert.same({ "line", "-ERR the line is too long\r\n" }, { s:too_long() })
      assert.equal("close", (s:too_long()))
   end)

   it("are forgiven by a good one", function()
      local s = entered({ 1 }, { max_bad_commands = 2 })
      for _, line in ipairs { "NOOP", "RETR 1", "RETR 9", "LIST", "CAPA" } do
         assert.equal("line", (s:line("XYZZY")))
         s:line(line)
         assert.equal(0, s:info().bad)
      end
   end)

   it("never close it where there is no limit", function()
      local s = fresh()
      for _ = 1, 300 do
         assert.same({ "line", "-ERR unknown command\r\n" }, { s:line("XYZZY") })
      end
   end)
end)

describe("a session's own commands", function()
   it("are unknown where the site has none", function()
      assert.equal("-ERR unknown command\r\n", say(fresh(), "XCOUNT a b"))
   end)

   it("are asked for, with their arguments", function()
      local s = fresh { commands = true }
      assert.same({ "command", "" }, { s:line("XCOUNT a b ") })
      local info = s:info()
      assert.same({ "OTHER", "a b" }, { info.verb, info.args })
      assert.same({ "line", "+OK 3\r\n" }, { s:answer(true, nil, "3") })
   end)

   it("count as bad where they turn out unknown, and as good where not", function()
      local s = fresh { commands = true, max_bad_commands = 2 }
      s:line("XONE")
      assert.same({ "line", "-ERR unknown command\r\n" }, { s:unknown() })
      s:line("XTWO")
      assert.equal(1, s:info().bad)
      s:answer(false, nil, "not now")
      assert.equal(0, s:info().bad)
      s:line("XONE")
      s:unknown()
      s:line("XTWO")
      s:done()
      assert.equal(0, s:info().bad)
      s:line("XONE")
      s:unknown()
      s:line("XONE")
      assert.equal("close", (s:unknown()))
   end)

   it("take a built-in's place, with arguments of their own", function()
      local s = entered({ 1 }, { own = { "STAT", "RETR" } })
      assert.equal("command", (s:line("STAT now")))
      assert.equal("now", s:info().args)
      assert.equal("command", (s:line("RETR x y")))
      assert.equal("-ERR NUL octets are not allowed\r\n", say(s, "RETR \0"))
      assert.equal("command", (fresh { own = { "STAT" } }:line("STAT")))
   end)

   it("get no line that is no command", function()
      local s = fresh { commands = true }
      for _, line in ipairs { "", " x", "X\0", "X \0" } do
         assert.matches("^%-ERR", say(s, line))
      end
   end)

   it("cannot answer with protocol", function()
      local s = fresh { commands = true }
      s:line("X")
      assert.equal("+OK a??-ERR b\r\n", (select(2, s:answer(true, nil, "a\r\n-ERR b"))))
   end)

   it("forget the name between USER and PASS", function()
      local s = fresh { commands = true }
      s:line("USER ann")
      s:line("X")
      s:done()
      assert.equal("line", (s:line("PASS x")))
   end)
end)

describe("a verb that is switched off", function()
   for _, line in ipairs { "STAT", "STAT 1", "TOP 1 1", "UIDL", "DELE 1", "QUIT", "USER ann" } do
      it(("is unknown: %s"):format(line), function()
         local config = { off = { line:match("%u+") } }
         assert.same({ "line", "-ERR unknown command\r\n" }, { fresh(config):line(line) })
         local s = fresh(config)
         s:opened(1)
         assert.same({ "line", "-ERR unknown command\r\n" }, { s:line(line) })
      end)
   end

   it("is not the site's own either", function()
      assert.equal("line", (fresh { off = { "STAT" }, own = { "STAT" }, commands = true }:line("STAT")))
   end)
end)

describe("a session's CAPA", function()
   local told = "TOP\r\nUSER\r\nUIDL\r\nUTF8 USER\r\nLANG\r\nRESP-CODES\r\n"
      .. "AUTH-RESP-CODE\r\nPIPELINING\r\nIMPLEMENTATION popd-lua\r\n.\r\n"

   it("is the same before and after the login", function()
      assert.equal("+OK capabilities follow\r\n" .. told, say(fresh(), "CAPA"))
      assert.equal("+OK capabilities follow\r\n" .. told, say(entered { 1 }, "CAPA"))
   end)

   it("does not tell what is switched off", function()
      for _, verb in ipairs { "TOP", "USER", "UIDL" } do
         assert.equal("+OK capabilities follow\r\n" .. told:gsub(verb .. "\r\n", "", 1),
            (say(fresh { off = { verb } }, "CAPA")))
      end
      assert.is_nil(say(fresh { off = { "PASS" } }, "CAPA"):find("\nUSER", 1, true))
   end)

   it("tells the server's further lines, stuffed and clean", function()
      local reply = say(fresh { capa = "EXPIRE NEVER\n.X\nY\rZ\n" }, "CAPA")
      assert.matches("PIPELINING\r\nEXPIRE NEVER\r\n..X\r\nY?Z\r\nIMPLEMENTATION", reply, 1, true)
   end)

   it("is left to the site where it edits the lines", function()
      local s = fresh { capa_hook = true, capa = "STLS\n" }
      assert.same({ "capa", "" }, { s:line("CAPA") })
      assert.equal("TOP\nUSER\nUIDL\nUTF8 USER\nLANG\nRESP-CODES\nAUTH-RESP-CODE\nPIPELINING\nSTLS\n"
         .. "IMPLEMENTATION popd-lua\n", s:capa())
      assert.same({ "line", "" }, { s:done() })
   end)
end)

describe("any session", function()
   --- Does with a need what a server would do, now and then failing.
   local answers = {
      login = function(s)
         if math.random(3) == 1 then
            return s:refused("AUTH", "no")
         end
         return s:opened(math.random(0, 5), math.random(2) == 1 and math.random(0, 500) or nil)
      end,
      octets = function(s)
         local m, number = s:maildrop(), s:info().number
         for i = number == 0 and 1 or number, number == 0 and select(5, m:totals()) or number do
            m:set_octets(i, math.random(0, 300))
         end
         return s:resume()
      end,
      uids = function(s)
         local m, number = s:maildrop(), s:info().number
         for i = number == 0 and 1 or number, number == 0 and select(5, m:totals()) or number do
            m:set_uid(i, "u" .. i)
         end
         return s:resume()
      end,
      message = function(s)
         local _, reply = s:sending()
         return (s:done()), reply
      end,
      more = function(s)
         return s:more(math.random(0, 60))
      end,
      update = function(s)
         return s:updated(math.random(2) == 1 and "failed" or nil)
      end,
   }

   it("answers every line with one well-formed reply", function()
      math.randomseed(1081)
      local words = { "USER ann", "PASS x", "PASS  y ", "STAT", "LIST", "LIST 1", "LIST 9", "UIDL", "UIDL 2", "RETR 1",
         "RETR 3", "TOP 1 0", "DELE 1", "DELE 2", "DELE 4", "RSET", "NOOP", "CAPA", "LAST", "", "RETR \0", "QUIT" }
      for _ = 1, 300 do
         local s, need = fresh { max_failures = 3, max_bad_commands = 8 }, "line"
         for _ = 1, 40 do
            if need == "close" then
               break
            end
            local line = words[math.random(#words)]
            if math.random(4) == 1 then
               line = s:info().state == "authorization" and (s:info().named and "PASS x" or "USER ann") or line
            end
            local reply, more
            need, reply = s:line(line)
            while need ~= "line" and need ~= "close" do
               need, more = answers[need](s)
               reply = reply .. more
            end
            assert.matches("^[+-][OE][KR]", reply)
            local first, rest = reply:match("^([^\r\n]*\r\n)(.*)$")
            assert.is_true(#first <= 512)
            assert.is_true(rest == "" or rest:sub(-3) == ".\r\n" and first:sub(1, 3) == "+OK", reply)
            local kept, octets = s:maildrop():totals()
            if line == "STAT" and first:sub(1, 3) == "+OK" then
               assert.equal(("+OK %d %d\r\n"):format(kept, octets), first)
            end
         end
      end
   end)
end)
