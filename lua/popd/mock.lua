--- A server and its one client without a network, for specs of your callbacks.
--
-- What runs is the real thing: the session of a connection that came in, your
-- auth, storage, hooks and commands with all their guards.  Only the client is
-- played: by `send`, which waits for the reply.  It works in plain Lua (busted),
-- where it turns the loop meanwhile, and inside callbacks and `popd.spawn`.
--
-- STLS is not there, as nobody shakes hands: set `conn.tls` instead.
-- @module popd.mock
-- @usage
-- local c <close> = popd.mock { auth = auth, storage = storage }
-- c.conn.remotehost = "192.0.2.1"
-- assert(c:send("USER joe") == "+OK")
-- c:send("PASS secret")
-- local line, sizes = c:send("LIST")
local core = require("popd.core")
local options = require("popd.options")
local server = require("popd.server")

local mock = {}

-- What belongs to each mock.
local private = setmetatable({}, { __mode = "k" })

local Mock = { __name = "popd.mock" }

-- Waiting -------------------------------------------------------------------

-- How long nothing may come until that is an error: more than what the guards
-- of one callback, or the delay of a refused login, allow.
local function patience(o)
   local delay = o.failure_delay == nil and 2 or o.failure_delay or 0
   return 2 * (o.callback_timeout or 30) + 1 + (delay > 0 and 30 or 0)
end

-- Lets the server go on until the descriptor is readable, or for a moment.
-- Inside a callback the loop turns by itself; elsewhere it is turned, with a
-- task that waits, so that the loop knows the descriptor.
local function let_go_on(fd, seconds)
   if core.inside() then
      core.wait(fd, "r", seconds)
      return
   end
   local done = false
   core.spawn(function()
      core.wait(fd, "r", seconds)
      done = true
   end)
   local popd = require("popd") -- whose step the program guards where it is root
   repeat
      popd.step()
   until done
end

-- Calls f until it returns something true.  With each octet that comes the
-- patience begins anew.
local function wait_until(p, fd, what, f)
   local mark, limit = p.received, core.now() + p.patience
   while true do
      local value = f()
      if value then
         return value
      end
      if p.received ~= mark then
         mark, limit = p.received, core.now() + p.patience
      end
      local left = limit - core.now()
      if left <= 0 then
         error(("waited %g s for %s; received so far: %q"):format(p.patience, what, p.buffer:sub(1, 200)), 3)
      end
      let_go_on(fd, left)
   end
end

-- Bytes ---------------------------------------------------------------------

local function fill(p)
   while not p.ended do
      local octets = p.client:read()
      if not octets then
         p.ended = true
      elseif octets == "" then
         return
      else
         p.buffer, p.received = p.buffer .. octets, p.received + #octets
      end
   end
end

-- Waits until find(buffer) tells how many octets are what is waited for, and
-- takes them; nil where the connection ends before.
local function take(p, what, find)
   local n = wait_until(p, p.client:getfd(), what, function()
      fill(p)
      return find(p.buffer) or p.ended and -1
   end)
   if n < 0 then
      return nil
   end
   local octets = p.buffer:sub(1, n)
   p.buffer = p.buffer:sub(n + 1)
   return octets
end

local function line_end(buffer)
   local _, stop = buffer:find("\r\n", 1, true)
   return stop
end

-- Finds the lone dot; looks at each octet once, however many pieces come.
local function lone_dot()
   local from = 1
   return function(buffer)
      if buffer:sub(1, 3) == ".\r\n" then
         return 3
      end
      local _, stop = buffer:find("\r\n.\r\n", from, true)
      from = math.max(1, #buffer - 4)
      return stop
   end
end

local function take_line(p, what)
   local line = take(p, what, line_end)
   return line and line:sub(1, -3)
end

-- What stands before the lone dot, without the dots that were added.
local function take_body(p, what)
   local octets = take(p, what, lone_dot())
   return octets and (("\r\n" .. octets:sub(1, -4)):gsub("\r\n%.", "\r\n"):sub(3))
end

local function lines_of(body)
   local lines = {}
   for line in body:gmatch("(.-)\r\n") do
      lines[#lines + 1] = line
   end
   return lines
end

local function write(p, octets)
   while octets ~= "" do
      local n = p.client:write(octets)
      if not n then
         return
      end
      octets = octets:sub(n + 1)
      if octets ~= "" then
         fill(p)
         let_go_on(p.client:getfd(), 0.01)
      end
   end
end

-- Replies -------------------------------------------------------------------

-- Whose reply has many lines: always, or where there is no argument.
local MULTI = { CAPA = "always", RETR = "always", TOP = "always", LIST = "alone", UIDL = "alone", LANG = "alone",
   AUTH = "alone" }

local function is_multi(p, command)
   local keyword, args = command:match("^(%S*)%s*(.*)$")
   local kind = not p.asked and MULTI[keyword:upper()]
   return kind == "always" or kind == "alone" and args == ""
end

local function begin(p)
   if not p.begun then
      p.begun = true
      p.begin()
      p.greeting = take_line(p, "the greeting")
   end
end

local function get(self, level)
   local p = private[self]
   if p.closed then
      error("this mock is closed", level + 1)
   end
   return p
end

local function check_command(command, level)
   if type(command) ~= "string" or command:find("[\r\n]") then
      error("mock: one command expected, without its line end", level + 1)
   end
end

local methods = {}

--- Sends a command and waits for its reply.
-- @string command without its line end; or the answer to a challenge (`+ …`),
-- which AUTH's reply may be
-- @bool[opt] multi whether the reply has many lines: to be said where a command
-- of the site's own has such a reply
-- @treturn string the reply's first line; or nil and `"closed"` where the
-- connection ended before the whole reply was there
-- @treturn table the lines behind it, for a reply that has them, without the
-- dots that POP3 adds
-- @treturn string the same as one text, with all line ends: RETR's is the
-- message as it was sent
function methods:send(command, multi)
   local p = get(self, 2)
   check_command(command, 2)
   begin(p)
   if multi == nil then
      multi = is_multi(p, command)
   end
   write(p, command .. "\r\n")
   local line = take_line(p, "the reply to " .. command)
   if not line then
      return nil, "closed"
   end
   p.asked = line:sub(1, 1) == "+" and line:sub(1, 3) ~= "+OK"
   if not (multi and line:sub(1, 3) == "+OK") then
      return line
   end
   local body = take_body(p, "the lines behind the reply to " .. command)
   if not body then
      return nil, "closed"
   end
   return line, lines_of(body), body
end

--- Leaves, as a client that closes its connection, and waits until the session
-- is wound up: the callback under way has ended, `unlock` was called, and the
-- server is gone.  A second time does nothing.
-- @string[opt] command is sent first; its reply is not read
function methods:close(command)
   local p = private[self]
   if p.closed then
      return
   end
   if command ~= nil then
      check_command(command, 2)
      begin(p)
      write(p, command .. "\r\n")
   end
   local near, far = assert(core.pair())
   local gone = false
   p.closed = true
   p.client:close()
   server.leave(p.server, p.begun and "defer" or "kill", function()
      gone = true
      far:close() -- which wakes who waits inside a callback
   end)
   wait_until(p, near:getfd(), "the session's end", function()
      return gone
   end)
   near:close()
end

function Mock:__index(key)
   if key == "greeting" then
      local p = private[self]
      if not p.closed then
         begin(p)
      end
      return p.greeting
   end
   return methods[key]
end

function Mock:__close()
   methods.close(self)
end

-- Nobody can wait here; the server ends by itself at the loop's next turns.
function Mock:__gc()
   local p = private[self]
   if p and not p.closed then
      p.closed = true
      p.client:close()
      pcall(p.server.destroy, p.server)
   end
end

-- Making --------------------------------------------------------------------

local function free_name()
   local n = 1
   while server.find("mock" .. n) do
      n = n + 1
   end
   return "mock" .. n
end

--- Makes a server that listens nowhere, and a client of it.
--
-- The connection begins with the first `send`, or where `greeting` is read:
-- until then `conn` can be set for the hook `connect` to see.
-- @tparam[opt] table values options, as for `popd.new`
-- @return a mock: `send`, `close`; `greeting`, the server's first line; and
-- `conn`, the connection as callbacks get it, whose `remotehost` (at first
-- 127.0.0.1) and `tls` (a table as real ones have, or false) can be set here
-- between two commands.  It is closed by `close`, at the end of a variable with
-- `<close>`, or when it is collected
function mock.new(values)
   if values ~= nil and type(values) ~= "table" then
      error("popd.mock: options are a table", 2)
   end
   for key, value in pairs(values or {}) do
      options.check(key, value, 2)
   end
   local near, far = core.pair()
   if not near then
      error("popd.mock: " .. far, 2)
   end
   local site = server.new(free_name(), values)
   local conn, start = server.mock(site, far)
   local self = setmetatable({ conn = conn }, Mock)
   private[self] = {
      server = site, client = near, begin = start, patience = patience(values or {}),
      buffer = "", received = 0, ended = false,
   }
   return self
end

return mock
