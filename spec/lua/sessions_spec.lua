-- No answer reaches a session that it was not for, whatever scripts do with a
-- socket that they share by mistake.
local client = require("support.client")
local peer = require("support.peer")
local popd = require("popd")
local socket = require("popd.socket")
local store = require("support.store")
local use = require("popd.use")

local IN_USE = "socket in use"

-- A connection that two sessions share: its socket, and the other side.
local function shared()
   local listener = peer.listen()
   local c = assert(socket.connect("127.0.0.1", listener.port))
   return c, listener:accept()
end

-- A callback, as the server calls one.
local function callback(f, ...)
   return peer.task(use.run, f, ...)
end

local function ask(c, tag)
   assert(c:send(tag .. "\r\n"))
   return c:receive()
end

-- The first session's ways to leave something behind; then the other side answers, or not yet.
local leavings = {
   { "a send without a read", function(c) c:send("A\r\n") end },
   { "two sends and one read", function(c)
      c:send("A\r\n")
      c:settimeout(0)
      c:receive()
      c:settimeout()
      c:send("A\r\n")
      c:receive()
   end, first = "A\r\n" },
   { "a timeout that it swallowed", function(c)
      c:settimeout(0.001)
      ask(c, "A")
      c:settimeout()
   end },
   { "a timeout in the middle of a line", function(c)
      c:settimeout(0.001)
      c:send("A\r\n")
      c:receive(100)
      c:settimeout()
   end, first = "part" },
   { "an error in the middle of an answer", function(c)
      ask(c, "A")
      error("broken")
   end, first = "A 1\r\n" },
   { "an error that hid in pcall, and a send", function(c)
      c:settimeout(0.001)
      pcall(function() assert(ask(c, "A")) end)
      c:settimeout()
      c:send("A\r\n")
   end },
}

describe("a socket that two sessions share by mistake", function()
   after_each(client.finish)

   for _, case in ipairs(leavings) do
      for _, early in ipairs { true, false } do
         it(("never gives the second what the first left: %s, %s"):format(case[1],
            early and "answered before" or "answered late"), function()
            local c, p = shared()
            local one = callback(case[2], c)
            p:line()
            if case.first then
               p:send(case.first)
            end
            one:wait()
            if early then
               p:send("A late\r\n")
               peer.settle()
            end
            local got
            local two = callback(function()
               local sent, why = c:send("B\r\n")
               if not early then
                  p:send("A late\r\n")
               end
               if not sent then
                  return why
               end
               got = c:receive()
            end)
            two:wait()
            assert.is_nil(got)
            local again = callback(function() return c:receive() end):results()
            assert.equal("closed", again[2])
         end)
      end
   end

   it("raises for the second while the first waits for it", function()
      local c, p = shared()
      local one = callback(ask, c, "A")
      assert.equal("A", p:line())
      for what, f in pairs {
         send = function() c:send("B\r\n") end, receive = function() c:receive() end, close = function() c:close() end,
         connect = function() c:connect("127.0.0.1", 1) end, read = function() c:read(1) end,
         settimeout = function() c:settimeout(0) end, shutdown = function() c:shutdown() end,
         setoption = function() c:setoption("keepalive") end,
         dohandshake = function() c:dohandshake() end,
         closing = function() local x <close> = c return x end,
      } do
         local err = callback(f):raised()
         assert.truthy(err:find(IN_USE, 1, true) and err:find("sessions_spec.lua", 1, true), what .. ": " .. err)
      end
      p:send("for A\r\n")
      assert.equal("for A", one:values())
      assert.equal("", p.buffer)
   end)

   it("raises for the second while the first is between two parts of its answer", function()
      local c, p = shared()
      local wait, open = client.gate()
      local one = callback(function()
         local first = ask(c, "A")
         wait()
         return first, c:receive()
      end)
      p:line()
      p:send("A 1\r\n")
      peer.settle()
      local err = callback(ask, c, "B"):raised()
      assert.truthy(err:find(IN_USE, 1, true))
      open()
      p:send("A 2\r\n")
      assert.same({ "A 1", "A 2", n = 2 }, one:results())
      assert.equal("", p.buffer)
   end)

   it("serves one after the other, where each reads its answer", function()
      local c, p = shared()
      for _, tag in ipairs { "A", "B", "C" } do
         local task = callback(ask, c, tag)
         assert.equal(tag, p:line())
         p:send("for " .. tag .. "\r\n")
         assert.equal("for " .. tag, task:values())
      end
   end)

   it("lets many send where nobody reads", function()
      local c, p = shared()
      for _, tag in ipairs { "A", "B", "C" } do
         callback(c.send, c, tag .. "\r\n"):results()
         assert.equal(tag, p:line())
      end
      assert.truthy(callback(c.receive, c):raised():find(IN_USE, 1, true))
      assert.is_true(p:closed())
   end)

   it("gives no answer to who receives without having asked", function()
      local c, p = shared()
      callback(c.send, c, "A\r\n"):results()
      local err = callback(c.receive, c):raised()
      assert.truthy(err:find("another session has sent on it", 1, true), err)
      assert.is_true(p:closed())
   end)

   it("gives no answer to who sent, too, while the first has not read", function()
      local c, p = shared()
      callback(c.send, c, "A\r\n"):results()
      callback(c.send, c, "B\r\n"):results()
      for _ = 1, 2 do
         local result = callback(c.receive, c)
         result:wait()
         assert.is_false(result.packed[1] and result.packed[2] ~= nil)
      end
      assert.is_true(p:closed())
   end)

   it("stays usable for the same session after a timeout", function()
      local c, p = shared()
      local task = callback(function()
         c:settimeout(0.001)
         local line, why = ask(c, "A")
         assert(line == nil and why == "timeout")
         c:settimeout()
         return c:receive()
      end)
      p:line()
      client.wait_for("the timeout", function() return c.owed end)
      p:send("for A\r\n")
      assert.equal("for A", task:values())
      assert.equal("for B", (function()
         local two = callback(ask, c, "B")
         p:line()
         p:send("for B\r\n")
         return two:values()
      end)())
   end)

   -- What a session did in a first use, after which the first of its answer's two lines may be read as if it were all.
   for what, first in pairs {
      ["a wait that timed out"] = function(c)
         c:settimeout(0)
         ask(c, "A")
         c:settimeout()
      end,
      ["a question without a look at its answer"] = function(c) c:send("A\r\n") end,
   } do
      it("is nobody else's after " .. what .. " and another question", function()
         local c, p = shared()
         local task = callback(function()
            use.run(first, c)
            return use.run(function()
               return ask(c, "A"), c:receive()
            end)
         end)
         p:line()
         p:line()
         p:send("1\r\n2\r\n")
         assert.same({ "1", "2", n = 2 }, task:results())
         peer.settle()
         assert.equal("closed", callback(c.send, c, "B\r\n"):results()[2])
         assert.is_true(p:closed())
      end)
   end

   it("is for anybody once the main chunk alone has used it", function()
      local c, p = shared()
      c:settimeout(0)
      c:receive()
      c:settimeout()
      p:send("hello\r\n")
      assert.equal("hello", callback(c.receive, c):values())
   end)
end)

describe("a callback's time", function()
   after_each(client.finish)

   it("closes the socket that it waits on, so that the next session gets nothing of it", function()
      local c, p = shared()
      local lookup = function(name)
         if name == "late" then
            return ask(c, name), name
         end
         local answer, why = ask(c, name)
         return answer, why or name
      end
      local server = client.server {
         auth = { lookup = function(name)
            local ok, answer = pcall(lookup, name)
            return ok and answer or nil, ok and name or tostring(answer)
         end },
         storage = store.new({}).storage, callback_timeout = 0.05,
      }
      local a = client.connect(server)
      a:command("USER late")
      a:send("PASS secret\r\n")
      assert.equal("late", p:line())
      assert.truthy(a:line():find("^%-ERR"))
      assert.is_true(p:closed())
      local b = client.connect(server)
      b:command("USER next")
      assert.truthy(b:command("PASS secret"):find("^%-ERR"))
   end)

   it("spoils the socket whose answer it cuts elsewhere", function()
      local c, p = shared()
      local server = client.server {
         auth = { lookup = function(name)
            local word = ask(c, name)
            if name == "late" then
               client.never()
            end
            return word, name
         end },
         storage = store.new({}).storage, callback_timeout = 0.05,
      }
      local a = client.connect(server)
      a:command("USER late")
      a:send("PASS secret\r\n")
      assert.equal("late", p:line())
      p:send("secret\r\n") -- and a second line, which is late
      assert.truthy(a:line():find("^%-ERR"))
      local b = client.connect(server)
      b:command("USER next")
      assert.truthy(b:command("PASS secret"):find("^%-ERR"))
      assert.is_true(p:closed())
   end)
end)

describe("a session's own socket", function()
   after_each(client.finish)

   it("goes with it from callback to callback, also over one that failed", function()
      local listener = peer.listen()
      local server = client.server {
         auth = store.auth, storage = { stat = function() return 0 end, get = error },
         commands = {
            XOPEN = function(conn)
               conn.data.own = socket.connect("127.0.0.1", listener.port)
               return "open"
            end,
            XASK = function(conn, args)
               local answer = ask(conn.data.own, args)
               return answer ~= "bad" and answer or error("bad")
            end,
         },
      }
      local a, b = client.login(server, "joe"), client.login(server, "ann", "open")
      a:send("XOPEN\r\n")
      local for_a = listener:accept()
      assert.equal("+OK open", a:line())
      b:send("XOPEN\r\n")
      local for_b = listener:accept()
      assert.equal("+OK open", b:line())
      for _, word in ipairs { "one", "bad", "two" } do
         a:send("XASK " .. word .. "\r\n")
         b:send("XASK " .. word .. "\r\n")
         assert.equal(word, for_a:line())
         assert.equal(word, for_b:line())
         for_b:send(word .. "\r\n")
         for_a:send(word .. "\r\n")
         local expected = word == "bad" and "^%-ERR %[SYS/TEMP%]" or "^%+OK " .. word .. "$"
         assert.truthy(a:line():find(expected))
         assert.truthy(b:line():find(expected))
      end
   end)
end)

describe("a message from a socket", function()
   after_each(client.finish)

   -- A server whose messages come by `get`.
   local function serve(get)
      return (store.server({ "a" }, {}, { get = get, size = false, uidl = false, scan = function() return { 12 } end }))
   end

   it("is a handle as it is", function()
      local listener = peer.listen()
      local server = serve(function() return socket.connect("127.0.0.1", listener.port) end)
      local c = client.login(server)
      c:send("RETR 1\r\n")
      local p = listener:accept()
      p:send("hello\n")
      peer.settle()
      p:send("there\n")
      p:shutdown()
      assert.truthy(c:line():find("^%+OK"))
      assert.equal("hello\r\nthere\r\n", c:body())
      assert.is_true(p:closed())
   end)

   it("may come by a function that waits", function()
      local listener = peer.listen()
      local server = serve(function()
         local s = assert(socket.connect("127.0.0.1", listener.port))
         return function()
            local line = s:receive()
            return line and line .. "\n"
         end
      end)
      local c = client.login(server)
      c:send("RETR 1\r\n")
      local p = listener:accept()
      for _, line in ipairs { "hello", "there" } do
         p:send(line .. "\r\n")
         peer.settle()
      end
      p:close()
      c:line()
      assert.equal("hello\r\nthere\r\n", c:body())
   end)

   it("that fails midway closes the client's connection", function()
      local listener = peer.listen()
      local server = serve(function()
         local s = assert(socket.connect("127.0.0.1", listener.port))
         s:settimeout(0.01)
         return s
      end)
      local c = client.login(server)
      c:send("RETR 1\r\n")
      local p = listener:accept()
      p:send("hello\n")
      local _, rest = c:closed()
      assert.is_nil(rest:find("\r\n.\r\n", 1, true))
      assert.is_true(p:closed())
   end)

   it("is nobody else's socket until it is through", function()
      local s, p = shared()
      local server = client.server {
         auth = store.auth,
         storage = {
            stat = function() return 1 end, size = function() return 12 end,
            get = function()
               assert(s:send("GET\r\n"))
               local left = 2
               return function()
                  left = left - 1
                  return left >= 0 and assert(s:receive()) .. "\n" or nil
               end
            end,
         },
         commands = { XASK = function()
            s:send("ASK\r\n")
            return (s:receive())
         end },
      }
      local a, b = client.login(server, "joe"), client.login(server, "ann", "open")
      a:send("RETR 1\r\n")
      assert.equal("GET", p:line())
      p:send("part1\r\n")
      a:line()
      peer.settle()
      assert.truthy(b:command("XASK"):find("^%-ERR"))
      assert.equal(1, #client.logged(IN_USE))
      p:send("part2\r\n")
      assert.equal("part1\r\npart2\r\n", a:body())
      b:send("XASK\r\n")
      assert.equal("ASK", p:line())
      p:send("for b\r\n")
      assert.equal("+OK for b", b:line())
   end)
end)

-- Chance ------------------------------------------------------------------------

-- Of one octet, so that any part of an answer tells whose it is.
local TAGS = ("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

local function tag_of(number)
   local at = number % #TAGS + 1
   return TAGS:sub(at, at):rep(8)
end

local SESSIONS, EXCHANGES = 40, 4000

-- The other side: two lines for each request, which repeat it, in pieces, each at some later look.
local function echo(random)
   local self = { listener = peer.listen(), conns = {} }
   function self.turn()
      local sock = self.listener.socket:accept()
      if sock then
         local c = client.wrap(sock)
         c.out = ""
         self.conns[#self.conns + 1] = c
      end
      for i = #self.conns, 1, -1 do
         local c = self.conns[i]
         c:fill()
         c.buffer = c.buffer:gsub("(.-)\r\n", function(tag)
            c.out = c.out .. tag .. "\r\n" .. tag .. "\r\n"
            return ""
         end)
         if c.out ~= "" and random(3) == 1 then
            local n = random(#c.out)
            c.socket:send(c.out:sub(1, n))
            c.out = c.out:sub(n + 1)
         end
         if c.eof then
            c:close()
            table.remove(self.conns, i)
         end
      end
   end
   return self
end

describe("chance", function()
   after_each(client.finish)

   -- Those besides the first once brought one.
   for _, seed in ipairs { 4711, 11, 32, 48, 81 } do
      it(("brings no session a foreign answer, in %d exchanges (seed %d)"):format(EXCHANGES, seed), function()
         local state = seed
         local function random(n)
            state = (state * 1103515245 + 12345) % 0x80000000
            return (state >> 8) % n + 1
         end
         local echoing = echo(random)
         local slots = {} -- sockets that anybody uses without asking
         local function fresh()
            return assert(socket.connect("127.0.0.1", echoing.listener.port))
         end
         local pool = popd.pool { open = fresh, close = function(c) c:close() end, max = 3 }
         local mutex, locked = popd.mutex(), nil
         local seen = { right = 0, foreign = 0, refused = 0, closed = 0, raised = 0 }

         local function read(c, tag, begun)
            local line, why, part = c:receive("*l", begun)
            if line then
               -- a part of a line is as good as all of it: each octet tells whose it is
               local kind = line:gsub(tag:sub(1, 1), "") == "" and "right" or "foreign"
               seen[kind] = seen[kind] + 1
            elseif why == "closed" then
               seen.closed = seen.closed + 1
            end
            return line, part
         end

         -- What a session does with a socket; most are wrong.
         local ways = {
            function(c, tag) return c:send(tag .. "\r\n") and read(c, tag) and read(c, tag) end,
            function(c, tag) return c:send(tag .. "\r\n") and read(c, tag) and read(c, tag) end,
            function(c, tag) c:send(tag .. "\r\n") end,
            function(c, tag) return read(c, tag) and read(c, tag) end,
            function(c, tag)
               c:settimeout(0)
               local _ = c:send(tag .. "\r\n") and read(c, tag)
               c:settimeout()
            end,
            function(c, tag)
               c:settimeout(0)
               c:send(tag .. "\r\n")
               local _, part = read(c, tag)
               c:settimeout()
               c:send(tag .. "\r\n")
               return read(c, tag, part)
            end,
            function(c, tag)
               local _ = c:send(tag .. "\r\n") and read(c, tag)
               error("broken")
            end,
            function(c, tag)
               local _ = c:send(tag .. "\r\n") and read(c, tag)
               client.turn()
               read(c, tag)
            end,
            function(c) c:close() end,
         }

         local function exchange(tag, f)
            local by = random(4)
            if by == 1 then
               pool:with(f, tag)
            elseif by == 2 then
               mutex:with(function()
                  if not locked or locked:getfd() < 0 then
                     locked = fresh()
                  end
                  f(locked, tag)
               end)
            else
               local i = random(3)
               if not slots[i] or slots[i]:getfd() < 0 then
                  slots[i] = fresh()
               end
               f(slots[i], tag)
            end
         end

         local done, running = 0, {}
         local function session(number)
            while done < EXCHANGES do
               done = done + 1
               client.turn()
               local ok, err = pcall(use.run, exchange, tag_of(number), ways[random(#ways)])
               if not ok and tostring(err):find(IN_USE, 1, true) then
                  seen.refused = seen.refused + 1
               elseif not ok then
                  seen.raised = seen.raised + 1
                  if tostring(err):find("cancelled", 1, true) then
                     error(err, 0)
                  end
               end
            end
         end

         local born = 0
         local function start(i)
            born = born + 1
            local number = born
            local packed = {}
            packed.job = popd.spawn(function()
               pcall(session, number)
               packed.ended = true
            end)
            running[i] = packed
         end
         -- What is told to stop ends there, or never starts; it need not come to tell so.
         local function stop(packed)
            packed.job:cancel()
            packed.ended = true
         end
         for i = 1, SESSIONS do
            start(i)
         end
         local ended
         local limit = socket.gettime() + 60
         repeat
            assert(socket.gettime() < limit, "the sessions do not end")
            echoing.turn()
            popd.step(0)
            if random(8) == 1 then
               stop(running[random(SESSIONS)]) -- as a deadline does
            end
            ended = 0
            for i = 1, SESSIONS do
               if done >= EXCHANGES then
                  stop(running[i])
               elseif running[i].ended then
                  start(i)
               end
               ended = ended + (running[i].ended and 1 or 0)
            end
         until ended == SESSIONS
         client.drain()
         for _, c in pairs(slots) do
            c:close()
         end
         pool:close()
         assert.equal(0, seen.foreign, ("foreign answers, of %d right ones"):format(seen.right))
         assert.is_true(seen.right > EXCHANGES / 20, "right answers: " .. seen.right)
         assert.is_true(seen.refused > 0 and seen.closed > 0 and seen.raised > 0)
      end)
   end
end)
