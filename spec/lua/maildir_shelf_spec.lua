-- What a session learned of a Maildir serves the next one, as long as nothing has changed there.
local client = require("spec.support.client")
local files = require("spec.support.files")
local core = require("popd.core")
local fs = require("popd.fs")
local maildir = require("popd.maildir")
local popd = require("popd")

local mail = core.mail

describe("a Maildir's list that is kept", function()
   local root, scan, readings

   local function path(name)
      return root .. "/" .. name
   end

   local function make(user)
      files.run("mkdir -p %s/new %s/cur %s/tmp", path(user), path(user), path(user))
      files.put(path(user .. "/cur/1.a:2,S"), "a\n")
      files.put(path(user .. "/cur/2.b:2,"), "some lines\nof b\n")
      files.put(path(user .. "/new/3.c,S=4"), "c\nd\n")
   end

   -- A directory that has changed within two seconds is read again: here time is the subject.
   local function let_time_pass()
      popd.spawn(popd.sleep, 3.01)
      popd.run()
   end

   -- What a client sees of it: unique-ids and octets.
   local function session(storage, user, f)
      assert.is_true(storage.lock(user))
      local seen = {}
      for id = 1, storage.stat(user) do
         seen[id] = ("%s %d"):format(storage.uidl(user, id), storage.size(user, id))
      end
      if f then
         f(storage, user)
      end
      storage.unlock(user)
      return seen
   end

   local ALL = { "1.a 3", "2.b 18", "3.c,S=4 6" }

   -- What is done between two sessions, what the later one sees, and whether it has to read.
   local cases = {
      { name = "still", "nothing", sees = ALL },
      { name = "index", "another program's file beside it", run = "touch %s/dovecot-uidlist", sees = ALL },
      { name = "came", "a new message", run = "printf 'x\\n' > %s/new/4.d", reads = true,
         sees = { "1.a 3", "2.b 18", "3.c,S=4 6", "4.d 3" } },
      { name = "back", "a new message, and the time of `new` set back", reads = true,
         run = "cd %s; touch -r new new.time; printf 'x\\n' > new/4.d; touch -r new.time new",
         sees = { "1.a 3", "2.b 18", "3.c,S=4 6", "4.d 3" } },
      { name = "moved", "a message that became seen", run = "cd %s; mv new/3.c,S=4 cur/3.c,S=4:2,S", reads = true,
         sees = ALL },
      { name = "gone", "a message that went", run = "rm %s/cur/2*", sees = { "1.a 3", "3.c,S=4 6" }, reads = true },
      { name = "other", "another Maildir of that name", reads = true, sees = { "9.e 3" },
         run = "cd %s; mkdir -p ../o/new ../o/cur; printf 'y\\n' > ../o/new/9.e; mv new cur ..; mv ../o/* ." },
      { name = "linked", "a link in its place", reads = true, sees = ALL,
         run = "cd %s; mkdir on; mv cur new on; ln -s on/cur cur; ln -s on/new new" },
      { name = "deleted", "a deletion", reads = true, sees = { "2.b 18", "3.c,S=4 6" },
         first = function(storage, user)
            assert.is_true(storage.dele(user, { 1 }))
         end },
      { name = "written", "a message that somebody wrote to, and a client that came upon it", reads = true,
         first = function(storage, user)
            files.put(path(user .. "/cur/2.b:2,"), "more\n")
            local message, err = storage.get(user, 2)
            assert.is_nil(message)
            assert.matches("has changed since its size was told", err)
         end, sees = { "1.a 3", "2.b 6", "3.c,S=4 6" } },
      { name = "newest", "nothing, where the newest are shown", options = { newest = 2 }, reads = true,
         sees = { "2.b 18", "3.c,S=4 6" } },
      { name = "days", "nothing, where the last days are shown", options = { days = 9 }, sees = {}, reads = true },
      { name = "mtime", "nothing, in the order of the files' times", options = { order = "mtime" }, reads = true,
         sees = ALL },
      { name = "uidl", "nothing, where unique-ids are remembered", reads = true, sees = ALL,
         options = { uidl = { style = "name", alarm = 0.5 } } },
      { name = "flag", "nothing, where deleted ones have a flag", options = { dele = "flag" }, sees = ALL },
      { name = "folder", "nothing, where deleted ones go to a folder", options = { dele = ".Trash" }, sees = ALL },
   }

   local MANY = 300

   setup(function()
      root = files.new_dir()
      for _, case in ipairs(cases) do
         make(case.name)
      end
      make("given")
      for i = 1, MANY do
         fs.mkdir(path(i))
         fs.mkdir(path(i .. "/new"))
         fs.mkdir(path(i .. "/cur"))
      end
      let_time_pass()
   end)

   teardown(function()
      files.remove(root)
   end)

   before_each(function()
      scan, readings = mail.scan, 0
      mail.scan = function(...)
         readings = readings + 1
         return scan(...)
      end
   end)

   after_each(function()
      mail.scan = scan
   end)

   local function storage_of(case)
      local options = { root = root .. "/%s" }
      for name, value in pairs(case.options or {}) do
         options[name] = value
      end
      return maildir.new(options)
   end

   for _, case in ipairs(cases) do
      it(("is %s after %s"):format(case.reads and "read again" or "good", case[1]), function()
         local storage = storage_of(case)
         session(storage, case.name, case.first)
         if case.run then
            files.run(case.run, path(case.name))
         end
         readings = 0
         for _ = 1, 2 do
            assert.same(case.sees, session(storage, case.name))
         end
         assert.equal(case.reads and true or false, readings > 0)
      end)
   end

   it("is another where deleted ones have a flag", function()
      local plain, flags = storage_of {}, storage_of { options = { dele = "flag" } }
      make("flags")
      files.run("mv %s/cur/1.a:2,S %s/cur/1.a:2,ST", path("flags"), path("flags"))
      let_time_pass()
      for _ = 1, 2 do
         assert.same(ALL, session(plain, "flags"))
         assert.same({ "2.b 18", "3.c,S=4 6" }, session(flags, "flags"))
      end
      assert.equal(2, readings)
   end)

   it("is not kept of a Maildir that changed a moment ago", function()
      local storage = storage_of {}
      make("fresh")
      for n = 1, 2 do
         assert.same(ALL, session(storage, "fresh"))
         assert.equal(n, readings)
      end
   end)

   it("leaves no descriptor open", function()
      local before = #fs.scandir("/proc/self/fd")
      session(storage_of {}, "still")
      assert.equal(before, #fs.scandir("/proc/self/fd"))
   end)

   it("serves no client whose maildrop a script has given back meanwhile", function()
      local storage = storage_of {}
      local auth = { lookup = function(name) return "{PLAIN}secret", name end }
      local c = client.login(client.server { auth = auth, storage = storage }, "given")
      assert.equal("a\r\n", (c:fetch("RETR 1")))
      storage.unlock("given")
      assert.matches("^%-ERR %[SYS/TEMP%]", c:command("RETR 1"))
      assert.equal(1, #client.logged("maildrop 'given' is not locked"))
      readings = 0
      assert.is_true(storage.lock("given"))
      assert.equal("a\r\n", (c:fetch("RETR 1")))
      assert.equal(0, readings)
      client.finish()
   end)

   it("is counted with what it takes beside its names", function()
      local storage, keep, counted = maildir.new { root = root .. "/%s", tidy = false }, mail.keep, 0
      mail.keep = function(list)
         local octets = keep(list)
         counted = counted + octets
         return octets
      end
      local function used()
         collectgarbage()
         collectgarbage()
         return collectgarbage("count") * 1024
      end
      local before = used()
      for i = 1, MANY do
         session(storage, tostring(i))
      end
      mail.keep = keep
      assert.is_true(used() - before <= counted, ("%d taken, %d counted"):format(used() - before, counted))
   end)
end)

-- Stand-ins for lists: what is put, and how much there is of it.
describe("the shelf", function()
   local real, shared, shelf, closed, current = {}, package.loaded["popd.shelf"], nil, nil, nil

   before_each(function()
      closed, current = {}, true
      package.loaded["popd.shelf"] = nil
      shelf = require("popd.shelf")
      for name, f in pairs {
         keep = function(list) return list.octets end,
         is_current = function() return current end,
         close = function(list) closed[#closed + 1] = list.name end,
      } do
         real[name], mail[name] = mail[name], f
      end
   end)

   after_each(function()
      package.loaded["popd.shelf"] = shared
      for name, f in pairs(real) do
         mail[name] = f
      end
   end)

   local function put(n, octets, since)
      local list = { name = n, octets = octets }
      shelf.put("key " .. n, list, since)
      return list
   end

   it("gives a list back once", function()
      local list = put(1, 100)
      assert.equal(list, (shelf.take("key 1", "/")))
      assert.is_nil(shelf.take("key 1", "/"))
      assert.same({}, closed)
   end)

   it("closes what is not to be kept", function()
      put(1, nil)
      assert.same({ 1 }, closed)
   end)

   it("closes one in whose place another is put", function()
      put(1, 100)
      put(1, 100)
      assert.same({ 1 }, closed)
   end)

   it("closes what has changed", function()
      put(1, 100)
      current = false
      assert.is_nil(shelf.take("key 1", "/"))
      assert.same({ 1 }, closed)
   end)

   it("has room for 16 MiB, and lets go of what was used longest ago", function()
      for n = 1, 16 do
         put(n, 1 << 20)
      end
      put(1, 1 << 20) -- used again
      closed = {}
      put(17, (1 << 20) + 1)
      assert.same({ 2, 3 }, closed)
      put(18, 16 << 20)
      assert.equal(17, #closed)
      put(19, (16 << 20) + 1)
      assert.equal(19, closed[#closed])
   end)

   it("has none that it has known for a quarter of an hour, however often it was used", function()
      put(1, 100, os.time() - 890)
      local _, since = shelf.take("key 1", "/")
      put(1, 100, since - 10)
      assert.is_nil(shelf.take("key 1", "/"))
   end)
end)
