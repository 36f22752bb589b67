local files = require("spec.support.files")
local fs = require("popd.fs")
local udb = require("popd.udb")

-- Words that a saved file must bring back.
local HARD = {
   "two words",
   " both ends ",
   "{",
   "}",
   "a{b}c",
   "{SSHA}x",
   "\\",
   "a\\",
   "\\{",
   "$x",
   "$",
   "[exit]",
   '"',
   'a"b',
   "#x",
   ";",
   "a;b",
   "line\nend",
   "\r\n",
   "\0",
   "a\0001",
   "\1\0262\127",
   "\t",
   "\xc3\xa4\xe2\x82\xac",
   "\xff\xfe",
   "{*}x",
   "-x",
   "~x",
   "\\n",
}

describe("popd.udb", function()
   local dir, file, users

   before_each(function()
      dir = files.new_dir()
      file = dir .. "/users"
      users = udb.new()
   end)

   after_each(function()
      files.remove(dir)
   end)

   it("knows whom it was told", function()
      assert.is_true(users.add("joe", "secret", "joe-box"))
      users.add("ann", "geheim", "ann-box")
      assert.same({ "secret", "joe-box" }, { users.lookup("joe") })
      assert.is_true(users.exists("joe"))
      assert.is_false(users.exists("eve"))
      assert.is_nil(users.lookup("eve"))
      assert.same({ "ann", "joe" }, users.who())
      users.add("joe", "new", "box")
      assert.same({ "new", "box" }, { users.lookup("joe") })
   end)

   it("removes and renames", function()
      users.add("joe", "secret", "box")
      users.add("ann", "geheim", "box")
      assert.same({ nil, "there is a user 'ann' already" }, { users.rename("joe", "ann") })
      assert.same({ nil, "no user 'eve'" }, { users.rename("eve", "x") })
      assert.is_true(users.rename("joe", "jim"))
      assert.same({ "ann", "jim" }, users.who())
      assert.same({ "secret", "box" }, { users.lookup("jim") })
      assert.is_true(users.remove("jim"))
      assert.same({ nil, "no user 'jim'" }, { users.remove("jim") })
      assert.same({ "ann" }, users.who())
   end)

   it("marks plain passwords that look like a hash", function()
      for _, password in ipairs({ "{SSHA}x", "$1$x", "{", "$", "{PLAIN}x" }) do
         users.add("joe", password, "box")
         assert.equal("{PLAIN}" .. password, (users.lookup("joe")))
      end
      users.add("joe", " {x", "box")
      assert.equal(" {x", (users.lookup("joe")))
   end)

   it("raises at the caller's line what is missing", function()
      local cases = {
         { "add", "user" },
         { "add", "user", "" },
         { "add", "password", "joe" },
         { "add", "password", "joe", "" },
         { "add", "storage reference", "joe", "secret" },
         { "add", "storage reference", "joe", "secret", {} },
         { "remove", "user" },
         { "rename", "user" },
         { "rename", "new name", "joe" },
         { "read", "file" },
         { "save", "file" },
      }
      for _, case in ipairs(cases) do
         local ok, why = pcall(function()
            users[case[1]](table.unpack(case, 3))
         end)
         assert.is_false(ok)
         assert.matches("udb_spec.lua:%d+: " .. case[2] .. " missing", why)
      end
   end)

   describe("save and read", function()
      local function reread()
         assert(users.save(file))
         local again = udb.new()
         assert(again.read(file))
         return again
      end

      for _, word in ipairs(HARD) do
         it(("bring back %q"):format(word), function()
            users.add(word, "x" .. word, word .. "x")
            users.add("joe", word, word)
            local again = reread()
            assert.same(users.who(), again.who())
            for _, name in ipairs(users.who()) do
               assert.same({ users.lookup(name) }, { again.lookup(name) })
            end
         end)
      end

      it("bring back no users", function()
         assert.same({}, reread().who())
      end)

      it("leave a file that only its owner reads, and nothing beside it", function()
         files.put(file, "add old old old")
         files.run("chmod 644 %s", file)
         users.add("joe", "secret", "box")
         assert.is_true(users.save(file))
         assert.equal(tonumber("600", 8), fs.stat(file).mode)
         assert.same({ "users" }, (fs.scandir(dir)))
      end)

      it("save where they read last", function()
         files.put(file, "add joe secret box\n")
         assert.is_true(users.read(file))
         assert.is_nil((users.read(dir .. "/no")))
         users.add("ann", "geheim", "box")
         assert.is_true(users.save())
         local again = udb.new()
         again.read(file)
         assert.same({ "ann", "joe" }, again.who())
      end)

      it("leave the old file when the new one cannot be written", function()
         files.put(file, "add old old old\n")
         users.add("joe", "secret", "box")
         local ok, why = users.save(dir .. "/no/users")
         assert.is_nil(ok)
         assert.matches("^write .*No such file or directory$", why)
         files.run("mkdir %s", dir .. "/d")
         ok, why = users.save(dir .. "/d")
         assert.is_nil(ok)
         assert.matches("^rename .*Is a directory$", why)
         assert.equal("add old old old\n", files.text(file))
         local names = fs.scandir(dir)
         table.sort(names)
         assert.same({ "d", "users" }, names)
      end)

      it("replace whom they knew", function()
         users.add("joe", "secret", "box")
         files.put(file, "add ann geheim box\n")
         assert.is_true(users.read(file))
         assert.same({ "ann" }, users.who())
      end)

      describe("and Tcl", function()
         local SCRIPT = [==[
            package require pop3d::udb
            encoding system utf-8
            set db [pop3d::udb::new]
            $db read [lindex $argv 0]
            foreach user [$db who] {
               binary scan [encoding convertto utf-8 [lindex [$db lookup $user] 0]] H* hex
               puts "$user $hex"
            }
            $db save [lindex $argv 0]
         ]==]

         -- Runs the script; returns passwords in hex.
         local function tcl()
            local pipe = io.popen(("tclsh %s %s"):format(files.put(dir .. "/script", SCRIPT), file))
            local found = {}
            for line in pipe:lines() do
               local user, hex = line:match("^(%S+) (%S+)$")
               found[user] = hex
            end
            assert(pipe:close())
            return found
         end

         local function hex(text)
            return (text:gsub(".", function(octet)
               return ("%02x"):format(octet:byte())
            end))
         end

         it("understand each other", function()
            if not os.execute("echo 'package require pop3d::udb' | tclsh >/dev/null 2>&1") then
               return pending("no Tcl here")
            end
            local expected = {}
            for i, word in ipairs(HARD) do
               -- What Tcl itself writes does not bring back these octets.
               if utf8.len(word) and not word:find("[\r\026\0]") then
                  users.add("u" .. i, word, word .. "x")
                  expected["u" .. i] = hex(word)
               end
            end
            users.save(file)
            assert.same(expected, tcl())
            local again = udb.new()
            assert(again.read(file))
            for _, name in ipairs(users.who()) do
               assert.same({ users.lookup(name) }, { again.lookup(name) })
            end
            users.add("u0", "a\r\026b\0001", "x")
            users.save(file)
            assert.equal("610d1a620031", tcl().u0)
         end)
      end)
   end)

   describe("read", function()
      -- Tcl                                    password read
      local cases = {
         { "add joe secret box", "secret" },
         { "\tadd\tjoe   secret box   ", "secret" },
         { "add joe {two words} box", "two words" },
         { 'add joe "two words" box', "two words" },
         { "add joe two\\ words box", "two words" },
         { "add joe {a {b} c} box", "a {b} c" },
         { "add joe {a\\}b} box", "a\\}b" },
         { "add joe {a\\\\} box", "a\\\\" },
         { "add joe {a\nb} box", "a\nb" },
         { "add joe {a\\\n   b} box", "a b" },
         { 'add joe "a\\\n   b" box', "a b" },
         { "add joe \\\n   secret\\\n box", "secret" },
         { "add joe a\\tb\\n\\x41\\u20ac\\101\\q box", "a\tb\nA\u{20ac}Aq" },
         { "add joe \\x4a1 box", "J1" },
         { "add joe \\1011\\78 box", "A1\a8" },
         { "add joe \\xzz\\uzz box", "xzzuzz" },
         { "add joe \\U1F600\\UFFFFFFFF box", "\u{1F600}\u{FFFD}" },
         { "add joe a\"b{c}d#e box", 'a"b{c}d#e' },
         { "add joe \\\"x box", '"x' },
         { "add joe a$ box", "a$" },
         { "add joe {[exit] $x} box", "[exit] $x" },
         { 'add joe "a;b" box; # more', "a;b" },
         { "# comment\n\n;;add joe secret box", "secret" },
         { "# continued \\\nadd eve x y\nadd joe secret box", "secret" },
         { "add joe old box;add joe secret box", "secret" },
         { "add joe secret box\r\nadd ann x y\r\n", "secret" },
         { "add joe secret box\n\026 binary [", "secret" },
         { '"add" {joe} "secret" {box}', "secret" },
      }
      for _, case in ipairs(cases) do
         it(("understands %q"):format(case[1]), function()
            files.put(file, case[1])
            assert.same({ true }, { users.read(file) })
            assert.same({ case[2], "box" }, { users.lookup("joe") })
            assert.is_false(users.exists("eve"))
         end)
      end

      -- not to be read                        line and why
      local errors = {
         { "add joe secret", "1: add takes a user, a password and a storage reference" },
         { "add joe two words box", "1: add takes" },
         { "\n\nremove joe", "3: unknown command 'remove'; there is: add" },
         { "add a {b\nc} d\nadd x", "3: add takes" },
         { "# a\\\nb\nadd x", "3: add takes" },
         { "exec rm -rf x", "1: unknown command 'exec'" },
         { "add joe [exit] box", "1: a [command] is not run here" },
         { 'add joe "[exit]" box', "1: a [command] is not run here" },
         { "add joe $x box", "1: a $variable has no value here" },
         { "add joe a${x} box", "1: a $variable has no value here" },
         { "add joe $::x box", "1: a $variable has no value here" },
         { "[add joe x y]", "1: a [command] is not run here" },
         { "add joe {secret box", "1: a brace is not closed" },
         { 'add joe "secret box', "1: a quote is not closed" },
         { "add joe {secret}x box", "1: extra characters after a closing brace" },
         { "add joe {*}{a b}", "1: extra characters after a closing brace" },
         { 'add joe "secret"x box', "1: extra characters after a closing quote" },
         { "add joe {} box", "1: an empty user, password or storage reference" },
      }
      for _, case in ipairs(errors) do
         it(("refuses %q, and keeps the old users"):format(case[1]), function()
            users.add("ann", "geheim", "box")
            files.put(file, "add eve x y;" .. case[1])
            local ok, why = users.read(file)
            assert.is_nil(ok)
            assert.equal(file .. ":" .. case[2], why:sub(1, #file + 1 + #case[2]))
            assert.same({ "ann" }, users.who())
         end)
      end

      it("tells why a file cannot be read", function()
         assert.same({ nil, ("read %s: No such file or directory"):format(file) }, { users.read(file) })
      end)
   end)
end)
