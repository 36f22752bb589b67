--- What callbacks share: one at a time (`popd.mutex`), or some of a kind (`popd.pool`).
--
-- What a callback holds is given back however it ends.  That is a ward's work (see
-- `core.ward`): a task of its own, since a callback whose time or budget is up
-- can do nothing any more.
-- @module popd.share
local core = require("popd.core")
local use = require("popd.use")

local share = {}

local function check_function(what, f)
   if type(f) ~= "function" then
      error(("%s: a function expected, got a %s"):format(what, type(f)), 3)
   end
end

-- Queues ------------------------------------------------------------------------

-- Those who wait, the first come first.
local function new_queue()
   return { first = 1, last = 0 }
end

-- The first who still waits, taken out; nil: nobody does.
local function next_waiter(queue)
   while queue.first <= queue.last do
      local waiter = queue[queue.first]
      queue[queue.first] = nil
      queue.first = queue.first + 1
      if not waiter.gone then
         return waiter
      end
   end
end

-- Waits to be taken out.  Broken off, it raises; what was handed over at that very
-- moment is given back by the waiter's ward.
local function wait(queue, waiter)
   waiter.latch = core.latch()
   queue.last = queue.last + 1
   queue[queue.last] = waiter
   local fired, why = waiter.latch:wait()
   if not fired then
      error(("popd: nobody is left who could end this wait (%s)"):format(why), 0)
   end
end

-- Mutexes -----------------------------------------------------------------------

local Mutex = {}
Mutex.__index = Mutex
Mutex.__name = "popd.mutex"

-- Gives it up, whether it was held or waited for.
local function leave(self, turn)
   turn.gone = true
   if turn.use then
      use.finish(turn.use, turn.ok)
   end
   if self.holder == turn then
      local waiter = next_waiter(self.queue)
      self.holder = waiter
      if waiter then
         waiter.latch:fire()
      end
   end
end

local function left(self, turn, ward, ...)
   ward:disarm()
   turn.ok = true
   leave(self, turn)
   return ...
end

--- Runs f while nobody else runs anything by this mutex; who comes meanwhile waits, in order.
-- A socket that f used is closed for others where f raises.
-- @func f
-- @param ... its arguments
-- @return what f returns; what it raises is raised
function Mutex:with(f, ...)
   check_function("mutex:with", f)
   local turn = { ok = false }
   local ward <close> = core.ward(leave, self, turn)
   if self.holder then
      wait(self.queue, turn)
   else
      self.holder = turn
   end
   turn.use = use.begin()
   return left(self, turn, ward, f(...))
end

--- Makes a mutex: `mutex:with(f, …)`.
-- @treturn mutex
-- @usage
-- local one = popd.mutex()
-- one:with(function() … end)   -- may wait; the others come after it
function share.mutex()
   return setmetatable({ queue = new_queue() }, Mutex)
end

-- Pools --------------------------------------------------------------------------

local Pool = {}
Pool.__index = Pool
Pool.__name = "popd.pool"

local SLOT = {} -- lent in place of a client: one may be opened

local function close_client(self, client)
   if self.shut then
      local ok, why = pcall(self.shut, client)
      if not ok then
         core.log("warning", "a pool's close failed", { error = tostring(why) })
      end
   end
end

-- To the one who waits longest, if anybody does.
local function hand(self, client)
   local waiter = next_waiter(self.queue)
   if waiter then
      waiter.client = client
      waiter.latch:fire()
   end
   return waiter ~= nil
end

-- One client less: another may be opened.
local function free_slot(self)
   if not hand(self, SLOT) then
      self.count = self.count - 1
   end
end

local function discard(self, client)
   free_slot(self) -- first: closing may take its time
   close_client(self, client)
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
   if self.closed then
      return discard(self, client)
   elseif not hand(self, client) then
      self.free[#self.free + 1] = { client = client, since = core.now() }
      if self.idle then
         sweep_later(self)
      end
   end
end

-- The end of a loan.
local function settle(self, loan)
   local client, clean = loan.client, not loan.used
   loan.gone, loan.client = true, nil
   if loan.use then
      clean = use.finish(loan.use, loan.ok) or clean
   end
   if client == SLOT then
      free_slot(self)
   elseif client ~= nil then
      (clean and give_back or discard)(self, client)
   end
end

local function settled(self, loan, ward, ...)
   ward:disarm()
   loan.ok = true
   settle(self, loan)
   return ...
end

-- Has loan.client be a client, or SLOT.
local function take(self, loan)
   local free = table.remove(self.free)
   if free then
      loan.client = free.client
   elseif self.count < self.max then
      self.count, loan.client = self.count + 1, SLOT
   else
      wait(self.queue, loan)
   end
end

local function open(self, loan)
   local client, why = self.open()
   if not client then
      error(("popd.pool: open failed: %s"):format(tostring(why)), 0)
   end
   loan.client = client
end

--- Lends a client to f; waits while all are lent.  One whose use raised is closed and not lent again, and so is one
-- whose socket was closed or on which an answer may still come.
-- @func f called with the client
-- @param ... further arguments of f
-- @return what f returns; what it raises is raised
function Pool:with(f, ...)
   check_function("pool:with", f)
   if self.closed then
      error("pool:with: the pool is closed", 2)
   end
   local loan = { ok = false }
   local ward <close> = core.ward(settle, self, loan)
   take(self, loan)
   if self.closed then
      error("pool:with: the pool is closed", 2)
   end
   loan.use = use.begin()
   if loan.client == SLOT then
      open(self, loan)
   end
   loan.used = true
   return settled(self, loan, ward, f(loan.client, ...))
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
