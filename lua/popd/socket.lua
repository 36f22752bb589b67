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
local use = require("popd.use")

local socket = { _VERSION = "popd.socket, as LuaSocket 3", BLOCKSIZE = 2048, _SETSIZE = math.maxinteger }

local PIECE = 65536 -- octets taken at a time
local FULL = 0.01 -- seconds between two looks at a Unix socket whose queue is full
local FOREVER = 1e9 -- seconds: the most that a wait takes

-- Time ------------------------------------------------------------------------

-- LuaSocket's "b" is for each wait, "t" for the call as a whole.
local function patience(self, started)
   local left = self.total and started + self.total - core.now()
   if self.block then
      left = left and math.min(left, self.block) or self.block
   end
   return left and math.min(math.max(left, 0), FOREVER)
end

-- Use --------------------------------------------------------------------------

-- What a socket knows of its use: `busy`, somebody waits on it; `use` (see popd.use);
-- `party`, who used it last; `owed`, a wait of that one ("r", "w") timed out; `soiled`, and yet it
-- went on sending, or its use ended with that, so that answers come late for good; `asker`, who has sent
-- and read nothing since; `asked`, in which use.

local IN_USE = "socket in use: another callback uses it; share sockets by popd.pool or popd.mutex"
local UNREAD = "socket in use: another session has sent on it and not read the answer; it is closed now. "
   .. "Share sockets by popd.pool"

local NOT_CONNECTED = "Transport endpoint is not connected"
local NOT_SECURE = "the TLS handshake is not done"

local function drop(self)
   local raw = self.raw
   self.raw, self.owed, self.soiled, self.asker = nil, nil, nil, nil
   if raw then
      local received, sent = raw:counts()
      self.received, self.sent = self.received + received, self.sent + sent
      raw:close()
   end
end

-- A script's main chunk is no session: what it began anybody may go on with.
local MAIN = 0
local SEVERAL = -1 -- sessions that have sent

local function check_use(self, level)
   if self.busy or use.is_foreign(self, core.party()) then
      error(IN_USE, level + 1)
   end
end

-- Whether an answer may be on its way that is not for who comes now.
local function is_stale(self, raw, party)
   return self.party ~= party and self.party ~= MAIN and (self.owed or self.soiled or raw:pending())
end

-- Begins an operation: the core's socket, or nil and the reason.  Where TLS is
-- meant no data leave, or are taken, in the clear.
local function enter(self, receives, handshake)
   check_use(self, 3)
   local raw, party = self.raw, core.party()
   if not raw then
      return nil, "closed"
   elseif not self.connected then
      return nil, NOT_CONNECTED
   elseif self.context and not (self.secured or handshake) then
      return nil, NOT_SECURE
   elseif is_stale(self, raw, party) then
      drop(self)
      return nil, "closed"
   elseif receives and self.asker and self.asker ~= party then
      drop(self)
      error(UNREAD, 3)
   end
   self.party = party
   use.touch(self, party)
   return raw
end

-- Calls a function that waits.  A wait that is broken off leaves an answer on its
-- way: the socket is of no more use.
local function pause(self, f, ...)
   self.busy = true
   local ok, ready, why = pcall(f, ...)
   self.busy = false
   if not ok then
      drop(self)
      error(ready, 0)
   end
   return ready, why
end

-- Waits for the socket: true, or nil and "timeout".
local function wait(self, mode, started)
   return pause(self, core.wait, self.raw:fd(), mode, patience(self, started))
end

-- Calls a function of the core's socket until it has a result: it, or nil and why.
local function try(self, mode, started, f, ...)
   while true do
      local result, second = f(self.raw, ...)
      if result or result == nil then
         return result, second
      end
      local ready, why = wait(self, second or mode, started)
      if not ready then
         self.owed = mode
         return nil, why
      end
   end
end

-- Sockets ------------------------------------------------------------------------

local Tcp = {}
local methods = {}
Tcp.__index = methods
Tcp.__name = "popd.socket"

function Tcp:__tostring()
   return ("%s{%s}: %p"):format(self.kind, self.raw and (self.connected and "client" or "master") or "closed", self)
end

function Tcp:__close()
   check_use(self, 2)
   drop(self)
end

local function new(kind, family)
   return setmetatable({ kind = kind, family = family, born = core.now(), received = 0, sent = 0 }, Tcp)
end

-- The core's socket, opened for a family where it is not there yet.
local function open(self, family)
   if self.raw and self.opened ~= family then
      self.raw:close()
      self.raw = nil
   end
   if not self.raw then
      local raw, why = core.sock(family)
      if not raw then
         return nil, why
      end
      self.raw, self.opened = raw, family
      for name, value in pairs(self.options or {}) do
         raw:option(name, value)
      end
   end
   return self.raw
end

local function family_of(address)
   return address:find(":", 1, true) and "inet6" or "inet"
end

local function check_host(what, host, level)
   if type(host) ~= "string" then
      error(("%s: a host's name or address expected, got a %s"):format(what, type(host)), level + 1)
   end
end

local function port_of(what, port, level)
   local number = math.tointeger(tonumber(port))
   if not number or number < 0 or number > 65535 then
      error(("%s: a port from 0 to 65535 expected, got %s"):format(what, tostring(port)), level + 1)
   end
   return number
end

-- The addresses of a host that this socket can use.
local function addresses_of(self, host, started)
   local list, why = core.resolve(host, patience(self, started))
   if not list then
      return nil, why
   end
   local fitting = {}
   for _, address in ipairs(list) do
      if not self.family or self.family == family_of(address) then
         fitting[#fitting + 1] = address
      end
   end
   if not fitting[1] then
      return nil, ("%s has no address of the family %s"):format(host, self.family)
   end
   return fitting
end

local function dial(self, family, address, port, started)
   local raw, why = open(self, family)
   if not raw then
      return nil, why
   end
   if self.from then
      local ok
      ok, why = raw:bind(self.from.address, self.from.port)
      if not ok then
         return nil, why
      end
   end
   local done
   done, why = raw:connect(address, port)
   local deadline = core.now() + (patience(self, started) or FOREVER)
   while why == "full" do
      if core.now() >= deadline then
         return nil, "timeout"
      end
      pause(self, core.sleep, FULL)
      done, why = raw:connect(address, port)
   end
   if done == false then
      local ready
      ready, why = wait(self, "w", started)
      if not ready then
         return nil, why
      end
      return raw:connected()
   end
   return done, why
end

local function connected(self)
   self.connected, self.party = true, core.party()
   use.touch(self, self.party)
   return 1
end

-- The core's socket is fresh for each address: one that failed is not used again.
local function dial_any(self, list, port, started)
   local done, why
   for _, address in ipairs(list) do
      done, why = dial(self, family_of(address), address, port, started)
      if done then
         if not (self.options and self.options["tcp-nodelay"]) then
            self.raw:option("tcp-nodelay", 1)
         end
         return connected(self)
      end
      drop(self)
      if why == "timeout" then
         break
      end
   end
   return nil, why
end

-- Connecting starts from nothing: what was open before is not gone on with.
local function check_fresh(self)
   check_use(self, 3)
   if self.connected then
      return nil, self.raw and "already connected" or "closed"
   end
   return true
end

--- Connects.
-- @string host a name or an address
-- @tparam integer port
-- @treturn number 1; or nil and the reason, as LuaSocket says it
function methods:connect(host, port)
   local fresh, why = check_fresh(self)
   if not fresh then
      return nil, why
   end
   local started = core.now()
   if self.kind == "unix" then
      check_host("connect", host, 2)
      local done
      done, why = dial(self, "unix", host, 0, started)
      if not done then
         drop(self)
         return nil, why
      end
      return connected(self)
   end
   check_host("connect", host, 2)
   port = port_of("connect", port, 2)
   local list, reason = pause(self, addresses_of, self, host, started)
   if not list then
      return nil, reason
   end
   self.host = host
   return dial_any(self, list, port, started)
end

--- Binds this end, before `connect`.
-- @string address `"*"` for any
-- @tparam[opt=0] integer port
-- @treturn number 1; or nil and the reason
function methods:bind(address, port)
   check_host("bind", address, 2)
   local fresh, why = check_fresh(self)
   if not fresh then
      return nil, why
   end
   if address == "*" then
      address = self.family == "inet6" and "::" or "0.0.0.0"
   end
   local list
   list, why = pause(self, addresses_of, self, address, core.now())
   if not list then
      return nil, why
   end
   self.from = { address = list[1], port = port_of("bind", port or 0, 2) }
   self.family = self.family or family_of(list[1])
   return 1
end

-- LuaSocket's limits of a part: negative ones count from the end.
local function range_of(data, from, to)
   from, to = from or 1, to or -1
   from = from < 0 and #data + from + 1 or from
   to = to < 0 and #data + to + 1 or to
   return math.max(from, 1), math.min(to, #data)
end

-- An answer that was not waited for, and another question: one that comes now may be the first one's.
local function note_sending(self)
   local party = self.party
   self.soiled = self.soiled or self.owed == "r" or self.asker == party and self.asked ~= self.noted or nil
   self.asked = self.noted
   if party ~= MAIN then
      self.asker = (self.asker or party) == party and party or SEVERAL
   end
end

-- Something was received: the answer has begun to be read.
local function note_received(self, whole)
   self.asker = nil
   if whole and self.owed == "r" then
      self.owed = nil
   end
end

--- Sends octets.
-- @string data
-- @tparam[opt=1] integer from the first octet that is sent
-- @tparam[opt=-1] integer to the last one
-- @treturn integer the last one that was sent; or nil, the reason, and the last one that was sent
function methods:send(data, from, to)
   data = type(data) == "number" and tostring(data) or data
   if type(data) ~= "string" then
      error(("send: a string expected, got a %s"):format(type(data)), 2)
   end
   from, to = range_of(data, from, to)
   local raw, why = enter(self, false)
   if not raw then
      return nil, why, from - 1
   end
   local started, at = core.now(), from
   note_sending(self)
   while at <= to do
      local put
      put, why = try(self, "w", started, raw.send, data, at, to)
      if not put then
         return nil, why, at - 1
      end
      at = at + put
   end
   if self.owed == "w" then
      self.owed = nil
   end
   return at - 1
end

-- Takes octets until f says that it is enough: the parts, joined, or nil, why, and they.
local function gather(self, prefix, f)
   local parts = { prefix }
   local ok, why = f(parts)
   if parts[2] then
      note_received(self, ok)
   end
   local all = table.concat(parts)
   if ok then
      return all
   end
   return nil, why, all
end

local function receive_line(self, raw, started)
   return function(parts)
      while true do
         local piece, whole = try(self, "r", started, raw.line)
         if not piece then
            return nil, whole
         end
         parts[#parts + 1] = piece
         if whole then
            return true
         end
      end
   end
end

local function receive_octets(self, raw, started, n)
   return function(parts)
      if n == 0 and parts[1] == "" then -- LuaSocket's way to ask whether there is something
         return try(self, "r", started, raw.receive, 0)
      end
      while n > 0 do
         local piece, why = try(self, "r", started, raw.receive, math.min(n, PIECE))
         if not piece then
            return nil, why
         end
         parts[#parts + 1] = piece
         n = n - #piece
      end
      return true
   end
end

local function receive_all(self, raw, started)
   return function(parts)
      while true do
         local piece, why = try(self, "r", started, raw.receive, PIECE)
         if piece then
            parts[#parts + 1] = piece
         else
            return why == "closed" and parts[2] ~= nil, why
         end
      end
   end
end

local patterns = { ["*l"] = receive_line, l = receive_line, ["*a"] = receive_all, a = receive_all }

--- Receives.
-- @tparam[opt="*l"] string|number pattern `"*l"`: a line, without its end and without CRs; `"*a"`: all until the
-- other side closes; a number: so many octets
-- @string[opt=""] prefix what was received before, put in front; a number's octets include it
-- @treturn string what was received; or nil, the reason, and what there was of it
function methods:receive(pattern, prefix)
   prefix = prefix == nil and "" or tostring(prefix)
   local number = type(pattern) == "number" and pattern or tonumber(pattern)
   local how = patterns[pattern or "*l"]
   if not how and not (number and number >= 0) then
      error("receive: invalid receive pattern; \"*l\", \"*a\" or a number of octets expected", 2)
   end
   local raw, why = enter(self, true)
   if not raw then
      return nil, why, prefix
   end
   local started = core.now()
   if how then
      return gather(self, prefix, how(self, raw, started))
   end
   return gather(self, prefix, receive_octets(self, raw, started, math.floor(number) - #prefix))
end

--- Takes what is there, and waits for the first octet of it: so a socket is a message handle.
-- @tparam integer n octets at most
-- @treturn string 1 to n octets; nil once the other side has closed; or nil and the reason
function methods:read(n)
   local raw, why = enter(self, true)
   if not raw then
      return nil, why
   end
   local piece
   piece, why = try(self, "r", core.now(), raw.receive, n)
   if piece then
      note_received(self, true)
      return piece
   end
   return nil, why ~= "closed" and why or nil
end

--- How long a call may wait.
-- @tparam ?number value seconds; nil or negative: without end
-- @string[opt="b"] mode `"b"`: at any one time; `"t"`: in all
-- @treturn number 1
function methods:settimeout(value, mode)
   check_use(self, 2)
   mode = mode or "b"
   local field = ({ b = "block", r = "total", t = "total" })[mode:sub(1, 1)]
   if not field or value ~= nil and type(value) ~= "number" then
      error('settimeout: seconds (or nil), and "b" or "t", expected', 2)
   end
   self[field] = value and value >= 0 and value or nil
   return 1
end

--- The limits that `settimeout` set.
-- @treturn number of one wait, -1: none
-- @treturn number of a call, -1: none
function methods:gettimeout()
   return self.block or -1, self.total or -1
end

--- Closes.  A second time does nothing.
-- @treturn number 1
function methods:close()
   check_use(self, 2)
   drop(self)
   return 1
end

--- Ends one direction.
-- @string[opt="both"] mode `"send"`, `"receive"` or `"both"`
-- @treturn number 1; or nil and the reason
function methods:shutdown(mode)
   mode = mode or "both"
   if mode ~= "send" and mode ~= "receive" and mode ~= "both" then
      error('shutdown: "send", "receive" or "both" expected', 2)
   end
   check_use(self, 2)
   if not self.raw then
      return nil, "closed"
   end
   local ok, why = self.raw:shutdown(mode)
   return ok and 1, why
end

local function name_of(self, other)
   if not self.raw then
      return nil, "closed"
   end
   return self.raw:name(other)
end

--- The other end's address.
-- @treturn string address; or nil and the reason
-- @treturn integer port
-- @treturn string `"inet"`, `"inet6"` or `"unix"`
function methods:getpeername()
   return name_of(self, true)
end

--- This end's address; as `getpeername`.
function methods:getsockname()
   if self.from and not self.connected then
      return self.from.address, self.from.port, self.family
   end
   return name_of(self, false)
end

local switches = {
   keepalive = true, reuseaddr = true, reuseport = true, ["tcp-nodelay"] = true, ["ipv6-v6only"] = true,
}

local numbers = {
   ["recv-buffer-size"] = true, ["send-buffer-size"] = true, ["tcp-keepidle"] = true, ["tcp-keepcnt"] = true,
   ["tcp-keepintvl"] = true,
}

local function check_option(what, name)
   if not (switches[name] or numbers[name] or name == "linger" or name == "error" and what == "getoption") then
      error(("%s: there is no option '%s'"):format(what, tostring(name)), 3)
   end
end

local function option_value(name, value)
   if name == "linger" then
      return type(value) == "table" and (not value.on and -1 or math.tointeger(tonumber(value.timeout))) or nil
   elseif switches[name] then
      return value and 1 or 0
   end
   return math.tointeger(tonumber(value))
end

--- Sets an option: `keepalive`, `reuseaddr`, `reuseport`, `tcp-nodelay`, `ipv6-v6only` (booleans), `linger` (`{ on =,
-- timeout = }`), `recv-buffer-size`, `send-buffer-size`, `tcp-keepidle`, `tcp-keepcnt`, `tcp-keepintvl` (numbers).
-- @string name
-- @param[opt=true] value
-- @treturn number 1; or nil and the reason
function methods:setoption(name, value)
   check_option("setoption", name)
   local number = option_value(name, value == nil and true or value)
   if not number then
      error(("setoption: %s is no value for '%s'"):format(tostring(value), tostring(name)), 2)
   end
   check_use(self, 2)
   if self.raw then
      local ok, why = self.raw:option(name, number)
      if not ok then
         return nil, why
      end
   end
   self.options = self.options or {}
   self.options[name] = number
   return 1
end

--- An option's value.
-- @string name
-- @return it, as `setoption` takes it; or nil and the reason
function methods:getoption(name)
   check_option("getoption", name)
   local value, why
   if self.raw then
      value, why = self.raw:option(name)
   else
      value = self.options and self.options[name]
   end
   if not value then
      return nil, why or "the socket is not connected"
   elseif name == "linger" then
      return { on = value >= 0, timeout = math.max(value, 0) }
   elseif name == "error" then
      return value ~= 0 and ("error %d"):format(value) or nil
   end
   return not switches[name] and value or switches[name] and value ~= 0
end

--- Octets received, octets sent, seconds since it was made.
function methods:getstats()
   local received, sent = 0, 0
   if self.raw then
      received, sent = self.raw:counts()
   end
   return received + self.received, sent + self.sent, core.now() - self.born
end

--- Sets what `getstats` tells.
-- @tparam[opt] integer received
-- @tparam[opt] integer sent
-- @number[opt] age
-- @treturn number 1
function methods:setstats(received, sent, age)
   local now_received, now_sent = self:getstats()
   self.received = self.received + (received or now_received) - now_received
   self.sent = self.sent + (sent or now_sent) - now_sent
   self.born = age and core.now() - age or self.born
   return 1
end

--- Its descriptor, for `popd.wait`; -1 where there is none.
function methods:getfd()
   return self.raw and self.raw:fd() or -1
end

--- `"inet"`, `"inet6"` or `"unix"`, once it is known; else `"unspec"`.
function methods:getfamily()
   return self.opened or self.family or "unspec"
end

--- Whether received octets wait to be taken.
function methods:dirty()
   return self.raw ~= nil and self.connected and self.raw:pending() or false
end

methods.setpeername, methods.setsockname = methods.connect, methods.bind

-- TLS, in LuaSec's manner --------------------------------------------------------

--- Whose certificate the server's must be, where that is not what `connect` was told.
-- @string host
function methods:sni(host)
   check_host("sni", host, 2)
   self.host = host
end

-- Speaks TLS from here on, with what popd.ssl made.
local function secure(self, raw)
   if self.begun then
      return true
   elseif not self.context then
      return nil, "popd.ssl.wrap comes before dohandshake"
   end
   local ok, why = raw:secure(self.context, self.host)
   self.begun = ok
   return ok, why
end

--- Shakes hands; the socket is one that `popd.ssl.wrap` returned.
-- @treturn boolean true; or nil and the reason: `"timeout"`, what is wrong with the server's certificate, …
function methods:dohandshake()
   local raw, why = enter(self, true, true)
   if not raw then
      return nil, why
   end
   local done
   done, why = secure(self, raw)
   if done then
      done, why = try(self, "r", core.now(), raw.handshake)
   end
   if done then
      self.secured, self.owed = true, nil
   elseif why ~= "timeout" then
      drop(self)
   end
   return done, why
end

--- What TLS is spoken.
-- @string[opt] field `"protocol"` or `"cipher"`
-- @return that, or a table of both; nil where the handshake is not done
function methods:info(field)
   local version, cipher
   if self.raw then
      version, cipher = self.raw:tls()
   end
   local all = version and { protocol = version, cipher = cipher }
   if field then
      return all and all[field]
   end
   return all
end

-- LuaSocket's functions ----------------------------------------------------------

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
