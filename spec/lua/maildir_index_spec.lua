local files = require("spec.support.files")
local core = require("popd.core")
local fs = require("popd.fs")
local maildir = require("popd.maildir")
local testing = require("popd.testing")

-- Two such messages cost enough to be remembered.
local BIG = ("some line of a message\n"):rep(30000)
local BIG_SENT = #BIG + 30000

describe("the index of popd.maildir", function()
   local root, storage

   before_each(function()
      root = files.new_dir()
      storage = maildir.new({ root = root .. "/%s" })
      files.run("mkdir -p %s %s %s", root .. "/joe/new", root .. "/joe/cur", root .. "/joe/tmp")
   end)

   after_each(function()
      files.remove(root)
   end)

   local function path(name)
      return root .. "/joe/" .. name
   end

   local INDEX = "popd-index"

   local function put(name, text)
      return files.put(path(name), text)
   end

   -- Calls f in a session, and returns what it returns.
   local function session(f)
      assert.is_true(storage.lock("joe"))
      local result = f()
      storage.unlock("joe")
      return result
   end

   -- What is known without reading.
   local function told()
      return session(function()
         return (storage.scan("joe"))
      end)
   end

   local function count_all()
      return session(function()
         return storage.size("joe")
      end)
   end

   local function left_in_tmp()
      return #fs.scandir(path("tmp"))
   end

   local function make_index()
      put("new/1.a", BIG)
      put("cur/2.b:2,S", BIG)
      assert.same({ false, false }, told())
      assert.equal(2 * BIG_SENT, count_all())
      assert.equal(0, left_in_tmp())
      assert.same({ BIG_SENT, BIG_SENT }, told())
   end

   it("keeps what was read, so that it is read once", function()
      make_index()
      assert.equal(tonumber("600", 8), fs.stat(path(INDEX)).mode)
   end)

   it("is not written for what costs next to nothing", function()
      put("new/1.a", "a\n")
      put("new/2.a,S=2,W=3", "a\n")
      assert.equal(6, count_all())
      assert.is_nil(fs.stat(path(INDEX)))
      assert.equal(0, left_in_tmp())
   end)

   it("knows a message whatever its flags", function()
      make_index()
      files.run("mv %s %s; mv %s %s", path("new/1.a"), path("cur/1.a:2,RS"), path("cur/2.b:2,S"), path("cur/2.b:2,FS"))
      assert.same({ BIG_SENT, BIG_SENT }, told())
   end)

   it("knows nothing of new messages, and takes them in", function()
      make_index()
      put("new/3.c", BIG)
      put("new/4.d", BIG)
      assert.same({ BIG_SENT, BIG_SENT, false, false }, told())
      assert.equal(4 * BIG_SENT, count_all())
      assert.same({ BIG_SENT, BIG_SENT, BIG_SENT, BIG_SENT }, told())
   end)

   -- What is done to new/1.a, which is told as BIG_SENT, and what it is then.
   local changes = {
      ["was replaced by another"] = { "mv %s %s", "a\n", 3 },
      ["was replaced by another of its length"] = { "mv %s %s", BIG:sub(1, -2) .. "x", BIG_SENT + 1 },
      ["was written anew in its place"] = { "cat %s > %s", "a\n", 3 },
      ["grew"] = { "cat %s >> %s", "a\n", BIG_SENT + 3 },
      ["has other text of the same length"] = { "cat %s > %s", ("x"):rep(#BIG), #BIG + 2 },
   }
   for what, change in pairs(changes) do
      it("does not speak for a file that " .. what, function()
         make_index()
         put("other", change[2])
         files.run(change[1], path("other"), path("new/1.a"))
         assert.same({ false, BIG_SENT }, told())
         assert.equal(change[3] + BIG_SENT, count_all())
         assert.equal(change[3] + BIG_SENT, count_all())
      end)
   end

   -- What is done to the file.
   local damages = {
      ["is empty"] = ": > %s",
      ["is cut"] = "truncate -s 50 %s",
      ["is cut in its head"] = "truncate -s 20 %s",
      ["is longer"] = "printf 'more of it' >> %s",
      ["has grown by a whole entry"] = "printf '%%032d' 1 >> %s",
      ["has another octet"] = "printf x | dd of=%s bs=1 seek=40 conv=notrunc 2>/dev/null",
      ["has another octet in its head"] = "printf x | dd of=%s bs=1 seek=17 conv=notrunc 2>/dev/null",
      ["is of another version"] = "printf '\\377' | dd of=%s bs=1 seek=12 conv=notrunc 2>/dev/null",
      ["is something else"] = "head -c 5000 /dev/urandom > %s",
      ["is huge"] = "truncate -s 3G %s",
      ["is missing"] = "rm %s",
      ["may be written by others"] = "chmod 666 %s",
      ["is a symbolic link"] = "mv %s popd-other; ln -s popd-other %s",
      ["is a FIFO"] = "rm %s; mkfifo %s",
   }
   for what, damage in pairs(damages) do
      it(("is thrown away and made anew when it %s"):format(what), function()
         make_index()
         files.run("cd %s; " .. damage, path(""), INDEX, INDEX)
         assert.same({ false, false }, told())
         assert.equal(2 * BIG_SENT, count_all())
         assert.same({ BIG_SENT, BIG_SENT }, told())
         assert.equal("file", fs.stat(path(INDEX)).type)
      end)
   end

   it("is done without where a directory has its name", function()
      make_index()
      files.run("rm %s; mkdir %s", path(INDEX), path(INDEX))
      for _ = 1, 2 do
         assert.same({ false, false }, told())
         assert.equal(2 * BIG_SENT, count_all())
      end
      assert.equal(0, left_in_tmp())
   end)

   it("of another Maildir is nobody's", function()
      make_index()
      files.run("mkdir -p %s; cp -r %s/. %s", root .. "/ann", path(""), root .. "/ann")
      assert.is_true(storage.lock("ann"))
      assert.same({ false, false }, (storage.scan("ann")))
      storage.unlock("ann")
   end)

   it("that tells wrong lengths or times is not believed", function()
      make_index()
      local st = fs.stat(path("new/1.a"))
      local mtime = math.tointeger(fs.stat(path("new/1.a")).mtime // 1)
      for _, wrong in ipairs { { stored = 5, sent = 7, mtime = mtime * 1000000000 },
         { stored = #BIG, sent = BIG_SENT + 1, mtime = 12345 } } do
         files.put(path(INDEX), testing.mailindex_write { { base = "1.a", inode = st.ino, stored = wrong.stored,
            sent = wrong.sent, mtime = wrong.mtime } })
         files.run("chmod 600 %s", path(INDEX))
         assert.same({ false, false }, told())
         assert.equal(2 * BIG_SENT, count_all())
      end
   end)

   it("lets go of messages that are gone when it is written again", function()
      make_index()
      local before = fs.size(path(INDEX))
      os.remove(path("new/1.a"))
      os.remove(path("cur/2.b:2,S"))
      put("new/3.c", BIG)
      put("new/4.d", BIG)
      count_all()
      assert.equal(before, fs.size(path(INDEX)))
      assert.same({ BIG_SENT, BIG_SENT }, told())
   end)

   it("is not missed where there is no tmp", function()
      files.run("rmdir %s", path("tmp"))
      put("new/1.a", BIG)
      put("new/2.a", BIG)
      for _ = 1, 2 do
         assert.equal(2 * BIG_SENT, count_all())
         assert.same({ false, false }, told())
      end
      assert.is_nil(fs.stat(path(INDEX)))
   end)

   -- Runs a session in another process, behind a shell's words; says the sizes.
   local function elsewhere(words)
      local result, script = root .. "/result", root .. "/script.lua"
      files.put(result, "")
      files.put(script, ([[
         local storage = require("popd.maildir").new { root = %q }
         assert(storage.lock("joe"))
         local size = storage.size("joe")
         storage.unlock("joe")
         io.open(%q, "w"):write(tostring(size)):close()
      ]]):format(root .. "/%s", result))
      files.run("chmod 755 %s; chmod 666 %s; touch %s; chmod 666 %s", root, result, root .. "/.popd-lock",
         root .. "/.popd-lock")
      assert(os.execute(words:format(files.lua(script))))
      return files.text(result)
   end

   it("is not missed on a disk that is full", function()
      put("new/1.a", BIG)
      for i = 2, 200 do
         put(("new/%d.a"):format(i), ("x"):rep(10000))
      end
      assert.equal(tostring(BIG_SENT + 199 * 10002), elsewhere("trap '' XFSZ; ulimit -f 4; %s"))
      assert.is_nil(fs.stat(path(INDEX)))
      assert.equal(0, left_in_tmp())
      assert.equal(tostring(BIG_SENT + 199 * 10002), elsewhere("%s"))
      assert.equal("file", fs.stat(path(INDEX)).type)
   end)

   it("is not missed in a Maildir that may not be written", function()
      local drop = files.unprivileged()
      if not drop then
         return pending("modes bind nobody here")
      end
      put("new/1.a", BIG)
      put("new/2.a", BIG)
      files.run("chmod -R a+rX %s; chmod a-w %s %s", path(""), path(""), path("tmp"))
      assert.equal(tostring(2 * BIG_SENT), elsewhere(drop .. "%s"))
      assert.is_nil(fs.stat(path(INDEX)))
      assert.equal(0, left_in_tmp())
   end)

   it("is whole after many have written it at once", function()
      local script = files.put(root .. "/script.lua", ([[
         local storage = require("popd.maildir").new { root = %q }
         for _ = 1, 20 do
            while not storage.lock("joe") do end
            storage.size("joe")
            storage.unlock("joe")
            if math.random(3) == 1 then
               os.remove(%q)
            end
         end
      ]]):format(root .. "/%s", path(INDEX)))
      put("new/1.a", BIG)
      put("new/2.a", BIG)
      files.run("for i in 1 2 3 4; do " .. files.lua(script):gsub("%%", "%%%%") .. " || exit 1 & done; wait")
      count_all()
      assert.same({ BIG_SENT, BIG_SENT }, told())
      assert.equal(0, left_in_tmp())
   end)

   it("takes its time, and what it could not look at is looked at when it is asked for", function()
      for i = 1, 400 do
         put(("cur/%d.a,S=5,W=6:2,S"):format(1000 + i), i == 400 and "no such size\n" or "text\n")
      end
      local list = core.mail.scan(path(""), { patience = 0 })
      local known = 0
      for _, size in ipairs(core.mail.sizes(list)) do
         known = known + (size and 1 or 0)
      end
      assert.is_true(known > 0 and known < 400)
      assert.is_nil(core.mail.total(list))
      for n = 1, 400 do
         local sent = core.mail.size(list, n)
            or core.mail.measure(list, nil, path(""), n, path(core.mail.file(list, n)))
         assert.equal(n == 400 and 14 or 6, sent)
      end
      assert.equal(399 * 6 + 14, core.mail.total(list))
      core.mail.close(list)
   end)

   -- A Maildir that is too big to be looked at as a whole in each session.
   it("is corrected where a message is fetched that has been written over", function()
      local COUNT = 2500
      files.run([[cd %s && for i in $(seq 1 2500); do echo text > "cur/$i.a,S=5,W=6:2,S"; done]], path(""))
      assert.equal(6 * COUNT, count_all())
      assert.equal("file", fs.stat(path(INDEX)).type)
      files.run("for i in %s/*; do printf 'other text\\n' > \"$i\"; done", path("cur"))
      local refused = session(function()
         local sizes, n = storage.scan("joe"), 0
         for id = 1, COUNT do
            local handle, why = storage.get("joe", id)
            if handle then
               assert.is_true(sizes[id] == false or sizes[id] == 12)
            else
               assert.equal(6, sizes[id])
               assert.matches("has changed since its size was told", why)
               n = n + 1
            end
         end
         return n
      end)
      assert.is_true(refused > 0)
      assert.equal(12 * COUNT, count_all())
   end)

   it("is looked behind a part at a time, where a Maildir is big", function()
      files.run([[cd %s && for i in $(seq 1 2500); do echo text > "cur/$i.a,S=5,W=6:2,S"; done]], path(""))
      count_all()
      files.run("for i in %s/*; do printf 'other text\\n' > \"$i\"; done", path("cur"))
      local sessions = 0
      repeat
         sessions = sessions + 1
         local wrong = 0
         for _, size in ipairs(told()) do
            wrong = wrong + (size == 6 and 1 or 0)
         end
         count_all()
      until wrong == 0 or sessions == 200
      assert.is_true(sessions < 200)
   end)
end)
