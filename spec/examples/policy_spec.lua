local files = require("spec.support.files")
local program = require("spec.support.program")

describe("the example policy.lua", function()
   local dir, server, connect

   local function path(name)
      return dir .. "/" .. name
   end

   before_each(function()
      dir = files.new_dir()
      files.run("mkdir -p %s %s", path("joe/new"), path("ann/new"))
      files.put(path("joe/new/1.a.host"), "Subject: one\n\none\n")
      files.put(path("joe/new/2.b.host"), "Subject: two\n\n.two, and no end")
      files.put(path("joe/quarantine"), "2.b.host\n")
      files.put(path("users"), "joe:secret\nann:secret\n")
      server = program.start(program.popd_lua(), "examples/policy.lua", dir, path("users"), 0, "joe=300")
      local port = server:port()
      connect = function()
         return program.connect(port)
      end
   end)

   after_each(function()
      server:stop()
      files.remove(dir)
   end)

   local function login(user)
      local c = connect()
      return c, c:login(user, "secret")
   end

   it("lets a user come again only after his delay, others at once", function()
      local c, reply = login("joe")
      assert.equal("+OK", reply:sub(1, 3))
      c:say("QUIT")
      assert.is_nil((c:line()))
      local _, again = login("joe")
      assert.is_truthy(again:find("^%-ERR %[LOGIN%-DELAY%] come back in %d+ seconds"), again)
      for _ = 1, 2 do
         c, reply = login("ann")
         assert.equal("+OK", reply:sub(1, 3))
         c:say("QUIT")
         assert.is_nil((c:line()))
      end
   end)

   it("tells delays in CAPA: the longest before the login, the user's own after it", function()
      local c = connect()
      assert.is_truthy(table.concat(c:multi("CAPA"), "\n"):find("LOGIN-DELAY 300 USER", 1, true))
      c:login("joe", "secret")
      assert.is_truthy(("\n" .. table.concat(c:multi("CAPA"), "\n") .. "\n"):find("\nLOGIN-DELAY 300\n", 1, true))
      local other = login("ann")
      assert.is_nil(table.concat(other:multi("CAPA"), "\n"):find("LOGIN-DELAY", 1, true))
   end)

   it("adds a header field to what is marked, and tells sizes that fit", function()
      local c = login("joe")
      local one, two = c:fetch(1), c:fetch(2)
      assert.equal("Subject: one\r\n\r\none\r\n", one)
      assert.equal("X-Quarantine: a scanner has marked this message\r\n"
         .. "Subject: two\r\n\r\n.two, and no end\r\n", two)
      assert.same({ "1 " .. #one, "2 " .. #two }, c:multi("LIST"))
      assert.equal(("+OK 2 %d"):format(#one + #two), c:say("STAT"))
      assert.same({ "1 1.a.host", "2 2.b.host" }, c:multi("UIDL"))
   end)

   it("leaves the file as it is", function()
      login("joe"):fetch(2)
      assert.equal("Subject: two\n\n.two, and no end", files.text(path("joe/new/2.b.host")))
   end)
end)

describe("the example http_auth.lua", function()
   local dir, server, service, connect

   before_each(function()
      dir = files.new_dir()
      files.run("mkdir -p %s %s", dir .. "/joe/new", dir .. "/slow/new")
      files.put(dir .. "/joe/new/1.a.host", "Subject: one\n\none\n")
      service = assert(io.popen(("mkfifo %s/hold; exec 9<>%s/hold; echo $$; exec timeout 60 python3 "
         .. "spec/support/http_users.py <%s/hold"):format(dir, dir, dir)))
      service = { pipe = service, pid = service:read("l"), port = service:read("l"):match("port=(%d+)") }
      server = program.start(program.popd_lua(), "examples/http_auth.lua", dir,
         ("http://127.0.0.1:%s/check"):format(service.port), 0)
      local port = server:port()
      connect = function()
         return program.connect(port)
      end
   end)

   after_each(function()
      server:stop()
      os.execute(("kill %s 2>/dev/null"):format(service.pid))
      service.pipe:close()
      files.remove(dir)
   end)

   for what, case in pairs {
      ["lets in whom the service knows"] = { "joe", 'se"cret\\', "^%+OK" },
      ["refuses a wrong password"] = { "joe", "secret", "^%-ERR %[AUTH%]" },
      ["refuses who is unknown"] = { "eve", 'se"cret\\', "^%-ERR %[AUTH%]" },
      ["refuses a password that is no UTF-8"] = { "joe", "\xff", "^%-ERR %[AUTH%]" },
      ["tells a client to try again where the service has a problem"] = { "broken", "x", "^%-ERR %[SYS/TEMP%]" },
   } do
      it(what, function()
         local c = connect()
         assert.is_truthy(c:login(case[1], case[2]):find(case[3]))
      end)
   end

   it("serves others while the service thinks", function()
      local slow, joe = connect(), connect()
      slow:say("USER slow")
      assert(slow.socket:send('PASS se"cret\\\r\n')) -- answered once the service has seen joe
      assert.equal("+OK", joe:login("joe", 'se"cret\\'):sub(1, 3))
      assert.equal("Subject: one\r\n\r\none\r\n", joe:fetch(1))
      assert.equal("+OK", slow:line():sub(1, 3))
   end)

   it("says in the log why, where there is no service", function()
      os.execute(("kill %s"):format(service.pid))
      service.pipe:close()
      service.pipe = assert(io.popen("true"))
      local c = connect()
      assert.is_truthy(c:login("joe", "x"):find("^%-ERR %[SYS/TEMP%]"))
      server:wait_for("a callback failed.*auth.verify.*connection refused")
   end)
end)
