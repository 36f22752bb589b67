-- What goes through TLS, once hands are shaken.
local client = require("support.client")
local files = require("support.files")
local store = require("support.store")
local tls = require("support.tls")

local pki = tls.pki_of_blocks()

local function implicit(...)
   return (pki:implicit(...))
end

describe("octets over TLS", function()
   local helper = assert(package.searchpath("support.tls", package.path)):gsub("tls%.lua$", "tls_talk.py")

   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
   after_each(client.finish)

   -- 20 MB in which no part is like another.
   local function bulk()
      local lines = {}
      for i = 1, 400000 do
         lines[i] = ("%08d %s\r\n"):format(i, ("."):rep(i % 79))
      end
      return table.concat(lines)
   end

   it("arrive as they are, 20 MB in one message", function()
      local text = bulk()
      local c = tls.login(implicit(nil, nil, { text }))
      c:send("RETR 1\r\n")
      assert.truthy(c:line():find("^%+OK"))
      assert.is_true(c:bulk(#text) == text)
      assert.equal(".", c:line())
      assert.truthy(c:command("QUIT"):find("^%+OK"))
   end)

   it("wait for a client that reads slowly, and go on where they stopped", function()
      local text = bulk():sub(1, 6000001)
      local server = implicit(nil, nil, { text })
      local c = tls.secure(client.open(server, 4096))
      c:line()
      c:login("joe", "secret")
      c:send("RETR 1\r\nNOOP\r\n")
      for _ = 1, 3 do
         local last
         client.wait_for("the server to be stuck", function()
            local now = tls.state(server).bytes_out
            local same = now == last
            last = now
            return same
         end)
         assert.is_true(last < #text)
         local data, _, part = c.socket:receive(700001)
         c.buffer = c.buffer .. (data or part)
      end
      assert.truthy(c:line():find("^%+OK"))
      text = store.wire(text)
      assert.is_true(c:bulk(#text) == text)
      assert.equal(".", c:line())
      assert.truthy(c:line():find("^%+OK"))
   end)

   it("are many small messages as well as one large one", function()
      local messages, commands = {}, {}
      for i = 1, 500 do
         messages[i] = ("Subject: %d\r\n\r\n%s\r\n"):format(i, ("x"):rep(i % 50))
         commands[i] = "RETR " .. i .. "\r\n"
      end
      local c = tls.login(implicit(nil, nil, messages))
      c:send(table.concat(commands))
      for i = 1, 500 do
         assert.truthy(c:line():find("^%+OK"))
         assert.equal(messages[i], c:body())
      end
   end)

   local function talk(server, how, commands)
      local input = files.put(pki:path("input"), commands)
      local out = tls.beside("python3 %s %s %s <%s >%s", helper, server:cget("port"), how, input, pki:path("output"))
      return files.text(pki:path("output")), out
   end

   for _, how in ipairs { "whole", "octets" } do
      it("may be 600 commands, " .. (how == "whole" and "all in one record" or "each octet a record"), function()
         local server = implicit(nil, { max_bad_commands = false })
         local commands = "USER joe\r\nPASS secret\r\n" .. ("NOOP\r\nSTAT\r\nLIST 1\r\n"):rep(200) .. "QUIT\r\n"
         local replies, said = talk(server, how, commands)
         assert.truthy(said:find("records", 1, true), said)
      local _, count = replies:gsub("\r\n", "")
         assert.equal(1 + 2 + 600 + 1, count)
         local _, same = replies:gsub("\r\n%+OK 1 3\r\n%+OK 1 3", "")
         assert.equal(200, same)
         assert.truthy(replies:find("+OK bye\r\n$"))
         assert.truthy(said:find("end=close_notify", 1, true), said)
      end)
   end

   it("are answered behind a client's close_notify, but for a command that it cut", function()
      local server, s = pki:serve({ mode = "implicit" }, nil, { "a", "b" })
      local replies, said = talk(server, "whole", "USER joe\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nQUIT")
      assert.truthy(replies:find("+OK 2 6\r\n+OK", 1, true), replies)
      assert.is_nil(replies:find("bye", 1, true))
      assert.truthy(said:find("end=close_notify", 1, true), said)
      assert.same({ "a", "b" }, s.messages)
   end)

   it("are answered behind a bare FIN, but for a command that it cut", function()
      local server, s = pki:serve({ mode = "implicit" }, nil, { "a", "b" })
      local c = tls.connect(server)
      c:send("USER joe\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nQUIT")
      tls.cut(c)
      local _, rest = c:closed()
      assert.truthy(rest:find("+OK 2 6\r\n+OK", 1, true), rest)
      assert.is_nil(rest:find("bye", 1, true))
      assert.same({ "a", "b" }, s.messages)
   end)

   it("of QUIT are answered behind a bare FIN", function()
      local server, s = pki:serve({ mode = "implicit" }, nil, { "a", "b" })
      local c = tls.connect(server)
      c:send("USER joe\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
      tls.cut(c)
      local _, rest = c:closed()
      assert.truthy(rest:find("bye\r\n$"), rest)
      assert.same({ "b" }, s.messages)
   end)

   it("fill their records", function()
      local text = bulk()
      local server = implicit(nil, nil, { text })
      local replies, said = talk(server, "whole", "USER joe\r\nPASS secret\r\nRETR 1\r\nQUIT\r\n")
      assert.is_true(#replies > #text)
      local records, octets = said:match("records=(%d+) octets=(%d+)")
      assert.is_true(tonumber(octets) / tonumber(records) > 16000, said)
   end)

   it("are counted as they are without TLS", function()
      local server = implicit(nil, nil, { "a" })
      local c = tls.login(server)
      local before = tls.state(server)
      c:command("NOOP")
      local after = tls.state(server)
      assert.equal(6, after.bytes_in - before.bytes_in)
      assert.equal(#"+OK\r\n", after.bytes_out - before.bytes_out)
   end)

   it("of a flood before the login end the connection", function()
      local server = implicit(nil, { max_bad_commands = false })
      local c = tls.connect(server)
      pcall(c.send, c, ("NOOP\r\n"):rep(20000))
      client.wait_for("its end", function() return not server:conn_list()[1] end)
   end)
end)
