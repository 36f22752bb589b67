local files = require("spec.support.files")
local fs = require("popd.fs")
local core = require("popd.core")
local lists = require("popd.lists")
local maildir = require("popd.maildir")

describe("popd.maildir", function()
   local root

   before_each(function()
      root = files.new_dir()
      files.run("mkdir -p %s %s %s", root .. "/joe/new", root .. "/joe/cur", root .. "/joe/tmp")
   end)

   after_each(function()
      files.remove(root)
   end)

   local function path(name)
      return root .. "/joe/" .. name
   end

   local function put(name, text)
      return files.put(path(name), text or "a\n")
   end

   local function make(options)
      options.root = root .. "/%s"
      return maildir.new(options)
   end

   -- What there is below the Maildir, in order; folders' own files left out.
   local function tree()
      local found, pipe = {}, assert(io.popen("cd " .. files.quote(path("")) ..
         " && find . -type f ! -name maildirfolder ! -name maildirsize | sort"))
      for line in pipe:lines() do
         found[#found + 1] = line:sub(3)
      end
      pipe:close()
      return found
   end

   local function uids(storage)
      assert.is_true(storage.lock("joe"))
      local _, found = storage.scan("joe")
      storage.unlock("joe")
      return found
   end

   local function delete(storage, ids)
      assert.is_true(storage.lock("joe"))
      local ok, why, left = storage.dele("joe", ids)
      storage.unlock("joe")
      return ok, why, left
   end

   describe("with dele = \"flag\"", function()
      it("marks with T, among the other flags, and does not show such messages", function()
         local storage = make({ dele = "flag" })
         put("new/1.a")
         put("cur/2.b:2,FS")
         put("cur/3.c:2,")
         put("cur/4.d:1,odd")
         put("cur/5.e:2,ST")
         assert.same({ "1.a", "2.b", "3.c", "4.d" }, uids(storage))
         assert.is_true(delete(storage, { 1, 2, 4 }))
         assert.same({ "cur/1.a:2,T", "cur/2.b:2,FST", "cur/3.c:2,", "cur/4.d:2,T", "cur/5.e:2,ST" }, tree())
         assert.same({ "3.c" }, uids(storage))
      end)

      it("takes a message for deleted that another program has flagged or removed", function()
         local storage = make({ dele = "flag" })
         put("cur/1.a:2,S")
         put("cur/2.b:2,S")
         assert.is_true(storage.lock("joe"))
         files.run("mv %s %s; rm %s", path("cur/1.a:2,S"), path("cur/1.a:2,ST"), path("cur/2.b:2,S"))
         assert.is_true(storage.dele("joe", { 1, 2 }))
         storage.unlock("joe")
         assert.same({ "cur/1.a:2,ST" }, tree())
      end)

      it("shows what others have flagged to nobody else's sessions", function()
         put("cur/1.a:2,ST")
         assert.same({ "1.a" }, uids(make({})))
         assert.same({}, uids(make({ dele = "flag" })))
      end)
   end)

   describe("with a folder for what is deleted", function()
      it("moves messages there, and makes it as Maildir++ wants it", function()
         local storage = make({ dele = ".Trash" })
         put("new/1.a", "one\n")
         put("cur/2.b:2,S", "two\n")
         put("cur/3.c:2,ST", "three\n")
         assert.is_true(delete(storage, { 1, 2, 3 }))
         assert.same({ ".Trash/cur/1.a:2,", ".Trash/cur/2.b:2,S", ".Trash/cur/3.c:2,S" }, tree())
         assert.equal("two\n", files.text(path(".Trash/cur/2.b:2,S")))
         for _, sub in ipairs { "new", "tmp" } do
            assert.equal("directory", fs.stat(path(".Trash/" .. sub)).type)
         end
         assert.equal("file", fs.stat(path(".Trash/maildirfolder")).type)
         assert.same({}, uids(storage))
      end)

      it("makes none where nothing is deleted", function()
         put("new/1.a")
         assert.is_true(delete(make({ dele = ".Trash" }), {}))
         assert.is_nil(fs.stat(path(".Trash")))
      end)

      it("replaces no message there", function()
         local storage = make({ dele = ".Trash" })
         put("new/1.a", "old")
         put("new/2.b")
         assert.is_true(delete(storage, { 1 }))
         put("new/1.a", "new")
         local ok, why, left = delete(storage, { 1, 2 })
         assert.is_nil(ok)
         assert.equal(("rename %s: File exists"):format(path("new/1.a")), why)
         assert.same({ 1 }, left)
         assert.same({ ".Trash/cur/1.a:2,", ".Trash/cur/2.b:2,", "new/1.a" }, tree())
         assert.equal("old", files.text(path(".Trash/cur/1.a:2,")))
      end)

      it("deletes nothing where it cannot be made", function()
         put("new/1.a")
         put(".Trash")
         local ok, why, left = delete(make({ dele = ".Trash" }), { 1 })
         assert.is_nil(ok)
         assert.equal(("mkdir %s: Not a directory"):format(path(".Trash/tmp")), why)
         assert.same({ 1 }, left)
         assert.is_true(files.exists(path("new/1.a")))
      end)

      it("moves a message that has two names once", function()
         put("new/1.a", "1")
         files.run("ln %s %s", path("new/1.a"), path("cur/1.a:2,S"))
         assert.is_true(delete(make({ dele = ".Trash" }), { 1 }))
         local left = tree()
         assert.equal(1, #left)
         assert.matches("^%.Trash/cur/1%.a:2,", left[1])
      end)

      it("follows messages that were renamed meanwhile", function()
         local storage = make({ dele = ".Trash" })
         put("new/1.a", "1")
         assert.is_true(storage.lock("joe"))
         files.run("mv %s %s", path("new/1.a"), path("cur/1.a:2,FS"))
         assert.is_true(storage.dele("joe", { 1 }))
         storage.unlock("joe")
         assert.same({ ".Trash/cur/1.a:2,FS" }, tree())
      end)
   end)

   it("shows no folder's messages", function()
      put("new/1.a")
      files.run("mkdir -p %s %s", path(".Sent/cur"), path(".Sent/new"))
      put(".Sent/cur/2.b:2,S")
      put(".Sent/new/3.c")
      assert.same({ "1.a" }, uids(make({})))
   end)

   it("deletes thousands in any mode", function()
      for _, how in ipairs { "unlink", "flag", ".Trash" } do
         files.run([[cd %s && for i in $(seq 1001 2000); do echo $i > "new/$i.a"; done]], path(""))
         local storage, ids = make({ dele = how }), {}
         for id = 1, 999 do
            ids[id] = id
         end
         assert.is_true(delete(storage, ids))
         assert.same({ "2000.a" }, uids(storage))
         files.run("rm -rf %s; mkdir %s; cd %s; rm -f new/* cur/*", path(".Trash"), path(".x"), path(""))
         files.run("rmdir %s", path(".x"))
      end
   end)

   describe("keeps maildirsize right:", function()
      -- how, the messages that are there and deleted, what is added
      local cases = {
         { "unlink", { ["new/1.a"] = "12345" }, "-5 -1\n" },
         { "unlink", { ["new/1.a,S=5"] = "12345", ["cur/2.b:2,S"] = "123" }, "-8 -2\n" },
         { "unlink", { ["cur/1.a:2,T"] = "12345" }, "" }, -- it did not count any more
         { "flag", { ["new/1.a"] = "12345" }, "-5 -1\n" },
         { ".Trash", { ["new/1.a"] = "12345" }, "-5 -1\n" },
         { ".Old", { ["new/1.a"] = "12345" }, "" }, -- it counts there
      }
      for _, case in ipairs(cases) do
         it(("%s adds %q"):format(case[1], case[3]), function()
            local ids = {}
            for name, text in pairs(case[2]) do
               put(name, text)
               ids[#ids + 1] = #ids + 1
            end
            put("maildirsize", "1000000S\n100 7\n")
            assert.is_true(delete(make({ dele = case[1] }), ids))
            assert.equal("1000000S\n100 7\n" .. case[3], files.text(path("maildirsize")))
         end)
      end

      it("does not count what was not deleted", function()
         put("new/1.a", "12345")
         put("new/2.b", "123")
         put("maildirsize", "1000000S\n100 7\n")
         local storage = make({})
         assert.is_true(storage.lock("joe"))
         files.run("rm %s; mkdir %s", path("new/1.a"), path("new/1.a"))
         assert.is_nil((storage.dele("joe", { 1, 2 })))
         storage.unlock("joe")
         assert.equal("1000000S\n100 7\n-3 -1\n", files.text(path("maildirsize")))
      end)

      it("makes none, and follows no link", function()
         put("new/1.a", "12345")
         put("new/2.a", "12345")
         assert.is_true(delete(make({}), { 1 }))
         assert.is_nil(fs.stat(path("maildirsize")))
         put("other", "")
         files.run("ln -s other %s", path("maildirsize"))
         assert.is_true(delete(make({}), { 1 }))
         assert.equal("", files.text(path("other")))
      end)
   end)

   it("sweeps out of tmp what nobody has used for 36 hours, once a day", function()
      local storage = make({})
      put("tmp/old")
      put("tmp/read")
      put("tmp/new")
      put("tmp/.hidden")
      files.run("cd %s; mkdir dir; touch -d '40 hours ago' old .hidden dir; touch -m -d '40 hours ago' read",
         path("tmp"))
      uids(storage)
      assert.same({ "tmp/.hidden", "tmp/new", "tmp/read" }, tree())
      put("tmp/old")
      files.run("touch -d '40 hours ago' %s", path("tmp/old"))
      uids(storage)
      assert.same({ "tmp/.hidden", "tmp/new", "tmp/old", "tmp/read" }, tree())
      uids(make({}))
      assert.is_nil(fs.stat(path("tmp/old")))
   end)

   it("sweeps nothing where tmp is a link to somewhere else", function()
      files.run("rmdir %s; mkdir %s; ln -s ../elsewhere %s", path("tmp"), root .. "/elsewhere", path("tmp"))
      files.put(root .. "/elsewhere/old", "x")
      files.run("touch -d '40 hours ago' %s", root .. "/elsewhere/old")
      uids(make({}))
      assert.is_true(files.exists(root .. "/elsewhere/old"))
   end)

   describe("shows", function()
      local function fill(names)
         for _, name in ipairs(names) do
            put(name, name .. "\n")
         end
      end

      it("the newest so many", function()
         fill { "new/3.c", "new/1.a", "cur/2.b:2,S" }
         assert.same({ "2.b", "3.c" }, uids(make({ newest = 2 })))
         assert.same({ "1.a", "2.b", "3.c" }, uids(make({ newest = 3 })))
         assert.same({ "1.a", "2.b", "3.c" }, uids(make({ newest = 100 })))
      end)

      it("the next ones when the newest were deleted", function()
         local storage = make({ newest = 1 })
         fill { "new/1.a", "new/2.b" }
         assert.is_true(delete(storage, { 1 }))
         assert.same({ "1.a" }, uids(storage))
      end)

      it("those of the last days, by what their names say, and names that say nothing", function()
         local now = os.time()
         local names = { ("%d.a"):format(now - 3 * 86400), ("%d.b"):format(now - 86400), ("%d.c"):format(now), "name" }
         for _, name in ipairs(names) do
            fill { "new/" .. name }
         end
         assert.same({ names[2], names[3], "name" }, uids(make({ days = 2 })))
         assert.same({ names[3], "name" }, uids(make({ days = 0.5 })))
         assert.same(names, uids(make({ days = 4 })))
      end)

      it("messages by their files' times, if asked", function()
         fill { "new/1.a", "new/2.b", "new/3.c" }
         files.run("cd %s; touch -d '2 days ago' 3.c; touch -d '4 days ago' 2.b", path("new"))
         assert.same({ "2.b", "3.c", "1.a" }, uids(make({ order = "mtime" })))
         assert.same({ "3.c", "1.a" }, uids(make({ order = "mtime", days = 3 })))
         assert.same({ "1.a" }, uids(make({ order = "mtime", newest = 1 })))
      end)

      it("two messages of one base name apart, wherever the cut is", function()
         fill { "new/1.a", "new/2.b", "cur/2.b:2,S", "new/3.c" }
         local storage = make({ newest = 2 })
         assert.is_true(storage.lock("joe"))
         local _, ids = storage.scan("joe")
         assert.equal(64, #ids[1])
         assert.equal("3.c", ids[2])
         local text = files.text(storage.get("joe", 1).path)
         assert.is_true(storage.dele("joe", { 1 }))
         storage.unlock("joe")
         local left = tree()
         assert.equal(3, #left)
         for _, file in ipairs(left) do
            assert.not_equal(text, files.text(path(file)))
         end
      end)
   end)

   it("raises a caller's mistake about these options", function()
      for _, case in ipairs {
         { { dele = "trash" }, "option 'dele' is \"unlink\", \"flag\", or a folder" },
         { { dele = "../x" }, "option 'dele' is" },
         { { dele = ".." }, "option 'dele' is" },
         { { dele = "." }, "option 'dele' is" },
         { { dele = ".a/b" }, "option 'dele' is" },
         { { dele = true }, "option 'dele' takes a string" },
         { { newest = 0 }, "option 'newest' takes a number of messages" },
         { { newest = 1.5 }, "option 'newest' takes a number of messages" },
         { { newest = "1" }, "option 'newest' takes a number" },
         { { days = 0 }, "option 'days' takes a number of days" },
         { { days = 0 / 0 }, "option 'days' takes a number of days" },
         { { days = 1 / 0 }, "option 'days' takes a number of days" },
         { { order = "size" }, "option 'order' is \"name\" or \"mtime\"" },
      } do
         local ok, why = pcall(function()
            make(case[1])
         end)
         assert.is_false(ok)
         assert.truthy(why:find(case[2], 1, true), why)
         assert.matches("^[^:]*maildir_modes_spec.lua:%d+: maildir.new: ", why)
      end
   end)

   it("hands the core a list where its own scan is asked, and nobody else", function()
      local storage = make({})
      put("new/1.a")
      assert.is_true(storage.lock("joe"))
      assert.equal("table", type(storage.scan("joe")))
      local list = lists.of(storage.scan)("joe")
      assert.equal(1, #list)
      assert.is_nil(lists.of(function() end))
      storage.unlock("joe")
      assert.is_nil(core.mail.count(list))
      assert.error_matches(function()
         core.mail.uid(list, 1)
      end, "the list is closed")
   end)
end)
