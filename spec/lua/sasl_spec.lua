local core = require("popd.core")
local md5 = require("support.md5")
local login = require("popd.login")
local sasl = require("popd.sasl")
local scheme = require("popd.scheme")
local scram = require("support.scram")

local SHA1_ENTRY = scram.entry("SHA-1", "pencil", core.unbase64("QSXCR+Q6sek8bf92"), 4096)
local SHA256_ENTRY = scram.entry("SHA-256", "pencil", core.unbase64("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)

local HASH = "{SHA}" .. core.base64(core.digest("SHA-1", "x"))

local nonce, challenge, binding = sasl.nonce, sasl.challenge, core.conn_binding

--- The secret of a login, and of nothing that is logged.
local SECRET = "tanstaaftanstaaf"

describe("popd.sasl", function()
   local logged

   before_each(function()
      logged = {}
      core.conn_binding = function() return nil end -- a connection that is not encrypted has none
      core.log_to(function(level, line) logged[#logged + 1] = level .. " " .. line end, "debug")
   end)

   after_each(function()
      core.log_to(nil, "warning")
      sasl.nonce, sasl.challenge, core.conn_binding = nonce, challenge, binding
      assert.is_nil(table.concat(logged, "\n"):find(SECRET, 1, true))
   end)

   local function new_conn(tls)
      return { id = 1, remotehost = "192.0.2.1", name = "", tls = tls or false }
   end

   --- An exchange: a function that takes what the client sends.
   local function exchange(auth, mechanism, options)
      local conn, first = new_conn(options and options.tls), true
      return function(bytes)
         local outcome = login.step(conn, { auth = auth, on = options and options.on }, mechanism, "", bytes, "", first)
         first = false
         return outcome
      end
   end

   --- All that the client sends; returns the last outcome.
   local function say(auth, mechanism, messages, options)
      local send, outcome = exchange(auth, mechanism, options), nil
      for i = 1, messages.n or #messages do
         outcome = send(messages[i])
      end
      return outcome
   end

   local function users(entries)
      return { lookup = function(name) return entries[name], entries[name] and name .. "'s box" end }
   end

   local function entered(name)
      return { name = name, mbox = name .. "'s box" }
   end

   local function assert_refused(outcome, pattern)
      assert.is_nil(outcome.challenge)
      assert.is_nil(outcome.mbox)
      assert.equal("password", outcome.why)
      assert.truthy(outcome.text:find(pattern or "wrong user name or password", 1, true), outcome.text)
   end

   local function assert_wrong(outcome)
      assert_refused(outcome)
      assert.equal("AUTH", outcome.code)
   end

   local function assert_fault(outcome)
      assert.equal("fault", outcome.why)
      assert.equal("SYS/TEMP", outcome.code)
      assert.is_nil(outcome.mbox)
   end

   describe("PLAIN (RFC 4616)", function()
      local auth = users { tim = SECRET, Kurt = "xipj3plmq", ["J\u{F6}rg"] = "n\u{E4}mlich", scrambled = SHA256_ENTRY }

      local good = {
         { "\0tim\0" .. SECRET, "tim" },
         { "tim\0tim\0" .. SECRET, "tim" },
         { "\0J\u{F6}rg\0n\u{E4}mlich", "J\u{F6}rg" },
         { "\0Jo\u{308}rg\0na\u{308}mlich", "J\u{F6}rg" },       -- the same, in other code points
         { "\0J\u{F6}\u{AD}rg\0n\u{E4}m\u{AD}lich", "J\u{F6}rg" },
         { "J\u{F6}rg\0Jo\u{308}rg\0n\u{E4}mlich", "J\u{F6}rg" },
         { "\0scrambled\0pencil", "scrambled" },
      }
      for _, case in ipairs(good) do
         it(("lets %q in"):format(case[1]:gsub(SECRET, "…")), function()
            assert.same(entered(case[2]), say(auth, "PLAIN", { case[1] }))
         end)
      end

      it("asks with an empty challenge where nothing came with AUTH", function()
         assert.same({ challenge = "" }, say(auth, "PLAIN", { n = 1 }))
         assert.same(entered("tim"), say(auth, "PLAIN", { n = 2, nil, "\0tim\0" .. SECRET }))
      end)

      it("takes a password that was stored unprepared", function()
         local raw = users { ann = "na\u{308}mlich", eve = "\u{E000}" }
         assert.same(entered("ann"), say(raw, "PLAIN", { "\0ann\0na\u{308}mlich" }))
         assert.same(entered("eve"), say(raw, "PLAIN", { "\0eve\0\u{E000}" }))
         assert_wrong(say(raw, "PLAIN", { "\0ann\0namlich" }))
      end)

      for _, message in ipairs { "\0tim\0wrong", "\0tom\0" .. SECRET, "\0tim\0" .. SECRET .. " ", "\0Tim\0" .. SECRET,
         "\0tim\0t", "\0scrambled\0penci", "\0scrambled\0" .. SHA256_ENTRY, "\0nobody\0nobody has this password" } do
         it(("refuses %q"):format(message:gsub(SECRET, "…")), function()
            assert_wrong(say(auth, "PLAIN", { message }))
         end)
      end

      for _, message in ipairs { "", "\0", "tim", "\0tim\0", "\0\0x", "\0ti\255m\0x", "\0tim\0\255", "\0a\9b\0x",
         "\0\u{AD}\0x", "\0" .. ("n"):rep(1025) .. "\0x", "\0tim\0" .. ("s"):rep(1025), "\0tim\0a\0b" } do
         it(("says that %q is no such message"):format(message:sub(1, 20)), function()
            assert_refused(say(auth, "PLAIN", { message }), "this is no message of PLAIN: ")
         end)
      end

      it("lets nobody act as somebody else", function()
         local outcome = say(auth, "PLAIN", { "Kurt\0tim\0" .. SECRET })
         assert_refused(outcome, "nobody may act as somebody else")
         assert.equal("AUTH", outcome.code)
         assert_refused(say(auth, "PLAIN", { "\7\0tim\0" .. SECRET }), "nobody may act")
      end)

      it("asks verify in lookup's place, prepared first", function()
         local asked = {}
         local own = { lookup = error, verify = function(name, password)
            asked[#asked + 1] = password
            return password == "a\u{308}" and name == "ann" and "box" or nil
         end }
         assert.same({ name = "ann", mbox = "box" }, say(own, "PLAIN", { "\0ann\0a\u{308}" }))
         assert.same({ "\u{E4}", "a\u{308}" }, asked)
         assert_wrong(say(own, "PLAIN", { "\0bob\0a" }))
      end)

      it("tells faults from refusals", function()
         assert_fault(say({ lookup = function() error("x") end }, "PLAIN", { "\0a\0b" }))
         assert_fault(say({ lookup = function() return nil, "down" end }, "PLAIN", { "\0a\0b" }))
         assert_fault(say({ lookup = function() return 5 end }, "PLAIN", { "\0a\0b" }))
         assert_fault(say({ lookup = function() return "b" end }, "PLAIN", { "\0a\0b" }))
         assert_fault(say({ lookup = function() return "{ROT13}b", "box" end }, "PLAIN", { "\0a\0b" }))
         assert_fault(say({ verify = function() error("x") end }, "PLAIN", { "\0a\0b" }))
         assert_fault(say({ exists = function() error("x") end, lookup = print }, "PLAIN", { "\0a\0b" }))
      end)

      it("asks the hook once, with the prepared name, before the secret is checked", function()
         local calls = {}
         local watched = users { ["\u{E4}"] = "x" }
         local lookup = watched.lookup
         function watched.lookup(name)
            calls[#calls + 1] = "lookup " .. name
            return lookup(name)
         end
         local on = { login = function(_, name, mech) calls[#calls + 1] = mech .. " " .. name end }
         assert.same(entered("\u{E4}"), say(watched, "PLAIN", { "\0a\u{308}\0x" }, { on = on }))
         assert.same({ "PLAIN \u{E4}", "lookup \u{E4}" }, calls)
      end)

      it("is refused by the hook in the hook's words", function()
         local on = { login = function() return false, "not today", "X-NO" end }
         assert.same({ why = "hook", text = "not today", code = "X-NO", name = "tim" },
            say(auth, "PLAIN", { "\0tim\0" .. SECRET }, { on = on }))
      end)
   end)

   describe("LOGIN", function()
      local auth = users { tim = SECRET, ["\u{E4}"] = "\u{F6}" }

      it("asks for name and password", function()
         local send = exchange(auth, "LOGIN")
         assert.same({ challenge = "Username:" }, send(nil))
         assert.same({ challenge = "Password:" }, send("tim"))
         assert.same(entered("tim"), send(SECRET))
      end)

      it("takes the name with AUTH", function()
         assert.same({ challenge = "Password:" }, say(auth, "LOGIN", { "tim" }))
         assert.same(entered("\u{E4}"), say(auth, "LOGIN", { "a\u{308}", "o\u{308}" }))
         assert_wrong(say(auth, "LOGIN", { "tim", "wrong" }))
         assert_wrong(say(auth, "LOGIN", { "tom", SECRET }))
      end)

      for _, name in ipairs { "", "a\0b", "\255", "a\9", ("n"):rep(1025), "\u{E000}" } do
         it(("refuses the name %q"):format(name:sub(1, 20)), function()
            assert_refused(say(auth, "LOGIN", { name }), "this is no message of LOGIN: the name ")
         end)
      end

      for _, password in ipairs { "", "a\0b", "\255", ("n"):rep(1025) } do
         it(("refuses the password %q"):format(password:sub(1, 20)), function()
            assert_refused(say(auth, "LOGIN", { "tim", password }), "this is no message of LOGIN: ")
         end)
      end

      it("takes an answer that the core has nothing of as empty", function()
         assert_refused(say(auth, "LOGIN", { n = 2, "tim", nil }), "the password is empty")
      end)
   end)

   describe("CRAM-MD5 (RFC 2195)", function()
      local auth = users { tim = SECRET, hashed = SHA256_ENTRY, ["a b"] = "{PLAIN}{x}", ["\u{E4}"] = "a\u{308}" }

      before_each(function()
         sasl.challenge = function() return "<1896.697170952@postoffice.reston.mci.net>" end
      end)

      local function hex(text)
         return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
      end

      local function answer(name, password)
         return name .. " " .. hex(core.hmac("MD5", password, sasl.challenge()))
      end

      it("takes the answer of the RFC's example, in any case of its letters", function()
         local send = exchange(auth, "CRAM-MD5")
         assert.same({ challenge = "<1896.697170952@postoffice.reston.mci.net>" }, send(nil))
         assert.same(entered("tim"), send("tim b913a602c7eda7a495b4e6e7334d3890"))
         assert.same(entered("tim"), say(auth, "CRAM-MD5", { n = 2, nil, "tim B913A602C7EDA7A495B4E6E7334D3890" }))
      end)

      it("takes names with spaces, and passwords prepared or not", function()
         assert.same(entered("a b"), say(auth, "CRAM-MD5", { n = 2, nil, answer("a b", "{x}") }))
         assert.same(entered("\u{E4}"), say(auth, "CRAM-MD5", { n = 2, nil, answer("a\u{308}", "\u{E4}") }))
         assert.same(entered("\u{E4}"), say(auth, "CRAM-MD5", { n = 2, nil, answer("\u{E4}", "a\u{308}") }))
      end)

      it("refuses what is wrong", function()
         assert_wrong(say(auth, "CRAM-MD5", { n = 2, nil, "tim b913a602c7eda7a495b4e6e7334d3891" }))
         assert_wrong(say(auth, "CRAM-MD5", { n = 2, nil, "tom b913a602c7eda7a495b4e6e7334d3890" }))
         assert_wrong(say(auth, "CRAM-MD5", { n = 2, nil, answer("nobody", "nobody has this password") }))
         assert_refused(say(auth, "CRAM-MD5", { n = 2, nil, "tim" }), "this is no message of CRAM-MD5")
         assert_refused(say(auth, "CRAM-MD5", { n = 2, nil, nil }), "this is no message of CRAM-MD5")
      end)

      it("refuses an initial response, since the server begins", function()
         assert_refused(say(auth, "CRAM-MD5", { answer("tim", SECRET) }), "the server begins")
         assert_refused(say(auth, "CRAM-MD5", { "" }), "the server begins")
      end)

      it("refuses a user whose entry is a hash, like others, and says so in the log", function()
         assert_wrong(say(auth, "CRAM-MD5", { n = 2, nil, answer("hashed", "nobody has this password") }))
         assert.truthy(table.concat(logged):find("auth.secrets", 1, true))
      end)

      it("makes a challenge that nobody can guess, of letters that every client takes", function()
         sasl.challenge = challenge
         local one, other = sasl.challenge(), sasl.challenge()
         assert.truthy(one:find("^<%x+%.%x+@popd%.lua>$"))
         assert.not_equal(one, other)
      end)
   end)

   -- a published exchange each
   local published = {
      { "SCRAM-SHA-1", "SHA-1", SHA1_ENTRY, "3rfcNHYJY1ZVvWVs7j", "fyko+d2lbbFgONRv9qkxdawL",
         "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
         "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
         "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=" },                                     -- RFC 5802, section 5
      { "SCRAM-SHA-256", "SHA-256", SHA256_ENTRY, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "rOprNGfwEbeRWgbNEkqO",
         "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
         "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
         "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" },                     -- RFC 7677, section 3
   }
   for _, case in ipairs(published) do
      local mechanism, hash, entry, server_nonce, client_nonce, first, final, last = table.unpack(case)

      describe(mechanism, function()
         local auth = users { user = entry, plain = "pencil", hashed = HASH }

         local function client(o)
            o.hash, o.name, o.password = hash, o.name or "user", o.password or "pencil"
            return scram.client(o)
         end

         -- The outcome of a whole exchange, up to the proof.
         local function try(one, o, change)
            local c = client(o)
            local send = exchange(one, mechanism, o.options)
            local outcome = send(c.first)
            if not outcome.challenge then
               return outcome
            end
            local message, expected = c.final(outcome.challenge, change)
            return send(message), expected, send
         end

         it("goes as the RFC's example does", function()
            sasl.nonce = function() return server_nonce end
            local send = exchange(auth, mechanism)
            assert.same({ challenge = "" }, send(nil))
            assert.same({ challenge = first }, send("n,,n=user,r=" .. client_nonce))
            assert.same({ challenge = last }, send(final))
            assert.same(entered("user"), send(""))
         end)

         it("serves a plain password, with a salt that stays the same", function()
            local outcome, expected, send = try(auth, { name = "plain" })
            assert.same({ challenge = expected }, outcome)
            assert.same(entered("plain"), send(""))
            local salts = {}
            for i = 1, 2 do
               salts[i] = client({}).challenged(say(auth, mechanism, { client({ name = "plain" }).first }).challenge)
            end
            assert.equal(salts[1].salt, salts[2].salt)
            assert.equal(16, #salts[1].salt)
            assert.equal(scheme.SCRAM_ITERATIONS, salts[1].iterations)
            assert.not_equal(salts[1].nonce, salts[2].nonce)
         end)

         it("prepares names, and passwords that are stored plain", function()
            local odd = users { ["\u{E4},="] = "\u{2168}" }
            local outcome, expected, send = try(odd, { name = "a\u{308}=2C=3D", password = "IX" })
            assert.same({ challenge = expected }, outcome)
            assert.same(entered("\u{E4},="), send(""))
         end)

         it("takes a name to act as that is the same, and no other", function()
            assert.truthy(try(auth, { gs2 = "n,a=user," }).challenge)
            assert_refused(try(auth, { gs2 = "n,a=plain," }), "nobody may act as somebody else")
         end)

         it("refuses wrong proofs", function()
            assert_wrong(try(auth, { password = "Pencil" }))
            assert_wrong(try(auth, { name = "plain", password = "" }))
            for _, proof in ipairs { ("\0"):rep(hash == "SHA-1" and 20 or 32), "\0\0\0", ("x"):rep(64) } do
               assert_wrong(try(auth, {}, function(m) m.proof = proof end))
            end
            assert_wrong(try(auth, {}, function(m) m.iterations = m.iterations - 1 end))
            assert_wrong(try(auth, {}, function(m) m.salt = m.salt .. "\0" end))
         end)

         it("refuses every altered octet of a proof", function()
            sasl.nonce = function() return server_nonce end
            local from = assert(final:find(",p=", 1, true)) + 3
            for at = from, #final - 2 do
               local other = final:sub(at, at) == "A" and "B" or "A"
               local outcome = say(auth, mechanism,
                  { "n,,n=user,r=" .. client_nonce, final:sub(1, at - 1) .. other .. final:sub(at + 1) })
               assert.is_nil(outcome.challenge)
               assert.equal("password", outcome.why)
            end
         end)

         it("refuses a nonce that is not this exchange's, and messages of another one", function()
            assert_refused(try(auth, {}, function(m) m.nonce = m.nonce .. "x" end), "the nonce is not that")
            assert_refused(try(auth, {}, function(m) m.nonce = m.nonce:sub(1, -2) end), "the nonce is not that")
            sasl.nonce = function() return server_nonce end
            local messages = { "n,,n=user,r=" .. client_nonce, final, "" }
            assert.same(entered("user"), say(auth, mechanism, messages))
            sasl.nonce = nonce
            assert_refused(say(auth, mechanism, { messages[1], messages[2] }), "the nonce is not that")
         end)

         it("refuses another GS2 header than the first", function()
            assert_refused(try(auth, {}, function(m) m.channel = core.base64("y,,") end), "the channel binding is not")
            assert_refused(try(auth, {}, function(m) m.channel = core.base64("n,,x") end), "the channel binding is not")
         end)

         it("refuses messages that are none", function()
            for _, message in ipairs { "", "user", "n,,n=,r=x", "n,,m=x,n=user,r=x", "n,,n=us=41er,r=x",
               "n,,n=us\255er,r=x", "n,,n=\u{AD},r=x", "n,,n=" .. ("u"):rep(1025) .. ",r=x",
               "n,,n=user,r=" .. ("r"):rep(1025) } do
               assert_refused(say(auth, mechanism, { message }), "this is no message of " .. mechanism)
            end
            for _, message in ipairs { "", "c=biws", "c=biws,r=x", final .. "x", "*" } do
               assert_refused(say(auth, mechanism, { "n,,n=user,r=x", message }),
                  "this is no message of " .. mechanism)
            end
         end)

         it("wants an empty answer at the end, and nothing after a refusal", function()
            local outcome, _, send = try(auth, {})
            assert.truthy(outcome.challenge)
            assert_refused(send("more"), "an empty answer is expected")
            assert_refused(send(""), "there is no such mechanism")
         end)

         it("refuses a channel binding, and knows when the client was misled", function()
            assert_refused(say(auth, mechanism, { "p=tls-exporter,,n=user,r=x" }), "-PLUS")
            assert.truthy(try(auth, { gs2 = "y,," }).challenge) -- nothing to bind to here
            core.conn_binding = function() return "octets" end
            assert_refused(try(auth, { gs2 = "y,," }), "somebody has changed what the client was told")
            assert.truthy(try(auth, { gs2 = "n,," }).challenge)
         end)

         it("shows unknown users like known ones, and fails them at the proof", function()
            for _, list in ipairs { { user = entry }, { user = "pencil" }, { user = HASH, known = entry } } do
               local one = users(list)
               say(one, mechanism, { client({ name = list.known and "known" or "user" }).first })
               local known = client({}).challenged(say(one, mechanism, { client({}).first }).challenge)
               local salts = {}
               for i = 1, 2 do
                  local shown = client({}).challenged(say(one, mechanism, { client({ name = "eve" }).first }).challenge)
                  salts[i] = shown.salt
                  assert.equal(known.iterations, shown.iterations)
                  assert.equal(#known.salt, #shown.salt)
                  assert.equal(#known.nonce, #shown.nonce)
                  assert.not_equal(known.salt, shown.salt)
               end
               assert.equal(salts[1], salts[2])
               assert_wrong(try(one, { name = "eve" }))
               assert_wrong(try(one, { name = "eve", password = "nobody has this password" }))
            end
         end)

         it("shows a user who has a hash only like an unknown one", function()
            local outcome = try(auth, { name = "hashed", password = "x" })
            assert_wrong(outcome)
            assert.truthy(table.concat(logged):find("auth.secrets", 1, true))
         end)

         it("shows a user whose plain password SASLprep does not take like an unknown one", function()
            for _, password in ipairs { "bell\7", "\255\254", "\u{E000}", ("x"):rep(1025) } do
               local one = users { user = password, other = entry }
               local shown = say(one, mechanism, { client({ name = "user" }).first })
               local unknown = say(one, mechanism, { client({ name = "eve" }).first })
               assert.is_string(shown.challenge)
               assert.equal(#unknown.challenge, #shown.challenge)
               assert_wrong(try(one, { name = "user", password = "x" }))
            end
         end)

         it("shows an unknown user alike, whoever logged in before", function()
            local many = scram.entry(hash, "pencil", ("s"):rep(16), 8192)
            local one = users { ann = entry, ben = entry, eve = many }
            local function shown() return client({}).challenged(
               say(one, mechanism, { client({ name = "nobody" }).first }).challenge) end
            for _, name in ipairs { "ann", "ben" } do
               say(one, mechanism, { client({ name = name }).first })
            end
            local before = shown()
            say(one, mechanism, { client({ name = "eve" }).first })
            local after = shown()
            assert.same({ before.iterations, before.salt }, { after.iterations, after.salt })
         end)

         it("learns from auth.dummy what entries look like", function()
            local one = users {}
            one.dummy, one.secrets = scram.entry(hash, "x", ("s"):rep(70), 5000), "scram"
            local shown = client({}).challenged(say(one, mechanism, { client({}).first }).challenge)
            assert.equal(5000, shown.iterations)
            assert.equal(70, #shown.salt)
         end)

         it("makes salts with auth.salt_key", function()
            local one, other, same = users {}, users {}, users {}
            one.salt_key, other.salt_key, same.salt_key = "a", "b", "a"
            local function salt_of(auth_of)
               return client({}).challenged(say(auth_of, mechanism, { client({}).first }).challenge).salt
            end
            assert.equal(salt_of(one), salt_of(same))
            assert.not_equal(salt_of(one), salt_of(other))
         end)

         it("tells faults from refusals", function()
            assert_fault(try({ lookup = function() error("x") end }, {}))
            assert_fault(try(users { user = "{ROT13}x" }, {}))
            assert_fault(try({ exists = function() return nil, "down" end, lookup = print }, {}))
            local outcome, _, send = try({ lookup = function() return entry end }, {})
            assert.truthy(outcome.challenge)
            assert_fault(send(""))
         end)
      end)

      describe(mechanism .. "-PLUS", function()
         local auth = users { user = entry }
         local octets = { ["tls-exporter"] = ("e"):rep(32), ["tls-server-end-point"] = ("s"):rep(32) }

         before_each(function()
            core.conn_binding = function(_, name) return octets[name] end
         end)

         local function try(gs2, bound)
            local c = scram.client { hash = hash, name = "user", password = "pencil", gs2 = gs2, binding = bound }
            local send = exchange(auth, mechanism .. "-PLUS")
            local outcome = send(c.first)
            if not outcome.challenge then
               return outcome
            end
            local message, expected = c.final(outcome.challenge)
            return send(message), expected, send
         end

         for name, bound in pairs(octets) do
            it("binds to " .. name, function()
               local outcome, expected, send = try("p=" .. name .. ",,", bound)
               assert.same({ challenge = expected }, outcome)
               assert.same(entered("user"), send(""))
            end)

            it("refuses another connection's " .. name, function()
               assert_refused(try("p=" .. name .. ",,", ("x"):rep(32)), "the channel binding is not that")
               assert_refused(try("p=" .. name .. ",,", ""), "the channel binding is not that")
               assert_refused(try("p=" .. name .. ",,", bound .. "x"), "the channel binding is not that")
            end)
         end

         it("refuses the octets of one binding under the name of the other", function()
            assert_refused(try("p=tls-exporter,,", octets["tls-server-end-point"]), "the channel binding is not that")
         end)

         it("refuses bindings that are unknown, and none", function()
            assert_refused(try("p=tls-unique,,", ""), "not available here")
            assert_refused(try("p=TLS-EXPORTER,,", octets["tls-exporter"]), "not available here")
            assert_refused(try("n,,"), "a channel binding is expected")
            assert_refused(try("y,,"), "a channel binding is expected")
         end)

         it("refuses where the connection has no such octets", function()
            core.conn_binding = function() return nil end
            assert_refused(try("p=tls-exporter,,", octets["tls-exporter"]), "not available here")
         end)
      end)
   end

   describe("tokens", function()
      local TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
      local asked
      local auth = { token = function(name, token)
         asked[#asked + 1] = name .. " " .. token
         if token == TOKEN then
            return "box", name == "" and "ann" or nil
         elseif token == "alias" then
            return "box", "canonical"
         elseif token == "down" then
            return nil, "down"
         end
      end }

      before_each(function() asked = {} end)

      local function bearer(token, gs2)
         return (gs2 or "n,a=user@example.com,") .. "\1host=server.example.com\1port=143\1auth=Bearer " .. token
            .. "\1\1"
      end

      local function xoauth2(token)
         return "user=someuser@example.com\1auth=Bearer " .. token .. "\1\1"
      end

      it("OAUTHBEARER takes the message of RFC 7628", function()
         assert.same({ name = "user@example.com", mbox = "box" }, say(auth, "OAUTHBEARER", { bearer(TOKEN) }))
         assert.same({ "user@example.com " .. TOKEN }, asked)
         assert.same({ challenge = "" }, say(auth, "OAUTHBEARER", { n = 1 }))
      end)

      it("OAUTHBEARER takes the name from token where the client tells none", function()
         assert.same({ name = "ann", mbox = "box" }, say(auth, "OAUTHBEARER", { bearer(TOKEN, "n,,") }))
         assert.same({ name = "canonical", mbox = "box" }, say(auth, "OAUTHBEARER", { bearer("alias") }))
         assert_fault(say({ token = function() return "box" end }, "OAUTHBEARER", { bearer("t", "n,,") }))
         assert_fault(say({ token = function() return "box", 5 end }, "OAUTHBEARER", { bearer("t") }))
      end)

      it("XOAUTH2 does", function()
         assert.same({ name = "someuser@example.com", mbox = "box" }, say(auth, "XOAUTH2", { xoauth2(TOKEN) }))
      end)

      local refusals = {
         { "OAUTHBEARER", bearer, '{"status":"invalid_token"}',
            '{"status":"invalid_token","scope":"mail \\u0022x\\u0022","openid-configuration":"https://x.example/o"}' },
         { "XOAUTH2", xoauth2, '{"status":"401","schemes":"bearer"}',
            '{"status":"401","schemes":"bearer","scope":"mail \\u0022x\\u0022"}' },
      }
      for _, case in ipairs(refusals) do
         it(case[1] .. " says in JSON why it refuses, then refuses", function()
            for _, dummy in ipairs { "\1", "", "AQ==" } do
               local send = exchange(auth, case[1])
               local outcome = send(case[2]("wrong"))
               assert.equal(case[3], outcome.challenge)
               assert.equal("password", outcome.why)
               assert_wrong(send(dummy))
            end
            local told = { token = auth.token, oauth = { scope = 'mail "x"', discovery = "https://x.example/o" } }
            assert.equal(case[4], say(told, case[1], { case[2]("wrong") }).challenge)
         end)

         it(case[1] .. " cannot be talked into a yes after a refusal", function()
            local send = exchange(auth, case[1])
            send(case[2]("wrong"))
            assert_wrong(send(case[2](TOKEN)))
            assert.equal(1, #asked)
         end)

         it(case[1] .. " tells faults from refusals", function()
            assert_fault(say(auth, case[1], { case[2]("down") }))
            assert_refused(say(auth, case[1], { "\1" }), "this is no message of " .. case[1])
            assert_refused(say(auth, case[1], { "" }), "this is no message of " .. case[1])
         end)
      end

      it("OAUTHBEARER answers a client that asks for a token's source, without asking the site", function()
         local outcome = say(auth, "OAUTHBEARER", { "n,,\1auth=\1\1" })
         assert.same({ challenge = '{"status":"invalid_token"}' }, outcome)
         assert.same({}, asked)
      end)

      it("refuse names that are none", function()
         assert_refused(say(auth, "OAUTHBEARER", { bearer(TOKEN, "n,a=\7,") }), "the name has a character")
         assert_refused(say(auth, "XOAUTH2", { "user=\u{AD}\1auth=Bearer t\1\1" }), "the name is empty")
      end)
   end)

   describe("EXTERNAL (RFC 4422)", function()
      local client = { subject = "CN=ann" }
      local auth = { certificate = function(name, shown)
         assert.equal(client, shown)
         if name == "" then
            return "box", "ann"
         elseif name == "down" then
            error("down")
         end
         return name == "ann" and "box" or nil
      end }

      local tls = { tls = { client = client } }

      it("lets in whom the certificate names", function()
         assert.same({ name = "ann", mbox = "box" }, say(auth, "EXTERNAL", { "" }, tls))
         assert.same({ name = "ann", mbox = "box" }, say(auth, "EXTERNAL", { "ann" }, tls))
         assert.same({ challenge = "" }, say(auth, "EXTERNAL", { n = 1 }, tls))
      end)

      it("refuses others", function()
         assert_wrong(say(auth, "EXTERNAL", { "eve" }, tls))
         assert_fault(say(auth, "EXTERNAL", { "down" }, tls))
         assert_refused(say(auth, "EXTERNAL", { "\255" }, tls), "the name is no UTF-8")
         assert_refused(say(auth, "EXTERNAL", { "a\0" }, tls), "the name has a character")
         assert_fault(say({ certificate = function() return "box" end }, "EXTERNAL", { "" }, tls))
      end)

      for what, value in pairs { ["without TLS"] = false, ["with TLS"] = { client = false }, ["with less"] = true } do
         it("refuses a client " .. what .. " that has shown no certificate", function()
            assert_refused(say(auth, "EXTERNAL", { "ann" }, { tls = value }), "needs a client certificate")
         end)
      end
   end)

   describe("a site's own mechanism", function()
      local function run(step, messages, options)
         return say({ mechanisms = { ["X-OWN"] = step } }, "X-OWN", messages, options)
      end

      it("gets bytes, a table of its own and conn, and goes on with strings", function()
         local seen = {}
         local function step(bytes, state, conn)
            state.count = (state.count or 0) + 1
            seen[#seen + 1] = ("%s %d %d"):format(bytes, state.count, conn.id)
            if state.count < 3 then
               return "challenge " .. state.count
            end
            return true, "ann", { "box" }
         end
         local send = exchange({ mechanisms = { ["X-OWN"] = { step = step } } }, "X-OWN")
         assert.same({ challenge = "challenge 1" }, send(nil))
         assert.same({ challenge = "challenge 2" }, send("a\0b"))
         assert.same({ name = "ann", mbox = { "box" } }, send(""))
         assert.same({ "nil 1 1", "a\0b 2 1", " 3 1" }, seen)
      end)

      it("tells the hook whose login it was", function()
         local calls = {}
         local on = { login = function(_, name, mech) calls[#calls + 1] = name .. " " .. mech end }
         run(function() return true, "ann", 1 end, { "" }, { on = on })
         run(function() return nil end, { "" }, { on = on })
         assert.same({ "ann X-OWN" }, calls)
         on.login = function() return false, "no" end
         assert.equal("hook", run(function() return true, "ann", 1 end, { "" }, { on = on }).why)
      end)

      it("refuses, and fails, as it says", function()
         assert_wrong(run(function() return nil end, { "" }))
         assert_wrong(run(function() return false end, { "" }))
         assert_fault(run(function() return nil, "down" end, { "" }))
         assert_fault(run(function() error("down") end, { "" }))
      end)

      for what, step in pairs {
         ["a number"] = function() return 5 end,
         ["true alone"] = function() return true end,
         ["no mbox"] = function() return true, "ann" end,
         ["no name"] = function() return true, nil, "box" end,
         ["an empty name"] = function() return true, "", "box" end,
         ["a name that is no string"] = function() return true, 5, "box" end,
         ["a name that is too long"] = function() return true, ("n"):rep(1025), "box" end,
         ["a table"] = function() return {} end,
      } do
         it("fails if it returns " .. what, function()
            assert_fault(run(step, { "" }))
         end)
      end

      it("ends with its exchange", function()
         local conn, options = new_conn(), { auth = { mechanisms = { ["X-OWN"] = function(bytes) return bytes end } } }
         assert.same({ challenge = "a" }, login.step(conn, options, "X-OWN", "", "a", "", true))
         assert_refused(login.step(new_conn(), options, "X-OWN", "", "a", "", false), "there is no such mechanism")
         options.auth = nil -- the exchange goes on with what it began with
         assert.same({ challenge = "b" }, login.step(conn, options, "X-OWN", "", "b", "", false))
         assert_refused(login.step(conn, options, "X-OWN", "", "a", "", true), "there is no such mechanism")
      end)
   end)

   describe("offers", function()
      local function offered(auth)
         local names = {}
         for i, row in ipairs(sasl.offered(auth)) do
            names[i] = row.name .. (row.plain and "/plain" or "") .. (row.tls and "/tls" or "")
               .. (row.cert and "/cert" or "")
         end
         return table.concat(names, " ")
      end

      local PLUS = "SCRAM-SHA-256-PLUS/tls SCRAM-SHA-1-PLUS/tls "
      local SCRAM = PLUS .. "SCRAM-SHA-256 SCRAM-SHA-1"
      local TOKENS = "OAUTHBEARER/plain XOAUTH2/plain"
      local PASSWORDS = "PLAIN/plain LOGIN/plain"

      local cases = {
         { "nothing without auth", nil, "" },
         { "all of lookup's", { lookup = print }, SCRAM .. " CRAM-MD5 " .. PASSWORDS },
         { "no CRAM-MD5 for SCRAM entries", { lookup = print, secrets = "scram" }, SCRAM .. " " .. PASSWORDS },
         { "one SCRAM for entries of one hash", { lookup = print, secrets = "scram-sha-256" },
            "SCRAM-SHA-256-PLUS/tls SCRAM-SHA-256 " .. PASSWORDS },
         { "passwords only for hashes", { lookup = print, secrets = "hash" }, PASSWORDS },
         { "passwords only for verify", { verify = print }, PASSWORDS },
         { "tokens", { token = print }, TOKENS },
         { "certificates", { certificate = print }, "EXTERNAL/tls/cert" },
         { "tokens and passwords", { verify = print, token = print }, TOKENS .. " " .. PASSWORDS },
         { "a site's own last, sorted", { token = print, mechanisms = { ["X-B"] = print, ["X-A"] = { step = print,
            plain = true, tls = true, cert = true } } }, TOKENS .. " X-A/plain/tls/cert X-B" },
         { "none that the site took away", { lookup = print, secrets = "hash", mechanisms = { LOGIN = false } },
            "PLAIN/plain" },
         { "a site's own in place of one built in", { lookup = print, secrets = "hash",
            mechanisms = { ["X-A"] = print, LOGIN = print } }, "PLAIN/plain LOGIN/plain X-A" },
         { "a site's own that needs what the one built in needs, unless it says otherwise", { verify = print,
            mechanisms = { PLAIN = print, LOGIN = { step = print, plain = false }, EXTERNAL = print } },
            "EXTERNAL/tls/cert LOGIN PLAIN/plain" },
      }
      for _, case in ipairs(cases) do
         it(case[1], function()
            core.conn_binding = core.conn_binding or print
            assert.equal(case[3], offered(case[2]))
         end)
      end
   end)

   describe("USER and APOP", function()
      local auth = users { ["\u{E4}"] = "\u{F6}", ["a\255"] = "x", tim = "tanstaaf", hashed = SHA256_ENTRY }

      it("prepare names and passwords that are UTF-8, and take others as they are", function()
         local function user(name, password)
            return login.step(new_conn(), { auth = auth }, "user", name, password, "", true)
         end
         assert.same(entered("\u{E4}"), user("a\u{308}", "o\u{308}"))
         assert.same(entered("a\255"), user("a\255", "x"))
         assert.same(entered("hashed"), user("hashed", "pencil"))
      end)

      it("check APOP's digest", function()
         local stamp, digest = "<1896.697170952@dbc.mtview.ca.us>", "c4c9334bac560ecc979e58001b3e22fb"
         assert.same(entered("tim"), login.step(new_conn(), { auth = auth }, "apop", "tim", digest, stamp, true))
         assert_wrong(login.step(new_conn(), { auth = auth }, "apop", "tim", digest, stamp .. "x", true))
         assert_wrong(login.step(new_conn(), { auth = auth }, "apop", "tom", digest, stamp, true))
         assert_wrong(login.step(new_conn(), { auth = auth }, "apop", "hashed", digest, stamp, true))
      end)

      it("let nobody in without auth", function()
         assert_wrong(login.step(new_conn(), {}, "user", "tim", "tanstaaf", "", true))
         assert_wrong(login.step(new_conn(), {}, "apop", "tim", "tanstaaf", "", true))
      end)
   end)

   -- Clients that send an empty password are refused; those that prove to have it
   -- must be, too.
   for _, stored in ipairs { "", "{PLAIN}", "{CLEARTEXT.hex}" } do
      it(("lets nobody in whose password is the empty one, %q"):format(stored), function()
         local auth, stamp = users { tim = stored }, "<1@x>"
         sasl.challenge = function() return "<2@x>" end
         local digest = core.hmac("MD5", "", "<2@x>"):gsub(".", function(o) return ("%02x"):format(o:byte()) end)
         assert_wrong(say(auth, "CRAM-MD5", { n = 2, nil, "tim " .. digest }))
         assert_wrong(login.step(new_conn(), { auth = auth }, "apop", "tim", md5(stamp), stamp, true))
         local c = scram.client { hash = "SHA-256", name = "tim", password = "" }
         local send = exchange(auth, "SCRAM-SHA-256")
         assert_wrong(send((c.final(send(c.first).challenge))))
         assert.truthy(table.concat(logged):find("empty password", 1, true))
      end)
   end

   it("hashes as much for unknown users as for known ones", function()
      local verify, verified = scheme.verify, {}
      local entry = "{SHA}" .. core.base64(core.digest("SHA-1", "x"))
      local auth = users { ann = entry }
      finally(function() scheme.verify = verify end)
      scheme.verify = function(stored, password)
         verified[#verified + 1] = stored
         return verify(stored, password)
      end
      assert.same(entered("ann"), say(auth, "PLAIN", { "\0ann\0x" }))
      assert_wrong(say(auth, "PLAIN", { "\0eve\0x" }))
      auth.dummy = "{SHA256}" .. core.base64(core.digest("SHA-256", "x"))
      assert_wrong(say(auth, "PLAIN", { "\0eve\0x" }))
      auth.exists = function() return false end
      assert_wrong(login.step(new_conn(), { auth = auth }, "user", "eve", "x", "", true))
      assert.same({ entry, entry, auth.dummy, auth.dummy }, verified)
   end)
end)
