--- A POP3 client for specs, and the servers it talks to, in one process: while
-- the client waits for something it drives the loop by `popd.step`.
--
--     local client = require("support.client")
--     after_each(client.finish)
--     local server = client.server { auth = …, storage = … }
--     local c = client.login(server, "joe", "secret")
--     assert.equal("+OK 2 30", c:command("STAT"))
local assert = require("luassert")
local core = require("popd.core")
local faults = require("popd.faults")
local popd = require("popd")
local socket = require("socket")

local client = {}

local DEADLINE = 10 -- seconds; a safety net, nothing is measured by it
local MULTI = { CAPA = true, LIST = "alone", UIDL = "alone", RETR = true, TOP = true }

-- What a socket says that is to be asked again; the last two are LuaSec's.
local AGAIN = { timeout = true, wantread = true, wantwrite = true }

local servers, clients, checks = {}, {}, {}

--- The log since the spec began: "level line", one each.
client.log = {}

--- Calls f until it returns something true, and the loop in between.
function client.wait_for(what, f)
   local limit = socket.gettime() + DEADLINE
   while true do
      local value = f()
      if value then
         return value
      end
      if socket.gettime() > limit then
         error(("waited %d s for %s"):format(DEADLINE, type(what) == "function" and what() or what), 2)
      end
      popd.step(0.01)
   end
end

--- Two functions: a callback waits in the first until the spec has called the second.
-- One may wait at a time.
function client.gate()
   local latch = core.latch()
   return function() latch:wait() end, function() latch:fire() end
end

--- A callback waits, for no longer than the others need for their turn.
function client.turn()
   return popd.sleep(0)
end

--- A callback waits for what never comes: until something breaks that off.
function client.never()
   return core.latch():wait()
end

-- Servers -------------------------------------------------------------------

local function take_log()
   faults.flush() -- what another spec has met does not count here
   client.log = {}
   popd.log_to(function(level, line)
      table.insert(client.log, level .. " " .. line)
   end, "debug")
end

--- A server that is up on a port of the system's choice.
function client.server(options, name)
   local all = { port = 0, address = "127.0.0.1", failure_delay = 0 }
   for key, value in pairs(options or {}) do
      all[key] = value
   end
   if #servers == 0 then
      take_log()
   end
   local server = popd.new(name, all)
   servers[#servers + 1] = server
   return server:up()
end

--- Takes over a server that a spec made itself, so that `finish` ends it.
function client.adopt(server)
   if #servers == 0 then
      take_log()
   end
   servers[#servers + 1] = server
   return server
end

--- The lines of the log that match.
function client.logged(pattern)
   local found = {}
   for _, line in ipairs(client.log) do
      if line:find(pattern) then
         found[#found + 1] = line
      end
   end
   return found
end

--- Has f called at each `finish`, which fails if f raises.
function client.check_at_end(f)
   checks[#checks + 1] = f
end

--- Steps until the loop has nothing left.
function client.drain()
   client.wait_for("the loop to come to its end", function()
      return not popd.step(0)
   end)
end

--- For after_each: ends all servers and clients; nothing may be left of them.
function client.finish()
   for _, server in ipairs(servers) do
      pcall(server.destroy, server)
   end
   for _, c in ipairs(clients) do
      c.socket:close()
   end
   servers, clients = {}, {}
   local todo = checks
   checks = {}
   client.drain()
   faults.flush()
   popd.log_to(nil, "none")
   assert.equal(0, core.count(), "callbacks are left behind")
   for _, check in ipairs(todo) do
      check()
   end
end

-- Clients -------------------------------------------------------------------

local Client = {}
Client.__index = Client

local function new(sock)
   sock:settimeout(0)
   local self = setmetatable({ socket = sock, buffer = "", eof = false }, Client)
   clients[#clients + 1] = self
   return self
end

--- Any connected socket of LuaSocket's, as a client: what a spec's own server has accepted, say.
client.wrap = new

--- A connection to a port of 127.0.0.1, or to a server's; the greeting is not
-- read.  With `room`, octets, what the system buffers for it is kept small.
function client.open(port, room)
   if type(port) == "table" then
      port = port:cget("port")
   end
   local sock = assert(socket.tcp4())
   if room then
      assert(sock:setoption("recv-buffer-size", room))
   end
   assert(sock:connect("127.0.0.1", port))
   assert(sock:setoption("tcp-nodelay", true))
   return new(sock)
end

--- A connection to a Unix socket.
function client.open_unix(path)
   local sock = assert(require("socket.unix")())
   assert(sock:connect(path))
   return new(sock)
end

--- A connection whose greeting was read: the client, and that line.
function client.connect(port)
   local c = client.open(port)
   return c, c:line()
end

--- A connection that is logged in.
function client.login(port, user, password)
   local c = client.connect(port)
   c:login(user or "joe", password or "secret")
   return c
end

-- Reads what is there.
function Client:fill()
   while not self.eof do
      local data, why, partial = self.socket:receive(65536)
      data = data or partial
      self.buffer = self.buffer .. data
      if why and not AGAIN[why] then
         self.eof, self.why = true, why
      elseif why or #data == 0 then
         return
      end
   end
end

function Client:shown()
   return ("%s; received so far: %q%s"):format(
      tostring(self.socket),
      #self.buffer > 2000 and self.buffer:sub(1, 1000) .. "…" .. self.buffer:sub(-1000) or self.buffer,
      self.eof and ", then the end" or ""
   )
end

--- Waits until find(buffer) returns something, which is returned.
function Client:want(what, find)
   return client.wait_for(function()
      return what .. " from " .. self:shown()
   end, function()
      self:fill()
      local found = find(self.buffer)
      if not found and self.eof then
         error(("the connection ended before %s came; %s"):format(what, self:shown()), 3)
      end
      return found
   end)
end

function Client:take(n)
   local text = self.buffer:sub(1, n)
   self.buffer = self.buffer:sub(n + 1)
   return text
end

--- Sends octets as they are.
function Client:send(raw)
   local sent = 0
   client.wait_for("the server to take what is sent", function()
      local last, why, partial = self.socket:send(raw, sent + 1)
      sent = last or partial
      return last or (not AGAIN[why] and error("send: " .. why, 4))
   end)
   return self
end

--- A line of the server's, without its CRLF.
function Client:line()
   local at = self:want("a line", function(buffer)
      return buffer:find("\r\n", 1, true)
   end)
   return (self:take(at + 1):sub(1, -3))
end

--- So many octets.
function Client:octets(n)
   self:want(n .. " octets", function(buffer)
      return #buffer >= n
   end)
   return self:take(n)
end

--- So many octets, of many: they are put together once.
function Client:bulk(n)
   local parts, have = {}, 0
   client.wait_for(n .. " octets", function()
      self:fill()
      parts[#parts + 1] = self:take(n - have)
      have = have + #parts[#parts]
      return have == n or self.eof
   end)
   return table.concat(parts)
end

--- What stands before the lone dot, dots unstuffed, as one text.  Much is put together once.
function Client:body()
   local parts = {}
   self.buffer = "\r\n" .. self.buffer -- the dot may be all
   local at = self:want("a lone dot", function(buffer)
      local at = buffer:find("\r\n.\r\n", 1, true)
      if not at and #buffer > 65536 then
         parts[#parts + 1] = self:take(#buffer - 1000)
      end
      return at
   end)
   parts[#parts + 1] = self:take(at + 1)
   self:take(3)
   return (table.concat(parts):gsub("\r\n%.", "\r\n"):sub(3))
end

--- The same as an array of lines.
function Client:multi()
   local lines = {}
   for line in self:body():gmatch("(.-)\r\n") do
      lines[#lines + 1] = line
   end
   return lines
end

--- Sends a command and returns the reply: its line, and the array of a
-- multi-line one.  `multi` says that one of the site's own has such a reply.
function Client:command(text, multi)
   self:send(text .. "\r\n")
   local keyword, args = text:match("^(%S*)%s*(.*)")
   local reply = self:line()
   local kind = multi or MULTI[keyword:upper()]
   if reply:sub(1, 3) == "+OK" and kind and not (kind == "alone" and args ~= "") then
      return reply, self:multi()
   end
   return reply
end

--- Sends a command whose callback a guard stops: its reply is [SYS/TEMP], and the
-- connection ends behind that.
function Client:stopped(text)
   local reply = self:command(text)
   assert.truthy(reply:find("^%-ERR %[SYS/TEMP%] "), text .. ": " .. reply)
   local _, rest = self:closed()
   assert.equal("", rest)
end

--- A message as it was before dot-stuffing, and the line before it.
function Client:fetch(command)
   self:send(command .. "\r\n")
   local reply = self:line()
   assert.truthy(reply:find("^%+OK"), command .. ": " .. reply)
   return self:body(), reply
end

function Client:login(user, password)
   local reply = self:command("USER " .. user)
   assert.truthy(reply:find("^%+OK"), reply)
   reply = self:command("PASS " .. password)
   assert.truthy(reply:find("^%+OK"), reply)
   return reply
end

--- Waits until the server has closed: true, and what came before that.
function Client:closed()
   client.wait_for(function()
      return "the end of " .. self:shown()
   end, function()
      self:fill()
      return self.eof
   end)
   return true, self.buffer
end

--- Whether nothing more came by now; the loop runs dry first.
function Client:silent()
   for _ = 1, 20 do
      popd.step(0)
   end
   self:fill()
   return self.buffer == "" and not self.eof
end

--- Sends no more, but reads on.
function Client:shutdown()
   assert(self.socket:shutdown("send"))
   return self
end

--- Leaves.
function Client:close()
   self.socket:close()
end

return client
