local files = require("spec.support.files")
local program = require("spec.support.program")
local socket = require("socket")

describe("popd-lua", function()
   local dir, started

   before_each(function()
      dir, started = files.new_dir(), nil
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

   local function script(text)
      return files.put(path("server.lua"), text)
   end

   local function run(...)
      return program.run(program.popd_lua(), ...)
   end

   local function start(...)
      started = program.start(program.popd_lua(), ...)
      return started
   end

   local function contains(text, part)
      assert.is_truthy(text:find(part, 1, true), ("%q lacks %q"):format(text, part))
   end

   -- A server with one user, whose maildrop has one message.
   local site = [[
      local popd = require("popd")
      local auth = { lookup = function(name) if name == "joe" then return "secret", name end end }
      local storage = require("popd.memory").new { joe = { "Subject: hi\n\nhello\n" } }
      popd.new { port = 0, auth = auth, storage = storage }:up()
   ]]

   describe("told what to do by flags", function()
      for _, command in ipairs { "cert", "check", "passwd" } do
         it(("explains %s with --help"):format(command), function()
            local status, out, err = program.run({ program.path() }, command, "--help")
            assert.equal(0, status)
            assert.equal("", err)
            contains(out, "popd-lua " .. command)
         end)
      end

      it("explains itself with --help", function()
         local status, out, err = run("--help")
         assert.equal(0, status)
         assert.equal("", err)
         for _, flag in ipairs {
            "--maildir", "--dele", "--newest", "--uidl",
            "--users", "--port", "--address", "--plain-login", "--cert", "--key",
            "--tls-port", "--user", "--log", "-e", "--help", "--version",
         } do
            contains(out, flag)
         end
      end)

      it("tells its version, Lua's and the TLS library's with --version", function()
         local status, out = run("--version")
         assert.equal(0, status)
         assert.is_truthy(out:find("^popd%-lua %S+ %(Lua 5%.4, %a+ [%d.]+%)\n$"))
      end)

      it("says how to use it where nothing is asked", function()
         local status, out, err = run()
         assert.equal(2, status)
         assert.equal("", out)
         contains(err, "usage: popd-lua")
      end)

      -- arguments                                                     status  what it says
      local wrong = {
         { { "--prot", "1110" },                                          2, "unknown option --prot" },
         { { "-x" },                                                      2, "unknown option -x" },
         { { "--port" },                                                  2, "--port needs a value" },
         { { "-e" },                                                      2, "-e needs a value" },
         { { "--log", "loud", "-e", "" },                                 2, "--log: 'loud'" },
         { { "--maildir", "." },                                          2, "--maildir needs --users" },
         { { "--maildir", ".", "--users", "/dev/null", "--dele", "trash" },
            2, '--dele is "unlink", "flag", or a folder such as ".Trash"' },
         { { "--maildir", ".", "--users", "/dev/null", "--newest", "few" }, 2, "--newest takes a number of messages" },
         { { "--maildir", ".", "--users", "/dev/null", "--uidl", "mine" },
            2, "--uidl: unknown style 'mine'; there are: " },
         { { "--uidl", "dovecot", "-e", "" },                             2, "--uidl goes with --maildir" },
         { { "--dele", "flag", "-e", "" },                                2, "--dele goes with --maildir" },
         { { "--maildir", ".", "--users", "/dev/null", "--port", "pop3" },
            2, "--port: a port from 0 to 65535 expected, got 'pop3'" },
         { { "--maildir", ".", "--users", "/dev/null", "--port", "70000" }, 2, "70000" },
         { { "--maildir", ".", "--users", "/nowhere/users" },             1, "/nowhere/users: No such file" },
         { { "--maildir", ".", "--users", "/dev/null", "--plain-login", "maybe" }, 2, "plain_login" },
         { { "--maildir", ".", "--users", "/dev/null", "--cert", "x" },   2, "--cert and --key go together" },
         { { "--maildir", ".", "--users", "/dev/null", "--tls-port", "0" }, 2, "--tls-port needs --cert" },
         { { "--maildir", ".", "--users", "/dev/null", "--cert", "/nowhere/c", "--key", "x", "--port", "0" },
            1, "/nowhere/c" },
         { { "--maildir", ".", "--users", "/dev/null", "--cert", "x", "--key", "y", "--tls-port", "many" },
            2, "--tls-port: a port from 0 to 65535 expected, got 'many'" },
         { { "--cert", "x", "--key", "y", "-e", "" },                     2, "goes with --maildir" },
         { { "--maildir", "%q", "--users", "/dev/null", "--port", "0" },  2, "root" },
         { { "/nowhere/server.lua" },                                     1, "/nowhere/server.lua" },
      }
      for _, case in ipairs(wrong) do
         it("refuses " .. table.concat(case[1], " "), function()
            local status, out, err = run(table.unpack(case[1]))
            assert.equal(case[2], status)
            assert.equal("", out)
            contains(err, "popd-lua: ")
            contains(err, case[3])
         end)
      end

      it("says which line of the users' file it does not understand", function()
         files.put(path("users"), "joe:secret\njust a name\n")
         local status, _, err = run("--maildir", dir, "--users", path("users"), "--port", "0")
         assert.equal(1, status)
         contains(err, path("users") .. ":2: ")
      end)

      it("says that a port is taken, and by which reason", function()
         local taken = assert(socket.bind("127.0.0.1", 0))
         local _, port = taken:getsockname()
         local status, _, err = run("--maildir", dir, "--users", "/dev/null", "--address", "127.0.0.1", "--port", port)
         taken:close()
         assert.equal(1, status)
         contains(err, "Address already in use")
      end)

      it("serves a Maildir", function()
         files.run("mkdir -p %s", path("mail/ann/new"))
         files.put(path("mail/ann/new/1.x"), "Subject: hi\n\n.hello")
         files.put(path("users"), "ann:secret\n")
         start("--maildir=" .. path("mail"), "--users", path("users"), "--port=0", "--address", "127.0.0.1")
         local c = program.connect(started:port())
         assert.equal("+OK", c:login("ann", "secret"):sub(1, 3))
         assert.equal("Subject: hi\r\n\r\n.hello\r\n", c:fetch(1))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         assert.is_false(files.exists(path("mail/ann/new/1.x")))
      end)

      it("shows and deletes as --newest and --dele say", function()
         files.run("mkdir -p %s", path("mail/ann/new"))
         files.put(path("mail/ann/new/1.x"), "one\n")
         files.put(path("mail/ann/new/2.x"), "two\n")
         files.put(path("users"), "ann:secret\n")
         start("--maildir", path("mail"), "--users", path("users"), "--port=0", "--address", "127.0.0.1",
            "--newest", "1", "--dele", ".Trash")
         local c = program.connect(started:port())
         assert.equal("+OK", c:login("ann", "secret"):sub(1, 3))
         assert.equal("two\r\n", c:fetch(1))
         assert.equal("+OK 1 5", c:say("STAT"))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         assert.equal("two\n", files.text(path("mail/ann/.Trash/cur/2.x:2,")))
         assert.equal("one\n", files.text(path("mail/ann/new/1.x")))
      end)

      it("tells the unique-ids that another server told, with --uidl", function()
         files.run("mkdir -p %s", path("mail/ann/new"))
         files.put(path("mail/ann/new/1.x"), "one\n")
         files.put(path("mail/ann/dovecot-uidlist"), "3 V255 N8 Gaa\n7 :1.x\n")
         files.put(path("users"), "ann:secret\n")
         for style, wanted in pairs { dovecot = "00000007000000ff", ["dovecot:%v/%u"] = "255/7", cyrus = "255.7" } do
            start("--maildir", path("mail"), "--users", path("users"), "--port=0", "--address", "127.0.0.1",
               "--uidl", style)
            local c = program.connect(started:port())
            assert.equal("+OK", c:login("ann", "secret"):sub(1, 3))
            assert.equal("+OK 1 " .. wanted, c:say("UIDL 1"))
            started:stop()
         end
      end)

      describe("with a certificate", function()
         local function curl(...)
            local status, out, err = program.run({ "curl", "-sS", "--cacert", path("cert.pem") }, ...)
            assert.equal(0, status, err)
            return out
         end

         local function rule(name, f)
            it(name, function()
               if os.execute("command -v curl >/dev/null 2>&1") ~= true then
                  return pending("curl is not installed")
               end
               files.run("%s cert --out %s localhost >/dev/null", program.path(), dir)
               files.run("mkdir -p %s", path("mail/ann/new"))
               files.put(path("mail/ann/new/1.x"), "Subject: hi\n\nhello\n")
               files.put(path("users"), "ann:secret\n")
               f()
            end)
         end

         local function serve(...)
            start("--maildir", path("mail"), "--users", path("users"), "--port", "0", "--plain-login", "tls",
               "--cert", path("cert.pem"), "--key", path("key.pem"), ...)
            return started:port()
         end

         rule("offers STLS", function()
            local port = serve()
            assert.equal("Subject: hi\r\n\r\nhello\r\n",
               curl("--ssl-reqd", ("pop3://ann:secret@localhost:%d/1"):format(port)))
         end)

         rule("encrypts from the start on --tls-port", function()
            serve("--tls-port", "0")
            assert.equal("Subject: hi\r\n\r\nhello\r\n",
               curl(("pop3s://ann:secret@localhost:%d/1"):format(started:port())))
         end)

         rule("reads another one at SIGHUP", function()
            local port = serve()
            files.run("%s cert --force --out %s localhost >/dev/null", program.path(), dir)
            started:signal("HUP")
            started:wait_for("certificates were read again")
            curl("--ssl-reqd", ("pop3://ann:secret@localhost:%d/1"):format(port))
         end)
      end)

      it("knows %n and %d in the Maildir's path", function()
         files.run("mkdir -p %s", path("example.org/ann/Maildir/cur"))
         files.put(path("example.org/ann/Maildir/cur/1.x:2,S"), "Subject: hi\n\n")
         files.put(path("users"), "ann@example.org:secret\n")
         start("--maildir", dir .. "/%d/%n/Maildir", "--users", path("users"), "--port", "0")
         local c = program.connect(started:port())
         assert.equal("+OK 1 message", c:login("ann@example.org", "secret"):sub(1, 13))
      end)

      it("logs what is asked for with --log", function()
         local code = 'local popd = require("popd") popd.log("info", "told") popd.log("error", "failed")'
         local _, _, err = run("--log", "error", "-e", code)
         contains(err, "failed")
         assert.is_falsy(err:find("told", 1, true))
      end)
   end)

   describe("given Lua code", function()
      it("runs what is behind -e", function()
         local status, out = run("-e", "print(_VERSION, require('popd').VERSION ~= nil)")
         assert.equal(0, status)
         assert.equal("Lua 5.4\ttrue\n", out)
      end)

      it("hands over what is behind the code of -e", function()
         local _, out = run("-e", "print(..., select('#', ...))", "one", "two")
         assert.equal("one\t2\n", out)
      end)

      it("shows a script its name and arguments in arg and ...", function()
         script("print(arg[0] == '" .. path("server.lua") .. "', arg[1], arg[2], #arg, ...)")
         local status, out = run("--log", "none", path("server.lua"), "one", "--two")
         assert.equal(0, status)
         assert.equal("true\tone\t--two\t2\tone\t--two\n", out)
      end)

      it("takes what is behind -- as the script", function()
         files.put(path("-x.lua"), "print('ran')")
         local _, out = program.run({ "env", "-C", dir, table.unpack(program.popd_lua()) }, "--", "-x.lua")
         assert.equal("ran\n", out)
      end)

      it("finds the script's own modules and C modules", function()
         files.put(path("own.lua"), "return 'own module'")
         script("package.path = '" .. dir .. "/?.lua;' .. package.path print((require('own')))")
         local _, out = run(path("server.lua"))
         assert.equal("own module\n", out)
         local status, _, err = run("-e", "package.cpath = '" .. package.cpath .. "' require('socket.core')")
         assert.equal(0, status, err)
      end)

      -- script                                   what standard error holds
      local failing = {
         { "local function f()\n error('oops')\nend\nf()",
            { "server.lua:2: oops", "stack traceback:", "in local 'f'" } },
         { "local x = = 1",                         { "server.lua:1:", "unexpected symbol" } },
         { "error({})",                             { "table: ", "stack traceback:" } },
         { "error(setmetatable({}, { __tostring = function() return 'told' end }))", { "told", "stack traceback:" } },
         { "require('popd').new { prot = 1 }",      { "server.lua:1: unknown option 'prot'", "port" } },
      }
      for _, case in ipairs(failing) do
         it("ends with what is wrong and a status above 0: " .. case[1]:gsub("\n", ";"), function()
            script(case[1])
            local status, out, err = run(path("server.lua"))
            assert.equal(1, status)
            assert.equal("", out)
            for _, part in ipairs(case[2]) do
               contains(err, part)
            end
         end)
      end

      it("ends with the status that the script chooses", function()
         assert.equal(7, (run("-e", "os.exit(7)")))
      end)

      it("ends where the script leaves nothing to wait for", function()
         assert.equal(0, (run("-e", "local popd = require('popd') popd.after(0, function() print('late') end)")))
      end)

      it("serves without popd.run", function()
         start(script(site))
         local c = program.connect(started:port())
         c:login("joe", "secret")
         assert.equal("Subject: hi\r\n\r\nhello\r\n", c:fetch(1))
      end)

      it("goes on with the script once popd.run returns", function()
         local _, out = run("-e", [[
            local popd = require("popd")
            popd.after(0, popd.stop)
            popd.new { port = 0 }:up()
            popd.run()
            print("done")
            os.exit(0)]])
         assert.equal("done\n", out)
      end)

      it("tells the status of a process that the script started", function()
         local _, out = run("-e", [[
            local popd, process = require("popd"), require("support.process")
            popd.spawn(function()
               local pipe = io.popen("echo $$; exit 3")
               local pid = pipe:read("l")
               repeat popd.sleep(0) until process.is_over(pid)
               for _ = 1, 5 do popd.sleep(0) end
               print(pipe:close())
            end)
            popd.run()]])
         assert.equal("nil\texit\t3\n", out)
      end)

      it("reads what a process says in a callback", function()
         local _, out = run("-e", [[
            local popd = require("popd")
            popd.after(0, function()
               local pipe = io.popen("echo hello; exit 0")
               print(pipe:read("l"), pipe:close())
            end)]])
         assert.equal("hello\ttrue\texit\t0\n", out)
      end)

      it("leaves the signals of the processes that a script starts as they were", function()
         local command = { "env", "--default-signal=PIPE", table.unpack(program.popd_lua()) }
         local _, out = program.run(command, "-e", [[os.execute("sh -c 'kill -PIPE $$; echo survived'")]])
         assert.equal("", out)
      end)

      it("does not end when nobody reads its log any more", function()
         local fifo = path("log")
         files.run("mkfifo %s", fifo)
         local redirected = { "sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", fifo }
         table.move(program.popd_lua(), 1, 3, #redirected + 1, redirected)
         started = program.start(redirected, script(site))
         local log = assert(io.open(fifo))
         local port = log:read("l"):match("port=(%d+)")
         log:close()
         local c = program.connect(tonumber(port))
         assert.equal("+OK", c:login("joe", "secret"):sub(1, 3)) -- which writes a line
         assert.equal("+OK 1", c:say("STAT"):sub(1, 5))
      end)
   end)

   describe("told to end", function()
      local ending = "ending once open sessions have ended"

      for _, name in ipairs { "TERM", "INT" } do
         it("does so at once on SIG" .. name .. " without sessions", function()
            start(script(site))
            started:port()
            started:signal(name)
            assert.same({ "exit", 0 }, { started:ended() })
         end)

         it("ends on a second SIG" .. name .. " whatever is open", function()
            start(script(site))
            local c = program.connect(started:port())
            c:login("joe", "secret")
            started:signal(name)
            started:wait_for(ending)
            started:signal(name)
            local how, number = started:ended()
            assert.same({ "exit", name == "TERM" and 143 or 130 }, { how, number })
            assert.is_nil(c:line())
         end)
      end

      it("goes on at SIGHUP, also at a second one", function()
         start(script(site))
         local port = started:port()
         for _ = 1, 2 do
            started:signal("HUP")
            local c = program.connect(port)
            assert.equal("+OK", c:say("NOOP", "QUIT"):sub(1, 3))
            c:close()
         end
      end)

      it("lets a session go on and delete, and accepts no other", function()
         files.run("mkdir -p %s", path("mail/joe/new"))
         files.put(path("mail/joe/new/1.x"), "Subject: hi\n\n")
         files.put(path("users"), "joe:secret\n")
         start("--maildir", path("mail"), "--users", path("users"), "--port", "0")
         local port = started:port()
         local c = program.connect(port)
         c:login("joe", "secret")
         started:signal("TERM")
         started:wait_for(ending)
         assert.is_nil((socket.connect("127.0.0.1", port)))
         assert.equal("Subject: hi\r\n\r\n", c:fetch(1))
         assert.equal("+OK", c:say("DELE 1", "QUIT"):sub(1, 3))
         assert.is_nil(c:line())
         assert.same({ "exit", 0 }, { started:ended() })
         assert.is_false(files.exists(path("mail/joe/new/1.x")))
      end)

      it("waits for no timer of the script once the last session has ended", function()
         start(script(site .. [[
            popd.every(1, function() end)
         ]]))
         local c = program.connect(started:port())
         c:login("joe", "secret")
         started:signal("TERM")
         started:wait_for(ending)
         c:say("QUIT")
         assert.same({ "exit", 0 }, { started:ended() })
      end)

      it("waits for every server's sessions", function()
         start(script(site .. [[
            popd.new("other", { port = 0, auth = auth, storage = storage }):up()
         ]]))
         local one = program.connect(started:port())
         local other = program.connect(started:port())
         started:signal("TERM")
         started:wait_for(ending)
         one:say("QUIT")
         assert.equal("+OK", other:login("joe", "secret"):sub(1, 3))
         other:say("QUIT")
         assert.same({ "exit", 0 }, { started:ended() })
      end)

      it("ends a script that waits in its main chunk", function()
         start("-e", 'io.stderr:write("waiting\\n") require("popd").sleep(1000)')
         started:wait_for("waiting")
         started:signal_until_gone("TERM")
         local how, number = started:ended()
         assert.is_true(number == (how == "exit" and 143 or 15) or how .. number == "exit0", how .. " " .. number)
      end)

      it("ends a script that is stuck in a loop on the second signal", function()
         start("-e", 'io.stderr:write("stuck\\n") while true do end')
         started:wait_for("stuck")
         started:signal_until_gone("TERM")
         local how, number = started:ended()
         assert.is_true(number == 143 or (how == "signal" and number == 15), how .. " " .. number)
      end)

      it("ends a callback that blocks on the second signal", function()
         start("-e", [[
            local popd = require("popd")
            popd.after(0, function() os.execute("echo stuck >&2; exec sleep 20 >/dev/null 2>&1") end)]])
         started:wait_for("stuck")
         started:signal_until_gone("TERM")
         local how, number = started:ended()
         assert.is_true(number == 143 or (how == "signal" and number == 15), how .. " " .. number)
      end)
   end)

   describe("copied alone", function()
      it("works in an empty directory, without anything else of the project", function()
         local home = path("empty")
         files.run("mkdir %s; cp %s %s", home, program.path(), home)
         local alone = { "env", "-i", "-C", home, "./popd-lua", table.unpack(files.as_oneself()) }
         local status, out, err = program.run(alone, "-e", [[
            for _, name in ipairs { "popd.maildir", "popd.memory", "popd.passwd", "popd.fs", "popd.listen" } do
               require(name)
            end
            print("all there")]])
         assert.same({ 0, "all there\n", "" }, { status, out, err })
         files.put(path("users"), "joe:secret\n")
         started = program.start(alone, "--maildir", home, "--users", path("users"), "--port", "0")
         assert.equal("+OK", program.connect(started:port()):login("joe", "secret"):sub(1, 3))
      end)
   end)

   describe("and lua5.4 with the module", function()
      local dialogue = {
         "CAPA", "STAT", "USER joe", "PASS secret", "STAT", "LIST", "UIDL", "RETR 1", "TOP 1 0", "DELE 1", "QUIT",
      }

      -- All that a client sees, but for the stamp.
      local function transcript()
         local c = program.connect(started:port())
         assert(c.socket:send(table.concat(dialogue, "\r\n") .. "\r\n"))
         local lines = { c.greeting }
         for line in c.line, c do
            lines[#lines + 1] = line
         end
         return (table.concat(lines, "\n"):gsub("<%S+@%S+>", "<stamp>"))
      end

      it("do the same with one script", function()
         script('require("popd").log_to(nil, "info")\n' .. site .. "popd.run()")
         start(path("server.lua"))
         local by_program = transcript()
         started:stop()
         started = program.start(program.lua(), path("server.lua"))
         assert.equal(by_program, transcript())
         contains(by_program, "hello")
      end)
   end)
end)

describe("the module", function()
   it("makes no global", function()
      local status, out, err = program.run(program.lua(), "-e", [[
         local before = {}
         for name in pairs(_G) do before[name] = true end
         require("popd") require("popd.maildir") require("popd.memory") require("popd.passwd")
         for name in pairs(_G) do if not before[name] then print(name) end end]])
      assert.same({ 0, "", "" }, { status, out, err })
   end)

   it("sets no signal handler", function()
      if os.getenv("POPD_INTERPRETER") then
         return pending("needs an interpreter that is not popd-lua itself")
      end
      local started = program.start(program.lua(), "-e", [[
         local popd = require("popd")
         popd.new { port = 0 }:up()
         io.stderr:write("up\n")
         popd.run()]])
      started:wait_for("up")
      started:signal("TERM")
      assert.same({ "signal", 15 }, { started:ended() })
   end)
end)
