--- A socket as scripts have it, LuaSocket's and LuaSec's methods and some more (see `popd.socket`).
-- @module popd.socketobject
local core = require("popd.core")
local socketdial = require("popd.socketdial")
local socketoctets = require("popd.socketoctets")
local socketuse = require("popd.socketuse")

local check_use, drop, enter, try = socketuse.check_use, socketuse.drop, socketuse.enter, socketuse.try
local check_host = socketdial.check_host

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

--- A socket that is not connected yet.
-- @string kind `"tcp"` or `"unix"`
-- @string[opt] family
local function new(kind, family)
   return setmetatable({ kind = kind, family = family, born = core.now(), received = 0, sent = 0 }, Tcp)
end

for _, some in ipairs { socketdial.methods, socketoctets } do
   for name, method in pairs(some) do
      methods[name] = method
   end
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

return new
