local core = require("popd.core")
local files = require("support.files")
local passwd = require("popd.passwd")
local popd = require("popd")

describe("popd.passwd", function()
   local dir, file, logged

   before_each(function()
      dir, logged = files.new_dir(), {}
      file = dir .. "/users"
      core.log_to(function(_, line) logged[#logged + 1] = line end, "warning")
   end)

   after_each(function()
      core.log_to(nil, "warning")
      files.remove(dir)
   end)

   -- the file, then what lookup says of joe
   local good = {
      { "joe:secret", "secret", "joe" },
      { "joe:secret:box", "secret", "box" },
      { "joe:{PLAIN}secret:box:more:fields", "{PLAIN}secret", "box" },
      { "# a comment\n\n  \njoe:secret with blanks \n", "secret with blanks ", "joe" },
      { "ann:other\r\njoe:secret\r\n", "secret", "joe" },
      { "joe:old\njoe:secret", "secret", "joe" },
      { "\239\187\191joe:secret", "secret", "joe" },
      { "ann:other\n" },
   }
   for _, case in ipairs(good) do
      it(("reads %q"):format(case[1]), function()
         files.put(file, case[1])
         assert.same({ case[2], case[3] }, { assert(passwd.new { file = file }).lookup("joe") })
      end)
   end

   for text, why in pairs {
      ["joe"] = "users:1: no ':'", ["ann:x\njoe:"] = "users:2: the password is missing", [" joe:x"] = "blanks",
      ["joe :x"] = "blanks",
   } do
      it(("says what is wrong with %q"):format(text), function()
         files.put(file, text)
         local auth, err = passwd.new { file = file }
         assert.is_nil(auth)
         assert.truthy(err:find(why, 1, true), err)
      end)
   end

   it("reads a file again that was replaced", function()
      files.put(file, "joe:old")
      local auth = passwd.new { file = file }
      files.put(dir .. "/new", "joe:secret")
      assert(os.rename(dir .. "/new", file))
      assert.equal("secret", (auth.lookup("joe")))
   end)

   it("reads again what a symbolic link leads to", function()
      files.put(dir .. "/real", "joe:old")
      files.run("ln -s %s %s", dir .. "/real", file)
      local auth = passwd.new { file = file }
      files.put(dir .. "/real", "joe:a longer secret")
      assert.equal("a longer secret", (auth.lookup("joe")))
   end)

   it("keeps the users that it knew while the file cannot be understood, and says so once", function()
      files.put(file, "joe:secret")
      local auth = passwd.new { file = file }
      files.put(file, "nonsense")
      assert.equal("secret", (auth.lookup("joe")))
      assert.equal("secret", (auth.lookup("joe")))
      assert.equal(1, #logged)
      os.remove(file)
      assert.equal("secret", (auth.lookup("joe")))
      assert.equal(2, #logged)
   end)

   it("has a dummy as most users have it, of the same file the same each time", function()
      local lines = {}
      local function user(name, work)
         lines[#lines + 1] = ("%s:{SCRAM-SHA-256}%d,%s,%s,%s"):format(name, work, core.base64(core.random(16)),
            core.base64(core.random(32)), core.base64(core.random(32)))
      end
      for i = 1, 20 do
         user(("n%d"):format(i), i < 10 and 4096 or 15000)
         user(("m%d"):format(i), i % 2 == 0 and 15000 or 4096)
         user(("l%d"):format(i), 5000 + i)
      end
      local dummies = {}
      for i = 1, 8 do
         table.insert(lines, table.remove(lines, 1)) -- what stands where says nothing
         files.put(file, table.concat(lines, "\n"))
         dummies[i] = passwd.new { file = file }.dummy
         assert.equal(dummies[1], dummies[i])
      end
      assert.truthy(dummies[1]:find("15000", 1, true), dummies[1])
   end)

   -- Reading a long file is a matter of many turns of the loop.
   it("does not go back to a long file that was read before the present one, and for longer", function()
      local lines = {}
      for i = 1, 20000 do
         lines[i] = ("user%d:secret"):format(i)
      end
      files.put(file, "ann:secret")
      local auth = passwd.new { file = file }
      files.put(file, table.concat(lines, "\n"))
      local found
      popd.spawn(function() found = { auth.lookup("user1") } end)
      popd.step(0)
      assert.is_nil(found, "it was read at one go")
      files.put(file, "bob:secret")
      assert.equal("secret", (auth.lookup("bob")))
      while popd.step(0) do
         assert.equal("secret", (auth.lookup("bob")))
      end
      assert.is_table(found)
      assert.equal("secret", (auth.lookup("bob")))
      assert.is_nil((auth.lookup("user1")))
   end)

   it("reads a large file beside the logins, which no budget of theirs ends", function()
      local line = ("user%d:" .. ("s"):rep(100) .. "\n")
      local lines = {}
      for i = 1, 45000 do
         lines[i] = line:format(i)
      end
      files.put(file, "ann:secret")
      local auth = passwd.new { file = file }
      files.put(file, table.concat(lines))
      assert.equal("secret", (auth.lookup("ann")))
      assert.is_nil((auth.lookup("user45000")))
      while popd.step(0) do end -- luacheck: ignore
      assert.is_nil((auth.lookup("ann")))
      assert.equal(("s"):rep(100), (auth.lookup("user45000")))
   end)

   for what, command in pairs {
      ["a directory"] = "mkdir %s", ["a pipe"] = "mkfifo %s", ["a device without end"] = "ln -s /dev/zero %s",
      ["a file of a terabyte"] = "truncate -s 1T %s",
   } do
      it(("does not take %s for the users' file"):format(what), function()
         files.put(file, "joe:secret")
         local auth = passwd.new { file = file }
         os.remove(file)
         files.run(command, file)
         assert.equal("secret", (auth.lookup("joe")))
         assert.equal(1, #logged)
         assert.is_nil((passwd.new { file = file }))
      end)
   end

   it("raises for wrong options", function()
      assert.is_false((pcall(passwd.new, {})))
      assert.is_false((pcall(passwd.new)))
      assert.is_false((pcall(passwd.new, { file = file, form = "shadow" })))
      assert.is_false((pcall(passwd.new, { file = file, From = "popd" })))
   end)

   -- Hashes -------------------------------------------------------------------

   local SSHA, SHA256 = "{SSHA}986H5cS9JcDYQeJd6wKaITMho4M9CrXM", "{SHA256}" .. ("A"):rep(43) .. "="
   local SCRAM = "{SCRAM-SHA-1}4096,GetyLXdBuHzf1FWf8SLz2Q==,NA/OqmF4hhrsrB9KR7po+dliTGM=,QBiURvQaE6H6qYTmeghDHLANBFQ="
   local COLONS = "{scram-sha-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE="
   local SCRAM256 = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
      .. "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
   local CRYPT = "$1$12345678$aIccj83HRDBo6ux1bVx7D1"

   -- a line, then the password and mbox in each form; nil: the user is locked
   -- out; a text: what is wrong with it
   local lines = {
      { "joe:" .. SCRAM .. ":box", { SCRAM, "box" }, { SCRAM, "joe" } },
      { "joe:" .. COLONS, { COLONS, "joe" }, { COLONS, "joe" } },
      { "joe:" .. COLONS .. ":box", { COLONS, "box" }, { COLONS, "joe" } },
      { "joe:" .. COLONS .. ":8:8::/home/joe", { COLONS, "8" }, { COLONS, "joe" }, guessed = { COLONS, "joe" } },
      { "joe:" .. CRYPT .. ":box", { CRYPT, "box" }, { CRYPT, "joe" } },
      { "joe:" .. SSHA .. ":1000:1000::/home/joe:/bin/sh:userdb_mail=maildir:~/Mail", { SSHA, "1000" },
         { SSHA, "joe" }, guessed = { SSHA, "joe" } },
      { "joe:" .. SSHA .. "::::::", { SSHA, "joe" }, { SSHA, "joe" } },
      { "joe:" .. CRYPT .. ":8:8:::", { CRYPT, "8" }, { CRYPT, "joe" }, guessed = { CRYPT, "joe" } },
      { "joe:CCNf8Sbh3HDfQ", { "CCNf8Sbh3HDfQ", "joe" }, { "{CRYPT}CCNf8Sbh3HDfQ", "joe" } },
      { "joe:CCNf8Sbh3HDfQ:8:8::/home/joe", { "CCNf8Sbh3HDfQ", "8" }, { "{CRYPT}CCNf8Sbh3HDfQ", "joe" },
         guessed = "users:1: a password without {SCHEME}" },
      { "joe:secret:8:8::/home/joe", { "secret", "8" }, "users:1: an entry of {CRYPT}",
         guessed = "users:1: a password without {SCHEME}" },
      { "joe:!" .. CRYPT .. ":8:8::/home/joe:", { "!" .. CRYPT, "8" }, nil, guessed = {} },
      { "joe:*:8:8::/home/joe:", { "*", "8" }, nil, guessed = {} },
      { "joe:x:8:8::/home/joe:", { "x", "8" }, nil, guessed = {} },
      { "joe:" .. SSHA .. ":8:8::/home/joe::nologin", { SSHA, "8" }, nil, guessed = {} },
      { "joe:" .. SSHA .. ":8:8::/home/joe::a=b nologin=yes c", { SSHA, "8" }, nil, guessed = {} },
      { "joe:" .. SSHA .. ":8:8::/home/joe::allow_nets=10.0.0.0/8", { SSHA, "8" }, "users:1: allow_nets",
         guessed = "users:1: allow_nets" },
      { "joe:" .. SSHA .. ":box:8::/home/joe:", { SSHA, "box" }, { SSHA, "joe" } },
   }
   local function reads(case, form, expected)
      it(("reads %q, form %s"):format(case[1], form or "absent"), function()
         files.put(file, case[1])
         local auth, err = passwd.new { file = file, form = form }
         if type(expected) == "string" then
            assert.is_nil(auth)
            assert.truthy(err:find(expected, 1, true), err)
         else
            assert.same(expected or {}, { assert(auth, err).lookup("joe") })
         end
      end)
   end
   for _, case in ipairs(lines) do
      reads(case, "popd", case[2])
      reads(case, "dovecot", case[3])
      reads(case, nil, case.guessed or case[2])
   end

   for text, why in pairs {
      ["ann:x\njoe:{FOO}secret"] = "users:2: {FOO} is no scheme", ["joe:{SSHA}secret"] = "users:1: an entry of {SSHA}",
      ["\n\njoe:{SHA}"] = "users:3: an entry of {SHA}", ["joe:$9$secret"] = "users:1: an entry of {CRYPT}",
      ["joe:{secret"] = "users:1: a '{'", ["joe:{PLAIN}:box"] = "users:1: the password is missing",
      ["joe:{SCRAM-SHA-1}4096:secret"] = "users:1: an entry of {SCRAM-SHA-1}",
      ["joe:{SCRAM-SHA-1}0,secret"] = "users:1: an entry of {SCRAM-SHA-1}",
   } do
      it(("refuses %q and does not tell what it is"):format(text), function()
         files.put(file, text)
         local auth, err = passwd.new { file = file }
         assert.is_nil(auth)
         assert.truthy(err:find(why, 1, true), err)
         assert.falsy(err:find("secret", 1, true), err)
      end)
   end

   it("keeps the users that it knew when a hash cannot be used, and does not log it", function()
      files.put(file, "joe:" .. SSHA)
      local auth = passwd.new { file = file }
      files.put(file, "ann:secret\njoe:{SSHA}c2VjcmV0")
      assert.equal(SSHA, (auth.lookup("joe")))
      assert.is_nil(auth.lookup("ann"))
      assert.equal("hash", auth.secrets)
      assert.equal(1, #logged)
      assert.truthy(logged[1]:find("users:2", 1, true), logged[1])
      assert.falsy(logged[1]:find("c2Vj", 1, true), logged[1])
   end)

   -- the file, what all passwords serve, and the entry to check unknown users by
   for _, case in ipairs {
      { "", "plain", nil },
      { "joe:secret", "plain", "secret" },
      { "joe:" .. SCRAM, "scram-sha-1", SCRAM },
      { "joe:secret\nann:" .. SCRAM .. "\nbob:" .. SCRAM, "scram-sha-1", SCRAM },
      { "joe:secret\nann:other\nbob:" .. SSHA, "hash", { secret = true, other = true } },
      { "joe:" .. SHA256 .. "\nann:" .. SHA256 .. "\nbob:" .. SCRAM .. "\ncarl:" .. SHA256, "hash", SHA256 },
      { "joe:" .. SCRAM256, "scram-sha-256", SCRAM256 },
      { "joe:" .. SCRAM256 .. "\nann:" .. SCRAM, "scram", { [SCRAM256] = true, [SCRAM] = true } },
      { "joe:x:1:1::/:\nann:" .. SCRAM, "scram-sha-1", SCRAM },
   } do
      it(("knows what the passwords of %q serve"):format(case[1]), function()
         files.put(file, case[1])
         local auth = assert(passwd.new { file = file })
         assert.equal(case[2], auth.secrets)
         if type(case[3]) == "table" then
            assert.is_true(case[3][auth.dummy])
         else
            assert.equal(case[3], auth.dummy)
         end
      end)
   end

   it("tells when what they serve has changed", function()
      files.put(file, "joe:secret")
      local auth, seen = assert(passwd.new { file = file }), {}
      auth.changed = function() seen[#seen + 1] = auth.secrets end
      files.put(file, "joe:another secret")
      auth.lookup("joe")
      assert.same({}, seen)
      files.put(file, "joe:" .. SCRAM)
      auth.lookup("nobody")
      files.put(file, "joe:" .. SSHA)
      auth.refresh()
      auth.refresh()
      assert.same({ "scram-sha-1", "hash" }, seen)
      assert.equal(SSHA, auth.dummy)
   end)
end)
