-- Programs that deliver into an mbox file, while a session has it and after.
local client = require("support.client")
local files = require("spec.support.files")
local mbox = require("popd.mbox")
local process = require("support.process")
local store = require("support.store")

local MAIL = "From: mta\nSubject: new\n\nFrom here on\n\n"

-- A program that locks by fcntl alone and has the file open before it does.
local BY_FCNTL = [[
import fcntl, sys
f = open(sys.argv[1], "ab")
print("open", flush=True)
fcntl.lockf(f, fcntl.LOCK_EX)
f.write(b"From mta Thu Jan  1 00:00:00 1970\n" + sys.stdin.buffer.read().replace(b"\nFrom ", b"\n>From "))
]]

describe("delivery into an mbox file", function()
   local dir, path, mail

   before_each(function()
      dir = files.new_dir()
      path = dir .. "/joe"
      mail = files.put(dir .. "/mail", MAIL)
   end)

   after_each(function()
      client.finish()
      files.remove(dir)
   end)

   local deliverers = {
      {
         name = "procmail", has = "procmail",
         command = function()
            local rc = files.put(dir .. "/rc", ("LOCKSLEEP=1\nDEFAULT=%s/other\n:0:\n%s\n"):format(dir, path))
            files.run("chmod 600 %s", rc)
            return { "procmail", "-f", "mta@example.org", "-m", rc }
         end,
      },
      {
         name = "maildrop", has = "maildrop",
         command = function()
            local rc = files.put(dir .. "/rc", ('LOCKSLEEP=1\nDEFAULT=%q\nto %q\n'):format(dir .. "/other", path))
            files.run("chmod 600 %s", rc)
            return { "maildrop", "-f", "mta@example.org", rc }
         end,
      },
      {
         name = "a program that waits with the file open", has = "python3", tells = true,
         command = function()
            return { "python3", files.put(dir .. "/by_fcntl.py", BY_FCNTL), path }
         end,
      },
      {
         name = "popd-lua deliver", has = "true",
         command = function()
            local words = table.move(files.as_oneself(), 1, 2, 3, { process.program(), "deliver" })
            return table.move({ "--store", "mbox:" .. path, "joe" }, 1, 3, #words + 1, words)
         end,
      },
   }

   local function message(name)
      return ("From %s Thu Jan  1 00:00:00 1970\nSubject: %s\n\n%s\n\n"):format(name, name, name)
   end

   local function line_of(words)
      local quoted = {}
      for i, word in ipairs(words) do
         quoted[i] = files.quote(word)
      end
      return table.concat(quoted, " ") .. " <" .. files.quote(mail)
   end

   local function deliver(words, seconds)
      return (os.execute(("timeout %d %s >%s/said 2>&1"):format(seconds, line_of(words), dir)))
   end

   for _, deliverer in ipairs(deliverers) do
      describe("by " .. deliverer.name, function()
         local command

         before_each(function()
            command = process.has(deliverer.has) and deliverer.command()
         end)

         local function server_of()
            return client.server { auth = store.auth, storage = mbox.new { root = dir .. "/%s" } }
         end

         it("between sessions is served by the next", function()
            if not command then
               pending(deliverer.has .. " is not installed")
               return
            end
            files.put(path, message("a"))
            local server = server_of()
            local c = client.login(server)
            assert.matches("^%+OK 1 ", c:command("STAT"))
            c:command("QUIT")
            assert.is_true(deliver(command, 20))
            c = client.login(server)
            assert.matches("^%+OK 2 ", c:command("STAT"))
            assert.matches("Subject: new\r\n", (c:fetch("RETR 2")))
            c:command("DELE 1")
            c:command("QUIT")
            assert.matches("^From .*Subject: new\n\n>From here on\n", files.text(path))
         end)

         it("into a mailbox that a session has waits, and comes behind what the session leaves", function()
            if not command then
               pending(deliverer.has .. " is not installed")
               return
            end
            local before = message("a") .. message("b")
            files.put(path, before)
            local server = server_of()
            local c = client.login(server)
            assert.is_nil(deliver(command, 2)) -- it is ended, since it would wait on
            assert.equal(before, files.text(path))
            local waiting = assert(io.popen(("timeout 60 %s 2>&1; echo status $?"):format(line_of(command))))
            if deliverer.tells then
               assert.equal("open", waiting:read("l"))
            end
            c:command("DELE 1")
            assert.matches("^%+OK 1 ", c:command("STAT"))
            assert.matches("^%+OK", c:command("QUIT"))
            assert.matches("status 0\n$", waiting:read("a"))
            waiting:close()
            local after = files.text(path)
            assert.equal(message("b"), after:sub(1, #message("b")))
            assert.matches("^From .*Subject: new\n\n>From here on\n", after:sub(#message("b") + 1))
            c = client.login(server)
            assert.matches("^%+OK 2 ", c:command("STAT"))
         end)
      end)
   end
end)
