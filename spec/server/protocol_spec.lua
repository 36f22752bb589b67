local beside = require("support.beside")
local client = require("support.client")
local files = require("support.files")
local process = require("support.process")
local store = require("support.store")

local ONE = "Subject: one\n\nfirst\n"          -- 14 + 2 + 7 = 23 octets
local TWO = "Subject: two\r\n\r\n.dot\r\nend"  -- 14 + 2 + 6 + 5 = 27
local THREE = "Subject: 3\n\n1\n2\n3\n"        -- 12 + 2 + 9 = 23

local function messages()
   return { ONE, TWO, THREE }
end

local function begin(list, options, changes)
   local server, s = store.server(list or messages(), options, changes)
   return client.login(server), s, server
end

local function status(line)
   return line:match("^%+OK") or line:match("^%-ERR") or line
end

describe("a session", function()
   after_each(client.finish)

   describe("before the login", function()
      -- command            status
      local cases = {
         { "STAT", "-ERR" }, { "LIST", "-ERR" }, { "LIST 1", "-ERR" }, { "RETR 1", "-ERR" }, { "DELE 1", "-ERR" },
         { "NOOP", "-ERR" }, { "RSET", "-ERR" }, { "TOP 1 0", "-ERR" }, { "UIDL", "-ERR" }, { "UIDL 1", "-ERR" },
         { "USER joe", "+OK" }, { "USER nobody", "+OK" }, { "USER", "-ERR" }, { "USER joe doe", "-ERR" },
         { "PASS secret", "-ERR" }, { "PASS", "-ERR" }, { "CAPA", "+OK" }, { "CAPA x", "-ERR" },
         { "APOP", "-ERR" }, { "APOP joe", "-ERR" }, { "APOP joe x y", "-ERR" }, { "APOP joe x", "-ERR" },
         { "QUIT", "+OK" }, { "QUIT now", "-ERR" }, { "XYZZY", "-ERR" }, { "", "-ERR" }, { " ", "-ERR" },
         { " STAT", "-ERR" }, { "USER\tjoe", "-ERR" }, { "user joe", "+OK" }, { "uSeR joe", "+OK" },
         { "capa", "+OK" }, { "quit", "+OK" }, { "STLS", "-ERR" }, { "AUTH", "+OK" }, { "AUTH PLAIN", "+ " },
         { "AUTH XYZZY", "-ERR" }, { "AUTH PLAIN x", "-ERR" }, { "AUTH SCRAM-SHA-256-PLUS", "-ERR" },
      }
      for _, case in ipairs(cases) do
         it(("answers %q with %s"):format(case[1], case[2]), function()
            local c = client.connect((store.server(messages())))
            assert.equal(case[2], status((c:command(case[1]))))
         end)
      end
   end)

   describe("after the login", function()
      -- command            reply: a status, or the whole line
      local cases = {
         { "STAT", "+OK 3 73" }, { "stat", "+OK 3 73" }, { "STAT 1", "-ERR" }, { "STAT  ", "+OK 3 73" },
         { "LIST", "+OK" }, { "LIST 1", "+OK 1 23" }, { "LIST 2", "+OK 2 27" }, { "LIST 3", "+OK 3 23" },
         { "LIST 0", "-ERR" }, { "LIST 4", "-ERR" }, { "LIST -1", "-ERR" }, { "LIST +1", "-ERR" },
         { "LIST 1 2", "-ERR" }, { "LIST x", "-ERR" }, { "LIST 0x1", "-ERR" }, { "LIST 1.0", "-ERR" },
         { "LIST 01", "+OK 1 23" }, { "LIST 99999999999999999999999", "-ERR" }, { "LIST 18446744073709551617",
            "-ERR" },
         { "list 1", "+OK 1 23" },
         { "UIDL", "+OK" }, { "UIDL 2", "+OK 2 uid-2" }, { "UIDL 0", "-ERR" }, { "UIDL 4", "-ERR" }, { "UIDL x",
            "-ERR" },
         { "UIDL 1 1", "-ERR" },
         { "RETR", "-ERR" }, { "RETR 0", "-ERR" }, { "RETR 4", "-ERR" }, { "RETR x", "-ERR" }, { "RETR 1 2", "-ERR" },
         { "RETR 1", "+OK 23 octets" }, { "RETR 2", "+OK 27 octets" }, { "retr 3", "+OK 23 octets" }, { "RETR -1",
            "-ERR" },
         { "TOP", "-ERR" }, { "TOP 1", "-ERR" }, { "TOP 1 x", "-ERR" }, { "TOP 1 -1", "-ERR" }, { "TOP 0 0", "-ERR" },
         { "TOP 4 0", "-ERR" }, { "TOP 1 0", "+OK" }, { "TOP 1 0 0", "-ERR" }, { "TOP 1 99999999", "+OK" },
         { "TOP 1 99999999999999999999999999", "+OK" },
         { "DELE", "-ERR" }, { "DELE 0", "-ERR" }, { "DELE 4", "-ERR" }, { "DELE x", "-ERR" }, { "DELE 1", "+OK" },
         { "DELE 1 2", "-ERR" }, { "NOOP", "+OK" }, { "noop", "+OK" }, { "NOOP x", "-ERR" }, { "RSET", "+OK" },
         { "RSET 1", "-ERR" }, { "CAPA", "+OK" }, { "USER joe", "-ERR" }, { "PASS secret", "-ERR" },
         { "APOP joe 0123456789abcdef0123456789abcdef", "-ERR" }, { "XYZZY", "-ERR" }, { "", "-ERR" },
         { "QUIT x", "-ERR" }, { "QUIT", "+OK" }, { "LAST", "-ERR" },
      }
      for _, case in ipairs(cases) do
         it(("answers %q with %q"):format(case[1], case[2]), function()
            local c = begin()
            local reply = c:command(case[1])
            assert.equal(case[2], #case[2] > 4 and reply or status(reply))
         end)
      end

      it("goes on after each of these", function()
         local c = begin()
         for _, case in ipairs(cases) do
            if not case[1]:upper():find("^QUIT$") and not case[1]:find("^DELE 1$") then
               c:command(case[1])
            end
         end
         assert.equal("+OK 3 73", c:command("STAT"))
      end)
   end)

   it("greets with +OK", function()
      local _, greeting = client.connect((store.server()))
      assert.truthy(greeting:find("^%+OK "))
   end)

   it("takes PASS only directly behind USER", function()
      local c = client.connect((store.server(messages())))
      c:command("USER joe")
      c:command("CAPA")
      assert.equal("-ERR", status(c:command("PASS secret")))
      c:command("USER joe")
      assert.equal("+OK", status(c:command("PASS secret")))
   end)

   it("refuses a wrong password and an unknown user in the same words, with [AUTH]", function()
      local c = client.connect((store.server(messages())))
      c:command("USER joe")
      local wrong = c:command("PASS wrong")
      c:command("USER nobody")
      assert.equal(wrong, (c:command("PASS secret")))
      assert.truthy(wrong:find("^%-ERR %[AUTH%] "))
   end)

   it("wants USER again after a refused PASS", function()
      local c = client.connect((store.server(messages())))
      c:command("USER joe")
      c:command("PASS wrong")
      assert.equal("-ERR", status(c:command("PASS secret")))
   end)

   it("refuses a second session with [IN-USE]", function()
      local _, _, server = begin()
      local second = client.connect(server)
      second:command("USER joe")
      assert.truthy(second:command("PASS secret"):find("^%-ERR %[IN%-USE%] "))
   end)

   it("has freed the lock when the reply to QUIT arrives", function()
      local c, s, server = begin()
      c:command("QUIT")
      assert.equal(0, s.held)
      client.login(server)
   end)

   it("closes after QUIT", function()
      local c = begin()
      assert.equal("+OK", status(c:command("QUIT")))
      assert.same({ true, "" }, { c:closed() })
   end)

   -- TCP_INFO's segments in: of the greeting's connection and, at its end, of what QUIT made of it.
   local PACKETS = [[
import socket, struct, sys
def packets():
    return struct.unpack_from("=I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 200), 140)[0]
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.recv(1000)
before = packets()
s.sendall(b"QUIT\r\n")
while s.recv(1000):
    pass
print(packets() - before)
]]

   it("answers QUIT and ends in one packet, beside the one that acknowledges it", function()
      if not process.has("python3") then
         return pending("python3 is not installed")
      end
      local dir = files.new_dir()
      local _, text = beside.run({ "python3", "-c", PACKETS, store.server({}):cget("port") }, dir)
      files.remove(dir)
      assert.truthy(text == "2\n" or text == "1\n", text)
   end)

   describe("PASS", function()
      for _, password in ipairs { "two words", " leading", "trailing ", "  both  ", " ", "a  b", "\t", "x\ty",
         "\xe4\xff", "a=b;c" } do
         it(("takes %q as it is"):format(password), function()
            local got
            local server = store.server(messages(), {
               auth = { verify = function(_, given)
                  got = given
                  return given == password and "joe" or nil
               end },
            })
            local c = client.connect(server)
            c:command("USER joe")
            assert.equal("+OK", status(c:command("PASS " .. password)))
            assert.equal(password, got)
         end)

         it(("compares %q whole with lookup's"):format(password), function()
            local server = store.server(messages(), { auth = { lookup = function()
               return "{PLAIN}" .. password, "joe"
            end } })
            local c = client.connect(server)
            c:command("USER joe")
            assert.equal("-ERR", status(c:command("PASS " .. password .. " ")))
            c:command("USER joe")
            assert.equal("+OK", status(c:command("PASS " .. password)))
         end)
      end
   end)

   describe("a stored password", function()
      -- lookup's           the client's   status
      local cases = {
         { "secret", "secret", "^%+OK" },
         { "{PLAIN}secret", "secret", "^%+OK" },
         { "{plain}secret", "secret", "^%+OK" },
         { "{PLAIN}{x}", "{x}", "^%+OK" },
         { "{PLAIN}$x", "$x", "^%+OK" },
         { "{PLAIN}secret", "{PLAIN}secret", "^%-ERR %[AUTH%]" },
         { "{NOSUCH}secret", "{NOSUCH}secret", "^%-ERR %[SYS/TEMP%]" },
         { "{NOSUCH}secret", "secret", "^%-ERR %[SYS/TEMP%]" },
         { "$9$secret", "$9$secret", "^%-ERR %[SYS/TEMP%]" },
         { "{open", "{open", "^%-ERR %[SYS/TEMP%]" },
         { "", "x", "^%-ERR %[AUTH%]" },
      }
      for _, case in ipairs(cases) do
         it(("%q meets %q with %s"):format(case[1], case[2], case[3]), function()
            local c = client.connect((store.server(messages(), { auth = { lookup = function()
               return case[1], "joe"
            end } })))
            c:command("USER joe")
            assert.truthy(c:command("PASS " .. case[2]):find(case[3]))
            for _, line in ipairs(client.logged("secret")) do
               assert.is_nil(line)
            end
         end)
      end
   end)

   describe("a maildrop", function()
      it("is listed as it was announced", function()
         local c = begin()
         assert.same({ "1 23", "2 27", "3 23" }, select(2, c:command("LIST")))
         assert.same({ "1 uid-1", "2 uid-2", "3 uid-3" }, select(2, c:command("UIDL")))
      end)

      it("tells in RETR exactly the octets that it sends", function()
         local c = begin()
         for i, message in ipairs(messages()) do
            local text, reply = c:fetch("RETR " .. i)
            assert.equal(store.wire(message), text)
            assert.equal(("+OK %d octets"):format(#text), reply)
         end
      end)

      it("keeps its numbers when a message is marked", function()
         local c = begin()
         c:command("DELE 2")
         assert.equal("+OK 2 46", c:command("STAT"))
         assert.same({ "1 23", "3 23" }, select(2, c:command("LIST")))
         assert.same({ "1 uid-1", "3 uid-3" }, select(2, c:command("UIDL")))
         assert.equal(store.wire(THREE), (c:fetch("RETR 3")))
      end)

      for _, command in ipairs { "LIST 2", "UIDL 2", "RETR 2", "TOP 2 0", "DELE 2" } do
         it("refuses " .. command .. " for a marked message", function()
            local c = begin()
            c:command("DELE 2")
            assert.equal("-ERR", status(c:command(command)))
         end)
      end

      it("has everything back after RSET", function()
         local c, s = begin()
         c:command("DELE 1")
         c:command("DELE 2")
         assert.equal("+OK", status(c:command("RSET")))
         assert.equal("+OK 3 73", c:command("STAT"))
         assert.equal("+OK 1 23", c:command("LIST 1"))
         assert.equal("+OK", status(c:command("QUIT")))
         assert.equal(3, #s.messages)
      end)

      it("loses at QUIT what is marked, and nothing else", function()
         local c, s, server = begin()
         c:command("DELE 3")
         c:command("DELE 1")
         assert.equal("+OK", status(c:command("QUIT")))
         assert.same({ TWO }, s.messages)
         assert.same({ "dele(joe, {1 3}, conn)" }, { s.calls[#s.calls - 1] })
         local again = client.login(server)
         assert.equal("+OK 1 27", again:command("STAT"))
      end)

      it("loses nothing without QUIT", function()
         local c, s = begin()
         c:command("DELE 1")
         c:close()
         client.wait_for("the lock", function()
            return s.held == 0
         end)
         assert.equal(3, #s.messages)
      end)

      it("that is empty is served", function()
         local c = begin({})
         assert.equal("+OK 0 0", c:command("STAT"))
         assert.same({}, select(2, c:command("LIST")))
         assert.same({}, select(2, c:command("UIDL")))
         assert.equal("-ERR", status(c:command("RETR 1")))
      end)

      it("of 20000 messages is listed whole", function()
         local c = begin({}, nil, {
            stat = function() return 20000 end,
            size = function(_, id) return id and id or 20000 * 20001 // 2 end,
         })
         local _, lines = c:command("LIST")
         assert.equal(20000, #lines)
         assert.equal("20000 20000", lines[20000])
         assert.equal("+OK 20000 200010000", c:command("STAT"))
      end)
   end)

   describe("TOP", function()
      -- lines    what follows the header and its empty line
      local cases = {
         { 0, "" }, { 1, "1\r\n" }, { 2, "1\r\n2\r\n" }, { 3, "1\r\n2\r\n3\r\n" }, { 4, "1\r\n2\r\n3\r\n" },
         { 99999999, "1\r\n2\r\n3\r\n" },
      }
      for _, case in ipairs(cases) do
         it(("sends the header and %d lines"):format(case[1]), function()
            local c = begin()
            assert.equal("Subject: 3\r\n\r\n" .. case[2], (c:fetch("TOP 3 " .. case[1])))
         end)
      end

      it("sends a message without a body whole", function()
         local c = begin { "Subject: x\nTo: y\n" }
         assert.equal("Subject: x\r\nTo: y\r\n", (c:fetch("TOP 1 0")))
      end)
   end)

   describe("a line", function()
      local function padded(n) -- a NOOP of n octets with its CRLF
         return "NOOP" .. (" "):rep(n - 6) .. "\r\n"
      end

      it("of 255 octets is run", function()
         local c = begin()
         c:send(padded(255))
         assert.equal("+OK", status(c:line()))
      end)

      it("of 256 octets is refused once, and the session goes on", function()
         local c = begin()
         c:send(padded(256) .. "STAT\r\n")
         assert.equal("-ERR", status(c:line()))
         assert.equal("+OK 3 73", c:line())
      end)

      it("of 100000 octets is refused once, and the session goes on", function()
         local c = begin()
         c:send(("x"):rep(100000) .. "\r\nSTAT\r\n")
         assert.equal("-ERR", status(c:line()))
         assert.equal("+OK 3 73", c:line())
      end)

      it("may have 1000 octets where line_limit allows them", function()
         local c = begin(nil, { line_limit = 1000 })
         c:send(padded(1000) .. padded(1001))
         assert.equal("+OK", status(c:line()))
         assert.equal("-ERR", status(c:line()))
      end)

      it("may end with LF alone", function()
         local c = begin()
         c:send("STAT\nNOOP\nSTAT\r\n")
         assert.equal("+OK 3 73", c:line())
         assert.equal("+OK", status(c:line()))
         assert.equal("+OK 3 73", c:line())
      end)

      for _, bad in ipairs { "NO\0OP", "NOOP\0", "\0NOOP", "LIST 1\0", "RETR 1\0002", "DELE 1\0" } do
         it(("%q with a NUL is refused, never misread"):format(bad), function()
            local c = begin()
            assert.equal("-ERR", status(c:command(bad)))
            assert.equal("+OK 3 73", c:command("STAT"))
         end)
      end

      it("USER with a NUL is refused", function()
         local c = client.connect((store.server(messages())))
         assert.equal("-ERR", status(c:command("USER joe\0x")))
      end)

      it("PASS with a NUL is refused, and is not the password before it", function()
         local c = client.connect((store.server(messages())))
         c:command("USER joe")
         assert.equal("-ERR", status(c:command("PASS secret\0")))
      end)

      it("carries 8-bit octets in a name unchanged", function()
         local got
         local c = client.connect((store.server({}, { auth = { verify = function(name)
            got = name
         end } })))
         c:command("USER j\xf6e\xff")
         c:command("PASS x")
         assert.equal("j\xf6e\xff", got)
      end)
   end)

   describe("with an unknown LAST before", function()
      for _, n in ipairs { 60, 150 } do
         it(("each of %d RETRs is served them all"):format(n), function()
            local list = {}
            for i = 1, n do
               list[i] = ("Subject: %d\n\ntext %d\n"):format(i, i)
            end
            local c = begin(list)
            for i = 1, n do
               assert.equal("-ERR", status(c:command("LAST")))
               assert.equal(store.wire(list[i]), (c:fetch("RETR " .. i)))
            end
         end)
      end
   end)
end)

describe("input", function()
   after_each(client.finish)

   local function pipeline()
      local commands, replies = {}, {}
      local function add(command, ...)
         commands[#commands + 1] = command .. "\r\n"
         for _, line in ipairs { ... } do
            replies[#replies + 1] = line
         end
      end
      for i = 1, 3 do
         add("STAT", "+OK 3 73")
         add("LIST " .. i, ("+OK %d %d"):format(i, ({ 23, 27, 23 })[i]))
         add("UIDL " .. i, ("+OK %d uid-%d"):format(i, i))
         add("NOOP", "+OK")
         add("RETR 1", "+OK 23 octets", "Subject: one", "", "first", ".")
         add("TOP 2 1", "+OK", "Subject: two", "", "..dot", ".")
         add("FOO", "-ERR unknown command")
         add("UIDL", "+OK", "1 uid-1", "2 uid-2", "3 uid-3", ".")
         add("RETR 3", "+OK 23 octets", "Subject: 3", "", "1", "2", "3", ".")
      end
      add("NOOP", "+OK")
      add("QUIT", "+OK bye")
      assert.equal(29, #commands)
      return table.concat(commands), table.concat(replies, "\r\n") .. "\r\n"
   end

   it("of 29 commands in one segment is answered in order", function()
      local c = begin()
      local commands, replies = pipeline()
      c:send(commands)
      assert.equal(replies, select(2, c:closed()))
   end)

   it("of 29 commands is answered in order by a storage that waits", function()
      local server, s = store.server(messages())
      local waiting = {}
      for name, f in pairs(s.storage) do
         waiting[name] = function(...)
            client.turn()
            return f(...)
         end
      end
      server:configure { storage = waiting }
      local commands, replies = pipeline()
      local c = client.login(server)
      c:send(commands)
      assert.equal(replies, select(2, c:closed()))
   end)

   it("may hold the login and all else", function()
      local server = store.server(messages())
      local c = client.connect(server)
      c:send("CAPA\r\nUSER joe\r\nPASS secret\r\nSTAT\r\nQUIT\r\n")
      assert.truthy(select(2,
         c:closed()):find("%.\r\n%+OK now the password\r\n%+OK 3 .-\r\n%+OK 3 73\r\n%+OK bye\r\n$"))
   end)

   it("may come before the greeting", function()
      local server = store.server(messages())
      local c = client.open(server)
      c:send("USER joe\r\nPASS secret\r\nSTAT\r\nQUIT\r\n")
      local _, all = c:closed()
      assert.truthy(all:find("^%+OK .-\r\n%+OK .-\r\n%+OK 3 .-\r\n%+OK 3 73\r\n%+OK bye\r\n$"))
   end)

   it("may come octet by octet", function()
      local c = begin()
      local commands, replies = pipeline()
      for i = 1, #commands do
         c:send(commands:sub(i, i))
         c:fill()
         require("popd").step(0)
      end
      assert.equal(replies, select(2, c:closed()))
   end)

   it("that ends by a half-close gets every reply", function()
      local c = begin()
      c:send("STAT\r\nRETR 1\r\nNOOP\r\n"):shutdown()
      assert.equal("+OK 3 73\r\n+OK 23 octets\r\nSubject: one\r\n\r\nfirst\r\n.\r\n+OK\r\n", select(2, c:closed()))
   end)

   it("that ends by a half-close gets a message of 3 MB whole", function()
      local text = ("x"):rep(71) .. "\r\n"
      text = text:rep(3000000 // #text)
      local c = begin { text }
      c:send("RETR 1\r\n"):shutdown()
      assert.equal(("+OK %d octets"):format(#text), c:line())
      assert.is_true(c:body() == text)
      assert.same({ true, "" }, { c:closed() })
   end)

   it("that was cut by the client's end is not run", function()
      for _, cut in ipairs { "DELE 1", "DELE 1\r", "QUIT", "QUIT\r" } do
         local server, s = store.server(messages())
         local c = client.login(server)
         c:send("DELE 2\r\n" .. cut):shutdown()
         local _, all = c:closed()
         assert.equal("+OK message 2 marked\r\n", all)
         assert.equal(3, #s.messages)
      end
   end)

   it("behind QUIT is not run", function()
      local c, s = begin()
      c:send("DELE 1\r\nQUIT\r\nDELE 2\r\nSTAT\r\nRETR 3\r\n")
      local _, all = c:closed()
      assert.equal("+OK message 1 marked\r\n+OK bye\r\n", all)
      assert.same({ TWO, THREE }, s.messages)
   end)

   it("behind QUIT is not run before the login either", function()
      local c = client.connect((store.server(messages())))
      c:send("QUIT\r\nUSER joe\r\nPASS secret\r\n")
      assert.equal("+OK bye\r\n", select(2, c:closed()))
   end)
end)
