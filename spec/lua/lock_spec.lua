local client = require("support.client")
local core = require("popd.core")
local files = require("spec.support.files")
local fs = require("popd.fs")
local lock = require("popd.lock")
local popd = require("popd")
local process = require("support.process")
local store = require("support.store")
local traced = require("support.traced")

describe("popd.lock", function()
   local dir, path

   before_each(function()
      dir = files.new_dir()
      path = files.put(dir .. "/joe", "")
      popd.log_to(function() end)
   end)

   after_each(function()
      popd.log_to(nil)
      files.remove(dir)
   end)

   -- Another process that takes the lock, and says what it got.
   local function holder(kinds)
      return files.other_process(([[
         local held = require("popd.lock").new({ %s }):take(%q)
         say(tostring(held and true))
         _G.kept = held
      ]]):format(kinds, path))
   end

   -- Whether a command can take the lock; it must not wait.
   local function succeeds(...)
      local ok = process.run { ... }
      return ok
   end

   local kinds = {
      ["flock"] = { "flock" },
      ["fcntl"] = { "fcntl" },
      ["dotlock"] = { "dotlock" },
      ["fcntl and dotlock"] = { "fcntl", "dotlock" },
      ["dotlock and flock"] = { "dotlock", "flock" },
   }

   for what, list in pairs(kinds) do
      local text = '"' .. table.concat(list, '","') .. '"'

      describe("with " .. what, function()
         it("keeps out another process, and the other this one", function()
            local other = holder(text)
            assert.equal("true", other.said)
            assert.is_false((lock.new(list):take(path)))
            other.stop()
            local held = assert(lock.new(list):take(path))
            other = holder(text)
            assert.equal("false", other.said)
            other.stop()
            held:release()
            other = holder(text)
            assert.equal("true", other.said)
            other.stop()
         end)

         it("keeps out whoever else is in this process", function()
            local held = assert(lock.new(list):take(path))
            local got, who = lock.new(list):take(path)
            assert.is_false(got)
            assert.equal("session", who.kind)
            held:release()
         end)

         it("is free again once its holder was killed", function()
            local other = holder(text)
            assert.equal("true", other.said)
            other.kill()
            local held = lock.new(list):take(path)
            assert.is_table(held)
            held:release()
            assert.same({ "joe" }, (fs.scandir(dir)))
         end)

         it("is held whatever opens and closes the file", function()
            local held = assert(lock.new(list):take(path))
            files.text(path)
            io.open(path, "a"):close()
            local other = holder(text)
            assert.equal("false", other.said)
            other.stop()
            held:release()
         end)

         it("leaves no file behind", function()
            assert(lock.new(list):take(path)):release()
            assert.same({ "joe" }, (fs.scandir(dir)))
         end)
      end)
   end

   it("takes all or none", function()
      local dot = assert(lock.new({ "dotlock" }):take(path))
      local other = files.other_process(([[
         say(tostring(require("popd.lock").new({ "fcntl", "dotlock" }):take(%q)))
      ]]):format(path))
      assert.equal("false", other.said)
      dot:release()
      local held <close> = assert(lock.new({ "fcntl" }):take(path))
      assert.is_true(held:check())
      other.stop()
   end)

   it("excludes programs that use F_SETLK, and they exclude it", function()
      local python = [[
import fcntl, sys
f = open(sys.argv[1], "r+")
try:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("got", flush=True)
except OSError:
    print("busy", flush=True)
sys.stdin.read()
]]
      local script = files.put(dir .. "/lock.py", python)
      local held = assert(lock.new({ "fcntl" }):take(path))
      local _, said = process.run { "python3", script, path }
      assert.equal("busy\n", said)
      held:release()
      local out = dir .. "/out"
      files.run("mkfifo %s", out)
      local pipe = assert(io.popen(("exec python3 %s %s >%s"):format(script, path, out), "w"))
      local reader = assert(io.open(out))
      assert.equal("got", reader:read("l"))
      local got, who = lock.new({ "fcntl" }):take(path)
      assert.is_false(got)
      assert.equal("fcntl", who.kind)
      assert.is_truthy(fs.stat("/proc/" .. who.process))
      pipe:close()
      reader:close()
      assert(lock.new({ "fcntl" }):take(path)):release()
   end)

   describe("dot-locks of other programs", function()
      local tools = {
         lockfile = {
            take = function(name)
               return succeeds("lockfile", "-r0", name)
            end,
            free = function(name)
               return succeeds("rm", "-f", name)
            end,
         },
         dotlockfile = {
            take = function(name)
               return succeeds("dotlockfile", "-l", "-r", "0", name)
            end,
            free = function(name)
               return succeeds("dotlockfile", "-u", name)
            end,
         },
      }

      for tool, f in pairs(tools) do
         it(("of %s exclude ours, and ours its"):format(tool), function()
            if not process.has(tool) then
               pending(tool .. " is not installed")
               return
            end
            local name = path .. ".lock"
            assert.is_true(f.take(name))
            local got, who = lock.new({ "dotlock" }):take(path)
            assert.is_false(got)
            assert.equal("dotlock", who.kind)
            assert.is_true(who.age <= 60)
            assert.is_true(f.free(name))
            local held = assert(lock.new({ "dotlock" }):take(path))
            assert.is_false(f.take(name))
            held:release()
            assert.is_true(f.take(name))
            assert.is_true(f.free(name))
         end)
      end
   end)

   describe("a dot-lock", function()
      local name

      before_each(function()
         name = path .. ".lock"
      end)

      local function take(options)
         local all = { "dotlock" }
         for key, value in pairs(options or {}) do
            all[key] = value
         end
         return lock.new(all):take(path)
      end

      it("tells its holder's process and age", function()
         local other = holder('"dotlock"')
         local _, who = take()
         assert.is_truthy(fs.stat("/proc/" .. who.process))
         assert.is_true(who.age >= 0 and who.age < 60)
         other.stop()
      end)

      it("of whom nothing is known counts until it is old", function()
         files.put(name, "")
         files.run("touch -d '200 seconds ago' %s", name)
         assert.is_false((take()))
         files.run("touch -d '400 seconds ago' %s", name)
         assert.is_false((take { stale = 500 }))
         local held = take()
         assert.is_table(held)
         held:release()
      end)

      it("of another machine's process counts until it is old, whatever is here", function()
         files.put(name, "999999999 elsewhere/pid:[1]\n")
         local got, who = take()
         assert.is_false(got)
         assert.equal(999999999, who.process)
      end)

      it("that only a number stands in is not taken for a dead process's", function()
         files.put(name, "999999999\n")
         assert.is_false((take()))
      end)

      it("is made on a disk that is full", function()
         if not traced.works() then
            pending("strace cannot be used here")
            return
         end
         local script = files.put(dir .. "/full.lua", ([[
            local held, why = require("popd.lock").new({ "dotlock" }):take(%q)
            print(held and io.open(%q):read("a") or why)
         ]]):format(path, name))
         local ok, said = traced.run("pwrite64:error=ENOSPC", files.lua(script))
         assert.is_true(ok, said)
         assert.equal("\n", said)
      end)

      it("is made where files have one name only, and excludes there too", function()
         if not traced.works() then
            pending("strace cannot be used here")
            return
         end
         local script = files.put(dir .. "/link.lua", ([[
            local locks = require("popd.lock").new({ "dotlock" })
            local held = locks:take(%q)
            print(held and true, os.execute("test -f " .. %q), (require("popd.lock").new({ "dotlock" }):take(%q)))
         ]]):format(path, name, path))
         local ok, said = traced.run("link,linkat:error=EPERM", files.lua(script))
         assert.is_true(ok, said)
         assert.matches("^true\ttrue\t", said)
         assert.matches("false\n$", said)
         files.put(name, "")
         ok, said = traced.run("link,linkat:error=EPERM", files.lua(script))
         assert.is_true(ok, said)
         assert.matches("^false", said)
      end)

      it("that was left is removed by one alone, and never the one that was made after", function()
         files.put(name, "")
         local old = fs.stat(name)
         files.run("rm %s; echo >%s; touch -d '1 hour ago' %s", name, name, name)
         local new = fs.stat(name)
         if new.ino ~= old.ino then
            assert.is_false(core.dotlock_break(name, old.dev, old.ino, math.floor(old.mtime)))
         end
         assert.is_false(core.dotlock_break(name, new.dev, new.ino, math.floor(new.mtime) + 1))
         assert.is_true(core.dotlock_break(name, new.dev, new.ino, math.floor(new.mtime)))
         assert.is_false(files.exists(name))
      end)

      it("that somebody else took away is noticed", function()
         local held = assert(take())
         assert.is_true(held:check())
         files.run("rm %s; echo 1 >%s", name, name)
         assert.is_false(held:check())
         held:release()
         assert.is_true(files.exists(name))
      end)

      it("is touched, so that others see that it is in use", function()
         local held <close> = assert(take())
         local before = fs.stat(name).mtime
         client.wait_for("another time", function()
            assert.is_true(held:check())
            return fs.stat(name).mtime > before
         end)
      end)

      it("in a directory that cannot be written to is a fault, with the reason", function()
         local got, why = lock.new({ "dotlock" }):take("/proc/nothing")
         assert.is_nil(got)
         assert.matches("/proc/nothing.lock", why, 1, true)
      end)
   end)

   it("locks a name that has no file yet, by its dot-lock", function()
      files.run("rm %s", path)
      local held = assert(lock.new({ "fcntl", "dotlock" }):take(path))
      assert.is_false((lock.new({ "fcntl", "dotlock" }):take(path)))
      local other = holder('"fcntl", "dotlock"')
      assert.equal("false", other.said)
      other.stop()
      held:release()
      assert.is_false(files.exists(path))
   end)

   it("notices that another file has taken the locked one's place", function()
      local held <close> = assert(lock.new({ "fcntl" }):take(path))
      assert.is_true(held:renew())
      files.run("echo >%s.new; mv %s.new %s", path, path, path)
      assert.is_false(held:renew())
   end)

   it("follows no symbolic link", function()
      files.run("ln -s joe %s", dir .. "/ann")
      local got, why = lock.new({ "fcntl" }):take(dir .. "/ann")
      assert.is_nil(got)
      assert.matches("ann", why)
   end)

   it("waits for as long as it is told, and takes the lock when it is given back", function()
      local locks = lock.new({ "fcntl", wait = 20 })
      local first = assert(locks:take(path))
      local order = {}
      popd.spawn(function()
         local second = assert(locks:take(path))
         order[#order + 1] = "second"
         second:release()
      end)
      popd.after(0.05, function()
         order[#order + 1] = "first"
         first:release()
      end)
      popd.run()
      assert.same({ "first", "second" }, order)
   end)

   it("gives up then", function()
      local held = assert(lock.new({ "fcntl" }):take(path))
      local before = core.now()
      assert.is_false((lock.new({ "fcntl", wait = 0.05 }):take(path)))
      assert.is_true(core.now() - before >= 0.05)
      held:release()
   end)

   describe("with take_over", function()
      after_each(client.finish)

      -- A storage whose lock is a file's; `ends` tells each unlock.
      local function server_of(take_over)
         local locks = lock.new({ "fcntl", take_over = take_over })
         local here = { holders = 0, most = 0 }
         local server = store.server({ "From: x\n\nbody\n" }, {}, {
            lock = function(_, conn)
               local held, who = locks:take(path, conn)
               if not held then
                  return held, who
               end
               here.held, here.holders = held, here.holders + 1
               here.most = math.max(here.most, here.holders)
               return true
            end,
            unlock = function()
               local held = here.held
               here.holders = here.holders - 1
               held:release()
            end,
         })
         return server, here
      end

      it("ends a session that was idle for as long, and then only has the lock", function()
         local server, here = server_of(0)
         local first = client.login(server)
         local second = client.connect(server)
         assert.matches("^%+OK", second:command("USER joe"))
         assert.matches("^%+OK", second:command("PASS secret"))
         assert.equal(1, here.most)
         local _, said = first:closed()
         assert.matches("takes over", said)
         assert.matches("^%+OK 1 ", second:command("STAT"))
      end)

      it("leaves one alone that is not idle, and tells who it is in the log", function()
         local server = server_of(3600)
         local first = client.login(server)
         local second = client.connect(server)
         second:command("USER joe")
         assert.matches("^%-ERR %[IN%-USE%]", second:command("PASS secret"))
         assert.matches("^%+OK 1 ", first:command("STAT"))
         assert.equal(1, #client.logged("login refused.*held_by=session.*held_conn=%d.*why=in%-use"))
      end)
   end)

   -- A connection that has asked nothing for long; octets(n) tells how many have moved
   -- at the n-th look.
   local function idle_conn(octets)
      local looks, conn = 0, { id = 7, idle = 1000, bytes_in = 0 }
      function conn.close()
         conn.closed = true
      end
      return setmetatable(conn, {
         __index = function(_, key)
            if key == "bytes_out" then
               looks = looks + 1
               return octets(looks)
            end
         end,
      })
   end

   it("does not take over from a session that is fetching, however long ago it asked", function()
      local locks = lock.new({ "fcntl", take_over = 0.05, wait = 0.3 })
      local fetching = idle_conn(function(look)
         return look
      end)
      local held = assert(locks:take(path, fetching))
      assert.is_false((locks:take(path)))
      assert.is_nil(fetching.closed)
      held:release()
   end)

   it("takes over from one where nothing moves, once it has given its lock back", function()
      local locks = lock.new({ "fcntl", take_over = 0.05, wait = 0.3 })
      local idle = idle_conn(function()
         return 0
      end)
      local held = assert(locks:take(path, idle))
      local close, order = idle.close, {}
      function idle.close(...)
         close(...)
         popd.after(0.05, function()
            order[#order + 1] = "released"
            held:release()
         end)
      end
      popd.spawn(function()
         assert(locks:take(path)):release()
         order[#order + 1] = "taken"
      end)
      popd.run()
      assert.is_true(idle.closed)
      assert.same({ "released", "taken" }, order)
   end)

   local mistakes = {
      { {}, "at least one" },
      { { "lockf" }, "unknown kind 'lockf'" },
      { { "fcntl", stail = 1 }, "unknown option 'stail'" },
      { { "fcntl", wait = "long" }, "option 'wait' takes seconds" },
      { { "fcntl", wait = -1 }, "option 'wait' takes seconds" },
      { "fcntl", "a list" },
   }

   for _, case in ipairs(mistakes) do
      it(("raises for %s"):format(case[2]), function()
         local ok, err = pcall(lock.new, case[1])
         assert.is_false(ok)
         assert.matches(case[2], err, 1, true)
      end)
   end
end)
