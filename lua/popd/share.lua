--- What callbacks share: one at a time (`popd.mutex`), or some of a kind (`popd.pool`).
-- @module popd.share
local core = require("popd.core")

local share = {}

-- The error of a function that was lent something keeps the place where it was raised.
local function trace(err)
   if type(err) ~= "string" or err:find("\nstack traceback:\n", 1, true) then
      return err
   end
   return debug.traceback(err, 2)
end

local function check_function(what, f)
   if type(f) ~= "function" then
      error(("%s: a function expected, got a %s"):format(what, type(f)), 3)
   end
end

-- Queues ------------------------------------------------------------------------

-- Those who wait, the first come first.  What one is handed is at `given`.
local function new_queue()
   return { first = 1, last = 0 }
end

local function hand(queue, value)
   while queue.first <= queue.last do
      local waiter = queue[queue.first]
      queue[queue.first] = nil
      queue.first = queue.first + 1
      if not waiter.gone then
         waiter.given = value
         waiter.latch:fire()
         return true
      end
   end
   return false
end

-- Waits until something is handed over.  Where the wait is broken off, what was
-- handed over at that very moment goes to `back`.
local function wait(queue, back)
   local waiter = { latch = core.latch() }
   queue.last = queue.last + 1
   queue[queue.last] = waiter
   local ok, fired, why = pcall(waiter.latch.wait, waiter.latch)
   if ok and fired then
      return waiter.given
   end
   waiter.gone = true
   if waiter.given ~= nil then
      back(waiter.given)
   end
   error(ok and ("popd: nobody is left who could end this wait (%s)"):format(why) or fired, 0)
end

-- Mutexes -----------------------------------------------------------------------

local Mutex = {}
Mutex.__index = Mutex
Mutex.__name = "popd.mutex"

local function release(self)
   if not hand(self.queue, true) then
      self.held = false
   end
end

local function released(self, ok, ...)
   release(self)
   if not ok then
      error((...), 0)
   end
   return ...
end

--- Runs f while nobody else runs anything by this mutex; who comes meanwhile waits, in order.
-- @func f
-- @param ... its arguments
-- @return what f returns; what it raises is raised
function Mutex:with(f, ...)
   check_function("mutex:with", f)
   if self.held then
      wait(self.queue, function()
         release(self)
      end)
   end
   self.held = true
   return core.finally(f, trace, function(...)
      return released(self, ...)
   end, ...)
end

--- Makes a mutex: `mutex:with(f, …)`.
-- @treturn mutex
-- @usage
-- local one = popd.mutex()
-- one:with(function() … end)   -- may wait; the others come after it
function share.mutex()
   return setmetatable({ queue = new_queue(), held = false }, Mutex)
end

-- Pools --------------------------------------------------------------------------

local Pool = {}
Pool.__index = Pool
Pool.__name = "popd.pool"

local SLOT = {} -- handed over in place of a client: one may be opened

local function close_client(self, client)
   if self.shut then
      local ok, why = pcall(self.shut, client)
      if not ok then
         core.log("warning", "a pool's close failed", { error = tostring(why) })
      end
   end
end

-- One client less: another may be opened.
local function free_slot(self)
   self.count = self.count - 1
   if hand(self.queue, SLOT) then
      self.count = self.count + 1
   end
end

local function discard(self, client)
   close_client(self, client)
   free_slot(self)
end

local sweep

local function sweep_later(self)
   if not self.sweeping then
      self.sweeping = core.later(self.idle, sweep, self)
   end
end

-- Closes those that nobody has used for so long; the oldest come first.
function sweep(self)
   self.sweeping = nil
   local old = core.now() - self.idle
   while self.free[1] and self.free[1].since <= old do
      discard(self, table.remove(self.free, 1).client)
   end
   if self.free[1] then
      sweep_later(self)
   end
end

local function give_back(self, client)
   if client == SLOT then
      return free_slot(self)
   elseif self.closed then
      return discard(self, client)
   elseif not hand(self.queue, client) then
      self.free[#self.free + 1] = { client = client, since = core.now() }
      if self.idle then
         sweep_later(self)
      end
   end
end

local function open_client(self)
   local ok, client, why = xpcall(self.open, trace)
   if ok and client then
      return client
   end
   free_slot(self)
   error(ok and ("popd.pool: open failed: %s"):format(tostring(why)) or client, 0)
end

local function take(self)
   local free = table.remove(self.free)
   if free then
      return free.client
   end
   if self.count < self.max then
      self.count = self.count + 1
      return open_client(self)
   end
   local given = wait(self.queue, function(value)
      give_back(self, value)
   end)
   return given == SLOT and open_client(self) or given
end

-- Whether the client is not used again; its place is free in either case.
local function took_back(self, client, ok)
   if ok and not self.closed then
      give_back(self, client)
      return false
   end
   free_slot(self)
   return true
end

-- The client is closed where that may wait, and may be stopped.
local function returned(self, client, is_left, ok, ...)
   if is_left then
      close_client(self, client)
   end
   if not ok then
      error((...), 0)
   end
   return ...
end

--- Lends a client to f; waits while all are lent.  One whose use raised is closed and not lent again.
-- @func f called with the client
-- @param ... further arguments of f
-- @return what f returns; what it raises is raised
function Pool:with(f, ...)
   check_function("pool:with", f)
   if self.closed then
      error("pool:with: the pool is closed", 2)
   end
   local client = take(self)
   return returned(self, client, core.finally(f, trace, function(...)
      return took_back(self, client, (...)), ...
   end, client, ...))
end

--- Closes the clients that nobody uses, and the others once they are given back.
function Pool:close()
   self.closed = true
   if self.sweeping then
      self.sweeping:cancel()
      self.sweeping = nil
   end
   while self.free[1] do
      discard(self, table.remove(self.free).client)
   end
end

local known = { open = true, close = true, max = true, idle = true }

local function check_options(options)
   if type(options) ~= "table" then
      error("popd.pool: a table { open = [, close =] [, max =] [, idle =] } expected", 3)
   end
   for name in pairs(options) do
      if not known[name] then
         error(("popd.pool: unknown option '%s'; there are: close, idle, max, open"):format(tostring(name)), 3)
      end
   end
   if type(options.open) ~= "function" or options.close ~= nil and type(options.close) ~= "function" then
      error("popd.pool: open is a function, and close, if there is one", 3)
   end
   local max, idle = options.max, options.idle
   if max ~= nil and not (math.type(max) == "integer" and max >= 1) then
      error("popd.pool: max is an integer of 1 or more", 3)
   elseif idle and not (type(idle) == "number" and idle > 0 and idle <= 1e9) then
      error("popd.pool: idle is seconds above 0, or false", 3)
   end
end

--- Makes a pool of clients: connections to a database, say.
-- @tparam table options `open()` → a client, or nil and the reason; `close(client)`; `max` = 8 clients at one time;
-- `idle` = 60 seconds after which one that nobody uses is closed (false: never)
-- @treturn pool with `with` and `close`
-- @usage
-- local pool = popd.pool { open = function() return redis.connect("127.0.0.1", 6379) end,
--                          close = function(client) client:quit() end }
-- local password = pool:with(function(client) return client:hget("users", name) end)
function share.pool(options)
   check_options(options)
   return setmetatable({
      open = options.open, shut = options.close, max = options.max or 8,
      idle = options.idle == nil and 60 or options.idle, free = {}, queue = new_queue(), count = 0, closed = false,
   }, Pool)
end

return share
