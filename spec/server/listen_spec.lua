local client = require("support.client")
local files = require("support.files")
local fs = require("popd.fs")
local popd = require("popd")
local socket = require("socket")
local store = require("support.store")

local dir

local function temp_dir()
   dir = files.new_dir()
   return dir
end

local function finish()
   client.finish()
   if dir then
      files.remove(dir)
      dir = nil
   end
end

describe("listen", function()
   after_each(finish)

   it("opens a further port at once where the server is up", function()
      local server = store.server({ "a" })
      local listener = server:listen { port = 0, address = "127.0.0.1" }
      assert.is_true(listener.port > 0 and listener.port ~= server:cget("port"))
      client.login(listener.port)
      client.connect(server)
   end)

   it("opens it with up where the server is down", function()
      local server = client.adopt(popd.new { port = 0, address = "127.0.0.1" })
      local listener = server:listen { port = 0, address = "127.0.0.1" }
      server:up()
      client.connect(listener.port)
      server:down()
      server:up()
      client.connect(listener.port)
   end)

   it("takes the server's address where it has none of its own", function()
      local listener = client.server():listen { port = 0 }
      client.connect(listener.port)
   end)

   it("is logged, now or at the next up", function()
      local server = client.server()
      local listener = server:listen { port = 0 }
      assert.equal(1, #client.logged(" listening .*port=" .. listener.port))
      server:down()
      server:listen { port = 0, address = "127.0.0.1" }
      assert.equal(2, #client.logged(" listening "))
      server:up()
      assert.equal(5, #client.logged(" listening "))
   end)

   -- The sockets of this process, by descriptor, and whether each sends at once.
   local function sockets()
      local found, look = {}, socket.tcp()
      local own = look:getfd()
      for _, name in ipairs(fs.scandir("/proc/self/fd")) do
         look:setfd(math.tointeger(tonumber(name)))
         found[name] = look:getoption("tcp-nodelay")
      end
      look:setfd(own)
      look:close()
      return found
   end

   for name, listening in pairs {
      ["a port"] = function()
         return client.server():cget("port")
      end,
      ["a port of both families"] = function()
         return client.server():listen { port = 0 }.port
      end,
      ["a descriptor"] = function()
         local given = assert(socket.bind("127.0.0.1", 0))
         local server = client.server { socket = popd.listen.fd(given:getfd()) }
         given:setfd(-1)
         return server:cget("port")
      end,
   } do
      it("has no reply wait for the client's acknowledgment: " .. name, function()
         local port, n = listening(), 0
         local before = sockets()
         client.connect(port)
         for fd, at_once in pairs(sockets()) do
            if before[fd] == nil then
               assert.is_true(at_once)
               n = n + 1
            end
         end
         assert.equal(2, n) -- the client's and the server's
      end)
   end

   it("gives a listener that closes for good", function()
      local server = client.server()
      local listener = server:listen { port = 0 }
      local port = listener.port
      listener:close()
      listener:close()
      assert.is_nil(require("socket").connect("127.0.0.1", port))
      server:down()
      server:up()
      assert.is_nil(require("socket").connect("127.0.0.1", port))
      client.connect(server)
   end)

   it("raises where it cannot, and adds nothing", function()
      local server, other = client.server(), client.server()
      local ok, err = pcall(server.listen, server, { port = other:cget("port") })
      assert.is_false(ok)
      assert.truthy(err:find("in use", 1, true))
      server:down()
      server:up()
   end)
end)

describe("a Unix socket", function()
   after_each(finish)

   it("serves, and its file goes with it", function()
      local path = temp_dir() .. "/pop"
      local server = store.server({ "a" }, { socket = popd.listen.unix(path) })
      local c = client.open_unix(path)
      c:line()
      c:login("joe", "secret")
      assert.equal("+OK 1 3", c:command("STAT"))
      server:down()
      assert.is_nil(io.open(path))
   end)

   it("may be a further listener", function()
      local path = temp_dir() .. "/pop"
      local server = store.server({ "a" })
      server:listen { socket = popd.listen.unix(path) }
      client.open_unix(path):line()
      client.connect(server)
   end)

   it("that cannot be made raises with path and reason", function()
      local ok, err = pcall(client.server, { socket = popd.listen.unix("/nonexistent/pop") })
      assert.is_false(ok)
      assert.truthy(err:find("/nonexistent/pop", 1, true), err)
      assert.truthy(err:find("No such file", 1, true), err)
   end)
end)

describe("a descriptor", function()
   after_each(finish)

   it("that listens already is served", function()
      local given = assert(socket.bind("127.0.0.1", 0))
      local _, port = given:getsockname()
      local server = store.server({ "a" }, { socket = popd.listen.fd(given:getfd()) })
      assert.equal(tonumber(port), server:cget("port"))
      client.login(tonumber(port))
      server:destroy()
      given:setfd(-1)
      given:close()
   end)

   for _, bad in ipairs { 987654, -1, 0 } do
      it(("%d is refused with a reason"):format(bad), function()
         local ok, err = pcall(client.server, { socket = popd.listen.fd(bad) })
         assert.is_false(ok)
         assert.truthy(err:find("descriptor", 1, true), err)
      end)
   end
end)

describe("a socket function", function()
   after_each(finish)

   it("is asked with port and address", function()
      local got
      client.server { port = 0, socket = function(...)
         got = { ... }
         return popd.listen.tcp(...)
      end }
      assert.same({ 0, "127.0.0.1" }, got)
   end)

   for what, f in pairs {
      ["returns nothing"] = function() end,
      ["returns nil and a reason"] = function() return nil, "no luck" end,
      ["raises"] = function() error("no luck") end,
      ["returns something else"] = function() return {} end,
   } do
      it("that " .. what .. " makes up raise", function()
         local server = client.adopt(popd.new { port = 0, socket = f })
         local ok, err = pcall(server.up, server)
         assert.is_false(ok)
         assert.equal("string", type(err))
         assert.equal("down", server:cget("state"))
      end)
   end
end)

describe("behind a proxy", function()
   after_each(finish)

   local function proxied(networks)
      return store.server({ "a" }, { proxy = networks or { "127.0.0.0/8" } })
   end

   local V2 = "\r\n\r\n\0\r\nQUIT\n"
   local headers = {
      { "PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n", "192.0.2.7", 4711 },
      { "PROXY TCP6 2001:db8::7 2001:db8::1 4712 110\r\n", "2001:db8::7", 4712 },
      { V2 .. "\x21\x11\0\12" .. "\192\0\2\9" .. "\198\51\100\1" .. (">I2I2"):pack(4713, 110), "192.0.2.9", 4713 },
      { V2 .. "\x21\x21\0\36" .. "\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\9" .. "\x20\x01\x0d\xb8" .. ("\0"):rep(11)
         .. "\1"
         .. (">I2I2"):pack(4714, 110), "2001:db8::9", 4714 },
      { V2 .. "\x20\0\0\0", "127.0.0.1" },
      { "PROXY UNKNOWN\r\n", "127.0.0.1" },
   }
   for _, case in ipairs(headers) do
      it(("%q makes the client %s"):format(case[1], case[2]), function()
         local server = proxied()
         local c = client.open(server)
         c:send(case[1])
         c:line()
         local state = server:conn_state(server:conn_list()[1])
         assert.equal(case[2], state.remotehost)
         assert.equal(case[3] or state.remoteport, state.remoteport)
      end)

      it(("%q may come octet by octet, and commands behind it in one segment"):format(case[1]), function()
         local server = proxied()
         local c = client.open(server)
         for i = 1, #case[1] - 1 do
            c:send(case[1]:sub(i, i))
            popd.step(0)
            c:fill()
            assert.equal("", c.buffer)
         end
         c:send(case[1]:sub(-1) .. "CAPA\r\nQUIT\r\n")
         local _, all = c:closed()
         assert.truthy(all:find("^%+OK .-\r\n%+OK .-\r\n%.\r\n%+OK bye\r\n$"))
      end)
   end

   it("nothing is said before the header has come", function()
      local c = client.open(proxied())
      assert.is_true(c:silent())
   end)

   local bad = {
      "USER joe\r\n", "PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n", "PROXY TCP4 1.2.3.4 4.5.6.7 1 99999\r\n", "PROXY\r\n",
      V2 .. "\x31\x11\0\12" .. ("\0"):rep(12), V2 .. "\x21\x11\0\4\1\2\3\4", "PROXY TCP4 " .. ("1"):rep(200),
   }
   for _, header in ipairs(bad) do
      it(("%q closes without a word"):format(header), function()
         local c = client.open(proxied())
         c:send(header)
         assert.same({ true, "" }, { c:closed() })
         assert.equal(1, #client.logged("PROXY"))
      end)
   end

   it("a client that leaves before its header is forgotten", function()
      local server = proxied()
      local c = client.open(server)
      c:send("PROXY TC"):shutdown()
      c:closed()
      assert.same({}, server:conn_list())
   end)

   it("an untrusted address is closed without a word", function()
      local c = client.open(proxied { "10.0.0.0/8", "::1" })
      c:send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n")
      assert.same({ true, "" }, { c:closed() })
   end)

   it("a socket function that returns no listener is refused, by listen and by up", function()
      local server = client.server {}
      assert.is_false((pcall(server.listen, server, { socket = function() return {} end })))
      local other = client.adopt(popd.new { socket = function() return {} end })
      local ok, err = pcall(other.up, other)
      assert.is_false(ok)
      assert.truthy(err:find("no listener", 1, true))
   end)

   it("a socket function that returns a closed listener is refused, and nothing stays open", function()
      local first
      local other = client.adopt(popd.new { port = 0, address = "127.0.0.1", socket = function(...)
         first = popd.listen.tcp(...)
         return first
      end })
      other:listen { port = 0, address = "127.0.0.1", socket = function(...)
         local closed = popd.listen.tcp(...)
         closed:close()
         return closed
      end }
      local ok, err = pcall(other.up, other)
      assert.is_false(ok)
      assert.truthy(err:find("no listener that is open", 1, true))
      assert.equal(0, first.port)
   end)

   it("a Unix socket that another server has put in its place is left there", function()
      local path = os.tmpname()
      os.remove(path)
      local one = client.adopt(popd.new { socket = popd.listen.unix(path) }):up()
      os.remove(path)
      local two = client.adopt(popd.new { socket = popd.listen.unix(path) }):up()
      one:down()
      assert.truthy(popd.fs.stat(path))
      two:down()
      assert.is_nil((popd.fs.stat(path)))
   end)

   it("a list that holds what is no network is refused", function()
      local ok, err = pcall(popd.new, { port = 0, proxy = { "10.0.0.0/99" } })
      assert.is_false(ok)
      assert.truthy(err:find("10.0.0.0/99", 1, true))
   end)

   it("one listener may be, and another not", function()
      local server = store.server({ "a" })
      local listener = server:listen { port = 0, proxy = { "127.0.0.1" } }
      client.connect(server)
      local c = client.open(listener.port)
      assert.is_true(c:silent())
      c:send("PROXY UNKNOWN\r\n")
      c:line()
   end)

   it("may be written as a socket function around another", function()
      local server = store.server({ "a" }, { socket = popd.listen.proxy({ "127.0.0.1" }, popd.listen.tcp) })
      local c = client.open(server)
      assert.is_true(c:silent())
      c:send("PROXY UNKNOWN\r\n")
      c:line()
   end)

   it("may come through a Unix socket, which is trusted", function()
      local path = temp_dir() .. "/pop"
      local server = store.server({}, { socket = popd.listen.proxy({ "10.0.0.1" }, popd.listen.unix(path)) })
      local c = client.open_unix(path)
      c:send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n")
      c:line()
      assert.equal("192.0.2.7", server:conn_state(server:conn_list()[1]).remotehost)
   end)

   it("limits by address are those of the client's", function()
      local server = store.server({ "a" }, { proxy = { "127.0.0.1" }, max_per_address = 1 })
      local function come(address)
         local c = client.open(server)
         c:send(("PROXY TCP4 %s 198.51.100.1 4711 110\r\n"):format(address))
         return c:line()
      end
      assert.truthy(come("192.0.2.1"):find("^%+OK"))
      assert.truthy(come("192.0.2.2"):find("^%+OK"))
      assert.truthy(come("192.0.2.1"):find("^%-ERR"))
   end)

   it('a password of a client that is not local is refused by plain_login = "local"', function()
      local server = proxied()
      local c = client.open(server)
      c:send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n")
      c:line()
      assert.truthy(c:command("USER joe"):find("^%-ERR"))
      server:configure { plain_login = "always" }
      c = client.open(server)
      c:send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n")
      c:line()
      c:login("joe", "secret")
   end)
end)

describe("a limit", function()
   after_each(finish)

   local function greeting(server)
      local c = client.open(server)
      local line = c:line()
      return line:match("^%S+ ?%b[]") or line:sub(1, 3), c
   end

   it("max_connections refuses the next one with [SYS/TEMP], until one leaves", function()
      local server = store.server({}, { max_connections = 2 })
      local a = client.connect(server)
      client.connect(server)
      local line, c = greeting(server)
      assert.equal("-ERR [SYS/TEMP]", line)
      assert.is_true((c:closed()))
      a:command("QUIT")
      a:closed()
      client.wait_for("room", function() return #server:conn_list() == 1 end)
      assert.equal("+OK", (greeting(server)))
   end)

   it("max_per_address refuses the next one with [SYS/TEMP], until one leaves", function()
      local server = store.server({}, { max_per_address = 2 })
      local a = client.connect(server)
      client.connect(server)
      local line, c = greeting(server)
      assert.equal("-ERR [SYS/TEMP]", line)
      assert.is_true((c:closed()))
      a:command("QUIT")
      a:closed()
      client.wait_for("room", function() return #server:conn_list() == 1 end)
      assert.equal("+OK", (greeting(server)))
   end)

   it("max_per_user refuses the next session, until one ends", function()
      local server = store.server({ "a" }, { max_per_user = 2 }, { lock = false, unlock = false })
      local a = client.login(server)
      client.login(server)
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS secret"):find("^%-ERR %[SYS/TEMP%]"))
      a:command("QUIT")
      c:login("joe", "secret")
   end)

   it("max_per_user holds for logins that wait at the same time, too", function()
      local wait, open = client.gate()
      local locks = 0
      local server = store.server({ "a" }, { max_per_user = 1 }, {
         unlock = false,
         lock = function()
            locks = locks + 1
            wait()
            return true
         end,
      })
      local a, b = client.connect(server), client.connect(server)
      a:send("USER joe\r\nPASS secret\r\n")
      client.wait_for("the lock", function() return locks == 1 end)
      b:command("USER joe")
      assert.truthy(b:command("PASS secret"):find("^%-ERR"))
      open()
      a:line()
      assert.truthy(a:line():find("^%+OK "))
      assert.equal(1, locks)
   end)

   it("max_failures closes after so many wrong passwords", function()
      local c = client.connect((store.server({}, { max_failures = 2 })))
      c:command("USER joe")
      assert.truthy(c:command("PASS x"):find("^%-ERR %[AUTH%]"))
      c:command("USER joe")
      assert.truthy(c:command("PASS x"):find("^%-ERR %[AUTH%]"))
      assert.same({ true, "" }, { c:closed() })
   end)

   it("max_failures does not count [IN-USE]", function()
      local server = store.server({}, { max_failures = 2 })
      client.login(server)
      local c = client.connect(server)
      for _ = 1, 4 do
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find("^%-ERR %[IN%-USE%]"))
      end
      assert.truthy(c:command("CAPA"):find("^%+OK"))
   end)

   it("max_bad_commands closes after so many in a row", function()
      local c = client.login((store.server({}, { max_bad_commands = 5 })))
      for _ = 1, 4 do
         c:command("FOO")
      end
      c:command("NOOP")
      for _ = 1, 5 do
         assert.truthy(c:command("FOO"):find("^%-ERR"))
      end
      assert.same({ true, "" }, { c:closed() })
   end)

   it("that is false does not exist", function()
      local server = store.server({}, { max_failures = false, max_bad_commands = false, max_connections = false,
         max_per_address = false, max_per_user = false })
      local c = client.connect(server)
      for _ = 1, 120 do
         c:command("FOO")
      end
      for _ = 1, 5 do
         c:command("USER joe")
         c:command("PASS x")
      end
      c:login("joe", "secret")
   end)

   it("failure_delay delays the answer to a wrong password, and nobody else's", function()
      local server = store.server({ "a" }, { failure_delay = 0.1 })
      local a, b = client.connect(server), client.connect(server)
      a:send("USER joe\r\nPASS x\r\n")
      a:line()
      b:login("joe", "secret")
      a:fill()
      assert.equal("", a.buffer)
      assert.truthy(a:line():find("^%-ERR %[AUTH%]"))
   end)

   it("login_delay refuses the next login with [LOGIN-DELAY]", function()
      local server = store.server({ "a" }, { login_delay = 1000 })
      client.login(server):command("QUIT")
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS secret"):find("^%-ERR %[LOGIN%-DELAY%]"))
   end)
end)
