--- How a socket comes to its other end: names, addresses, this end's address, connecting.
-- @module popd.socketdial
local core = require("popd.core")
local socketuse = require("popd.socketuse")
local use = require("popd.use")

local check_use, drop = socketuse.check_use, socketuse.drop
local patience, pause, wait = socketuse.patience, socketuse.pause, socketuse.wait

local socketdial = {}
local methods = {}

local FULL = 0.01 -- seconds between two looks at a Unix socket whose queue is full

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
   local deadline = core.now() + (patience(self, started) or socketuse.FOREVER)
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

methods.setpeername, methods.setsockname = methods.connect, methods.bind

socketdial.methods = methods
socketdial.check_host, socketdial.port_of, socketdial.family_of = check_host, port_of, family_of

return socketdial
