-- popd.mock: the real session without a network.
local client = require("support.client")
local core = require("popd.core")
local memory = require("popd.memory")
local popd = require("popd")
local store = require("support.store")

local function lookup(name)
   if name == "joe" then
      return "secret", "joe"
   end
end

local auth = { lookup = lookup }

-- Runs f in a plain main chunk, or inside a task.
local places = {
   ["plain Lua"] = function(f) f() end,
   ["a task"] = function(f)
      local done, ok, err
      popd.spawn(function()
         ok, err = pcall(f)
         done = true
      end)
      client.wait_for("the task", function() return done end)
      assert(ok, err)
   end,
}

local function login(options)
   local c = popd.mock(options)
   assert.truthy(c:send("USER joe"):find("^%+OK"))
   assert.truthy(c:send("PASS secret"):find("^%+OK"))
   return c
end

local message = "Subject: hi\n\n.hello\n..\nend"
local wire = "Subject: hi\r\n\r\n.hello\r\n..\r\nend\r\n"

describe("popd.mock", function()
   before_each(function()
      popd.log_to(nil, "none")
   end)
   after_each(client.finish)

   for place, within in pairs(places) do
      describe("in " .. place, function()
         it("returns a reply's line", function()
            within(function()
               local c <close> = login { auth = auth, storage = memory.new { joe = { message } } }
               assert.same({ n = 1, "+OK 1 " .. #wire }, table.pack(c:send("STAT")))
               assert.same({ n = 1, "-ERR no such message" }, table.pack(c:send("LIST 2")))
            end)
         end)

         it("returns the lines of a multi-line reply, undotted, and them as one text", function()
            within(function()
               local c <close> = login { auth = auth, storage = memory.new { joe = { message } } }
               local line, lines, body = c:send("RETR 1")
               assert.equal(("+OK %d octets"):format(#wire), line)
               assert.same({ "Subject: hi", "", ".hello", "..", "end" }, lines)
               assert.equal(wire, body)
            end)
         end)

         it("lets a callback wait", function()
            within(function()
               local c <close> = login { auth = auth, storage = memory.new { joe = { function()
                  client.turn()
               end } } }
               assert.same({}, select(2, c:send("RETR 1")))
            end)
         end)

         it("has given the lock back when close returns", function()
            within(function()
               local s = store.new({ message }, { unlock = false })
               s.storage.unlock = function()
                  client.turn()
                  s.held, s.unlocks = s.held - 1, s.unlocks + 1
               end
               local c = login { auth = auth, storage = s.storage }
               assert.equal(1, s.held)
               c:close()
               assert.same({ 0, 1 }, { s.held, s.unlocks })
            end)
         end)

         it("raises where no reply comes, and says what it waited for", function()
            within(function()
               local c = popd.mock { callback_timeout = 0.01, failure_delay = 0,
                  on = { connect = function() return 1.2 end } }
               local ok, err = pcall(c.send, c, "NOOP")
               assert.is_false(ok)
               assert.truthy(err:find("waited 1.02 s for the greeting", 1, true), err)
               pcall(c.close, c)
            end)
         end)
      end)
   end

   -- command, whether its reply has more lines
   for command, multi in pairs {
      CAPA = true, LIST = true, ["LIST 1"] = false, UIDL = true, ["uidl 1"] = false, ["RETR 1"] = true,
      ["top 1 0"] = true, ["TOP 9 0"] = false, LANG = true, ["LANG *"] = false, STAT = false, NOOP = false,
   } do
      it(("knows whether %s has a reply of many lines"):format(command), function()
         local c <close> = login { auth = auth, storage = memory.new { joe = { message } } }
         assert.equal(multi, select(2, c:send(command)) ~= nil)
         assert.equal("+OK", c:send("NOOP"):sub(1, 3))
      end)
   end

   it("is told which of the site's own commands have many lines", function()
      local commands = { XLIST = function() return "two", "a\nb\n" end }
      local c <close> = login { auth = auth, storage = memory.new {}, commands = commands }
      assert.same({ n = 3, "+OK two", { "a", "b" }, "a\r\nb\r\n" }, table.pack(c:send("XLIST", true)))
   end)

   it("returns challenges as lines, and takes the answers", function()
      local c <close> = popd.mock { auth = auth, storage = memory.new {} }
      assert.truthy(select(2, c:send("AUTH"))[1])
      assert.equal("+ ", c:send("AUTH PLAIN"))
      assert.equal("+OK", c:send("AGpvZQBzZWNyZXQ="):sub(1, 3))
   end)

   it("takes what looks like a command as an answer where one was asked for", function()
      local c <close> = popd.mock { auth = auth, failure_delay = 0 }
      c:send("AUTH PLAIN")
      assert.same({ n = 1, "-ERR" }, table.pack((c:send("LIST"):sub(1, 4))))
   end)

   it("fetches a message that is larger than what the system buffers", function()
      local big = ("x"):rep(998) .. "\r\n"
      local c <close> = login { auth = auth, storage = memory.new { joe = { big:rep(2000) } } }
      assert.equal(big:rep(2000), select(3, c:send("RETR 1")))
   end)

   it("tells the greeting, and greets once", function()
      local c <close> = popd.mock {}
      assert.truthy(c.greeting:find("^%+OK"))
      assert.equal(c.greeting, c.greeting)
      assert.equal("+OK bye", c:send("QUIT"))
   end)

   it("tells a greeting that refuses", function()
      local c <close> = popd.mock { on = { connect = function() return false, "go away", "SYS/PERM" end } }
      assert.equal("-ERR [SYS/PERM] go away", c.greeting)
      assert.same({ n = 2, nil, "closed" }, table.pack(c:send("NOOP")))
   end)

   it("returns nil and closed where a message ends midway", function()
      local function fails()
         local n = 0
         return function()
            n = n + 1
            if n > 3 then
               return nil, "the disk is gone"
            end
            return "line\r\n"
         end
      end
      local s = { stat = function() return 1 end, size = function() return 30 end, get = fails }
      local c <close> = login { auth = auth, storage = s }
      assert.same({ n = 2, nil, "closed" }, table.pack(c:send("RETR 1")))
   end)

   it("begins with the first use, so that the hook connect sees what conn was set to", function()
      local seen
      local c <close> = popd.mock { on = { connect = function(conn)
         seen = { conn, conn.remotehost, conn.tls }
      end } }
      client.drain()
      assert.is_nil(seen)
      local tls = { version = "TLSv1.3", sni = "pop.example.org" }
      c.conn.remotehost, c.conn.tls = "2001:db8::1", tls
      assert.truthy(c.greeting)
      assert.same({ c.conn, "2001:db8::1", tls }, seen)
   end)

   it("is a client of this machine at first", function()
      local c <close> = popd.mock {}
      assert.same({ "127.0.0.1", false, "auth" }, { c.conn.remotehost, c.conn.tls, c.conn.state })
   end)

   for what, case in pairs {
      ["from this machine"] = { "127.0.0.1", false, "local", true },
      ["by a Unix socket"] = { "unix", false, "local", true },
      ["from elsewhere"] = { "192.0.2.1", false, "local", false },
      ["from elsewhere where that is fine"] = { "192.0.2.1", false, "always", true },
      ["from elsewhere with TLS"] = { "192.0.2.1", { version = "TLSv1.3" }, "local", true },
      ["from this machine where only TLS will do"] = { "::1", false, "tls", false },
      ["with TLS where only that will do"] = { "::1", {}, "tls", true },
   } do
      it(("%s a password %s"):format(case[4] and "takes" or "refuses", what), function()
         local c <close> = popd.mock { auth = auth, storage = memory.new {}, plain_login = case[3] }
         c:send("NOOP") -- also later than at the connection's begin
         c.conn.remotehost, c.conn.tls = case[1], case[2]
         local capa = table.concat(select(2, c:send("CAPA")), "\n")
         assert.equal(case[4], capa:find("\nUSER\n") ~= nil)
         assert.equal(case[4], capa:find(" PLAIN", 1, true) ~= nil)
         assert.equal(case[4] and "+OK" or "-ERR", c:send("USER joe"):sub(1, 4):gsub(" ", ""))
      end)
   end

   it("has no STLS, as nobody shakes hands", function()
      local c <close> = popd.mock {}
      assert.equal("-ERR", c:send("STLS"):sub(1, 4))
      assert.is_nil(table.concat(select(2, c:send("CAPA")), "\n"):find("STLS"))
   end)

   it("lets a client certificate log in", function()
      local c <close> = popd.mock {
         auth = { certificate = function(_, seen) return seen.name, seen.name end }, storage = memory.new {} }
      c.conn.tls = { client = { name = "joe" } }
      assert.truthy(c:send("AUTH EXTERNAL ="):find("^%+OK"))
      assert.equal("joe", c.conn.name)
   end)

   for what, case in pairs {
      ["a remotehost that is no address"] = { "remotehost", "example.org", "numeric address" },
      ["a remotehost that is no text"] = { "remotehost", {}, "numeric address" },
      ["TLS that is no table"] = { "tls", true, "a table" },
      ["anything else"] = { "state", "trans", "cannot be set" },
   } do
      it("raises for " .. what, function()
         local c <close> = popd.mock {}
         local ok, err = pcall(function() c.conn[case[1]] = case[2] end)
         assert.is_false(ok)
         assert.truthy(err:find("mock_spec.lua:%d+: ") and err:find(case[3], 1, true), err)
      end)
   end

   it("lets no callback set what it could not set of a real connection", function()
      local raised
      local c <close> = popd.mock { on = { connect = function(conn)
         raised = select(2, pcall(function() conn.remotehost = "192.0.2.1" end))
      end } }
      assert.truthy(c.greeting)
      assert.truthy(raised:find("conn.remotehost cannot be set", 1, true))
      assert.equal("127.0.0.1", c.conn.remotehost)
   end)

   it("is the connection that callbacks get", function()
      local seen
      local c <close> = login { auth = auth, storage = { stat = function(_, conn)
         conn.data.x, seen = 1, conn
         return 0
      end, get = function() end } }
      assert.equal(c.conn, seen)
      assert.same({ "trans", "joe", "joe", 1 }, { c.conn.state, c.conn.name, c.conn.storage, c.conn.data.x })
   end)

   it("leaves as a client does that is lost", function()
      local reason
      local s = store.new({ message })
      local c = login { auth = auth, storage = s.storage, on = { disconnect = function(_, why) reason = why end } }
      c:send("DELE 1")
      c:close()
      assert.equal("the client left", reason)
      assert.equal(1, #s.messages)
   end)

   it("sends a command on leaving, whose reply it does not read", function()
      local s = store.new { message }
      local c = login { auth = auth, storage = s.storage }
      c:close("RETR 1")
      assert.equal("get(joe, 1, conn)", s.calls[#s.calls - 1])
      assert.equal("unlock(joe, conn)", s.calls[#s.calls])
   end)

   it("is closed once, and then raises", function()
      local c = popd.mock {}
      c:close()
      c:close()
      local ok, err = pcall(function() c:send("NOOP") end)
      assert.is_false(ok)
      assert.truthy(err:find("mock_spec.lua:%d+: this mock is closed"), err)
   end)

   it("may be closed before it began", function()
      local called = {}
      local c = popd.mock { on = { connect = function() called[#called + 1] = "connect" end } }
      c:close()
      assert.same({}, called)
   end)

   it("raises at the caller's line for an option that does not exist", function()
      local ok, err = pcall(function() popd.mock { prot = 110 } end)
      assert.is_false(ok)
      assert.truthy(err:find("mock_spec.lua:%d+: unknown option 'prot'"), err)
   end)

   for what, command in pairs { ["two lines"] = "NOOP\r\nNOOP", ["no text"] = 1 } do
      it("raises at the caller's line for a command of " .. what, function()
         local c <close> = popd.mock {}
         local ok, err = pcall(function() c:send(command) end)
         assert.is_false(ok)
         assert.truthy(err:find("mock_spec.lua:%d+: mock: one command expected"), err)
      end)
   end

   it("leaves no server and no descriptor behind", function()
      local function descriptors()
         return #assert(popd.fs.scandir("/proc/self/fd"))
      end
      popd.mock({}):close()
      collectgarbage() -- what other specs have left to be collected
      collectgarbage()
      local before = descriptors()
      for _ = 1, 5 do
         login({ auth = auth, storage = memory.new {} }):close()
         login({ auth = auth, storage = memory.new {} }):send("QUIT")
         popd.mock {}
         assert.truthy(popd.mock({}).greeting)
      end
      collectgarbage()
      collectgarbage()
      client.drain()
      assert.equal(before, descriptors())
      assert.equal(0, core.count())
      assert.is_nil(popd.server("mock1"))
   end)

   it("takes no name that a script's own servers would have", function()
      local c <close> = popd.mock {}
      local s = client.adopt(popd.new {})
      assert.equal("pop3d1", tostring(s):match("'(.-)'"))
      assert.truthy(popd.server(c.conn.server))
   end)
end)
