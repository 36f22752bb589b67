-- Logging in over a socket, against those who do not play by the rules.
local client = require("support.client")
local core = require("popd.core")

local storage = { stat = function() return 0 end, get = function() end }

local function b64(text)
   return core.base64(text)
end

--- Logins by SASL, PASS and AUTH lines: what a client sends, line by line.
local wrong = {
   plain = { "AUTH PLAIN " .. b64("\0joe\0wrong") },
   login = { "AUTH LOGIN", b64("joe"), b64("wrong") },
   cram = { "AUTH CRAM-MD5", b64("joe " .. ("0"):rep(32)) },
   user = { "USER joe", "PASS wrong" },
   apop = { "APOP joe " .. ("0"):rep(32) },
}

local function say(c, lines)
   local reply
   for _, line in ipairs(lines) do
      c:send(line .. "\r\n")
      reply = c:line()
   end
   return reply
end

describe("a login", function()
   local calls

   before_each(function()
      calls = {}
   end)

   after_each(client.finish)

   local function server(options)
      local all = { storage = storage, on = { logged_in = function(_, name, ok, why)
         calls[#calls + 1] = ("%s %s %s"):format(name, ok, why)
      end } }
      for key, value in pairs(options) do
         all[key] = value
      end
      return client.server(all)
   end

   local function joe(name)
      if name == "joe" then
         return "secret", "joe"
      end
   end

   for first, one in pairs(wrong) do
      for second, other in pairs(wrong) do
         it(("that failed by %s counts where %s fails next"):format(first, second), function()
            local c = client.connect(server { auth = { lookup = joe }, max_failures = 2 })
            assert.equal("-ERR [AUTH] wrong user name or password", say(c, one))
            assert.truthy(say(c, other):find("too many failed logins", 1, true))
            assert.is_true(c:closed())
            assert.same({ "joe false password", "joe false password" }, calls)
         end)
      end
   end

   describe("by a token", function()
      local auth = { token = function(name, token) return token == "good" and name or nil end }
      local bad = "AUTH XOAUTH2 " .. b64("user=joe\1auth=Bearer bad\1\1")

      it("is refused, for hook and log, before the client is told, which may cancel", function()
         local c = client.connect(server { auth = auth })
         assert.truthy(say(c, { bad }):find("^%+ "))
         assert.same({ "joe false password" }, calls)
         assert.equal(1, #client.logged("login refused.*user=joe why=password"))
         assert.truthy(say(c, { "*" }):find("cancelled", 1, true))
         assert.equal(1, #calls)
      end)

      it("makes a client wait that guesses, and longer each time", function()
         local c = client.connect(server { auth = auth, failure_delay = 0.04, max_failures = false })
         local waited = {}
         for i = 1, 3 do
            local began = core.now()
            say(c, { bad })
            waited[i] = core.now() - began
            say(c, { "*" })
         end
         assert.is_true(waited[1] >= 0.04 and waited[2] >= 0.08 and waited[3] >= 0.16)
      end)

      it("ends in the hook's words, is counted once, and has the limit of failures", function()
         local c = client.connect(server { auth = auth, max_failures = 2, on = { logged_in = function()
            calls[#calls + 1] = "refused"
            return false, "no such token"
         end } })
         assert.equal("-ERR [AUTH] no such token", say(c, { bad, "" }))
         assert.equal("-ERR [AUTH] no such token; too many failed logins, closing the connection", say(c, { bad, "" }))
         assert.same({ "refused", "refused" }, calls)
      end)
   end)

   it("by a mechanism under a built-in one's name needs what that one needs", function()
      local s = server { plain_login = "tls", auth = { lookup = joe, mechanisms = {
         PLAIN = function() return true, "joe", "joe" end } } }
      local reply = client.connect(s):command("AUTH PLAIN " .. b64("\0joe\0secret"))
      assert.truthy(reply:find("needs encryption", 1, true), reply)
   end)

   it("of many at once has the limit for a user", function()
      local opens = {}
      local s = server { max_per_user = 3, auth = { lookup = function(name)
         local wait, open = client.gate()
         opens[#opens + 1] = open
         wait()
         return "secret", name
      end } }
      local clients, entered = {}, 0
      for i = 1, 10 do
         clients[i] = client.connect(s)
         clients[i]:send("AUTH PLAIN " .. b64("\0joe\0secret") .. "\r\n")
      end
      client.wait_for("ten logins", function() return #opens == 10 end)
      for _, open in ipairs(opens) do
         open()
      end
      for _, c in ipairs(clients) do
         entered = entered + (c:line():find("^%+OK") and 1 or 0)
      end
      assert.equal(3, entered)
   end)

   it("goes on with the auth that it began with", function()
      local s = server { auth = { lookup = joe } }
      local c = client.connect(s)
      say(c, { "AUTH LOGIN", b64("joe") })
      s:configure { auth = { verify = function() error("not asked") end }, commands = { AUTH = false } }
      assert.truthy(say(c, { b64("secret") }):find("^%+OK"))
   end)
end)
