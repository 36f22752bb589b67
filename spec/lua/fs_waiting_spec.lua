-- What takes its time in popd.fs, inside a callback: a thread works, others go on.
local client = require("support.client")
local files = require("support.files")
local fs = require("popd.fs")
local popd = require("popd")

describe("in a callback", function()
   local dir

   before_each(function()
      dir = files.new_dir()
      files.put(dir .. "/text", "a\nbc")
   end)

   after_each(function()
      client.finish()
      files.remove(dir)
   end)

   local function path(name)
      return dir .. "/" .. name
   end

   local calls = {
      scandir = { function() return fs.scandir(dir) end, { { "text" }, { "file" } } },
      read = { function() return fs.read(path("text")) end, { "a\nbc" } },
      octets = { function() return fs.octets(path("text")) end, { 7 } },
      fsync = { function() return fs.fsync(path("text")) end, { true } },
      write = { function() return fs.write(path("new"), "x") end, { true } },
      change = { function() return fs.change({ path("text"), path("no") }, { path("new"), false }) end,
         { { true, "ENOENT" }, { [2] = "unlink %s/no: No such file or directory" } } },
   }
   for name, call in pairs(calls) do
      it(("fs.%s lets others go on, and returns what it returns elsewhere"):format(name), function()
         local order, got = {}, nil
         popd.spawn(function()
            order[#order + 1] = "asks"
            got = table.pack(call[1]())
            order[#order + 1] = "has it"
         end)
         popd.spawn(function()
            order[#order + 1] = "the other"
         end)
         client.wait_for(name, function() return got end)
         assert.same({ "asks", "the other", "has it" }, order)
         got.n = nil
         if got[2] and got[2][2] then
            call[2][2][2] = call[2][2][2]:format(dir)
         end
         assert.same(call[2], got)
      end)
   end

   for _, name in ipairs { "scandir", "read", "octets", "fsync" } do
      it(("fs.%s fails as it does elsewhere"):format(name), function()
         local got
         popd.spawn(function()
            got = table.pack(fs[name](path("no")))
         end)
         client.wait_for(name, function() return got end)
         assert.same({ nil, ("%s %s: No such file or directory"):format(name, path("no")), "ENOENT", n = 3 }, got)
      end)
   end

   it("they block where nothing can wait, as in table.sort", function()
      local sorted
      popd.spawn(function()
         local list = { "text", "text" }
         table.sort(list, function(a, b)
            return #fs.read(path(a)) < #fs.read(path(b))
         end)
         sorted = ("x"):gsub("x", function() return fs.read(path("text")) end)
      end)
      client.wait_for("the sort", function() return sorted end)
      assert.equal("a\nbc", sorted)
   end)

   it("they are carried through coroutines of the script's own", function()
      local got
      popd.spawn(function()
         local generate = coroutine.wrap(function()
            coroutine.yield(fs.read(path("text")))
            coroutine.yield(fs.octets(path("text")))
         end)
         got = { generate(), generate() }
      end)
      client.wait_for("the generator", function() return got end)
      assert.same({ "a\nbc", 7 }, got)
   end)

   it("one that is cancelled ends, and its thread's result reaches nobody", function()
      local ended
      files.put(path("big"), ("line\n"):rep(1000000))
      for _ = 1, 20 do
         ended = nil
         local job = popd.spawn(function()
            local _ <close> = setmetatable({}, { __close = function() ended = true end })
            fs.octets(path("big"))
         end)
         popd.step(0)
         job:cancel()
         client.wait_for("its end", function() return ended end)
      end
      local sent
      popd.spawn(function() sent = fs.octets(path("big")) end)
      client.wait_for("another", function() return sent end)
      assert.equal(6000000, sent)
   end)

   it("a state may end while a thread works", function()
      files.put(path("big"), ("line\n"):rep(3000000))
      local script = files.put(path("script.lua"), ([[
         local fs, popd = require("popd.fs"), require("popd")
         for _ = 1, 10 do
            popd.spawn(function() fs.octets(%q) end)
            popd.spawn(function() fs.scandir("/") end)
         end
         popd.step(0)
         os.exit(true, true)
      ]]):format(path("big")))
      assert.is_true(os.execute(files.lua(script)))
   end)
end)

describe("append", function()
   local dir

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      files.remove(dir)
   end)

   it("adds to a file that is there, makes none, and follows no link", function()
      files.put(dir .. "/file", "a")
      assert.is_true(fs.append(dir .. "/file", "bc"))
      assert.equal("abc", files.text(dir .. "/file"))
      assert.equal("ENOENT", (select(3, fs.append(dir .. "/no", "x"))))
      files.run("ln -s file %s", dir .. "/link")
      assert.equal("ELOOP", (select(3, fs.append(dir .. "/link", "x"))))
   end)
end)

describe("change", function()
   it("replaces nothing, and finishes a rename that a crash left halfway", function()
      local dir = files.new_dir()
      finally(function() files.remove(dir) end)
      files.put(dir .. "/a", "a")
      files.put(dir .. "/b", "b")
      local results, reasons = fs.change({ dir .. "/a" }, { dir .. "/b" })
      assert.same({ "EEXIST" }, results)
      assert.equal(("rename %s/a: File exists"):format(dir), reasons[1])
      assert.equal("b", files.text(dir .. "/b"))
      files.run("rm %s; ln %s %s", dir .. "/b", dir .. "/a", dir .. "/b")
      assert.same({ true }, (fs.change({ dir .. "/a" }, { dir .. "/b" })))
      assert.is_nil(fs.stat(dir .. "/a"))
      assert.equal("a", files.text(dir .. "/b"))
      assert.error_matches(function() fs.change({ dir .. "/a\0b" }, { false }) end, "a path cannot contain NUL")
      assert.same({}, (fs.change({}, {})))
   end)
end)
