-- AUTH over a socket, the steps being the spec's own: what the core makes of
-- them, whatever mechanisms a server has.
local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")
local store = require("support.store")

local function text_of(octets)
   return core.base64(octets)
end

describe("an exchange over a socket", function()
   local calls, script, server, listener

   -- What the step `login` returns is what `script` says next.
   local steps = { server_name = "exchange" }
   function steps.login(_, ...)
      calls[#calls + 1] = { "login", ... }
      local f = table.remove(script, 1)
      return f(...)
   end
   function steps.close()
      calls[#calls + 1] = { "close" }
   end
   function steps.disconnect(_, reason)
      calls[#calls + 1] = { "disconnect", reason }
   end
   function steps.empty() end

   local function begin(options, ...)
      calls, script = {}, { ... }
      client.log = {}
      popd.log_to(function(level, line)
         table.insert(client.log, level .. " " .. line)
      end, "debug")
      local told = { apop = true, plain = "always", mechanisms = { { name = "X-ONE" }, { name = "X-TLS", tls = true } },
         line_limit = 255, callback_timeout = 30, callback_instructions = 1e8, on_disconnect = true,
         login_timeout = 60, idle_timeout = 60 }
      for key, value in pairs(options or {}) do
         told[key] = value
      end
      server = core.server_new(steps)
      server:set(told)
      listener = core.listen_tcp(0, "127.0.0.1")
      server:add(listener)
      return (client.connect(listener.port))
   end

   local function challenge(octets)
      return function()
         return "challenge", octets
      end
   end

   local function enter()
      return true, { count = 0, name = "ann" }
   end

   local function refuse()
      return false, "AUTH", "wrong user name or password", true
   end

   local function names()
      local list = {}
      for i, call in ipairs(calls) do
         list[i] = call[1]
      end
      return table.concat(list, " ")
   end

   after_each(function()
      listener:close()
      server:close_all()
      client.wait_for("the connections to end", function()
         return server:count() == 0
      end)
      server:forget()
      client.finish()
   end)

   it("hands each response over, and is in under the name that it is told", function()
      local c = begin({}, challenge("one"), challenge(""), enter)
      assert.equal("+ " .. text_of("one"), c:command("AUTH x-one " .. text_of("\0\1\255")))
      assert.equal("+ ", c:command(text_of("second")))
      assert.equal("+OK 0 messages (0 octets)", (c:command("")))
      local stamp = calls[1][5]
      assert.same({
         { "login", "X-ONE", "", "\0\1\255", stamp, true },
         { "login", "X-ONE", "", "second", stamp, false },
         { "login", "X-ONE", "", "", stamp, false },
      }, calls)
      local state = server:conn_state(server:conn_list()[1])
      assert.same({ "ann", "X-ONE", "trans" }, { state.name, state.logon, state.state })
   end)

   it("tells no response from an empty one", function()
      local c = begin({}, challenge(""), challenge(""))
      c:command("AUTH X-ONE")
      c:command("*")
      c:command("AUTH X-ONE =")
      assert.is_nil(calls[1][4])
      assert.equal("", calls[2][4])
   end)

   it("begins USER and APOP as ever", function()
      local c = begin({}, refuse, refuse)
      c:command("USER bob")
      c:command("PASS a b ")
      c:command("APOP bob 0123")
      assert.same({ "login", "user", "bob", "a b ", calls[1][5], true }, calls[1])
      assert.same({ "login", "apop", "bob", "0123", calls[1][5], true }, calls[3])
   end)

   it("is followed by no close where it goes on, is cancelled or left", function()
      local c = begin({}, challenge("x"), challenge("x"))
      c:command("AUTH X-ONE")
      assert.equal("-ERR the login is cancelled, as asked for", (c:command("*")))
      c:command("AUTH X-ONE")
      c:close()
      client.wait_for("the connection to end", function()
         return server:count() == 0
      end)
      assert.equal("login login disconnect", names())
   end)

   it("is followed by a close where it is refused, or fails", function()
      local c = begin({}, challenge("x"), refuse, challenge("x"), function()
         error("broken")
      end, function()
         return "challenge"
      end, challenge(("x"):rep(12289)))
      c:command("AUTH X-ONE")
      assert.equal("-ERR [AUTH] wrong user name or password", (c:command("")))
      assert.equal("login login close", names())
      c:command("AUTH X-ONE")
      assert.matches("^%-ERR %[SYS/TEMP%]", (c:command("")))
      assert.equal("login login close login login close", names())
      for _ = 1, 2 do
         assert.matches("^%-ERR %[SYS/TEMP%]", (c:command("AUTH X-ONE")))
      end
      assert.matches("^%-ERR log in first", (c:command("STAT")))
      assert.equal(2, #client.logged("challenge"))
   end)

   it("takes challenges where AUTH was said only", function()
      local c = begin({}, challenge("x"))
      c:command("USER bob")
      assert.matches("^%-ERR %[SYS/TEMP%]", (c:command("PASS x")))
      assert.matches("^%-ERR", (c:command(text_of("answer"))))
   end)

   it("may wait between its steps", function()
      local c = begin({}, function()
         core.pause(0.01)
         return "challenge", "x"
      end, function()
         core.pause(0.01)
         return enter()
      end)
      c:send("AUTH X-ONE\r\n" .. text_of("y") .. "\r\nSTAT\r\n")
      assert.equal("+ " .. text_of("x"), c:line())
      assert.equal("+OK 0 messages (0 octets)", c:line())
      assert.equal("+OK 0 0", c:line())
      assert.equal("y", calls[2][4])
   end)

   it("takes lines of 16384 octets that belong to it, and no longer ones", function()
      local long = ("s"):rep(12285) -- 16380 letters
      local c = begin({}, challenge("x"), enter)
      c:command("AUTH X-ONE")
      c:send(text_of(long) .. "\r\n")
      assert.equal("+OK 0 messages (0 octets)", c:line())
      assert.equal(long, calls[2][4])
   end)

   it("takes an AUTH line as long, in pieces of any size", function()
      local long = ("s"):rep(12270)
      local c = begin({}, enter)
      local line = "auth x-one " .. text_of(long) .. "\r\n"
      for at = 1, #line, 1021 do
         c:send(line:sub(at, at + 1020))
      end
      assert.equal("+OK 0 messages (0 octets)", c:line())
      assert.equal(long, calls[1][4])
   end)

   it("refuses what is longer, and goes on", function()
      local c = begin({}, challenge("x"), challenge("x"))
      c:send("AUTH X-ONE " .. ("A"):rep(16384) .. "\r\n")
      assert.equal("-ERR the line is too long", c:line())
      c:command("AUTH X-ONE")
      c:send(("A"):rep(20000) .. "\r\n")
      assert.equal("-ERR the line is too long", c:line())
      c:send("USER " .. ("a"):rep(300) .. "\r\n")
      assert.equal("-ERR the line is too long", c:line())
      assert.equal("+ " .. text_of("x"), c:command("AUTH X-ONE"))
      assert.equal("login login", names())
   end)

   it("keeps the short limit where AUTH is off, and behind the login", function()
      local c = begin({ off = { "AUTH" } })
      c:send("AUTH X-ONE " .. ("A"):rep(300) .. "\r\n")
      assert.equal("-ERR the line is too long", c:line())
   end)

   it("logs no response", function()
      local secret = "correct horse battery staple"
      local c = begin({}, challenge(secret), function()
         error("broken")
      end)
      c:command("AUTH X-ONE " .. text_of(secret))
      c:command(text_of(secret))
      c:command("AUTH X-ONE !" .. text_of(secret))
      assert.equal(1, #client.logged("broken"))
      assert.is_nil(table.concat(client.log, "\n"):find(secret, 1, true))
      assert.is_nil(table.concat(client.log, "\n"):find(text_of(secret), 1, true))
   end)

   it("offers what the last set says", function()
      local c = begin()
      local function list()
         return table.concat(select(2, c:command("AUTH", true)), " ")
      end
      assert.equal("X-ONE", list())
      server:set { mechanisms = { { name = "X-TWO" }, { name = "X-ONE" }, { name = ("x"):rep(21) }, {}, { name = "" } },
         plain = "always", line_limit = 255 }
      assert.equal("X-TWO X-ONE", list())
      server:set { plain = "always", line_limit = 255 }
      assert.equal("-ERR unknown command", (c:command("AUTH")))
   end)
end)

describe("a server's languages", function()
   after_each(client.finish)

   local german = { name = "Deutsch", texts = {
      ["no such message"] = "keine solche Nachricht", ["wrong user name or password"] = "falsches Kennwort",
      ["%1 messages (%2 octets)"] = "%1 Nachrichten, %2 Oktette", ["language changed"] = "gut",
      ["site's own"] = "der Site", ["capabilities follow"] = "das geht", ["closing time"] = "Feierabend" } }

   it("are spoken from LANG on", function()
      local server = store.server({ "a" }, { languages = { de = german }, commands = {
         XOWN = function() return "site's own" end } })
      local c = client.connect(server)
      assert.equal("+OK de gut", (c:command("LANG de")))
      c:command("USER joe")
      assert.equal("-ERR [AUTH] falsches Kennwort", (c:command("PASS wrong")))
      c:login("joe", "secret")
      assert.equal("-ERR keine solche Nachricht", (c:command("RETR 9")))
      assert.equal("+OK der Site", (c:command("XOWN")))
      assert.equal("+OK das geht", (c:command("CAPA")))
      local state = server:conn_state(server:conn_list()[1])
      assert.same({ "de", false }, { state.lang, state.utf8 })
      server:conn_close(state.id, "closing time")
      assert.equal("-ERR Feierabend", c:line())
   end)

   it("are another connection's own affair", function()
      local server = store.server({ "a" }, { languages = { de = german } })
      local c, other = client.login(server), client.connect(server)
      c:command("LANG de")
      assert.equal("-ERR log in first", (other:command("RETR 9")))
      assert.equal("i-default", server:conn_state(server:conn_list()[2]).lang)
   end)

   it("may change and go while sessions speak them", function()
      local server = store.server({ "a" }, { languages = { de = german, fr = { name = "Fran\u{e7}ais", texts = {} } } })
      local c = client.login(server)
      c:command("LANG de")
      server:configure { languages = { de = { name = "Deutsch", texts = { ["no such message"] = "nichts da" } } } }
      collectgarbage()
      assert.equal("-ERR nichts da", (c:command("RETR 9")))
      server:configure { languages = {} }
      collectgarbage()
      assert.equal("-ERR no such message", (c:command("RETR 9")))
      assert.same({ "en English", "i-default English" }, (select(2, c:command("LANG", true))))
      assert.equal("de", server:conn_state(server:conn_list()[1]).lang)
   end)

   it("are copies: a script may change its table", function()
      local texts = { ["no such message"] = "a" .. "b" }
      local server = store.server({ "a" }, { languages = { xx = { name = "X", texts = texts } } })
      local c = client.login(server)
      c:command("LANG xx")
      texts["no such message"] = nil
      collectgarbage()
      assert.equal("-ERR ab", (c:command("RETR 9")))
   end)

   it("UTF8 is seen by scripts", function()
      local seen
      local server = store.server({ "a" }, { on = { login = function(conn)
         seen = { conn.utf8, conn.lang }
      end } })
      local c = client.connect(server)
      c:command("UTF8")
      c:login("joe", "secret")
      assert.same({ true, "i-default" }, seen)
   end)

   it("can be made from what core.texts tells", function()
      local known = {}
      for _, text in ipairs(core.texts()) do
         known[text] = true
      end
      for english in pairs(german.texts) do
         assert.equal(english ~= "site's own" and english ~= "closing time", known[english] == true, english)
      end
   end)
end)
