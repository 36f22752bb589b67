local core = require("popd.core")
local session = require("popd.testing").session

local german = { tag = "de", name = "Deutsch", texts = {
   { "no such message", "keine solche Nachricht" },
   { "language changed", "ab jetzt Deutsch" },
   { "%1 messages (%2 octets)", "%2 Oktette in %1 Nachrichten" },
   { "wrong user name or password", "falscher Name oder falsches Kennwort" },
   { "%1; too many failed logins, closing the connection", "%1 (zu oft)" },
   { "gone for lunch", "zu Tisch" },
} }

local function fresh(config)
   config = config or {}
   config.languages = config.languages or { german, { tag = "pt-BR", name = "Portugu\u{ea}s", texts = {} } }
   return session.new(config)
end

local function entered(config, lang)
   local s = fresh(config)
   if lang then
      s:line("LANG " .. lang)
   end
   s:line("USER ann")
   s:line("PASS x")
   return s, select(2, s:opened(1, 10))
end

local function say(s, line)
   local need, reply = s:line(line)
   return reply, need
end

describe("LANG", function()
   it("is told by CAPA unless it is off", function()
      assert.truthy(fresh():capa():find("\nLANG\n", 1, true))
      assert.is_nil(fresh { off = { "LANG" } }:capa():find("LANG", 1, true))
   end)

   it("lists the languages in themselves, before and after the login", function()
      local list = "+OK languages follow\r\n"
         .. "en English\r\nde Deutsch\r\npt-BR Portugu\u{ea}s\r\ni-default English\r\n.\r\n"
      assert.same({ list, "line" }, { say(fresh(), "LANG") })
      assert.same({ list, "line" }, { say(entered(), "LANG") })
   end)

   it("lists a site's English once", function()
      local s = fresh { languages = { { tag = "EN", name = "Proper English", texts = {} } } }
      assert.equal("+OK languages follow\r\nEN Proper English\r\ni-default English\r\n.\r\n", say(s, "LANG"))
   end)

   it("is in the default language at first", function()
      assert.equal("i-default", fresh():info().lang)
   end)

   -- range, the reply, the language from then on
   local cases = {
      { "de",        "+OK de ab jetzt Deutsch\r\n",      "de" },
      { "DE-at",     "+OK de ab jetzt Deutsch\r\n",      "de" },
      { "PT-br",     "+OK pt-BR language changed\r\n",   "pt-BR" },
      { "en",        "+OK en language changed\r\n",      "en" },
      { "en-GB",     "+OK en language changed\r\n",      "en" },
      { "*",         "+OK i-default language changed\r\n", "i-default" },
      { "I-Default", "+OK i-default language changed\r\n", "i-default" },
      { "fr",        "-ERR i-default there is no such language here; LANG lists those there are\r\n", "i-default" },
      { "pt",        "-ERR i-default there is no such language here; LANG lists those there are\r\n", "i-default" },
      { "\xff",      "-ERR i-default there is no such language here; LANG lists those there are\r\n", "i-default" },
      { ("x"):rep(200), "-ERR i-default there is no such language here; LANG lists those there are\r\n", "i-default" },
      { "de fr",     "-ERR syntax: LANG or LANG tag\r\n", "i-default" },
   }
   for _, case in ipairs(cases) do
      it(("%s is answered with %q"):format(case[1], case[2]), function()
         for _, s in ipairs { fresh(), (entered()) } do
            assert.same({ case[2], "line" }, { say(s, "LANG " .. case[1]) })
            assert.equal(case[3], s:info().lang)
         end
      end)
   end

   it("stays where another one is not known, and says so in it", function()
      local s = fresh()
      s:line("LANG de")
      assert.matches("^%-ERR de ", say(s, "LANG fr"))
      assert.equal("de", s:info().lang)
   end)

   it("goes back by *", function()
      local s = entered({}, "de")
      assert.equal("-ERR keine solche Nachricht\r\n", say(s, "RETR 7"))
      s:line("LANG *")
      assert.equal("-ERR no such message\r\n", say(s, "RETR 7"))
   end)

   it("puts numbers where the language has them", function()
      local s, reply = entered({}, "de")
      assert.equal("+OK 10 Oktette in 1 Nachrichten\r\n", reply)
      assert.equal("+OK 10 Oktette in 1 Nachrichten\r\n", say(s, "RSET"))
   end)

   it("leaves alone what programs read", function()
      local s = entered({ languages = { { tag = "xx", name = "X", texts = { { "1 10", "no" }, { "%1 %2", "no" } } } } },
         "xx")
      s:maildrop():set_octets(1, 10)
      assert.equal("+OK 1 10\r\n", say(s, "STAT"))
      assert.equal("+OK 1 10\r\n", say(s, "LIST 1"))
   end)

   it("translates what a script says, if it knows that", function()
      local s = entered({}, "de")
      s:line("RETR 1")
      assert.same({ "line", "-ERR [X] zu Tisch\r\n" }, { s:answer(false, "X", "gone for lunch") })
      assert.same({ "line", "-ERR gone for good\r\n" }, { s:answer(false, nil, "gone for good") })
   end)

   it("translates a refused login, also with what follows it", function()
      local s = fresh { max_failures = 2 }
      s:line("LANG de")
      for _, reply in ipairs { "-ERR [AUTH] falscher Name oder falsches Kennwort\r\n",
         "-ERR [AUTH] falscher Name oder falsches Kennwort (zu oft)\r\n" } do
         s:line("USER ann")
         s:line("PASS x")
         assert.equal(reply, (select(2, s:refused("AUTH", "wrong user name or password"))))
      end
   end)

   it("is English again once the server has that language no more", function()
      local s = entered({}, "de")
      s:forget()
      assert.equal("-ERR no such message\r\n", say(s, "RETR 7"))
      assert.equal("de", s:info().lang)
      assert.matches("^%-ERR de ", say(s, "LANG de"))
      assert.equal("+OK languages follow\r\nen English\r\ni-default English\r\n.\r\n", say(s, "LANG"))
   end)

   it("keeps a translation within a reply", function()
      local long = ("\u{e4}"):rep(200)
      local s = entered({ languages = { { tag = "xx", name = "X", texts = {
         { "no such message", long .. long }, { "unknown command", "a\r\n+OK b" }, { "", "empty" },
         { "%1; too many bad commands, closing the connection", ("%1 "):rep(200) } } } }, max_bad_commands = 3 }, "xx")
      local reply = say(s, "RETR 7")
      assert.is_true(#reply <= 512 and utf8.len(reply) ~= nil)
      assert.equal("-ERR a??+OK b\r\n", say(s, "XYZZY"))
      assert.equal("+OK\r\n", say(s, "NOOP"))
      for _ = 1, 2 do
         s:line("XYZZY")
      end
      reply = say(s, "XYZZY")
      assert.is_true(#reply <= 512 and reply:find("^[^\r\n]*\r\n$") ~= nil)
   end)
end)

describe("every text", function()
   --- A language in which each is a # with the same places.
   local function marks()
      local texts = {}
      for i, english in ipairs(core.texts()) do
         local places = {}
         for place in english:gmatch("%%%d") do
            places[#places + 1] = place
         end
         texts[i] = { english, "#" .. table.concat(places, " ") }
      end
      return { tag = "xx", name = "X", texts = texts }
   end

   local mechanisms = { { name = "A" }, { name = "B", tls = true }, { name = "C", tls = true, cert = true } }

   local function marked(config, ...)
      config = config or {}
      config.languages, config.mechanisms = { marks() }, config.mechanisms or mechanisms
      local s = session.new(config)
      for _, flag in ipairs { ... } do
         s:set(flag)
      end
      s:greet("<1@x>")
      s:line("LANG xx")
      return s
   end

   -- Marks, numbers and the tag are all that may be there.
   local function check(reply, line)
      local text = reply:match("^[+-]%u+ ?([^\r\n]*)"):gsub("^%[[%u/-]+%] ?", ""):gsub("xx ", "")
      assert.is_nil(text:find("[^#%d ]"), ("%q is answered %q"):format(line, reply))
   end

   local lines = { "", "XYZZY", "\0", "USER", "USER ann", "PASS", "PASS x", "APOP", "APOP a", "APOP \xff x", "STAT",
      "STAT 1", "LIST", "LIST x", "LIST 7", "RETR", "RETR 7", "DELE", "DELE x", "DELE 1", "DELE 1", "NOOP", "NOOP 1",
      "RSET", "RSET 1", "TOP", "TOP 7 1", "UIDL", "UIDL x", "UIDL 7", "CAPA", "CAPA x", "AUTH", "AUTH x y z", "AUTH N",
      "AUTH B", "AUTH C", "AUTH A !", "STLS x", "STLS", "UTF8 x", "UTF8", "USER \xff", "USER ann", "PASS \xff", "LANG",
      "LANG x y", "LANG fr", "LANG xx", "QUIT x" }

   it("that a session says before the login is among those that can be translated", function()
      for _, flags in ipairs { {}, { "stls" }, { "tls" }, { "no_plain" }, { "no_plain", "stls" } } do
         local s = marked({}, table.unpack(flags))
         for _, line in ipairs(lines) do
            local need, reply = s:line(line)
            if need == "login" then
               need, reply = s:refused("AUTH", "wrong user name or password")
            end
            assert.is_true(need == "line" or need == "tls")
            check(reply, line)
         end
      end
   end)

   it("that a session says after the login is among those that can be translated", function()
      local s = marked()
      s:line("USER ann")
      s:line("PASS x")
      check(select(2, s:opened(2)), "opened")
      for _, line in ipairs(lines) do
         local need, reply = s:line(line)
         if need == "octets" then
            check(select(2, s:resume()), line)
            for i = 1, 2 do
               s:maildrop():set_octets(i, 5)
            end
            need, reply = s:line(line)
         elseif need == "uids" then
            need, reply = s:resume()
         end
         if need == "more" then
            s:more(4096)
         end
         check(reply, line)
      end
      s:line("RETR 2")
      check(select(2, s:sending()), "RETR 2")
      s:done()
      s:no_dele()
      check(say(s, "DELE 2"), "DELE 2")
      s:line("QUIT")
      check(select(2, s:updated("some deleted messages not removed")), "QUIT")
   end)

   it("that ends a session is among those that can be translated", function()
      local s = marked { max_failures = 1 }
      s:line("USER ann")
      s:line("PASS x")
      check(select(2, s:refused("AUTH", "wrong user name or password")), "PASS")
      check(say(marked { max_bad_commands = 1 }, "XYZZY"), "XYZZY")
      check(say(marked(), "QUIT"), "QUIT")
      check(select(2, marked():too_long()), "too long")
      s = marked()
      s:line("AUTH A")
      s:challenge("")
      check(say(s, "!"), "!")
      s:line("AUTH A")
      s:challenge("")
      check(say(s, "*"), "*")
      s:line("AUTH A")
      local need, reply
      repeat
         need, reply = s:challenge("")
      until need == "close"
      check(reply, "challenge")
   end)
end)
