local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")
local scheme = require("popd.scheme")

local function hex(octets)
   return (octets:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- Runs f as a task and the loop until it ended; returns its results.
local function run(f, ...)
   local results
   popd.spawn(function(...)
      results = table.pack(pcall(f, ...))
   end, ...)
   client.wait_for("the task", function() return results end)
   assert(results[1], results[2])
   return table.unpack(results, 2, results.n)
end

-- f raises at this file's line.
local function raises(pattern, f)
   local ok, why = pcall(f)
   assert.is_false(ok)
   assert.truthy(why:find("scheme_spec.lua:%d+: scheme%.%l+: .*" .. pattern), why)
end

-- Published entries: where from, the stored password, the password, kind and scheme.
local good = {
   { "a plain one", "secret", "secret", "plain", "PLAIN" },
   { "an empty one", "", "", "plain", "PLAIN" },
   { "a plain one with its scheme", "{PLAIN}{x}$y", "{x}$y", "plain", "PLAIN" },
   { "one of any octets", "{cleartext}a\0b\255\n", "a\0b\255\n", "plain", "CLEARTEXT" },
   { "a plain one in base64", "{PLAIN.b64}cGFzcw==", "pass", "plain", "PLAIN" },
   { "a plain one in hex", "{PLAIN.hex}70617373", "pass", "plain", "PLAIN" },
   { "Dovecot's tests", "{SCRAM-SHA-1}4096,GetyLXdBuHzf1FWf8SLz2Q==,NA/OqmF4hhrsrB9KR7po+dliTGM=,"
      .. "QBiURvQaE6H6qYTmeghDHLANBFQ=", "test", "scram", "SCRAM-SHA-1" },
   { "Dovecot's tests", "{SCRAM-SHA-256}4096,LfNGSFqiFykEZ1xDAYlnKQ==,"
      .. "HACNf9CII7cMz3XjRy/Oh3Ae2LHApoDyNw74d3YtFws=,AQH0j7Hf8J12g8eNBadvzlNB2am3PxgNwFCFd3RxEaw=", "test", "scram",
      "SCRAM-SHA-256" },
   { "RFC 5802's example in RFC 5803's form", "{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:"
      .. "D+CSWLOshSulAsxiupA+qs2/fTE=", "pencil", "scram", "SCRAM-SHA-1" },
   { "RFC 7677's example", "{scram-sha-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
      .. "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", "pencil", "scram",
      "SCRAM-SHA-256" },
   { "passlib's manual", "{PBKDF2-SHA256}6400$.6UI/S.nXIk8jcbdHx3Fhg$98jZicV16ODfEsEZeYPGHU3kbrUrvUEXOPimVSQDD44",
      "password", "hash", "PBKDF2-SHA256" },
   { "Dovecot's manual", "{SSHA}986H5cS9JcDYQeJd6wKaITMho4M9CrXM", "pass", "hash", "SSHA" },
   { "Dovecot's manual", "{SSHA256.hex}4a847fefc4f9ab450f16783c5025d64313942a1ceb2599707cdb65940ba901e513fa442f",
      "pass", "hash", "SSHA256" },
   { "another implementation", "{SSHA}6Wd6DcKLV/+WZ3/0yO/WxthZdGpOYUNs", "tanstaaf", "hash", "SSHA" },
   { "another implementation", "{SSHA256}GTa+wEVkpObBAH9YJbp4QxrK1YxM2fKdLLMNAftaylpOYUNs", "tanstaaf", "hash",
      "SSHA256" },
   { "another implementation", "{SSHA512}jqGozEp4n+HZES+UdACCimfeGrTXRsYlEQs7y6kSCBlXKS0VRFLKF7Gqqc03BTu/mV9PnecmCsP0"
      .. "LTSfc1+EbE5hQ2w=", "tanstaaf", "hash", "SSHA512" },
   { "another implementation", "{SHA}60cXn4M+9rlkPiIl1CM8mjjFKYE=", "tanstaaf", "hash", "SHA" },
   { "another implementation, in hex", "{SHA}eb47179f833ef6b9643e2225d4233c9a38c52981", "tanstaaf", "hash", "SHA" },
   { "another implementation", "{SHA256.HEX}D8E649897E1FDC812871321EB6A622BB56B61A8BE1B88058471651FAE5C12CAA",
      "tanstaaf", "hash", "SHA256" },
   { "another implementation", "{SHA512.b64}7k4B2Jp+VfRq9eIRUB9fGp9ZeNyZPWiiDRYSh7oJALW7dmzxjah/z/nf+cj/MOzDknLTjla4"
      .. "zoq4EfWvmjU7oA==", "tanstaaf", "hash", "SHA512" },
   { "the description of SHA-crypt", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!",
      "hash", "CRYPT" },
   { "the description of SHA-crypt", "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJu"
      .. "esI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!", "hash", "SHA512-CRYPT" },
   { "bcrypt's tests", "{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", "hash",
      "BLF-CRYPT" },
   { "crypt's tests", "{MD5-CRYPT}$1$12345678$aIccj83HRDBo6ux1bVx7D1", "0123456789ABCDE", "hash", "MD5-CRYPT" },
   { "crypt's tests", "{CRYPT}CCNf8Sbh3HDfQ", "U*U*U*U*", "hash", "CRYPT" },
   { "scrypt's tests", "$7$C6..../....SodiumChloride$kBGj9fHznVYFQMEn/qDCfrDevf9YDtcDdKvEqHJLV8D",
      "pleaseletmein", "hash", "CRYPT" },
   { "yescrypt's tests", "$y$jD5.7$LdJMENpBABJJ3hIHjB1Bi.$HboGM6qPrsK.StKYGt6KErmUYtioHreJd98oIugoNB6", "pleaseletmein",
      "hash", "CRYPT" },
}

-- What cannot be used, and a word of the reason.
local key1, key256 = ("A"):rep(27) .. "=", ("A"):rep(43) .. "="
local bad = {
   { "{}x", "no scheme" },
   { "{PLAIN", "without a scheme" },
   { "{", "without a scheme" },
   { "{FOO}secret", "{FOO} is no scheme" },
   { "{Hunter2}secret", "a name in braces" },
   { "{ARGON2ID}$argon2id$v=19$x", "{ARGON2ID}" },
   { "{PLAIN.rot13}secret", "{PLAIN} has no such encoding" },
   { "{CRYPT.b64}secret", "{CRYPT} has no such encoding" },
   { "{SCRAM-SHA-256.b64}secret", "{SCRAM-SHA-256} has no such encoding" },
   { "{PLAIN.b64}c2Vj=", "{PLAIN}" },
   { "{PLAIN.hex}abc", "{PLAIN}" },
   { "{SCRAM-SHA-1}", "four fields" },
   { "{SCRAM-SHA-1}4096,QUJD," .. key1, "four fields" },
   { "{SCRAM-SHA-1}4096,QUJD," .. key1 .. "," .. key1 .. ",", "four fields" },
   { "{SCRAM-SHA-1}0,QUJD," .. key1 .. "," .. key1, "iterations" },
   { "{SCRAM-SHA-1}-1,QUJD," .. key1 .. "," .. key1, "iterations" },
   { "{SCRAM-SHA-1}04096,QUJD," .. key1 .. "," .. key1, "iterations" },
   { "{SCRAM-SHA-1}1e3,QUJD," .. key1 .. "," .. key1, "iterations" },
   { "{SCRAM-SHA-1}10000001,QUJD," .. key1 .. "," .. key1, "iterations" },
   { "{SCRAM-SHA-1}99999999999999999999,QUJD," .. key1 .. "," .. key1, "iterations" },
   { "{SCRAM-SHA-1}4096,," .. key1 .. "," .. key1, "length" },
   { "{SCRAM-SHA-1}4096,QUJ," .. key1 .. "," .. key1, "base64" },
   { "{SCRAM-SHA-1}4096,QUJD," .. key256 .. "," .. key1, "length" },
   { "{SCRAM-SHA-256}4096,QUJD," .. key1 .. "," .. key256, "length" },
   { "{SCRAM-SHA-256}4096,QUJD,!" .. key256 .. "," .. key256, "base64" },
   { "{PBKDF2-SHA256}", "three fields" },
   { "{PBKDF2-SHA256}0$QUJD$" .. ("A"):rep(43), "iterations" },
   { "{PBKDF2-SHA256}1000000000$QUJD$" .. ("A"):rep(43), "iterations" },
   { "{PBKDF2-SHA256}10$QUJD$" .. ("A"):rep(42), "{PBKDF2-SHA256}" },
   { "{PBKDF2-SHA256}10$QUJD$" .. ("+"):rep(43), "base64" },
   { "{PBKDF2-SHA256}10$Q$" .. ("A"):rep(43), "base64" },
   { "{SSHA}60cXn4M+9rlkPiIl1CM8mjjFKYE=", "length" },
   { "{SSHA256.hex}2b1c", "length" },
   { "{SHA}60cXn4M+9rlkPiIl1CM8mjjFKY==", "{SHA}" },
   { "{SHA}", "length" },
   { "{SHA256}60cXn4M+9rlkPiIl1CM8mjjFKYE=", "length" },
   { "$", "crypt(3)" },
   { "$9$salt$secret", "crypt(3)" },
   { "{CRYPT}", "{CRYPT}" },
   { "{CRYPT}!", "{CRYPT}" },
   { "{CRYPT}*0", "{CRYPT}" },
   { "{CRYPT}secret", "length" },
   { "{CRYPT}CCNf8Sbh3HDf", "length" },
   { "$6$saltstring", "length" },
   { "$6$saltstring$svn8UoSV", "length" },
   { "$y$jD5.7$LdJMENpBABJJ3hIHjB1Bi.", "length" },
   { "{SHA256-CRYPT}$6$saltstring$svn8UoSV", "another method" },
   { "{BLF-CRYPT}CCNf8Sbh3HDfQ", "another method" },
   { "$6$rounds=999999999$saltstring$" .. ("a"):rep(86), "more work" },
   { "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "more work" },
   { "$y$jzT$LdJMENpBABJJ3hIHjB1Bi.$HboGM6qPrsK.StKYGt6KErmUYtioHreJd98oIugoNB6", "more work" },
   { "$y$jFU$salt$" .. ("a"):rep(43), "more work" },         -- a little more than 1 GB
   { "$gy$jFj$salt$" .. ("a"):rep(43), "more work" },
   { "$y$j.zzzzz$salt$" .. ("a"):rep(43), "more work" },     -- an r of several letters
   { "$y$j9T.z$salt$" .. ("a"):rep(43), "more work" },       -- p
   { "$y$j9T/z$salt$" .. ("a"):rep(43), "more work" },       -- t: further rounds
   { "$7$IU..../....salt$" .. ("a"):rep(43), "more work" },  -- scrypt's N
   { "$7$/zzzzz/....salt$" .. ("a"):rep(43), "more work" },  -- its r
   { "$7$C6....zzzzzsalt$" .. ("a"):rep(43), "more work" },  -- its p
   { "$md5,rounds=4294960000$salt$$" .. ("a"):rep(22), "more work" },
   { "$sha1$4294967295$salt$" .. ("a"):rep(28), "more work" },
}

-- Where the value of a stored password begins.
local function value_at(stored)
   return (select(2, stored:find("^{[^}]*}")) or 0) + 1
end

local function is_slow(stored)
   return scheme.kind(stored) ~= "plain" and not stored:find("^{S?SHA")
end

describe("popd.scheme", function()
   after_each(client.finish)

   for _, case in ipairs(good) do
      local from, stored, password, kind, name = table.unpack(case)

      it(("verifies {%s}: %s"):format(name, from), function()
         assert.is_true(scheme.verify(stored, password))
         assert.is_true(run(scheme.verify, stored, password))
         for _, wrong in ipairs { password .. "x", password .. "\0", "x" .. password, "\0", ("x"):rep(2000), stored } do
            -- DES looks at eight characters only, which is known of it
            local same = wrong == password -- a plain one that is stored as it is
            if stored ~= "{CRYPT}CCNf8Sbh3HDfQ" or not wrong:find("U*U*U*U*", 1, true) then
               assert.equal(same, (scheme.verify(stored, wrong)), wrong)
            end
         end
         if password ~= "" then
            assert.is_false(scheme.verify(stored, ""))
            assert.is_false(scheme.verify(stored, password:sub(1, -2)))
         end
      end)

      it(("knows {%s} as %s: %s"):format(name, kind, from), function()
         assert.same({ kind, name }, { scheme.kind(stored) })
         assert.same({ kind, name, (scheme.plain(stored)) }, { scheme.read(stored) })
      end)
   end

   it("takes names in any case", function()
      assert.is_true(scheme.verify("{sSha}986H5cS9JcDYQeJd6wKaITMho4M9CrXM", "pass"))
      assert.is_true(scheme.verify("{plain}x", "x"))
   end)

   for _, case in ipairs(bad) do
      it(("cannot use %q"):format(case[1]), function()
         for _, f in ipairs { scheme.kind, scheme.read, scheme.verify, scheme.plain } do
            local result, why = f(case[1], "secret")
            assert.is_nil(result)
            assert.truthy(why:find(case[2], 1, true), why)
            assert.falsy(why:find("secret", 1, true), why)
            assert.falsy(why:find("Hunter", 1, true), why)
            assert.falsy(why:find("svn8", 1, true), why)
         end
         assert.is_nil((scheme.scram(case[1], "SHA-1", "salt")))
      end)
   end

   it("verifies no entry that was cut off, and never raises", function()
      for _, case in ipairs(good) do
         local stored, password = case[2], case[3]
         for n = value_at(stored), #stored - 1 do
            local cut = stored:sub(1, n)
            assert.is_not_true(scheme.verify(cut, password), cut)
         end
      end
   end)

   it("verifies no entry of which an octet changed, and never raises", function()
      for _, case in ipairs(good) do
         local stored, password = case[2], case[3]
         for at = value_at(stored), #stored, is_slow(stored) and 5 or 1 do
            local octet = stored:byte(at)
            local others = is_slow(stored) and { octet ~ 1 } or { octet ~ 1, octet ~ 4, octet ~ 128, 0, 44, 61 }
            for _, other in ipairs(others) do
               local changed = stored:sub(1, at - 1) .. string.char(other) .. stored:sub(at + 1)
               if changed ~= stored then
                  local ok, same = pcall(scheme.verify, changed, password)
                  assert.is_true(ok, same)
                  assert.is_not_true(same, changed)
               end
            end
         end
      end
   end)

   it("survives noise", function()
      local seed = 1
      local function random(n)
         seed = (seed * 1103515245 + 12345) % 2147483648
         return seed // 65536 % n
      end
      for _ = 1, 2000 do
         local stored = good[random(#good) + 1][2]
         local from, to = random(#stored + 1), random(#stored + 1)
         local mixed = stored:sub(1, from) .. string.char(random(256)) .. stored:sub(to)
         assert.is_true((pcall(scheme.kind, mixed)))
         assert.is_true((pcall(scheme.plain, mixed)))
      end
   end)

   it("raises for what is no string", function()
      for _, f in ipairs { scheme.verify, scheme.kind, scheme.read, scheme.plain, scheme.scram } do
         raises("as a string expected", function() f(nil, "x") end)
      end
      raises("password as a string expected", function() scheme.verify("x") end)
      raises("SHA%-1", function() scheme.scram("x", "MD5") end)
      raises("salt as a string expected", function() scheme.scram("x", "SHA-1") end)
   end)

   it("tells the plain password of plain ones alone", function()
      assert.equal("x", scheme.plain("x"))
      assert.equal("$x", scheme.plain("{PLAIN}$x"))
      local text, why = scheme.plain("{SSHA}986H5cS9JcDYQeJd6wKaITMho4M9CrXM")
      assert.is_nil(text)
      assert.truthy(why:find("{SSHA}", 1, true))
   end)

   describe("scram", function()
      -- The examples of RFC 5802, section 5, and RFC 7677, section 3.
      local cases = {
         { "SHA-1", "QSXCR+Q6sek8bf92",
            "n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
            .. "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=" },
         { "SHA-256", "W22ZaJ0SNY7soEsUEjb6gQ==",
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            .. "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" },
      }
      for _, case in ipairs(cases) do
         local hash, salt, message, proof, signature = table.unpack(case)

         it("makes the RFC's keys of a plain password, for " .. hash, function()
            local made = run(scheme.scram, "pencil", hash, core.unbase64(salt), 4096)
            assert.equal(4096, made.iterations)
            assert.equal(core.unbase64(salt), made.salt)
            assert.equal(signature, core.base64(core.hmac(hash, made.server_key, message)))
            local mask, given, client_key = core.hmac(hash, made.stored_key, message), core.unbase64(proof), {}
            for i = 1, #mask do
               client_key[i] = string.char(mask:byte(i) ~ given:byte(i))
            end
            assert.equal(made.stored_key, core.digest(hash, table.concat(client_key)))
         end)

         it("reads what make writes, for " .. hash, function()
            local stored = scheme.make("SCRAM-" .. hash, "pencil", { iterations = 4096 })
            local read = scheme.scram(stored, hash)
            assert.same(read, scheme.scram("{PLAIN}pencil", hash, read.salt, 4096))
            assert.equal(16, #read.salt)
         end)
      end

      it("of one hash does not serve the other", function()
         local stored = scheme.make("SCRAM-SHA-256", "pencil", { iterations = 4096 })
         local made, why = scheme.scram(stored, "SHA-1", "salt")
         assert.is_nil(made)
         assert.truthy(why:find("{SCRAM-SHA-256} does not serve SCRAM-SHA-1", 1, true), why)
         assert.is_nil((scheme.scram("{SSHA}986H5cS9JcDYQeJd6wKaITMho4M9CrXM", "SHA-1", "salt")))
      end)

      it("has the iterations of new entries where none are given", function()
         assert.equal(scheme.SCRAM_ITERATIONS, scheme.scram("x", "SHA-256", "salt").iterations)
      end)
   end)

   describe("of SCRAM", function()
      local function made(password)
         return assert(scheme.make("SCRAM-SHA-1", password, { iterations = 4096 }))
      end

      it("takes for one what SASLprep makes one", function()
         assert.is_true(scheme.verify(made("IX"), "\u{2168}"))
         assert.is_true(scheme.verify(made("I\u{AD}X"), "IX"))
         assert.is_true(scheme.verify(made("a\u{308}"), "\u{E4}"))
         assert.is_false(scheme.verify(made("a"), "\u{E4}"))
         assert.equal(scheme.scram("IX", "SHA-1", "salt").stored_key,
            scheme.scram("\u{2168}", "SHA-1", "salt").stored_key)
      end)

      it("verifies nothing that SASLprep does not allow, and does not store it", function()
         for _, password in ipairs { "a\7", "\255", "\u{627}1" } do
            assert.is_false(scheme.verify(made("a"), password))
            local stored, why = scheme.make("SCRAM-SHA-1", password)
            assert.is_nil(stored)
            assert.truthy(why:find("SASLprep", 1, true), why)
            stored, why = scheme.scram(password, "SHA-1", "salt")
            assert.is_nil(stored)
            assert.truthy(why:find("SASLprep", 1, true), why)
         end
      end)
   end)

   describe("make", function()
      local cheap = {
         ["PBKDF2-SHA256"] = { iterations = 1000 }, ["BLF-CRYPT"] = { cost = 4 }, ["SHA256-CRYPT"] = { cost = 1000 },
         ["SHA512-CRYPT"] = { cost = 1000 }, CRYPT = { cost = 1 },
      }
      for _, name in ipairs(scheme.names) do
         it(("makes a {%s} that verifies, another each time"):format(name), function()
            local stored = assert(run(scheme.make, name, "tanstaaf", cheap[name]))
            assert.equal("{" .. name .. "}", stored:sub(1, #name + 2))
            assert.is_true(scheme.verify(stored, "tanstaaf"))
            assert.is_false(scheme.verify(stored, "tanstaag"))
            local kind, told = scheme.kind(stored)
            assert.equal(name, told)
            if kind ~= "plain" then
               assert.is_nil((stored:find("tanstaaf", 1, true)))
               assert.not_equal(stored, scheme.make(name, "tanstaaf", cheap[name]))
            end
         end)
      end

      for _, case in ipairs {
         { "SCRAM-SHA-256", nil, "^{SCRAM%-SHA%-256}15000," },
         { "PBKDF2-SHA256", nil, "^{PBKDF2%-SHA256}600000%$" },
         { "CRYPT", nil, "^{CRYPT}%$y%$j9T%$" },
         { "BLF-CRYPT", nil, "^{BLF%-CRYPT}%$2b%$10%$" },
         { "SHA512-CRYPT", nil, "^{SHA512%-CRYPT}%$6%$rounds=100000%$" },
         { "SCRAM-SHA-256", { iterations = 5000 }, "^{SCRAM%-SHA%-256}5000,[^,]*,[^,]*,[^,]*$" },
         { "PBKDF2-SHA256", { iterations = 3 }, "^{PBKDF2%-SHA256}3%$[%w./]*%$[%w./]*$" },
         { "blf-crypt", { cost = 4 }, "^{BLF%-CRYPT}%$2b%$04%$" },
         { "CRYPT", { cost = 1 }, "^{CRYPT}%$y%$j75%$" },
         { "SHA512-CRYPT", { cost = 1234 }, "^{SHA512%-CRYPT}%$6%$rounds=1234%$" },
      } do
         it(("does the work that is asked for, or is its own, in {%s}: %s"):format(case[1], case[3]), function()
            local stored = scheme.make(case[1], "x", case[2])
            assert.truthy(stored:find(case[3]), stored)
            assert.is_true(scheme.verify(stored, "x"))
         end)
      end

      it("raises for an unknown scheme and names the choices", function()
         raises("'ROT13'; there are: .*SSHA512", function() scheme.make("ROT13", "x") end)
         raises("there are: BLF%-CRYPT", function() scheme.make("SHA", "x") end)
      end)

      for _, case in ipairs {
         { "SSHA", { iterations = 5 }, "has no option 'iterations'; there is: none" },
         { "CRYPT", { iterations = 5 }, "there is: cost" },
         { "SCRAM-SHA-256", { iterations = 4095 }, "from 4096 to 10000000" },
         { "SCRAM-SHA-256", { iterations = 1e8 }, "from 4096 to 10000000" },
         { "SCRAM-SHA-256", { iterations = 5000.0 }, "an integer" },
         { "CRYPT", { cost = "5" }, "from 1 to 11" },
         { "CRYPT", 5, "options are a table" },
      } do
         it(("raises for wrong options of {%s}: %s"):format(case[1], case[3]), function()
            raises(case[3], function() scheme.make(case[1], "x", case[2]) end)
         end)
      end

      it("says what it cannot take", function()
         for _, case in ipairs {
            { "CRYPT", "a\0b", "NUL" }, { "CRYPT", ("x"):rep(600), "too long" }, { "SSHA", ("x"):rep(1025), "longer" },
            { "PBKDF2-SHA256", "a\0", "NUL" },
         } do
            local stored, why = scheme.make(case[1], case[2])
            assert.is_nil(stored)
            assert.truthy(why:find(case[3], 1, true), why)
         end
      end)
   end)
end)

describe("core.pbkdf2", function()
   -- RFC 6070, and RFC 7914, section 11: kind, password, salt, iterations, octets
   for _, case in ipairs {
      { "SHA-1", "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6" },
      { "SHA-1", "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957" },
      { "SHA-1", "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1" },
      { "SHA-1", "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
         "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038" },
      { "SHA-1", "pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3" },
      { "SHA-256", "passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
         .. "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783" },
      { "SHA-256", "Password", "NaCl", 80000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
         .. "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d" },
   } do
      local kind, password, salt, iterations, expected = table.unpack(case)
      it(("makes the RFCs' octets: %s, %q, %d"):format(kind, password, iterations), function()
         assert.equal(expected, hex(core.pbkdf2(kind, password, salt, iterations, #expected // 2)))
         assert.equal(expected, hex(run(core.pbkdf2, kind, password, salt, iterations, #expected // 2)))
      end)
   end

   it("raises for work without end", function()
      for _, case in ipairs {
         { "SHA-1", "x", "y", 0, 20 }, { "SHA-1", "x", "y", 10000001, 20 }, { "SHA-1", "x", "y", -1, 20 },
         { "SHA-1", "x", "y", 1, 0 }, { "SHA-1", "x", "y", 1, 257 }, { "MD4", "x", "y", 1, 20 },
         { "SHA-1", "x", "y", math.huge, 20 }, { "SHA-1", nil, "y", 1, 20 },
      } do
         assert.is_false((pcall(core.pbkdf2, table.unpack(case, 1, 5))))
      end
   end)
end)
