local client = require("support.client")
local popd = require("popd")
local store = require("support.store")

local function raised(f, ...)
   local ok, err = pcall(f, ...)
   assert.is_false(ok)
   return tostring(err)
end

local function line_here()
   return debug.getinfo(2, "l").currentline
end

describe("a server's name", function()
   after_each(client.finish)

   it("is the one that it was given", function()
      local server = client.adopt(popd.new("pop", { port = 0 }))
      assert.equal(server, popd.server("pop"))
   end)

   it("is pop3d and a number where none is given, never one in use", function()
      local first = client.adopt(popd.new())
      assert.equal(first, popd.server("pop3d1"))
      client.adopt(popd.new("pop3d2"))
      local third = client.adopt(popd.new {})
      assert.equal(third, popd.server("pop3d3"))
   end)

   it("that is in use raises at the caller's line", function()
      client.adopt(popd.new("pop"))
      local line = line_here() + 1
      local err = raised(function() popd.new("pop") end)
      assert.truthy(err:find("api_spec.lua:" .. line .. ":", 1, true), err)
      assert.truthy(err:find("pop", 1, true))
   end)

   it("is free again when the server is destroyed", function()
      popd.new("pop"):destroy()
      assert.is_nil(popd.server("pop"))
      client.adopt(popd.new("pop"))
   end)

   it("is not taken by a new that fails", function()
      raised(popd.new, "pop", { prot = 1 })
      assert.is_nil(popd.server("pop"))
   end)

   it("must be a string", function()
      raised(popd.new, 5)
   end)
end)

describe("up", function()
   after_each(client.finish)

   it("returns the server, also the second time", function()
      local server = client.adopt(popd.new { port = 0, address = "127.0.0.1" })
      assert.equal(server, server:up())
      local port = server:cget("port")
      assert.equal(server, server:up())
      assert.equal(port, server:cget("port"))
      assert.equal("up", server:cget("state"))
      client.connect(server)
   end)

   it("raises with address and reason where it cannot listen, at the caller's line", function()
      local other = client.server()
      local server = client.adopt(popd.new { port = other:cget("port"), address = "127.0.0.1" })
      local line = line_here() + 1
      local err = raised(function() server:up() end)
      assert.truthy(err:find("127.0.0.1", 1, true) and err:find("ddress already in use", 1, true), err)
      assert.truthy(err:find("api_spec.lua:" .. line .. ":", 1, true), err)
      assert.equal("down", server:cget("state"))
   end)

   it("opens all of its listeners or none", function()
      local taken = client.server()
      local server = client.adopt(popd.new { port = 0, address = "127.0.0.1" })
      local port
      server:configure { socket = function(...)
         local listener, why = popd.listen.tcp(...)
         port = listener and listener.port
         return listener, why
      end }
      server:listen { port = taken:cget("port"), address = "127.0.0.1" }
      raised(server.up, server)
      assert.equal("down", server:cget("state"))
      local socket = require("socket")
      assert.is_nil(socket.connect("127.0.0.1", port))
   end)

   it("raises for an address that is none", function()
      local server = client.adopt(popd.new { port = 0, address = "not an address" })
      assert.truthy(raised(server.up, server):find("not an address", 1, true))
   end)

   it("serves again after down", function()
      local server = store.server({ "a" })
      server:down()
      assert.equal("down", server:cget("state"))
      server:up()
      client.login(server)
   end)
end)

describe("the port", function()
   after_each(client.finish)

   it("is the configured one before the first up", function()
      local server = client.adopt(popd.new { port = 0 })
      assert.equal(0, server:cget("port"))
      server:configure { port = 1234 }
      assert.equal(1234, server:cget("port"))
   end)

   it("is the system's choice while up, and the last in use when down", function()
      local server = client.server()
      local port = server:cget("port")
      assert.is_true(port > 0)
      assert.equal(port, server:configure().port)
      server:down()
      assert.equal(port, server:cget("port"))
   end)

   it("that is new changes neither what is listened on nor what is told, until down and up", function()
      local server = client.server()
      local port = server:cget("port")
      local free = client.server()
      local other = free:cget("port")
      free:destroy()
      server:configure { port = other }
      assert.equal(port, server:cget("port"))
      client.connect(port)
      server:down()
      assert.equal(port, server:cget("port"))
      server:up()
      assert.equal(other, server:cget("port"))
      client.connect(other)
   end)
end)

describe("down", function()
   after_each(client.finish)

   it("refuses new connections, and lets open ones go on", function()
      local server = store.server({ "a" })
      local c = client.login(server)
      server:down()
      assert.is_nil(require("socket").connect("127.0.0.1", server:cget("port")))
      assert.equal("+OK 1 3", c:command("STAT"))
   end)

   it("twice is no fault", function()
      local server = client.server()
      server:down()
      server:down()
   end)
end)

describe("destroy", function()
   after_each(client.finish)

   it("closes every connection at once, and frees the locks", function()
      local server, s = store.server({ "a" })
      local c, other = client.login(server), client.connect(server)
      c:command("DELE 1")
      server:destroy()
      assert.same({ true, "" }, { c:closed() })
      assert.same({ true, "" }, { other:closed() })
      client.drain()
      assert.equal(0, s.held)
      assert.equal(1, #s.messages)
   end)

   it('with "defer" refuses new connections and goes with the last one', function()
      local server = client.server({ auth = store.auth, storage = store.new({ "a" }).storage }, "pop")
      local port = server:cget("port")
      local c = client.login(server)
      server:destroy("defer")
      assert.equal("exiting", server:cget("state"))
      assert.is_nil(require("socket").connect("127.0.0.1", port))
      assert.equal("+OK 1 3", c:command("STAT"))
      assert.equal(server, popd.server("pop"))
      c:command("QUIT")
      c:closed()
      client.drain()
      assert.is_nil(popd.server("pop"))
      raised(server.cget, server, "port")
   end)

   it('with "defer" and no connection goes at once', function()
      local server = client.server({}, "pop")
      server:destroy("defer")
      assert.is_nil(popd.server("pop"))
   end)

   it('with "defer", up raises', function()
      local server = store.server({ "a" })
      client.login(server)
      server:destroy("defer")
      raised(server.up, server)
   end)

   it('with "kill" ends what "defer" waits for', function()
      local server = store.server({ "a" })
      local c = client.login(server)
      server:destroy("defer")
      server:destroy("kill")
      c:closed()
   end)

   it("does not know other modes", function()
      local err = raised(client.server().destroy, client.server(), "later")
      assert.truthy(err:find("kill", 1, true) and err:find("defer", 1, true))
   end)

   it("makes every further use raise", function()
      local server = client.server({}, "pop")
      server:destroy()
      for _, use in ipairs {
         { "up" }, { "down" }, { "destroy" }, { "configure" }, { "cget", "port" }, { "conn_list" }, { "conn_state",
            1 },
         { "conn_close", 1 }, { "listen", { port = 0 } },
      } do
         local err = raised(server[use[1]], server, use[2])
         assert.truthy(err:find("pop", 1, true), use[1] .. ": " .. err)
      end
      assert.truthy(tostring(server):find("destroyed"))
   end)

   it("lets a QUIT under way finish", function()
      local wait, open = client.gate()
      local server, s = store.server({ "a", "b" }, nil, { dele = function()
         wait()
         return true
      end })
      local c = client.login(server)
      c:command("DELE 1")
      c:send("QUIT\r\n")
      client.wait_for("dele", function() return s.calls[#s.calls]:find("^dele") end)
      server:destroy()
      open()
      assert.equal("+OK bye\r\n", select(2, c:closed()))
      assert.equal(1, s.unlocks)
   end)
end)

describe("configure", function()
   after_each(client.finish)

   it("without an argument tells every option", function()
      local all = client.server({ max_per_user = 3 }):configure()
      assert.equal(3, all.max_per_user)
      assert.equal("up", all.state)
      assert.equal(600, all.idle_timeout)
      assert.equal("local", all.plain_login)
   end)

   it("with a name tells that one", function()
      assert.equal(600, client.server():configure("idle_timeout"))
   end)

   it("sets all or nothing", function()
      local server = client.server()
      raised(server.configure, server, { idle_timeout = 5, max_failures = "many" })
      assert.equal(600, server:cget("idle_timeout"))
      raised(server.configure, server, { idle_timeout = 5, nonsense = 1 })
      assert.equal(600, server:cget("idle_timeout"))
      server:configure { idle_timeout = 5, max_failures = 7 }
      assert.equal(5, server:cget("idle_timeout"))
      assert.equal(7, server:cget("max_failures"))
   end)

   it("cannot set what is read-only", function()
      local server = client.server()
      assert.truthy(raised(server.configure, server, { state = "up" }):find("read%-only"))
   end)

   it("does not hand out the table that it works with", function()
      local server = client.server()
      server:configure().idle_timeout = 1
      assert.equal(600, server:cget("idle_timeout"))
   end)

   local server
   local wrong_name = {
      { "configure with a table", function() server:configure { prot = 1 } end },
      { "configure with a name", function() server:configure("prot") end },
      { "cget", function() server:cget("prot") end },
      { "new", function() popd.new { prot = 1 } end },
      { "new with a name", function() popd.new("x", { prot = 1 }) end },
      { "listen", function() server:listen { prot = 1 } end },
   }
   for _, case in ipairs(wrong_name) do
      it("names the choices for an unknown name, at the line that called " .. case[1], function()
         server = client.server()
         local err = raised(case[2])
         local line = debug.getinfo(case[2], "S").linedefined
         assert.truthy(err:find("'prot'", 1, true) and err:find("port", 1, true), err)
         assert.truthy(err:find("api_spec.lua:" .. line .. ":", 1, true), err)
      end)
   end

   local wrong_value = {
      { "configure", function() server:configure { port = "x" } end },
      { "configure for a hook", function() server:configure { on = { conect = print } } end },
      { "configure for what is read-only", function() server:configure { state = "up" } end },
      { "new", function() popd.new { port = 70000 } end },
      { "listen", function() server:listen { port = -1 } end },
   }
   for _, case in ipairs(wrong_value) do
      it("raises for a wrong value at the line that called " .. case[1], function()
         server = client.server()
         local err = raised(case[2])
         local line = debug.getinfo(case[2], "S").linedefined
         assert.truthy(err:find("api_spec.lua:" .. line .. ":", 1, true), err)
      end)
   end

   it("lets a session keep the auth and storage that it logged in with", function()
      local old
      server, old = store.server({ "old" })
      local c = client.login(server)
      local new = store.new { "new one" }
      server:configure { storage = new.storage, auth = { verify = function(name) return name end } }
      assert.equal("old\r\n", (c:fetch("RETR 1")))
      local d = client.connect(server)
      d:login("bob", "any")
      assert.equal("new one\r\n", (d:fetch("RETR 1")))
      c:command("QUIT")
      assert.equal(0, old.held)
      assert.equal(1, new.held)
   end)
end)

describe("connections", function()
   after_each(client.finish)

   it("are listed by ascending ids that do not come again", function()
      local server = store.server({ "a" })
      local a = client.connect(server)
      client.connect(server)
      local ids = server:conn_list()
      assert.equal(2, #ids)
      assert.is_true(math.type(ids[1]) == "integer" and ids[1] < ids[2])
      a:command("QUIT")
      a:closed()
      client.wait_for("its end", function() return #server:conn_list() == 1 end)
      assert.same({ ids[2] }, server:conn_list())
      client.connect(server)
      assert.is_true(server:conn_list()[2] > ids[2])
   end)

   it("tell their state before the login", function()
      local server = client.server({ auth = store.auth }, "pop")
      client.connect(server)
      local id = server:conn_list()[1]
      local state = server:conn_state(id)
      assert.equal("auth", state.state)
      assert.equal("", state.logon)
      assert.equal("", state.name)
      assert.equal(id, state.id)
      assert.equal("127.0.0.1", state.remotehost)
      assert.equal("pop", state.server)
      assert.is_false(state.tls)
      assert.same({}, state.deleted)
   end)

   it("tell every field of a session", function()
      local server = store.server({ "a", "bb", "c" })
      local c = client.connect(server)
      local _, port = c.socket:getsockname()
      c:login("joe", "secret")
      c:command("DELE 3")
      c:command("DELE 1")
      local state = server:conn_state(server:conn_list()[1])
      assert.equal("trans", state.state)
      assert.equal("user", state.logon)
      assert.equal("joe", state.name)
      assert.equal("joe", state.storage)
      assert.same({ 1, 3 }, state.deleted)
      assert.equal(3, state.msg)
      assert.equal(10, state.size)
      assert.equal(tonumber(port), state.remoteport)
      assert.is_true(math.abs(state.since - os.time()) < 60)
      assert.is_true(state.idle >= 0 and state.idle < 60)
      assert.equal(#"USER joe\r\nPASS secret\r\nDELE 3\r\nDELE 1\r\n", state.bytes_in)
      assert.is_true(state.bytes_out > 40)
      for _, value in pairs(state) do
         assert.is_nil(tostring(value):find("secret"))
      end
   end)

   it("that do not exist are nil and the reason", function()
      local server = client.server()
      local state, why = server:conn_state(999999999)
      assert.is_nil(state)
      assert.equal("string", type(why))
      local closed, reason = server:conn_close(999999999)
      assert.is_nil(closed)
      assert.equal("string", type(reason))
   end)

   it("of another server are not told", function()
      local one, two = store.server(), client.server()
      client.connect(one)
      assert.is_nil(two:conn_state(one:conn_list()[1]))
   end)

   it("are closed by conn_close, with a text", function()
      local server, s = store.server({ "a" })
      local c = client.login(server)
      c:command("DELE 1")
      assert.is_true(server:conn_close(server:conn_list()[1], "going for lunch"))
      assert.same({ true, "-ERR going for lunch\r\n" }, { c:closed() })
      client.wait_for("unlock", function() return s.held == 0 end)
      assert.equal(1, #s.messages)
   end)

   it("are closed by conn_close without a word where no text is given", function()
      local server = store.server({ "a" })
      local c = client.login(server)
      server:conn_close(server:conn_list()[1])
      assert.same({ true, "" }, { c:closed() })
   end)

   it("that wait for a callback are closed by conn_close at once, and the callback ends", function()
      local ended = false
      local wait, open = client.gate()
      local server, s = store.server({ "a" }, nil, { get = function()
         wait()
         ended = true
         return "a"
      end })
      local c = client.login(server)
      c:send("RETR 1\r\n")
      client.wait_for("get", function() return s.calls[#s.calls]:find("^get") end)
      assert.is_true(server:conn_close(server:conn_list()[1], "now"))
      c:closed()
      assert.same({ false, 1 }, { ended, s.held })
      open()
      client.wait_for("unlock", function() return s.held == 0 end)
      assert.is_true(ended)
   end)

   it("in UPDATE are closed by conn_close when that is done", function()
      local wait, open = client.gate()
      local server, s = store.server({ "a" }, nil, { dele = function()
         wait()
         return true
      end })
      local c = client.login(server)
      c:command("DELE 1")
      c:send("QUIT\r\n")
      client.wait_for("dele", function() return s.calls[#s.calls]:find("^dele") end)
      assert.equal("update", server:conn_state(server:conn_list()[1]).state)
      assert.is_true(server:conn_close(server:conn_list()[1], "now"))
      open()
      assert.same({ true, "+OK bye\r\n" }, { c:closed() })
   end)
end)

describe("without", function()
   after_each(client.finish)

   it("auth every user is refused", function()
      local c = client.connect((client.server { storage = store.new({}).storage }))
      c:command("USER joe")
      assert.truthy(c:command("PASS secret"):find("^%-ERR %[AUTH%]"))
   end)

   it("storage every maildrop is empty", function()
      local c = client.login((client.server { auth = store.auth }))
      assert.equal("+OK 0 0", c:command("STAT"))
      assert.equal("+OK bye", c:command("QUIT"))
   end)
end)
