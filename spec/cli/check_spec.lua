-- The command popd-lua check, and the guide's store that is to be checked.
local files = require("spec.support.files")
local program = require("spec.support.program")

describe("popd-lua check", function()
   local dir

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      files.remove(dir)
   end)

   -- As root it runs without --user.
   local function check(...)
      return program.run({ program.path() }, "check", ...)
   end

   local function store(text)
      return files.put(dir .. "/store.lua", text)
   end

   local function contains(text, part)
      assert.is_truthy(text:find(part, 1, true), ("%q lacks %q"):format(text, part))
   end

   local guide = files.text("docs/guide.md"):match("```lua\n(%-%- store%.lua.-)```")

   it("passes the guide's store as it stands", function()
      local status, out, err = check(store(guide))
      assert.equal("", err)
      assert.equal(0, status, out)
      contains(out, "ok    uid-stable  a message keeps its unique-id\n")
      contains(out, "-     renew       not checked: the storage has no renew\n")
      assert.is_nil(out:find("FAIL", 1, true))
      assert.is_truthy(files.text("docs/guide.md"):find(out:match("[^\n]+\n$"), 1, true), "the guide shows another sum")
   end)

   it("tells what is broken, by which call, and what to do", function()
      local broken = guide:gsub('return %("%%d"%):format%(open%[mbox%]%[id%]%.number%)', "return tostring(id)")
      local status, out, err = check(store(broken))
      assert.equal("", err)
      assert.equal(1, status)
      local told = out:match("FAIL  uid%-stable  a message keeps its unique%-id\n[^\n]+\n[^\n]+\n")
      contains(told, '\n                  uidl("joe", 1): "1", but the session before had "2" for this message')
      contains(told, "→ Make it of something that stays with the message")
      contains(files.text("docs/guide.md"), (told:gsub("[^\n]+", "    %0")))
   end)

   it("hands the file its arguments", function()
      local name = store('assert(arg[0]:find("store.lua") and arg[1] == "x" and ... == "x")\n' .. guide)
      local status, out = check(name, "x")
      assert.equal(0, status, out)
   end)

   it("tells of a storage that hangs, and ends", function()
      local hangs = guide:gsub("function storage.stat%(mbox%)", "%0 require('popd').sleep(1000)")
         :gsub("put = put", "put = put, timeout = 0.1")
      local status, out = check(store(hangs))
      assert.equal(1, status)
      contains(out, 'stat("joe"): it did not come back in time')
   end)

   it("serves nobody as root, also where the file tries to", function()
      local serves = "local popd = require('popd') popd.new { port = 0 }:up() popd.step(0) "
      local status, _, err = check(store(serves .. guide))
      local is_root = require("popd.core").own_id() == 0
      assert.equal(is_root and 2 or 0, status, err)
      assert.equal(is_root, err:find("name the user to serve as", 1, true) ~= nil)
   end)

   it("shows the log where it is asked to", function()
      local raises = guide:gsub("function storage.stat%(mbox%)", "%0 error('no such table')")
      local name = store(raises)
      assert.equal("", select(3, check(name)))
      contains(select(3, check("--log", "error", name)), "no such table")
   end)

   -- what is wrong, the file's text (nil: there is none), what is said
   for what, case in pairs {
      ["a file that is not there"] = { nil, "store.lua: No such file" },
      ["a syntax error"] = { "return {", "unexpected symbol" },
      ["a file that raises"] = { "error('no database')", "no database" },
      ["a file that returns nothing"] = { "local x = 1", "it returns nothing; it must return a storage and options" },
      ["a file that returns no options"] = { "return { stat = print, get = print }", "an mbox expected" },
      ["a file that returns no storage"] = { "return {}, { mbox = 1 }", "option 'storage'" },
      ["an option that does not exist"] = { "return { stat = print, get = print }, { mbox = 1, size = 1 }",
         "unknown option 'size'" },
   } do
      it("refuses " .. what, function()
         local name = dir .. "/store.lua"
         if case[1] then
            store(case[1])
         end
         local status, out, err = check(name)
         assert.equal("", out)
         assert.equal(2, status)
         contains(err, "popd-lua: ")
         contains(err, case[2])
      end)
   end

   for what, case in pairs {
      ["no file"] = { {}, "which file?" },
      ["an unknown flag"] = { { "--user", "root" }, "unknown option --user" },
      ["a log level that does not exist"] = { { "--log", "all", "x.lua" }, "--log: 'all'" },
   } do
      it("says what is wrong with a command line of " .. what, function()
         local status, out, err = check(table.unpack(case[1]))
         assert.equal(2, status)
         assert.equal("", out)
         contains(err, case[2])
      end)
   end
end)
