local files = require("spec.support.files")
local program = require("spec.support.program")

local NOBODY = "nobody"

local function output_of(command)
   local pipe = assert(io.popen(command))
   local text = pipe:read("a")
   pipe:close()
   return (text:gsub("%s+$", ""))
end

local is_root = output_of("id -u") == "0"

describe("popd-lua --user", function()
   local dir, started

   before_each(function()
      dir, started = files.new_dir(), nil
      files.run("chmod 711 %s", dir)
   end)

   after_each(function()
      if started then
         started:stop()
      end
      files.remove(dir)
   end)

   local function path(name)
      return dir .. "/" .. name
   end

   local function rule(name, f)
      it(name, function()
         if not is_root then
            return pending("needs root")
         end
         f()
      end)
   end

   local function run(...)
      return program.run({ program.path() }, ...)
   end

   local function start(...)
      started = program.start({ program.path() }, ...)
      return started
   end

   -- A field of the started program's /proc/PID/status.
   local function status(field)
      return files.text(("/proc/%d/status"):format(started.pid)):match("\n" .. field .. ":%s*([^\n]*)"):gsub("%s+", " ")
   end

   local function numbers(text)
      local list = {}
      for number in text:gmatch("%d+") do
         list[#list + 1] = tonumber(number)
      end
      table.sort(list)
      return list
   end

   -- Mail of ann, whose owner is the user; the file of users is root's alone.
   local function maildir(user)
      files.run("mkdir -p %s", path("mail/ann/new"))
      files.put(path("mail/ann/new/1.x"), "Subject: hi\n\nhello\n")
      files.run("chown -R %s %s && chmod -R go= %s", user, path("mail"), path("mail"))
      files.put(path("users"), "ann:secret\n")
      files.run("chmod 600 %s", path("users"))
      return "--maildir", path("mail"), "--users", path("users"), "--address", "127.0.0.1", "--port", "0"
   end

   local up = [[
      local popd = require("popd")
      local auth = { lookup = function(name) return "secret", name end }
      local storage = require("popd.memory").new { ann = { "Subject: hi\n\nhello\n" } }
      local server = popd.new { port = 0, address = "127.0.0.1", auth = auth, storage = storage }
   ]]

   describe("absent, for root", function()
      -- what would serve                          arguments
      local cases = {
         { "by flags",                               { "--maildir", ".", "--users", "/dev/null", "--port", "0" } },
         { "a script",                               { "-e", up .. "server:up()" } },
         { "a script that calls popd.run",           { "-e", up .. "server:up() popd.run()" } },
         { "a script that calls popd.step",          { "-e", up .. "server:up() while popd.step() do end" } },
         { "a script that catches errors",           { "-e", up .. "server:up() while true do pcall(popd.run) end" } },
         { "a server that a callback brings up",     { "-e", up .. "popd.after(0, function() server:up() end)" } },
      }
      for _, case in ipairs(cases) do
         rule("is refused: " .. case[1], function()
            local code, out, err = run("--log", "none", table.unpack(case[2]))
            assert.same({ 2, "" }, { code, out })
            assert.is_truthy(err:find("started as root: name the user", 1, true), err)
            assert.is_truthy(err:find("--user", 1, true), err)
         end)
      end

      rule("does not matter where nothing is served", function()
         local code, out = run("-e", "local popd = require('popd') popd.after(0, function() print('ran') end)")
         assert.same({ 0, "ran\n" }, { code, out })
      end)
   end)

   -- arguments                                       what it says
   local wrong = {
      { { "--user", "no-such-user-here" },             "user 'no-such-user-here': there is no such user" },
      { { "--user", "" },                              "user '': there is no such user" },
      { { "--user", ("x"):rep(300) },                  "there is no such user" },
      { { "--user" },                                  "--user needs a value" },
   }
   for _, case in ipairs(wrong) do
      it("refuses " .. table.concat(case[1], " "):sub(1, 30), function()
         local words = table.move(case[1], 1, #case[1], 1, {})
         if #words == 2 then
            table.move({ "-e", "print('ran')" }, 1, 2, 3, words)
         end
         local code, out, err = run(table.unpack(words))
         assert.same({ 2, "" }, { code, out })
         assert.is_truthy(err:find(case[2], 1, true), err)
      end)
   end

   describe("with another user, for root", function()
      rule("serves as that user, with its groups and no way to more", function()
         start("--user", NOBODY, maildir(NOBODY))
         local port = started:port()
         started:wait_for("serving as")
         local uid, gid = output_of("id -u " .. NOBODY), output_of("id -g " .. NOBODY)
         assert.equal(("%s %s %s %s"):format(uid, uid, uid, uid), (status("Uid")))
         assert.equal(("%s %s %s %s"):format(gid, gid, gid, gid), (status("Gid")))
         assert.same(numbers(output_of("id -G " .. NOBODY)), numbers((status("Groups"))))
         assert.equal("1", (status("NoNewPrivs")))
         assert.equal(0, tonumber((status("CapEff")), 16))
         assert.equal(0, tonumber((status("CapPrm")), 16))
         local c = program.connect(port)
         assert.equal("+OK", c:login("ann", "secret"):sub(1, 3))
         assert.equal("Subject: hi\r\n\r\nhello\r\n", c:fetch(1))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         assert.is_false(files.exists(path("mail/ann/new/1.x")))
      end)

      rule("opens its port as root", function()
         start("--user", NOBODY, maildir(NOBODY))
         local hex = ("%04X"):format(started:port())
         local uid = files.text("/proc/net/tcp"):match("0100007F:" .. hex .. " %S+ 0A %S+ %S+ %S+%s+(%d+)")
         assert.equal("0", uid)
      end)

      rule("makes its lock file as that user", function()
         start("--user", NOBODY, maildir(NOBODY))
         local c = program.connect(started:port())
         c:login("ann", "secret")
         assert.equal(output_of("id -u " .. NOBODY), output_of("stat -c %u " .. path("mail/.popd-lock")))
      end)

      rule("reads a script's files as root before it serves, and no more behind that", function()
         files.put(path("secret"), "for root alone")
         files.run("chmod 600 %s", path("secret"))
         local code = up .. ([[
            server:up()
            local file = %q
            print(io.open(file):read("a"))
            io.stdout:flush()
            popd.after(0, function() print((select(2, io.open(file)))) popd.stop() end)
            popd.run()
            server:destroy()]]):format(path("secret"))
         local ended, out, err = run("--user", NOBODY, "--log", "error", "-e", code)
         assert.equal("for root alone\n" .. path("secret") .. ": Permission denied\n", out, err)
         assert.equal(0, ended)
      end)

      rule("is that user from the first popd.step on", function()
         local code = up .. [[
            server:up()
            popd.step(0)
            print((io.open("/proc/self/status"):read("a"):match("\nUid:%s*(%d+)")))
            server:destroy()]]
         local _, out = run("--user", NOBODY, "--log", "error", "-e", code)
         assert.equal(output_of("id -u " .. NOBODY) .. "\n", out)
      end)
   end)

   describe("with root", function()
      rule("goes on as root", function()
         start("--user", "root", maildir("root"))
         local c = program.connect(started:port())
         assert.equal("0 0 0 0", (status("Uid")))
         assert.equal("+OK", c:login("ann", "secret"):sub(1, 3))
      end)
   end)

   describe("for a user who is not root", function()
      -- A copy, since that user need not see where the program was built.
      local function as_nobody(...)
         files.run("cp %s %s && chmod 755 %s", program.path(), path("popd-lua"), path("popd-lua"))
         return program.run({ "setpriv", "--reuid=" .. NOBODY, "--regid=nogroup", "--clear-groups", "--",
            path("popd-lua") }, ...)
      end

      rule("may name that user", function()
         local code, out, err = as_nobody("--user", NOBODY, "-e", [[
            require("popd").run()
            print((io.open("/proc/self/status"):read("a"):match("\nNoNewPrivs:%s*(%d)")))]])
         assert.same({ 0, "1\n" }, { code, out }, err)
      end)

      rule("may name no other", function()
         for _, other in ipairs { "root", "daemon" } do
            local code, out, err = as_nobody("--user", other, "-e", "print('ran')")
            assert.same({ 2, "" }, { code, out })
            assert.is_truthy(err:find("only root can become '" .. other .. "'", 1, true), err)
         end
      end)

      rule("need not be given", function()
         local code, _, err = as_nobody("--log", "none", "-e", up .. "server:up() popd.after(0, popd.stop)")
         assert.equal(0, code, err)
      end)
   end)
end)
