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

   it("raises without a file's name", function()
      assert.is_false((pcall(passwd.new, {})))
      assert.is_false((pcall(passwd.new)))
   end)
end)
