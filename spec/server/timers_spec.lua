local client = require("support.client")
local popd = require("popd")
local socket = require("socket")
local store = require("support.store")

-- Steps for so many seconds: for what must not happen.
local function pass(seconds, f)
   local stop = socket.gettime() + seconds
   while socket.gettime() < stop do
      if f then
         f()
      end
      popd.step(0.01)
   end
end

describe("the idle timeout", function()
   after_each(client.finish)

   it("closes silently, deletes nothing, and frees the lock", function()
      local server, s = store.server({ "a" }, { idle_timeout = 0.1 })
      local c = client.login(server)
      c:command("DELE 1")
      assert.same({ true, "" }, { c:closed() })
      client.wait_for("unlock", function() return s.held == 0 end)
      assert.equal(1, #s.messages)
      assert.falsy(table.concat(s.calls, " "):find("dele"))
   end)

   it("is reset by complete commands", function()
      local c = client.login((store.server({ "a" }, { idle_timeout = 0.6 })))
      for _ = 1, 4 do
         pass(0.2)
         assert.equal("+OK", c:command("NOOP"))
      end
   end)

   it("is not reset by octets", function()
      local c = client.login((store.server({ "a" }, { idle_timeout = 0.2 })))
      local last, n = 0, 0
      client.wait_for("the close", function()
         if n < 200 and socket.gettime() > last + 0.02 then
            last, n = socket.gettime(), n + 1
            c.socket:send("x")
         end
         c:fill()
         return c.eof
      end)
      assert.equal("", c.buffer)
      assert.is_true(n < 200)
   end)

   it("does not run while a callback works", function()
      local wait, go_on = client.gate()
      local works = false
      local server = store.server({ "a" }, { idle_timeout = 0.1 }, {
         lock = function() return true end, unlock = function() end,
         get = function()
            works = true
            wait()
            return "a"
         end,
      })
      local c = client.login(server)
      c:send("RETR 1\r\n")
      client.wait_for("the callback", function() return works end)
      assert.is_true(client.login(server):closed()) -- it came later, and its time is up
      go_on()
      assert.matches("^%+OK", c:line())
      assert.equal("a", c:line())
      assert.equal(".", c:line())
      assert.equal("+OK", c:command("NOOP"))
   end)

   it("does not run before the login", function()
      local c = client.connect((store.server({ "a" }, { idle_timeout = 0.05 })))
      pass(0.15)
      c:command("CAPA")
   end)

   it("follows configure", function()
      local server = store.server({ "a" })
      local c = client.login(server)
      server:configure { idle_timeout = 0.05 }
      c:command("NOOP")
      assert.same({ true, "" }, { c:closed() })
   end)
end)

describe("before the login", function()
   after_each(client.finish)

   it("there is a deadline in all, whatever the client says", function()
      local c = client.connect((store.server({}, { login_timeout = 0.2, max_bad_commands = false })))
      client.wait_for("the close", function()
         c.socket:send("CAPA\r\n")
         c:fill()
         return c.eof
      end)
   end)

   it("the deadline closes silently", function()
      local c = client.connect((store.server({}, { login_timeout = 0.1 })))
      assert.same({ true, "" }, { c:closed() })
   end)

   it("the deadline holds for who does not even send a PROXY header", function()
      local c = client.open((store.server({}, { login_timeout = 0.1, proxy = { "127.0.0.1" } })))
      assert.same({ true, "" }, { c:closed() })
   end)

   it("the deadline ends with the login", function()
      local c = client.login((store.server({ "a" }, { login_timeout = 0.1 })))
      pass(0.25)
      assert.equal("+OK", c:command("NOOP"))
   end)

   it("64 KiB are enough", function()
      local c = client.connect((store.server({}, { max_bad_commands = false })))
      pcall(c.send, c, ("NOOP\r\n"):rep(20000))
      local _, all = c:closed()
      local _, n = all:gsub("%-ERR", "")
      assert.is_true(n <= 65536 // 6 + 1, n)
   end)

   it("64 KiB without a line end are enough", function()
      local c = client.connect((store.server()))
      pcall(c.send, c, ("x"):rep(200000))
      assert.is_true((c:closed()))
   end)

   it("a megabyte after the login is served", function()
      local c = client.login((store.server({ "a" })))
      for _ = 1, 20 do
         c:send(("NOOP\r\n"):rep(10000))
         for _ = 1, 10000 do
            c:octets(5)
         end
      end
   end)
end)

describe("the write timeout", function()
   after_each(client.finish)

   local BIG = (("x"):rep(78) .. "\r\n"):rep(250000) -- 20 MB

   local function begin(seconds)
      local server, s = store.server({ BIG }, { write_timeout = seconds }, { size = function() return #BIG end })
      local c = client.open(server, 4096)
      c:line()
      c:login("joe", "secret")
      return c, s, server
   end

   it("closes who never reads, and frees the lock", function()
      local c, s, server = begin(0.2)
      c:command("DELE 1")
      c:command("RSET")
      c:send("RETR 1\r\n")
      client.wait_for("unlock", function() return s.held == 0 end)
      assert.same({}, server:conn_list())
      assert.equal(1, #s.messages)
   end)

   it("closes who only trickles", function()
      local c, s = begin(0.3)
      c:send("RETR 1\r\n")
      client.wait_for("unlock", function()
         c.socket:receive(1)
         return s.held == 0
      end)
   end)

   it("does not close who reads slowly, but reads", function()
      local c, s = begin(0.5)
      c:send("RETR 1\r\n")
      pass(1.2, function()
         c.socket:receive(65536)
      end)
      assert.equal(1, s.held)
   end)

   it("costs the server a bounded buffer", function()
      local statm = io.open("/proc/self/statm")
      if not statm then
         pending("this system has no /proc/self/statm")
         return
      end
      local function pages()
         statm:seek("set")
         statm:setvbuf("no")
         return tonumber(statm:read("a"):match("^%d+ (%d+)"))
      end
      local c, s = begin(5)
      local before = pages()
      c:send("RETR 1\r\n")
      pass(0.2)
      assert.equal(1, s.held)
      if not os.getenv("POPD_INTERPRETER") then -- a sanitizer keeps what was freed
         assert.is_true((pages() - before) * 4096 < 4 * 1024 * 1024)
      end
      statm:close()
   end)

   it("holds for replies to commands that are never read, too", function()
      local server, s = store.server({ "a" }, { write_timeout = 0.2 })
      local c = client.open(server, 4096)
      c:line()
      c:login("joe", "secret")
      client.wait_for("unlock", function()
         c.socket:send(("CAPA\r\n"):rep(1000))
         return s.held == 0
      end)
   end)

   it("does not delay others", function()
      local server, s = store.server({ BIG }, { write_timeout = 5 }, { lock = false,
         size = function() return #BIG end })
      local slow = client.open(server, 4096)
      slow:line()
      slow:login("joe", "secret")
      slow:send("RETR 1\r\n")
      local quick = client.login(server)
      assert.is_true((quick:fetch("RETR 1")) == BIG)
      assert.equal(0, s.held)
   end)
end)
