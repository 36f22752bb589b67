-- A delivery that is killed at each of its system calls: afterwards the whole
-- message is there, or nothing of it shows.
local files = require("support.files")
local fs = require("popd.fs")
local mbox = require("popd.mbox")
local popd = require("popd")
local process = require("support.process")
local traced = require("support.traced")

local MESSAGE = "Subject: one\n\n" .. ("a line of it\n"):rep(1000)
local OLD = "Subject: old\n\n"

local has_driver = pcall(require, "luasql.sqlite3")

describe("SIGKILL at each system call of a delivery", function()
   local dir

   before_each(function()
      dir = files.new_dir()
      files.put(dir .. "/message", MESSAGE)
      popd.log_to(function() end) -- locks that were left behind
   end)

   after_each(function()
      popd.log_to(nil)
      files.remove(dir)
   end)

   local function command(store)
      local words = { process.program(), "deliver" }
      table.move(files.as_oneself(), 1, 2, 3, words)
      for i, word in ipairs(words) do
         words[i] = files.quote(word)
      end
      return ("%s --store %s joe <%s"):format(
         table.concat(words, " "), files.quote(store), files.quote(dir .. "/message"))
   end

   -- The texts of a directory's files that no dot hides.
   local function texts(path, found)
      for _, name in ipairs(fs.scandir(path) or {}) do
         if name:sub(1, 1) ~= "." then
            found[#found + 1] = files.text(path .. "/" .. name)
         end
      end
      return found
   end

   -- The messages that a session of an mbox file serves, which must get its lock at once.
   local function mails(root, name)
      local storage, found = mbox.new { root = root .. "/%s" }, {}
      assert.is_true(storage.lock(name))
      for id = 1, storage.stat(name) do
         local part = storage.get(name, id)
         found[id] = files.text(part.path):sub(part.offset + 1, part.offset + part.length)
      end
      storage.unlock(name)
      return found
   end

   -- Kills a delivery at each call, each time anew; `set_up` makes what there is
   -- before, `shown` returns the messages that are there.
   local function try(store, set_up, shown)
      if not traced.works() then
         return pending("strace cannot be used here")
      end
      local line = command(store)
      set_up()
      local calls = traced.calls(line, { from = "Subject: one", changing = true })
      local before, after = 0, 0
      for n, call in ipairs(calls) do
         set_up()
         local old = #shown()
         local killed = traced.kill(call, line)
         local found = shown()
         local what = ("call %d of %d, %s %d"):format(n, #calls, call.name, call.nth)
         assert.is_true(killed, what)
         assert.is_true(#found == old or #found == old + 1, what)
         if #found > old then
            assert.equal(MESSAGE, found[#found], what)
            after = after + 1
         else
            before = before + 1
         end
         assert.is_true(os.execute(line), what) -- the MTA's next try
         assert.equal(MESSAGE, shown()[#found + 1], what)
      end
      print(("\n%s: killed %d times before the message was there, %d times behind that"):format(
         store:match("^%l+"), before, after))
      assert.is_true(before > 5 and after > 0)
   end

   it("into a Maildir that is not there yet", function()
      try("maildir:" .. dir .. "/vmail/%n", function()
         files.run("rm -rf %s; mkdir %s", dir .. "/vmail", dir .. "/vmail")
      end, function()
         return texts(dir .. "/vmail/joe/cur", texts(dir .. "/vmail/joe/new", {}))
      end)
   end)

   it("into a maildrop directory", function()
      try("dbox:" .. dir .. "/box", function()
         files.run("rm -rf %s; mkdir -p %s", dir .. "/box", dir .. "/box/joe")
      end, function()
         return texts(dir .. "/box/joe", {})
      end)
   end)

   it("into an mbox file that is not there yet", function()
      try("mbox:" .. dir .. "/box/%n", function()
         files.run("rm -rf %s; mkdir %s", dir .. "/box", dir .. "/box")
      end, function()
         return mails(dir .. "/box", "joe")
      end)
   end)

   it("into an mbox file, whose earlier mail stays", function()
      local old = ("From a@b Thu Jan  1 00:00:00 1970\n%s\n\n"):format(OLD)
      try("mbox:" .. dir .. "/box/%n", function()
         files.run("rm -rf %s; mkdir %s", dir .. "/box", dir .. "/box")
         files.put(dir .. "/box/joe", old:rep(3))
      end, function()
         assert.equal(old:rep(3), files.text(dir .. "/box/joe"):sub(1, 3 * #old))
         return mails(dir .. "/box", "joe")
      end)
   end)

   it("into an SQLite file", function()
      if not has_driver then
         return pending("LuaSQL's sqlite3 driver is not installed")
      end
      local store, looks = require("popd.sqlite_store"), 0
      local template, file = dir .. "/template", dir .. "/mail.db"
      store.add("joe", template, "{PLAIN}secret")
      store.put("joe", template, { { pieces = { OLD } } })

      -- With what has not come from the log into the file yet.
      local function copy(from, to)
         files.run("rm -f %s*; cp %s %s; [ ! -e %s-wal ] || cp %s-wal %s-wal", to, from, to, from, from, to)
      end

      try("sqlite:" .. file, function()
         copy(template, file)
      end, function()
         -- A file of its own each time: this process keeps those open that it looked at.
         looks = looks + 1
         local look, found = ("%s/look%d."):format(dir, looks), {}
         copy(file, look)
         for i, one in ipairs(store.list("joe", look, 0, 100)) do
            found[i] = store.first("joe", look, one.number)
         end
         return found
      end)
   end)
end)
