-- Mechanisms over a socket, from AUTH to the maildrop.
local beside = require("support.beside")
local client = require("support.client")
local core = require("popd.core")
local files = require("support.files")
local passwd = require("popd.passwd")
local process = require("support.process")
local scram = require("support.scram")
local store = require("support.store")

local SECRET = "tanstaaftanstaaf"

local function users(entries)
   return { lookup = function(name) return entries[name], entries[name] and name end }
end

local b64 = core.base64

--- Sends an answer and returns the challenge that follows, or the reply.
local function answer(c, octets)
   local reply = c:command(octets == "" and "" or b64(octets))
   local text = reply:match("^%+ (.*)$")
   return text and core.unbase64(text) or reply
end

local function auth(c, mechanism, initial)
   local reply = c:command("AUTH " .. mechanism .. (initial and " " .. (initial == "" and "=" or b64(initial)) or ""))
   local text = reply:match("^%+ (.*)$")
   return text and core.unbase64(text) or reply
end

local function is_in(c)
   return c:command("STAT"):find("^%+OK") ~= nil
end

describe("AUTH", function()
   after_each(client.finish)

   it("PLAIN lets in, and the session has the name and the mechanism", function()
      local server = store.server({ "a" }, { auth = users { ["\u{E4}nn"] = SECRET } })
      local c = client.connect(server)
      assert.truthy(auth(c, "PLAIN", "\0a\u{308}nn\0" .. SECRET):find("^%+OK"))
      assert.truthy(is_in(c))
      local state = server:conn_state(server:conn_list()[1])
      assert.equal("\u{E4}nn", state.name)
      assert.equal("PLAIN", state.logon)
   end)

   it("PLAIN is answered with an empty challenge where it came alone", function()
      local c = client.connect((store.server({ "a" })))
      assert.equal("", auth(c, "plain"))
      assert.truthy(answer(c, "\0joe\0secret"):find("^%+OK"))
      assert.truthy(is_in(c))
   end)

   it("LOGIN lets in, and forgets the name after a cancel", function()
      local c = client.connect((store.server({ "a" })))
      assert.equal("Username:", auth(c, "LOGIN"))
      assert.equal("Password:", answer(c, "joe"))
      assert.truthy(c:command("*"):find("^%-ERR"))
      assert.equal("Username:", auth(c, "LOGIN"))
      assert.equal("Password:", answer(c, "ann"))
      assert.truthy(answer(c, "secret"):find("^%-ERR %[AUTH%]"))
      assert.equal("Password:", auth(c, "LOGIN", "joe"))
      assert.truthy(answer(c, "secret"):find("^%+OK"))
   end)

   it("tells of a refused token once, also when the client does not stay for the answer", function()
      local told = {}
      local server = store.server({ "a" }, {
         auth = { token = function() end },
         on = { logged_in = function(_, name, ok, why) table.insert(told, ("%s %s %s"):format(name, ok, why)) end },
      })
      for _, mechanism in ipairs { "OAUTHBEARER", "XOAUTH2" } do
         local message = mechanism == "XOAUTH2" and "user=joe\1" or "n,a=joe,\1"
         local c = client.connect(server)
         assert.truthy(auth(c, mechanism, message .. "auth=Bearer t\1\1"):find("status", 1, true))
         assert.same({ "joe false password" }, told)
         assert.truthy(c:command("*"):find("^%-ERR"))
         auth(c, mechanism, message .. "auth=Bearer t\1\1")
         assert.equal("-ERR [AUTH] wrong user name or password", answer(c, "\1"))
         assert.same({ "joe false password", "joe false password" }, told)
         assert.equal(#told, #client.logged("login refused"))
         told, client.log = {}, {}
      end
   end)

   it("CRAM-MD5 lets in, with a challenge of each connection's own", function()
      local server = store.server({ "a" })
      local c, other = client.connect(server), client.connect(server)
      local challenge = auth(c, "CRAM-MD5")
      assert.not_equal(challenge, auth(other, "CRAM-MD5"))
      local digest = core.hmac("MD5", "secret", challenge):gsub(".", function(o) return ("%02x"):format(o:byte()) end)
      assert.truthy(answer(other, "joe " .. digest):find("^%-ERR %[AUTH%]"))
      assert.truthy(answer(c, "joe " .. digest):find("^%+OK"))
      assert.truthy(is_in(c))
   end)

   for mechanism, hash in pairs { ["SCRAM-SHA-1"] = "SHA-1", ["SCRAM-SHA-256"] = "SHA-256" } do
      local own = scram.entry(hash, "secret", "0123456789", 4096)
      for what, entry in pairs { ["plain"] = "secret", ["its own"] = own } do
         it(mechanism .. " lets in with an entry that is " .. what .. ", and nobody else", function()
            local c = client.connect((store.server({ "a" }, { auth = users { joe = entry } })))
            local wrong = scram.client { hash = hash, name = "joe", password = "Secret" }
            assert.truthy(answer(c, (wrong.final(auth(c, mechanism, wrong.first)))):find("^%-ERR %[AUTH%]"))
            local nobody = scram.client { hash = hash, name = "eve", password = "secret" }
            assert.truthy(answer(c, (nobody.final(auth(c, mechanism, nobody.first)))):find("^%-ERR %[AUTH%]"))
            local right = scram.client { hash = hash, name = "joe", password = "secret" }
            local final, expected = right.final(auth(c, mechanism, right.first))
            assert.equal(expected, answer(c, final))
            assert.truthy(answer(c, ""):find("^%+OK"))
            assert.truthy(is_in(c))
         end)
      end
   end

   it("OAUTHBEARER lets in with a token, and says in JSON why not", function()
      local server = store.server({ "a" }, { auth = { token = function(name, token)
         if token == SECRET then
            return "box", name == "" and "joe" or nil
         end
      end } })
      local c = client.connect(server)
      assert.equal('{"status":"invalid_token"}', auth(c, "OAUTHBEARER", "n,,\1auth=Bearer wrong\1\1"))
      assert.truthy(answer(c, "\1"):find("^%-ERR %[AUTH%]"))
      assert.truthy(auth(c, "OAUTHBEARER", "n,,\1auth=Bearer " .. SECRET .. "\1\1"):find("^%+OK"))
      assert.equal("joe", server:conn_state(server:conn_list()[1]).name)
   end)

   it("takes a site's own mechanism, which may wait", function()
      local own = { ["X-TWICE"] = function(bytes, state)
         client.turn()
         if not state.first then
            state.first = bytes
            return "again"
         end
         if bytes == state.first then
            return true, bytes, "box"
         end
      end }
      local c = client.connect((store.server({ "a" }, { auth = { mechanisms = own } })))
      assert.equal("again", auth(c, "X-TWICE", "joe"))
      assert.truthy(answer(c, "ann"):find("^%-ERR %[AUTH%]"))
      assert.equal("again", auth(c, "X-TWICE", "joe"))
      assert.truthy(answer(c, "joe"):find("^%+OK"))
   end)

   it("says what is wrong with a message, and logs no secret", function()
      local c = client.connect((store.server({ "a" }, { auth = users { joe = SECRET } })))
      assert.equal("-ERR this is no message of PLAIN: two NULs are missing", auth(c, "PLAIN", "joe" .. SECRET))
      auth(c, "PLAIN", "\0joe\0wrong" .. SECRET)
      auth(c, "LOGIN", "joe")
      answer(c, SECRET)
      for _, text in ipairs { SECRET, b64(SECRET), b64("\0joe\0wrong" .. SECRET) } do
         assert.is_nil(table.concat(client.log, "\n"):find(text, 1, true))
      end
   end)

   it("counts each refused exchange as a failed try", function()
      local c = client.connect((store.server({ "a" }, { max_failures = 2 })))
      assert.truthy(auth(c, "PLAIN", "\0joe\0wrong"):find("^%-ERR %[AUTH%]"))
      assert.truthy(auth(c, "PLAIN", "\0joe\0wrong"):find("^%-ERR"))
      assert.truthy(c:closed())
   end)

   it("tells hooks which mechanism it is, once", function()
      local calls = {}
      local on = {
         login = function(_, name, mech) calls[#calls + 1] = "login " .. name .. " " .. mech end,
         logged_in = function(_, name, ok) calls[#calls + 1] = "logged_in " .. name .. " " .. tostring(ok) end,
      }
      local c = client.connect((store.server({ "a" }, { on = on })))
      local s = scram.client { hash = "SHA-256", name = "joe", password = "secret" }
      answer(c, (s.final(auth(c, "SCRAM-SHA-256", s.first))))
      assert.truthy(answer(c, ""):find("^%+OK"))
      assert.same({ "login joe SCRAM-SHA-256", "logged_in joe true" }, calls)
   end)

   it("can be switched off", function()
      local c = client.connect((store.server({ "a" }, { commands = { AUTH = false } })))
      assert.truthy(c:command("AUTH PLAIN"):find("^%-ERR"))
      local _, lines = c:command("CAPA")
      assert.is_nil(table.concat(lines, "\n"):find("SASL", 1, true))
   end)

   it("takes no password over a connection where none may come", function()
      local c = client.connect((store.server({ "a" }, { plain_login = "tls" })))
      local _, lines = c:command("CAPA")
      assert.truthy(table.concat(lines, "\n"):find("SASL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5\n", 1, true))
      assert.truthy(c:command("AUTH PLAIN " .. b64("\0joe\0secret")):find("^%-ERR"))
      assert.truthy(c:command("AUTH LOGIN"):find("^%-ERR"))
   end)

   it("offers what the users' file can serve, also after it has changed", function()
      local dir = files.new_dir()
      finally(function() files.remove(dir) end)
      files.put(dir .. "/users", "joe:secret\n")
      local server = store.server({ "a" }, { auth = assert(passwd.new { file = dir .. "/users" }) })
      local function offered()
         local _, lines = client.connect(server):command("CAPA")
         return table.concat(lines, "\n"):match("SASL ([^\n]*)")
      end
      assert.equal("SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN", offered())
      files.put(dir .. "/new", "joe:{SHA}" .. b64(core.digest("SHA-1", "secret")) .. "\n")
      assert(os.rename(dir .. "/new", dir .. "/users"))
      local c = client.connect(server)
      assert.truthy(auth(c, "PLAIN", "\0joe\0secret"):find("^%+OK"))
      assert.equal("PLAIN LOGIN", offered())
      local _, greeting = client.connect(server)
      assert.is_nil(greeting:find("<", 1, true))
   end)

   it("makes each failed try of a connection wait twice as long as the one before", function()
      local pause, delays = core.pause, {}
      finally(function() core.pause = pause end)
      core.pause = function(seconds) delays[#delays + 1] = seconds end
      local server = store.server({ "a" }, { failure_delay = 3, max_failures = 9 })
      local c = client.connect(server)
      for _ = 1, 5 do
         auth(c, "PLAIN", "\0joe\0wrong")
      end
      c:command("USER joe")
      c:command("PASS wrong")
      auth(client.connect(server), "PLAIN", "\0joe\0wrong")
      server:configure { failure_delay = 40 }
      auth(c, "PLAIN", "\0joe\0wrong")
      assert.same({ 3, 6, 12, 24, 30, 30, 3, 40 }, delays)
   end)

   it("gives up an exchange whose connection is lost", function()
      local states = setmetatable({}, { __mode = "k" })
      local server = store.server({ "a" }, { auth = { mechanisms = { ["X-KEEP"] = function(_, state)
         states[state] = true
         return "go on"
      end } } })
      local c = client.connect(server)
      assert.equal("go on", auth(c, "X-KEEP", "x"))
      assert.truthy(next(states))
      c:close()
      client.wait_for("the server to notice", function() return #server:conn_list() == 0 end)
      collectgarbage()
      collectgarbage()
      assert.is_nil((next(states)))
   end)
end)

describe("AUTH over TLS", function()
   local dir

   setup(function()
      dir = files.new_dir()
      local cert, key = core.certificate({ "server.example" }, 2)
      files.put(dir .. "/server.pem", cert)
      files.put(dir .. "/server.key", key)
   end)

   teardown(function() files.remove(dir) end)
   after_each(client.finish)

   local function rule(name, f)
      it(name, function()
         if not process.has("python3") then
            return pending("python3 is not installed")
         end
         f()
      end)
   end

   -- With changes to the option tls.
   local function new_server(changes, auth_of)
      local tls = { cert = dir .. "/server.pem", key = dir .. "/server.key" }
      for key, value in pairs(changes or {}) do
         tls[key] = value
      end
      return (store.server({ "a" }, { tls = tls, auth = auth_of }))
   end

   --- The SASL line of CAPA, and the last reply.
   local function run(server, ...)
      local _, text = beside.run({ "python3", "spec/support/tls_login.py", server:cget("port"), ... }, dir)
      local capa, reply = text:match("^(%C*)\n(%C*)\n$")
      return assert(capa, text), reply
   end

   for _, mechanism in ipairs { "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS" } do
      for _, mode in ipairs { "stls", "implicit" } do
         rule(mechanism .. " binds to the server's certificate, by " .. mode, function()
            local server = new_server { mode = mode }
            local capa, reply = run(server, mode, mechanism, "joe")
            assert.truthy(capa:find("^SASL SCRAM%-SHA%-256%-PLUS SCRAM%-SHA%-1%-PLUS SCRAM%-SHA%-256 "), capa)
            assert.truthy(reply:find("^%+OK"), reply)
         end)
      end

      rule(mechanism .. " refuses another certificate's octets", function()
         local _, reply = run(new_server(), "stls", mechanism .. "!", "joe")
         assert.equal("-ERR [AUTH] the channel binding is not that of this connection", reply)
      end)

      rule(mechanism .. " without PLUS knows a client that was misled", function()
         local _, reply = run(new_server(), "stls", mechanism:gsub("-PLUS", "") .. "?", "joe")
         assert.equal("-ERR [AUTH] channel binding is offered here; somebody has changed what the client was told",
            reply)
      end)
   end

   rule("EXTERNAL lets in whom a certificate names", function()
      if not process.has("openssl") then
         return pending("openssl is not installed")
      end
      files.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=ann -days 2 "
         .. "-keyout %s -out %s 2>/dev/null", dir .. "/client.key", dir .. "/client.pem")
      local seen = {}
      local own = { certificate = function(name, shown)
         seen[#seen + 1] = shown
         if name ~= "eve" then
            return "box", "ann"
         end
      end }
      local server = new_server({ client_ca = dir .. "/client.pem" }, own)
      local capa, reply = run(server, "stls", "EXTERNAL", "", dir .. "/client.pem", dir .. "/client.key")
      assert.equal("SASL EXTERNAL", capa)
      assert.truthy(reply:find("^%+OK"), reply)
      assert.equal("table", type(seen[1]))
      reply = select(2, run(server, "stls", "EXTERNAL", "eve", dir .. "/client.pem", dir .. "/client.key"))
      assert.equal("-ERR [AUTH] wrong user name or password", reply)
      capa, reply = run(server, "stls", "EXTERNAL", "ann")
      assert.equal("no SASL", capa) -- no certificate was shown
      assert.equal("-ERR this mechanism needs a client certificate", reply)
      assert.equal(2, #seen)
   end)
end)
