local files = require("spec.support.files")
local passwd = require("popd.passwd")
local program = require("spec.support.program")
local scheme = require("popd.scheme")

local has_python = os.execute("command -v python3 >/dev/null 2>&1") == true

describe("popd-lua passwd", function()
   local dir, users

   before_each(function()
      dir = files.new_dir()
      users = dir .. "/users"
   end)

   after_each(function()
      files.remove(dir)
   end)

   -- Runs it with that on its standard input.
   local function enter(input, ...)
      files.put(dir .. "/input", input)
      local shell = { "sh", "-c", 'input=$1; shift; exec "$@" <"$input"', "sh", dir .. "/input" }
      local status, out, err = program.run(shell, program.path(), "passwd", ...)
      os.remove(dir .. "/input")
      return status, out, err
   end

   local function contains(text, part)
      assert.is_truthy(text:find(part, 1, true), ("%q lacks %q"):format(text, part))
   end

   local function output_of(command)
      local pipe = assert(io.popen(command))
      local text = pipe:read("a")
      pipe:close()
      return (text:gsub("\n$", ""))
   end

   -- The only file that is left.
   local function is_alone()
      assert.equal("users", output_of("ls -A " .. dir))
   end

   describe("prints an entry", function()
      it("by SCRAM-SHA-256, from one line of standard input", function()
         local status, out, err = enter("secret\n", "joe")
         assert.same({ 0, "" }, { status, err })
         local stored = out:match("^joe:({SCRAM%-SHA%-256}[^:\n]+)\n$")
         assert.is_true(scheme.verify(stored, "secret"))
         assert.is_false(scheme.verify(stored, "secret "))
      end)

      for _, name in ipairs {
         "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "PBKDF2-SHA256", "SSHA256", "SSHA512", "CRYPT", "SHA512-CRYPT",
         "BLF-CRYPT",
      } do
         it("by " .. name, function()
            local status, out, err = enter("two words", "--scheme", name, "joe", "box")
            assert.equal(0, status, err)
            local stored = out:match("^joe:(.+):box\n$")
            assert.equal(("{%s}"):format(name), stored:sub(1, #name + 2))
            assert.is_true(scheme.verify(stored, "two words"))
         end)
      end

      it("that popd.passwd reads", function()
         local _, out = enter("pässwörd 123\r\n", "jörg@example.org", "jörg-box")
         local auth = assert(passwd.new { file = files.put(users, out) })
         local stored, mbox = auth.lookup("jörg@example.org")
         assert.equal("jörg-box", mbox)
         assert.is_true(scheme.verify(stored, "pässwörd 123"))
      end)

      it("with another salt each time", function()
         assert.are_not.equal(select(2, enter("secret", "joe")), (select(2, enter("secret", "joe"))))
      end)

      it("without the password", function()
         for _, name in ipairs { "SCRAM-SHA-256", "SSHA256", "CRYPT" } do
            local _, out, err = enter("very secret", "--scheme", name, "joe")
            assert.is_falsy((out .. err):find("very secret", 1, true))
         end
      end)
   end)

   describe("on a terminal", function()
      local function type_in(answers, ...)
         return program.run({ "python3", "spec/support/terminal.py", answers, program.path(), "passwd" }, ...)
      end

      local function rule(name, f)
         it(name, function()
            if not has_python then
               return pending("python3 is not installed")
            end
            f()
         end)
      end

      rule("asks twice and shows nothing of it", function()
         local _, out, err = type_in("secret,secret", "--file", users, "joe")
         assert.equal("Password of joe: \nOnce more: \n--\necho on\nstatus 0\n", out, err)
         local auth = assert(passwd.new { file = users })
         assert.is_true(scheme.verify((auth.lookup("joe")), "secret"))
      end)

      rule("refuses two that differ", function()
         local _, out, err = type_in("secret,sacred", "--file", users, "joe")
         contains(out, "the two are not the same")
         contains(out, "--\necho on\nstatus 1\n")
         assert.is_falsy(out:find("s[ea]cre"), err)
         assert.is_false(files.exists(users))
      end)

      rule("gives the echo back when it is interrupted", function()
         local _, out, err = type_in("^C", "--file", users, "joe")
         assert.equal("echo on\nsignal 2\n", out:match("%-%-\n(.*)$"), err)
      end)
   end)

   describe("--file", function()
      local others = "# users\r\nann:{PLAIN}a:box:more\n\n  # joe:old\njo:{PLAIN}b\njoey:{PLAIN}c"

      it("makes the file, for its owner alone", function()
         local status, out, err = enter("secret", "--file", users, "joe", "box")
         assert.same({ 0, "", "" }, { status, out, err })
         assert.equal("600", output_of("stat -c %a " .. users))
         assert.is_truthy(files.text(users):find("^joe:{SCRAM%-SHA%-256}[^:]+:box\n$"))
         is_alone()
      end)

      -- what is there                        what is there then; @ stands for the new password
      local cases = {
         { "",                                   "joe:@\n" },
         { "ann:a\n",                            "ann:a\njoe:@\n" },
         { "ann:a",                              "ann:a\njoe:@\n" },
         { "ann:a\r\n",                          "ann:a\r\njoe:@\r\n" },
         { "joe:old\n",                          "joe:@\n" },
         { "joe:old",                            "joe:@" },
         { "joe:old:box:more:\n",                "joe:@:box:more:\n" },
         { "ann:a\r\njoe:old:box\r\neve:e\r\n",  "ann:a\r\njoe:@:box\r\neve:e\r\n" },
         { "\239\187\191joe:old\nann:a\n",       "\239\187\191joe:@\nann:a\n" },
         { "joe:{SCRAM-SHA-1}4096:c2FsdA==$YQ==:Yg==:box\n", "joe:@:box\n" },
         { "joe:{PLAIN}x:1000:1000::/home/joe::\n", "joe:@:1000:1000::/home/joe::\n" },
         { others,                               others .. "\r\njoe:@\r\n" },
         { others .. "\njoe::\n",                others .. "\njoe:@:\n" },
      }
      for _, case in ipairs(cases) do
         it(("changes %q"):format(case[1]), function()
            files.put(users, case[1])
            assert.equal(0, (enter("secret", "--scheme", "plain", "--file", users, "joe")))
            assert.equal(case[2], (files.text(users):gsub("{PLAIN}secret", "@")))
            is_alone()
         end)
      end

      it("sets the mbox that is given, and keeps what is behind it", function()
         files.put(users, "joe:old:box:more\nann:a:a\n")
         assert.equal(0, (enter("secret", "--scheme", "PLAIN", "--file", users, "joe", "other")))
         assert.equal("joe:{PLAIN}secret:other:more\nann:a:a\n", files.text(users))
      end)

      it("keeps the file's mode", function()
         files.put(users, "joe:old\n")
         files.run("chmod 640 %s", users)
         assert.equal(0, (enter("secret", "--file", users, "joe")))
         assert.equal("640", output_of("stat -c %a " .. users))
      end)

      it("keeps the file's owner and group", function()
         if output_of("id -u") ~= "0" then
            return pending("needs root")
         end
         files.put(users, "joe:old\n")
         files.run("chown nobody:daemon %s && chmod 440 %s", users, users)
         assert.equal(0, (enter("secret", "--file", users, "joe")))
         assert.equal("nobody daemon 440", output_of("stat -c '%U %G %a' " .. users))
      end)

      -- what is there         arguments behind --file FILE     what it says
      local refused = {
         { "joe:a\njoe:b\n",     { "joe" },                       "'joe' has two lines, the second is 2" },
         { "joe:{PLAIN}x:1:1:::\n", { "joe", "box" },             "Dovecot's form" },
         { "joe:a\n",            { "--scheme", "ROT13", "joe" },  "unknown scheme 'ROT13'" },
      }
      for _, case in ipairs(refused) do
         it("changes nothing where " .. case[3], function()
            files.put(users, case[1])
            local status, out, err = enter("secret", "--file", users, table.unpack(case[2]))
            assert.same({ 1, "" }, { status, out })
            contains(err, case[3])
            assert.equal(case[1], files.text(users))
            is_alone()
         end)
      end

      it("takes no password that the file cannot hold", function()
         files.put(users, "joe:old\n")
         local status, _, err = enter("sec:ret", "--scheme", "PLAIN", "--file", users, "joe")
         assert.equal(1, status)
         contains(err, "':'")
         assert.is_falsy(err:find("sec:ret", 1, true))
         assert.equal("joe:old\n", files.text(users))
      end)

      it("changes nothing through a symbolic link, and says so", function()
         files.put(dir .. "/real", "joe:old\n")
         files.run("ln -s real %s", users)
         local status, _, err = enter("secret", "--file", users, "joe")
         assert.equal(1, status)
         contains(err, "name what the link leads to")
         assert.equal("joe:old\n", files.text(dir .. "/real"))
      end)

      it("refuses what is no file", function()
         files.run("mkfifo %s", users)
         local status, _, err = enter("secret", "--file", users, "joe")
         assert.equal(1, status)
         contains(err, "not a regular file")
      end)

      it("says where it cannot write", function()
         local status, _, err = enter("secret", "--file", "/nowhere/users", "joe")
         assert.equal(1, status)
         contains(err, "/nowhere/users: No such file or directory")
      end)

      it("waits for nobody: another one that has the file is told", function()
         files.put(users, "joe:old\n")
         local other = files.other_process(('say(require("popd.fs").lock(%q, 0) and "locked")'):format(users))
         assert.equal("locked", other.said)
         local status, _, err = enter("secret", "--file", users, "joe")
         other.stop()
         assert.equal(1, status)
         contains(err, "another popd-lua passwd is changing it")
         assert.equal("joe:old\n", files.text(users))
      end)
   end)

   describe("with --store", function()
      local function on_database(name, f)
         it(name, function()
            if not pcall(require, "luasql.sqlite3") then
               return pending("LuaSQL's sqlite3 driver is not installed")
            end
            local store = "sqlite:" .. dir .. "/mail.db"
            f(require("popd.sqlite").new { file = dir .. "/mail.db", threads = 1 }, function(password, ...)
               local own = files.as_oneself()
               table.move({ ... }, 1, select("#", ...), #own + 1, own)
               return enter(password, "--store", store, table.unpack(own))
            end)
         end)
      end

      on_database("makes the file, adds a user, then changes the password", function(store, enter_there)
         for _, password in ipairs { "first", "second" } do
            assert.same({ 0, "", "" }, { enter_there(password, "o'neil@example.org") })
            assert.is_true(scheme.verify((store.lookup("o'neil@example.org")), password))
         end
         assert.same({ "o'neil@example.org" }, store.users())
      end)

      on_database("says what is wrong with the file", function(_, enter_there)
         files.put(dir .. "/mail.db", ("no database\n"):rep(100))
         local status, out, err = enter_there("secret", "joe")
         assert.same({ 1, "" }, { status, out })
         contains(err, "/mail.db: file is not a database")
      end)
   end)

   -- standard input       arguments                   status  what it says
   local wrong = {
      { "secret",            {},                         2, "whose password?" },
      { "secret",            { "" },                     2, "whose password?" },
      { "secret",            { "a:b" },                  2, "a name cannot hold ':'" },
      { "secret",            { "a\nb" },                 2, "a name cannot hold" },
      { "secret",            { "#joe" },                 2, "cannot begin with '#'" },
      { "secret",            { " joe" },                 2, "blank" },
      { "secret",            { "joe", "a:b" },           2, "an mbox cannot hold ':'" },
      { "secret",            { "joe", "box", "hush" },   2, "the password is never an argument" },
      { "secret",            { "--password=x", "joe" },  2, "unknown option --password" },
      { "secret",            { "--scheme" },             2, "--scheme needs a value" },
      { "secret",            { "--store", "x", "joe" },  2, "none of maildir:PATH" },
      { "secret",            { "--store", "dbox:/x", "joe" }, 2, "--store sqlite:FILE" },
      { "secret",            { "--store=sqlite:/x", "joe", "box" }, 2, "no --file and no mbox" },
      { "secret",            { "--user", "x", "joe" },   2, "--user goes with --store" },
      { "",                  { "joe" },                  1, "standard input has no line" },
      { "\n",                { "joe" },                  1, "the password is empty" },
      { "a\0b\n",            { "joe" },                  1, "cannot hold NUL" },
      { ("x"):rep(2000),     { "joe" },                  1, "the line is too long" },
   }
   for _, case in ipairs(wrong) do
      it(("refuses %q %s"):format(case[1]:sub(1, 20), table.concat(case[2], " ")), function()
         local status, out, err = enter(case[1], table.unpack(case[2]))
         assert.same({ case[3], "" }, { status, out })
         contains(err, case[4])
      end)
   end
end)
