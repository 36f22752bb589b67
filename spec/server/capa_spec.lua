local client = require("support.client")
local store = require("support.store")

local function capa(c)
   local _, lines = c:command("CAPA")
   table.sort(lines)
   return table.concat(lines, ",")
end

describe("CAPA", function()
   after_each(client.finish)

   local SASL = "SASL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN,"
   local ALL = "AUTH-RESP-CODE,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL .. "TOP,UIDL,USER,UTF8 USER"

   -- what the options say, and what is told
   local cases = {
      { "with plain options", {}, ALL },
      { "with expire = 30", { expire = 30 },
         "AUTH-RESP-CODE,EXPIRE 30,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL
            .. "TOP,UIDL,USER,UTF8 USER" },
      { "with expire = 0", { expire = 0 },
         "AUTH-RESP-CODE,EXPIRE 0,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL
            .. "TOP,UIDL,USER,UTF8 USER" },
      { "with expire = NEVER", { expire = "NEVER" },
         "AUTH-RESP-CODE,EXPIRE NEVER,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL
            .. "TOP,UIDL,USER,UTF8 USER" },
      { "with login_delay = 0.5", { login_delay = 0.5 },
         "AUTH-RESP-CODE,IMPLEMENTATION popd-lua,LANG,LOGIN-DELAY 1,PIPELINING,RESP-CODES," .. SASL
            .. "TOP,UIDL,USER,UTF8 USER" },
      { "with TOP off", { commands = { TOP = false } },
         "AUTH-RESP-CODE,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL .. "UIDL,USER,UTF8 USER" },
      { "with UIDL off", { commands = { UIDL = false } },
         "AUTH-RESP-CODE,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL .. "TOP,USER,UTF8 USER" },
      { "with USER off", { commands = { USER = false } },
         "AUTH-RESP-CODE,IMPLEMENTATION popd-lua,LANG,PIPELINING,RESP-CODES," .. SASL .. "TOP,UIDL,UTF8 USER" },
      { "with a command that has no capa", { commands = { XFOO = function() return "x" end } }, ALL },
      { "with a command that has one", { commands = { XFOO = { run = function() return "x" end,
         capa = "XFOO now" } } },
         ALL .. ",XFOO now" },
   }
   for _, case in ipairs(cases) do
      it(case[1] .. " tells the same before and after the login", function()
         local server = store.server({ "a" }, case[2])
         local c = client.connect(server)
         assert.equal(case[3], capa(c))
         if not (case[2].commands and case[2].commands.USER == false) then
            c:login("joe", "secret")
            assert.equal(case[3], capa(c))
         end
      end)
   end

   it("does not tell UIDL where the storage has uidl = false", function()
      local server, s = store.server({ "a" })
      s.storage.uidl = false
      server:configure { storage = s.storage }
      local c = client.login(server)
      assert.falsy(capa(c):find("UIDL"))
      assert.truthy(c:command("UIDL"):find("^%-ERR"))
      assert.truthy(c:command("UIDL 1"):find("^%-ERR"))
   end)

   local function refuse()
      return nil
   end

   -- auth, whether USER and PASS could ever let anybody in
   for _, case in ipairs {
      { "lookup",         { lookup = refuse },                    true },
      { "hashes only",    { lookup = refuse, secrets = "hash" },  true },
      { "verify",         { verify = refuse },                    true },
      { "a function",     refuse,                                 true },
      { "no auth",        nil,                                    true },
      { "tokens only",    { token = refuse },                     false },
      { "certificates",   { certificate = refuse },               false },
      { "its own only",   { mechanisms = { ["X-PIN"] = refuse } }, false },
   } do
      it(("with %s %s USER"):format(case[1], case[3] and "tells" or "does not tell"), function()
         local c = client.connect(client.server { auth = case[2] })
         local verdict = case[3] and "+OK" or "-ERR"
         assert.equal(case[3], capa(c):find(",USER,", 1, true) ~= nil)
         assert.equal(verdict, c:command("USER joe"):match("^%S+"))
      end)
   end

   it("tells a USER of the site's own, though nothing serves the built-in one", function()
      local c = client.connect(client.server { auth = { token = refuse }, commands = {
         USER = { run = function() return "mine" end, states = "auth", override = true },
      } })
      assert.equal("+OK mine", c:command("USER joe"))
   end)

   for _, keyword in ipairs { "TOP", "UIDL", "USER", "STAT", "CAPA" } do
      it("and " .. keyword .. " are refused as unknown where they are off", function()
         local c = client.connect((store.server({ "a" }, { commands = { [keyword] = false } })))
         assert.truthy(c:command(keyword .. " 1 0"):find("^%-ERR"))
      end)
   end

   it("follows configure", function()
      local server = store.server({ "a" })
      local c = client.connect(server)
      server:configure { expire = 7 }
      assert.truthy(capa(c):find("EXPIRE 7"))
   end)

   it("does not tell EXPIRE after a configure that takes it back", function()
      local server = store.server({ "a" }, { expire = 7 })
      server:configure { expire = false }
      assert.falsy(capa((client.connect(server))):find("EXPIRE"))
   end)
end)

describe("APOP", function()
   after_each(client.finish)

   local md5 = require("support.md5")

   local function stamp_of(greeting)
      return greeting:match("<.->")
   end

   it("lets in who knows the secret", function()
      local c, greeting = client.connect((store.server({ "a" })))
      assert.truthy(c:command("APOP joe " .. md5(stamp_of(greeting) .. "secret")):find("^%+OK"))
      assert.equal("+OK 1 3", c:command("STAT"))
   end)

   it("tells the logon in conn_state", function()
      local server = store.server({ "a" })
      local c, greeting = client.connect(server)
      c:command("APOP joe " .. md5(stamp_of(greeting) .. "secret"))
      assert.equal("apop", server:conn_state(server:conn_list()[1]).logon)
   end)

   it("takes the digest in upper case, too", function()
      local c, greeting = client.connect((store.server({ "a" })))
      assert.truthy(c:command("APOP joe " .. md5(stamp_of(greeting) .. "secret"):upper()):find("^%+OK"))
   end)

   local refused = {
      { "a wrong secret", function(stamp) return "joe " .. md5(stamp .. "wrong") end },
      { "an unknown user", function(stamp) return "nobody " .. md5(stamp .. "secret") end },
      { "another stamp", function() return "joe " .. md5("<1.2@x>secret") end },
      { "a short digest", function(stamp) return "joe " .. md5(stamp .. "secret"):sub(1, 31) end },
      { "a long digest", function(stamp) return "joe " .. md5(stamp .. "secret") .. "0" end },
      { "the secret itself", function() return "joe secret" end },
   }
   for _, case in ipairs(refused) do
      it("refuses " .. case[1] .. " with [AUTH]", function()
         local c, greeting = client.connect((store.server({ "a" })))
         assert.truthy(c:command("APOP " .. case[2](stamp_of(greeting))):find("^%-ERR %[AUTH%]"))
      end)
   end

   it("works with {PLAIN}", function()
      local c, greeting = client.connect((store.server({}, { auth = { lookup = function() return "{PLAIN}a b",
         "joe" end } })))
      assert.truthy(c:command("APOP joe " .. md5(stamp_of(greeting) .. "a b")):find("^%+OK"))
   end)

   it("gives each connection a stamp of its own, of letters, digits, dots and one @", function()
      local server, seen = store.server(), {}
      for _ = 1, 40 do
         local _, greeting = client.connect(server)
         local stamp = stamp_of(greeting)
         assert.truthy(stamp:find("^<[%w.]+@[%w.]+>$"))
         assert.is_nil(seen[stamp])
         seen[stamp] = true
      end
   end)

   local without = {
      { "auth has verify alone", { auth = { verify = function() return "joe" end } } },
      { 'secrets is "hash"', { auth = { lookup = store.auth.lookup, secrets = "hash" } } },
      { 'secrets is "scram"', { auth = { lookup = store.auth.lookup, secrets = "scram" } } },
      { "APOP is off", { commands = { APOP = false } } },
   }
   for _, case in ipairs(without) do
      it("is not offered where " .. case[1], function()
         local c, greeting = client.connect((store.server({}, case[2])))
         assert.is_nil(stamp_of(greeting))
         assert.truthy(c:command("APOP joe 0123456789abcdef0123456789abcdef"):find("^%-ERR"))
      end)
   end

   it("is not offered where there is no auth", function()
      local _, greeting = client.connect((client.server()))
      assert.is_nil(stamp_of(greeting))
   end)
end)
