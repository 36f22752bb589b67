--- Client sockets that never block: LuaSocket's TCP interface.
--
-- A callback that sends or receives waits; everybody else goes on.  In a
-- script's main chunk the same functions block.  Names are resolved in a thread.
--
-- Scripts and libraries that were written for LuaSocket run as they are;
-- `popd.require` gives a library these sockets.  Beyond LuaSocket: `wrap` and
-- `dohandshake` in LuaSec's manner (see `popd.ssl`), and these rules, so that no
-- answer reaches a session that it was not for:
--
--   * one callback at a time uses a socket: until it ends, another session's use
--     raises "socket in use" (as any second one does while the first waits);
--   * a socket whose wait was broken off (by `callback_timeout`, say) is closed;
--   * where a wait timed out, a callback failed, or octets were left unread, only the
--     same session goes on with the socket; any other finds it closed;
--   * who receives on a socket on which another session has sent, and has read
--     nothing since, gets "socket in use" and the socket is closed.
--
-- `popd.pool` shares sockets among sessions: there a loan ends earlier than its
-- callback.
-- @module popd.socket
-- @usage
-- local socket = require "popd.socket"
-- local c = assert(socket.connect("127.0.0.1", 6379))
-- assert(c:send("PING\r\n"))
-- print(c:receive())      --> +PONG
local core = require("popd.core")
local socketdial = require("popd.socketdial")
local new = require("popd.socketobject")

local check_host, port_of, family_of = socketdial.check_host, socketdial.port_of, socketdial.family_of

local socket = { _VERSION = "popd.socket, as LuaSocket 3", BLOCKSIZE = 2048, _SETSIZE = math.maxinteger }

--- A socket that is not connected yet, of whichever family its host is.
-- @treturn socket
function socket.tcp()
   return new("tcp")
end

--- The same for IPv4 alone.
function socket.tcp4()
   return new("tcp", "inet")
end

--- The same for IPv6 alone.
function socket.tcp6()
   return new("tcp", "inet6")
end

--- A Unix stream socket: `connect(path)`.
function socket.unix()
   return new("unix")
end

--- Makes a socket and connects it.
-- @string host
-- @tparam integer port
-- @string[opt] from this end's address
-- @tparam[opt] integer from_port
-- @string[opt] family `"inet"` or `"inet6"`
-- @treturn socket; or nil and the reason
function socket.connect(host, port, from, from_port, family)
   check_host("connect", host, 2)
   port = port_of("connect", port, 2)
   local self = new("tcp", family ~= "unspec" and family or nil)
   local ok, why = true, nil
   if from then
      ok, why = self:bind(from, from_port or 0)
   end
   if ok then
      ok, why = self:connect(host, port)
   end
   if ok then
      return self
   end
   return nil, why
end

function socket.connect4(host, port, from, from_port)
   return socket.connect(host, port, from, from_port, "inet")
end

function socket.connect6(host, port, from, from_port)
   return socket.connect(host, port, from, from_port, "inet6")
end

--- Names.
socket.dns = {}

--- All addresses of a host.
-- @string host
-- @treturn table an array of `{ family =, addr = }`; or nil and the reason
function socket.dns.getaddrinfo(host)
   check_host("getaddrinfo", host, 2)
   local list, why = core.resolve(host)
   if not list then
      return nil, why
   end
   for i, address in ipairs(list) do
      list[i] = { family = family_of(address), addr = address }
   end
   return list
end

--- The first IPv4 address of a host, and all of them.
function socket.dns.toip(host)
   check_host("toip", host, 2)
   local list, why = core.resolve(host)
   if not list then
      return nil, why
   end
   local four = {}
   for _, address in ipairs(list) do
      if family_of(address) == "inet" then
         four[#four + 1] = address
      end
   end
   if not four[1] then
      return nil, "host not found"
   end
   return four[1], { name = host, ip = four, alias = {} }
end

--- This machine's name.
function socket.dns.gethostname()
   return core.hostname()
end

--- Seconds since 1970, with a fraction.
socket.gettime = core.date

--- Waits.
-- @number seconds
function socket.sleep(seconds)
   core.sleep(math.max(seconds, 0))
end

--- All values but the first n.
function socket.skip(n, ...)
   return select(n + 1, ...)
end

-- What `try` raises and `protect` catches, around the reason.
local Raised = {}
Raised.__index = Raised

function Raised:__tostring()
   return tostring(self[1])
end

--- A function that returns its arguments if the first is true, else calls `finalizer` and raises the second so that
-- `protect` returns it.
-- @func[opt] finalizer
function socket.newtry(finalizer)
   return function(...)
      if (...) then
         return ...
      end
      if finalizer then
         pcall(finalizer)
      end
      error(setmetatable({ (select(2, ...)) }, Raised), 0)
   end
end

socket.try = socket.newtry()

local function unprotect(ok, ...)
   if ok then
      return ...
   end
   local err = ...
   if getmetatable(err) == Raised then
      return nil, err[1]
   end
   error(err, 0)
end

--- A function that calls f and returns nil and the reason for what `try` raised in it.
-- @func f
function socket.protect(f)
   return function(...)
      return unprotect(pcall(f, ...))
   end
end

--- LuaSocket's way to choose among a table's functions by a name.
function socket.choose(table)
   return function(name, first, second)
      if type(name) ~= "string" then
         name, first, second = "default", name, first
      end
      local f = table[name]
      if not f then
         error(("unknown key (%s)"):format(name), 2)
      end
      return f(first, second)
   end
end

local function stream_of(sock, call)
   return setmetatable({
      getfd = function() return sock:getfd() end,
      dirty = function() return sock:dirty() end,
   }, { __call = call })
end

--- LTN12 sinks over a socket, by name.
socket.sinkt = {}

socket.sinkt["close-when-done"] = function(sock)
   return stream_of(sock, function(_, chunk)
      if chunk then
         return sock:send(chunk)
      end
      sock:close()
      return 1
   end)
end

socket.sinkt["keep-open"] = function(sock)
   return stream_of(sock, function(_, chunk)
      if chunk then
         return sock:send(chunk)
      end
      return 1
   end)
end

socket.sinkt.default = socket.sinkt["keep-open"]
socket.sink = socket.choose(socket.sinkt)

--- LTN12 sources over a socket, by name.
socket.sourcet = {}

socket.sourcet["by-length"] = function(sock, length)
   return stream_of(sock, function()
      if length <= 0 then
         return nil
      end
      local chunk, why = sock:receive(math.min(socket.BLOCKSIZE, length))
      length = chunk and length - #chunk or length
      return chunk, why
   end)
end

socket.sourcet["until-closed"] = function(sock)
   local done = false
   return stream_of(sock, function()
      if done then
         return nil
      end
      local chunk, why, partial = sock:receive(socket.BLOCKSIZE)
      if why ~= "closed" then
         return chunk, why
      end
      sock:close()
      done = true
      return partial
   end)
end

socket.sourcet.default = socket.sourcet["until-closed"]
socket.source = socket.choose(socket.sourcet)

return socket
