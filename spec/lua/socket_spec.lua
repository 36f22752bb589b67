-- popd.socket beside LuaSocket: what its manual says holds for both.
local client = require("support.client")
local files = require("support.files")
local luasocket = require("socket")
local peer = require("support.peer")
local socket = require("popd.socket")

-- What the peer does before, the calls, and what they give: lists of results.
local cases = {
   { "a line without its end", function(p) p:send("one\r\ntwo\nrest") end,
      function(c) return { c:receive() }, { c:receive("*l") }, { c:receive() } end,
      ends = true, { "one" }, { "two" }, { nil, "closed", "rest" } },
   { "a line without any of its CRs", function(p) p:send("a\rb\r\n\r\n\n") end,
      function(c) return { c:receive() }, { c:receive() }, { c:receive() } end,
      { "ab" }, { "" }, { "" } },
   { "so many octets", function(p) p:send("a\r\n\0bcdef") end,
      function(c) return { c:receive(4) }, { c:receive("2") }, { c:receive(1) } end,
      { "a\r\n\0" }, { "bc" }, { "d" } },
   { "all until the end", function(p) p:send("a\r\nb\r") end,
      function(c) return { c:receive("*a") }, { c:receive("*a") }, { c:receive(1) } end,
      ends = true, { "a\r\nb\r" }, { nil, "closed", "" }, { nil, "closed", "" } },
   { "a prefix, which a number counts", function(p) p:send("defgh\r\nline\r\nall") end,
      function(c)
         return { c:receive(6, "abc") }, { c:receive("*l", "g") }, { c:receive(2, "xyz") }, { c:receive("*l", "<") },
            { c:receive("*a", ">") }
      end,
      ends = true, { "abcdef" }, { "ggh" }, { "xyz" }, { "<line" }, { ">all" } },
   { "parts before a timeout", function(p) p:send("par") end,
      function(c)
         c:settimeout(0.01)
         return { c:receive("*l", "") }, { c:receive(5, "x") }, { c:receive("*a") }
      end,
      { nil, "timeout", "par" }, { nil, "timeout", "x" }, { nil, "timeout", "" } },
   { "parts before the end", function(p) p:send("abc") end,
      function(c) return { c:receive(10) }, { c:receive(1) } end,
      ends = true, { nil, "closed", "abc" }, { nil, "closed", "" } },
   { "what is there, without waiting", function(p) p:send("abc") end,
      function(c)
         c:settimeout(0)
         return { c:receive(2) }, { c:receive(2) }, { c:receive(2) }
      end,
      { "ab" }, { nil, "timeout", "c" }, { nil, "timeout", "" } },
   { "whether there is something, by no octets", function(p) p:send("abc") end,
      function(c)
         c:settimeout(0.01)
         return { c:receive(0) }, { c:receive(3) }, { c:receive(0) }
      end,
      { "" }, { "abc" }, { nil, "timeout", "" } },
   { "a total time as well", function() end,
      function(c)
         return { c:settimeout(0.01, "t") }, { c:receive() }, { c:settimeout(10, "b") }, { c:receive(1) }
      end,
      { 1 }, { nil, "timeout", "" }, { 1 }, { nil, "timeout", "" } },
   { "the limits that were set", function() end,
      function(c)
         c:settimeout(3)
         c:settimeout(5, "t")
         local all = { c:gettimeout() }
         c:settimeout()
         c:settimeout(-1, "t")
         return all, { c:gettimeout() }
      end,
      { 3, 5 }, { -1, -1 } },
   { "what it is told to send", function() end,
      function(c)
         return { c:send("abcdef") }, { c:send("abcdef", 3) }, { c:send("abcdef", 2, 4) }, { c:send("abcdef", -2) },
            { c:send("abcdef", -4, -3) }, { c:send("abcdef", 0, 99) }, { c:send("abcdef", 5, 3) }, { c:send("") }
      end,
      sent = "abcdef" .. "cdef" .. "bcd" .. "ef" .. "cd" .. "abcdef",
      { 6 }, { 6 }, { 4 }, { 6 }, { 4 }, { 6 }, { 4 }, { 0 } },
   { "numbers, as texts", function() end, function(c) return { c:send(12) } end, sent = "12", { 2 } },
   { "one direction closed", function(p) p:send("x\r\n") end,
      function(c) return { c:shutdown("send") }, { c:receive() } end,
      sent = "", { 1 }, { "x" } },
   { "close, also twice", function() end,
      function(c) return { c:close() }, { c:close() }, { c:receive() }, { c:send("x") } end,
      sent = "", { 1 }, { 1 }, { nil, "closed", "" }, { nil, "closed", 0 } },
   { "options", function() end,
      function(c)
         return { c:setoption("tcp-nodelay", true) }, { c:getoption("tcp-nodelay") }, { c:setoption("keepalive",
            true) },
            { c:getoption("keepalive") }, { c:setoption("linger", { on = true, timeout = 3 }) },
            { c:getoption("linger") },
            { c:setoption("linger", { on = false, timeout = 0 }) }
      end,
      { 1 }, { true }, { 1 }, { true }, { 1 }, { { on = true, timeout = 3 } }, { 1 } },
   { "counts", function(p) p:send("12345\r\nrest") end,
      function(c)
         c:receive()
         c:send("abc")
         local before = table.pack(c:getstats())
         local set = c:setstats(100, 200, 50)
         local after = table.pack(c:getstats())
         return { before[1] >= 7, before[2], before[3] < 9 }, { set, after[1], after[2], after[3] >= 50 }
      end,
      { true, 3, true }, { 1, 100, 200, true } },
}

-- What a case's calls give on a socket of that module: all by one party.
local function outcome(case, module, run)
   local listener = peer.listen()
   local p
   local got = run(function()
      local c = assert(module.connect("127.0.0.1", listener.port))
      p = listener:accept()
      case[2](p)
      if case.ends then
         p:shutdown()
      end
      local all = { case[3](c) }
      if case.sent then
         c:close()
      end
      return all
   end)
   if case.sent then
      p:closed()
      got.sent = p.buffer
   end
   listener:close()
   return got
end

local function directly(f, ...)
   return f(...)
end

describe("popd.socket, as LuaSocket,", function()
   after_each(client.finish)

   for _, case in ipairs(cases) do
      it("gives " .. case[1], function()
         local expected = { sent = case.sent, table.unpack(case, 4, #case) }
         assert.same(expected, outcome(case, luasocket, directly), "LuaSocket")
         assert.same(expected, outcome(case, socket, peer.run), "in a task")
         assert.same(expected, outcome(case, socket, directly), "in a main chunk")
      end)
   end

   it("has LuaSocket's functions for try, protect, skip and choose", function()
      for _, module in ipairs { luasocket, socket } do
         local finalized = 0
         local try = module.newtry(function() finalized = finalized + 1 end)
         local f = module.protect(function(...) return "got", try(...) end)
         assert.same({ "got", 1, 2 }, { f(1, 2) })
         assert.same({ nil, "why" }, { f(nil, "why") })
         assert.equal(1, finalized)
         assert.same({ nil, "why" }, { module.protect(function() module.try(false, "why") end)() })
         local raised = {}
         assert.equal(raised, select(2, pcall(module.protect(function() error(raised) end))))
         assert.same({ 3, 4 }, { module.skip(2, 1, 2, 3, 4) })
         local choose = module.choose { default = function(a) return "d", a end, x = function(a, b) return a, b end }
         assert.same({ 1, 2 }, { choose("x", 1, 2) })
         assert.same({ "d", 5 }, { choose(5) })
         assert.is_false(pcall(choose, "none"))
      end
   end)

   it("has LuaSocket's sinks and sources", function()
      for _, module in ipairs { luasocket, socket } do
         local listener = peer.listen()
         local c = assert(module.connect("127.0.0.1", listener.port))
         local p = listener:accept()
         p:send("12345rest")
         p:shutdown()
         local source = module.source("by-length", c, 5)
         assert.same({ "12345" }, { source() })
         assert.is_nil(source())
         local sink = module.sink("keep-open", c)
         assert.equal(2, sink("ab"))
         assert.equal(1, sink(nil))
         sink = module.sink("close-when-done", c)
         assert.equal(2, sink("cd"))
         source = module.source("until-closed", c)
         assert.equal("rest", source())
         assert.is_nil(source())
         assert.equal(1, sink(nil))
         p:closed()
         assert.equal("abcd", p.buffer)
         listener:close()
      end
   end)

   it("tells both ends' addresses", function()
      local listener = peer.listen()
      local c = peer.run(socket.connect, "127.0.0.1", listener.port)
      local p = listener:accept()
      local address, port, family = c:getpeername()
      assert.same({ "127.0.0.1", listener.port, "inet" }, { address, port, family })
      address, port, family = c:getsockname()
      local seen_address, seen_port = p.socket:getpeername()
      assert.same({ seen_address, math.tointeger(tonumber(seen_port)), "inet" }, { address, port, family })
      assert.equal("inet", c:getfamily())
      assert.is_true(c:getfd() > 2)
      c:close()
      assert.same({ nil, "closed" }, { c:getpeername() })
      assert.equal(-1, c:getfd())
   end)

   it("binds this end before it connects", function()
      local listener = peer.listen()
      local c = socket.tcp()
      assert.equal(1, peer.run(c.bind, c, "127.0.0.2", 0))
      assert.equal(1, peer.run(c.connect, c, "127.0.0.1", listener.port))
      assert.equal("127.0.0.2", (listener:accept().socket:getpeername()))
      c = peer.run(socket.connect, "127.0.0.1", listener.port, "127.0.0.3")
      assert.equal("127.0.0.3", (c:getsockname()))
      assert.equal("127.0.0.3", (listener:accept().socket:getpeername()))
      local taken = { peer.run(socket.connect, "127.0.0.1", listener.port, "127.0.0.1", listener.port) }
      assert.same({ nil, "address already in use" }, taken)
   end)

   it("connects by a Unix socket", function()
      local dir = files.new_dir()
      local listener = peer.listen_unix(dir .. "/s")
      local c = socket.unix()
      local task = peer.task(function() return c:connect(dir .. "/s"), c:receive() end)
      listener:accept():send("hello\n")
      assert.same({ 1, "hello", n = 2 }, task:results())
      assert.same({ "", 0, "unix" }, { c:getpeername() })
      local none = socket.unix()
      assert.same({ nil, "No such file or directory" }, { peer.run(none.connect, none, dir .. "/none") })
      assert.same({ nil, "File name too long" }, { peer.run(none.connect, none, ("x"):rep(200)) })
      files.remove(dir)
   end)

   it("waits where a Unix socket's queue is full", function()
      local dir = files.new_dir()
      local listener = peer.listen_unix(dir .. "/s", 0)
      local tasks = {}
      for i = 1, 5 do
         tasks[i] = peer.task(function()
            local c = socket.unix()
            return c:connect(dir .. "/s"), c:receive()
         end)
      end
      local impatient = socket.unix()
      impatient:settimeout(0.02)
      assert.same({ nil, "timeout" }, { peer.run(impatient.connect, impatient, dir .. "/s") })
      for _ = 1, 5 do
         listener:accept():send("hello\n")
      end
      for i = 1, 5 do
         assert.same({ 1, "hello", n = 2 }, tasks[i]:results())
      end
      files.remove(dir)
   end)

   it("connects by IPv6", function()
      local ok, listener = pcall(peer.listen, "::1")
      if not ok then
         pending("there is no IPv6 here")
      end
      for _, f in ipairs { socket.connect, socket.connect6 } do
         local c
         local task = peer.task(function()
            c = assert(f("::1", listener.port))
            return c:receive()
         end)
         listener:accept():send("six\n")
         assert.equal("six", task:values())
         assert.same({ "::1", listener.port, "inet6" }, { c:getpeername() })
      end
      assert.same({ nil, "::1 has no address of the family inet" }, { peer.run(socket.connect4, "::1", listener.port) })
      local four = socket.tcp4()
      assert.is_nil(peer.run(four.connect, four, "::1", listener.port))
      local six = socket.tcp6()
      assert.is_nil(peer.run(six.connect, six, "127.0.0.1", listener.port))
   end)

   it("says why it cannot connect, and can try again", function()
      local port = peer.dead_port()
      assert.same({ nil, "connection refused" }, { peer.run(socket.connect, "127.0.0.1", port) })
      assert.same({ nil, "connection refused" }, { socket.connect("127.0.0.1", port) })
      local why = select(2, peer.run(socket.connect, "no.such.host.invalid", 1))
      assert.truthy(type(why) == "string" and #why > 3)
      assert.same({ nil, "that is no host's name" }, { peer.run(socket.connect, "a\0b", 1) })
      assert.same({ nil, "that is no host's name" }, { peer.run(socket.connect, ("x"):rep(300), 1) })
      local c = socket.tcp()
      assert.is_nil((peer.run(c.connect, c, "127.0.0.1", port)))
      local listener = peer.listen()
      assert.equal(1, peer.run(c.connect, c, "127.0.0.1", listener.port))
      assert.same({ nil, "already connected" }, { c:connect("127.0.0.1", listener.port) })
   end)

   it("tells of a connection that was reset", function()
      local listener = peer.listen()
      local c = peer.run(socket.connect, "127.0.0.1", listener.port)
      local p = listener:accept()
      p.socket:setoption("linger", { on = true, timeout = 0 })
      p:close()
      assert.same({ nil, "closed", "", n = 3 }, peer.task(c.receive, c):results())
   end)

   it("raises a caller's mistake at the caller's line", function()
      local here = "socket_spec.lua:" .. debug.getinfo(1, "l").currentline + 2 .. ":"
      local ok, err = pcall(function()
         socket.tcp():receive("*x")
      end)
      assert.is_false(ok)
      assert.truthy(err:find(here, 1, true), err)
      for what, f in pairs {
         ["send: a string"] = function(c) c:send {} end,
         ["settimeout: seconds"] = function(c) c:settimeout("x") end,
         ["connect: a host's name"] = function(c) c:connect(nil, 1) end,
         ["connect: a port"] = function(c) c:connect("127.0.0.1", 70000) end,
         ["shutdown: "] = function(c) c:shutdown("x") end,
         ["there is no option 'x'"] = function(c) c:setoption("x", 1) end,
         ["nil is no value for 'linger'"] = function(c) c:setoption("linger", { on = true }) end,
         ["getaddrinfo: "] = function() socket.dns.getaddrinfo(1) end,
      } do
         ok, err = pcall(f, socket.tcp())
         assert.is_false(ok, what)
         assert.truthy(err:find("socket_spec.lua:", 1, true), err)
         assert.truthy(what:find("nil is", 1, true) and err:find("linger") or err:find(what, 1, true), err)
      end
   end)

   it("keeps options that were set before it is connected", function()
      local listener = peer.listen()
      local c = socket.tcp()
      assert.equal(1, c:setoption("keepalive", true))
      assert.equal(1, c:setoption("tcp-nodelay", false))
      assert.same({ nil, "the socket is not connected" }, { c:getoption("reuseaddr") })
      peer.run(c.connect, c, "127.0.0.1", listener.port)
      assert.same({ true, false }, { c:getoption("keepalive"), c:getoption("tcp-nodelay") })
      assert.is_nil(c:getoption("error"))
   end)

   it("finds names' addresses", function()
      assert.same({ { family = "inet", addr = "127.0.0.1" } }, peer.run(socket.dns.getaddrinfo, "127.0.0.1"))
      assert.equal("127.0.0.1", peer.run(socket.dns.toip, "localhost"))
      assert.same({ "127.0.0.1" }, select(2, socket.dns.toip("127.0.0.1")).ip)
      assert.equal(luasocket.dns.gethostname(), socket.dns.gethostname())
      assert.is_true(math.abs(luasocket.gettime() - socket.gettime()) < 5)
   end)
end)

describe("a socket's wait", function()
   after_each(client.finish)

   it("is its callback's only: others go on", function()
      local listener, order = peer.listen(), {}
      local one = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         local line = c:receive()
         order[#order + 1] = line
      end)
      local p = listener:accept()
      peer.task(function() order[#order + 1] = "other" end):wait()
      p:send("late\n")
      one:wait()
      assert.same({ "other", "late" }, order)
   end)

   it("for a name goes on off the loop", function()
      local order = {}
      local one = peer.task(function()
         local address = socket.dns.toip("localhost")
         order[#order + 1] = address
      end)
      local two = peer.task(function() order[#order + 1] = "other" end)
      one:wait()
      two:wait()
      assert.same({ "other", "127.0.0.1" }, order)
   end)

   it("for a name ends by its time, by a cancel, and at the loop's end", function()
      local c = socket.tcp()
      c:settimeout(0)
      assert.same({ nil, "timeout" }, { peer.run(c.connect, c, "localhost", 1) })
      local task = peer.task(socket.dns.toip, "localhost")
      peer.task(function() task.job:cancel() end)
      assert.truthy(task:raised():find("cancelled", 1, true))
      assert.equal("127.0.0.1", peer.run(socket.dns.toip, "localhost"))
   end)

   it("takes numbers beyond all measure for no limit", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         c:settimeout(math.huge)
         c:settimeout(1e300, "t")
         return c:receive()
      end)
      listener:accept():send("x\n")
      assert.equal("x", task:values())
   end)

   it("that is broken off closes the socket", function()
      local listener = peer.listen()
      local c
      local task = peer.task(function()
         c = assert(socket.connect("127.0.0.1", listener.port))
         c:receive()
      end)
      local p = listener:accept()
      peer.settle()
      task.job:cancel()
      assert.truthy(task:raised():find("cancelled", 1, true))
      assert.is_true(p:closed())
      assert.same({ nil, "closed", "" }, { peer.run(c.receive, c) })
   end)

   it("sends much to a reader that dawdles", function()
      local listener = peer.listen()
      local text = ("0123456789abcdef"):rep(200000) -- 3.2 MB: more than the system buffers
      local task = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         c:setoption("send-buffer-size", 16384)
         local sent = c:send(text)
         c:close()
         return sent
      end)
      local p = listener:accept()
      peer.settle()
      assert.is_nil(task.packed)
      assert.equal(text, p:bulk(#text))
      assert.equal(#text, task:values())
   end)

   it("for a send tells how far it came, and can be gone on with", function()
      local listener = peer.listen()
      local text = ("0123456789abcdef"):rep(200000)
      local c = peer.run(socket.connect, "127.0.0.1", listener.port)
      c:setoption("send-buffer-size", 16384)
      local p = listener:accept()
      local last
      peer.run(function()
         c:settimeout(0.01)
         local ok, why
         ok, why, last = c:send(text)
         assert(ok == nil and why == "timeout")
         c:settimeout()
      end)
      assert.is_true(last > 0 and last < #text)
      local task = peer.task(function() return c:send(text, last + 1) end)
      -- a task of its own is another session: it finds the socket closed
      assert.same({ nil, "closed", last, n = 3 }, task:results())
      assert.equal(text:sub(1, last), p:bulk(last))
   end)

   it("lets one callback send while data come in, and receive them after", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         c:send("go\n")
         local sum = 0
         while true do
            local piece, why, part = c:receive(4096)
            sum = sum + #(piece or part)
            if why then
               return sum, why
            end
         end
      end)
      local p = listener:accept()
      assert.equal("go\n", p:octets(3))
      p:send(("x"):rep(300000))
      p:close()
      assert.same({ 300000, "closed", n = 2 }, task:results())
   end)

   it("cannot be where Lua cannot be paused, and says so", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         table.sort({ 2, 1 }, function() return c:receive() end)
      end)
      listener:accept()
      assert.truthy(task:raised():find("cannot wait here", 1, true))
   end)

   it("may be in the script's own coroutines", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         local lines = {}
         for line in coroutine.wrap(function()
            while true do
               local line = c:receive()
               if not line then
                  return
               end
               coroutine.yield(line)
            end
         end) do
            lines[#lines + 1] = line
         end
         return lines
      end)
      local p = listener:accept()
      p:send("one\n")
      peer.settle()
      p:send("two\nthree\n")
      p:close()
      assert.same({ "one", "two", "three" }, task:values())
   end)

   it("leaves no descriptor behind where nobody closes", function()
      local listener = peer.listen()
      peer.run(function() assert(socket.connect("127.0.0.1", listener.port)) end)
      local p = listener:accept()
      collectgarbage()
      collectgarbage()
      assert.is_true(p:closed())
      peer.run(function()
         local c <close> = assert(socket.connect("127.0.0.1", listener.port))
         assert(c:send("x"))
      end)
      p = listener:accept()
      assert.is_true(p:closed())
   end)

   it("works in a step-driven main chunk while callbacks use sockets of their own", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(socket.connect("127.0.0.1", listener.port))
         return c:receive()
      end)
      local p = listener:accept()
      local main = assert(socket.connect("127.0.0.1", listener.port))
      local q = listener:accept()
      q:send("for main\n")
      assert.equal("for main", main:receive())
      assert.is_nil(task.packed)
      p:send("for the task\n")
      assert.equal("for the task", task:values())
   end)
end)

-- In place of the system's: names below .hangs take twenty seconds; others wait
-- until one such was asked for.
local slow_names = [[
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static sem_t asked;

__attribute__((constructor)) static void prepare(void)
{
    sem_init(&asked, 0, 0);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");

    if (node && strstr(node, ".hangs")) {
        fputs("asked\n", stderr);
        sem_post(&asked);
        sleep(20);
        fputs("answered\n", stderr);
    } else {
        sem_wait(&asked);
        sem_post(&asked);
    }
    return next(node, service, hints, found);
}
]]

describe("a name whose server does not answer", function()
   local dir, library

   lazy_setup(function()
      dir = files.new_dir()
      library = dir .. "/slow.so"
      files.run("cc -shared -fPIC -o %s %s -ldl", library, files.put(dir .. "/slow.c", slow_names))
   end)

   lazy_teardown(function()
      files.remove(dir)
   end)

   -- What a process says that runs this text in a task, and how it ended.
   local function process(text)
      local script = files.put(dir .. "/script.lua", ([[
         local popd = require("popd")
         local socket = popd.socket
         popd.spawn(function()
            %s
         end)
         popd.run()
         print("ended")
      ]]):format(text))
      local pipe = assert(io.popen(("LD_PRELOAD=%s timeout 60 %s 2>&1; echo $?"):format(library, files.lua(script))))
      local said = pipe:read("a")
      pipe:close()
      return said
   end

   -- A sanitizer's runtime has to be the first library.
   local function is_instrumented()
      return os.getenv("POPD_INTERPRETER") ~= nil
   end

   it("holds up neither its callback beyond its time, nor other names, nor the process's end", function()
      if is_instrumented() then
         pending("a sanitizer's runtime has to be the first library")
      end
      assert.equal("asked\nnil\ttimeout\n127.0.0.1\nended\n0\n", process([[
         local c = socket.tcp()
         c:settimeout(0.1)
         print(c:connect("x.hangs", 1))
         io.stdout:flush()
         print((socket.dns.toip("127.0.0.1")))
      ]]))
   end)

   it("does not stop the names behind it while there is a thread", function()
      if is_instrumented() then
         pending("a sanitizer's runtime has to be the first library")
      end
      assert.equal("asked\n127.0.0.1\n0\n", process([[
         popd.spawn(socket.dns.toip, "x.hangs")
         popd.sleep(0) -- it asks first
         print((socket.dns.toip("localhost")))
         io.stdout:flush()
         popd.stop()
         package.loaded.popd = nil
         os.exit(true, true)
      ]]))
   end)
end)
