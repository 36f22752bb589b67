local base64 = require("popd.core").base64
local session = require("popd.testing").session

local mechanisms = {
   { name = "SCRAM-SHA-256-PLUS", tls = true },
   { name = "SCRAM-SHA-256" },
   { name = "EXTERNAL", cert = true, tls = true },
   { name = "PLAIN", plain = true },
}

local function fresh(config, ...)
   config = config or {}
   config.mechanisms = config.mechanisms or mechanisms
   local s = session.new(config)
   for _, flag in ipairs { ... } do
      s:set(flag)
   end
   s:greet()
   return s
end

local function say(s, line)
   local need, reply = s:line(line)
   return reply, need
end

local function offered(s)
   return (say(s, "AUTH"):gsub("^%+OK[^\n]*\n", ""):gsub("\r\n", ","):gsub("%.,$", ""))
end

local function refuses(s, line, pattern)
   local reply, need = say(s, line)
   assert.matches("^%-ERR", reply)
   assert.matches(pattern, reply)
   assert.equal("line", need)
end

describe("AUTH", function()
   -- the connection           mechanisms
   local cases = {
      { {},                      "SCRAM-SHA-256,PLAIN," },
      { { "no_plain" },          "SCRAM-SHA-256," },
      { { "no_plain", "tls" },   "SCRAM-SHA-256-PLUS,SCRAM-SHA-256,PLAIN," },
      { { "tls" },               "SCRAM-SHA-256-PLUS,SCRAM-SHA-256,PLAIN," },
      { { "tls", "cert" },       "SCRAM-SHA-256-PLUS,SCRAM-SHA-256,EXTERNAL,PLAIN," },
   }
   for _, case in ipairs(cases) do
      local flags, list = table.concat(case[1], " "), case[2]
      it(("lists what is offered: with %q %s"):format(flags, list), function()
         assert.equal(list, offered(fresh({}, table.unpack(case[1]))))
      end)

      it(("is told by CAPA before and after the login: with %q %s"):format(flags, list), function()
         local s = fresh({}, table.unpack(case[1]))
         local line = "SASL " .. list:gsub(",$", ""):gsub(",", " ") .. "\n"
         local before = s:capa()
         assert.truthy(("\n" .. before):find("\n" .. line, 1, true))
         s:line("AUTH SCRAM-SHA-256")
         s:opened(1)
         assert.equal(before, s:capa())
      end)
   end

   it("is unknown, and not told, where there is no mechanism, or it is off", function()
      for _, s in ipairs { fresh { mechanisms = {} }, fresh { off = { "AUTH" } } } do
         for _, line in ipairs { "AUTH", "AUTH PLAIN", "AUTH PLAIN =" } do
            assert.equal("-ERR unknown command\r\n", say(s, line))
         end
         assert.is_nil(s:capa():find("SASL", 1, true))
      end
   end)

   it("is not told where nothing is offered on this connection", function()
      local s = fresh({ mechanisms = { { name = "PLAIN", plain = true } } }, "no_plain")
      assert.is_nil(s:capa():find("SASL", 1, true))
      assert.equal("", offered(s))
   end)

   it("is for before the login", function()
      local s = fresh()
      s:line("AUTH PLAIN =")
      s:opened(1)
      refuses(s, "AUTH PLAIN =", "already logged in")
      refuses(s, "AUTH", "already logged in")
   end)

   it("takes a response with it, decoded, of a mechanism in any case", function()
      for _, name in ipairs { "PLAIN", "plain", "pLaIn" } do
         local s = fresh()
         assert.same({ "login", "" }, { s:line("AUTH " .. name .. " " .. base64("\0ann\0secret")) })
         local info = s:info()
         assert.same({ "sasl", "PLAIN", "\0ann\0secret", true, "" },
            { info.kind, info.mechanism, info.secret, info.first, info.name or "" })
      end
   end)

   it("tells no response from an empty one", function()
      local s = fresh()
      assert.equal("login", (s:line("AUTH PLAIN")))
      assert.is_nil(s:info().secret)
      s = fresh()
      assert.equal("login", (s:line("AUTH PLAIN =")))
      assert.equal("", s:info().secret)
   end)

   it("forgets the name of a USER before it, and does not stand between USER and PASS", function()
      local s = fresh()
      s:line("USER ann")
      s:line("AUTH PLAIN")
      assert.equal("", s:info().name or "")
      s:refused("AUTH", "no")
      refuses(s, "PASS x", "USER")
   end)

   it("says what is wrong with a mechanism", function()
      refuses(fresh(), "AUTH DIGEST-MD5", "no such mechanism")
      refuses(fresh(), "AUTH PLAI", "no such mechanism")
      refuses(fresh(), "AUTH PLAINX =", "no such mechanism")
      refuses(fresh({}, "no_plain", "stls"), "AUTH PLAIN =", "STLS first")
      refuses(fresh({}, "stls"), "AUTH SCRAM-SHA-256-PLUS", "STLS first")
      refuses(fresh({}, "stls"), "AUTH EXTERNAL", "STLS first")
      refuses(fresh({ off = { "STLS" } }, "no_plain", "stls"), "AUTH PLAIN", "TLS is not offered")
      refuses(fresh({}, "no_plain"), "AUTH PLAIN", "TLS is not offered")
      refuses(fresh({}, "tls"), "AUTH EXTERNAL", "client certificate")
   end)

   for _, response in ipairs { "x", "AGFubg", "AGFubg=", "A===", "==", "AGFubgBzZWNyZXR=", "*", "\xe4\xe4\xe4\xe4" } do
      it(("refuses %q, which is no base64"):format(response), function()
         local s = fresh()
         refuses(s, "AUTH PLAIN " .. response, "base64")
         assert.equal(1, s:info().bad)
         assert.equal("+OK now the password\r\n", say(s, "USER ann"))
      end)
   end
end)

describe("a SASL exchange", function()
   local function begun(config)
      local s = fresh(config)
      s:line("AUTH SCRAM-SHA-256")
      return s
   end

   it("goes on with challenges and answers until it is decided", function()
      local s = begun()
      assert.same({ "line", "+ \r\n" }, { s:challenge("") })
      assert.is_true(s:info().asking)
      assert.same({ "login", "" }, { s:line(base64("n,,n=ann,r=x")) })
      local info = s:info()
      assert.same({ "n,,n=ann,r=x", false, false, "SCRAM-SHA-256" },
         { info.secret, info.first, info.asking, info.mechanism })
      assert.same({ "line", "+ " .. base64("r=xy") .. "\r\n" }, { s:challenge("r=xy") })
      assert.equal("login", (s:line("")))
      assert.equal("", s:info().secret)
      assert.is_true(s:set_name("ann"))
      assert.same({ "line", "+OK 2 messages\r\n" }, { s:opened(2) })
      info = s:info()
      assert.same({ "transaction", "ann", "sasl" }, { info.state, info.name, info.kind })
      assert.is_nil(info.secret)
   end)

   it("has challenges and answers as long as they must be", function()
      local s, long = begun(), ("x"):rep(12000)
      assert.same({ "line", "+ " .. base64(long) .. "\r\n" }, { s:challenge(long) })
      assert.equal("login", (s:line(base64(long))))
      assert.equal(long, s:info().secret)
   end)

   it("carries octets of any value", function()
      local all = {}
      for i = 0, 255 do
         all[i + 1] = string.char(i)
      end
      local octets = table.concat(all)
      local s = begun()
      assert.equal("+ " .. base64(octets) .. "\r\n", (select(2, s:challenge(octets))))
      s:line(base64(octets))
      assert.equal(octets, s:info().secret)
   end)

   it("is cancelled by *, which is no failed login", function()
      local s = begun { max_failures = 1, max_bad_commands = 1 }
      s:challenge("x")
      refuses(s, "*", "cancelled")
      assert.same({ 0, 0, false }, { s:info().failures, s:info().bad, s:info().asking })
      assert.equal("login", (s:line("AUTH PLAIN =")))
   end)

   for _, line in ipairs { "QUIT now", "**", "* ", "=", "x", "AUTH PLAIN", "AA==\r", "A\0==" } do
      it(("ends with an answer that is no base64: %q"):format(line), function()
         local s = begun()
         s:challenge("x")
         refuses(s, line, "base64")
         assert.same({ false, 1 }, { s:info().asking, s:info().bad })
         assert.equal("line", (s:line("CAPA")))
      end)
   end

   it("takes a command for an answer: it is one", function()
      local s = begun()
      s:challenge("x")
      assert.equal("login", (s:line("QUIT")))
      assert.equal(3, #s:info().secret)
   end)

   it("ends with an answer that is too long", function()
      local s = begun()
      s:challenge("x")
      assert.matches("^%-ERR.*too long", (select(2, s:too_long())))
      assert.is_false(s:info().asking)
      assert.equal("+OK now the password\r\n", say(s, "USER ann"))
   end)

   it("counts an answer that is no base64 as a bad command", function()
      local s = begun { max_bad_commands = 1 }
      s:challenge("x")
      local need, reply = s:line("!")
      assert.equal("close", need)
      assert.matches("base64.*too many bad commands", reply)
   end)

   it("ends where it is refused", function()
      local s = begun { max_failures = 2 }
      s:challenge("x")
      s:line("AAAA")
      assert.same({ "line", "-ERR [AUTH] no\r\n" }, { s:refused("AUTH", "no") })
      assert.is_false(s:info().asking)
      s:line("AUTH PLAIN =")
      assert.equal("close", (s:refused("AUTH", "no")))
   end)

   it("has ten challenges at most", function()
      local s = begun()
      for _ = 1, 10 do
         assert.equal("line", (s:challenge("x")))
         assert.equal("login", (s:line("AAAA")))
      end
      assert.same({ "close", "-ERR this login takes too many steps\r\n" }, { s:challenge("x") })
   end)

   it("counts its challenges anew each time", function()
      local s = begun()
      for _ = 1, 30 do
         s:challenge("x")
         s:line("*")
         s:line("AUTH PLAIN")
      end
      assert.equal("line", (s:challenge("x")))
   end)
end)

describe("a secret", function()
   local SECRET = "correct horse battery"

   -- lines that are refused with a secret in them
   local lines = {
      "PASS " .. SECRET, "AUTH NOPE " .. base64(SECRET), "AUTH PLAIN " .. base64(SECRET) .. "!",
      "AUTH PLAIN " .. base64(SECRET) .. " x", "AUTH PLAIN\0 " .. base64(SECRET), "PASS " .. SECRET .. "\0",
      "auth plain " .. base64(SECRET):sub(1, -2),
   }
   for _, line in ipairs(lines) do
      it(("is not left in a line that is refused: %q"):format(line:sub(1, 12)), function()
         local s = fresh()
         assert.matches("^%-ERR", say(s, line))
         assert.equal(("\0"):rep(#line), s:held())
         assert.is_nil(s:info().secret)
      end)
   end

   it("is only where the caller finds it in one that is taken", function()
      local s = fresh()
      s:line("AUTH PLAIN " .. base64(SECRET))
      assert.equal("AUTH PLAIN " .. SECRET .. ("\0"):rep(#base64(SECRET) - #SECRET), s:held())
      s:challenge("")
      s:line(base64(SECRET))
      assert.equal(SECRET .. ("\0"):rep(#base64(SECRET) - #SECRET), s:held())
   end)

   it("is not left in an answer that is refused", function()
      local s = fresh()
      s:line("AUTH PLAIN")
      s:challenge("")
      s:line(base64(SECRET) .. "!")
      assert.equal(("\0"):rep(#base64(SECRET) + 1), s:held())
   end)
end)

describe("STLS", function()
   it("is told by CAPA where it would be accepted", function()
      local function told(s)
         return s:capa():find("STLS\n", 1, true) ~= nil
      end
      assert.is_false(told(fresh()))
      assert.is_true(told(fresh({}, "stls")))
      assert.is_false(told(fresh({}, "stls", "tls")))
      assert.is_false(told(fresh({ off = { "STLS" } }, "stls")))
      local s = fresh({}, "stls")
      s:line("AUTH PLAIN =")
      s:opened(0)
      assert.is_false(told(s))
   end)

   it("asks for the handshake, once", function()
      local s = fresh({}, "stls")
      assert.same({ "tls", "+OK begin TLS\r\n" }, { s:line("STLS") })
      s:secured()
      assert.is_true(s:info().tls)
      refuses(s, "STLS", "encrypted already")
   end)

   it("is refused where there is no TLS, after the login, and unknown where it is off", function()
      refuses(fresh(), "STLS", "not offered")
      local s = fresh({}, "stls")
      s:line("AUTH PLAIN =")
      s:opened(0)
      refuses(s, "STLS", "already logged in")
      refuses(fresh({ off = { "STLS" } }, "stls"), "STLS", "unknown command")
   end)

   it("forgets what the client said before", function()
      local s = fresh({}, "stls")
      s:line("UTF8")
      s:line("LANG en")
      s:line("USER ann")
      s:line("STLS")
      s:secured()
      local info = s:info()
      assert.same({ "", false, false, "i-default" }, { info.name or "", info.named, info.utf8, info.lang })
      refuses(s, "PASS x", "USER")
   end)

   it("lets passwords come as they are", function()
      local s = fresh({}, "stls", "no_plain")
      refuses(s, "USER ann", "STLS first")
      assert.is_nil(s:capa():find("\nUSER", 1, true))
      s:line("STLS")
      s:secured()
      assert.equal("+OK now the password\r\n", say(s, "USER ann"))
      assert.truthy(s:capa():find("\nUSER", 1, true))
   end)

   it("keeps the count of failures", function()
      local s = fresh({ max_failures = 2 }, "stls")
      s:line("AUTH PLAIN =")
      s:refused("AUTH", "no")
      s:line("STLS")
      s:secured()
      s:line("AUTH PLAIN =")
      assert.equal("close", (s:refused("AUTH", "no")))
   end)
end)

describe("lines that may be long", function()
   -- state, line's begin, octets
   local cases = {
      { "fresh",    "AUTH PLAIN x", 16384 }, { "fresh",    "auth ",   16384 }, { "fresh",    "AUTH",    255 },
      { "fresh",    "AUTHX ",       255 },   { "fresh",    "PASS x",  255 },   { "fresh",    "",        255 },
      { "fresh",    "AUTH\0",       255 },   { "asking",   "xyz",     16384 }, { "asking",   "",        16384 },
      { "entered",  "AUTH PLAIN",   255 },   { "without",  "AUTH PLAIN", 255 },
   }
   for _, case in ipairs(cases) do
      it(("has %d octets where %s and it begins with %q"):format(case[3], case[1], case[2]), function()
         local s = fresh(case[1] == "without" and { mechanisms = {} } or nil)
         s:line("AUTH PLAIN")
         if case[1] == "asking" then
            s:challenge("")
         elseif case[1] == "entered" then
            s:opened(0)
         end
         assert.equal(case[3], s:line_max(case[2], 255))
         assert.equal(20000, s:line_max(case[2], 20000))
      end)
   end
end)

describe("UTF8", function()
   it("is told by CAPA, with user names, before and after the login", function()
      local s = fresh()
      assert.truthy(s:capa():find("\nUTF8 USER\n", 1, true))
      assert.is_nil(fresh { off = { "UTF8" } }:capa():find("UTF8", 1, true))
   end)

   it("is taken before the login only, also twice", function()
      local s = fresh()
      assert.is_false(s:info().utf8)
      for _ = 1, 2 do
         assert.matches("^%+OK", say(s, "UTF8"))
         assert.is_true(s:info().utf8)
      end
      s:line("USER ann")
      s:line("PASS x")
      s:opened(1)
      refuses(s, "UTF8", "already logged in")
      assert.is_true(s:info().utf8)
   end)

   it("makes names and passwords UTF-8", function()
      local s = fresh()
      s:greet("<1@x>")
      assert.equal("+OK now the password\r\n", say(s, "USER j\xf6rg"))
      assert.equal("login", (s:line("PASS \xff")))
      s:refused("AUTH", "no")
      s:line("UTF8")
      refuses(s, "USER j\xf6rg", "UTF%-8")
      refuses(s, "APOP j\xf6rg 0123", "UTF%-8")
      s:line("USER j\u{f6}rg")
      refuses(s, "PASS \xff", "UTF%-8")
      s:line("USER j\u{f6}rg")
      assert.equal("login", (s:line("PASS \u{20ac}")))
      assert.equal("j\u{f6}rg", s:info().name)
   end)
end)
