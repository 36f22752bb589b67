local files = require("spec.support.files")
local fs = require("popd.fs")

describe("popd.fs", function()
   local dir

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      files.remove(dir)
   end)

   local function path(name)
      return dir .. "/" .. name
   end

   local function fails(reason, code, ok, why, name)
      assert.is_nil(ok)
      assert.equal(reason, why)
      assert.equal(code, name)
   end

   describe("scandir", function()
      it("tells names and types, without . and ..", function()
         files.put(path("file"), "")
         files.put(path(".hidden"), "")
         files.run("mkdir %s; ln -s file %s; mkfifo %s", path("directory"), path("link"), path("other"))
         local names, types = fs.scandir(dir)
         local found = {}
         for i, name in ipairs(names) do
            found[name] = types[i]
         end
         assert.same({
            file = "file",
            [".hidden"] = "file",
            directory = "directory",
            link = "link",
            other = "other",
         }, found)
      end)

      it("tells what is wrong", function()
         fails(("scandir %s: No such file or directory"):format(path("no")), "ENOENT", fs.scandir(path("no")))
         files.put(path("file"), "")
         fails(("scandir %s: Not a directory"):format(path("file")), "ENOTDIR", fs.scandir(path("file")))
      end)
   end)

   describe("chmod and chown", function()
      it("set who may use a file", function()
         files.put(path("f"), "")
         assert.is_true(fs.chmod(path("f"), tonumber("604", 8)))
         local st = fs.stat(path("f"))
         assert.equal(tonumber("604", 8), st.mode)
         assert.is_true(fs.chown(path("f"), st.uid, st.gid))
         assert.same({ st.uid, st.gid }, { fs.stat(path("f")).uid, fs.stat(path("f")).gid })
      end)

      it("give a symbolic link away, not what it leads to", function()
         files.put(path("f"), "")
         files.run("ln -s f %s", path("link"))
         if fs.stat(path("f")).uid ~= 0 then
            return pending("needs root")
         end
         assert.is_true(fs.chown(path("link"), 1, 2))
         assert.same({ 0, 1, 2 }, { fs.stat(path("f")).uid, fs.stat(path("link")).uid, fs.stat(path("link")).gid })
      end)

      it("tell what is wrong", function()
         fails(("chmod %s: No such file or directory"):format(path("no")), "ENOENT", fs.chmod(path("no"), 384))
         fails(("chown %s: No such file or directory"):format(path("no")), "ENOENT", fs.chown(path("no"), 0, 0))
         assert.has_error(function() fs.chmod(path("no")) end)
         assert.has_error(function() fs.chmod(path("no"), 4096) end)
         assert.has_error(function() fs.chown(path("no"), 0) end)
      end)
   end)

   describe("stat", function()
      it("tells what a file is", function()
         files.put(path("f"), "12345")
         files.run("chmod 640 %s; touch -d '2020-01-02 03:04:05.25 UTC' %s; ln %s %s", path("f"), path("f"),
            path("f"), path("g"))
         local st = fs.stat(path("f"))
         assert.equal("file", st.type)
         assert.equal(5, st.size)
         assert.equal(2, st.nlink)
         assert.equal(tonumber("640", 8), st.mode)
         assert.equal(1577934245.25, st.mtime)
         assert.equal(fs.stat(path("g")).ino, st.ino)
         assert.equal(fs.stat(dir).dev, st.dev)
         assert.equal("integer", math.type(st.uid))
      end)

      it("follows a link only if told to", function()
         files.run("ln -s . %s", path("link"))
         assert.equal("link", fs.stat(path("link")).type)
         assert.equal("directory", fs.stat(path("link"), true).type)
      end)
   end)

   it("tells the size of a regular file alone", function()
      files.put(path("f"), "12345")
      files.run("ln -s f %s", path("link"))
      assert.equal(5, fs.size(path("f")))
      fails(("size %s: not a regular file"):format(path("link")), nil, fs.size(path("link")))
      fails(("size %s: No such file or directory"):format(path("no")), "ENOENT", fs.size(path("no")))
   end)

   it("makes, renames, links and removes", function()
      assert.is_true(fs.mkdir(path("d")))
      assert.equal(tonumber("700", 8), fs.stat(path("d")).mode)
      assert.is_true(fs.write(path("d/a"), "text"))
      assert.is_true(fs.rename(path("d/a"), path("d/b")))
      assert.is_true(fs.link(path("d/b"), path("d/c")))
      assert.is_true(fs.unlink(path("d/b")))
      assert.equal("text", fs.read(path("d/c")))
      fails(("rmdir %s: Directory not empty"):format(path("d")), "ENOTEMPTY", fs.rmdir(path("d")))
      assert.is_true(fs.unlink(path("d/c")))
      assert.is_true(fs.fsync(path("d")))
      assert.is_true(fs.rmdir(path("d")))
      fails(("fsync %s: No such file or directory"):format(path("d")), "ENOENT", fs.fsync(path("d")))
      fails(("mkdir %s: File exists"):format(dir), "EEXIST", fs.mkdir(dir))
      fails(("link %s: File exists"):format(dir), "EEXIST", fs.link(files.put(path("x"), ""), dir))
   end)

   describe("write", function()
      it("makes a file that only its owner reads", function()
         assert.is_true(fs.write(path("f"), "a\0b"))
         assert.equal("a\0b", files.text(path("f")))
         assert.equal(tonumber("600", 8), fs.stat(path("f")).mode)
      end)

      it("replaces nothing and follows no link", function()
         files.put(path("f"), "old")
         fails(("write %s: File exists"):format(path("f")), "EEXIST", fs.write(path("f"), "new"))
         assert.equal("old", files.text(path("f")))
         files.run("ln -s nowhere %s", path("link"))
         fails(("write %s: File exists"):format(path("link")), "EEXIST", fs.write(path("link"), "new"))
         assert.is_false(files.exists(path("nowhere")))
      end)

      it("leaves nothing behind when the disk is full", function()
         local script = files.put(path("s.lua"), ([[
            local fs = require("popd.fs")
            local ok, why, code = fs.write(%q, ("x"):rep(100000))
            io.open(%q, "w"):write(tostring(ok), " ", tostring(code)):close()
         ]]):format(path("f"), path("result")))
         assert(os.execute("trap '' XFSZ; ulimit -f 16; " .. files.lua(script)))
         assert.equal("nil EFBIG", files.text(path("result")))
         assert.is_false(files.exists(path("f")))
      end)
   end)

   describe("read", function()
      it("reads the whole file", function()
         local text = ("0123456789abcdef\0"):rep(20000)
         files.put(path("f"), text)
         assert.equal(text, fs.read(path("f")))
         files.put(path("empty"), "")
         assert.equal("", fs.read(path("empty")))
      end)

      it("refuses one that is larger than the maximum", function()
         files.put(path("f"), "12345")
         assert.equal("12345", fs.read(path("f"), 5))
         fails(("read %s: File too large"):format(path("f")), "EFBIG", fs.read(path("f"), 4))
      end)

      it("tells what is wrong, and never waits for a FIFO's writer", function()
         fails(("read %s: Is a directory"):format(dir), "EISDIR", fs.read(dir))
         files.run("mkfifo %s", path("fifo"))
         assert.is_nil(fs.read(path("fifo")))
      end)
   end)

   describe("octets", function()
      -- as stored         as sent
      local cases = {
         { "", 0 },
         { "a", 3 },
         { "a\n", 3 },
         { "a\r\n", 3 },
         { "a\nb\r\nc", 9 },
         { ".\n..\n", 7 },
         { "\n", 2 },
         { "a\rb\n", 5 },
      }
      for _, case in ipairs(cases) do
         it(("counts %q as it is sent"):format(case[1]), function()
            assert.equal(case[2], fs.octets(files.put(path("f"), case[1])))
            assert.equal(case[2], fs.octets_of(case[1]))
         end)
      end

      it("counts line ends that a piece of reading cuts", function()
         for size = 65534, 65538 do
            local text = ("x"):rep(size) .. "\r\n" .. ("y"):rep(65534) .. "\nz"
            assert.equal(#text + 3, fs.octets(files.put(path("f"), text)))
         end
      end)

      it("counts a range, and no short one", function()
         files.put(path("f"), "From x\na\nb\nFrom y\n")
         assert.equal(6, fs.octets(path("f"), 7, 4))
         assert.equal(3, fs.octets(path("f"), 7, 1))
         assert.equal(0, fs.octets(path("f"), 18))
         local short = ("octets %s: the file is shorter than promised"):format(path("f"))
         fails(short, nil, fs.octets(path("f"), 7, 12))
         fails(short, nil, fs.octets(path("f"), 19))
      end)

      it("counts regular files only", function()
         files.run("mkfifo %s", path("fifo"))
         fails(("octets %s: Invalid argument"):format(path("fifo")), "EINVAL", fs.octets(path("fifo")))
         fails(("octets %s: No such file or directory"):format(path("no")), "ENOENT", fs.octets(path("no")))
      end)
   end)

   it("hashes", function()
      assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", fs.sha256("abc"))
      assert.equal(0x3a7816bf8f01cfea, fs.hash62("abc"))
   end)

   it("raises for what is no path", function()
      assert.error_matches(function()
         fs.read("a\0b")
      end, "cannot contain NUL")
      assert.error_matches(function()
         fs.unlink({})
      end, "string expected")
   end)

   it("closes its descriptors over exec", function()
      local lock = assert(fs.lock(path("lock"), 1))
      local pipe = assert(io.popen("ls -l /proc/self/fd 2>/dev/null"))
      assert.is_nil(pipe:read("a"):find(path("lock"), 1, true))
      pipe:close()
      lock:release()
   end)

   describe("lock", function()
      local function hold(name, key)
         return files.other_process(([[
            lock = require("popd.fs").lock(%q, %q)
            say(type(lock))
         ]]):format(path(name), key))
      end

      it("keeps out the same process, and is given back once", function()
         local lock = assert(fs.lock(path("lock"), "joe"))
         assert.is_false(fs.lock(path("lock"), "joe"))
         local other = assert(fs.lock(path("lock"), "ann"))
         lock:release()
         local again = assert(fs.lock(path("lock"), "joe"))
         lock:release()
         assert.is_false(fs.lock(path("lock"), "joe"))
         again:release()
         other:release()
      end)

      it("keeps out the same process also by another path of the file", function()
         local lock = assert(fs.lock(path("lock"), "joe"))
         assert.is_false(fs.lock(dir .. "/./lock", "joe"))
         lock:release()
         assert.equal("table", type(fs.lock(dir .. "/./lock", "joe")))
      end)

      it("takes integers too", function()
         for _, key in ipairs({ 0, 7, (1 << 62) - 1 }) do
            local lock = assert(fs.lock(path("lock"), key))
            assert.is_false(fs.lock(path("lock"), key))
            lock:release()
         end
         for _, key in ipairs({ -1, 1 << 62, 1.5, true }) do
            local ok, why = pcall(function()
               fs.lock(path("lock"), key)
            end)
            assert.is_false(ok)
            assert.matches("fs_spec.lua:%d+: the key of a lock", why)
         end
      end)

      it("ends with its scope", function()
         do
            local lock <close> = assert(fs.lock(path("lock"), "joe"))
            assert.truthy(lock)
            assert.is_true(fs.locked(path("lock"), "joe"))
         end
         assert.is_false(fs.locked(path("lock"), "joe"))
         do
            local forgotten = assert(fs.lock(path("lock"), "joe")) -- luacheck: ignore
            forgotten = nil -- luacheck: ignore
         end
         collectgarbage()
         collectgarbage()
         assert.is_false(fs.locked(path("lock"), "joe"))
      end)

      it("keeps out other processes", function()
         local lock = assert(fs.lock(path("lock"), "joe"))
         local other = hold("lock", "joe")
         assert.equal("boolean", other.said)
         other.stop()
         lock:release()
         other = hold("lock", "joe")
         assert.equal("table", other.said)
         assert.is_false(fs.lock(path("lock"), "joe"))
         assert.is_true(fs.locked(path("lock"), "joe"))
         assert(fs.lock(path("lock"), "ann")):release()
         other.stop()
      end)

      it("dies with its holder", function()
         local other = hold("lock", "joe")
         assert.equal("table", other.said)
         assert.is_false(fs.lock(path("lock"), "joe"))
         other.kill()
         assert(fs.lock(path("lock"), "joe")):release()
      end)

      it("stays when somebody else's descriptor of the file is closed", function()
         local lock = assert(fs.lock(path("lock"), "joe"))
         files.text(path("lock"))
         fs.locked(path("lock"), "ann")
         local other = hold("lock", "joe")
         assert.equal("boolean", other.said)
         other.stop()
         lock:release()
      end)

      it("holds many locks on one descriptor", function()
         local locks = {}
         for i = 1, 2000 do
            locks[i] = assert(fs.lock(path("lock"), i))
         end
         local count = files.first_line("ls -l /proc/$PPID/fd 2>/dev/null | grep -c " .. files.quote(path("lock")))
         if files.exists("/proc/self/stat") then
            assert.equal("1", count)
         end
         for i = 1, 2000 do
            locks[i]:release()
         end
      end)

      it("notices that the lock file was replaced", function()
         local first = assert(fs.lock(path("lock"), "joe"))
         files.run("rm %s", path("lock"))
         local ann = assert(fs.lock(path("lock"), "ann"))
         assert.is_false(fs.lock(path("lock"), "joe"))
         local other = hold("lock", "ann")
         assert.equal("boolean", other.said)
         other.stop()
         first:release()
         ann:release()
         assert(fs.lock(path("lock"), "joe")):release()
      end)

      it("makes a file that only its owner opens, and follows no link", function()
         assert(fs.lock(path("lock"), "joe")):release()
         assert.equal(tonumber("600", 8), fs.stat(path("lock")).mode)
         files.run("ln -s lock %s", path("link"))
         local ok, why, code = fs.lock(path("link"), "joe")
         fails(("lock %s: Too many levels of symbolic links"):format(path("link")), "ELOOP", ok, why, code)
         fails(("lock %s: No such file or directory"):format(path("no/lock")), "ENOENT",
            fs.lock(path("no/lock"), "joe"))
      end)

      it("asks without making a file", function()
         assert.is_false(fs.locked(path("lock"), "joe"))
         assert.is_false(files.exists(path("lock")))
      end)
   end)
end)
